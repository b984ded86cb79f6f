import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from bundles import random_bundle

from hissbt.backtest import run_backtest
from hissbt.bars import Bars
from hissbt.errors import BarsError, FetchError
from hissbt.feeds import load_bars, load_funding
from hissbt.feeds.exchange import network_of
from hissbt.feeds.named import is_name
from hissbt.feeds.replay import Series
from hissbt.feeds.store import BarStore, Dataset
from hissbt.market import Market
from hissbt.strategies.hiss import HiSSStrategy

CLOSED_PORT = "http://127.0.0.1:1"
NAME = "bybit:BTC/USDT:USDT:1h"
HERE = Dataset("bybit", "127_0_0_1_1", "BTC/USDT:USDT", "trade", "1h")
FUNDING = Dataset("bybit", "127_0_0_1_1", "BTC/USDT:USDT", "funding", "event")
NOTHING = slice(0, 0)


def rows_of(bars):
    return np.column_stack([bars.open_times.asi8 // 10**6, bars.frame.to_numpy()])


@pytest.fixture
def store(tmp_path, monkeypatch):
    """The default store, and an exchange that nobody can reach: whoever asks it fails."""
    monkeypatch.setenv("HISSBT_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("HISSBT_BYBIT_ENDPOINT", CLOSED_PORT)
    return BarStore()


@pytest.fixture
def exchange(replay, tmp_path, monkeypatch):
    """Point the default store and the names of bybit at a server that has the given bars."""

    def serve(*series):
        server = replay(*series)
        monkeypatch.setenv("HISSBT_STORE", str(tmp_path / "store"))
        monkeypatch.setenv("HISSBT_BYBIT_ENDPOINT", server.url)
        return server

    return serve


def on_network_here(dataset):
    return replace(dataset, network=network_of("bybit"))


# --- what a complete store answers without any network


def test_bars_come_from_the_store_without_network(store, hourly_bars):
    store.write(HERE, rows_of(hourly_bars))
    store.set_market(HERE, hourly_bars.market)
    assert load_bars(NAME).sha256 == hourly_bars.sha256
    part = load_bars(NAME, since="2024-01-10 00:30", until="2024-01-20 12:30")
    assert part.sha256 == hourly_bars["2024-01-10 00:30":"2024-01-20 12:30"].sha256
    assert load_bars(NAME, until="2024-01-20").sha256 == hourly_bars[:"2024-01-20"].sha256


def test_another_spelling_of_the_timeframe_is_the_same_dataset(store, hourly_bars):
    store.write(HERE, rows_of(hourly_bars))
    assert len(load_bars("bybit:BTC/USDT:USDT:60m")) == len(hourly_bars)


def test_the_market_is_the_stored_one_or_the_one_that_is_given(store, hourly_bars):
    store.write(HERE, rows_of(hourly_bars))
    assert load_bars(NAME).market == Market("BTC/USDT:USDT")
    rules = Market("BTC/USDT:USDT", tick=0.1, quantity_step=0.001, min_notional=5.0, max_leverage=100.0)
    store.set_market(HERE, rules)
    assert load_bars(NAME).market == rules
    given = Market("BTC", taker=0.0)
    assert load_bars(NAME, market=given).market == given


def test_the_timeframe_of_a_name_cannot_be_contradicted(store, hourly_bars):
    store.write(HERE, rows_of(hourly_bars))
    assert len(load_bars(NAME, timeframe="1h")) == len(hourly_bars)
    with pytest.raises(BarsError, match="wrong timeframe 4h"):
        load_bars(NAME, timeframe="4h")


def test_accepted_gaps_and_the_time_before_history_are_not_asked_for(store, hourly_bars):
    rows = rows_of(hourly_bars)
    store.write(HERE, np.delete(rows, np.r_[100:110], axis=0))
    store.set_gaps(HERE, [(int(rows[100, 0]), int(rows[110, 0]))])
    store.set_begins(HERE, int(rows[0, 0]))
    bars = load_bars(NAME, since="2020-01-01", until="2024-01-20")
    assert (bars.open_times[0], bars.missing) == (hourly_bars.open_times[0], 10)


def test_funding_comes_from_the_store_without_network(store):
    events = np.column_stack([1_704_067_200_000 + 28_800_000 * np.arange(30.0), np.linspace(-1e-4, 1e-4, 30)])
    store.write(FUNDING, np.delete(events, [7, 8], axis=0))
    store.set_gaps(FUNDING, [(int(events[7, 0]), int(events[9, 0]))])
    funding = load_funding("bybit:BTC/USDT:USDT", since="2024-01-02", until="2024-01-05")
    assert funding.symbol == "BTC/USDT:USDT"
    assert funding.rates.tolist() == np.delete(events, [7, 8], axis=0)[3:10, 1].tolist()
    assert [hole.events for hole in funding.coverage().missing] == [2]
    assert len(load_funding("bybit:BTC/USDT:USDT")) == 28


def test_the_endpoint_chooses_the_network(store, hourly_bars, monkeypatch):
    elsewhere = Dataset("bybit", "mainnet", "BTC/USDT:USDT", "trade", "1h")
    store.write(HERE, rows_of(hourly_bars)[:100])
    store.write(elsewhere, rows_of(hourly_bars)[:200])
    assert len(load_bars(NAME)) == 100
    monkeypatch.delenv("HISSBT_BYBIT_ENDPOINT")
    assert len(load_bars(NAME)) == 200


# --- what is missing is downloaded


@pytest.mark.parametrize(
    ("kept", "since", "until"),
    [
        (NOTHING, None, None),
        (NOTHING, "2024-01-02", "2024-01-10"),
        (slice(0, 100), "2024-01-02", "2024-01-10"),
        (slice(0, 100), "2024-01-02 00:30", "2024-01-10 00:30"),
        (slice(50, 1200), "2024-01-02", "2024-01-10"),
    ],
)
def test_what_the_store_lacks_is_downloaded_once(exchange, hourly_bars, kept, since, until):
    server = exchange(hourly_bars)
    BarStore().write(on_network_here(HERE), rows_of(hourly_bars)[kept])
    wanted = hourly_bars.between(since, until)
    for _ in range(2):
        bars = load_bars(NAME, since=since, until=until)
        assert (rows_of(bars) == rows_of(wanted)).all()
        assert bars.market.tick > 0
    assert server.counts.requests["kline"] > 0
    asked = server.counts.requests["kline"]
    load_bars(NAME, since=since or "2024-01-01", until=until or "2024-02-19")
    assert server.counts.requests["kline"] == asked


def test_without_since_what_is_there_is_enough(exchange, hourly_bars):
    server = exchange(hourly_bars)
    BarStore().write(on_network_here(HERE), rows_of(hourly_bars)[200:300])
    assert len(load_bars(NAME)) == 100
    assert not server.counts.requests


def test_missing_funding_is_downloaded_once(exchange, hourly_bars):
    events = pd.date_range("2024-01-01", periods=150, freq="8h", tz="UTC")
    rates = pd.Series(np.linspace(-1e-4, 1e-4, 150), index=events)
    server = exchange(Series("linear", "BTCUSDT", hourly_bars, funding=rates))
    rows = np.column_stack([events.as_unit("ms").asi8, rates])
    BarStore().write(on_network_here(FUNDING), np.delete(rows, [7, 8], axis=0)[:40])
    name = "bybit:BTC/USDT:USDT"
    assert len(load_funding(name)) == 40
    assert load_funding(name, since="2024-01-02", until="2024-01-03").rates.tolist() == rates[3:6].tolist()
    assert not server.counts.requests
    for _ in range(2):
        funding = load_funding(name, since="2024-01-02", until="2024-02-01")
        assert funding.rates.tolist() == rates["2024-01-02":"2024-01-31"].tolist()
        assert funding.coverage("2024-01-02", "2024-02-01").share == 1
    asked = server.counts.requests["funding/history"]
    load_funding(name, since="2024-01-02", until="2024-02-01")
    assert server.counts.requests["funding/history"] == asked > 0


# --- names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bybit:1h", "lacks a symbol or a timeframe: .* bybit:BTC/USDT:USDT:1h"),
        ("bybit:BTC/USDT:USDT", "unknown timeframe 'USDT'.* bybit:BTC/USDT:USDT:1h"),
        ("bybit:BTC/USDT:USDT:1x", "unknown timeframe '1x'.* bybit:BTC/USDT:USDT:1h"),
        ("bybi:BTC/USDT:USDT:1h", r"no exchange that ccxt knows: did you mean bybit\? .* bybit:BTC/USDT:USDT:1h"),
        ("xyzzyx:BTC/USDT:1h", "no exchange that ccxt knows: write a name such as bybit:BTC/USDT:USDT:1h"),
        ("Bybit:BTC/USDT:1h", "did you mean bybit"),
        ("yahoo:SPY", "lacks a symbol or a timeframe"),
    ],
)
def test_a_bad_name_is_told_with_an_example(store, name, message):
    with pytest.raises(BarsError, match=message):
        load_bars(name)


@pytest.mark.parametrize("name", ["bybit:BTC/USDT", "bybi:BTC/USDT:USDT", "bybit:"])
def test_a_bad_name_of_funding_is_told_with_an_example(store, name):
    with pytest.raises(BarsError, match="rite a name such as bybit:BTC/USDT:USDT"):
        load_funding(name)


def test_files_are_no_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "aa:b.csv").write_text("timestamp,open\n")
    assert not any(map(is_name, ["aa:b.csv", "C:/data/bars.csv", "bars.csv", "sp500", tmp_path]))
    assert all(map(is_name, [NAME, "yahoo:SPY:1d", "binance:BTC/USDT:1d"]))


