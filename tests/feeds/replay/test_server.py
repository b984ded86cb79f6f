"""The replay server as the real ccxt clients see it, and its life from start to stop."""

import asyncio
import threading
import urllib.error
import urllib.request

import ccxt
import ccxt.async_support
import ccxt.pro
import numpy as np
import pandas as pd
import pytest

from hissbt.bars import Bars
from hissbt.errors import ConfigError
from hissbt.feeds.load import load_bars
from hissbt.feeds.replay import Clock, ReplayServer, Series
from hissbt.market import Market

HOUR_MS = 3_600_000
LINEAR, SPOT, INVERSE = "BTC/USDT:USDT", "BTC/USDT", "BTC/USD:BTC"


def connected(library, server, *types: str):
    """Return a Bybit client of ccxt, ccxt.async_support or ccxt.pro that knows no other server than this one."""
    public = {kind: f"{server.ws_url}/v5/public/{kind}" for kind in ("spot", "linear", "inverse")}
    urls = {"public": server.url, "private": server.url, "ws": {"public": public}}
    options = {"fetchMarkets": {"types": list(types or ("linear",))}}
    return library.bybit({"urls": {"api": urls}, "options": options, "rateLimit": 1})


def values(bars: Bars) -> np.ndarray:
    return bars.frame[["open", "high", "low", "close", "volume"]].to_numpy()


def since(bars: Bars, row: int) -> int:
    return bars.open_times[row].value // 1_000_000


def test_ccxt_gets_the_bars_to_the_last_digit(replay, hourly_bars):
    rows = connected(ccxt, replay(hourly_bars)).fetch_ohlcv(LINEAR, "1h", since(hourly_bars, 0), 1000)
    assert [row[0] for row in rows] == [since(hourly_bars, row) for row in range(1000)]
    assert np.array_equal(np.array(rows)[:, 1:], values(hourly_bars)[:1000])


def test_real_bars_survive_too(replay, market_data):
    bars = load_bars(market_data / "bybit_linear_BTCUSDT_1h.csv.gz")
    exchange = connected(ccxt, replay(bars))
    for row in (0, 20_000, len(bars) - 1000):
        rows = exchange.fetch_ohlcv(LINEAR, "1h", since(bars, row), 1000)
        assert np.array_equal(np.array(rows)[:, 1:], values(bars)[row : row + 1000])


def test_markets_have_the_rules_that_the_bars_state(replay, hourly_bars):
    rules = {"tick": 0.5, "quantity_step": 0.01, "min_quantity": 0.02, "min_notional": 7.0, "max_leverage": 25.0}
    bars = Bars(hourly_bars.frame, Market("BTC", **rules), hourly_bars.timeframe)
    served = [
        Series("linear", "BTCUSDT", bars),
        Series("spot", "BTCUSDT", bars),
        Series("inverse", "BTCUSD", bars),
    ]
    markets = connected(ccxt, replay(*served), "linear", "spot", "inverse").load_markets()
    assert set(markets) == {LINEAR, SPOT, INVERSE}
    for market in markets.values():
        assert market["precision"] == {**market["precision"], "price": 0.5, "amount": 0.01}
        assert market["limits"]["amount"]["min"] == 0.02
        assert market["active"]
    assert markets[LINEAR]["limits"]["cost"]["min"] == markets[SPOT]["limits"]["cost"]["min"] == 7
    assert markets[LINEAR]["limits"]["leverage"]["max"] == markets[INVERSE]["limits"]["leverage"]["max"] == 25
    assert [markets[name]["linear"] for name in (LINEAR, INVERSE)] == [True, False]


def test_rules_that_nobody_states_follow_from_the_prices(replay, market_data):
    bars = load_bars(market_data / "bybit_linear_BTCUSDT_1d.csv")
    precision = connected(ccxt, replay(bars)).load_markets()[LINEAR]["precision"]
    assert precision["price"] == 0.1


def test_mark_and_index_have_no_volume_and_are_their_own_if_given(replay, hourly_bars):
    others = Bars(hourly_bars.frame * 2, hourly_bars.market, hourly_bars.timeframe)
    exchange = connected(ccxt, replay(Series("linear", "BTCUSDT", hourly_bars, mark=others)))
    asked = LINEAR, "1h", since(hourly_bars, 0), 10
    for rows, bars in (
        (exchange.fetch_mark_ohlcv(*asked), others),
        (exchange.fetch_index_ohlcv(*asked), hourly_bars),
        (exchange.fetch_premium_index_ohlcv(*asked), hourly_bars),
    ):
        assert np.array_equal(np.array(rows)[:, 1:5].astype(float), values(bars)[:10, :4])
        assert {row[5] for row in rows} == {None}


def test_a_premium_may_be_negative(replay, hourly_bars):
    prices = pd.DataFrame(
        {"open": -1e-5, "high": 2.5e-4, "low": -0.00012345, "close": 1e-8}, index=hourly_bars.open_times
    )
    exchange = connected(ccxt, replay(Series("linear", "BTCUSDT", hourly_bars, premium=prices)))
    (row,) = exchange.fetch_premium_index_ohlcv(LINEAR, "1h", since(hourly_bars, 5), 1)
    assert row == [since(hourly_bars, 5), -1e-5, 2.5e-4, -0.00012345, 1e-8, None]


