"""What a user writes first works as printed, and importing the package costs nothing."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pandas as pd
import pytest
from bundles import random_bundle

import hissbt

README = Path(__file__).parents[1] / "README.md"


def run_python(code: str, folder: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


@pytest.fixture(scope="module")
def readme(hourly_bars, tmp_path_factory):
    """The README's blocks of Python, and a folder with the files that they read."""
    folder = tmp_path_factory.mktemp("readme")
    frame = hourly_bars.frame.tz_localize(None)
    frame.index = (frame.index - hourly_bars.timeframe).rename("timestamp")
    frame.to_csv(folder / "BTCUSDT_1h.csv.gz")
    times = pd.date_range(frame.index[0], frame.index[-1], freq="8h", name="timestamp")
    pd.DataFrame({"rate": 0.0001}, index=times).to_csv(folder / "BTCUSDT_funding.csv")
    random_bundle(hourly_bars[:300]).save(folder / "models" / "btc-hiss")
    random_bundle(hourly_bars[:300], kind="hvae").save(folder / "models" / "btc-hvae")
    return re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL), folder


def test_the_python_of_the_readme_runs_as_printed(readme):
    (first, *_), folder = readme
    trades = run_python(first + "print(len(strategy.analyzers.ledger.trades))", folder)
    assert int(trades) > 0
    assert "</html>" in (folder / "tearsheet.html").read_text(encoding="utf-8")


def test_the_readmes_plain_strategy_is_charged_and_guarded(readme):
    (_, second, _), folder = readme
    asked = "frame = ledger.frame; print(*(frame[cost].sum() > 0 for cost in ('fees', 'funding', 'impact')))"
    assert run_python(f"{second}{asked}", folder) == "True True True\n"


def test_the_readmes_latent_is_read_in_a_strategy(readme):
    (first, _, third), folder = readme
    imports, asked = (
        first.split("bars =")[0],
        """
cerebro = bt.Cerebro()
cerebro.adddata(hissbt.BarsFeed(hissbt.load_bars("BTCUSDT_1h.csv.gz")))
cerebro.addstrategy(Calm)
print(0 < cerebro.run()[0].latent.anomaly3[0] <= 1)
""",
    )
    assert run_python(f"{imports}{third}{asked}", folder) == "True\n"


@pytest.mark.parametrize("name", sorted(set(hissbt.__all__) - {"__version__"}))
def test_every_public_name_can_be_imported(name):
    assert getattr(hissbt, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Oracle'"):
        _ = hissbt.Oracle


def test_importing_the_package_imports_nothing_heavy(tmp_path):
    heavy = "torch", "backtrader", "pandas", "numpy", "lightning"
    assert run_python(f"import sys, hissbt; print(set({heavy}) & set(sys.modules))", tmp_path) == "set()\n"


def test_a_backtest_of_a_finished_bundle_imports_no_torch(hourly_bars, tmp_path):
    hourly_bars[:200].frame.to_csv(tmp_path / "bars.csv")
    random_bundle(hourly_bars[:100]).save(tmp_path / "bundle")
    code = (
        "import sys; from hissbt.cli import main\n"
        "try: main(['backtest', 'hiss', '--bars', 'bars.csv', '--model', 'bundle', '--json'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'hissbt.stream' in sys.modules\n"
        "print(sorted({'torch', 'lightning', 'arch'} & set(sys.modules)))"
    )
    assert run_python(code, tmp_path).endswith("}\n[]\n")


def test_every_package_is_installed():
    root = README.parent
    listed = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    places = {"hissbt": "hissbt", "feeds": "hissbt.feeds", "strategies": "hissbt.strategies"}
    found = {
        ".".join((places[folder], *path.parent.relative_to(root / folder).parts))
        for folder in places
        for path in (root / folder).rglob("__init__.py")
    }
    assert set(listed["packages"]) == found, "a wheel would lack a package, or build none"
