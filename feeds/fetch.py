"""History from an exchange into the store: every slot is asked for until it is there or known to be missing.

What the store lacks is asked for in windows of one page. A slot that is missing from four answers is a hole,
except before the first bar that the exchange has. Only bars that had closed when the download began are asked for.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hissbt.bars import Time
from hissbt.errors import ConfigError, FetchError
from hissbt.feeds.exchange import ask, load_markets, market_rules, network_of, open_client, server_time_ms
from hissbt.feeds.pages import ask_page, bar_length_ms, check_ability, rows_a_page
from hissbt.feeds.slots import (
    HOUR_MS,
    BarGrid,
    FundingGrid,
    Span,
    joined,
    slot_at_or_before,
    to_ms,
    to_utc,
    windows,
    without,
)
from hissbt.feeds.store import EVENT, BarStore, Dataset
from hissbt.feeds.venues import KINDS, category
from hissbt.timeframe import format_timeframe, parse_timeframe

if TYPE_CHECKING:
    from ccxt.async_support import Exchange

GRACE_MS = 2_000
"""After its close a bar may still be revised, and the clock that the exchange tells may be off."""
ANSWERS = 4
"""In so many answers must a bar be missing to count as a hole."""

_FUNDING_GRACE_MS = 60_000
_IN_FLIGHT = 8
_PAGES_AT_ONCE = 16
_EARLIEST = "2010-01-01"
_DAY_MS = 24 * HOUR_MS
_SPANS_TOLD = 100

Progress = Callable[[int, int], None]


class Missing(NamedTuple):
    """A stretch without rows: its first open (or event), its exclusive end, and how many are missing."""

    first: pd.Timestamp
    end: pd.Timestamp
    count: int

    def __str__(self) -> str:
        return f"{self.first:%Y-%m-%d %H:%M} to {self.end:%Y-%m-%d %H:%M} ({self.count})"


@dataclass(frozen=True)
class Fetched:
    """What one dataset's download did.

    ``bars`` counts the rows that were new, ``retries`` the repeated requests by their reason. ``begins`` is the
    first open that the exchange has, where that is known. ``gaps`` are the accepted holes within the span.
    """

    dataset: Dataset
    bars: int
    requests: int
    retries: dict[str, int]
    begins: pd.Timestamp | None
    gaps: tuple[Missing, ...]
    elapsed_s: float


def fetch(
    exchange: str,
    symbols: Sequence[str],
    timeframe: str,
    *,
    since: Time | None = None,
    until: Time | None = None,
    kinds: Sequence[str] = ("trade",),
    store: BarStore | None = None,
    endpoint: str | None = None,
    testnet: bool = False,
    allow_gaps: bool = False,
    progress: Progress | None = None,
    timeout_s: float = 10.0,
    patience_s: float = 120.0,
    pause_s: float = 0.5,
) -> list[Fetched]:
    """Download what the store lacks of [since, until) and return what was done, one entry a symbol and kind.

    ``since`` and ``until`` are opens of bars; without ``since`` the exchange's whole history is meant, and
    ``until`` is cut to the bars that have closed by the exchange's clock. ``kinds`` are of trade, mark, index,
    premium and funding; funding comes by its events, whatever the timeframe. ``progress`` is called with the slots
    done and their total. One request may take ``timeout_s``, with all its repetitions ``patience_s``; the first
    repetition waits ``pause_s``, later ones longer.

    What has been downloaded stays when this raises: FetchError if the exchange cannot be reached or refuses, and,
    naming them, if bars are missing, unless ``allow_gaps`` accepts them in the store; ConfigError for a market,
    timeframe, kind or time that is not possible; StoreError if the store cannot be used.
    """
    length_ms = timeframe_ms(timeframe)
    timeframe = format_timeframe(pd.Timedelta(milliseconds=length_ms))
    symbols, kinds = list(dict.fromkeys(symbols)), tuple(dict.fromkeys(kinds))
    _check_kinds(symbols, kinds)
    categories = tuple(sorted({category(symbol) for symbol in symbols}))
    client = open_client(exchange, endpoint=endpoint, testnet=testnet, timeout_s=timeout_s, types=categories)
    for kind in kinds:
        check_ability(client, kind, timeframe)
    span = asked_span(since, until, length_ms)
    network = network_of(exchange, endpoint, testnet)
    datasets = [
        Dataset(exchange, network, symbol, kind, EVENT if kind == "funding" else timeframe)
        for symbol in symbols
        for kind in kinds
    ]
    patience = {"patience_s": patience_s, "pause_s": pause_s, "jitter": random.Random(exchange)}
    session = Session(client, store or BarStore(), patience)
    return _run(download(session, datasets, span, allow_gaps, progress))


def _run(work: Coroutine[Any, Any, list[Fetched]]) -> list[Fetched]:
    try:
        asyncio.get_running_loop()
        looping = True
    except RuntimeError:
        looping = False
    if not looping:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:  # a notebook has a running loop of its own
        return thread.submit(asyncio.run, work).result()


# --- what was asked for


def timeframe_ms(timeframe: str) -> int:
    """Return the length of bars that can be fetched. Raises BarsError and ConfigError for others."""
    if timeframe.strip().endswith("M"):
        raise ConfigError(f"bars of {timeframe} are of months, which differ in length: choose 1w or shorter")
    return parse_timeframe(timeframe) // pd.Timedelta(milliseconds=1)


def asked_span(since: Time | None, until: Time | None, length_ms: int) -> tuple[int, int | None]:
    """Return the first open and the exclusive end of what was asked for. Raises ConfigError for other times."""
    first = slot_at_or_before(to_ms(_EARLIEST), length_ms) if since is None else _open("since", since, length_ms)
    end = None if until is None else _open("until", until, length_ms)
    if end is not None and end <= first:
        raise ConfigError(f"there is nothing between since {since} and until {until}: choose a later until")
    return first, end


def _open(name: str, moment: Time, length_ms: int) -> int:
    time_ms = to_ms(moment)
    slot = slot_at_or_before(time_ms, length_ms)
    if slot != time_ms:
        raise ConfigError(f"{name} {moment} is no bar's open: write {_iso(slot)} or {_iso(slot + length_ms)}")
    return slot


def _check_kinds(symbols: list[str], kinds: tuple[str, ...]) -> None:
    if not symbols or not kinds:
        raise ConfigError("there is nothing to fetch: name at least one symbol and one kind")
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ConfigError(f"unknown kind {unknown[0]!r}: write one of {', '.join(KINDS)}")
    spot = [symbol for symbol in symbols if category(symbol) == "spot"]
    if spot and set(kinds) != {"trade"}:
        raise ConfigError(
            f"{spot[0]} is a spot market, which has bars of trade only: name a contract, such as BTC/USDT:USDT"
        )


# --- all datasets, over one client


@dataclass
class Session:
    """What downloads share: client and rate limit, store, the patience of ask(), seats for requests."""

    client: Exchange
    store: BarStore
    patience: dict[str, Any]
    seats: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_IN_FLIGHT))


async def download(
    session: Session,
    datasets: list[Dataset],
    span: tuple[int, int | None],
    allow_gaps: bool,
    progress: Progress | None = None,
) -> list[Fetched]:
    """Do what fetch() does, in a running loop; the session's client is closed after it."""
    async with session.client as client:
        await load_markets(client, [dataset.symbol for dataset in datasets], **session.patience)
        now = await server_time_ms(client, **session.patience)
        histories = [_History(session, dataset, *_closed(dataset, span, now)) for dataset in datasets]
        _count_together(histories, progress)
        await _all_or_none([history.download() for history in histories])
    return _conclude(histories, allow_gaps)


