import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from hypothesis import given, settings
from hypothesis import strategies as st

from hissbt.errors import BarsError, StoreError
from hissbt.feeds import load_bars
from hissbt.feeds.store import BarStore, Dataset
from hissbt.market import Market

HOURLY = Dataset("bybit", "mainnet", "BTC/USDT:USDT", "trade", "1h")
FUNDING = Dataset("bybit", "mainnet", "BTC/USDT:USDT", "funding", "event")
HOUR_MS = 3_600_000
START_MS = 1_704_067_200_000  # 2024-01-01


def rows_of(bars):
    return np.column_stack([bars.open_times.asi8 // 10**6, bars.frame.to_numpy()])


def made_rows(count, start_ms=START_MS, step_ms=HOUR_MS):
    """Return trade rows with values that no two of them share."""
    number = np.arange(count, dtype=float)
    close = 100 + number / 7
    return np.column_stack([start_ms + number * step_ms, close - 0.1, close + 1, close - 1, close, number])


def utc(ms):
    return pd.Timestamp(ms, unit="ms", tz="UTC")


@pytest.fixture
def store(tmp_path):
    return BarStore(tmp_path)


@pytest.fixture(scope="module")
def rows(hourly_bars):
    return rows_of(hourly_bars)


def month_file(store, dataset=HOURLY, name="2024-01"):
    return store.folder(dataset) / f"{name}.parquet"


# --- what goes in comes out


def test_bars_come_back_to_the_last_digit(store, hourly_bars, rows):
    for first in range(0, len(rows), 250):
        store.write(HOURLY, rows[first : first + 250])
    store.set_market(HOURLY, hourly_bars.market)
    assert store.bars(HOURLY).sha256 == hourly_bars.sha256
    assert store.bars(HOURLY).market == hourly_bars.market


def test_a_dataset_is_cut_into_months_by_the_open(store, rows):
    store.write(HOURLY, rows)
    files = sorted(path.name for path in store.folder(HOURLY).glob("*.parquet"))
    assert files == ["2024-01.parquet", "2024-02.parquet"]
    # The bar that opens at 23:00 closes in the next month.
    assert pd.read_parquet(month_file(store))["time"].max() == pd.Timestamp("2024-01-31 23:00", tz="UTC")


def test_a_part_is_read_by_when_bars_open(store, rows):
    store.write(HOURLY, rows)
    opens = store.opens(HOURLY, utc(rows[10, 0]), utc(rows[800, 0]))
    assert opens.dtype == np.int64
    assert opens.tolist() == rows[10:800, 0].tolist()
    bars = store.bars(HOURLY, utc(rows[10, 0]), utc(rows[800, 0]))
    assert (rows_of(bars) == rows[10:800]).all()
    half_past = utc(rows[800, 0] + HOUR_MS // 2)
    assert len(store.bars(HOURLY, None, half_past)) == 800


def test_what_was_never_written_is_empty(store):
    assert store.opens(HOURLY).size == 0
    assert store.funding(FUNDING).empty
    assert (store.market(HOURLY), store.gaps(HOURLY), store.begins(HOURLY)) == (None, [], None)
    assert store.datasets() == []
    assert not any(store.root.iterdir())
    with pytest.raises(StoreError, match="there are no bars of bybit mainnet BTC/USDT:USDT trade 1h"):
        store.bars(HOURLY)


def test_nothing_to_write_leaves_no_trace(store):
    store.write(HOURLY, np.empty((0, 6)))
    assert not any(store.root.iterdir())


def test_marks_have_no_volume_and_a_premium_may_be_negative(store):
    mark, premium = replace(HOURLY, kind="mark"), replace(HOURLY, kind="premium")
    store.write(mark, made_rows(3)[:, :5])
    assert store.bars(mark).frame["volume"].tolist() == [0, 0, 0]
    values = made_rows(3)[:, :5] * [1, -1e-6, -1e-6, -1e-6, -1e-6]
    store.write(premium, values)
    assert (store.rows(premium) == values).all()
    with pytest.raises(BarsError, match="a price of zero or less"):
        store.bars(premium)


def test_funding_is_a_series_by_event(store):
    events = np.array([[START_MS + 8 * HOUR_MS * i, rate] for i, rate in enumerate((1e-4, -2.5e-5, 0.0))])
    store.write(FUNDING, events)
    series = store.funding(FUNDING)
    assert series.tolist() == [1e-4, -2.5e-5, 0.0]
    assert series.index.tolist() == [utc(ms) for ms in events[:, 0]]
    assert str(series.index.tz) == "UTC"


def test_the_market_the_gaps_and_the_beginning_are_kept(store):
    market = Market("BTC/USDT:USDT", 0.1, 0.001, 0.00055, -0.0001, "24/7", 0.001, 5.0, 100.0, "linear")
    store.set_market(HOURLY, market)
    store.set_gaps(HOURLY, [(START_MS + HOUR_MS, START_MS + 2 * HOUR_MS), (START_MS - HOUR_MS, START_MS)])
    store.set_begins(HOURLY, START_MS)
    again = BarStore(store.root)
    assert again.market(HOURLY) == market
    assert again.gaps(HOURLY) == [(START_MS - HOUR_MS, START_MS), (START_MS + HOUR_MS, START_MS + 2 * HOUR_MS)]
    assert again.begins(HOURLY) == START_MS
    with pytest.raises(StoreError, match="ends before it begins"):
        store.set_gaps(HOURLY, [(START_MS, START_MS)])


def test_networks_kinds_symbols_and_timeframes_are_kept_apart(store):
    others = [
        replace(HOURLY, network="testnet"),
        replace(HOURLY, network="127_0_0_1_8080"),
        replace(HOURLY, exchange="binance"),
        replace(HOURLY, symbol="BTC/USDT"),
        replace(HOURLY, symbol="BTC/USDT:USDT-240329"),
        replace(HOURLY, kind="mark"),
        replace(HOURLY, timeframe="1d"),
    ]
    store.write(HOURLY, made_rows(2))
    assert all(store.opens(other).size == 0 for other in others)
    for other in others:
        store.set_begins(other, 1)
    assert set(store.datasets()) == {HOURLY, *others}


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HISSBT_STORE", str(tmp_path / "elsewhere"))
    assert BarStore().root == tmp_path / "elsewhere"
    monkeypatch.delenv("HISSBT_STORE")
    assert BarStore().root.name == "bars"


@pytest.mark.parametrize("changes", [{"exchange": "../x"}, {"network": "a b"}, {"symbol": ".."}, {"symbol": ""}])
def test_a_dataset_cannot_leave_its_folder(changes):
    with pytest.raises(StoreError):
        replace(HOURLY, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "tick"}, "unknown kind 'tick'"),
        ({"timeframe": "60m"}, "write 1h"),
        ({"timeframe": "event"}, "unknown timeframe"),
        ({"kind": "funding"}, "write event"),
    ],
)
def test_a_dataset_has_one_spelling(changes, message):
    with pytest.raises((StoreError, BarsError), match=message):
        replace(HOURLY, **changes)


