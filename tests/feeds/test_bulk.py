import pickle
import subprocess
import sys
from datetime import UTC, date, datetime

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.bars import Bars
from hissbt.errors import BarsError
from hissbt.feeds import BarsFeed, load_bars
from hissbt.feeds.bulk import date_numbers
from hissbt.market import Market
from hissbt.timeframe import parse_timeframe

OHLCV = ("open", "high", "low", "close", "volume", "openinterest", "datetime")
MODES = {
    "runonce": {},
    "next": {"runonce": False},
    "no preload": {"preload": False},
    "no preload next": {"preload": False, "runonce": False},
    "exactbars": {"exactbars": 1},
    "exactbars -1": {"exactbars": -1},
    "exactbars -2": {"exactbars": -2},
    "lookahead": {"lookahead": 3},
}
MINUTES = bt.TimeFrame.Minutes


@pytest.fixture(scope="module")
def hourly():
    """Real prices on an hourly clock with two holes."""
    frame = load_bars("sp500")[2000:2300].frame
    frame.index = pd.date_range("2024-01-01", periods=len(frame), freq="h", tz="UTC")
    return Bars.from_frame(frame.drop(frame.index[[50, 51, 120]]), market=Market("TEST"), stamp="open")


@pytest.fixture(scope="module")
def with_rate(hourly):
    return Bars(hourly.frame.assign(rate=np.arange(len(hourly)) / 7), hourly.market, hourly.timeframe)