def _closed(dataset: Dataset, span: tuple[int, int | None], now: int) -> Span:
    """Return the part of a span whose bars have closed, or whose funding has been published."""
    first, end = span
    if dataset.kind == "funding":
        last = now - _FUNDING_GRACE_MS
    else:
        last = slot_at_or_before(now - GRACE_MS, bar_length_ms(dataset))
    if last <= first:
        raise ConfigError(
            f"nothing of {dataset} has closed since {_iso(first)}, for the exchange's clock shows {_iso(now)}: "
            "choose an earlier since"
        )
    return first, last if end is None else min(end, last)


def _count_together(histories: list[_History], progress: Progress | None) -> None:
    """Let all histories advance one count."""
    total = sum(history.slots(history.end - history.first) for history in histories)
    done = 0

    def advance(slots: int) -> None:
        nonlocal done
        done += slots
        if progress is not None:
            progress(done, total)

    for history in histories:
        history.advance = advance


async def _all_or_none(work: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Wait for all; when one fails, end the others before its error goes on."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _conclude(histories: list[_History], allow_gaps: bool) -> list[Fetched]:
    """Accept the holes that were found, or raise FetchError with all of them; a span without rows is no hole."""
    for history in histories:
        if history.holes == [(history.first, history.end)]:
            span = f"{_iso(history.first)} to {_iso(history.end)}"
            raise FetchError(f"nothing of {history.dataset} is to be had, {span} is missing: choose another span")
    holes = {history: history.missing(history.holes) for history in histories if history.holes}
    if holes and not allow_gaps:
        raise FetchError(f"{'; '.join(_sentence(*item) for item in holes.items())}: {_ADVICE}")
    for history in holes:
        history.accept_holes()
    return [history.fetched() for history in histories]


_ADVICE = (
    "all the rest is stored; fetch again later, or accept what is missing with --allow-gaps (allow_gaps=True)"
)


def _sentence(history: _History, missing: tuple[Missing, ...]) -> str:
    count = sum(span.count for span in missing)
    told = ", ".join(str(span) for span in missing[:_SPANS_TOLD])
    more = f" and {len(missing) - _SPANS_TOLD} more" if len(missing) > _SPANS_TOLD else ""
    return f"{count} of {history.dataset} are missing in {len(missing)} spans (UTC, end exclusive): {told}{more}"


# --- one dataset


class _History:
    """One dataset's rows in [first, end): what the store lacks of them, asked for and written."""

    def __init__(self, session: Session, dataset: Dataset, first: int, end: int):
        self.dataset, self.first, self.end = dataset, first, end
        self.holes: list[Span] = []
        self.advance: Callable[[int], None] = lambda slots: None
        self._session, self._store, self._client = session, session.store, session.client
        page = rows_a_page(session.client, dataset)
        if dataset.kind == "funding":
            self._grid: BarGrid | FundingGrid = FundingGrid(page)
        else:
            self._grid = BarGrid(bar_length_ms(dataset), page)
        self._tally: Counter[str] = Counter()
        self._new = 0
        self._gaps: list[Span] = []
        self._began_s = self._ended_s = time.monotonic()
        self._writing = asyncio.Lock()

    async def download(self) -> None:
        """Fill the store, and find the holes by reading it again."""
        await self._in_thread(self._store_market)
        self._gaps = self._store.gaps(self.dataset)
        begins = self._store.begins(self.dataset)
        first = self.first if begins is None else max(self.first, begins)
        if first >= self.end:
            raise ConfigError(f"{self.dataset} begins at {_iso(first)}: choose a later until")
        self.advance(self.slots(first - self.first))
        history, rest = (first, first) if begins is not None else await self._find_history()
        for chunk in self._chunks(rest):
            await self._fill_chunk(*chunk)
        self.holes = [] if history == first else [(first, history)]
        for chunk in self._chunks(history):
            self.holes += self._lacking(self._present(*chunk), *chunk)
        self.holes = joined(self.holes)
        self._note_beginning()
        self._ended_s = time.monotonic()

    def slots(self, span_ms: int) -> int:
        """Return how much of the progress a span is."""
        return span_ms // self._grid.step_ms

    def missing(self, spans: list[Span]) -> tuple[Missing, ...]:
        """Return spans with their counts, as people read them."""
        return tuple(Missing(to_utc(first), to_utc(end), self._count(first, end)) for first, end in spans)

    def accept_holes(self) -> None:
        """Store the holes as gaps that nobody asks for again."""
        self._gaps = joined([*self._gaps, *self.holes])
        self._store.set_gaps(self.dataset, self._gaps)

    def fetched(self) -> Fetched:
        """Return what was done."""
        begins = self._store.begins(self.dataset)
        retries = Counter(self._tally)
        requests = retries.pop("requests", 0)
        gaps = [(max(a, self.first), min(b, self.end)) for a, b in self._gaps if a < self.end and b > self.first]
        return Fetched(
            self.dataset,
            self._new,
            requests,
            dict(retries),
            None if begins is None else to_utc(begins),
            self.missing(gaps),
            self._ended_s - self._began_s,
        )

    def _count(self, first: int, end: int) -> int:
        before = self._store.opens(self.dataset, to_utc(first - 2 * _DAY_MS), to_utc(first))
        return self._grid.count(before, first, end)

    def _chunks(self, start: int) -> Iterator[Span]:
        """Yield spans of many pages each: what is held in memory at a time."""
        step = _PAGES_AT_ONCE * self._grid.window_ms
        for first in range(start, self.end, step):
            yield first, min(first + step, self.end)

    def _present(self, first: int, end: int) -> np.ndarray:
        return self._store.opens(self.dataset, to_utc(first), to_utc(end))

    def _lacking(self, present: np.ndarray, first: int, end: int) -> list[Span]:
        return without(self._grid.missing(present, first, end), self._gaps)

    async def _fill_chunk(self, first: int, end: int) -> None:
        present = await self._in_thread(self._present, first, end)
        lacking = list(windows(self._lacking(present, first, end), self._grid.window_ms))
        self.advance(self.slots(end - first) - sum(self.slots(b - a) for a, b in lacking))
        await _all_or_none([self._fill_window(present, *window) for window in lacking])

    async def _fill_window(self, present: np.ndarray, first: int, end: int) -> None:
        await self._fill(present, first, end)
        self.advance(self.slots(end - first))

    async def _fill(self, present: np.ndarray, first: int, end: int) -> int:
        """Ask for a window until it is complete, or four times; write what is new, and return how much."""
        known = present[(present >= first) & (present < end)]
        rows: dict[float, np.ndarray] = {}
        async with self._session.seats:
            for answer in range(ANSWERS):
                if answer:
                    self._tally["MissingRows"] += 1
                    await asyncio.sleep(self._session.patience["pause_s"] * 2 ** (answer - 1))
                page = await self._ask(self.dataset, first, end)
                rows |= {row[0]: row for row in page if row[0] not in rows}
                times = np.union1d(known, np.array(list(rows), dtype=np.int64))
                if self._grid.complete(times, first, end):
                    break
            new = [rows[stamp] for stamp in sorted(rows.keys() - set(known.tolist()))]
            if new:
                await self._in_thread(self._store.write, self.dataset, np.array(new))
        self._new += len(new)
        return len(new)

    async def _ask(self, dataset: Dataset, first: int, end: int) -> np.ndarray:
        return await ask(ask_page, self._client, dataset, first, end, tally=self._tally, **self._session.patience)

    async def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Keep disk work out of the loop's way, one piece at a time."""
        async with self._writing:
            return await asyncio.to_thread(call, *arguments)

    def _store_market(self) -> None:
        """Store the exchange's rules of this market; fees and calendar, once stored, are the user's."""
        rules = market_rules(self._client, self.dataset.symbol)
        old = self._store.market(self.dataset)
        if old is not None:
            rules = replace(rules, taker=old.taker, maker=old.maker, calendar=old.calendar)
        self._store.set_market(self.dataset, rules)

    # --- where history begins

    async def _find_history(self) -> Span:
        """Return a time before which the exchange has nothing, and one up to which nothing is left to be asked.

        Where the first window turns out to be empty, bars of days tell on which day trading began: a page of them
        holds years.
        """
        first, end = self.first, min(self.first + self._grid.window_ms, self.end)
        present = self._present(first, end)
        too_coarse = self._grid.step_ms >= _DAY_MS or "1d" not in self._client.timeframes
        if len(present) or too_coarse or self._gaps:
            return first, first
        found = await self._fill(present, first, end)
        self.advance(self.slots(end - first))
        if found:
            return first, end
        days = replace(self.dataset, kind="trade", timeframe="1d")
        page_ms = rows_a_page(self._client, days) * _DAY_MS
        for start in range(slot_at_or_before(first, _DAY_MS), self.end, page_ms):
            answers = [await self._ask(days, start, min(start + page_ms, self.end)) for _ in range(ANSWERS)]
            seen = [rows[0, 0] for rows in answers if len(rows)]
            if seen:
                day = max(end, int(min(seen)))
                self.advance(self.slots(day - end))
                return day, day
        return end, end

    def _note_beginning(self) -> None:
        """Take a hole from the very first slot on for the time before history, if bars follow and none precede."""
        if not self.holes or self.holes[0][0] != self.first or self.holes[0][1] >= self.end:
            return
        if len(self._store.opens(self.dataset, None, to_utc(self.first))) == 0:
            self._store.set_begins(self.dataset, self.holes.pop(0)[1])


def _iso(time_ms: int) -> str:
    return f"{to_utc(time_ms):%Y-%m-%dT%H:%M}"