# --- merging


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 119), st.integers(1, 50)), min_size=1, max_size=6),
    st.randoms(use_true_random=False),
)
def test_any_order_of_overlapping_windows_ends_in_their_union(windows, shuffle):
    rows = made_rows(120, START_MS + 28 * 24 * HOUR_MS)  # five days around the end of a month
    with tempfile.TemporaryDirectory() as folder:
        store = BarStore(folder)
        for first, count in windows:
            window = rows[first : first + count].tolist()
            shuffle.shuffle(window)
            store.write(HOURLY, np.array(window))
        present = sorted({i for first, count in windows for i in range(first, min(first + count, 120))})
        assert (store.rows(HOURLY) == rows[present]).all()
        assert len(store.rows(HOURLY)) == len(present)


def test_a_row_that_differs_is_refused_and_nothing_is_written(store):
    rows = made_rows(40, START_MS + 30 * 24 * HOUR_MS)
    store.write(HOURLY, rows[:20])
    before = month_file(store).read_bytes()
    revised = rows.copy()
    revised[19, 5] += 1
    with pytest.raises(StoreError, match=r"2024-01.parquet has the row \[.* 19.0\], and not \[.* 20.0\]"):
        store.write(HOURLY, revised[10:])
    assert month_file(store).read_bytes() == before
    assert not month_file(store, name="2024-02").exists()
    store.write(HOURLY, revised[10:], revise=True)
    assert (store.rows(HOURLY) == revised).all()