def test_loading_by_name_does_not_import_backtrader_or_yfinance(store, hourly_bars):
    store.write(HERE, rows_of(hourly_bars))
    code = (
        "import sys; from hissbt.feeds import load_bars\n"
        f"load_bars({NAME!r}); assert not {{'backtrader', 'yfinance', 'aiohttp'}} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- after a download that broke off


def test_a_download_that_broke_off_is_finished_before_its_bars_are_taken_for_all(exchange, hourly_bars):
    exchange(Series("linear", "BTCUSDT", hourly_bars))
    store, dataset = BarStore(), on_network_here(HERE)
    rows = rows_of(hourly_bars)
    store.write(dataset, rows[:700])
    store.set_unfinished(dataset, (rows[0, 0], rows[-1, 0] + 3_600_000))
    assert np.array_equal(load_bars(NAME).arrays(), hourly_bars.arrays())
    assert store.unfinished(dataset) is None


def test_bars_that_a_download_missed_do_not_go_unnoticed_later(exchange, hourly_bars):
    holed = Bars(hourly_bars.frame.drop(hourly_bars.frame.index[50:53]), hourly_bars.market, "1h")
    exchange(Series("linear", "BTCUSDT", holed))
    for _ in range(2):
        with pytest.raises(FetchError, match="3 of"):
            load_bars(NAME)


# --- a backtest cannot tell the store from the file


def backtest_bytes(bars, folder):
    bundle = random_bundle(bars[:300], warmup=20)
    params = {"prob_long": 0.5, "prob_short": 0.5}
    run = run_backtest(bars, HiSSStrategy, model=bundle, params=params, since=bars.open_times[310], out=folder)
    assert len(run.trades) > 3
    return [
        (run.folder / name).read_bytes() for name in ("ledger.parquet", "trades.csv", "fills.csv", "orders.csv")
    ]


@pytest.mark.parametrize("source", ["embedded", "real"])
def test_a_backtest_over_the_store_equals_the_one_over_the_file(store, source, tmp_path, request):
    if source == "real":
        folder = request.getfixturevalue("market_data")
        path = folder / "bybit_linear_BTCUSDT_1h.csv.gz"
    else:
        path = tmp_path / "bars.csv.gz"
        request.getfixturevalue("hourly_bars")[:400].frame.to_csv(path)
    market = Market("BTC/USDT:USDT", tick=0.1, quantity_step=0.001, min_quantity=0.001)
    bars = load_bars(path, market=market)[-400:]
    for first in range(0, 400, 64):
        store.write(HERE, rows_of(bars)[first : first + 64])
    store.set_market(HERE, market)
    stored = load_bars(NAME, since=bars.open_times[0], until=bars.frame.index[-1])
    assert stored.sha256 == bars.sha256
    assert backtest_bytes(stored, tmp_path / "stored") == backtest_bytes(bars, tmp_path / "file")
