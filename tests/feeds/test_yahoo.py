"""Frames in the shapes that yfinance returns, made by yfinance itself from replies in the shape of Yahoo's."""

import json

import numpy as np
import pandas as pd
import pytest
import yfinance

from hissbt.errors import BarsError, FetchError
from hissbt.feeds import load_bars
from hissbt.feeds.yahoo import parse_frame, yahoo_bars, yahoo_market
from hissbt.market import Market

DAY, HOUR, WEEK = pd.Timedelta(days=1), pd.Timedelta(hours=1), pd.Timedelta(weeks=1)
NEW_YORK = "America/New_York"


def utc(text):
    return pd.Timestamp(text, tz="UTC")


def prices(count):
    close = 100 + np.arange(count) / 7
    return {"open": close - 0.1, "high": close + 1, "low": close - 1, "close": close, "volume": np.arange(count)}


class Reply:
    """What yfinance reads of an HTTP reply."""

    def __init__(self, content):
        self.content, self.text, self.status_code = content, json.dumps(content), 200

    def json(self):
        return self.content

    def raise_for_status(self):
        pass


def trading_hours(start):
    start = int(start.timestamp())
    return {"start": start, "end": start + 23_400, "timezone": "EST", "gmtoffset": -18_000}


def chart(opens, zone, columns):
    """Return a reply of Yahoo's chart: opens in unix seconds, adjusted closes that must not be used."""
    days = opens.normalize().unique() + pd.Timedelta(hours=9, minutes=30)
    meta = {
        "symbol": "SPY",
        "currency": "USD",
        "instrumentType": "EQUITY",
        "exchangeTimezoneName": zone,
        "exchangeName": "PCX",
        "priceHint": 2,
        "regularMarketTime": int(opens[-1].timestamp()),
        "validRanges": ["1d", "max"],
        "tradingPeriods": [[trading_hours(day)] for day in days],
        "currentTradingPeriod": {name: trading_hours(days[-1]) for name in ("pre", "regular", "post")},
        "dataGranularity": "1d",
    }
    quote = {name: np.asarray(values).tolist() for name, values in columns.items()}
    adjusted = [{"adjclose": (np.asarray(columns["close"]) / 2).tolist()}]
    result = {
        "meta": meta,
        "timestamp": [int(stamp.timestamp()) for stamp in opens],
        "indicators": {"quote": [quote], "adjclose": adjusted},
    }
    return {"chart": {"result": [result], "error": None}}


@pytest.fixture
def yahoo(monkeypatch, tmp_path):
    """Put a reply in the place of Yahoo and note the requests; the rest is yfinance's own code."""
    yfinance.set_tz_cache_location(str(tmp_path))
    asked = []

    def serve(content):
        def get(self, url, params=None, timeout=None, **rest):
            asked.append(dict(params or {}))
            return Reply(content)

        monkeypatch.setattr(yfinance.data.YfData, "get", get)
        monkeypatch.setattr(yfinance.data.YfData, "cache_get", get)
        return asked

    return serve


def new_york_opens(first, count):
    """Return 9:30 in New York of some weekdays, as Yahoo stamps days."""
    return pd.bdate_range(first, periods=count, tz=NEW_YORK) + pd.Timedelta(hours=9, minutes=30)


# --- through yfinance


def test_days_are_stamped_with_the_date_of_the_session(yahoo):
    opens = new_york_opens("2024-03-06", 6)  # summer time begins on the 10th
    yahoo(chart(opens, NEW_YORK, prices(6)))
    bars = load_bars("yahoo:SPY:1d")
    assert bars.open_times.tolist() == [utc(f"2024-03-{day}") for day in ("06", "07", "08", "11", "12", "13")]
    assert bars.frame["close"].tolist() == prices(6)["close"].tolist()
    assert bars.extra_columns == ()
    assert bars.missing == 0
    assert bars.market == Market("SPY", taker=0.0001, maker=0.0001, calendar="XNYS", contract="spot")


def test_hours_count_from_the_open_of_the_session(yahoo):
    opens = pd.DatetimeIndex(
        [stamp + hour * HOUR for stamp in new_york_opens("2024-03-08", 2) for hour in range(7)]
    )
    yahoo(chart(opens, NEW_YORK, prices(14)))
    bars = load_bars("yahoo:SPY:1h")
    assert (bars.open_times[0], bars.open_times[7]) == (utc("2024-03-08 14:30"), utc("2024-03-11 13:30"))
    assert (len(bars), bars.missing) == (14, 0)


