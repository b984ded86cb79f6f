"""Lines that move together, and feeds that are gone through by moving them."""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterator
from contextlib import ExitStack

import backtrader as bt
from backtrader.lineiterator import LineIterator

from hissbt.errors import StrategyError
from hissbt.feeds.bulk import BarsFeed
from hissbt.loop.own import MOVES, TICKS, differs


class _Roomy(bt.LineBuffer):
    """A line that makes room for all bars at once."""

    def forward(self, value: float = math.nan, size: int = 1) -> None:
        self.idx += size
        self.lencount += size
        self.array.extend(array("d", (value,)) * size)


def compute_once(strategy: bt.Strategy) -> None:
    """Do what Strategy._once does: let the indicators compute all bars."""
    owners = (strategy, *strategy._lineiterators[LineIterator.IndType])
    lines = [line for owner in owners if isinstance(owner, bt.LineSeries) for line in owner.lines.lines]
    roomy = [line for line in lines if can_follow([line])]
    for line in roomy:
        line.__class__ = _Roomy
    try:
        strategy._once()
    finally:
        for line in roomy:
            line.__class__ = bt.LineBuffer


class Cursor:
    """Where lines that move together stand, under the names that a single line has for it."""

    __slots__ = ("idx", "lencount", "lines")

    def __init__(self):
        self.idx, self.lencount, self.lines = -1, 0, []

    def take(self, lines: list[bt.LineBuffer]) -> None:
        """Let lines that stand before their first bar follow."""
        for line in lines:
            line.cursor, line.__class__ = self, Line
        self.lines += lines

    def release(self) -> None:
        """Let the lines stand for themselves again."""
        for line in self.lines:
            del line.cursor
            line.__class__ = bt.LineBuffer
            line._idx, line.lencount = self.idx, self.lencount


class Line(bt.LineBuffer):
    """A line that stands where its cursor stands."""

    def __getitem__(self, ago: int) -> float:
        return self.array[self.cursor.idx + ago]

    def __len__(self) -> int:
        return self.cursor.lencount

    def _refuse(self, place: int) -> None:
        raise StrategyError(
            "a line of a feed or an indicator was moved by hand, which accelerate does not support: run without it"
        )

    _idx = idx = property(lambda self: self.cursor.idx, _refuse)
    lencount = property(__len__, _refuse)


def can_follow(lines: list[bt.LineBuffer]) -> bool:
    """Tell whether the lines are plain ones that stand before their first bar."""
    at_home = (bt.LineBuffer.UnBounded, -1, 0)
    return all(type(line) is bt.LineBuffer and (line.mode, line._idx, line.lencount) == at_home for line in lines)


def place_of(line: bt.LineBuffer) -> bt.LineBuffer | Cursor:
    """Return what knows where the line stands: its cursor, or the line itself."""
    return getattr(line, "cursor", line)


class Walker:
    """Goes through a feed by moving a cursor, under the names by which Backtrader goes through feeds."""

    def __init__(self, feed: BarsFeed, cursor: Cursor):
        self.cursor = cursor
        self.times = feed.lines.datetime.array[: feed.buflen()]

    def advance_peek(self) -> float:
        """Return the time of the next bar, infinite after the last."""
        ahead = self.cursor.lencount
        return self.times[ahead] if ahead < len(self.times) else math.inf

    def advance(self) -> None:
        """Go to the next bar."""
        cursor = self.cursor
        cursor.idx += 1
        cursor.lencount += 1


def walker_of(feed: bt.feed.AbstractDataBase, undo: ExitStack) -> bt.feed.AbstractDataBase | Walker:
    """Return what goes through the feed: a cursor for a BarsFeed, and otherwise the feed itself."""
    lines = feed.lines.lines
    own = ("advance_peek", "buflen", *MOVES, *TICKS)
    if not isinstance(feed, BarsFeed) or differs(feed, BarsFeed, own) or not can_follow(lines):
        return feed
    feed.forget_ticks()
    cursor = Cursor()
    cursor.take(lines)
    undo.callback(cursor.release)
    return Walker(feed, cursor)


def moments(walkers: list) -> Iterator[float]:
    """Bring forward the feeds whose bar is next, and yield its time, until there is none."""
    if len(walkers) == 1 and isinstance(walkers[0], Walker):
        cursor = walkers[0].cursor
        for index, now in enumerate(walkers[0].times):
            cursor.idx, cursor.lencount = index, index + 1
            yield now
        return
    while True:
        times = [walker.advance_peek() for walker in walkers]
        now = min(times)
        if now == math.inf:
            return
        for walker, time in zip(walkers, times, strict=True):
            if time <= now:
                walker.advance()
        yield now
