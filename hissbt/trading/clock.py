"""Backtrader's times as whole milliseconds, and how long the bars of a feed are."""

from __future__ import annotations

import backtrader as bt
import pandas as pd

DAY_MS = 86_400_000
UNIX_EPOCH = 719_163
"""Backtrader counts days, with 0001-01-01 as day 1; 1970-01-01 is this one."""

# A month or a year has no length, and a tick none at all.
_LENGTHS = {
    bt.TimeFrame.Weeks: pd.Timedelta(weeks=1),
    bt.TimeFrame.Days: pd.Timedelta(days=1),
    bt.TimeFrame.Minutes: pd.Timedelta(minutes=1),
    bt.TimeFrame.Seconds: pd.Timedelta(seconds=1),
}


def to_ms(date_number: float) -> int:
    """Return Backtrader's number of days in ms since 1970; as a float it is good to some 20 us."""
    return round((date_number - UNIX_EPOCH) * DAY_MS)


def to_date_number(time_ms: int) -> float:
    """Return ms since 1970 in Backtrader's days."""
    return UNIX_EPOCH + time_ms / DAY_MS


def bar_length(data: bt.feed.AbstractDataBase) -> pd.Timedelta | None:
    """Return the length of a feed's bars; None for ticks, months and years."""
    unit = _LENGTHS.get(data._timeframe)
    return None if unit is None else unit * data._compression
