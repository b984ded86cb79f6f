"""BarStore: downloaded bars and funding in Parquet files, one a dataset and month, safe against a kill.

Layout: ``ROOT/EXCHANGE/NETWORK/SYMBOL/KIND/TIMEFRAME/YYYY-MM.parquet``, months in UTC by the time a bar opens,
and beside them ``dataset.json`` with the market's rules, the accepted gaps, where history begins and which
download is unfinished. What is present is always read from the month files, so nothing can go stale.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from hissbt.atomic import file_in_the_way, to_json
from hissbt.bars import COLUMNS, Bars, Time, parse_time
from hissbt.errors import BarsError, StoreError
from hissbt.feeds.months import (
    SCHEMA_VERSION,
    month_path,
    month_paths,
    month_starts,
    read_month,
    synced_file,
    unusable,
    write_month,
)
from hissbt.feeds.slots import Span, slot_at_or_before
from hissbt.market import Market
from hissbt.timeframe import format_timeframe, parse_timeframe

_PRICES = COLUMNS[:4]
COLUMNS_OF = {"trade": COLUMNS, "mark": _PRICES, "index": _PRICES, "premium": _PRICES, "funding": ("rate",)}
EVENT = "event"
_DESCRIPTION = "dataset.json"
_LOCK = ".lock"


@dataclass(frozen=True)
class Dataset:
    """What one series of the store holds. Raises StoreError for a part that cannot be."""

    exchange: str
    """As ccxt calls it: "bybit"."""
    network: str
    """ "mainnet", "testnet", or another endpoint's host and port in letters, digits and underscores."""
    symbol: str
    """Unified: "BTC/USDT:USDT"."""
    kind: str
    """ "trade", "mark", "index", "premium" or "funding"."""
    timeframe: str
    """Such as "1h"; "event" for funding."""

    def __post_init__(self) -> None:
        for part in (self.exchange, self.network):
            if not re.fullmatch(r"[a-z0-9_]+", part):
                raise StoreError(f"{part!r} names no exchange and no network: write small letters, digits and _")
        if not re.match(r"[\w$]", self.symbol):
            raise StoreError(f"{self.symbol!r} is no symbol: write one such as BTC/USDT:USDT")
        if self.kind not in COLUMNS_OF:
            raise StoreError(f"unknown kind {self.kind!r}: write one of {', '.join(COLUMNS_OF)}")
        wanted = EVENT if self.kind == "funding" else format_timeframe(parse_timeframe(self.timeframe))
        if self.timeframe != wanted:
            raise StoreError(f"bars of {self.kind} cannot be kept as {self.timeframe!r}: write {wanted}")

    def __str__(self) -> str:
        return f"{self.exchange} {self.network} {self.symbol} {self.kind} {self.timeframe}"


@dataclass(frozen=True)
class _Description:
    """What dataset.json holds beside its schema version and its dataset."""

    market: Market | None = None
    gaps: tuple[Span, ...] = ()
    begins: int | None = None
    unfinished: Span | None = None


