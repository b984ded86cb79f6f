"""Download bars from an exchange that misbehaves, and from processes that are killed; count what is lost.

``python -m tests.soak.fetch --bars FILE --schedules 200 --kills 50 [--json]`` from the repository's root, with the
tests' extra installed. The exchange is a replay server in this process. Each schedule injects every transient
fault at its own places, into a download to a fresh store. Then real ``hissbt fetch`` processes are killed by
SIGKILL, half of them while they replace a file, and finished. Last, the speed is set beside ccxt's own pagination.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from hissbt.bars import Bars
from hissbt.feeds import load_bars
from hissbt.feeds.fetch import fetch
from hissbt.feeds.replay import Faults, ReplayServer, Series
from hissbt.feeds.replay.faults import KINDS, SOCKET_FAULTS
from hissbt.feeds.store import BarStore, Dataset
from hissbt.timeframe import format_timeframe

SYMBOL, NAME = "BTC/USDT:USDT", "BTCUSDT"
HTTP_KINDS = [kind for kind in KINDS if kind not in SOCKET_FAULTS]
HURRY = {"timeout_s": 0.3, "pause_s": 0.005}
_DEADLINE_S = 60.0  # for a process that is to be killed to get that far


@dataclass
class Soak:
    """What the downloads met and what they lost.

    ``lost`` counts bars of the file that a store lacks, ``duplicated`` rows that a store has twice, ``wrong`` rows
    with other values; ``zero_faults`` names the kinds that no schedule injected.
    """

    bars: int
    schedules: int
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    requests: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    repeated_because: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    kills_while_a_file_was_replaced: int = 0
    lost_by_kills: int = 0
    speed: dict[str, float] = field(default_factory=dict)
    elapsed_s: float = 0.0

    @property
    def zero_faults(self) -> list[str]:
        """The kinds of faults that never happened: of these, nothing is proved."""
        return [kind for kind in HTTP_KINDS if not self.faults[kind]]

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost, duplicated or changed."""
        return not (self.lost or self.duplicated or self.wrong or self.lost_by_kills)


def soak(bars: Bars, schedules: int, kills: int, tell: Callable[[str], None] = lambda line: None) -> Soak:
    """Run all parts over ``bars``; ``tell`` hears of the progress."""
    began_s = time.monotonic()
    result = Soak(len(bars), schedules)
    for seed in range(schedules):
        _run_schedule(bars, seed, result)
        tell(f"schedule {seed + 1} of {schedules}: {result.faults.total():,} faults, {result.lost} bars lost")
    _kill(bars, kills, result, tell)
    result.speed = _measure(bars)
    result.elapsed_s = time.monotonic() - began_s
    return result


def _server(bars: Bars, **options) -> ReplayServer:
    return ReplayServer([Series("linear", NAME, bars)], **options)


def _fetch(bars: Bars, store: BarStore, url: str, **options):
    timeframe = format_timeframe(bars.timeframe)
    return fetch("bybit", [SYMBOL], timeframe, since=bars.open_times[0], store=store, endpoint=url, **options)[0]


# --- schedules of faults


def _run_schedule(bars: Bars, seed: int, result: Soak) -> None:
    truncate = ("start", "end")[seed % 2]
    with tempfile.TemporaryDirectory() as root, _server(bars, faults=Faults(seed), truncate=truncate) as server:
        store = BarStore(root)
        fetched = _fetch(bars, store, server.url, **HURRY)
        _compare(bars, store, fetched.dataset, result)
        result.faults += server.counts.faults
        result.repeated_because.update(fetched.retries)
        result.requests += server.counts.requests.total()


def _compare(bars: Bars, store: BarStore, dataset: Dataset, result: Soak) -> None:
    """Add up what the store's files, read without our reader, have less, twice or other than the bars."""
    files = sorted(store.folder(dataset).glob("[0-9]*.parquet"))
    tables = [pq.read_table(path).to_pandas() for path in files]
    stored = np.concatenate(
        [np.column_stack([table["time"].astype("int64"), table.iloc[:, 1:]]) for table in tables]
    )
    expected = _rows(bars)
    times, first = np.unique(stored[:, 0], return_index=True)
    both, mine, its = np.intersect1d(expected[:, 0], times, return_indices=True)
    result.lost += len(expected) - len(both)
    result.duplicated += len(stored) - len(times)
    result.wrong += len(times) - len(both) + int((expected[mine] != stored[first[its]]).any(axis=1).sum())


def _rows(bars: Bars) -> np.ndarray:
    """Return float64 [N, 6]: the open in ms since 1970, then the values."""
    return np.column_stack([bars.open_times.as_unit("ms").asi8, bars.arrays()[:, 1:]])


# --- kills


def _kill(bars: Bars, kills: int, result: Soak, tell: Callable[[str], None]) -> None:
    """Kill downloads into one store after another, each until it is complete, then compare."""
    chance = random.Random(0)
    with _server(bars) as server:
        usual_s = _duration_s(bars, server)
        while result.kills < kills:
            with tempfile.TemporaryDirectory() as root:
                store, complete = BarStore(root), False
                while result.kills < kills and not complete:
                    while_replacing = result.kills % 2 == 1
                    complete = not _kill_one(bars, store, server, while_replacing, usual_s, chance, result)
                    tell(f"kill {result.kills} of {kills}")
                dataset = _fetch(bars, store, server.url).dataset
                _compare(bars, store, dataset, result)


def _duration_s(bars: Bars, server: ReplayServer) -> float:
    """Return how long a download takes after its first request for bars."""
    with tempfile.TemporaryDirectory() as root:
        return _fetch(bars, BarStore(root), server.url).elapsed_s


