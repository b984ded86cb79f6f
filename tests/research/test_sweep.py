"""Sweeps: every combination once, on whatever runs them, however often that is killed."""

import json
import sqlite3
from contextlib import closing

import numpy as np
import pandas as pd
import pytest

from hissbt.backtest import run_backtest
from hissbt.errors import ConfigError, StrategyError, SweepError
from hissbt.plugins import load_strategy
from hissbt.reports.metrics import significance_of
from hissbt.research.sweep import sweep
from hissbt.research.sweep.jobs import jobs_of
from hissbt.research.sweep.journal import Journal
from hissbt.trials import FILE, Trials

CODE = """
import os, random, signal
from pathlib import Path

import backtrader as bt


class Mine(bt.Strategy):
    params = (("every", 5), ("size", 1.0), ("marker", ""))

    def __init__(self):
        if self.p.marker and self.p.every == 7 and not Path(self.p.marker).exists():
            Path(self.p.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.p.size < 0:
            raise ZeroDivisionError("no such size")

    def next(self):
        if len(self) % self.p.every == 0:
            self.order_target_size(target=self.p.size * random.choice((0, 1)))
"""
GRID = {"every": [3, 5, 7, 9], "size": [1.0, 4.0]}
SEEDS = (0, 1)
COUNT = 16


@pytest.fixture(scope="module")
def bars(hourly_bars):
    return hourly_bars[:400]


@pytest.fixture(scope="module")
def mine(tmp_path_factory):
    file = tmp_path_factory.mktemp("strategies") / "mine.py"
    file.write_text(CODE)
    return load_strategy(f"{file}:Mine")


def table_of(results) -> str:
    """Return the table and what is said of it, to the last bit."""
    return json.dumps({name: results[name] for name in ("table", "overfitting", "curves", "failed", "verdicts")})


@pytest.fixture(scope="module")
def swept(bars, mine, tmp_path_factory):
    """The folder and the results of a sweep in this process."""
    return sweep(bars, mine, grid=GRID, seeds=SEEDS, workers=1, out=tmp_path_factory.mktemp("runs"))


def rows_of(folder, event) -> list[dict]:
    with closing(sqlite3.connect(folder / FILE)) as ledger:
        rows = ledger.execute("SELECT record FROM trials WHERE event = ? ORDER BY number", [event]).fetchall()
    return [json.loads(record) for (record,) in rows]


# --- the table


def test_every_combination_is_there_once_the_best_first(swept):
    rows = swept[1]["table"]
    assert sorted((row["params"]["every"], row["params"]["size"]) for row in rows) == [
        (every, size) for every in GRID["every"] for size in GRID["size"]
    ]
    sharpes = [row["sharpe"] for row in rows]
    assert sharpes == sorted(sharpes, reverse=True)
    assert all(row["finished"] == 2 and row["sharpe_low"] < row["sharpe"] < row["sharpe_high"] for row in rows)


def test_a_backtest_of_a_sweep_is_the_same_trial_with_the_same_figures_as_when_done_alone(bars, mine, tmp_path):
    bars = bars[:96]
    _, results = sweep(bars, mine, grid={"every": [3, 5]}, seeds=[4], workers=1, out=tmp_path)
    (row,) = (row for row in results["table"] if row["params"] == {"every": 5})
    assert len(Trials(tmp_path).tried("SP500", "1h")) == 2
    run = run_backtest(bars, mine, params={"every": 5}, seed=4, out=tmp_path)
    assert run.metrics["significance"]["trials"] == 2
    figures = ("sharpe", "total_return", "max_drawdown", "trades", "turnover")
    assert {name: row[name] for name in figures} == {name: run.metrics["trading"][name] for name in figures}


def test_the_best_is_weighed_against_all_that_was_tried(swept, bars):
    folder, results = swept
    tried = Trials(folder.parent).tried("SP500", "1h")
    assert results["significance"]["trials"] == len(tried) == COUNT
    grown = np.array([1.0, *results["curves"]["best"]])
    weighed = significance_of(grown[1:] / grown[:-1] - 1, bars.market.periods_per_year, tried.values())
    assert results["significance"]["luck"] == pytest.approx(weighed["luck"])
    assert results["significance"]["sharpe"] == pytest.approx(weighed["sharpe"], rel=1e-3)


def test_nothing_depends_on_bars_after_the_end(swept, bars, mine, tmp_path):
    until = bars.frame.index[299]
    doubled = bars.frame.to_numpy().copy()
    doubled[300:] *= 2
    tables = [
        sweep(each, mine, grid={"every": [3, 5]}, until=until, workers=1, out=tmp_path / str(number))[1]["table"]
        for number, each in enumerate((bars, bars.with_values(doubled)))
    ]
    assert tables[0] == tables[1]


def test_every_backtest_is_a_row_on_disk_also_where_a_param_has_values_of_several_kinds(bars, mine, tmp_path):
    grid = {"every": [3, 5], "marker": ["", None]}
    folder, results = sweep(bars[:60], mine, grid=grid, workers=1, out=tmp_path)
    rows = pd.read_parquet(folder / "trials.parquet")
    assert list(zip(rows["every"], rows["marker"], strict=True)) == [(3, ""), (3, "None"), (5, ""), (5, "None")]
    assert sorted(rows["sharpe"]) == sorted(row["sharpe"] for row in results["table"])


