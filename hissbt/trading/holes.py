"""Bars that are missing in a feed, seen bar by bar."""

from __future__ import annotations

import backtrader as bt

from hissbt.trading.clock import bar_length, to_ms


class Holes:
    """Tells how many bars are missing just before the one that a feed shows.

    A BarsFeed counts by the calendar of its market; any other feed by the clock, and in bars without a fixed
    length nothing is ever missing. Before the first bar that is asked for, too.
    """

    def __init__(self, data: bt.feed.AbstractDataBase):
        self._data = data
        length = bar_length(data)
        self._length_ms = None if length is None else length.value // 10**6
        self._by_close = _by_close(data, length)
        self._now = self._missing = None

    def missing_bars(self) -> int:
        """Return the count for the bar at [0]; ask at each bar, as often as you like."""
        close_ms = to_ms(self._data.datetime[0])
        if close_ms != self._now:
            self._missing, self._now = self._count(close_ms), close_ms
        return self._missing

    def _count(self, close_ms: int) -> int:
        if self._by_close is not None:
            return self._by_close.get(close_ms, 0)
        if self._now is None or self._length_ms is None:
            return 0
        return max(0, (close_ms - self._now) // self._length_ms - 1)


def _by_close(data: bt.feed.AbstractDataBase, length) -> dict[int, int] | None:
    """Return the counts by the close after each hole, None where no calendar knows the bars."""
    bars = getattr(data, "bars", None)
    if bars is None or bars.timeframe != length:
        return None
    closes = bars.frame.index
    missing = bars.market.missing_before(closes, length)
    return {closes[row].value // 10**6: int(missing[row]) for row in missing.nonzero()[0]}
