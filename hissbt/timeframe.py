"""Timeframes as people write them: ``1m 5m 15m 1h 4h 1d 1w``."""

import re

import pandas as pd

from hissbt.errors import BarsError

_UNITS = {"s": "s", "m": "min", "h": "h", "d": "D", "w": "W"}


def parse_timeframe(text: str) -> pd.Timedelta:
    """Return the length of one bar; raises BarsError for anything but a count and one of s, m, h, d, w.

    Capitals mean the same, except M: exchanges write months so, which must not pass for minutes.
    """
    match = re.fullmatch(r"(\d+)([smhdwSHDW])", text.strip())
    if match is None or int(match[1]) == 0:
        raise BarsError(f"unknown timeframe {text!r}: write a count and a unit, such as 5m, 1h or 1d")
    try:
        return pd.Timedelta(int(match[1]), unit=_UNITS[match[2].lower()]).as_unit("ns")  # as the stamps of bars
    except pd.errors.OutOfBoundsTimedelta as error:
        raise BarsError(f"timeframe {text!r} is longer than any series: write one such as 5m, 1h or 1d") from error


def format_timeframe(length: pd.Timedelta) -> str:
    """Return the shortest spelling of a bar length, such as ``1h`` for 60 minutes."""
    seconds = int(length.total_seconds())
    for unit, size in (("w", 604800), ("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"


def is_intraday(length: pd.Timedelta) -> bool:
    """Tell whether several bars fit in one day."""
    return length < pd.Timedelta(days=1)
