import backtrader as bt
import pandas as pd
import pytest

from hissbt.bars import Bars
from hissbt.feeds import BarsFeed
from hissbt.market import Market
from hissbt.trading.holes import Holes

CLOSES = ["2024-01-05 01:00", "2024-01-05 02:00", "2024-01-05 05:00", "2024-01-05 06:00", "2024-01-05 16:00"]
DAYS = ["2024-01-05", "2024-01-06", "2024-01-09", "2024-01-11"]  # ends of Thursday, Friday, Monday, Wednesday


class Watcher(bt.Strategy):
    """Asks for the missing bars twice at each bar."""

    def __init__(self):
        self.holes, self.seen = Holes(self.data), []

    def next(self):
        assert self.holes.missing_bars() == self.holes.missing_bars()
        self.seen.append(self.holes.missing_bars())


def seen(feed, **mode):
    cerebro = bt.Cerebro(stdstats=False, **mode)
    cerebro.adddata(feed)
    cerebro.addstrategy(Watcher)
    return cerebro.run()[0].seen


def table(times):
    columns = {"open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1.0}
    return pd.DataFrame(columns, index=pd.DatetimeIndex(times))


@pytest.mark.parametrize("mode", [{}, {"runonce": False, "preload": False}, {"exactbars": 1}])
def test_holes_are_seen_at_the_bar_after_them(mode):
    plain = bt.feeds.PandasData(dataname=table(CLOSES), timeframe=bt.TimeFrame.Minutes, compression=60)
    assert seen(plain, **mode) == [0, 0, 2, 0, 9]
    frame = table(CLOSES)
    frame.index = frame.index.tz_localize("UTC").rename("close_time")
    assert seen(BarsFeed(Bars(frame, Market("X"), "1h")), **mode) == [0, 0, 2, 0, 9]


def test_a_calendar_knows_which_days_have_no_bars():
    frame = table(DAYS)
    frame.index = frame.index.tz_localize("UTC").rename("close_time")
    exchange = Bars(frame, Market("X", calendar="XNYS"), "1d")
    assert seen(BarsFeed(exchange)) == [0, 0, 0, 1]
    assert seen(bt.feeds.PandasData(dataname=table(DAYS))) == [0, 0, 2, 1]


def test_nothing_is_missing_among_bars_without_a_length():
    ticks = bt.feeds.PandasData(dataname=table(CLOSES), timeframe=bt.TimeFrame.Ticks)
    assert seen(ticks) == [0] * 5
