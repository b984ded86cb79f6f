"""What a user meets when the model or the data does not fit."""

from itertools import pairwise

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from bundles import random_bundle

from hissbt.bars import Bars
from hissbt.errors import BarsError, BundleError, FeatureError, StreamError
from hissbt.feeds import BarsFeed
from hissbt.indicators import Forecast, HiSS
from hissbt.market import Market
from hissbt.stream import Stream


class Reader(bt.Strategy):
    params = (("model", None), ("indicator", HiSS), ("reset_after", None))

    def __init__(self):
        self.hiss = self.p.indicator(self.data, model=self.p.model, reset_after=self.p.reset_after)
        self.first = None

    def next(self):
        if self.first is None:
            self.first = len(self)


def run(feed, model, indicator=HiSS, **cerebro_params):
    cerebro = bt.Cerebro(stdstats=False, **cerebro_params)
    cerebro.adddata(feed)
    cerebro.addstrategy(Reader, model=model, indicator=indicator)
    return cerebro.run()[0]


@pytest.fixture
def bars(hourly_bars) -> Bars:
    return hourly_bars[:80]


def test_the_strategy_waits_for_the_warm_up(bars):
    assert run(BarsFeed(bars), random_bundle(bars, warmup=33)).first == 33


def test_lines_are_nan_before_the_warm_up_and_never_after(bars):
    strategy = run(BarsFeed(bars), random_bundle(bars, warmup=33))
    for line in strategy.hiss.lines:
        values = np.array(line.array)
        assert np.isnan(values[:32]).all()
        assert np.isfinite(values[32:]).all()


def test_a_missing_model_is_named(bars):
    with pytest.raises(BundleError, match="no model given"):
        run(BarsFeed(bars), None)


def test_a_path_without_a_bundle_is_named(bars, tmp_path):
    with pytest.raises(BundleError, match="nothing_here"):
        run(BarsFeed(bars), tmp_path / "nothing_here")


def test_hiss_refuses_a_bundle_of_another_kind_and_forecast_names_it_unusable(bars):
    bundle = random_bundle(bars)
    bundle.kind = "lstm"
    with pytest.raises(BundleError, match="lstm bundle"):
        run(BarsFeed(bars), bundle, HiSS)


def test_an_extra_column_reaches_the_model_through_the_feed(bars):
    frame = bars.frame.assign(rate=np.linspace(0, 1, len(bars)))
    with_rate = Bars(frame, bars.market, bars.timeframe)
    bundle = random_bundle(with_rate, features=("log_return", "column:rate"))
    values = np.array(run(BarsFeed(with_rate), bundle).hiss.prob_up.array)
    other = Bars(frame.assign(rate=0.5), bars.market, bars.timeframe)
    changed = np.array(run(BarsFeed(other), bundle).hiss.prob_up.array)
    assert (values[20:40] != changed[20:40]).all()


def test_a_feed_without_the_column_is_refused_by_name(bars):
    frame = bars.frame.assign(rate=0.5)
    bundle = random_bundle(Bars(frame, bars.market, bars.timeframe), features=("log_return", "column:rate"))
    with pytest.raises(FeatureError, match="'rate'"):
        run(BarsFeed(bars), bundle)


def test_a_nan_in_a_foreign_feed_is_refused_with_its_time(bars):
    frame = bars.frame.tz_localize(None)
    frame.iloc[10, frame.columns.get_loc("volume")] = np.nan
    with pytest.raises(StreamError, match="2024-01-01T11:00:00 has no finite volume"):
        run(bt.feeds.PandasData(dataname=frame, openinterest=None), random_bundle(bars), Forecast)


@pytest.mark.parametrize("runonce", [True, False])
def test_too_few_bars_to_warm_up_are_named_or_give_no_decision(bars, runonce):
    model = random_bundle(bars, warmup=33)
    if runonce:
        with pytest.raises(BarsError, match="needs 33 to warm up, and there are 30"):
            run(BarsFeed(bars[:30]), model)
    else:
        assert run(BarsFeed(bars[:30]), model, runonce=False).first is None


def test_a_bar_that_backtrader_shows_before_its_time_is_refused(bars):
    """Stock feeds out of step do that under exactbars=1: a hole in one shows its next bar early."""

    def stock_feed(bars):
        return bt.feeds.PandasData(dataname=bars.frame.tz_localize(None), openinterest=None)

    class Second(bt.Strategy):
        def __init__(self):
            HiSS(self.data1, model=random_bundle(bars))

    frame = bars.frame.drop(bars.frame.index[[22, 23, 24]])
    cerebro = bt.Cerebro(stdstats=False, exactbars=1)
    cerebro.adddata(stock_feed(bars))
    cerebro.adddata(stock_feed(Bars(frame, bars.market, bars.timeframe)))
    cerebro.addstrategy(Second)
    with pytest.raises(StreamError, match="2024-01-02 02:00:00 before its time"):
        cerebro.run()


@pytest.mark.parametrize("since", ["2024-01-08", "2024-07-08"], ids=["winter", "summer"])
def test_a_session_that_goes_on_after_midnight_in_utc_is_not_cut(bars, since):
    market = Market("ES", calendar="CMES")  # opens at 17:00 in Chicago
    since = pd.Timestamp(since, tz="UTC")
    closes = market.expected_closes(since, since + pd.Timedelta(days=3), pd.Timedelta("1h"))
    futures = Bars(bars.frame[: len(closes)].set_index(closes), market, "1h")
    bundle = random_bundle(bars)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(futures))
    cerebro.addstrategy(Reader, model=bundle, reset_after="session")
    lines = np.array([line.array for line in cerebro.run()[0].hiss.lines]).T  # [T,3]
    hours = futures.open_times.tz_convert("America/Chicago").hour
    begins = sorted({0, *np.flatnonzero(hours == 17)})
    assert len(begins) == 4
    for begin, end in pairwise([*begins, len(futures)]):
        expected = Stream(bundle).scan(futures[begin:end].arrays())
        known = slice(max(0, bundle.warmup - 1 - begin), None)
        np.testing.assert_array_equal(lines[begin:end][known], expected[known])


def test_two_indicators_of_one_model_do_not_share_state(bars):
    bundle = random_bundle(bars)

    class Twins(bt.Strategy):
        def __init__(self):
            self.one, self.other = HiSS(self.data, model=bundle), HiSS(self.data1, model=bundle)

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars))
    cerebro.adddata(BarsFeed(bars))
    cerebro.addstrategy(Twins)
    strategy = cerebro.run()[0]
    np.testing.assert_array_equal(np.array(strategy.one.prob_up.array), np.array(strategy.other.prob_up.array))


def test_a_subclass_that_overrides_next_only_is_heard_in_every_mode(bars):
    class Contrarian(HiSS):
        def next(self):
            super().next()
            self.lines.prob_up[0] = 1 - self.lines.prob_up[0]

    bundle = random_bundle(bars)
    for runonce in (True, False):
        plain = np.array(run(BarsFeed(bars), bundle, runonce=runonce).hiss.prob_up.array)
        turned = np.array(run(BarsFeed(bars), bundle, Contrarian, runonce=runonce).hiss.prob_up.array)
        np.testing.assert_array_equal(turned[19:], 1 - plain[19:])
