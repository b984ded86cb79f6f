"""BarsFeed: bars as a Backtrader data feed that loads whole columns at once where it can."""

from __future__ import annotations

import math
import re
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from functools import cache

import backtrader as bt
import numpy as np
import pandas as pd
from backtrader.linebuffer import LineBuffer

from hissbt.bars import Bars
from hissbt.errors import BarsError

_DAY_NS = 86_400 * 10**9
_UNIX_EPOCH = 719_163  # Backtrader's number of 1970-01-01: days, with 0001-01-01 as day 1
_UNITS = (
    (pd.Timedelta(weeks=1), bt.TimeFrame.Weeks),
    (pd.Timedelta(days=1), bt.TimeFrame.Days),
    (pd.Timedelta(minutes=1), bt.TimeFrame.Minutes),
    (pd.Timedelta(seconds=1), bt.TimeFrame.Seconds),
)
# Names that Backtrader gives to attributes of every feed; a line of the same name would be hidden behind them.
_TAKEN = re.compile(r"[pl]|data.*|lines?|line_?\d+|tick_.*|notifs|_.*")


class _Tick:
    """What a feed calls tick_close and so on: of a whole bar the line's value itself, so nothing is stored.

    Backtrader fills these attributes anew at every bar, all but the last one, and its broker reads them. What
    Backtrader still stores, where it shows bars one by one, hides this.
    """

    def __init__(self, line: int):
        self.line = line

    def __get__(self, feed: BarsFeed | None, owner: type) -> float | _Tick | None:
        if feed is None:
            return self
        return feed.lines.lines[self.line][0] if 0 < len(feed) < feed.buflen() else None


class _MetaBarsFeed(type(bt.feed.DataBase)):
    """Lets a feed of Bars be made from the Bars alone: parameters and extra lines follow from them."""

    def __init__(cls, name: str, bases: tuple, namespace: dict):
        super().__init__(name, bases, namespace)
        ticks = {f"tick_{alias}": line for line, alias in enumerate(cls.lines.getlinealiases())} | {"tick_last": 0}
        del ticks["tick_datetime"]
        for tick in ticks.keys() - set(dir(cls)):
            setattr(cls, tick, _Tick(ticks[tick]))
        feed = bt.feed.DataBase
        cls._fills_ticks = (cls._tick_fill, cls._tick_nullify) != (feed._tick_fill, feed._tick_nullify)

    def doprenew(cls, dataname: Bars | None = None, **kwargs: object) -> tuple[type, tuple, dict]:
        """Backtrader's hook before an instance is made: choose the class, complete the parameters."""
        if not isinstance(dataname, Bars):
            raise BarsError(
                f"BarsFeed cannot read {type(dataname).__name__}: pass it the Bars that load_bars returns"
            )
        unit, compression = backtrader_timeframe(dataname.timeframe)
        known = {"name": dataname.market.symbol, "timeframe": unit, "compression": compression}
        return _with_lines(cls, dataname.extra_columns), (), known | kwargs | {"dataname": dataname}


