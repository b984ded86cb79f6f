"""Funding events against bars: which fall where, what they charge, and whether enough of them are known."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import pandas as pd

from hissbt.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

LEAST_COVERAGE = 0.99
"""A span of which a smaller share of events is known is refused, unless that is allowed."""


class FundingSeries(Protocol):
    """What is needed of ``hissbt.feeds.Funding``."""

    times: pd.DatetimeIndex
    rates: np.ndarray

    def coverage(self, since: pd.Timestamp, until: pd.Timestamp):
        """Return how many events were due in [since, until), and how many of them are known."""
        ...


class FundingEvents:
    """The events of a series, by time."""

    def __init__(self, series: FundingSeries):
        # Exchanges stamp some milliseconds late: an event of 08:00 is not one after the fills of 08:00.
        self._times = (series.times.floor("s").as_unit("ms").asi8).tolist()
        self._rates = series.rates.tolist()

    def between(self, after_ms: int, until_ms: int) -> list[tuple[int, float]]:
        """Return (time in ms, rate) of the events in (after_ms, until_ms]."""
        first, end = bisect_right(self._times, after_ms), bisect_right(self._times, until_ms)
        return list(zip(self._times[first:end], self._rates[first:end], strict=True))

    def next_after(self, time_ms: int) -> float:
        """Return the time in ms of the first event after a time; inf if there is none."""
        index = bisect_right(self._times, time_ms)
        return self._times[index] if index < len(self._times) else math.inf


def dearest_sizes(held: Sequence[float], charges: Sequence[float]) -> list[float]:
    """Return the size to charge at each event: of all that were possible, those that together cost the most.

    ``held`` are the sizes that a position had one after the other within a bar, nobody knows when; ``charges`` are
    what one unit of size pays at each event of that bar, in their order (negative: receives). The size can only
    go forward through ``held``; its last one need not be reached before the last event.
    """
    best = [(0.0, [])] * len(held)  # the dearest way to have come this far, and to be at each size now
    for charge in charges:
        reached, dearest = [], (float("-inf"), [])
        for size, way in zip(held, best, strict=True):
            dearest = max(dearest, way, key=lambda cost_and_sizes: cost_and_sizes[0])
            cost, sizes = dearest
            reached.append((cost + size * charge, [*sizes, size]))
        best = reached
    return max(best, key=lambda cost_and_sizes: cost_and_sizes[0])[1]


def checked_coverage(
    series: FundingSeries, first_open_ms: int, last_close_ms: int, allow_missing: bool, name: str
):
    """Return the coverage of the events that a run over these bars can meet.

    Raises ConfigError where less than ``LEAST_COVERAGE`` of them are known, unless that is allowed: a run that
    leaves funding out is no run of a perpetual future.
    """
    since, until = (pd.Timestamp(ms + 1, unit="ms", tz="UTC") for ms in (first_open_ms, last_close_ms))
    coverage = series.coverage(since, until)
    if allow_missing or (len(series.times) and coverage.share >= LEAST_COVERAGE):
        return coverage
    known = f"{coverage.present} of {coverage.expected}" if coverage.expected else "none"
    raise ConfigError(
        f"funding of {name or 'the data'} is incomplete: {known} of the events due {since:%Y-%m-%d} to "
        f"{until:%Y-%m-%d} are known; load the rest, choose another span, or allow missing funding "
        "and see it named in the results"
    )
