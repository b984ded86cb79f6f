"""A run's account agrees with one that a script works out from raw bars without hissbt."""

import json
import subprocess
import sys
from pathlib import Path

import backtrader as bt
import numpy as np
import pandas as pd
import pytest

from hissbt.backtest import run_backtest
from hissbt.feeds.funding import Funding

ROOT = Path(__file__).parents[1]


class Brackets(bt.Strategy):
    """Goes in at every seventh bar, long and short in turn, behind exits that most bars reach."""

    def next(self):
        close = self.data.close[0]
        if len(self) % 7 == 0 and not self.position:
            up = len(self) % 2 == 0
            place = self.buy_bracket if up else self.sell_bracket
            near, far = close * 0.997, close * 1.003
            place(size=3, exectype=bt.Order.Market, stopprice=near if up else far, limitprice=far if up else near)


@pytest.fixture(scope="module")
def tables(hourly_bars, tmp_path_factory):
    """Bars and funding as files, and the same as objects."""
    folder, bars = tmp_path_factory.mktemp("tables"), hourly_bars[:400]
    times = pd.date_range(bars.open_times[0].normalize(), bars.frame.index[-1], freq="8h", name="timestamp")
    rates = np.random.default_rng(0).normal(0, 0.001, len(times))
    pd.DataFrame({"rate": rates}, index=times).to_csv(folder / "funding.csv")
    bars.frame.set_index(bars.open_times.rename("timestamp")).to_csv(folder / "bars.csv", float_format="%.17g")
    return folder, bars, Funding("X", times, rates)


def recompute(run: Path, folder: Path) -> subprocess.CompletedProcess:
    files = ["--bars", str(folder / "bars.csv"), "--funding", str(folder / "funding.csv"), "--json"]
    command = [sys.executable, "-m", "tests.soak.recompute", str(run), *files]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_a_script_without_hissbt_finds_the_same_account(tables, tmp_path):
    folder, bars, funding = tables
    run = run_backtest(bars, Brackets, funding=funding, costs={"impact": 0.7}, out=tmp_path)
    fills = pd.read_csv(run.folder / "fills.csv")
    assert {"open", "inside"} <= set(fills["at"])
    assert fills["maker"].any()
    assert run.metrics["costs"]["funding"] != 0
    answer = recompute(run.folder, folder)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert max(json.loads(answer.stdout)["apart"].values()) < 1e-12
    record = run.folder / "run.json"
    record.write_text(record.read_text().replace('"half_spread": 5e-05', '"half_spread": 6e-05'))
    assert recompute(run.folder, folder).returncode == 1