def _kill_one(
    bars: Bars,
    store: BarStore,
    server: ReplayServer,
    while_replacing: bool,
    usual_s: float,
    chance: random.Random,
    result: Soak,
) -> bool:
    """Start a download and kill it; return False if it was done before. What was stored must still be there."""
    options = ["--since", bars.open_times[0].isoformat(), "--store", str(store.root), "--endpoint", server.url]
    command = [
        sys.executable,
        "-m",
        "hissbt",
        "fetch",
        "bybit",
        SYMBOL,
        format_timeframe(bars.timeframe),
        *options,
    ]
    asked = server.counts.requests["kline"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        _wait(lambda: _ends_within(0.01, process) or server.counts.requests["kline"] > asked)
        before = _stored(store)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0, usual_s))
        if while_replacing:
            _wait(lambda: process.poll() is not None or any(_temporary_files(store)))
        if process.poll() is not None:
            if process.returncode:
                raise RuntimeError(process.stderr.read().decode())
            return False
        process.kill()
    result.kills += 1
    result.kills_while_a_file_was_replaced += any(_temporary_files(store))
    result.lost_by_kills += len(before - _stored(store))
    return True


def _ends_within(seconds: float, process: subprocess.Popen) -> bool:
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    return process.returncode is not None


def _wait(until: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + _DEADLINE_S
    while not until():
        if time.monotonic() > deadline_s:
            raise TimeoutError("a download neither began nor ended: look at the replay server")


def _stored(store: BarStore) -> set[tuple[float, ...]]:
    """Return all rows of a store; raises StoreError if a kill has damaged it."""
    return {tuple(row) for dataset in store.datasets() for row in store.rows(dataset)}


def _temporary_files(store: BarStore) -> list[Path]:
    return list(store.root.glob("*/*/*/*/*/.*.parquet"))


# --- speed


def _measure(bars: Bars) -> dict[str, float]:
    """Return requests a second of our download and of ccxt's pagination, and the bars that either lost."""
    with _server(bars) as server, tempfile.TemporaryDirectory() as root:
        fetched = _fetch(bars, BarStore(root), server.url)
        ours = fetched.requests / fetched.elapsed_s
        began_s, asked = time.monotonic(), server.counts.requests["kline"]
        got = asyncio.run(_paginate(bars, server.url))
        theirs = (server.counts.requests["kline"] - asked) / (time.monotonic() - began_s)
    return {
        "requests_per_s": ours,
        "bars_per_s": fetched.bars / fetched.elapsed_s,
        "lost": len(bars) - fetched.bars,
        "paginate_requests_per_s": theirs,
        "paginate_lost": len(set(bars.open_times.as_unit("ms").asi8.tolist()) - got),
        "ratio_of_requests_per_s": ours / theirs,
    }


async def _paginate(bars: Bars, url: str) -> set[int]:
    """Return the opens that ccxt's own pagination finds, given the span and as many calls as it takes."""
    import ccxt.async_support

    addresses = {"api": {"public": url, "private": url}}
    options = {"fetchMarkets": {"types": ["linear"]}}
    async with ccxt.async_support.bybit(
        {"urls": addresses, "options": options, "enableRateLimit": False}
    ) as client:
        await client.load_markets()
        first, last = (int(bars.open_times[row].value // 1_000_000) for row in (0, -1))
        many = {"paginate": True, "paginationCalls": math.ceil(len(bars) / 1000) + 1, "until": last}
        rows = await client.fetch_ohlcv(SYMBOL, format_timeframe(bars.timeframe), first, None, many)
    return {row[0] for row in rows}


# --- the command


def main() -> int:
    """Run the soak and print it; return 1 unless every kind of fault happened and nothing was lost."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.fetch", description=__doc__.splitlines()[0])
    parser.add_argument("--bars", required=True, help="a file of bars, such as hissbt backtest takes")
    parser.add_argument("--schedules", type=int, default=200, help="how many schedules of faults")
    parser.add_argument("--kills", type=int, default=50, help="how many processes are killed")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    result = soak(load_bars(asked.bars), asked.schedules, asked.kills, lambda line: print(line, file=sys.stderr))
    print(json.dumps(vars(result), indent=2) if asked.json else _text(result))
    return 0 if result.is_clean and not result.zero_faults else 1


def _text(result: Soak) -> str:
    faults = ", ".join(f"{kind} {result.faults[kind]:,}" for kind in HTTP_KINDS)
    again = ", ".join(f"{reason} {count:,}" for reason, count in result.repeated_because.most_common())
    speed = result.speed
    return "\n".join(
        [
            f"{result.schedules} schedules over {result.bars:,} bars, {result.requests:,} requests",
            f"faults injected: {faults}",
            f"faults survived: {result.faults.total() if result.is_clean else 0:,} of {result.faults.total():,}",
            f"pages asked for again: {again}",
            f"{result.kills} kills, {result.kills_while_a_file_was_replaced} while a file was being replaced; "
            f"stored bars lost by them: {result.lost_by_kills}",
            f"bars lost {result.lost}, duplicated {result.duplicated}, wrong {result.wrong}",
            f"speed: {speed['requests_per_s']:.0f} requests/s, {speed['bars_per_s']:,.0f} bars/s; ccxt's paginate "
            f"{speed['paginate_requests_per_s']:.0f} requests/s, which loses {speed['paginate_lost']:,} bars; "
            f"ratio {speed['ratio_of_requests_per_s']:.2f}",
            f"{result.elapsed_s:.0f} s",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
