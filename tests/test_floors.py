"""Imports keep to the floors of the house: never up, never in a circle, and heavy libraries in few rooms only."""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (  # from the ground up
    "errors atomic settings timeframe version lean evidence trials limits",
    "market models",
    "bars trading",
    "features targets candles econometrics feeds reports bundle relay",
    "training stream loop",
    "indicators backtest",
    "research live",
    "strategies cli plugins console demo bench __main__",  # bench measures the strategies too
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms.split()}
ROOMS_OF = {
    "torch": "models training bench",  # bench measures it
    "lightning": "training",
    "plotly": "reports research",
    "ccxt": "feeds",
    "yfinance": "feeds",
    "statsmodels": "econometrics research",
    "arch": "econometrics feeds research",  # feeds: its sample data
    # plugins must tell a strategy from any other class
    "backtrader": "feeds indicators trading strategies reports loop lean backtest research live bench plugins",
}


def modules() -> dict[str, Path]:
    """Return every module of the distribution by its installed name."""
    folders = {"hissbt": ROOT / "hissbt", "hissbt.feeds": ROOT / "feeds", "hissbt.strategies": ROOT / "strategies"}
    found = {}
    for package, folder in folders.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


def imports(path: Path) -> Iterator[str]:
    """Yield the names that a module imports, also inside functions, but not what it does when run as a script."""
    todo: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in names)
        todo.extend(ast.iter_child_nodes(node))


def room(module: str) -> str:
    """Return the part of the package that a module belongs to."""
    return module.split(".")[1]


MODULES = modules()
IMPORTS = {module: set(imports(path)) for module, path in MODULES.items() if module != "hissbt"}
OURS = {module: names & MODULES.keys() - {"hissbt"} for module, names in IMPORTS.items()}


@pytest.mark.parametrize("module", OURS)
def test_no_import_goes_up_a_floor(module):
    assert room(module) in FLOOR, f"{module} has no floor yet: give it one in the design and here"
    for name in OURS[module]:
        assert FLOOR[room(name)] <= FLOOR[room(module)], f"{module} imports {name}"


def test_no_imports_run_in_a_circle():
    assert list(TopologicalSorter(OURS).static_order())


@pytest.mark.parametrize("library", ROOMS_OF)
def test_a_heavy_library_stays_in_its_rooms(library):
    users = {room(module) for module, names in IMPORTS.items() if library in {n.split(".")[0] for n in names}}
    assert users <= set(ROOMS_OF[library].split())


def test_the_package_itself_imports_nothing_but_its_version():
    assert {name for name in imports(MODULES["hissbt"]) if name.startswith("hissbt")} == {"hissbt.version"}
