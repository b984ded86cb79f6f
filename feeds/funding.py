"""Funding: what a perpetual future's holders paid each other, event by event, and how much of it is known."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from hissbt.bars import Time, parse_time, parse_times
from hissbt.errors import BarsError
from hissbt.feeds.files import read_table, symbol_of
from hissbt.feeds.intervals import missing_events
from hissbt.feeds.named import is_name, named_funding

_MS = 10**6  # in nanoseconds


@dataclass(frozen=True)
class FundingHole:
    """A stretch in which events were due that are not known: the first and the last of them, and their number."""

    first: pd.Timestamp
    last: pd.Timestamp
    events: int


@dataclass(frozen=True)
class Coverage:
    """How many events of a span were due, how many of them are known, and where the others would be."""

    expected: int
    present: int
    missing: tuple[FundingHole, ...]

    @property
    def share(self) -> float:
        """The part of the expected events that is known, 0 to 1; 1 where none was expected."""
        return self.present / self.expected if self.expected else 1.0


@dataclass(frozen=True, eq=False)
class Funding:
    """The funding events of one market. A rate holds at its event only: none is ever carried forward.

    At each of ``times`` (UTC, increasing) who is long pays who is short ``rates`` (float64) as a fraction of the
    position's notional; a negative rate is paid by who is short. Raises BarsError for times that are unsorted or
    repeated, and for rates that are not finite, or 1 and more: percent, say.
    """

    symbol: str
    times: pd.DatetimeIndex
    rates: np.ndarray

    def __post_init__(self) -> None:
        rates = np.array(self.rates, dtype=np.float64)  # a copy, which nobody else can change
        rates.flags.writeable = False
        object.__setattr__(self, "rates", rates)
        object.__setattr__(self, "times", self.times.tz_convert("UTC").as_unit("ns").rename("event_time"))
        self._check()

    def between(self, since: Time | None = None, until: Time | None = None) -> Funding:
        """Return the events in [since, until), perhaps none."""
        first, end = self._rows(since, until)
        return Funding(self.symbol, self.times[first:end], self.rates[first:end])

    def at(self, times: pd.DatetimeIndex) -> np.ndarray:
        """Return float64 [T]: the rate of the event at each of the times, NaN at times that are no event's."""
        utc = times.tz_localize("UTC") if times.tz is None else times.tz_convert("UTC")
        return pd.Series(self.rates, index=self.times).reindex(utc.as_unit("ns")).to_numpy()

    def coverage(self, since: Time | None = None, until: Time | None = None) -> Coverage:
        """Tell what is known of the events due in [since, until), by default from the first to the last one.

        When events are due is read from the steps between neighbors, whatever they are and however they change:
        see ``hissbt.feeds.intervals``. Without any event nothing is expected.
        """
        events = self.times.asi8 // _MS
        if len(events) == 0:
            return Coverage(0, 0, ())
        since_ms = events[0] if since is None else parse_time(since).value // _MS
        until_ms = events[-1] + 1 if until is None else parse_time(until).value // _MS
        due = missing_events(events, since_ms, until_ms)
        # Missing events between the same two known ones are one hole.
        holes = np.split(due, np.flatnonzero(np.diff(events.searchsorted(due))) + 1) if len(due) else []
        first, end = self._rows(since, until)
        present = max(end - first, 0)
        return Coverage(present + len(due), present, tuple(map(_hole, holes)))

    @cached_property
    def sha256(self) -> str:
        """Hash of the content: symbol, times and rates."""
        digest = hashlib.sha256(self.symbol.encode() + b"\n")
        digest.update(self.times.asi8.astype("<i8").tobytes())
        digest.update(self.rates.astype("<f8").tobytes())
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.times)

    def __repr__(self) -> str:
        span = f", {self.times[0]:%Y-%m-%d %H:%M} to {self.times[-1]:%Y-%m-%d %H:%M} UTC" if len(self) else ""
        return f"Funding({self.symbol}, {len(self)} events{span})"

    def _rows(self, since: Time | None, until: Time | None) -> tuple[int, int]:
        first = 0 if since is None else self.times.searchsorted(parse_time(since))
        end = len(self) if until is None else self.times.searchsorted(parse_time(until))
        return int(first), int(end)

    def _check(self) -> None:
        if len(self.times) != len(self.rates):
            raise BarsError(
                f"{len(self.times)} times and {len(self.rates)} rates are no funding: pass one of each"
            )
        bad = (np.diff(self.times.asi8, prepend=np.iinfo(np.int64).min // 2) <= 0) | ~(np.abs(self.rates) < 1)
        if bad.any():
            row = int(bad.argmax())
            raise BarsError(
                f"funding row {row} ({self.times[row]}, {self.rates[row]}) is not later than the row before, or "
                "its rate is no fraction of notional: sort the rows, keep one a time, write 0.0001 for 0.01 %"
            )


def load_funding(spec: str | Path, *, since: Time | None = None, until: Time | None = None) -> Funding:
    """Return the funding of a market, of which [since, until) by event time.

    ``spec`` is a CSV (also .gz) or Parquet file with the columns timestamp (ISO 8601, or unix seconds or
    milliseconds) and rate, or a name such as ``"bybit:BTC/USDT:USDT"``: then it comes from the store, and what
    that lacks of the span is downloaded first, as ``load_bars`` does it. Raises BarsError for what names no
    funding, a bad file, or a span without events; StoreError and FetchError as the store and a download do.
    """
    if is_name(spec):
        symbol, series = named_funding(str(spec), since, until)
        funding = Funding(symbol, pd.DatetimeIndex(series.index), series.to_numpy())
    else:
        funding = _load_file(Path(spec))
    part = funding.between(since, until)
    if len(part) == 0:
        raise BarsError(
            f"no funding between {since or 'the start'} and {until or 'the end'}: there is {funding!r}"
        )
    return part


def _load_file(path: Path) -> Funding:
    table = read_table(path, ("rate",))
    lacking = [name for name in ("timestamp", "rate") if name not in table]
    if lacking:
        raise BarsError(f"{path.name} has no column {lacking[0]!r}: funding has the columns timestamp,rate")
    try:
        rates = table["rate"].to_numpy(dtype=np.float64)
        return Funding(symbol_of(path), parse_times(table["timestamp"]), rates)
    except (BarsError, ValueError) as error:
        raise BarsError(f"in {path.name}, {error}") from error


def _hole(due: np.ndarray) -> FundingHole:
    first, last = pd.to_datetime(due[[0, -1]], unit="ms", utc=True)
    return FundingHole(first, last, len(due))
