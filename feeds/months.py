"""Month files: the rows of one dataset in one month, checked when read, replaced as a whole when written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from hissbt.atomic import atomic_file
from hissbt.errors import StoreError

SCHEMA_VERSION = 1
_TIME = pa.field("time", pa.timestamp("ms", tz="UTC"))
_VERSION_KEY = b"hissbt_schema"


def month_starts(stamps: np.ndarray) -> np.ndarray:
    """Return, for times in ms since 1970 UTC, the start of the month of each, as datetime64[M]."""
    return stamps.astype(np.int64).astype("datetime64[ms]").astype("datetime64[M]")


def month_path(folder: Path, month: np.datetime64) -> Path:
    """Return where the rows of one month are kept."""
    return folder / f"{month}.parquet"


def month_paths(folder: Path) -> dict[np.datetime64, Path]:
    """Return the month files of a folder, in order. Temporary files of killed writers are not among them."""
    found = sorted(folder.glob("[0-9]*.parquet"))
    return {_named_month(path): path for path in found}


def read_month(path: Path, columns: tuple[str, ...]) -> np.ndarray:
    """Return the rows of a month file as float64 [N, 1 + C]: the time in ms since 1970 UTC, then the columns.

    Raises StoreError for a file that is damaged or of another schema, and for rows that are unsorted, repeated,
    not finite, or not of the month that the file is named after.
    """
    try:
        table = pq.read_table(pa.BufferReader(path.read_bytes()), page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        raise unusable(path, "cannot be read, it may be damaged") from error
    version = (table.schema.metadata or {}).get(_VERSION_KEY, b"none").decode(errors="replace")
    if version != str(SCHEMA_VERSION):
        raise unusable(path, f"has schema version {version} where this hissbt reads {SCHEMA_VERSION}")
    if not table.schema.equals(_schema(columns)):
        found = ", ".join(f"{field.name} {field.type}" for field in table.schema)
        raise unusable(path, f"has columns other than {_TIME.name}, {', '.join(columns)}: {found}")
    if any(column.null_count for column in table.columns):
        raise unusable(path, "has missing values")
    times, *values = table.columns
    rows = np.column_stack([times.cast(pa.int64()).to_numpy(), *(column.to_numpy() for column in values)])
    _check(path, rows)
    return rows


def write_month(path: Path, rows: np.ndarray, columns: tuple[str, ...]) -> None:
    """Replace a month file; ``rows`` are as ``read_month`` returns them."""
    times = pa.array(rows[:, 0].astype(np.int64)).cast(_TIME.type)
    table = pa.Table.from_arrays([times, *map(pa.array, rows[:, 1:].T)], schema=_schema(columns))
    with synced_file(path) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


@contextmanager
def synced_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path as ``atomic_file`` does, and let nothing of the new file wait in the system's cache.

    Whoever reads ``path``, even after a crash at any moment, finds the whole old file or the whole new one.
    """
    with atomic_file(path) as temporary:
        yield temporary
        _sync(temporary, os.O_RDWR)
    if os.name != "nt":  # Windows opens no folders
        _sync(path.parent, os.O_RDONLY)


def unusable(path: Path, fault: str) -> StoreError:
    """Return the error for a file of the store that must not be used."""
    return StoreError(f"{path} {fault}: move it away and fetch its span again")


def _schema(columns: tuple[str, ...]) -> pa.Schema:
    fields = [_TIME, *(pa.field(name, pa.float64()) for name in columns)]
    return pa.schema(fields, metadata={_VERSION_KEY: str(SCHEMA_VERSION).encode()})


def _named_month(path: Path) -> np.datetime64:
    try:
        return np.datetime64(path.stem, "M")
    except ValueError as error:
        raise unusable(path, "is not named after a month such as 2024-01") from error


def _check(path: Path, rows: np.ndarray) -> None:
    if len(rows) == 0:
        raise unusable(path, "has no rows")
    if not np.isfinite(rows).all():
        raise unusable(path, "has values that are not finite")
    if (np.diff(rows[:, 0]) <= 0).any():
        raise unusable(path, "has rows that are repeated or not in the order of time")
    if (month_starts(rows[:, 0]) != _named_month(path)).any():
        raise unusable(path, "has rows of another month")


def _sync(path: Path, mode: int) -> None:
    handle = os.open(path, mode)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