class BarsFeed(bt.feed.DataBase, metaclass=_MetaBarsFeed):
    """A Backtrader feed of Bars: ``cerebro.adddata(BarsFeed(bars))``.

    Takes every parameter of a Backtrader feed; name, timeframe and compression follow from the bars. The datetime
    line holds close times in UTC, and ``fromdate`` and ``todate`` are compared with them, both inclusive, as in
    Backtrader's own feeds. Extra columns of the bars become lines of the feed under their names; Backtrader's
    resampler and replayer drop them, so resample the bars instead where they are needed. Raises BarsError for
    anything but Bars, and for an extra column whose name Backtrader uses itself.
    """

    _plain_class: type | None = None  # set where lines were added: the class without them
    _added_lines: tuple[str, ...] = ()
    _columns: tuple[tuple[LineBuffer, array], ...] = ()
    _row = 0
    _fills_ticks = False  # whether a subclass fills the tick attributes in a way of its own

    @property
    def bars(self) -> Bars:
        """The bars that this feed delivers, all of them: only for what is the same at every bar, as the market."""
        return self.p.dataname

    def start(self) -> None:
        """Backtrader's hook before a run: go to the first bar."""
        super().start()
        frame = self.bars.frame
        values = {name: frame[name].to_numpy() for name in frame.columns}
        values["datetime"] = date_numbers(frame.index)
        absent = np.full(len(frame), np.nan)
        # Arrays of Python floats, since a numpy scalar in a line would change what a strategy computes with.
        self._columns = tuple(
            (line, array("d", values.get(name, absent).tobytes()))
            for name, line in zip(self.getlinealiases(), self.lines, strict=True)
        )
        self._row = 0
        # As plain attributes the lines are found four times faster than through Backtrader's search.
        for name, line in zip(self.getlinealiases(), self.lines, strict=True):
            if not hasattr(type(self), name):
                setattr(self, name, line)

    def stop(self) -> None:
        """Backtrader's hook after a run: let the columns go."""
        super().stop()
        self._columns = ()

    def preload(self) -> None:
        """Backtrader's hook to load everything: whole columns, unless each bar must be looked at on its way."""
        if self._needs_each_bar():
            super().preload()
            return
        closes = self._columns[self.getlinealiases().index("datetime")][1]
        first, last = bisect_left(closes, self.fromdate), bisect_right(closes, self.todate)
        for line, column in self._columns:
            # In front: what the array holds already is the room for look-ahead that belongs behind the last bar.
            line.array[:0] = column[first:last]
        self._row = len(self.bars)
        self._columns = ()  # the lines hold the values now, and a pickled feed should not carry them twice
        self.home()

    def __len__(self) -> int:
        return self.lines.lines[0].lencount

    def advance_peek(self) -> float:
        """Backtrader's hook to look at the time of the next bar, infinite after the last one."""
        times = self.lines.lines[self.DateTime]
        if times.lencount < len(times.array) - times.extension:
            return times.array[times.idx + 1]
        return math.inf

    def advance(self, size: int = 1, datamaster: bt.feed.DataBase | None = None, ticks: bool = True) -> None:
        """Backtrader's hook to go to the next bar of those loaded: move the lines, and store nothing."""
        if datamaster is not None or self.lines.lines[0].mode == LineBuffer.QBuffer or self._fills_ticks:
            super().advance(size, datamaster, ticks)
            return
        for line in self.lines.lines:
            line._idx += size
            line.lencount += size
        if ticks and "tick_last" in vars(self):
            self.forget_ticks()

    def qbuffer(self, savemem: int = 0, replaying: bool = False) -> None:
        """Backtrader's hook for exactbars=1: keep as many bars as are looked back at, and one more."""
        super().qbuffer(savemem, replaying=True)  # "replaying" is what asks for the one more

    def rewind(self, size: int = 1) -> None:
        """Backtrader's hook to put back a bar that is too early, as another feed has an earlier one.

        In a short buffer Backtrader only counts it back: strategies would see it before its time, and no more at
        its own. Here it leaves the buffer and waits to be loaded again.
        """
        if self.lines[0].mode != LineBuffer.QBuffer:
            super().rewind(size)
            return
        bar = [line[0] for line in self.lines]
        self.backwards(force=True)
        self._barstack.appendleft(bar)

    def forget_ticks(self) -> None:
        """Drop the tick attributes that Backtrader has stored, so that they follow the lines again."""
        for name in [name for name in vars(self) if name.startswith("tick_")]:
            delattr(self, name)

    def _needs_each_bar(self) -> bool:
        """Tell whether bars pass through filters, another timezone, a short buffer or a subclass's own loader."""
        bounded = self.lines[0].mode == LineBuffer.QBuffer
        own_loader = type(self)._load is not BarsFeed._load
        return bool(self._filters) or bool(self._tzinput) or bounded or own_loader

    def _load(self) -> bool:
        """Backtrader's hook for one bar: write it to the lines, or return False after the last."""
        if self._row == len(self.bars):
            return False
        for line, column in self._columns:
            line[0] = column[self._row]
        self._row += 1
        return True

    def __reduce_ex__(self, protocol: int) -> tuple[Callable, tuple, dict]:
        # A class with added lines exists in this process only; another one makes it anew from the names.
        return _restore, (self._plain_class or type(self), self._added_lines), self.__dict__


def date_numbers(closes: pd.DatetimeIndex) -> np.ndarray:
    """Return float64 [T]: ``bt.date2num`` of every time, to the last bit for times of whole seconds."""
    # The day is added last, as date2num does in effect: a sum in another order may be rounded to a neighbor.
    days, since_midnight_ns = np.divmod(closes.asi8, _DAY_NS)  # [T], [T]
    return days + _UNIX_EPOCH + since_midnight_ns / _DAY_NS


def backtrader_timeframe(length: pd.Timedelta) -> tuple[int, int]:
    """Return Backtrader's unit and compression for the length of a bar."""
    for unit, name in _UNITS:
        if length % unit == pd.Timedelta(0):
            return name, length // unit
    raise BarsError(f"Backtrader has no timeframe of {length}: use bars of whole seconds")


@cache
def _with_lines(plain: type, columns: tuple[str, ...]) -> type:
    """Return the feed class with a line for each column that it has none for yet."""
    standard = bt.feed.DataBase.lines.getlinealiases()
    added = tuple(name for name in columns if name not in set(plain.lines.getlinealiases()).difference(standard))
    for name in added:
        if _is_taken(name):
            raise BarsError(f"the extra column {name!r} cannot be a line of a feed: rename it in the bars")
    if not added:
        return plain
    # Backtrader keeps helper classes under the class's name, so different lines need different names.
    name = f"{plain.__name__}[{','.join(added)}]"
    body = {"lines": added, "_plain_class": plain, "_added_lines": added}
    return type(plain)(name, (plain,), body | {"__module__": plain.__module__, "__doc__": plain.__doc__})


def _is_taken(name: str) -> bool:
    feed = bt.feed.DataBase
    used = any(name in dir(owner) for owner in (BarsFeed, feed.lines, feed.params))
    return used or not name.isidentifier() or _TAKEN.fullmatch(name) is not None


def _restore(plain: type, added_lines: tuple[str, ...]) -> BarsFeed:
    """Return an empty feed of the right class, for pickle to fill."""
    feed_class = _with_lines(plain, added_lines)
    return feed_class.__new__(feed_class)