def test_funding_history_and_ticker_are_told_by_the_clock(replay, hourly_bars):
    rates = pd.Series([0.0001, -0.0002, 0.0003], index=hourly_bars.open_times[[8, 16, 20]])
    clock = Clock(hourly_bars.open_times[18], speed=0)
    exchange = connected(ccxt, replay(Series("linear", "BTCUSDT", hourly_bars, rates), clock=clock))
    told = exchange.fetch_funding_rate_history(LINEAR)
    assert [(one["timestamp"], one["fundingRate"]) for one in told] == [
        (since(hourly_bars, 8), 0.0001),
        (since(hourly_bars, 16), -0.0002),
    ]
    ticker = exchange.fetch_ticker(LINEAR)
    assert ticker["last"] == hourly_bars.frame["open"].iloc[18]
    coming = exchange.fetch_funding_rate(LINEAR)
    assert coming["fundingRate"] == -0.0002
    assert coming["fundingTimestamp"] == since(hourly_bars, 20)
    assert exchange.fetch_time() == since(hourly_bars, 18)


@pytest.mark.parametrize(
    ("ask", "error"),
    [
        (lambda exchange: exchange.fetch_ohlcv(LINEAR, "1h", limit=1001), ccxt.BadRequest),
        (lambda exchange: exchange.fetch_ohlcv(LINEAR, "1m"), ccxt.BadRequest),
        (lambda exchange: exchange.fetch_ohlcv("NO/USDT:USDT", "1h"), ccxt.BadSymbol),
        (lambda exchange: exchange.fetch_funding_rate_history(LINEAR, limit=201), ccxt.BadRequest),
        (
            lambda exchange: exchange.public_get_v5_market_kline({"symbol": "NOUSDT", "interval": "60"}),
            ccxt.BadSymbol,
        ),
    ],
)
def test_bad_questions_are_never_taken_for_trouble_on_the_way(replay, hourly_bars, ask, error):
    with pytest.raises(error) as raised:
        ask(connected(ccxt, replay(hourly_bars)))
    assert not isinstance(raised.value, ccxt.OperationFailed)


def test_many_clients_at_once_get_the_same(replay, hourly_bars):
    server = replay(hourly_bars)

    async def fetch_all():
        clients = [connected(ccxt.async_support, server) for _ in range(8)]
        try:
            asked = [client.fetch_ohlcv(LINEAR, "1h", since(hourly_bars, 0), 200) for client in clients]
            return await asyncio.gather(*asked)
        finally:
            await asyncio.gather(*[client.close() for client in clients])

    answers = asyncio.run(fetch_all())
    assert all(answer == answers[0] for answer in answers)
    assert np.array_equal(np.array(answers[0])[:, 1:], values(hourly_bars)[:200])
    assert server.counts.requests["kline"] == 8


@pytest.mark.parametrize(("category", "symbol"), [("linear", LINEAR), ("spot", SPOT)])
def test_ccxt_pro_watches_candles_until_they_close(replay, hourly_bars, category, symbol):
    server = replay(
        hourly_bars, category=category, clock=Clock(hourly_bars.open_times[20], speed=0), symbol="BTCUSDT"
    )

    async def watch():
        exchange = connected(ccxt.pro, server, category)
        rows = {}
        try:
            rows |= {row[0]: row for row in await exchange.watch_ohlcv(symbol, "1h")}
            server.clock.advance_to(hourly_bars.open_times[25])
            while since(hourly_bars, 25) not in rows:
                rows |= {row[0]: row for row in await exchange.watch_ohlcv(symbol, "1h")}
        finally:
            await exchange.close()
        return [rows[stamp] for stamp in sorted(rows)]

    rows = asyncio.run(asyncio.wait_for(watch(), timeout=30))
    assert np.array_equal(np.array(rows)[:5, 1:], values(hourly_bars)[20:25])


def test_stopping_leaves_no_thread_and_no_port(hourly_bars):
    before = set(threading.enumerate())
    server = ReplayServer([Series("linear", "BTCUSDT", hourly_bars)]).start()
    url = server.url
    assert set(threading.enumerate()) > before
    server.stop()
    server.stop()
    assert set(threading.enumerate()) == before
    with pytest.raises(urllib.error.URLError, match="refused"):
        urllib.request.urlopen(url + "/v5/market/time")


def test_it_starts_again_where_it_was(replay, hourly_bars):
    server = replay(hourly_bars)
    url = server.url
    server.stop()
    server.start()
    assert server.url == url
    assert connected(ccxt, server).fetch_time() == server.clock.now_ms()


def test_a_port_that_is_taken_is_refused(replay, hourly_bars):
    taken = int(replay(hourly_bars).url.rsplit(":", 1)[1])
    with pytest.raises(ConfigError, match=f"port {taken}"):
        replay(hourly_bars, port=taken)


def test_two_series_of_one_market_are_refused(hourly_bars):
    with pytest.raises(ConfigError, match="one of each"):
        ReplayServer([Series("linear", "BTCUSDT", hourly_bars)] * 2)


def test_a_strange_truncation_is_refused(hourly_bars):
    with pytest.raises(ConfigError, match="truncation"):
        ReplayServer([Series("linear", "BTCUSDT", hourly_bars)], truncate="middle")


@pytest.mark.parametrize(
    ("category", "symbol"), [("linear", "btcusdt"), ("linear", "USDT"), ("option", "BTCUSDT")]
)
def test_a_market_that_bybit_could_not_have_is_refused(hourly_bars, category, symbol):
    with pytest.raises(ConfigError):
        Series(category, symbol, hourly_bars)


def test_paths_that_bybit_does_not_have_are_not_found(replay, hourly_bars):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(replay(hourly_bars).url + "/v5/market/weather")