class BarStore:
    """The datasets below one folder. Any number of processes may read and write them at the same time."""

    def __init__(self, root: str | Path | None = None, lock_timeout_s: float = 60.0):
        """Use ``root``, by default the environment's HISSBT_STORE or else the user's own data folder.

        A write waits up to ``lock_timeout_s`` for another process that writes the same dataset.
        """
        self.root = Path(root or os.environ.get("HISSBT_STORE") or _user_folder())
        self._lock_timeout_s = lock_timeout_s

    def datasets(self) -> list[Dataset]:
        """Return every dataset that is there, sorted. Raises StoreError for a description that is damaged."""
        found = [_read_description(path)[0] for path in self.root.glob(f"*/*/*/*/*/{_DESCRIPTION}")]
        return sorted(found, key=str)

    def folder(self, dataset: Dataset) -> Path:
        """Return where a dataset is or would be kept."""
        symbol = quote(dataset.symbol, safe="")
        return self.root / dataset.exchange / dataset.network / symbol / dataset.kind / dataset.timeframe

    # --- rows

    def write(self, dataset: Dataset, rows: np.ndarray, *, revise: bool = False) -> None:
        """Add rows, in any order, to the months that they belong to.

        ``rows`` are float64 [N, 1 + C]: the open (for funding: the event) in ms since 1970 UTC, then open, high,
        low, close and volume of a trade bar, open to close of a mark, index or premium bar, or the rate of
        funding. A row whose time is there already must have the same values, unless ``revise`` says that the new
        ones are right. When this returns, the rows are on disk; if it raises, no month is half-written.

        Raises StoreError for rows of another shape, not finite, off the timeframe's grid, of one time twice or
        different from what is there; if another process keeps the dataset; or if it cannot be written. Raises
        BarsError for prices that no market could have printed.
        """
        rows = _checked(dataset, rows)
        if len(rows) == 0:
            return
        columns = COLUMNS_OF[dataset.kind]
        with self._alone(dataset) as folder:
            self._describe(folder, dataset)
            months = month_starts(rows[:, 0])
            changed = {}
            for month in np.unique(months):
                path = month_path(folder, month)
                old = read_month(path, columns) if path.exists() else rows[:0]
                merged = _merge(path, old, rows[months == month], revise)
                if not np.array_equal(merged, old):
                    changed[path] = merged
            for path, merged in changed.items():
                write_month(path, merged, columns)

    def rows(self, dataset: Dataset, since: Time | None = None, until: Time | None = None) -> np.ndarray:
        """Return the rows in [since, until) by open, sorted, shaped as ``write`` takes them; there may be none."""
        since_ms, until_ms = _ms(since, -np.inf), _ms(until, np.inf)
        columns = COLUMNS_OF[dataset.kind]
        parts = [np.empty((0, 1 + len(columns)))]
        folder = self.folder(dataset)
        self._description(dataset)  # a dataset of another schema must not be read
        for month, path in month_paths(folder).items():
            if _month_ms(month + 1) > since_ms and _month_ms(month) < until_ms:
                parts.append(read_month(path, columns))
        rows = np.concatenate(parts)
        return rows[(rows[:, 0] >= since_ms) & (rows[:, 0] < until_ms)]

    def opens(self, dataset: Dataset, since: Time | None = None, until: Time | None = None) -> np.ndarray:
        """Return the times in [since, until) of the rows that are there, sorted, int64 ms since 1970 UTC."""
        return self.rows(dataset, since, until)[:, 0].astype(np.int64)

    def bars(self, dataset: Dataset, since: Time | None = None, until: Time | None = None) -> Bars:
        """Return the bars that open at or after ``since`` and close at or before ``until``, with their market.

        Mark, index and premium bars have a volume of 0. Raises StoreError where there are none, BarsError for a
        premium index, whose values are no prices (read its ``rows``).
        """
        rows = self.rows(dataset, since, until)
        if len(rows) == 0:
            span = f"from {since or 'the start'} to {until or 'the end'}"
            raise StoreError(f"there are no bars of {dataset} {span} in {self.root}: fetch them")
        bars = _as_bars(dataset, rows, self.market(dataset) or Market(dataset.symbol))
        return bars if until is None else bars.between(None, until)

    def funding(self, dataset: Dataset) -> pd.Series:
        """Return the funding rates, a fraction of notional each, by event time (UTC). There may be none."""
        if dataset.kind != "funding":
            raise StoreError(f"{dataset} is no funding: name a dataset of the kind funding")
        rows = self.rows(dataset)
        return pd.Series(rows[:, 1], index=_utc(rows[:, 0]).rename("event_time"), name="rate")

    # --- what is known beside the rows

    def market(self, dataset: Dataset) -> Market | None:
        """Return the market's rules that were stored, if any."""
        return self._description(dataset).market

    def set_market(self, dataset: Dataset, market: Market) -> None:
        """Store the market's rules."""
        self._change(dataset, market=market)

    def gaps(self, dataset: Dataset) -> list[Span]:
        """Return the accepted gaps, for which the exchange was asked in vain: (first open, exclusive end), ms."""
        return list(self._description(dataset).gaps)

    def set_gaps(self, dataset: Dataset, spans: Sequence[Span]) -> None:
        """Store the accepted gaps, in place of those that were stored."""
        gaps = tuple(sorted((int(first), int(end)) for first, end in spans))
        if any(first >= end for first, end in gaps):
            raise StoreError(f"a gap of {dataset} ends before it begins: pass (first open, exclusive end) in ms")
        self._change(dataset, gaps=gaps)

    def begins(self, dataset: Dataset) -> int | None:
        """Return the first open that the exchange has, in ms since 1970 UTC; None where that is not known."""
        return self._description(dataset).begins

    def set_begins(self, dataset: Dataset, first_open_ms: int | None) -> None:
        """Store the first open that the exchange has."""
        self._change(dataset, begins=None if first_open_ms is None else int(first_open_ms))

    def unfinished(self, dataset: Dataset) -> Span | None:
        """Return the span, in ms, of downloads that have begun and not ended well; None where all have."""
        return self._description(dataset).unfinished

    def set_unfinished(self, dataset: Dataset, span: Span | None) -> None:
        """Store the span of downloads that have begun, in place of the one that was stored."""
        self._change(dataset, unfinished=span and (int(span[0]), int(span[1])))

    # --- files

    def _description(self, dataset: Dataset) -> _Description:
        path = self.folder(dataset) / _DESCRIPTION
        if not path.exists():
            return _Description()
        found, description = _read_description(path)
        if found != dataset:
            raise unusable(path, f"describes {found}, which is not what its folder is named after")
        return description

    def _describe(self, folder: Path, dataset: Dataset) -> None:
        """Make sure that the folder tells what it holds, in this version's schema."""
        self._description(dataset)
        if not (folder / _DESCRIPTION).exists():
            _write_description(folder / _DESCRIPTION, dataset, _Description())

    def _change(self, dataset: Dataset, **changes: Any) -> None:
        with self._alone(dataset) as folder:
            old = self._description(dataset)
            new = replace(old, **changes)
            if new != old or not (folder / _DESCRIPTION).exists():
                _write_description(folder / _DESCRIPTION, dataset, new)

    @contextmanager
    def _alone(self, dataset: Dataset) -> Iterator[Path]:
        """Keep other writers out of the dataset's folder, which is made and cleared of what killed ones left."""
        from filelock import FileLock, Timeout  # here, for readers do without

        folder = self.folder(dataset)
        if file := file_in_the_way(folder):
            raise StoreError(f"{file} is a file, where a folder of the store would be made: name another store")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / _LOCK, timeout=self._lock_timeout_s):
                for left_over in (*folder.glob(".*.parquet"), *folder.glob(".*.json")):
                    left_over.unlink(missing_ok=True)
                yield folder
        except Timeout as error:
            raise StoreError(
                f"another process has kept {dataset} for {self._lock_timeout_s:g} s ({folder / _LOCK}): "
                "wait until it is done, or end it"
            ) from error
        except OSError as error:
            raise StoreError(
                f"{folder} cannot be written ({error.strerror or error}): make room there or name another store"
            ) from error