# --- what fails


def test_a_failing_backtest_is_recorded_and_stops_none_of_the_others(bars, mine, tmp_path):
    folder, results = sweep(bars[:60], mine, grid={"size": [-1.0, 1.0, 2.0]}, workers=1, out=tmp_path)
    assert results["failed"] == {"size -1.0, seed 0": "ZeroDivisionError: no such size"}
    assert [(row["params"]["size"], row["finished"]) for row in results["table"]] == [
        (2.0, 1),
        (1.0, 1),
        (-1.0, 0),
    ]
    assert [row["status"] for row in rows_of(tmp_path, "ended")] == ["failed", "done", "done"]
    assert "no such size" in (folder / "report.html").read_text()


def test_where_all_fail_that_is_the_error(bars, mine, tmp_path):
    with pytest.raises(SweepError, match=r"all 1 backtests failed, .* size -1.0, seed 0 of ZeroDivisionError"):
        sweep(bars[:30], mine, grid={"size": [-1.0]}, workers=1, out=tmp_path)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"grid": {}}, ConfigError, "the grid is empty"),
        ({"grid": {"every": []}}, ConfigError, "values of every are none"),
        ({"grid": {"every": [3, 3]}}, ConfigError, "values of every are 3, 3"),
        ({"seeds": ()}, ConfigError, "values of seeds are none"),
        ({"grid": {"model": ["a", "b"]}}, ConfigError, "the grid varies model"),
        ({"grid": {"never": [1]}}, StrategyError, "no parameter 'never'"),
        ({"backend": "spark"}, ConfigError, "unknown backend 'spark'"),
        ({"backend": "dask"}, ConfigError, "no scheduler"),
        ({"scheduler": "tcp://127.0.0.1:1"}, ConfigError, "local processes have no scheduler"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(asked, error, message, bars, mine, tmp_path):
    with pytest.raises(error, match=message):
        sweep(bars, mine, **{"grid": GRID, "out": tmp_path / "runs"} | asked)
    assert not (tmp_path / "runs").exists()


# --- what is stopped


def test_a_sweep_that_was_stopped_goes_on_where_it_was(swept, bars, mine, tmp_path):
    asked = {"grid": GRID, "seeds": SEEDS, "workers": 1, "out": tmp_path}

    def stop(what, done, total):
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(bars, mine, **asked, progress=stop)
    told = []
    _, results = sweep(bars, mine, **asked, progress=lambda *what: told.append(what[1:]))
    assert told == [(done, COUNT) for done in range(6, COUNT + 1)]
    assert table_of(results) == table_of(swept[1])
    assert len(rows_of(tmp_path, "begun")) == COUNT
    assert not list(tmp_path.glob(".sweep-*"))


def test_another_sweep_does_not_go_on_with_what_this_one_left(bars, mine, tmp_path):
    def stop(what, done, total):
        raise KeyboardInterrupt

    asked = {"grid": {"every": [3, 5]}, "workers": 1, "out": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        sweep(bars, mine, **asked, progress=stop)
    told = []
    sweep(bars[:300], mine, **asked, progress=lambda *what: told.append(what))
    assert len(told) == 2


def test_a_line_that_was_half_written_is_as_none_and_spoils_no_other(tmp_path):
    journal = Journal(tmp_path / "jobs.jsonl")
    journal.add({"job": 0, "error": None})
    with journal.path.open("a") as file:
        file.write('\n{"job": 1, "err')
    journal.add({"job": 2, "error": None})
    assert sorted(journal.read()) == [0, 2]


def test_the_last_param_of_the_grid_turns_fastest_but_for_the_seeds():
    jobs = jobs_of({"a": [1, 2], "b": "xy"}, (0, 1))
    assert [str(job) for job in jobs[:3]] == ["a 1, b x, seed 0", "a 1, b x, seed 1", "a 1, b y, seed 0"]
    assert [job.number for job in jobs] == list(range(8))


# --- who runs it


def test_killed_local_workers_cost_nothing(swept, bars, mine, tmp_path):
    marker = tmp_path / "killed"
    _, results = sweep(
        bars, mine, grid=GRID, seeds=SEEDS, params={"marker": str(marker)}, workers=2, out=tmp_path / "runs"
    )
    assert marker.exists()
    assert table_of(results) == table_of(swept[1])


def test_a_dask_cluster_gives_the_same_table_though_a_worker_is_killed(swept, bars, mine, tmp_path):
    distributed = pytest.importorskip("distributed")
    marker = tmp_path / "killed"
    asked = {"grid": GRID, "seeds": SEEDS, "params": {"marker": str(marker)}, "out": tmp_path / "runs"}
    cluster = {"n_workers": 2, "threads_per_worker": 1, "host": "127.0.0.1", "dashboard_address": None}
    with distributed.LocalCluster(**cluster) as workers:
        _, results = sweep(bars, mine, **asked, backend="dask", scheduler=workers.scheduler_address)
    assert marker.exists()
    assert table_of(results) == table_of(swept[1])