def test_a_month_that_does_not_change_is_not_written(store):
    store.write(HOURLY, made_rows(900))
    january, february = month_file(store), month_file(store, name="2024-02")
    before = january.stat().st_ino, february.stat().st_ino
    store.write(HOURLY, made_rows(901)[700:])
    assert january.stat().st_ino == before[0]
    assert february.stat().st_ino != before[1]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: rows[:, :5], r"of shape \(4, 5\): pass \[N, 6\]"),
        (lambda rows: rows * [1, 1, 1, 1, 1, np.nan], "missing or not finite"),
        (lambda rows: rows[[0, 1, 1, 2]], "the time of another row"),
        (lambda rows: np.add(rows, [1, 0, 0, 0, 0, 0]), "an open off the grid of 1h"),
        (lambda rows: np.add(rows, [0.5, 0, 0, 0, 0, 0]), "between two milliseconds"),
        (lambda rows: rows * [1, 1, 0.5, 1, 1, 1], "a high below its open"),
        (lambda rows: rows * [1, 1, 1, 1, 1, -1], "a negative volume"),
    ],
)
def test_bad_rows_are_refused_before_anything_is_touched(store, spoil, message):
    with pytest.raises((StoreError, BarsError), match=message):
        store.write(HOURLY, spoil(made_rows(4)))
    assert not any(store.root.iterdir())


def test_weeks_open_on_mondays(store):
    weekly = replace(HOURLY, timeframe="1w")
    store.write(weekly, made_rows(3, START_MS, 7 * 24 * HOUR_MS))  # 2024-01-01 was a Monday
    with pytest.raises(StoreError, match="off the grid of 1w"):
        store.write(weekly, made_rows(3, START_MS - 4 * 24 * HOUR_MS, 7 * 24 * HOUR_MS))


# --- files that are not as they should be


def rewrite(path, change):
    pq.write_table(change(pq.read_table(path)), path)


def swap(table, first, second):
    order = list(range(table.num_rows))
    order[first], order[second] = order[second], order[first]
    return table.take(order)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "cannot be read, it may be damaged"),
        (lambda path: path.write_bytes(b""), "cannot be read, it may be damaged"),
        (lambda path: rewrite(path, lambda t: t.replace_schema_metadata({"hissbt_schema": "99"})), "version 99"),
        (lambda path: rewrite(path, lambda t: t.replace_schema_metadata({})), "schema version none"),
        (lambda path: rewrite(path, lambda t: t.append_column("vwap", t["close"])), "has columns other than"),
        (lambda path: rewrite(path, lambda t: t.drop_columns(["volume"])), "has columns other than"),
        (lambda path: rewrite(path, lambda t: swap(t, 3, 4)), "not in the order of time"),
        (lambda path: rewrite(path, lambda t: t.take([0, 1, 1, 2])), "repeated"),
        (lambda path: rewrite(path, lambda t: t.slice(0, 0)), "has no rows"),
        (
            lambda path: rewrite(path, lambda t: t.set_column(5, "volume", pa.array([None] * 20, pa.float64()))),
            "has missing values",
        ),
        (
            lambda path: rewrite(path, lambda t: t.set_column(5, "volume", pa.array([np.inf] * 20))),
            "not finite",
        ),
        (lambda path: path.rename(path.with_name("2024-03.parquet")), "has rows of another month"),
        (lambda path: path.rename(path.with_name("2024-13.parquet")), "is not named after a month"),
    ],
)
def test_a_month_file_that_cannot_be_trusted_is_named_with_a_remedy(store, spoil, message):
    store.write(HOURLY, made_rows(20))
    spoil(month_file(store))
    for use in (store.bars, store.opens):
        with pytest.raises(StoreError, match=message) as error:
            use(HOURLY)
        assert str(store.folder(HOURLY)) in str(error.value)
        assert "fetch its span again" in str(error.value)


