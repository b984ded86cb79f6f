"""How much of an order fills where its price is reached, and what a taker pays."""

from __future__ import annotations

import math
from enum import IntEnum

from backtrader.order import Order

from hissbt.trading import orders
from hissbt.trading.booking import Match
from hissbt.trading.instrument import Instrument
from hissbt.trading.liquidation import LiquidationLayer
from hissbt.trading.sizing import FLAT

STOPS = (Order.Stop, Order.StopLimit, Order.StopTrail, Order.StopTrailLimit)


class Phase(IntEnum):
    """The passes through the waiting orders at a bar, in their order."""

    OPEN = 0
    STOPS = 1
    LIMITS = 2
    CLOSE = 3


class FillLayer(LiquidationLayer):
    """Fills orders whose price Backtrader's matching finds reached."""

    params = (("half_spread", 0.0), ("impact", 0.0), ("volume_limit", None))

    def init(self):
        """Backtrader's hook before a run."""
        super().init()
        self._phase = Phase.OPEN
        self._entered_inside: dict[int, float] = {}  # by entry that filled inside this bar: its price
        self._reduce_only: set[int] = set()
        self._triggered: set[int] = set()  # stops whose price was reached: they are market orders from then on
        self._is_a_limit = False  # the order in hand is a stop-limit that an earlier bar has triggered
        self._earliest: dict[int, int] = {}  # by order that is late: the length of its data at which it arrives
        self._after: dict[
            int, float
        ] = {}  # by order, if not its own time: the bar after which it is in the market

    def _execute(self, order, ago=None, price=None, cash=None, position=None, dtcoc=None):
        """Fill what can be filled of an order whose price was reached; ``price`` is the market's."""
        if ago is None or price is None or price != price:
            return
        instrument = self._instruments[order.data]
        if order.exectype in (Order.Stop, Order.StopTrail):
            self._triggered.add(order.ref)
            if order.parent is not None:
                self.cancel(order.parent, bracket=True)  # what is left of the entry must not come after its stop
        size = self._fillable(order, instrument, price, ago)
        if not size:
            return
        maker = self._is_maker(order, instrument)
        paid = price if maker else self._slipped(order, instrument, size, price)
        if order.exectype in STOPS and order.parent is not None and not order.executed.size:
            self._count_stop(order)
        at = self._place_in_bar(price == instrument.open or dtcoc)
        self._book(Match(order, instrument, size, paid, price, at, dtcoc or order.data.datetime[ago], maker))

    def _is_maker(self, order: Order, instrument: Instrument) -> bool:
        """Tell whether it is a limit order that was in the market before this bar, or before its price was met."""
        if order.exectype == Order.Limit:
            return self._phase is Phase.LIMITS or self._has_rested(order, instrument)
        if not order.triggered:
            return False
        # What a stop-limit waits with is a stop: only once it is triggered does its limit come into the market.
        return self._phase is Phase.LIMITS or self._is_a_limit or self._triggers_short_of_limit(order)

    def _triggers_short_of_limit(self, order: Order) -> bool:
        """Tell whether a stop-limit that is reached inside a bar has to wait for its limit from there."""
        if self._phase is Phase.OPEN:
            return False
        trigger, limit = order.created.price, order.created.pricelimit
        return limit < trigger if order.isbuy() else limit > trigger

    def _has_rested(self, order: Order, instrument: Instrument) -> bool:
        """Tell whether the order could have filled in the bar before already."""
        if order.ref in self._earliest:
            return instrument.previous_length >= self._earliest[order.ref]
        return instrument.previous_dt > self._after.get(order.ref, order.created.dt)

    def _place_in_bar(self, is_at_open: bool) -> str:
        if self._phase is Phase.OPEN and is_at_open:
            return "open"
        return "close" if self._phase is Phase.CLOSE else "inside"

    def _fillable(self, order: Order, instrument: Instrument, price: float, ago: int) -> float:
        """Return how much of the order can be filled at this bar, signed."""
        size = abs(order.executed.remsize)
        if self.p.filler is not None:
            size = self.p.filler(order, price, ago)
        held = self.positions[order.data].size
        if order.ref in self._reduce_only:
            size = min(size, max(0.0, -held if order.isbuy() else held))
        if order.parent is not None:
            size = min(size, self._unprotected(order))
        if self.p.volume_limit is not None:
            room = instrument.size_of(instrument.volume_left, price)
            if room < size:
                size, instrument.volume_left = orders.quantity_of(instrument.market, room), 0.0
            else:
                quantity = instrument.quantity(size, price)
                left = instrument.volume_left - quantity
                instrument.volume_left = left if left > FLAT * quantity else 0.0
        return size if order.isbuy() else -size

    def _unprotected(self, order: Order) -> float:
        """Return how much of a bracket's entry its exits have not closed yet; inf if the order is none."""
        entry = order.parent
        if entry.isbuy() == order.isbuy() or entry.data is not order.data:
            return math.inf
        exits = [order, *(other for other in self._pchildren.get(entry.ref, ()) if other not in (entry, order))]
        entered = abs(entry.executed.size)
        left = entered - sum(abs(each.executed.size) for each in exits)
        return left if left > FLAT * entered else 0.0

    def _slipped(self, order: Order, instrument: Instrument, size: float, price: float) -> float:
        """Return the price of a taker."""
        cost = instrument.cost(size, price)
        paid = price * (1 + cost) if size > 0 else price * (1 - cost)
        if order.exectype == Order.Limit or order.triggered:
            limit = order.created.price if order.exectype == Order.Limit else order.created.pricelimit
            return min(paid, limit) if size > 0 else max(paid, limit)
        held = self.positions[order.data].size
        if held * size < 0:
            # Whoever sells into his own bankruptcy is liquidated on the way.
            floor = self._bankruptcy_price(instrument)
            if floor is not None:
                return max(paid, min(price, floor)) if size < 0 else min(paid, max(price, floor))
        return paid

    def _note(self, match: Match, size: float, fee: float, held: float) -> None:
        super()._note(match, size, fee, held)
        if match.at != "open":
            self._entered_inside[match.order.ref] = match.raw_price

    def _count_stop(self, stop: Order) -> None:
        entry, data = stop.parent, stop.data
        if entry.executed.dt == data.datetime[0]:
            self.counts["entry_bar_stop"] += 1
        targets = [o for o in self._pchildren.get(entry.ref, ()) if o.exectype == Order.Limit and o.active()]
        for target in targets:
            price = target.created.price
            if data.low[0] <= price if target.isbuy() else data.high[0] >= price:
                self.counts["stop_before_target"] += 1
