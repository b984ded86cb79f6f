import asyncio
import json
import logging
import os
import re
import signal
import subprocess
import sys
import traceback

import numpy as np
import pandas as pd
import pytest

from hissbt.bars import Bars
from hissbt.console import show_fetched
from hissbt.errors import ConfigError, FetchError
from hissbt.feeds import load_bars
from hissbt.feeds.exchange import network_of
from hissbt.feeds.fetch import fetch
from hissbt.feeds.history import Fetched
from hissbt.feeds.replay import Clock, Faults, Series
from hissbt.feeds.store import BarStore, Dataset
from hissbt.market import Market

BTC = "BTC/USDT:USDT"
HOUR = pd.Timedelta(hours=1)
START = pd.Timestamp("2024-01-01", tz="UTC")  # where the hourly bars begin
END = START + 1200 * HOUR
QUICK = {"pause_s": 0.002, "timeout_s": 0.3, "patience_s": 20.0}


@pytest.fixture
def store(tmp_path) -> BarStore:
    return BarStore(tmp_path / "store")


def fetch_one(store: BarStore, url: str, **options) -> Fetched:
    asked = {"exchange": "bybit", "symbols": [BTC], "timeframe": "1h", "since": START} | QUICK | options
    return fetch(**asked, store=store, endpoint=url)[0]


def without_rows(bars: Bars, *rows: range) -> Bars:
    left = np.delete(np.arange(len(bars)), np.concatenate([list(one) for one in rows]))
    return Bars(bars.frame.iloc[left], bars.market, bars.timeframe)


def values(bars: Bars) -> np.ndarray:
    return bars.arrays()