def stock_feed(bars, **params):
    """Backtrader's own feed over the same close-stamped table."""
    minutes = int(bars.timeframe.total_seconds() // 60)
    kind = {"timeframe": MINUTES, "compression": minutes}
    if minutes % 1440 == 0:
        kind = {"timeframe": bt.TimeFrame.Days, "compression": minutes // 1440}
    return bt.feeds.PandasData(dataname=bars.frame, **kind | params)


class Recorder(bt.Strategy):
    """Keeps every value that a strategy can see at each of its bars."""

    params = (("lines", OHLCV), ("period", 3))

    def __init__(self):
        self.rows = []
        self.averages = [bt.indicators.SMA(data.close, period=self.p.period) for data in self.datas]

    def prenext(self):
        self.next()

    def next(self):
        for data, average in zip(self.datas, self.averages, strict=True):
            if len(data):  # before its first bar a feed shows its last one
                values = [getattr(data, name)[0] for name in self.p.lines]
                known = len(data) >= self.p.period
                self.rows.append([len(self), len(data), *values, average[0] if known else 0.0])


class Last(bt.Analyzer):
    def stop(self):
        self.rets["rows"] = np.array(self.strategy.rows)


def run(setup, feed, *sources, lines=OHLCV, **mode):
    cerebro = bt.Cerebro(stdstats=False)
    setup(cerebro, *(feed(bars) for bars in sources))
    cerebro.addstrategy(Recorder, lines=lines)
    return np.array(cerebro.run(**mode)[0].rows)


def one(cerebro, feed):
    cerebro.adddata(feed)


def two(cerebro, feed, coarse):
    cerebro.adddata(feed)
    cerebro.adddata(coarse)


def two_coarse_first(cerebro, feed, coarse):
    cerebro.adddata(coarse)
    cerebro.adddata(feed)


def resampled(cerebro, feed):
    cerebro.resampledata(feed, timeframe=MINUTES, compression=240)


def added_and_resampled(cerebro, feed):
    cerebro.adddata(feed)
    cerebro.resampledata(feed, timeframe=MINUTES, compression=240)


def resampled_to_days(cerebro, feed):
    cerebro.adddata(feed)
    cerebro.resampledata(feed, timeframe=bt.TimeFrame.Days)


def replayed(cerebro, feed):
    cerebro.replaydata(feed, timeframe=MINUTES, compression=240)


def filtered(cerebro, feed):
    feed.addfilter_simple(lambda data: data.close[0] < data.open[0])
    cerebro.adddata(feed)


def copied(cerebro, feed):
    cerebro.adddata(feed)
    cerebro.adddata(feed.clone())


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize(
    "setup",
    [one, resampled, added_and_resampled, resampled_to_days, replayed, filtered, copied],
    ids=lambda setup: setup.__name__,
)
def test_a_strategy_sees_what_a_stock_feed_shows(hourly, setup, mode):
    rows = run(setup, BarsFeed, hourly, **mode)
    np.testing.assert_array_equal(rows, run(setup, stock_feed, hourly, **mode))
    assert len(rows) > 50


class Steps(bt.Indicator):
    """Is computed ahead by advancing the feed bar by bar."""

    lines = ("steps",)

    def next(self):
        self.lines.steps[0] = self.data.close[0]


class TickRecorder(bt.Strategy):
    """Keeps what a feed calls the latest tick, at each of its bars."""

    def __init__(self):
        self.rows = []
        Steps(self.data)

    def prenext(self):
        self.next()

    def next(self):
        for data in self.datas:
            if len(data):
                ticks = [getattr(data, f"tick_{name}") for name in (*OHLCV[:-1], "last")]
                self.rows.append([len(data), *ticks])


OLD_MODES = {"old sync": {"oldsync": True}, "old sync next": {"oldsync": True, "runonce": False}}


@pytest.mark.parametrize("mode", (MODES | OLD_MODES).values(), ids=MODES | OLD_MODES)
@pytest.mark.parametrize(
    "setup", [one, resampled, added_and_resampled, replayed, copied], ids=lambda setup: setup.__name__
)
def test_ticks_are_those_of_a_stock_feed(hourly, setup, mode):
    def rows(feed):
        cerebro = bt.Cerebro(stdstats=False)
        setup(cerebro, feed(hourly))
        cerebro.addstrategy(TickRecorder)
        return np.array(cerebro.run(**mode)[0].rows, dtype=float)

    np.testing.assert_array_equal(rows(BarsFeed), rows(stock_feed))


def test_a_feed_may_fill_ticks_in_its_own_way(hourly):
    class Halved(BarsFeed):
        def _tick_fill(self, force=False):
            super()._tick_fill(force)
            self.tick_close = self.close[0] / 2

    class Look(bt.Strategy):
        def next(self):
            if len(self.data) < self.data.buflen():
                assert self.data.tick_close == self.data.close[0] / 2

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(Halved(hourly[:20]))
    cerebro.addstrategy(Look)
    assert len(cerebro.run()[0]) == 20


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("setup", [two, two_coarse_first], ids=lambda setup: setup.__name__)
def test_feeds_of_different_timeframes_stay_in_step(hourly, setup, mode):
    coarse = hourly.resample("4h")
    rows = run(setup, BarsFeed, hourly, coarse, **mode)
    # Stock feeds lose bars under exactbars=1, and show others before their time: there, too, all must be seen.
    np.testing.assert_array_equal(rows, run(setup, stock_feed, hourly, coarse, **mode | {"exactbars": 0}))
    # Close stamps: no coarse bar is seen before the fine bar that closes with it.
    assert len(rows) > len(hourly)


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize(
    ("fromdate", "todate", "count"),
    [
        (
            datetime(2024, 1, 5, 3),
            datetime(2024, 1, 9, 4),
            97,
        ),  # inclusive at both ends, less a missing hour
        (datetime(2024, 1, 5, 3, 0, 1), datetime(2024, 1, 9, 3, 59, 59), 95),
        (datetime(2024, 1, 5, 3, tzinfo=UTC), None, None),
        (None, date(2024, 1, 4), None),
        (date(2024, 1, 4), date(2024, 1, 4), 24),
        (datetime(2023, 1, 1), datetime(2025, 1, 1), 297),
    ],
)
def test_dates_select_closes_inclusively_as_in_a_stock_feed(hourly, fromdate, todate, count, mode):
    def between(feed):
        return lambda bars: feed(bars, fromdate=fromdate, todate=todate)

    rows = run(one, between(BarsFeed), hourly, **mode)
    np.testing.assert_array_equal(rows, run(one, between(stock_feed), hourly, **mode))
    assert count is None or len(rows) == count


def test_dates_that_select_nothing_end_the_run_at_once(hourly):
    for mode in ({}, {"preload": False}):
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(BarsFeed(hourly, fromdate=datetime(2030, 1, 1)))
        assert len(cerebro.run(**mode)[0]) == 0


@pytest.mark.parametrize("lookahead", [0, 3])
def test_preloaded_lines_are_those_of_a_stock_feed_to_the_last_detail(hourly, lookahead):
    states = []
    for feed in (BarsFeed(hourly), stock_feed(hourly)):
        cerebro = bt.Cerebro()
        cerebro.adddata(feed)
        feed.setenvironment(cerebro)
        feed.reset()
        feed.extend(size=lookahead)
        feed._start()
        feed.preload()
        assert len(feed) == 0
        assert feed.buflen() == len(hourly)
        assert feed.load() is False
        states.append([(line.lencount, line.idx, line.extension, line.mode) for line in feed.lines])
        states.append(np.array([line.array for line in feed.lines]))
        assert {line.array.typecode for line in feed.lines} == {"d"}
    assert states[0] == states[2]
    np.testing.assert_array_equal(states[1], states[3])


def test_a_feed_can_be_run_again(hourly):
    feed = BarsFeed(hourly)
    first, second, third = (run(one, lambda _: feed, hourly, **mode) for mode in ({}, {"preload": False}, {}))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)


def test_values_are_python_floats_in_every_mode(hourly):
    class Types(bt.Strategy):
        def next(self):
            assert {type(line[0]) for line in self.data.lines} == {float}

    for mode in MODES.values():
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(BarsFeed(hourly[:20]))
        cerebro.addstrategy(Types)
        cerebro.run(**mode)


def test_the_feed_knows_its_name_timeframe_and_market(hourly):
    feed = BarsFeed(hourly)
    assert (feed._name, feed.p.timeframe, feed.p.compression) == ("TEST", MINUTES, 60)
    assert (feed._timeframe, feed._compression) == (MINUTES, 60)
    assert feed.bars is hourly
    assert feed.bars.market.periods_per_year == 365
    assert not feed.islive()


@pytest.mark.parametrize(
    ("timeframe", "unit", "compression"),
    [
        ("30s", bt.TimeFrame.Seconds, 30),
        ("1m", MINUTES, 1),
        ("4h", MINUTES, 240),
        ("1d", bt.TimeFrame.Days, 1),
        ("1w", bt.TimeFrame.Weeks, 1),
    ],
)
def test_lengths_of_bars_become_units_of_backtrader(hourly, timeframe, unit, compression):
    times = pd.date_range("2024", periods=3, freq=parse_timeframe(timeframe), tz="UTC")
    feed = BarsFeed(Bars.from_frame(hourly.frame[:3].set_axis(times)))
    assert (feed.p.timeframe, feed.p.compression) == (unit, compression)


def test_parameters_of_a_feed_are_taken(hourly):
    feed = BarsFeed(dataname=hourly, name="other", sessionend=datetime(2024, 1, 1, 16).time())
    assert feed._name == "other"
    assert feed.p.sessionend.hour == 16


@pytest.mark.parametrize("source", [None, "sp500", 5])
def test_only_bars_are_fed(source):
    with pytest.raises(BarsError, match="pass it the Bars that load_bars returns"):
        BarsFeed(source)


def test_a_table_is_no_bars(hourly):
    with pytest.raises(BarsError, match="cannot read DataFrame"):
        BarsFeed(hourly.frame)


# --- time


@given(st.lists(st.integers(0, 9_000_000_000), min_size=1, unique=True))
def test_date_numbers_are_those_of_backtrader_to_the_last_bit(seconds):
    index = pd.to_datetime(seconds, unit="s", utc=True).as_unit("ns")
    assert date_numbers(index).tolist() == [bt.date2num(time) for time in index.to_pydatetime()]


def test_date_numbers_of_every_second_of_a_day_are_those_of_backtrader():
    index = pd.date_range("2024-02-29", "2024-03-01", freq="1s", tz="UTC").as_unit("ns")
    assert date_numbers(index).tolist() == [bt.date2num(time) for time in index.to_pydatetime()]


# --- extra columns


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_extra_columns_are_lines_under_their_names(with_rate, mode):
    rows = run(one, BarsFeed, with_rate, lines=("rate", "close"), **mode)
    assert rows[:, 2].tolist() == with_rate.frame["rate"].tolist()
    assert rows[:, 3].tolist() == with_rate.frame["close"].tolist()


def test_feeds_with_the_same_lines_are_of_one_class(with_rate, hourly):
    assert type(BarsFeed(with_rate)) is type(BarsFeed(with_rate[:10]))
    assert type(BarsFeed(hourly)) is BarsFeed
    assert isinstance(BarsFeed(with_rate), BarsFeed)


def test_names_that_only_look_alike_do_not_meet(hourly):
    first = Bars(hourly.frame.assign(a_b=1.0, c=2.0), hourly.market, hourly.timeframe)
    second = Bars(hourly.frame.assign(a=3.0, b_c=4.0), hourly.market, hourly.timeframe)
    feeds = [pickle.loads(pickle.dumps(BarsFeed(bars))) for bars in (first, second)]
    assert [feed.getlinealiases()[-2:] for feed in feeds] == [("a_b", "c"), ("a", "b_c")]


class Own(BarsFeed):
    """A user's feed with a line for the column and one of its own."""

    lines = ("rate", "range")

    def _load(self):
        loaded = super()._load()
        if loaded:
            self.lines.range[0] = self.lines.high[0] - self.lines.low[0]
        return loaded


class Unfilled(BarsFeed):
    lines = ("rate", "unknown")


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
def test_a_user_may_declare_lines_and_load_them(with_rate, mode):
    assert type(Own(with_rate)) is Own
    rows = run(one, Own, with_rate, lines=("rate", "range"), **mode)
    frame = with_rate.frame
    assert rows[:, 2].tolist() == frame["rate"].tolist()
    assert rows[:, 3].tolist() == (frame["high"] - frame["low"]).tolist()


def test_declared_lines_without_a_column_stay_empty_and_missing_ones_are_added(with_rate):
    bars = Bars(with_rate.frame.assign(mark=1.0), with_rate.market, with_rate.timeframe)
    for mode in ({}, {"preload": False}):
        rows = run(one, Unfilled, bars, lines=("rate", "unknown", "mark"), **mode)
        assert rows[:, 2].tolist() == bars.frame["rate"].tolist()
        assert np.isnan(rows[:, 3]).all()
        assert (rows[:, 4] == 1).all()


TAKEN = (
    "data data1 p l params lines datas line0 line_1 openinterest datetime bars start forward fromdate tick_close"
)


@pytest.mark.parametrize("name", [*TAKEN.split(), "_x", "notifs", "1h", "a-b", "plotinfo", "array"])
def test_a_column_whose_name_backtrader_uses_is_refused(hourly, name):
    bars = Bars(hourly.frame.assign(**{name: 1.0}), hourly.market, hourly.timeframe)
    with pytest.raises(BarsError, match=f"extra column '{name}' cannot be a line of a feed: rename it"):
        BarsFeed(bars)


# --- other processes


@pytest.mark.parametrize(
    "mode", [{}, {"runonce": False}, {"optdatas": False}], ids=["preloaded", "next", "no optdatas"]
)
def test_optimizing_in_processes_sees_the_same_bars(with_rate, mode):
    cerebro = bt.Cerebro(maxcpus=2, stdstats=False)
    cerebro.adddata(BarsFeed(with_rate))
    cerebro.optstrategy(Recorder, period=[2, 3, 4], lines=[(*OHLCV, "rate")])
    cerebro.addanalyzer(Last, _name="last")
    results = cerebro.run(**mode)
    assert len(results) == 3
    for result, period in zip(results, (2, 3, 4), strict=True):
        rows = result[0].analyzers.last.rets["rows"]
        expected = run(one, BarsFeed, with_rate, lines=(*OHLCV, "rate"))
        np.testing.assert_array_equal(rows[:, :-1], expected[:, :-1])
        assert result[0].p.period == period


READ_A_FEED = """
import pickle, sys
feed = pickle.load(sys.stdin.buffer)
print(type(feed).__name__, feed._name, feed.bars.sha256, feed.buflen(), sum(feed.lines.rate.array))
"""


def test_a_preloaded_feed_reaches_a_fresh_process(with_rate):
    feed = BarsFeed(with_rate)
    cerebro = bt.Cerebro()
    cerebro.adddata(feed)
    feed.reset()
    feed._start()
    feed.preload()
    command = [sys.executable, "-c", READ_A_FEED]
    answer = (
        subprocess.run(command, input=pickle.dumps(feed), capture_output=True, check=True).stdout.decode().split()
    )
    total = sum(with_rate.frame["rate"].tolist())
    assert answer == ["BarsFeed[rate]", "TEST", with_rate.sha256, str(len(with_rate)), str(total)]
