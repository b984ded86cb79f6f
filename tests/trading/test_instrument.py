import math

import backtrader as bt
import pandas as pd
import pytest
from accounts import START, bars_of, hourly_funding

from hissbt.bars import Bars
from hissbt.feeds import BarsFeed
from hissbt.trading.commission import PerpCommission
from hissbt.trading.instrument import Instrument

ROWS = [(100, 110, 90, 105, 10), (106, 112, 101, 102, 20), (102, 103, 80, 85, 30), (86, 87, 70, 75, 40)]
HOUR = 3_600_000
START_MS = START.value // 10**6


def feed_of(bars):
    """Return a loaded feed that stands before its first bar."""
    return loaded(BarsFeed(bars))


def loaded(feed):
    feed.setenvironment(bt.Cerebro())
    feed._start()
    feed.preload()
    return feed


def instrument_of(feed, *, half_spread=0.0, impact=0.0, volume_limit=None, **terms):
    return Instrument(feed, PerpCommission(**terms), half_spread, impact, volume_limit)


def go_on(instrument, bars=1):
    """Go to the next bar, look at it, and let it close."""
    for _ in range(bars):
        instrument.data.advance()
        instrument.look()
        instrument.close_bar()


@pytest.fixture
def feed():
    return feed_of(bars_of(ROWS))


def test_there_is_nothing_to_look_at_before_the_first_bar(feed):
    assert not instrument_of(feed).look()


def test_a_bar_is_new_once(feed):
    instrument = instrument_of(feed)
    feed.advance()
    assert [instrument.look(), instrument.look()] == [True, False]


def test_a_bar_lies_between_its_open_and_its_close(feed):
    instrument = instrument_of(feed)
    go_on(instrument)
    assert (instrument.previous_ms, instrument.opened_ms, instrument.closed_ms) == (
        None,
        START_MS,
        START_MS + HOUR,
    )
    go_on(instrument)
    assert instrument.previous_ms == instrument.opened_ms == START_MS + HOUR
    assert instrument.closed_ms == START_MS + 2 * HOUR


def test_a_hole_lies_between_the_bar_before_and_the_open():
    bars = bars_of(ROWS)
    instrument = instrument_of(feed_of(Bars(bars.frame.drop(bars.frame.index[1]), bars.market, bars.timeframe)))
    go_on(instrument, 2)
    assert (instrument.previous_ms, instrument.opened_ms) == (START_MS + HOUR, START_MS + 2 * HOUR)
    assert instrument.missing_bars() == 1


def test_its_prices_are_those_of_the_bar(feed):
    instrument = instrument_of(feed)
    go_on(instrument)
    assert (instrument.open, instrument.close, instrument.reach) == (100, 105, (90, 110))
    go_on(instrument)
    assert instrument.reach == (101, 112)


def test_the_mark_price_is_the_traded_one_where_none_is_given(feed):
    instrument = instrument_of(feed)
    go_on(instrument)
    assert not instrument.has_marks
    assert (instrument.mark_open, instrument.mark_close) == (100, 105)
    assert (instrument.worst(1.0), instrument.worst(-1.0)) == (90, 110)


def test_a_mark_price_is_found_by_its_close(feed):
    mark = bars_of([(1, 4, 0.5, 2)] * 3)
    instrument = instrument_of(feed, mark=mark)
    go_on(instrument)
    assert (instrument.mark_open, instrument.mark_close) == (1, 2)
    assert (instrument.worst(1.0), instrument.worst(-1.0)) == (0.5, 4)
    go_on(instrument, 3)
    assert instrument.mark_close == 75, "the mark ended before"


def test_volume_is_a_share_of_each_bar(feed):
    instrument = instrument_of(feed, volume_limit=0.5)
    go_on(instrument)
    assert instrument.volume_left == 5
    instrument.volume_left -= 5
    go_on(instrument)
    assert instrument.volume_left == 10


def test_the_volume_of_an_inverse_contract_is_in_the_coin(feed):
    instrument = instrument_of(feed, contract="inverse")
    assert instrument.quantity(-200.0, 100.0) == 2.0
    assert instrument.size_of(2.0, 100.0) == 200.0


def test_events_are_seen_in_the_bar_in_which_they_fall(feed):
    funding = hourly_funding({})
    instrument = instrument_of(feed, funding=type(funding)("X", funding.times[50:51], funding.rates[50:51]))
    seen = []
    for _ in ROWS:
        go_on(instrument)
        seen.append((instrument.has_events, instrument.next_event < math.inf))
    assert seen == [(True, True), (True, False), (False, False), (False, False)]  # the event is at 02:00


def test_bars_that_nobody_looked_at_are_caught_up_with():
    rules = {"half_spread": 0.001, "impact": 1.0, "funding": hourly_funding({1: 0.1}), "mark": bars_of(ROWS[:2])}
    looked, rested = (instrument_of(feed_of(bars_of(ROWS)), **rules) for _ in range(2))
    go_on(looked, 4)
    go_on(rested)
    rested.data.advance(2)
    go_on(rested)
    for name in ("dt", "previous_dt", "length", "previous_length", "previous_ms", "opened_ms", "closed_ms"):
        assert getattr(rested, name) == getattr(looked, name), name
    assert rested.last_close == looked.last_close
    assert rested.cost(3.0, 80.0) == looked.cost(3.0, 80.0) > 0.001


def test_the_close_of_the_bar_before_is_known_where_events_may_fall_into_a_hole(feed):
    instrument = instrument_of(feed, funding=hourly_funding({}))
    go_on(instrument)
    feed.advance(2)
    instrument.look()
    assert instrument.last_close == 102


def test_the_span_of_a_run_is_known_beforehand(feed):
    assert instrument_of(feed).span_ms() == (START_MS, START_MS + 4 * HOUR)


def test_so_is_that_of_another_feed_that_was_loaded():
    frame = bars_of(ROWS).frame.tz_localize(None)
    feed = bt.feeds.PandasData(dataname=frame, timeframe=bt.TimeFrame.Minutes, compression=60, openinterest=None)
    assert instrument_of(loaded(feed)).span_ms() == (START_MS, START_MS + 4 * HOUR)
    assert pd.Timestamp(START_MS, unit="ms", tz="UTC") == START
