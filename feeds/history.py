"""One dataset's history: every slot is asked for until it is there or known to be missing.

What the store lacks is asked for in windows of one page. A slot that is missing from four answers is a hole,
except before the first bar that the exchange has.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from hissbt.errors import ConfigError
from hissbt.feeds.exchange import ask, market_rules
from hissbt.feeds.pages import ask_page, bar_length_ms, rows_a_page
from hissbt.feeds.slots import (
    HOUR_MS,
    BarGrid,
    FundingGrid,
    Span,
    joined,
    slot_at_or_before,
    to_utc,
    windows,
    without,
)
from hissbt.feeds.store import BarStore, Dataset

if TYPE_CHECKING:
    from ccxt.async_support import Exchange

ANSWERS = 4
"""In so many answers must a bar be missing to count as a hole."""

_IN_FLIGHT = 8
_PAGES_AT_ONCE = 16
_DAY_MS = 24 * HOUR_MS


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


@dataclass
class Session:
    """What downloads share: client and rate limit, store, the patience of ask(), seats for requests."""

    client: Exchange
    store: BarStore
    patience: dict[str, Any]
    seats: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_IN_FLIGHT))


class History:
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
            raise ConfigError(f"{self.dataset} begins at {iso(first)}: choose a later until")
        await self._in_thread(self._begin)
        self.advance(self.slots(first - self.first))
        history, rest = (first, first) if begins is not None else await self._find_history()
        for chunk in self._chunks(rest):
            await self._fill_chunk(*chunk)
        self.holes = [] if history == first else [(first, history)]
        for chunk in self._chunks(history):
            self.holes += self._lacking(self._present(*chunk), *chunk)
        self.holes = joined(self.holes)
        await self._note_beginning()
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

    def finish(self) -> None:
        """Note that the span is complete."""
        unfinished = self._store.unfinished(self.dataset)
        if unfinished and self.first <= unfinished[0] and unfinished[1] <= self.end:
            self._store.set_unfinished(self.dataset, None)

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
        await all_or_none([self._fill_window(present, *window) for window in lacking])

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

    def _begin(self) -> None:
        """Note what is to be downloaded: until it is complete, what is stored must not pass for all there is."""
        first, end = self._store.unfinished(self.dataset) or (self.first, self.end)
        self._store.set_unfinished(self.dataset, (min(first, self.first), max(end, self.end)))

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

    async def _note_beginning(self) -> None:
        """Take a hole from the very first slot on for the time before history, if bars follow and none precede."""
        if not self.holes or self.holes[0][0] != self.first or self.holes[0][1] >= self.end:
            return
        if len(self._store.opens(self.dataset, None, to_utc(self.first))) == 0 and not await self._has_earlier():
            self._store.set_begins(self.dataset, self.holes.pop(0)[1])

    async def _has_earlier(self) -> bool:
        """Ask whether the exchange has rows before the first slot, which then lies in a hole."""
        for _ in range(ANSWERS):
            if len(await self._ask(self.dataset, self.first - self._grid.window_ms, self.first)):
                return True
        return False


async def all_or_none(work: list[Coroutine[Any, Any, Any]]) -> list[Any]:
    """Wait for all; when one fails, end the others before its error goes on."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def iso(time_ms: int) -> str:
    """Return the moment of ms since 1970 as ISO 8601, to the minute."""
    return f"{to_utc(time_ms):%Y-%m-%dT%H:%M}"
