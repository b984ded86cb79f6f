"""Whether a loader of bars, or a feed, shows a bar before it has closed."""

from __future__ import annotations

import math
from collections.abc import Callable

import backtrader as bt
import numpy as np
import pandas as pd

from hissbt.bars import COLUMNS, Bars
from hissbt.errors import AuditError
from hissbt.feeds.bulk import BarsFeed
from hissbt.research.audit.report import Report, Verdict
from hissbt.timeframe import parse_timeframe

_COUNT = 64


def audit_loader(load: Callable[[pd.DataFrame], Bars | bt.feed.DataBase], timeframe: str = "1h") -> Report:
    """Give ``load`` a table as exchanges write it, and compare when each bar is shown with when it was over.

    The table is made up: columns timestamp (UTC, when the bar OPENS), open, high, low, close, volume, with closes
    of which no two are equal. ``load`` returns Bars or a Backtrader feed. A bar is over a ``timeframe`` after its
    timestamp; one that is shown before lets a strategy act on prices that nobody had seen. Bars alone cannot tell:
    their stamps are all there is, so this is asked of what stamps them. Raises AuditError where ``load`` returns
    anything else.
    """
    length = parse_timeframe(timeframe)
    table = _table(length)
    shown = _shown(load(table.copy()))
    known_at = dict(zip(table["close"], table["timestamp"] + length, strict=True))
    early = [(stamp, known_at[close] - stamp) for stamp, close in shown if stamp < known_at.get(close, stamp)]
    strange = [stamp for stamp, close in shown if close not in known_at]
    name = getattr(load, "__name__", type(load).__name__)
    return Report(
        name, f"{_COUNT} bars of {timeframe}, stamped at their open", 1, (_stamps(early, length), _values(strange))
    )


def _stamps(early: list[tuple[pd.Timestamp, pd.Timedelta]], length: pd.Timedelta) -> Verdict:
    if not early:
        return Verdict("stamps", "pass", "no bar is shown before it has closed")
    first, wait = early[0]
    text = f"{len(early)} bars are shown before they have closed, by {max(ahead for _, ahead in early)} at most"
    return Verdict("stamps", "leak", text, bar=first.isoformat(), line="close", reach=math.ceil(wait / length))


def _values(strange: list[pd.Timestamp]) -> Verdict:
    if not strange:
        return Verdict("values", "pass", "every close is one of the table")
    text = f"{len(strange)} closes are not in the table, so when they were known cannot be told"
    return Verdict("values", "note", text, bar=strange[0].isoformat(), line="close")


def _table(length: pd.Timedelta) -> pd.DataFrame:
    opens = pd.date_range("2024-01-01", periods=_COUNT, freq=length, tz="UTC", name="timestamp")
    closes = 100.0 + np.arange(1, _COUNT + 1) / 4.0  # quarters: exact in float32, too
    first = np.concatenate([[100.0], closes[:-1]])
    values = np.column_stack([first, closes + 0.125, first - 0.125, closes, np.full(_COUNT, 8.0)])
    return pd.DataFrame(values, columns=list(COLUMNS)).assign(timestamp=opens)


def _shown(loaded: Bars | bt.feed.DataBase) -> list[tuple[pd.Timestamp, float]]:
    """Return when each close is shown to a strategy."""
    if isinstance(loaded, Bars):
        loaded = BarsFeed(loaded)
    if not isinstance(loaded, bt.feed.DataBase):
        raise AuditError(
            f"the loader returned {type(loaded).__name__}: it has to return Bars or a Backtrader feed"
        )
    cerebro = bt.Cerebro(stdstats=False, runonce=False)
    cerebro.adddata(loaded)
    cerebro.addstrategy(_Watch)
    seen = cerebro.run()[0].seen
    return [(pd.Timestamp(when, tz="UTC").round("ms"), close) for when, close in seen]


class _Watch(bt.Strategy):
    """Notes the time and the close of each bar."""

    def __init__(self):
        self.seen = []

    def next(self):
        """Note this bar."""
        self.seen.append((bt.num2date(self.data.datetime[0]), self.data.close[0]))
