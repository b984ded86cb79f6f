import pandas as pd
import pytest

from hissbt.errors import BarsError
from hissbt.market import Market
from hissbt.timeframe import parse_timeframe

CRYPTO = Market("BTCUSDT")
STOCKS = Market("SP500", calendar="XNYS")


def utc(text):
    return pd.Timestamp(text, tz="UTC")


def closes(market, first, last, timeframe):
    return market.expected_closes(utc(first), utc(last), parse_timeframe(timeframe))


def test_a_crypto_year_has_365_days_and_a_stock_year_252():
    assert CRYPTO.periods_per_year == 365
    assert STOCKS.periods_per_year == 252


@pytest.mark.parametrize(("timeframe", "bars"), [("1m", 525_600), ("1h", 8_760), ("4h", 2_190), ("1d", 365)])
def test_crypto_bars_a_year_are_a_matter_of_arithmetic(timeframe, bars):
    assert CRYPTO.bars_per_year(parse_timeframe(timeframe)) == bars


def test_stock_bars_a_year_follow_the_sessions():
    assert STOCKS.bars_per_year(parse_timeframe("1d")) == 252
    assert STOCKS.bars_per_year(parse_timeframe("1w")) == pytest.approx(365 / 7)
    # A session of 6.5 hours begins 7 hourly bars; a few sessions a year are shorter.
    assert 6.9 * 252 < STOCKS.bars_per_year(parse_timeframe("1h")) < 7 * 252
    assert 387 * 252 < STOCKS.bars_per_year(parse_timeframe("1m")) < 390 * 252


@pytest.mark.parametrize("market", [CRYPTO, STOCKS, Market("ES", calendar="CMES")], ids=lambda m: m.calendar)
@pytest.mark.parametrize("timeframe", ["1h", "1d"])
def test_missing_bars_are_those_expected_between_two_closes(market, timeframe):
    expected = closes(market, "2024-03-04", "2024-03-22", timeframe)
    kept = expected.delete([3, 4, 7])
    missing = market.missing_before(kept, parse_timeframe(timeframe))
    assert missing.nonzero()[0].tolist() == [3, 5]
    assert missing[[3, 5]].tolist() == [2, 1]
    assert market.missing_before(kept[:0], parse_timeframe(timeframe)).tolist() == []


def test_session_opens_are_those_of_the_calendar():
    assert CRYPTO.session_opens(utc("2024-03-04")).tolist() == []
    opens = pd.to_datetime(STOCKS.session_opens(utc("2024-03-08")), unit="s", utc=True)
    week = opens[(opens >= utc("2024-03-08")) & (opens < utc("2024-03-13"))]  # the clocks change on the 10th
    assert week.tolist() == [utc("2024-03-08 14:30"), utc("2024-03-11 13:30"), utc("2024-03-12 13:30")]
    assert opens.is_monotonic_increasing


def test_an_unknown_calendar_is_refused():
    with pytest.raises(BarsError, match="unknown calendar 'NYMOON'"):
        Market("X", calendar="NYMOON")


def test_an_unknown_contract_is_refused():
    with pytest.raises(BarsError, match="unknown contract 'quanto': write one of spot, linear, inverse"):
        Market("X", contract="quanto")


def test_a_market_that_never_closes_expects_every_bar():
    expected = closes(CRYPTO, "2024-02-28 01:00", "2024-03-01 00:00", "1h")
    assert len(expected) == 48
    assert (expected[0], expected[-1]) == (utc("2024-02-28 01:00"), utc("2024-03-01 00:00"))


def test_stocks_are_not_expected_on_weekends_holidays_and_closed_days():
    # 2001-09-11 to 2001-09-14 the exchange stayed closed; 8, 9, 15 and 16 were weekends.
    expected = closes(STOCKS, "2001-09-08", "2001-09-19", "1d")
    assert list(expected) == [utc("2001-09-08"), utc("2001-09-11"), utc("2001-09-18"), utc("2001-09-19")]


def test_hourly_bars_of_stocks_start_at_the_open_in_winter_and_in_summer():
    expected = closes(STOCKS, "2018-03-09 00:00", "2018-03-13 00:00", "1h")
    assert len(expected) == 14
    assert expected[0] == utc("2018-03-09 15:30")
    assert expected[7] == utc("2018-03-12 14:30")
    # The last one of a session of 6.5 hours is a whole bar that reaches beyond its end.
    assert expected[6] == utc("2018-03-09 21:30")


def test_a_short_session_has_fewer_bars():
    assert len(closes(STOCKS, "2018-12-24 00:00", "2018-12-25 00:00", "1h")) == 4


def test_bars_longer_than_a_lunch_break_are_still_counted():
    tokyo = Market("N225", calendar="XTKS")  # 00:00 to 02:30 and 03:30 to 06:00 UTC
    assert list(closes(tokyo, "2019-01-08 00:00", "2019-01-09 00:00", "4h")) == [
        utc("2019-01-08 04:00"),
        utc("2019-01-08 07:30"),
    ]


def test_a_week_is_expected_when_it_has_a_session():
    expected = closes(STOCKS, "2001-09-10", "2001-09-24", "1w")
    assert list(expected) == [utc("2001-09-10"), utc("2001-09-17"), utc("2001-09-24")]


def test_a_stretch_without_any_session_expects_nothing():
    assert closes(STOCKS, "2018-12-23", "2018-12-24", "1d").empty
    assert closes(STOCKS, "2018-12-22 00:00", "2018-12-23 00:00", "1h").empty


def test_a_calendar_that_does_not_reach_the_bars_says_so():
    seoul = Market("KOSPI", calendar="XKRX")
    with pytest.raises(BarsError, match="calendar XKRX does not cover"):
        closes(seoul, "1900-01-01", "1900-02-01", "1d")
