"""What every indicator must do: the same lines in every run mode, and no look at the future.

A new indicator joins by one row in ``test_indicators.py``.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import backtrader as bt
import numpy as np
import pandas as pd

from hissbt.bars import Bars
from hissbt.feeds import BarsFeed


@dataclass(frozen=True)
class Case:
    """An indicator with its params, and the lines it must have over given bars: [T,L], NaN before warm-up."""

    indicator: type[bt.Indicator]
    params: dict
    direct: Callable[[Bars], np.ndarray]
    columns: dict = field(default_factory=dict)


class LineRecorder(bt.Analyzer):
    """Keeps the last values that an indicator's lines had at each length of its data."""

    params = (("indicator", "indicator"),)

    def start(self):
        self.rows = {}
        self.repeats = 0

    def next(self):
        indicator = getattr(self.strategy, self.p.indicator)
        length = len(indicator.data)
        if length:
            self.repeats += length in self.rows
            self.rows[length] = [line[0] for line in indicator.lines]

    def get_analysis(self):
        return {"rows": self.rows, "repeats": self.repeats}


class Host(bt.Strategy):
    """Holds one indicator on one of its datas; module-level, so that optstrategy can pickle it."""

    params = (("indicator", None), ("indicator_params", None), ("data", 0), ("run", 0))

    def __init__(self):
        self.indicator = self.p.indicator(self.datas[self.p.data], **(self.p.indicator_params or {}))


def cerebro_for(
    case: Case, datas: list, on: int = 0, resample=None, replay=None, opt=False, **run_params
) -> bt.Cerebro:
    """Return a Cerebro with ``datas`` and the indicator on data number ``on``."""
    cerebro = bt.Cerebro(stdstats=False, **run_params)
    for data in datas:
        if resample or replay:
            minutes = {"timeframe": bt.TimeFrame.Minutes, "compression": resample or replay}
            (cerebro.resampledata if resample else cerebro.replaydata)(data, **minutes)
        else:
            cerebro.adddata(data)
    params = {"indicator": case.indicator, "indicator_params": case.params, "data": on}
    if opt:
        cerebro.optstrategy(Host, run=(0, 1), **{k: [v] for k, v in params.items()})
    else:
        cerebro.addstrategy(Host, **params)
    cerebro.addanalyzer(LineRecorder, _name="recorder")
    return cerebro


def lines_of(result) -> np.ndarray:
    """Return the recorded lines [T,L] of a strategy or OptReturn; every length must have been recorded."""
    rows = result.analyzers.recorder.get_analysis()["rows"]
    assert sorted(rows) == list(range(1, len(rows) + 1)), "a bar was never shown to the strategy"
    return np.array([rows[length] for length in sorted(rows)])


def run_lines(case: Case, bars: Bars, **cerebro_params) -> np.ndarray:
    """Return the lines [T,L] of a plain run over ``bars``."""
    return lines_of(cerebro_for(case, [BarsFeed(bars)], **cerebro_params).run()[0])


def named_lines(bars: Bars, indicator: type[bt.Indicator], **params) -> dict[str, np.ndarray]:
    """Return the lines [T] of an indicator over ``bars``, by their names, however many a bundle has."""

    class Host(bt.Strategy):
        def __init__(self):
            self.indicator = indicator(self.data, **params)

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars))
    cerebro.addstrategy(Host)
    found = cerebro.run()[0].indicator
    return {name: np.array(getattr(found.lines, name).array) for name in found.lines.getlinealiases()}


def truncated_future(bars: Bars, cut: int) -> Bars:
    """Return the first ``cut`` bars."""
    return bars[:cut]


def altered_future(bars: Bars, cut: int) -> Bars:
    """Return bars whose first ``cut`` rows are the same and whose later prices and volumes are other ones."""
    frame = bars.frame.copy()
    factor = np.exp(np.random.default_rng(cut).normal(0, 0.05, (len(frame) - cut, 1)))
    prices = ["open", "high", "low", "close"]
    frame.iloc[cut:, [frame.columns.get_loc(name) for name in prices]] *= factor
    frame.iloc[cut:, frame.columns.get_loc("volume")] *= factor[:, 0] ** 5
    return Bars(frame, bars.market, bars.timeframe)


OTHER_FUTURES = (truncated_future, altered_future)


def assert_causal(case: Case, bars: Bars, other_future: Callable, residues: int = 16, **cerebro_params) -> None:
    """Fail if a line before a cut depends on what comes after; cut at every residue of the strides' product."""
    whole = run_lines(case, bars, **cerebro_params)
    for cut in range(len(bars) - residues, len(bars)):
        lines = run_lines(case, other_future(bars, cut), **cerebro_params)[:cut]
        np.testing.assert_array_equal(lines, whole[:cut], err_msg=f"{other_future.__name__} after bar {cut}")


def minutes_frame(bars: Bars) -> pd.DataFrame:
    """Return the bars as stock PandasData wants them: naive close times."""
    return bars.frame.tz_localize(None)
