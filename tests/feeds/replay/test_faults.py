"""Faults are transient, seeded and counted; holes stay."""

import ccxt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hissbt.errors import ConfigError
from hissbt.feeds.replay import Clock, Faults, Series
from hissbt.feeds.replay.exchange import Exchange
from hissbt.feeds.replay.faults import REPLY_FAULTS, ROW_FAULTS

HOUR_MS = 3_600_000
NETWORK_ERRORS = (ccxt.OperationFailed, ccxt.InvalidNonce)


@pytest.fixture
def client():
    """Make a real ccxt client of a replay server, of linear markets."""

    def connect(server) -> ccxt.bybit:
        urls = {"api": {"public": server.url, "private": server.url}}
        return ccxt.bybit(
            {"urls": urls, "options": {"fetchMarkets": {"types": ["linear"]}}, "timeout": 300, "rateLimit": 1}
        )

    return connect


def milliseconds(stamp: pd.Timestamp) -> int:
    return stamp.value // 1_000_000


def truth_and_now(bars):
    return Exchange([Series("linear", "BTCUSDT", bars)]), milliseconds(bars.frame.index[-1]) + 60_000


def spoiled(faults, exchange, now_ms, **query):
    """Return a page as clients get it, or None where the reply is none."""
    query = {"symbol": "BTCUSDT", "category": "linear", "interval": "60"} | query
    kind, chance = faults.choose("kline", query)
    if kind in REPLY_FAULTS:
        return None
    page = faults.late_values(exchange.candles("trade", query, now_ms), now_ms)
    return faults.spoil_page(kind, page, now_ms, chance)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), first=st.integers(0, 1000), count=st.integers(1, 100))
def test_who_asks_three_times_gets_the_truth(hourly_bars, seed, first, count):
    exchange, now_ms = truth_and_now(hourly_bars)
    faults = Faults(seed, rate=1)
    start = milliseconds(hourly_bars.open_times[first])
    query = {"start": str(start), "end": str(start + (count - 1) * HOUR_MS), "limit": "1000"}
    true = exchange.candles("trade", {"symbol": "BTCUSDT", "interval": "60"} | query, now_ms)
    pages = [spoiled(faults, exchange, now_ms, **query) for _ in range(6)]
    for three in (pages[:3], pages[3:]):
        assert any(page is not None and np.array_equal(page.values, true.values) for page in three)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), starts=st.lists(st.integers(0, 20), min_size=12, max_size=30))
def test_no_candle_is_hidden_more_than_twice_in_a_row_by_whatever_window(hourly_bars, seed, starts):
    exchange, now_ms = truth_and_now(hourly_bars)
    faults = Faults(seed, rate=1, kinds=("missing", "empty"))
    hidden = np.zeros(60, dtype=int)
    for start in starts:
        start_ms = milliseconds(hourly_bars.open_times[start])
        end_ms = milliseconds(hourly_bars.open_times[59])
        page = spoiled(faults, exchange, now_ms, start=str(start_ms), end=str(end_ms))
        hidden[start:] += 1
        hidden[page.rows] = 0
        assert hidden.max() <= 2


@pytest.mark.parametrize("kind", ROW_FAULTS)
def test_a_spoiled_page_is_wrong_in_its_own_way_and_counted(hourly_bars, kind):
    exchange, now_ms = truth_and_now(hourly_bars)
    faults = Faults(5, rate=1, kinds=(kind,))
    query = {"start": str(milliseconds(hourly_bars.open_times[0])), "limit": "50"}
    true = exchange.candles("trade", {"symbol": "BTCUSDT", "interval": "60"} | query, now_ms)
    page = spoiled(faults, exchange, now_ms, **query)
    rows = page.rows.tolist()
    finals = np.array_equal(page.values, exchange.by_name["linear", "BTCUSDT"].charts["trade"].own.values[rows])
    assert faults.counts == {kind: 1}
    assert finals == (kind != "revised")
    if kind == "missing":
        assert 0 < len(rows) < len(true.rows)
    if kind == "empty":
        assert rows == []
    if kind in ("duplicate", "revised"):
        assert sorted(set(rows)) == true.rows.tolist() == sorted(set(rows)) != rows
    if kind == "out_of_order":
        assert sorted(rows) == true.rows.tolist() != rows


def test_the_same_seed_spoils_alike_and_another_one_otherwise(hourly_bars):
    exchange, now_ms = truth_and_now(hourly_bars)
    query = {"start": str(milliseconds(hourly_bars.open_times[0])), "limit": "50"}

    def history(seed):
        faults = Faults(seed, rate=1, kinds=ROW_FAULTS)
        return [spoiled(faults, exchange, now_ms, **query).rows.tolist() for _ in range(10)]

    assert history(1) == history(1)
    assert history(1) != history(2)


