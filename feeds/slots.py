"""Which bars and funding events a history lacks, and the windows in which to ask for them.

All times are milliseconds since 1970; a span or window is (first, end), inclusive at the first and exclusive at
the end.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hissbt.bars import Time, parse_time
from hissbt.feeds.intervals import USUAL_MS, missing_events

HOUR_MS = 3_600_000
_MONDAY_MS = 4 * 24 * HOUR_MS  # 1970-01-05: the weeks of exchanges open on Mondays
_EVEN_STEPS = 6

Span = tuple[int, int]


def to_ms(moment: Time) -> int:
    """Return a moment, UTC without a zone, in ms since 1970. Raises BarsError for what is no time."""
    return parse_time(moment).value // 1_000_000  # a Timestamp's value is in ns, whatever its unit


def to_utc(time_ms: int) -> pd.Timestamp:
    """Return the moment of ms since 1970."""
    return pd.Timestamp(time_ms, unit="ms", tz="UTC")


def slot_at_or_before(time_ms: int, step_ms: int) -> int:
    """Return the open of the bar in which a moment lies."""
    return (time_ms - _MONDAY_MS) // step_ms * step_ms + _MONDAY_MS


def without(spans: list[Span], known: list[Span]) -> list[Span]:
    """Return what of ``spans`` lies outside of ``known``, both sorted."""
    for known_first, known_end in known:
        parts = [
            ((first, min(end, known_first)), (max(first, known_end), end))
            if known_first < end
            else ((first, end),)
            for first, end in spans
        ]
        spans = [span for span in itertools.chain.from_iterable(parts) if span[0] < span[1]]
    return spans


def joined(spans: list[Span]) -> list[Span]:
    """Return the union of spans, sorted, those that touch made one."""
    union: list[Span] = []
    for first, end in sorted(spans):
        if union and first <= union[-1][1]:
            union[-1] = union[-1][0], max(end, union[-1][1])
        else:
            union.append((first, end))
    return union


def windows(spans: list[Span], longest_ms: int) -> Iterator[Span]:
    """Yield windows of at most ``longest_ms`` that cover sorted spans; near spans share a window."""
    first = end = None
    for span in spans:
        if first is not None and span[1] - first <= longest_ms:
            end = span[1]
            continue
        if first is not None:
            yield first, end
        first, end = span
        while end - first > longest_ms:
            yield first, first + longest_ms
            first += longest_ms
    if first is not None:
        yield first, end


@dataclass(frozen=True)
class BarGrid:
    """The opens of bars: one every ``step_ms``, and ``page`` of them in one reply."""

    step_ms: int
    page: int

    @property
    def window_ms(self) -> int:
        """The longest window; of weeks, a page has a row from before its start."""
        return (self.page - 1) * self.step_ms if self.step_ms > 24 * HOUR_MS else self.page * self.step_ms

    def missing(self, present: np.ndarray, first: int, end: int) -> list[Span]:
        """Return the spans of the opens first, first + step_ms, … below ``end`` that are not in ``present``."""
        slots = np.arange(first, end, self.step_ms, dtype=np.int64)
        absent = slots[~np.isin(slots, present)]
        if len(absent) == 0:
            return []
        breaks = np.flatnonzero(np.diff(absent) != self.step_ms)
        starts, lasts = absent[np.append(0, breaks + 1)], absent[np.append(breaks, -1)]
        return [(int(a), int(b) + self.step_ms) for a, b in zip(starts, lasts, strict=True)]

    def complete(self, present: np.ndarray, first: int, end: int) -> bool:
        """Tell whether a window lacks nothing."""
        return not self.missing(present, first, end)

    def count(self, before: np.ndarray, first: int, end: int) -> int:
        """Return how many bars a span holds."""
        return (end - first) // self.step_ms


@dataclass(frozen=True)
class FundingGrid:
    """Funding events, ``page`` of them in one reply, at intervals that differ by market and change in time.

    What is due is read from the events themselves, see hissbt.feeds.intervals. No interval is below an hour.
    """

    page: int
    step_ms: int = USUAL_MS
    """The most usual interval: what is assumed of a single event."""

    @property
    def window_ms(self) -> int:
        """The longest window of which one page is sure to hold all events."""
        return self.page * HOUR_MS

    def missing(self, present: np.ndarray, first: int, end: int) -> list[Span]:
        """Return the spans in which events are due: from the first of them to the next event."""
        if len(present) == 0:
            return [(first, end)]
        due = missing_events(present, first, end)
        before, starts = np.unique(present.searchsorted(due), return_index=True)
        ends = np.append(present, end)[before]
        begins = np.where(before == 0, first, due[starts])  # how far back before all events, nobody knows
        return [(int(a), int(b)) for a, b in zip(begins, ends, strict=True)]

    def complete(self, present: np.ndarray, first: int, end: int) -> bool:
        """Tell whether events fill a window beyond doubt: at least seven, evenly spaced from edge to edge."""
        steps = np.diff(present)
        if len(steps) < _EVEN_STEPS or (steps != steps[0]).any():
            return False
        return bool(present[0] - first < steps[0] and end - present[-1] <= steps[0])

    def count(self, before: np.ndarray, first: int, end: int) -> int:
        """Return how many events are due in a span, by its distance from the last event ``before``."""
        interval = first - int(before[-1]) if len(before) else self.step_ms
        return -(-(end - first) // interval)
