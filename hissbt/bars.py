"""Bars: the one table of prices, stamped at the close in UTC, validated once and never changed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property

import numpy as np
import pandas as pd

from hissbt.errors import BarsError
from hissbt.market import Market
from hissbt.timeframe import format_timeframe, is_intraday, parse_timeframe

COLUMNS = ("open", "high", "low", "close", "volume")
BAR_FIELDS = ("close_time_s", *COLUMNS)
STAMPS = ("open", "close")

# Names of the time column, in the order in which they are looked for. Only the last one means a close.
_TIME_NAMES = ("timestamp", "open_time", "datetime", "date", "time", "close_time")
# Coarse bars are counted from a Monday, so that weeks start on Mondays as on the exchanges.
_MONDAY = pd.Timestamp("1970-01-05", tz="UTC")

Time = str | date  # a datetime and a pd.Timestamp are dates too


@dataclass(frozen=True)
class Gap:
    """A stretch in which bars are missing: between the bars that close at ``after`` and at ``before``."""

    after: pd.Timestamp
    before: pd.Timestamp
    missing: int


class Bars:
    """Open, high, low, close and volume of one market, one row a closed bar.

    Every way to select by time is inclusive at ``since`` and exclusive at ``until``, both meaning a bar's open: a
    bar is inside when ``open >= since`` and ``close <= until``.
    """

    def __init__(self, frame: pd.DataFrame, market: Market, timeframe: str | pd.Timedelta):
        """Check and keep a copy of ``frame``, whose index already holds the close times.

        The columns are open, high, low, close, volume and any further numeric ones. A time without zone is UTC.
        Raises BarsError, naming the first bad row, for values that are missing, not finite or not numbers, prices
        of zero or less, a high or low that does not enclose open and close, negative volume, stamps that are
        unsorted, repeated or out of step with the timeframe.
        """
        self._market = market
        self._timeframe = _length(timeframe)
        self._frame = _canonical(_named_plainly(frame))
        _check_values(self._frame)
        _check_steps(self._frame.index, self._timeframe, market)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        market: Market | None = None,
        timeframe: str | pd.Timedelta | None = None,
        stamp: str = "open",
    ) -> Bars:
        """Return the bars of any frame whose index or one of whose columns holds times.

        Column names may be in any case; the time column is called timestamp, open_time, datetime, date, time or
        close_time, and holds ISO 8601 texts, times, or unix seconds or milliseconds. ``timeframe`` is the most
        common step when it is not given. ``stamp`` says whether the times are those of a bar's open or close;
        times named close_time are closes in any case. Raises BarsError as Bars does.
        """
        if stamp not in STAMPS:
            raise BarsError(f"unknown stamp {stamp!r}: write 'open' or 'close', what the times of the rows mean")
        table = _named_plainly(frame)
        times, name = _times(table)
        table = table.drop(columns=[column for column in table if column in _TIME_NAMES]).set_axis(times, axis=0)
        _check_order(times)
        length = _stated_or_common_step(times, timeframe)
        if stamp == "open" and name != "close_time":
            table.index = times + length
        return cls(table, market or Market("BARS"), length)

    @property
    def frame(self) -> pd.DataFrame:
        """The table itself, float64, index ``close_time`` in UTC. It is not a copy: do not change it."""
        return self._frame

    @property
    def market(self) -> Market:
        """What these bars are the prices of."""
        return self._market

    @property
    def timeframe(self) -> pd.Timedelta:
        """Length of one bar."""
        return self._timeframe

    @property
    def extra_columns(self) -> tuple[str, ...]:
        """Names of the columns beyond open, high, low, close and volume, in their order."""
        return tuple(self._frame.columns[len(COLUMNS) :])

    @property
    def open_times(self) -> pd.DatetimeIndex:
        """Time at which each bar opened (UTC)."""
        return self._frame.index - self._timeframe

    @cached_property
    def sha256(self) -> str:
        """Hash of the content: symbol, timeframe, column names, close times and values."""
        digest = hashlib.sha256()
        head = [self._market.symbol, format_timeframe(self._timeframe), *self._frame.columns]
        digest.update("\n".join(head).encode() + b"\n")
        digest.update(self._frame.index.asi8.astype("<i8").tobytes())
        digest.update(self._frame.to_numpy(dtype="<f8").tobytes())
        return digest.hexdigest()

    @cached_property
    def gaps(self) -> tuple[Gap, ...]:
        """Where bars are missing that the market's calendar expects, in order; nothing is ever filled."""
        closes = self._frame.index
        missing = self._market.missing_before(closes, self._timeframe)  # [T]
        return tuple(Gap(closes[row - 1], closes[row], int(missing[row])) for row in missing.nonzero()[0])

    @property
    def missing(self) -> int:
        """Number of bars that the market's calendar expects and that are not there."""
        return sum(gap.missing for gap in self.gaps)

    def arrays(self, columns: Sequence[str] = ()) -> np.ndarray:
        """Return the rows as float64 [T, 6 + C]: BAR_FIELDS, then the named extra columns."""
        absent = [name for name in columns if name not in self.extra_columns]
        if absent:
            known = ", ".join(self.extra_columns) or "none"
            raise BarsError(
                f"the bars of {self._market.symbol} have no extra column {absent[0]!r}: they have {known}"
            )
        seconds = self._frame.index.asi8 / 1e9  # [T]
        return np.column_stack([seconds, self._frame[[*COLUMNS, *columns]].to_numpy()])

    def with_values(self, values: np.ndarray) -> Bars:
        """Return bars of the same times with other values [T, 5 + C], in the order of the frame's columns.

        Raises BarsError for values that no market could have printed.
        """
        other = object.__new__(Bars)
        other._market, other._timeframe = self._market, self._timeframe
        other._frame = pd.DataFrame(np.array(values, np.float64), self._frame.index, self._frame.columns)
        _check_values(other._frame)
        return other

    def between(self, since: Time | None = None, until: Time | None = None) -> Bars:
        """Return the bars that open at or after ``since`` and close at or before ``until``."""
        closes = self._frame.index
        first = 0 if since is None else closes.searchsorted(parse_time(since) + self._timeframe)
        last = len(closes) if until is None else closes.searchsorted(parse_time(until), side="right")
        if first >= last:
            since, until = since or "the start", until or "the end"
            raise BarsError(
                f"no bars between {since} and {until}: these of {self._market.symbol} open at "
                f"{_utc_text(self.open_times[0])} and end at {_utc_text(closes[-1])}"
            )
        return self._part(slice(first, last))

    def resample(self, timeframe: str | pd.Timedelta) -> Bars:
        """Return coarser bars: first open, highest high, lowest low, last close, summed volume, last extra value.

        Blocks are aligned to UTC (weeks to Mondays). A block that is not over at the last close is left out; a
        block with bars missing, or that began before the first bar, holds what there is. Raises BarsError for a
        length that is not a multiple of the timeframe, and for intraday bars of an exchange, whose bars count
        from the session's open and not from midnight.
        """
        length = _length(timeframe)
        self._check_coarser(length)
        ends = (
            _MONDAY + -((_MONDAY - self._frame.index) // length) * length
        )  # [T] end of the block a bar closes in
        how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
        how |= dict.fromkeys(self.extra_columns, "last")
        coarse = self._frame.groupby(ends).agg(how)
        coarse = coarse[coarse.index <= self._frame.index[-1]]
        if coarse.empty:
            raise BarsError(f"{len(self)} bars do not fill one bar of {format_timeframe(length)}: load more bars")
        return Bars(coarse, self._market, length)

    def __len__(self) -> int:
        return len(self._frame)

    def __getitem__(self, key: slice) -> Bars:
        """Return ``bars[a:b]`` by position, or ``bars["2024-01-01":"2024-02-01"]`` by time."""
        if not isinstance(key, slice) or key.step is not None:
            raise BarsError(
                f"bars cannot be picked by {key!r}: write a range of positions or times, as in bars[:100]"
            )
        if any(isinstance(end, Time) for end in (key.start, key.stop)):
            return self.between(key.start, key.stop)
        return self._part(key)

    def __repr__(self) -> str:
        first, last = _utc_text(self.open_times[0]), _utc_text(self._frame.index[-1])
        return (
            f"Bars({self._market.symbol} {format_timeframe(self._timeframe)}, {len(self)} bars, {first} to {last})"
        )

    def _part(self, rows: slice) -> Bars:
        """Return some of the rows, which need no second check."""
        part = object.__new__(Bars)
        part._market, part._timeframe, part._frame = self._market, self._timeframe, self._frame.iloc[rows]
        if len(part) == 0:
            raise BarsError(f"no bars at positions {rows.start} to {rows.stop}: there are {len(self)}")
        return part

    def _check_coarser(self, length: pd.Timedelta) -> None:
        have, want = format_timeframe(self._timeframe), format_timeframe(length)
        if length % self._timeframe:
            raise BarsError(f"bars of {have} cannot be resampled to {want}: choose a multiple of {have}")
        if is_intraday(length) and not self._market.always_open:
            raise BarsError(
                f"bars of calendar {self._market.calendar} cannot be resampled to {want}: choose 1d or longer"
            )


def parse_time(value: Time) -> pd.Timestamp:
    """Return a moment in UTC; a time without zone is UTC. Raises BarsError for what is not a time."""
    try:
        stamp = pd.Timestamp(value) if isinstance(value, Time) else pd.NaT
    except ValueError:
        stamp = pd.NaT
    if stamp is pd.NaT:
        raise BarsError(f"{value!r} is not a time: write it as 2024-01-31 or 2024-01-31 12:00")
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")


def _utc_text(stamp: pd.Timestamp) -> str:
    return f"{stamp:%Y-%m-%d %H:%M:%S} UTC"


def _length(timeframe: str | pd.Timedelta) -> pd.Timedelta:
    return parse_timeframe(timeframe) if isinstance(timeframe, str) else pd.Timedelta(timeframe)


# --- columns and times, as anyone may write them


def _named_plainly(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with lower-case column names, spaces as underscores; the data are shared, not changed."""
    if len(frame) == 0:
        raise BarsError("there are no bars: the table has no rows")
    names = [str(name).strip().lower().replace(" ", "_") for name in frame.columns]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise BarsError(f"the bars have more than one column {repeated[0]!r}: leave one of them out")
    return frame.set_axis(names, axis=1)


def _times(table: pd.DataFrame) -> tuple[pd.DatetimeIndex, str]:
    """Return the stamps of the rows and the name they go by."""
    index_name = str(table.index.name or "").strip().lower().replace(" ", "_")
    if isinstance(table.index, pd.DatetimeIndex) or index_name in _TIME_NAMES:
        return parse_times(table.index.to_series()), index_name
    for name in _TIME_NAMES:
        if name in table:
            return parse_times(table[name]), name
    raise BarsError(f"the bars have no time column: name one of the columns {', '.join(table)} timestamp")


def parse_times(column: pd.Series) -> pd.DatetimeIndex:
    """Return stamps in UTC from times, ISO 8601 texts or unix seconds or milliseconds. Raises BarsError."""
    if pd.api.types.is_datetime64_any_dtype(column):
        times = pd.to_datetime(column, utc=True)
    elif pd.api.types.is_numeric_dtype(column):
        times = _from_unix(column)
    else:
        # One strict format: a guess could swap day and month, and would pass over a zone it does not know.
        times = pd.to_datetime(column, utc=True, format="ISO8601", errors="coerce")
    bad = times.isna().to_numpy()
    if bad.any():
        row = int(bad.argmax())
        raise BarsError(
            f"row {row} has the time {column.iloc[row]!r}, in no format or timezone known here: "
            "write ISO 8601 with Z or an offset, such as 2024-01-31T12:00:00Z"
        )
    return pd.DatetimeIndex(times, name="close_time").as_unit("ns")


def _from_unix(column: pd.Series) -> pd.Series:
    """Read unix seconds or milliseconds: the years 1973 to 5138 tell one from the other."""
    numbers = column.to_numpy(dtype=float)
    for unit, least, below in (("s", 1e8, 1e11), ("ms", 1e11, 1e14)):
        if len(numbers) and ((numbers >= least) & (numbers < below)).all():
            return pd.to_datetime(column, unit=unit, utc=True)
    raise BarsError(
        f"times such as {column.iloc[0] if len(column) else None} are neither unix seconds nor milliseconds: "
        "write ISO 8601 texts"
    )


def _stated_or_common_step(times: pd.DatetimeIndex, timeframe: str | pd.Timedelta | None) -> pd.Timedelta:
    """Return the timeframe that was stated, if the rows agree with it, or else their most common step."""
    steps = np.diff(times.asi8)
    if timeframe is None and len(steps) == 0:
        raise BarsError(
            "the timeframe of a single bar cannot be told from its row: state it, such as timeframe='1h'"
        )
    lengths, counts = np.unique(steps, return_counts=True)
    common = pd.Timedelta(lengths[counts.argmax()], unit="ns") if len(steps) else None
    if timeframe is None:
        return common
    length = _length(timeframe)
    if len(steps) and length.value not in lengths:
        raise _wrong_timeframe(length, common)
    return length


# --- checks


def _canonical(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a float64 copy: columns in order, index ``close_time`` in UTC nanoseconds."""
    lacking = [name for name in COLUMNS if name not in frame]
    if lacking:
        raise BarsError(f"the bars have no column {lacking[0]!r}: they need {', '.join(COLUMNS)}")
    if not isinstance(frame.index, pd.DatetimeIndex):
        raise BarsError("the index of the bars does not hold times: use Bars.from_frame")
    extra = [name for name in frame.columns if name not in COLUMNS]
    values = {str(name): _numbers(frame[name]) for name in (*COLUMNS, *extra)}
    return pd.DataFrame(values, index=parse_times(frame.index.to_series()))


def _numbers(column: pd.Series) -> np.ndarray:
    """Return a column as float64, or say which of its rows is not a number."""
    if column.dtype.kind in "mM":  # pandas would count the nanoseconds of a time
        column = column.astype(str)
    try:
        return column.to_numpy(dtype=np.float64, na_value=np.nan, copy=True)
    except (TypeError, ValueError) as error:
        bad = pd.to_numeric(column.astype(str), errors="coerce").isna().to_numpy()
        row = int(bad.argmax())
        raise BarsError(
            f"row {row} ({column.index[row]}) has {column.iloc[row]!r} in column {column.name!r}, "
            "which is not a number: correct it or leave the column out"
        ) from error


def _check_values(frame: pd.DataFrame) -> None:
    """Raise BarsError for the first row with a value that no market could have printed."""
    values = frame.to_numpy()
    first_price, high, low, close, volume = (frame[name].to_numpy() for name in COLUMNS)
    _refuse(frame, ~np.isfinite(values).all(axis=1), "a value that is missing or not finite")
    _refuse(frame, (values[:, :4] <= 0).any(axis=1), "a price of zero or less")
    _refuse(frame, (high < first_price) | (high < close) | (high < low), "a high below its open, close or low")
    _refuse(frame, (low > first_price) | (low > close), "a low above its open or close")
    _refuse(frame, volume < 0, "a negative volume")
    _check_order(frame.index)


def _check_order(times: pd.DatetimeIndex) -> None:
    steps = np.diff(times.asi8, prepend=times.asi8[:1] - 1)
    if (steps <= 0).any():
        row = int((steps <= 0).argmax())
        fault = "repeats the time of the row before it" if steps[row] == 0 else "is earlier than the row before it"
        raise BarsError(f"row {row} ({_utc_text(times[row])}) {fault}: sort the rows and keep one for each time")


def _check_steps(closes: pd.DatetimeIndex, timeframe: pd.Timedelta, market: Market) -> None:
    """Raise BarsError where two rows are closer than a timeframe, or do not lie whole timeframes apart."""
    if timeframe <= pd.Timedelta(0):
        raise BarsError(f"a timeframe of {timeframe} has no length: state it, such as 1h")
    steps = np.diff(closes.asi8)
    if (steps < timeframe.value).any():
        lengths, counts = np.unique(steps, return_counts=True)
        if lengths[counts.argmax()] < timeframe.value:
            raise _wrong_timeframe(timeframe, pd.Timedelta(lengths[counts.argmax()], unit="ns"))
    bad = steps < timeframe.value
    # An exchange's intraday bars start anew at each session's open, which summer time moves.
    if market.always_open or not is_intraday(timeframe):
        bad |= steps % timeframe.value != 0
    if bad.any():
        row = int(bad.argmax()) + 1
        step, stated = pd.Timedelta(steps[row - 1], unit="ns"), format_timeframe(timeframe)
        raise BarsError(
            f"row {row} (close {_utc_text(closes[row])}) comes {step} after the row before it, "
            f"not a multiple of the timeframe {stated}: correct its time or the timeframe"
        )
    if not (market.always_open or is_intraday(timeframe) or (closes == closes.normalize()).all()):
        raise BarsError(
            f"daily bars of calendar {market.calendar} are not stamped at midnight UTC: "
            "stamp them with the date of the session"
        )


def _wrong_timeframe(stated: pd.Timedelta, common: pd.Timedelta) -> BarsError:
    return BarsError(
        f"wrong timeframe {format_timeframe(stated)}: the rows are {format_timeframe(common)} apart, "
        f"so state {format_timeframe(common)} and resample afterwards"
    )


def _refuse(frame: pd.DataFrame, bad: np.ndarray, fault: str) -> None:
    if bad.any():
        row = int(bad.argmax())
        raise BarsError(
            f"row {row} (close {_utc_text(frame.index[row])}) has {fault}: correct or remove it in the source"
        )