def test_a_span_is_asked_for_and_cut(yahoo):
    asked = yahoo(chart(new_york_opens("2024-03-04", 10), NEW_YORK, prices(10)))
    bars = load_bars("yahoo:SPY:1d", since="2024-03-05", until="2024-03-12")
    assert (bars.open_times[0], bars.open_times[-1]) == (utc("2024-03-05"), utc("2024-03-11"))
    (span,) = [params for params in asked if "period1" in params]
    assert span["period1"] == utc("2024-03-04 05:00").timestamp()
    assert span["period2"] == utc("2024-03-13 04:00").timestamp()


def test_a_market_that_is_given_replaces_the_assumed_one(yahoo):
    yahoo(chart(new_york_opens("2024-03-04", 5), NEW_YORK, prices(5)))
    market = Market("SPY", tick=0.01, calendar="XNYS")
    assert load_bars("yahoo:SPY:1d", market=market).market == market


def test_what_yahoo_refuses_is_a_fetch_error(yahoo):
    yahoo({"chart": {"result": None, "error": {"code": "Not Found", "description": "No data found, delisted"}}})
    with pytest.raises(FetchError, match="Yahoo sent no bars of NOPE"):
        load_bars("yahoo:NOPE:1d")


def test_a_network_that_is_down_is_a_fetch_error(monkeypatch, tmp_path):
    yfinance.set_tz_cache_location(str(tmp_path))
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # a closed port, so that nothing leaves this machine
    with pytest.raises(FetchError, match="check the ticker, the span and the connection"):
        load_bars("yahoo:SPY:1d", since="2024-01-01")


@pytest.mark.parametrize("timeframe", ["4h", "3min", "2D"])
def test_a_timeframe_that_yahoo_does_not_have_is_refused(timeframe):
    with pytest.raises(BarsError, match=r"Yahoo has no bars of .*: choose one of 1m, 2m, .* 1w"):
        yahoo_bars("SPY", pd.Timedelta(timeframe))


# --- frames


def frame_of(opens):
    table = pd.DataFrame({name.capitalize(): values for name, values in prices(len(opens)).items()}, index=opens)
    return table.assign(**{"Adj Close": table["Close"] / 2, "Dividends": 0.0}).rename_axis("Date")


def test_a_day_that_is_not_over_is_left_out():
    frame = frame_of(pd.date_range("2024-03-04", periods=5, tz=NEW_YORK))
    assert len(parse_frame(frame, "SPY", DAY, utc("2024-03-08 23:59"))) == 4
    assert len(parse_frame(frame, "SPY", DAY, utc("2024-03-09 00:00"))) == 5
    with pytest.raises(FetchError, match="no bar of SPY that is over"):
        parse_frame(frame, "SPY", DAY, utc("2024-03-04 20:00"))


def test_an_hour_and_a_week_that_are_not_over_are_left_out():
    hours = frame_of(pd.date_range("2024-03-04 09:30", periods=7, freq="h", tz=NEW_YORK))
    assert len(parse_frame(hours, "SPY", HOUR, utc("2024-03-04 20:29"))) == 5
    weeks = frame_of(pd.date_range("2024-03-04", periods=3, freq="7D", tz=NEW_YORK))
    bars = parse_frame(weeks, "SPY", WEEK, utc("2024-03-20"))
    assert bars.open_times.tolist() == [utc("2024-03-04"), utc("2024-03-11")]


@pytest.mark.parametrize("group_by", ["column", "ticker"])
def test_columns_by_ticker_are_read_too(group_by):
    one = frame_of(pd.date_range("2024-03-04", periods=5, tz=NEW_YORK))
    both = pd.concat({"SPY": one, "QQQ": one * 2}, axis=1, names=["Ticker", "Price"])
    if group_by == "column":
        both = both.swaplevel(axis=1)
    assert parse_frame(both, "QQQ", DAY, utc("2025-01-01")).frame["close"].tolist() == (one["Close"] * 2).tolist()


def test_a_coin_trades_round_the_clock():
    frame = frame_of(pd.date_range("2024-03-08", periods=4, tz="UTC"))  # a weekend
    bars = parse_frame(frame, "BTC-USD", DAY, utc("2025-01-01"))
    assert (bars.market.always_open, bars.missing) == (True, 0)
    assert yahoo_market("BTC-USD") == Market("BTC-USD", contract="spot")


def test_a_bad_row_is_refused():
    frame = frame_of(pd.date_range("2024-03-04", periods=5, tz=NEW_YORK))
    frame.iloc[2, 3] = np.nan
    with pytest.raises(BarsError, match="missing or not finite"):
        parse_frame(frame, "SPY", DAY, utc("2025-01-01"))
