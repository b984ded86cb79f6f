"""A lean indicator is one of Backtrader's in all but its time."""

import backtrader as bt
import numpy as np
import pandas as pd
import pytest

import hissbt
from hissbt.bars import Bars
from hissbt.feeds import BarsFeed
from hissbt.indicators import Forecast
from hissbt.lean import LeanIndicator
from hissbt.loop.lines import Line
from hissbt.market import Market


def sums_on(base: type[bt.Indicator]) -> type[bt.Indicator]:
    class Sums(base):
        """One line tells closes apart, one counts; warm from the third bar."""

        lines = ("total", "count")

        def __init__(self):
            self.addminperiod(3)

        def next(self):
            self.lines.total[0] = self.data.close[0] + self.data.close[-2]
            self.lines.count[0] = len(self)

    return Sums


class Watcher(bt.Strategy):
    """Notes at every bar what the indicators on all feeds show."""

    params = (("indicator", None),)

    def __init__(self):
        self.sums = [self.p.indicator(data) for data in self.datas]
        self.smooth = [bt.ind.SMA(sums.total, period=2) for sums in self.sums]
        self.seen = []

    def prenext(self):
        self.next()

    def next(self):
        for sums, smooth in zip(self.sums, self.smooth, strict=True):
            self.seen.append((len(sums), len(sums.total), len(smooth), *(self.show(line) for line in sums.lines)))

    def show(self, line):
        return line[0] if len(line) else None


def bars_of(minutes: int, count: int) -> Bars:
    index = pd.date_range("2024-01-01", periods=count, freq=f"{minutes}min", tz="UTC")
    close = 100 + np.sin(np.arange(count))
    prices = {"open": close, "high": close + 1, "low": close - 1, "close": close, "volume": close}
    return Bars.from_frame(pd.DataFrame(prices, index=index), market=Market("TEST"), stamp="open")


def seen_by(indicator: type[bt.Indicator], accelerated: bool, **how) -> list[tuple]:
    cerebro = bt.Cerebro(stdstats=False)
    for minutes, count in ((1, 30), (5, 6)):
        cerebro.adddata(BarsFeed(bars_of(minutes, count)))
    cerebro.addstrategy(Watcher, indicator=indicator)
    if accelerated:
        hissbt.accelerate(cerebro)
    return cerebro.run(**how)[0].seen


@pytest.mark.parametrize("accelerated", [False, True])
@pytest.mark.parametrize(
    "how", [{}, {"runonce": False}, {"preload": False}, {"exactbars": 1}, {"exactbars": -1}], ids=str
)
def test_a_lean_indicator_has_the_lengths_and_values_of_backtraders_at_every_bar(how, accelerated):
    stock, lean = (seen_by(kind, accelerated, **how) for kind in map(sums_on, (bt.Indicator, LeanIndicator)))

    assert len(stock) > 50
    assert repr(lean) == repr(stock)


def test_the_forecast_is_lean():
    assert issubclass(Forecast, LeanIndicator)


def test_the_fast_loop_moves_a_lean_indicator_with_its_feed():
    kinds = set()

    class Looker(Watcher):
        def show(self, line):
            kinds.add(type(line))
            return super().show(line)

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars_of(1, 30)))
    cerebro.addstrategy(Looker, indicator=sums_on(LeanIndicator))
    hissbt.accelerate(cerebro)
    cerebro.run()

    assert cerebro.loop["path"] == "fast"
    assert kinds == {Line}
