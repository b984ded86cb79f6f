"""One data as PerpBroker trades it: where its bar lies in time, what trading costs, what was held meanwhile."""

from __future__ import annotations

import math

import backtrader as bt
import pandas as pd

from hissbt.market import ALWAYS_OPEN, Market
from hissbt.trading.clock import bar_length, to_date_number, to_ms
from hissbt.trading.commission import PerpCommission
from hissbt.trading.events import FundingEvents
from hissbt.trading.holes import Holes
from hissbt.trading.impact import Impact

_ANY = Market("any", calendar=ALWAYS_OPEN)
_MS = pd.Timedelta(milliseconds=1)


class Instrument:
    """A data, its terms, and the bar that it shows.

    ``moved`` tells whether the bar is new since the last look; ``opened_ms`` and ``closed_ms`` are its times and
    ``previous_ms`` the close of the bar before (None at the first); ``has_events`` is False where no funding event
    falls between these two closes; ``sizes`` are the sizes that were held one after the other since the fills at
    the open, where there were fills inside the bar.
    """

    def __init__(
        self,
        data: bt.feed.AbstractDataBase,
        scheme: PerpCommission,
        half_spread: float,
        coefficient: float,
        volume_limit: float | None,
    ):
        self.data, self.scheme = data, scheme
        self.events = None if scheme.p.funding is None else FundingEvents(scheme.p.funding)
        self.market = scheme.p.market or _ANY
        self.moved = False
        self.dt = self.previous_dt = -math.inf  # closes of this bar and of the one before, as date numbers
        self.opened_ms = self.closed_ms = self.previous_ms = self.first_ms = None
        self.has_events = False
        self._next_event_ms = -math.inf
        self.last_close = math.nan  # of the bar before
        self.sizes: list[float] = []
        self.volume_left = math.inf
        self._volume_limit = volume_limit
        self.length = self.previous_length = 0  # bars there were at this look and the one before
        self._reach = None
        self._bars = getattr(data, "bars", None)
        self._length = bar_length(data)
        self._length_ms = 0 if self._length is None else self._length // _MS
        self._impact = self._make_impact(half_spread, coefficient) if half_spread or coefficient else None
        self._marks = None if scheme.p.mark is None else _by_close(scheme.p.mark)
        self.missing_bars = Holes(data).missing_bars

    def look(self) -> bool:
        """Take note of the bar that the data shows; return whether it is a new one."""
        data = self.data
        length = len(data)
        dt = data.datetime[0] if length else -math.inf
        self.moved = length > 0 and (length != self.length or dt != self.dt)
        if self.moved:
            if length > self.length + 1:
                self._catch_up(length - self.length - 1)
            self._reach = None
            self.previous_length, self.length = self.length, length
            self.previous_dt, self.dt = self.dt, dt
            self.previous_ms, self.closed_ms = self.closed_ms, to_ms(dt)
            opened = self.closed_ms - self._length_ms if self._length_ms else self.previous_ms
            self.opened_ms = (
                opened if self.previous_ms is None or opened is None else max(opened, self.previous_ms)
            )
            if self.first_ms is None:
                self.first_ms = self.opened_ms if self.opened_ms is not None else self.closed_ms
            if self.sizes:
                self.sizes = []
            if self._volume_limit is not None:
                volume = data.volume[0]
                self.volume_left = self._volume_limit * volume if volume > 0 else 0.0  # NaN is none, too
            if self.events is not None:
                self.has_events = self.closed_ms >= self._next_event_ms
                if self.has_events:
                    self._next_event_ms = self.events.next_after(self.closed_ms)
        return self.moved

    @property
    def next_event(self) -> float:
        """The time of the first funding event after the bar, as a Backtrader date number; inf if there is none."""
        return math.inf if self.events is None else to_date_number(self._next_event_ms)

    def close_bar(self) -> None:
        """Let the bar become one of those that are known."""
        close = self.data.close[0]
        if self.events is not None:
            self.last_close = self._mark(3, close)
        if self._impact is not None:
            self._impact.update((close, self.data.volume[0]))

    @property
    def has_marks(self) -> bool:
        """Whether there is a mark price beside the traded one."""
        return self._marks is not None

    @property
    def open(self) -> float:
        """The bar's open; where bars grow in a replay, that of its latest part."""
        tick = getattr(self.data, "tick_open", None)
        return self.data.open[0] if tick is None else tick

    @property
    def close(self) -> float:
        """The bar's close; where bars grow in a replay, that of its latest part."""
        tick = getattr(self.data, "tick_close", None)
        return self.data.close[0] if tick is None else tick

    @property
    def reach(self) -> tuple[float, float]:
        """The bar's lowest and highest price, its open included."""
        if self._reach is None:
            opened, data = self.open, self.data
            self._reach = min(opened, data.low[0]), max(opened, data.high[0])
        return self._reach

    @property
    def mark_open(self) -> float:
        """The open of the mark price, or of the price itself."""
        return self._mark(0, self.open)

    @property
    def mark_close(self) -> float:
        """The close of the mark price, or of the price itself."""
        return self._mark(3, self.data.close[0])

    def worst(self, size: float) -> float:
        """Return the bar's worst mark price for a position of this sign."""
        return self._mark(2, self.data.low[0]) if size > 0 else self._mark(1, self.data.high[0])

    def cost(self, size: float, price: float) -> float:
        """Return the fraction of the price that a fill of this size costs beyond it."""
        return 0.0 if self._impact is None else self._impact.cost(self.quantity(size, price))

    def quantity(self, size: float, price: float) -> float:
        """Return a size in the units of the volume: of an inverse contract this is the base coin."""
        return abs(size) / price if self.scheme.inverse else abs(size)

    def size_of(self, quantity: float, price: float) -> float:
        """Return the size, without sign, of a quantity in the units of the volume."""
        return quantity * price if self.scheme.inverse else quantity

    def span_ms(self) -> tuple[int, int] | None:
        """Return the first open and the last close of the run, None where they are not known beforehand."""
        if self._bars is not None:
            return self._bars.open_times[0].value // 10**6, self._bars.frame.index[-1].value // 10**6
        stamps = self.data.lines.datetime.array
        if self.data.buflen() <= len(self.data) or not self._length_ms:
            return None
        return to_ms(stamps[0]) - self._length_ms, to_ms(stamps[self.data.buflen() - 1])

    def _catch_up(self, count: int) -> None:
        """Let the bars before this one have closed that nobody looked at, because nothing could happen in them."""
        data, length = self.data, len(self.data)
        if self._impact is not None:
            self._impact.update(*zip(data.close.get(-1, count), data.volume.get(-1, count), strict=True))
        self.length, self.dt = length - 1, data.datetime[-1]
        self.closed_ms = to_ms(self.dt)
        self.last_close = self._mark(3, data.close[-1])

    def _mark(self, column: int, price: float) -> float:
        if self._marks is None:
            return price
        prices = self._marks.get(self.closed_ms)
        return price if prices is None else prices[column]

    def _make_impact(self, half_spread: float, coefficient: float) -> Impact:
        market = _ANY if self._bars is None else self._bars.market
        length = self._length
        bars_per_day = 1.0 if length is None else market.bars_per_year(length) / market.periods_per_year
        return Impact(half_spread, coefficient, bars_per_day)


def _by_close(mark) -> dict[int, tuple[float, float, float, float]]:
    prices = mark.frame[["open", "high", "low", "close"]].itertuples(index=False, name=None)
    return dict(zip((mark.frame.index.as_unit("ms").asi8).tolist(), prices, strict=True))