def test_no_rows_are_spoiled_beyond_the_time_that_is_shown(hourly_bars):
    """A page with a forming candle never tells more of it than the clock allows, whatever the fault."""
    exchange, _ = truth_and_now(hourly_bars)
    now_ms = milliseconds(hourly_bars.open_times[30]) + HOUR_MS // 3
    forming = exchange.candles("trade", {"symbol": "BTCUSDT", "interval": "60"}, now_ms).values[-1]
    for seed in range(200):
        page = spoiled(Faults(seed, rate=1, kinds=ROW_FAULTS), exchange, now_ms)
        told = page.values[page.rows == 30]
        assert (told == forming).all()


@pytest.mark.parametrize("kind", REPLY_FAULTS)
def test_ccxt_raises_for_a_bad_reply_or_gets_nothing_and_the_third_time_all(replay, client, hourly_bars, kind):
    server = replay(hourly_bars, faults=Faults(rate=1, kinds=(kind,)))
    market = {"symbol": "BTCUSDT", "interval": "60", "category": "linear"}
    exchange = client(server)
    for _ in range(2):
        if kind == "malformed":  # ccxt takes it for an empty reply
            assert not isinstance(exchange.public_get_v5_market_kline(market), dict)
            continue
        with pytest.raises(NETWORK_ERRORS):
            exchange.public_get_v5_market_kline(market)
    assert len(exchange.public_get_v5_market_kline(market)["result"]["list"]) == 200
    assert server.counts.faults == {kind: 2}
    assert server.counts.requests == {"kline": 3}


def test_the_time_that_is_told_is_at_most_a_second_off(replay, client, hourly_bars):
    now = hourly_bars.frame.index[-1]
    server = replay(hourly_bars, clock=Clock(now, speed=0), faults=Faults(kinds=("jitter",)))
    exchange = client(server)
    off = {exchange.fetch_time() - milliseconds(now) for _ in range(20)}
    assert len(off) > 1
    assert all(abs(one) <= 1000 for one in off)
    assert server.counts.faults == {"jitter": 20}


def test_funding_is_repeated_shuffled_or_empty_but_in_the_end_told(replay, client, hourly_bars):
    rates = pd.Series(np.arange(40) / 1e5, index=hourly_bars.open_times[::8][:40])
    server = replay(
        Series("linear", "BTCUSDT", hourly_bars, funding=rates), faults=Faults(rate=1, kinds=ROW_FAULTS)
    )
    exchange, query = client(server), {"symbol": "BTCUSDT", "category": "linear"}
    answers = [exchange.public_get_v5_market_funding_history(query)["result"]["list"] for _ in range(9)]
    true = [milliseconds(stamp) for stamp in rates.index[::-1]]
    told = [[int(event["fundingRateTimestamp"]) for event in answer] for answer in answers]
    assert true in told[:3]
    assert all(set(times) in (set(), set(true)) for times in told)
    assert sum(times != true for times in told) == sum(server.counts.faults.values()) > 0


def test_holes_are_never_filled(replay, client, hourly_bars):
    first, end = hourly_bars.open_times[100], hourly_bars.open_times[110]
    exchange = client(replay(hourly_bars, faults=Faults(kinds=(), holes=[(first, end)])))
    since = milliseconds(hourly_bars.open_times[90])
    told = [row[0] for row in exchange.fetch_ohlcv("BTC/USDT:USDT", "1h", since, 30)]
    absent = [since + hours * HOUR_MS for hours in range(30) if since + hours * HOUR_MS not in told]
    assert absent == list(range(milliseconds(first), milliseconds(end), HOUR_MS))


def test_a_late_revision_lasts_less_than_a_second_and_shows_an_earlier_state(hourly_bars):
    exchange, _ = truth_and_now(hourly_bars)
    faults = Faults(3, rate=1, kinds=("revised",))
    close_ms = milliseconds(hourly_bars.frame.index[30])
    query = {"symbol": "BTCUSDT", "interval": "60"}

    def shown(now_ms):
        page = faults.late_values(exchange.candles("trade", query, now_ms), now_ms)
        return page.values[page.rows == 30][0].tolist()

    final = exchange.candles("trade", query, close_ms).values[-2].tolist()
    assert shown(close_ms) == shown(close_ms - 1) != final
    assert shown(close_ms + 1000) == final
    assert faults.counts["revised"] == 1


@pytest.mark.parametrize("wrong", [{"kinds": ("boring",)}, {"rate": 1.5}, {"socket_rate": -1}])
def test_wrong_settings_are_refused(wrong):
    with pytest.raises(ConfigError):
        Faults(**wrong)


def test_an_empty_hole_is_refused():
    with pytest.raises(ConfigError, match="hole"):
        Faults(holes=[("2024-01-02", "2024-01-01")])
