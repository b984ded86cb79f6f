"""What a sweep of 400 backtests takes, and whether anything that runs or kills it changes a figure.

``python -m tests.soak.sweep [--csv FILE] [--bars N] [--workers N] [--quick] [--json]`` sweeps the strategy
``hiss`` over a year of bitcoin's hours, with a small untrained model, as what it forecasts does not matter here:
on local processes, on the same with one of them killed by SIGKILL half-way, on a Dask cluster of as many worker
processes on loopback, and on that with one of them killed. Exit 1 if a table differs from the first in a single
bit, or if the first run keeps the cores less than 85 % busy.

``busy`` is the CPU time of the worker processes by the wall clock times their number, from the call to its end:
reading the bars, starting the processes, the statistics and the page are in it. Others on this machine lower it.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
from distributed import LocalCluster

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.feeds import load_bars
from hissbt.plugins import load_strategy
from hissbt.research.sweep import sweep

FILE = "bybit_linear_BTCUSDT_1h.csv.gz"
YEAR = 8760
WARMUP = 300
BUSY = 0.85
GRID = {
    "prob_long": [0.5, 0.51, 0.52, 0.53, 0.54],
    "prob_short": [0.5, 0.49, 0.48, 0.47, 0.46],
    "threshold": [0.0, 0.0005, 0.001, 0.002],
    "max_holding_bars": [None, 24],
    "stop_volatility": [2.0, 4.0],
}
"""400 combinations."""


def workers_below() -> dict[int, psutil.Process]:
    """Return the processes that this one has started, and those that they have, by their ids."""
    return {process.pid: process for process in psutil.Process().children(recursive=True)}


def cpu_seconds(processes: dict[int, psutil.Process]) -> dict[int, float]:
    """Return the CPU seconds of each that is alive."""
    found = {}
    for pid, process in processes.items():
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        found[pid] = times.user + times.system
    return found


def model_of(bars: Bars) -> ModelBundle:
    """Return a small untrained model."""
    sys.path.append(str(Path(__file__).parents[1] / "contracts"))
    from bundles import random_bundle

    return random_bundle(bars, d_model=16, d_state=16, warmup=WARMUP)


def run(name: str, bars: Bars, workers: int, grid: dict, dask: bool, kill: bool) -> dict:
    """Sweep once, and return its table and what it took."""
    told: list[float] = []
    killed: list[int] = []
    spent: dict[int, float] = {}

    def progress(what: str, done: int, total: int) -> None:
        told.append(time.perf_counter())
        spent.update(cpu_seconds(workers_below()))
        if kill and done == total // 2:
            busiest = max(alive := cpu_seconds(workers_below()), key=alive.get)
            killed.append(busiest)
            os.kill(busiest, signal.SIGKILL)

    with ExitStack() as stack:
        asked = {"workers": workers}
        if dask:
            cluster = {"n_workers": workers, "threads_per_worker": 1, "host": "127.0.0.1"}
            found = stack.enter_context(LocalCluster(**cluster, dashboard_address="127.0.0.1:0"))
            asked = {"backend": "dask", "scheduler": found.scheduler_address}
        out = stack.enter_context(tempfile.TemporaryDirectory())
        before, begun = cpu_seconds(workers_below()), time.perf_counter()
        _, results = sweep(
            bars,
            load_strategy("hiss"),
            grid=grid,
            model=model_of(bars),
            out=out,
            progress=progress,
            **asked,
        )
        wall = time.perf_counter() - begun
        spent.update(cpu_seconds(workers_below()))
    worked = sum(seconds - before.get(pid, 0.0) for pid, seconds in spent.items())
    table = {part: results[part] for part in ("table", "overfitting", "curves", "failed", "verdicts")}
    return {
        "run": name,
        "backtests": results["backtests"],
        "failed": len(results["failed"]),
        "wall_s": wall,
        "busy": worked / (workers * wall),
        "killed": len(killed),
        "table": json.dumps(table),
    }


def main() -> None:
    """Sweep in all four ways and print what each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("HISSBT_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
    parser.add_argument("--csv", type=Path, default=data / FILE)
    parser.add_argument("--bars", type=int, default=YEAR, help="how many of the last are traded")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="40 backtests")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    bars = load_bars(arguments.csv)[-arguments.bars - WARMUP :]
    grid = {**GRID, "prob_long": [0.5], "prob_short": [0.5, 0.48], "threshold": [0.0]} if arguments.quick else GRID
    ways = {
        "local": (False, False),
        "local, one killed": (False, True),
        "dask": (True, False),
        "dask, one killed": (True, True),
    }
    rows = []
    for name, way in ways.items():
        rows.append(row := run(name, bars, arguments.workers, grid, *way))
        row["same"] = row["table"] == rows[0]["table"]
        if not arguments.json:
            line = "{run:18} {backtests:4d} backtests, {failed} failed, {wall_s:6.1f} s, busy {busy:5.1%}, "
            print(line.format(**row) + ("the same table" if row["same"] else "ANOTHER TABLE"), flush=True)
    for row in rows:
        del row["table"]
    passed = all(row["same"] for row in rows) and rows[0]["busy"] >= BUSY
    if arguments.json:
        print(json.dumps({"passed": passed, "runs": rows}, indent=2))
    sys.exit(not passed)


if __name__ == "__main__":
    main()
