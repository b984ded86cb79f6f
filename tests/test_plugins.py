"""A strategy is found by its short name or by file and class, also by worker processes."""

import multiprocessing
import pickle
import re
import subprocess
import sys
from pathlib import Path

import backtrader as bt
import pytest

from hissbt.errors import StrategyError
from hissbt.plugins import load_strategy, strategy_names
from hissbt.strategies.hiss import HiSSStrategy

MINE = """
import backtrader as bt
from my_sizes import UNITS

class Mine(bt.Strategy):
    params = (("units", UNITS),)

    def next(self):
        if not self.position:
            self.buy(size=self.p.units)

class Other(bt.Strategy):
    pass

class NoStrategy:
    pass
"""

# What a user runs who sweeps a parameter with Backtrader's own means.
SWEEP = """
import multiprocessing, sys
import backtrader as bt
import hissbt
from hissbt.plugins import load_strategy

if __name__ == "__main__":
    multiprocessing.set_start_method(sys.argv[1])
    cerebro = bt.Cerebro(maxcpus=2)
    cerebro.adddata(hissbt.BarsFeed(hissbt.load_bars("bars.csv")))
    cerebro.optstrategy(load_strategy("mine.py:Mine"), units=[1, 2, 3])
    print(sorted(strategy.p.units for (strategy,) in cerebro.run()))
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "my_sizes.py").write_text("UNITS = 7")
    return tmp_path


@pytest.fixture(autouse=True)
def _forget_imports(monkeypatch):
    """Let every test import its own user's files."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield
    sys.modules.pop("my_sizes", None)


@pytest.mark.parametrize("name", strategy_names())
def test_every_short_name_is_a_strategy(name):
    strategy = load_strategy(name)
    assert issubclass(strategy, bt.Strategy)
    assert strategy.__module__ == f"hissbt.strategies.{name}"


def test_a_file_may_import_what_lies_beside_it(folder):
    assert load_strategy(f"{folder / 'mine.py'}:Mine").params.units == 7


def test_a_file_runs_once(folder, monkeypatch):
    mine = load_strategy(f"{folder / 'mine.py'}:Mine")
    monkeypatch.chdir(folder)
    assert load_strategy("mine.py:Mine") is mine


def test_files_of_the_same_name_do_not_mix(folder):
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "mine.py").write_text("import backtrader\nclass Mine(backtrader.Strategy): pass")
    mine, other = (load_strategy(f"{folder / name}:Mine") for name in ("mine.py", "elsewhere/mine.py"))
    assert mine is not other


def test_a_class_from_a_file_can_be_unpickled_elsewhere(folder):
    (folder / "pickled").write_bytes(pickle.dumps(load_strategy(f"{folder / 'mine.py'}:Mine")))
    code = "import pickle; print(pickle.load(open('pickled', 'rb')).params.units)"
    assert subprocess.check_output([sys.executable, "-c", code], cwd=folder, text=True) == "7\n"


def test_classes_of_installed_modules_are_pickled_as_ever():
    assert pickle.loads(pickle.dumps(HiSSStrategy)) is HiSSStrategy
    assert b"strategies.hiss" in pickle.dumps(HiSSStrategy)


@pytest.mark.parametrize("start", sorted({"fork", "spawn"} & set(multiprocessing.get_all_start_methods())))
def test_optstrategy_runs_it_in_two_processes(folder, hourly_bars, start):
    hourly_bars[:50].frame.to_csv(folder / "bars.csv")
    (folder / "sweep.py").write_text(SWEEP)
    swept = subprocess.check_output([sys.executable, "sweep.py", start], cwd=folder, text=True, timeout=120)
    assert swept == "[1, 2, 3]\n"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.py:Mine", "there is no strategy file .*missing.py"),
        ("mine.py:Mien", "mine.py has no Backtrader strategy 'Mien': it has Mine, Other"),
        ("mine.py:NoStrategy", "mine.py has no Backtrader strategy 'NoStrategy'"),
        ("mine.py:bt", "mine.py has no Backtrader strategy 'bt'"),
        ("mine.py:", "mine.py has no Backtrader strategy ''"),
        ("my_sizes.py:Mine", "it has none at all"),
        ("mine.py", "unknown strategy 'mine.py': choose .*path/to/file.py:ClassName"),
        ("hiss:HiSSStrategy", "unknown strategy 'hiss:HiSSStrategy'"),
        ("his", "unknown strategy 'his': choose buy_and_hold, hiss"),
        ("", "unknown strategy ''"),
    ],
)
def test_a_name_without_a_strategy_is_refused(folder, monkeypatch, name, message):
    monkeypatch.chdir(folder)
    with pytest.raises(StrategyError, match=message):
        load_strategy(name)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def next(:", "SyntaxError: invalid syntax"),
        ("import no_such_package", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_file_that_fails_says_why_and_can_be_mended(folder, code, message):
    file = folder / "mine.py"
    file.write_text(code)
    with pytest.raises(StrategyError, match=re.escape(f"cannot import {file}, it raises {message}")):
        load_strategy(f"{file}:Mine")
    file.write_text(MINE + "# mended, and longer than any cached version of it\n")
    assert load_strategy(f"{file}:Mine").params.units == 7
