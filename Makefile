# Windows and machines without make: the README has the same steps as plain pip commands.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test dist wheel clean

demo: .venv/installed
	$(BIN)/hissbt demo

test: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

dist: .venv/bin/python
	rm -rf build dist
	$(BIN)/pip wheel --disable-pip-version-check --quiet --no-deps --wheel-dir dist .

# Uses the wheel from a fresh environment, outside the checkout; for that, nothing need be compiled.
wheel: dist
	rm -rf .venv-wheel
	$(PYTHON) -m venv .venv-wheel
	.venv-wheel/bin/pip install --no-compile --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	cd / && $(CURDIR)/.venv-wheel/bin/python -c "import hissbt.feeds, hissbt.strategies"
	cd / && $(CURDIR)/.venv-wheel/bin/hissbt --version
	rm -rf .venv-wheel

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install --disable-pip-version-check --quiet -c constraints.txt -e .
	touch $@

.venv/tested: .venv/installed
	$(BIN)/pip install --disable-pip-version-check --quiet -c constraints.txt -e ".[test]"
	touch $@

clean:
	rm -rf .venv .venv-wheel build dist *.egg-info