def _user_folder() -> Path:
    from platformdirs import user_data_path

    return user_data_path("hissbt") / "bars"


def _ms(time: Time | None, otherwise: float) -> float:
    return otherwise if time is None else parse_time(time).value / 1e6


def _month_ms(month: np.datetime64) -> int:
    return int(month.astype("datetime64[ms]").astype(np.int64))


def _utc(stamps_ms: np.ndarray) -> pd.DatetimeIndex:
    return pd.to_datetime(stamps_ms.astype(np.int64), unit="ms", utc=True).as_unit("ns")


# --- rows


def _checked(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Return the rows as sorted float64, or raise."""
    rows = np.asarray(rows, dtype=np.float64)
    columns = COLUMNS_OF[dataset.kind]
    if rows.size == 0:
        return np.empty((0, 1 + len(columns)))
    if rows.ndim != 2 or rows.shape[1] != 1 + len(columns):
        raise StoreError(f"rows of {dataset} are of shape {rows.shape}: pass [N, {1 + len(columns)}]")
    rows = rows[np.argsort(rows[:, 0], kind="stable")]
    times = rows[:, 0]
    _refuse(dataset, rows, ~np.isfinite(rows).all(axis=1), "a value that is missing or not finite")
    _refuse(dataset, rows, times != np.rint(times), "a time between two milliseconds")
    _refuse(dataset, rows, np.diff(times, prepend=-np.inf) <= 0, "the time of another row")
    if dataset.kind != "funding":
        _refuse(dataset, rows, _off_grid(dataset, times), f"an open off the grid of {dataset.timeframe}")
    if dataset.kind in ("trade", "mark", "index"):
        _as_bars(dataset, rows, Market(dataset.symbol))
    return rows


def _off_grid(dataset: Dataset, times: np.ndarray) -> np.ndarray:
    length_ms = parse_timeframe(dataset.timeframe) // pd.Timedelta(milliseconds=1)
    return slot_at_or_before(times, length_ms) != times


def _as_bars(dataset: Dataset, rows: np.ndarray, market: Market) -> Bars:
    values = rows[:, 1:]
    if values.shape[1] == len(_PRICES):
        values = np.column_stack([values, np.zeros(len(values))])
    closes = _utc(rows[:, 0]) + parse_timeframe(dataset.timeframe)
    try:
        return Bars(pd.DataFrame(values, index=closes, columns=list(COLUMNS)), market, dataset.timeframe)
    except BarsError as error:
        raise BarsError(f"in {dataset}, {error}") from error


def _refuse(dataset: Dataset, rows: np.ndarray, bad: np.ndarray, fault: str) -> None:
    if bad.any():
        row = rows[bad.argmax()]
        raise StoreError(f"a row of {dataset} has {fault}: {row.tolist()}; correct it or leave it out")


def _merge(path: Path, old: np.ndarray, new: np.ndarray, revise: bool) -> np.ndarray:
    """Return the rows of both, sorted; where both have one, the new one."""
    _, in_old, in_new = np.intersect1d(old[:, 0], new[:, 0], assume_unique=True, return_indices=True)
    differ = (old[in_old] != new[in_new]).any(axis=1)
    if differ.any() and not revise:
        first = differ.argmax()
        raise StoreError(
            f"{path} has the row {old[in_old[first]].tolist()}, and not {new[in_new[first]].tolist()} that is "
            "to be added: the exchange has revised it, so move the file away and fetch its span again"
        )
    rows = np.concatenate([np.delete(old, in_old, axis=0), new])
    return rows[np.argsort(rows[:, 0])]


# --- dataset.json


def _write_description(path: Path, dataset: Dataset, description: _Description) -> None:
    content = {"schema_version": SCHEMA_VERSION, "dataset": asdict(dataset)} | asdict(description)
    with synced_file(path) as temporary:
        temporary.write_text(to_json(content) + "\n", encoding="utf-8")


def _read_description(path: Path) -> tuple[Dataset, _Description]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["schema_version"]
        if version != SCHEMA_VERSION:
            raise unusable(path.parent, f"has schema version {version} where this hissbt reads {SCHEMA_VERSION}")
        market = content["market"] and _market(content["market"])
        gaps = tuple((int(first), int(end)) for first, end in content["gaps"])
        begins = None if content["begins"] is None else int(content["begins"])
        unfinished = content.get("unfinished") and tuple(map(int, content["unfinished"]))
        return Dataset(**content["dataset"]), _Description(market, gaps, begins, unfinished)
    except (OSError, ValueError, KeyError, TypeError, BarsError) as error:
        raise StoreError(
            f"{path} cannot be read, it may be damaged: delete it and fetch again, the months beside it stay"
        ) from error


def _market(values: dict) -> Market:
    """Return stored rules; a field that this version does not have makes them a stranger's."""
    unknown = values.keys() - {field.name for field in fields(Market)}
    if unknown:
        raise KeyError(*unknown)
    return Market(**values)