def rows_of(bars: Bars) -> np.ndarray:
    """Return bars as the store has rows: the open in ms, then the values."""
    return np.column_stack([bars.open_times.asi8 // 1_000_000, values(bars)[:, 1:]])


# --- complete


def test_the_store_holds_what_the_exchange_has_to_the_last_digit(replay, hourly_bars, store):
    fetched = fetch_one(store, replay(hourly_bars).url)
    assert fetched.bars == len(hourly_bars)
    assert np.array_equal(values(store.bars(fetched.dataset)), values(hourly_bars))


@pytest.mark.parametrize("truncate", ["start", "end"])
@pytest.mark.parametrize("seed", range(3))
def test_faults_that_pass_cost_requests_and_no_bars(replay, hourly_bars, store, seed, truncate):
    server = replay(hourly_bars, faults=Faults(seed, rate=0.5), truncate=truncate)
    fetched = fetch_one(store, server.url)
    assert np.array_equal(values(store.bars(fetched.dataset)), values(hourly_bars))
    assert fetched.gaps == ()
    assert server.counts.faults.total() > 0


@pytest.mark.parametrize("kind", ["missing", "empty", "revised", "duplicate", "out_of_order", "malformed", "cut"])
def test_each_fault_that_could_pass_for_an_answer_is_survived(replay, hourly_bars, store, kind):
    server = replay(hourly_bars, faults=Faults(5, rate=0.6, kinds=[kind]))
    fetched = fetch_one(store, server.url)
    assert np.array_equal(values(store.bars(fetched.dataset)), values(hourly_bars))
    assert server.counts.faults[kind] > 0


def test_every_kind_of_series_is_fetched(replay, hourly_bars, store):
    other = Bars(hourly_bars.frame * 1.01, hourly_bars.market, "1h")
    server = replay(Series("linear", "BTCUSDT", hourly_bars, mark=other, funding=funding_of(8 * HOUR, each=150)))
    done = fetch(
        "bybit",
        [BTC],
        "1h",
        since=START,
        kinds=("trade", "mark", "index", "premium", "funding"),
        store=store,
        endpoint=server.url,
        **QUICK,
    )
    assert [one.dataset.kind for one in done] == ["trade", "mark", "index", "premium", "funding"]
    trade, mark, index, premium, _ = (store.rows(one.dataset) for one in done)
    assert np.array_equal(trade, rows_of(hourly_bars))
    assert np.array_equal(mark, rows_of(other)[:, :5])
    assert np.array_equal(index, rows_of(hourly_bars)[:, :5])
    assert np.array_equal(premium, rows_of(hourly_bars)[:, :5]), "a premium is no price, so it is compared as rows"


@pytest.mark.parametrize(
    ("symbol", "category"), [("BTC/USDT", "spot"), (BTC, "linear"), ("BTC/USD:BTC", "inverse")]
)
def test_each_category_is_fetched_with_its_market(replay, hourly_bars, store, symbol, category):
    name = "BTCUSD" if category == "inverse" else "BTCUSDT"
    server = replay(hourly_bars, symbol=name, category=category)
    fetched = fetch_one(store, server.url, symbols=[symbol])
    got, expected = rows_of(store.bars(fetched.dataset)), rows_of(hourly_bars)
    compared = slice(
        5 if category == "inverse" else 6
    )  # of inverse contracts ccxt has the volume in the base coin
    assert np.array_equal(got[:, compared], expected[:, compared])
    assert store.market(fetched.dataset).contract == category


def test_fees_that_were_set_in_the_store_are_kept(replay, hourly_bars, store):
    server = replay(hourly_bars)
    dataset = fetch_one(store, server.url, until=START + 10 * HOUR).dataset
    vip = Market(BTC, taker=0.0003, maker=0.0)
    store.set_market(dataset, vip)
    fetch_one(store, server.url)
    assert (store.market(dataset).taker, store.market(dataset).maker) == (0.0003, 0.0)
    assert store.market(dataset).tick > 0


@pytest.mark.parametrize("timeframe", ["4h", "1d", "1w"])
def test_coarser_bars_are_those_that_resampling_gives(replay, hourly_bars, store, timeframe):
    fetched = fetch_one(store, replay(hourly_bars).url, timeframe=timeframe)
    got, expected = store.bars(fetched.dataset), hourly_bars.resample(timeframe)
    assert np.array_equal(got.frame.index, expected.frame.index)
    assert np.allclose(values(got), values(expected), rtol=1e-12)


def test_several_symbols_share_one_client_and_keep_their_bars_apart(replay, hourly_bars, store):
    other = Bars(hourly_bars.frame * 2.0, hourly_bars.market, "1h")
    server = replay(
        Series("linear", "BTCUSDT", hourly_bars), Series("linear", "ETHUSDT", other), faults=Faults(1, rate=0.4)
    )
    symbols = [BTC, "ETH/USDT:USDT"]
    done = fetch("bybit", symbols, "1h", since=START, store=store, endpoint=server.url, **QUICK)
    assert [one.dataset.symbol for one in done] == symbols
    for one, bars in zip(done, (hourly_bars, other), strict=True):
        assert np.array_equal(values(store.bars(one.dataset)), values(bars))


def test_all_datasets_are_fetched_over_one_client(replay, hourly_bars, store):
    server = replay(Series("linear", "BTCUSDT", hourly_bars), Series("linear", "ETHUSDT", hourly_bars))
    fetch_one(store, server.url, symbols=[BTC, "ETH/USDT:USDT"], kinds=["trade", "mark"])
    assert server.counts.requests == {
        "instruments-info": 2,
        "time": 1,
        "kline": 4,
        "mark-price-kline": 4,
    }


# --- only what is missing, only what has closed


def test_a_second_download_asks_for_nothing(replay, hourly_bars, store):
    server = replay(hourly_bars)
    fetch_one(store, server.url)
    asked = server.counts.requests["kline"]
    assert fetch_one(store, server.url).requests == 0
    assert server.counts.requests["kline"] == asked


def test_after_an_interruption_only_the_rest_is_asked_for(replay, hourly_bars, store):
    server = replay(hourly_bars)
    dataset = fetch_one(store, server.url, until=START + 10 * HOUR).dataset
    rows = rows_of(hourly_bars)
    store.write(dataset, rows[100:1150])
    # Lacking are 90 bars before and 50 after: two windows of a page each.
    fetched = fetch_one(store, server.url)
    assert (fetched.bars, fetched.requests) == (140, 2)
    assert np.array_equal(store.rows(dataset), rows)


def test_what_was_downloaded_stays_when_the_download_fails(replay, hourly_bars, store):
    """A window of 1,000 bars comes, the other one never does."""
    hole = hourly_bars.open_times[1000], END
    dead = replay(hourly_bars, faults=Faults(holes=[hole]))
    with pytest.raises(FetchError, match="200 of"):
        fetch_one(store, dead.url)
    [dataset] = store.datasets()
    assert np.array_equal(store.rows(dataset), rows_of(hourly_bars)[:1000])


def test_the_tail_grows_by_the_bars_that_have_closed_since(replay, hourly_bars, store):
    clock = Clock(START + 500.5 * HOUR, speed=0)
    server = replay(hourly_bars, clock=clock)
    dataset = fetch_one(store, server.url).dataset
    assert store.opens(dataset)[-1] == (START + 499 * HOUR).value // 1_000_000
    clock.advance_to(START + 510.5 * HOUR)
    fetched = fetch_one(store, server.url)
    assert (fetched.bars, fetched.requests) == (10, 1)


def test_the_forming_bar_is_never_stored(replay, hourly_bars, store):
    for seconds, closed in ((-1, 99), (0, 99), (1, 99), (2, 100), (3599, 100)):
        clock = Clock(START + 100 * HOUR + pd.Timedelta(seconds=seconds), speed=0)
        root = BarStore(store.root / str(seconds))
        server = replay(hourly_bars, clock=clock)
        dataset = fetch_one(root, server.url).dataset
        assert np.array_equal(root.rows(dataset), rows_of(hourly_bars)[:closed])


def test_until_is_exclusive_and_since_inclusive(replay, hourly_bars, store):
    fetched = fetch_one(store, replay(hourly_bars).url, since=START + 3 * HOUR, until=START + 7 * HOUR)
    assert np.array_equal(store.rows(fetched.dataset), rows_of(hourly_bars)[3:7])


# --- holes


def test_permanent_holes_are_named_exactly(replay, hourly_bars, store):
    spans = [(50, 53), (700, 701), (990, 1010)]
    server = replay(without_rows(hourly_bars, *(range(*span) for span in spans)), faults=Faults(3, rate=0.3))
    with pytest.raises(FetchError) as caught:
        fetch_one(store, server.url)
    for first, end in spans:
        named = f"{START + first * HOUR:%Y-%m-%d %H:%M} to {START + end * HOUR:%Y-%m-%d %H:%M} ({end - first})"
        assert named in str(caught.value)
    assert "24 of bybit" in str(caught.value)
    assert "in 3 spans" in str(caught.value)


def test_holes_that_are_accepted_are_recorded_and_not_asked_for_again(replay, hourly_bars, store):
    server = replay(without_rows(hourly_bars, range(50, 53)))
    hole = (START + 50 * HOUR, START + 53 * HOUR, 3)
    assert fetch_one(store, server.url, allow_gaps=True).gaps == (hole,)
    again = fetch_one(store, server.url)
    assert again.gaps == (hole,)
    assert again.requests == 0
    assert len(store.bars(again.dataset).gaps) == 1


def test_a_download_counts_as_unfinished_until_it_is_complete(replay, hourly_bars, store):
    server = replay(without_rows(hourly_bars, range(50, 53)))
    with pytest.raises(FetchError):
        fetch_one(store, server.url)
    dataset = store.datasets()[0]
    assert store.unfinished(dataset) == (START.value // 1_000_000, END.value // 1_000_000)
    fetch_one(store, server.url, since=START + 100 * HOUR)
    assert store.unfinished(dataset) is not None
    fetch_one(store, server.url, allow_gaps=True)
    assert store.unfinished(dataset) is None


def test_a_hole_is_believed_after_four_answers(replay, hourly_bars, store):
    server = replay(without_rows(hourly_bars, range(50, 53)))
    fetched = fetch_one(store, server.url, until=START + 100 * HOUR, allow_gaps=True)
    assert fetched.requests == 4
    assert fetched.retries == {"MissingRows": 3}


def test_a_symbol_with_holes_does_not_keep_the_others_from_being_stored(replay, hourly_bars, store):
    holed = without_rows(hourly_bars, range(50, 53))
    server = replay(Series("linear", "BTCUSDT", holed), Series("linear", "ETHUSDT", hourly_bars))
    with pytest.raises(FetchError, match=r"3 of bybit \S+ BTC/USDT:USDT"):
        fetch("bybit", [BTC, "ETH/USDT:USDT"], "1h", since=START, store=store, endpoint=server.url, **QUICK)
    whole = next(dataset for dataset in store.datasets() if dataset.symbol.startswith("ETH"))
    assert np.array_equal(store.rows(whole), rows_of(hourly_bars))


def test_the_time_before_history_is_told_and_is_no_hole(replay, hourly_bars, store):
    server = replay(hourly_bars)
    fetched = fetch_one(store, server.url, since="2017-01-01")
    assert fetched.begins == START
    assert fetched.gaps == ()
    assert store.begins(fetched.dataset) == START.value // 1_000_000
    assert fetch_one(store, server.url, since="2017-01-01").requests == 0


@pytest.mark.parametrize("seed", range(4))
def test_faults_do_not_move_the_beginning_of_history(replay, hourly_bars, store, seed):
    faults = Faults(seed, rate=0.9, kinds=["missing", "empty"])
    fetched = fetch_one(store, replay(hourly_bars, faults=faults).url, since="2017-01-01")
    assert fetched.begins == START
    assert np.array_equal(store.rows(fetched.dataset), rows_of(hourly_bars))


def test_without_since_all_of_history_is_fetched_in_few_requests(replay, hourly_bars, store):
    fetched = fetch_one(store, replay(hourly_bars).url, since=None)
    assert fetched.bars == len(hourly_bars)
    assert fetched.requests < 60, "empty years are recognized by their days"


@pytest.mark.parametrize("allow_gaps", [False, True])
def test_a_span_without_any_bar_is_never_accepted(replay, hourly_bars, store, allow_gaps):
    options = {"since": "2017-01-01", "until": "2017-03-01", "allow_gaps": allow_gaps}
    with pytest.raises(FetchError, match="2017-01-01T00:00 to 2017-03-01T00:00 is missing"):
        fetch_one(store, replay(hourly_bars).url, **options)
    assert not store.gaps(store.datasets()[0])


def test_bars_missing_right_after_stored_ones_are_a_hole_though_they_come_first(replay, hourly_bars, store):
    server = replay(without_rows(hourly_bars, range(50, 53)))
    fetch_one(store, server.url, until=START + 50 * HOUR)
    with pytest.raises(FetchError, match="3 of"):
        fetch_one(store, server.url, since=START + 50 * HOUR)


def test_history_does_not_begin_behind_a_hole(replay, hourly_bars, store):
    server = replay(without_rows(hourly_bars, range(50, 60)))
    with pytest.raises(FetchError, match="5 of"):
        fetch_one(store, server.url, since=START + 55 * HOUR)
    earlier = fetch_one(store, server.url, allow_gaps=True)
    assert earlier.begins is None
    assert len(store.opens(earlier.dataset)) == len(hourly_bars) - 10


def test_the_gaps_of_real_bars_are_reported_exactly(replay, market_data, store):
    path = market_data / "binance_spot_BTCUSDT_1h_2017-08_2024-04_GAPS.csv.gz"
    bars = load_bars(path, timeframe="1h")
    fetched = fetch_one(
        store, replay(bars, category="spot").url, symbols=["BTC/USDT"], since=bars.open_times[0], allow_gaps=True
    )
    expected = [(gap.after, gap.before - HOUR, gap.missing) for gap in bars.gaps]
    assert list(fetched.gaps) == expected
    assert (len(expected), sum(count for *_, count in expected)) == (28, 128)
    stored = store.bars(fetched.dataset)
    assert np.array_equal(values(stored), values(bars))
    assert stored.gaps == bars.gaps


# --- funding


def funding_of(*steps: pd.Timedelta, each: int = 60) -> pd.Series:
    """Return funding whose interval changes after every ``each`` events."""
    times, at = [], START
    for step in steps:
        for _ in range(each):
            times.append(at)
            at += step
    return pd.Series(np.linspace(-0.001, 0.002, len(times)), pd.DatetimeIndex(times))


def funding_server(replay, bars: Bars, funding: pd.Series, **options):
    return replay(Series("linear", "BTCUSDT", bars, funding=funding), clock=Clock(END, speed=0), **options)


@pytest.mark.parametrize("seed", [None, 0, 1])
def test_funding_is_complete_though_its_interval_changes(replay, hourly_bars, store, seed):
    funding = funding_of(8 * HOUR, 4 * HOUR, HOUR, 8 * HOUR)[: START + 1190 * HOUR]
    faults = {} if seed is None else {"faults": Faults(seed, rate=0.5)}
    server = funding_server(replay, hourly_bars, funding, **faults)
    until = funding.index[-1] + HOUR
    fetched = fetch_one(store, server.url, kinds=["funding"], until=until)
    got = store.funding(fetched.dataset)
    assert np.array_equal(got.to_numpy(), funding.to_numpy())
    assert (got.index == funding.index).all()


def test_funding_is_asked_for_once_where_it_is_complete(replay, hourly_bars, store):
    funding = funding_of(8 * HOUR, each=150)
    server = funding_server(replay, hourly_bars, funding)
    first = fetch_one(store, server.url, kinds=["funding"], until=START + 1200 * HOUR)
    assert first.requests <= 9, "six windows of 200 hours, the last one of which may not be beyond doubt"
    assert fetch_one(store, server.url, kinds=["funding"], until=START + 1200 * HOUR).requests == 0


def test_a_hole_in_funding_is_named(replay, hourly_bars, store):
    funding = funding_of(8 * HOUR, each=150).drop([START + 400 * HOUR, START + 408 * HOUR])
    server = funding_server(replay, hourly_bars, funding)
    options = {"kinds": ["funding"], "until": START + 1200 * HOUR}
    with pytest.raises(FetchError, match=r"2 of bybit .* funding .*2024-01-17 16:00 to 2024-01-18 08:00 \(2\)"):
        fetch_one(store, server.url, **options)
    [gap] = fetch_one(store, server.url, allow_gaps=True, **options).gaps
    assert gap.count == 2


# --- networks, limits, secrets


def test_networks_never_share_a_dataset(replay, hourly_bars, store):
    one, other = replay(hourly_bars), replay(Bars(hourly_bars.frame * 3.0, hourly_bars.market, "1h"))
    first, second = fetch_one(store, one.url), fetch_one(store, other.url)
    assert first.dataset != second.dataset
    assert np.array_equal(values(store.bars(first.dataset)), values(hourly_bars))
    assert np.array_equal(values(store.bars(second.dataset)), values(hourly_bars) * [1, 3, 3, 3, 3, 3])


BAD = {
    "symbol": ({"symbols": ["NO/USDT:USDT"]}, "no market"),
    "category": ({"symbols": ["BTC/USD:BTC"]}, "no market"),
    "kind": ({"kinds": ["tick"]}, "unknown kind"),
    "kind of spot": ({"symbols": ["BTC/USDT"], "kinds": ["mark"]}, "spot market"),
    "timeframe": ({"timeframe": "7m"}, "no bars of 7m: choose one of 1m, "),
    "months": ({"timeframe": "1M"}, "differ in length"),
    "since between bars": ({"since": "2024-01-01T00:30"}, "write 2024-01-01T00:00 or 2024-01-01T01:00"),
    "since in the future": ({"since": "2034-01-01"}, "has closed since"),
    "until before since": ({"until": "2023-01-01"}, "choose a later until"),
    "no symbol": ({"symbols": []}, "nothing to fetch"),
    "exchange": ({"exchange": "bybitt"}, "did you mean bybit"),
}


@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_refused_and_leaves_nothing(replay, hourly_bars, store, options, message):
    with pytest.raises(ConfigError, match=message):
        fetch_one(store, replay(hourly_bars).url, **options)
    assert not store.root.exists()


def test_a_bad_symbol_costs_no_repetition(replay, hourly_bars, store):
    server = replay(hourly_bars)
    with pytest.raises(ConfigError):
        fetch_one(store, server.url, symbols=["NO/USDT:USDT"])
    assert server.counts.requests == {"instruments-info": 2}


def test_nobody_there_is_told_in_one_sentence(store):
    with pytest.raises(FetchError, match="no good answer within"):
        fetch_one(store, "http://127.0.0.1:9", patience_s=0.1)


def test_a_running_loop_is_no_hindrance(replay, hourly_bars, store):
    server = replay(hourly_bars)

    async def notebook():
        return fetch_one(store, server.url)

    assert asyncio.run(notebook()).bars == len(hourly_bars)


def test_progress_counts_every_slot_once(replay, hourly_bars, store):
    server = replay(hourly_bars, faults=Faults(2, rate=0.3))
    fetch_one(store, server.url, until=START + 30 * HOUR)
    told = []
    fetch_one(store, server.url, kinds=["trade", "mark"], progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (2400, 2400)
    assert told == sorted(told)


MEASURE = """
import sys, tracemalloc
from hissbt.feeds.fetch import fetch
from hissbt.feeds.store import BarStore
url, root, until = sys.argv[1:]
options = {"since": "2024-01-01", "store": BarStore(root), "endpoint": url}
fetch("bybit", ["BTC/USDT:USDT"], "5m", until="2024-01-01 01:00", **options)
tracemalloc.start()
fetch("bybit", ["BTC/USDT:USDT"], "5m", until=until, **options)
print(tracemalloc.get_traced_memory()[1])
"""


def test_memory_does_not_grow_with_the_number_of_bars(replay, store):
    """Four times the bars, the same peak: what is held is windows, not history."""
    prices = 100.0 + np.arange(244 * 288) % 7
    frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), prices) | {"volume": 1.0})
    frame.index = pd.date_range(START, periods=len(frame), freq="5min") + pd.Timedelta(minutes=5)
    url = replay(Bars(frame, Market("X"), "5m")).url
    peaks = []
    for until in ("2024-03-01", "2024-09-01"):
        words = [sys.executable, "-c", MEASURE, url, str(store.root / until), until]
        peaks.append(int(subprocess.run(words, capture_output=True, check=True).stdout))
    assert peaks[1] < 1.5 * peaks[0]


CANARY = "canary7f3a"


@pytest.fixture
def keys(monkeypatch):
    for name in (
        "BYBIT_API_KEY",
        "BYBIT_SECRET",
        "BYBIT_API_SECRET",
        "BYBIT_PASSWORD",
        "CCXT_API_KEY",
        "CCXT_SECRET",
    ):
        monkeypatch.setenv(name, CANARY + name)


@pytest.mark.usefixtures("keys")
def test_keys_in_the_environment_appear_in_no_log_exception_or_file(replay, hourly_bars, store, caplog):
    caplog.set_level(logging.DEBUG)
    server = replay(without_rows(hourly_bars, range(50, 53)), faults=Faults(0, rate=0.5))
    with pytest.raises(FetchError) as caught:
        fetch_one(store, server.url)
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "/v5/market/kline" in told, "the log does hold the requests"
    assert CANARY not in told
    assert not any(CANARY.encode() in path.read_bytes() for path in store.root.rglob("*") if path.is_file())


# --- the command


def run_command(*words: str, **environment: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "hissbt", "fetch", *words],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


def test_the_command_downloads_and_tells_what_it_did(replay, hourly_bars, tmp_path):
    server = replay(hourly_bars)
    words = ["bybit", f"{BTC}, {BTC}", "1h", "--since", "2024-01-01", "--store", str(tmp_path / "store")]
    done = run_command(*words, "--json", HISSBT_BYBIT_ENDPOINT=server.url)
    assert done.returncode == 0
    assert done.stderr == "", "no progress bar where nobody sees it"
    [told] = json.loads(done.stdout)["datasets"]
    assert (told["bars"], told["gaps"], told["dataset"]["symbol"]) == (1200, [], BTC)
    dataset = Dataset(**told["dataset"])
    assert np.array_equal(values(BarStore(tmp_path / "store").bars(dataset)), values(hourly_bars))


def test_the_command_fails_with_the_missing_spans_and_without_keys(replay, hourly_bars, tmp_path):
    server = replay(without_rows(hourly_bars, range(50, 53)))
    words = ["bybit", BTC, "1h", "--since", "2024-01-01", "--store", str(tmp_path), "--endpoint", server.url]
    refused = run_command(*words, "--debug", BYBIT_API_KEY=CANARY, BYBIT_SECRET=CANARY)
    assert refused.returncode == 1
    assert "2024-01-03 02:00 to 2024-01-03 05:00 (3)" in refused.stderr
    assert "Traceback" in refused.stderr
    assert CANARY not in refused.stdout + refused.stderr


def test_what_was_done_is_shown_with_the_gaps(replay, hourly_bars, store, capsys):
    server = replay(without_rows(hourly_bars, range(50, 53)))
    show_fetched([fetch_one(store, server.url, allow_gaps=True)], store.root)
    told = capsys.readouterr().out
    assert "1,197" in told
    assert f"gap in bybit {network_of('bybit', server.url)} {BTC} trade 1h: 2024-01-03 02:00 to" in told
    assert told.endswith(f"store: {store.root}\n")


def test_a_terminal_shows_how_far_the_download_is(replay, hourly_bars, tmp_path):
    words = [
        "bybit",
        BTC,
        "1h",
        "--since",
        "2024-01-01",
        "--store",
        str(tmp_path),
        "--endpoint",
        replay(hourly_bars).url,
    ]
    shown, code = in_a_terminal(*words)
    assert code == 0
    assert "1200/1200 bars" in shown
    assert in_a_terminal(*words, "--json")[0].strip() == "", "JSON is for programs"


@pytest.fixture
def heeds_interrupts():
    """Let children heed SIGINT, also where the tests run in the background of a shell, which has it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.skipif(os.name == "nt", reason="Windows sends no interrupt to one process")
def test_an_interrupted_command_says_so_and_can_be_run_again(replay, hourly_bars, tmp_path, heeds_interrupts):
    faults = Faults(0, rate=1.0, kinds=["empty"])  # which keeps the command waiting
    server = replay(hourly_bars, faults=faults)
    words = ["bybit", BTC, "1h", "--since", "2024-01-01", "--store", str(tmp_path), "--endpoint", server.url]
    command = [sys.executable, "-m", "hissbt", "fetch", *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while not server.counts.requests["kline"]:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.01)
        process.send_signal(signal.SIGINT)
        told = process.communicate()[1]
    assert (process.returncode, told) == (130, "hissbt: interrupted\n")
    assert run_command(*words).returncode == 0


def in_a_terminal(*words: str) -> tuple[str, int]:
    """Run the command with a terminal for its stderr; return what that showed, and the exit code."""
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "hissbt", "fetch", *words]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=its, env=environment) as process:
        os.close(its)
        shown = b""
        try:
            while chunk := os.read(ours, 4096):
                shown += chunk
        except OSError:  # how Linux tells that the other end was closed
            pass
        os.close(ours)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode()), process.returncode


def test_bad_input_ends_the_command_with_two():
    done = run_command("bybit", BTC, "1h", "--since", "yesterday", "--endpoint", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert done.stderr.startswith("hissbt: 'yesterday' is no")
