"""Bars from CSV (also .gz) and Parquet files."""

import re
import zlib
from pathlib import Path

import pandas as pd
import pyarrow as pa

from hissbt.bars import COLUMNS, Bars
from hissbt.errors import BarsError
from hissbt.market import Market

_SUFFIXES = (".csv", ".csv.gz", ".parquet")
_UNREADABLE = (OSError, EOFError, ValueError, zlib.error, pa.ArrowException)


def is_bars_file(path: str | Path) -> bool:
    """Tell by the suffix whether a path names a file that ``load_file`` can read."""
    return str(path).lower().endswith(_SUFFIXES)


def load_file(
    path: str | Path,
    *,
    market: Market | None = None,
    timeframe: str | pd.Timedelta | None = None,
    stamp: str = "open",
) -> Bars:
    """Return the bars in a file; what its columns and times may look like is told at ``Bars.from_frame``.

    Without ``market``, it is a market that never closes, and its symbol is read from the name of the file. Raises
    BarsError when the file is missing, empty, damaged or of another kind, or its bars are bad.
    """
    path = Path(path)
    frame = read_table(path)
    try:
        return Bars.from_frame(frame, market=market or Market(symbol_of(path)), timeframe=timeframe, stamp=stamp)
    except BarsError as error:
        raise BarsError(f"in {path.name}, {error}") from error


def symbol_of(path: str | Path) -> str:
    """Return the first word in capitals of a file name, such as BTCUSDT in ``bybit_linear_BTCUSDT_1h.csv.gz``.

    Words are parted by underscores. A name without such a word is its own symbol.
    """
    stem = re.sub(r"\.(csv|csv\.gz|parquet)$", "", Path(path).name, flags=re.IGNORECASE)
    symbols = (word for word in stem.split("_") if re.fullmatch(r"[A-Z][A-Z0-9.-]*", word))
    return next(symbols, stem)


def read_table(path: Path, columns: tuple[str, ...] = COLUMNS) -> pd.DataFrame:
    """Return the table in a CSV or Parquet file as it stands; a CSV's header must name one of ``columns``.

    Raises BarsError when the file is missing, empty, damaged or of another kind.
    """
    if not is_bars_file(path):
        raise BarsError(f"{path} is no file of bars: its name must end in {', '.join(_SUFFIXES)}")
    if path.is_dir():
        raise BarsError(f"{path} is a folder: name a file of bars in it")
    if not path.exists():
        raise BarsError(f"there is no file {path}: check the path")
    if path.stat().st_size == 0:
        raise BarsError(f"{path} is empty: fetch it again")
    try:
        return pd.read_parquet(path) if path.suffix.lower() == ".parquet" else _read_csv(path, columns)
    except PermissionError as error:
        raise BarsError(f"{path} may not be read: change its permissions") from error
    except _UNREADABLE as error:
        raise BarsError(f"{path} cannot be read, it may be damaged or of another kind: fetch it again") from error


def _read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    frame = pd.read_csv(path)
    if not any(str(name).strip().lower() in columns for name in frame.columns):
        raise BarsError(
            f"{path} has no header: its first line must name the columns timestamp,{','.join(columns)}"
        )
    return frame