def test_a_flipped_bit_in_a_value_is_noticed(store):
    store.write(HOURLY, made_rows(700))
    raw = bytearray(month_file(store).read_bytes())
    raw[len(raw) // 2] ^= 1
    month_file(store).write_bytes(raw)
    with pytest.raises(StoreError, match="may be damaged"):
        store.bars(HOURLY)


def test_new_rows_do_not_hide_a_damaged_file(store):
    store.write(HOURLY, made_rows(20))
    month_file(store).write_bytes(b"PAR1")
    with pytest.raises(StoreError, match="may be damaged"):
        store.write(HOURLY, made_rows(30))


def test_a_description_that_cannot_be_trusted_is_named(store):
    store.write(HOURLY, made_rows(2))
    path = store.folder(HOURLY) / "dataset.json"
    good = json.loads(path.read_text())
    bad = [
        {"schema_version": 2},
        {"market": {"symbol": "X", "colour": "red"}},
        {"market": {"symbol": "X", "contract": "quanto"}},
        {"dataset": good["dataset"] | {"network": "testnet"}},
        {"gaps": [[1]]},
    ]
    for text in (*(json.dumps(good | change) for change in bad), "{", "[]"):
        path.write_text(text)
        for use in (store.bars, store.market, lambda dataset: store.write(dataset, made_rows(3))):
            with pytest.raises(StoreError, match=HOURLY.network):
                use(HOURLY)


def test_a_store_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file is a file"):
        BarStore(tmp_path / "file").write(HOURLY, made_rows(1))


# --- several processes, some of which are killed


def write_windows(root, windows, log):
    """Write windows of made rows; note each in the log when it is finished."""
    store, rows = BarStore(root), made_rows(2_000)
    handle = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    for first, end in windows:
        store.write(HOURLY, rows[first:end])
        os.write(handle, f"{first} {end}\n".encode())


def finished(log):
    """Return the numbers of the rows in the windows that a log calls finished."""
    text = log.read_text() if log.exists() else ""
    windows = [map(int, line.split()) for line in text.splitlines()]
    return sorted({i for first, end in windows for i in range(first, end)})


@pytest.fixture
def start():
    """Start real processes quickly; they fork from a server that has imported what they need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hissbt.feeds.store", "filelock", "pyarrow.parquet"])

    def begin(*arguments):
        process = context.Process(target=write_windows, args=arguments)
        process.start()
        return process

    return begin


def wait_for_temporary(folder, process):
    while process.is_alive():
        if any(name.startswith(".2024") for name in (os.listdir(folder) if folder.exists() else ())):
            return


def test_a_kill_at_any_moment_loses_no_finished_window(store, start, tmp_path):
    chance, log, rows, caught = random.Random(5), tmp_path / "log", made_rows(2_000), 0
    for number in range(24):
        windows = [(first, first + 25) for first in range(0, 2_000, 20)]
        chance.shuffle(windows)
        process = start(store.root, [(first, min(end, 2_000)) for first, end in windows], log)
        if number % 2:
            wait_for_temporary(store.folder(HOURLY), process)  # kill between write and rename, or in the rename
        else:
            process.join(chance.uniform(0.02, 0.3))
        process.kill()
        process.join()
        caught += any(store.folder(HOURLY).glob(".2024*"))
        present = store.opens(HOURLY)
        known = finished(log)
        assert set(rows[known, 0]) <= set(present)
        numbers = (present - START_MS) // HOUR_MS
        assert (store.rows(HOURLY) == rows[numbers]).all()
    assert caught > 0
    store.write(HOURLY, rows)
    assert (store.rows(HOURLY) == rows).all()
    assert sorted(path.name for path in store.folder(HOURLY).glob(".*")) in ([], [".lock"])


def test_two_writers_of_one_dataset_lose_nothing(store, start, tmp_path):
    windows = [(first, first + 40) for first in range(0, 2_000, 40)]
    processes = [start(store.root, windows[turn::2], tmp_path / f"log{turn}") for turn in (0, 1)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert (store.rows(HOURLY) == made_rows(2_000)).all()


def test_a_writer_that_keeps_the_dataset_too_long_is_named(tmp_path):
    store = BarStore(tmp_path, lock_timeout_s=0.05)
    store.write(HOURLY, made_rows(2))
    with (
        FileLock(store.folder(HOURLY) / ".lock"),
        pytest.raises(StoreError, match=r"another process has kept bybit mainnet .* for 0.05 s"),
    ):
        store.write(HOURLY, made_rows(3))
    store.write(HOURLY, made_rows(3))


# --- real data


def test_the_gaps_of_a_file_are_those_of_the_store(store, market_data):
    bars = load_bars(market_data / "binance_spot_BTCUSDT_1h_2017-08_2024-04_GAPS.csv.gz")
    spot = Dataset("binance", "mainnet", "BTC/USDT", "trade", "1h")
    rows = rows_of(bars)
    for first, end in pairwise([*range(0, len(rows), 20_000), len(rows)]):
        store.write(spot, rows[first:end])
    stored = store.bars(spot)
    assert stored.gaps == bars.gaps
    assert (len(stored.gaps), stored.missing) == (28, 128)
    assert (stored.gaps[2].missing, max(gap.missing for gap in stored.gaps)) == (bars.gaps[2].missing, 33)


def test_importing_the_store_loads_nothing_of_an_exchange():
    code = (
        "import sys, hissbt.feeds.store\n"
        "assert not {'ccxt', 'yfinance', 'backtrader', 'aiohttp', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_store_is_a_folder_of_plain_files(store):
    store.write(HOURLY, made_rows(2))
    (path,) = Path(store.root).rglob("*.parquet")
    assert path.relative_to(store.root).parts == (
        *("bybit", "mainnet", "BTC%2FUSDT%3AUSDT", "trade", "1h"),
        "2024-01.parquet",
    )
