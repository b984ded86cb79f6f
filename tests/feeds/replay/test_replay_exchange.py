"""What the replay answers, held against recorded responses of Bybit."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hissbt.bars import Bars
from hissbt.feeds.load import load_bars
from hissbt.feeds.replay.chart import floor_ms
from hissbt.feeds.replay.exchange import Exchange, Refusal, envelope, kline_result
from hissbt.feeds.replay.series import Series

HOUR_MS = 3_600_000


@pytest.fixture
def exchange(hourly_bars) -> Exchange:
    return Exchange([Series("linear", "BTCUSDT", hourly_bars)])


def opens(bars) -> np.ndarray:
    return bars.open_times.asi8 // 1_000_000


def ask(exchange, now_ms, **query):
    return exchange.candles("trade", {"symbol": "BTCUSDT", "interval": "60"} | query, int(now_ms))


def test_start_and_end_of_a_window_are_both_inclusive(exchange, hourly_bars):
    times = opens(hourly_bars)
    page = ask(exchange, times[-1] + HOUR_MS, start=str(times[3]), end=str(times[7]))
    assert page.opens_ms.tolist() == times[3:8].tolist()


def test_a_start_inside_a_candle_includes_that_candle(exchange, hourly_bars):
    times = opens(hourly_bars)
    page = ask(exchange, times[-1] + HOUR_MS, start=str(times[3] + 1), end=str(times[7]))
    assert page.opens_ms[0] == times[3]


@pytest.mark.parametrize(("truncate", "kept"), [("end", slice(-10, None)), ("start", slice(10))])
def test_a_too_large_window_is_cut_to_one_of_its_ends(hourly_bars, truncate, kept):
    exchange = Exchange([Series("linear", "BTCUSDT", hourly_bars)], truncate)
    times = opens(hourly_bars)
    page = ask(exchange, times[-1] + HOUR_MS, start=str(times[100]), end=str(times[199]), limit="10")
    assert page.opens_ms.tolist() == times[100:200][kept].tolist()


def test_nothing_after_now_is_shown(exchange, hourly_bars):
    times = opens(hourly_bars)
    page = ask(exchange, times[50], limit="1000")
    assert page.opens_ms.tolist() == times[:51].tolist()


@settings(max_examples=60, deadline=None)
@given(
    kept=st.sets(st.integers(0, 79), min_size=2, max_size=60),
    moment=st.integers(0, 80 * HOUR_MS),
    interval=st.sampled_from(["60", "240", "720", "D", "W", "M"]),
)
def test_with_any_gaps_a_page_holds_what_has_begun_and_what_has_closed_is_final(
    hourly_bars, kept, moment, interval
):
    frame = hourly_bars.frame.iloc[sorted(kept)]
    exchange = Exchange([Series("linear", "BTCUSDT", Bars(frame, hourly_bars.market, hourly_bars.timeframe))])
    now_ms = int(opens(hourly_bars)[0]) + moment
    page = ask(exchange, now_ms, interval=interval, limit="1000")
    seen = frame.index[frame.index.asi8 // 1_000_000 - HOUR_MS <= now_ms]
    begun = {floor_ms(int(close // 1_000_000) - HOUR_MS, interval) for close in seen.asi8}
    assert page.opens_ms.tolist() == sorted(begun)
    closed = page.candles.closes_ms[page.rows] <= now_ms
    assert np.array_equal(page.values[closed], page.candles.values[page.rows[closed]])


@pytest.mark.parametrize("limit", ["0", "1001", "-5", "many"])
def test_a_limit_out_of_range_is_refused(exchange, hourly_bars, limit):
    with pytest.raises(Refusal, match="limit") as refusal:
        ask(exchange, opens(hourly_bars)[-1], limit=limit)
    assert refusal.value.code == 10001


def test_a_daily_page_is_what_bybit_answered(market_data):
    recorded = json.loads((market_data / "bybit_v5_json" / "kline_linear_BTCUSDT_D_2021-09.json").read_text())
    bars = load_bars(market_data / "bybit_linear_BTCUSDT_1d.csv")
    rows = recorded["result"]["list"]
    query = {"symbol": "BTCUSDT", "interval": "D", "start": rows[-1][0], "end": rows[0][0]}
    page = Exchange([Series("linear", "BTCUSDT", bars)]).candles("trade", query, recorded["time"])
    answer = envelope(kline_result(page), recorded["time"])
    assert [row[:6] for row in answer["result"]["list"]] == [row[:6] for row in rows]
    assert all(isinstance(row[6], str) and len(row) == 7 for row in answer["result"]["list"])
    assert answer | {"result": None} == recorded | {"result": None}
    assert answer["result"].keys() == recorded["result"].keys()


def test_funding_events_are_what_bybit_answered(hourly_bars, market_data):
    path = market_data / "bybit_v5_json" / "funding_history_linear_BTCUSDT_2026-08-15.json"
    recorded = json.loads(path.read_text())
    events = recorded["result"]["list"]
    times = pd.to_datetime([int(event["fundingRateTimestamp"]) for event in events], unit="ms", utc=True)
    rates = pd.Series([float(event["fundingRate"]) for event in events], index=times)
    series = Series("linear", "BTCUSDT", hourly_bars, funding=rates)
    query = {"category": "linear", "symbol": "BTCUSDT"}
    assert Exchange([series]).answer("funding/history", query, recorded["time"]) == recorded["result"]
