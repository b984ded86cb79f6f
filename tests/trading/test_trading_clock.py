import backtrader as bt
import pandas as pd
import pytest
from accounts import bars_of
from hypothesis import given
from hypothesis import strategies as st

from hissbt.feeds import BarsFeed
from hissbt.trading.clock import bar_length, to_date_number, to_ms


@given(st.integers(0, 4 * 10**12))  # to the year 2096
def test_a_time_survives_the_way_through_backtraders_days(time_ms):
    assert to_ms(to_date_number(time_ms)) == time_ms


@given(st.datetimes(pd.Timestamp("1971-01-01"), pd.Timestamp("2090-01-01")))
def test_days_are_those_of_backtrader(moment):
    moment = moment.replace(microsecond=0)
    assert to_ms(bt.date2num(moment)) == pd.Timestamp(moment).value // 10**6


@pytest.mark.parametrize("timeframe", ["1m", "15m", "1h", "4h", "24h"])
def test_the_length_of_bars_is_known(timeframe):
    feed = BarsFeed(bars_of([(1, 1, 1, 1)] * 3, timeframe))
    assert bar_length(feed) == pd.Timedelta(timeframe)


@pytest.mark.parametrize("timeframe", [bt.TimeFrame.Ticks, bt.TimeFrame.Months, bt.TimeFrame.Years])
def test_ticks_months_and_years_have_no_length(timeframe):
    feed = BarsFeed(bars_of([(1, 1, 1, 1)] * 3), timeframe=timeframe)
    assert bar_length(feed) is None
