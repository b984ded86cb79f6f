"""Which waiting orders a bar reaches, and in which order."""

from __future__ import annotations

import math

from backtrader.order import Order

from hissbt.trading.fills import STOPS, FillLayer, Phase
from hissbt.trading.instrument import Instrument

_TRAILING = (Order.StopTrail, Order.StopTrailLimit)
WAITING = (*STOPS, Order.Limit)


class MatchingLayer(FillLayer):
    """Gives each waiting order its chance, in the order in which prices are reached as far as is known."""

    params = (("latency_bars", 0),)

    def init(self):
        """Backtrader's hook before a run."""
        super().init()
        self._tried: set[int] = set()  # orders that had their chance at this bar

    def _take_in(self, order: Order, check: bool) -> Order:
        """Let an order in, late if orders are."""
        if order.parent is None:
            if self.p.latency_bars:
                self._earliest[order.ref] = len(order.data) + 1 + self.p.latency_bars
            elif self.p.coo:
                instrument = self._instruments.get(order.data)
                self._after[order.ref] = -math.inf if instrument is None else instrument.dt
        return super().submit(order, check=check)

    def _match(self, moved: list[Instrument]) -> None:
        """Match the waiting orders with the bar."""
        if not any(map(self._can_act, self.pending)):
            self._trail()
            if self._liquidate_inside(moved):
                self._liquidate_inside(moved)  # what one owes may be missing from the margin of others
            return
        self._tried.clear()
        self._entered_inside.clear()
        for phase in Phase:
            self._phase = phase
            self._pass()
            if phase is Phase.OPEN and self.p.coc:
                for instrument in moved:  # what was bought at the last close
                    if self.positions[instrument.data].size:
                        self._liquidate_at_open(instrument)
            if phase in (Phase.STOPS, Phase.LIMITS):
                self._liquidate_inside(moved)

    def _can_act(self, order: Order) -> bool:
        """Tell whether anything may become of the order at this bar, all others doing nothing."""
        if order.status != Order.Accepted or order.ref in self._reduce_only or order.ref in self._triggered:
            return True
        instrument = self._instruments[order.data]
        if order.valid and instrument.dt > order.valid:
            return True
        if not (order.active() and instrument.moved):
            return False
        if order.exectype not in WAITING:
            return True
        price, is_from_above = _trigger_of(order)
        lowest, highest = instrument.reach
        return not lowest > price if is_from_above else not highest < price

    def _trail(self) -> None:
        """Let stops follow the price where no order does anything else."""
        for order in self.pending:
            if order.exectype in _TRAILING and not order.triggered:
                instrument = self._instruments[order.data]
                if self._is_in_market(order, instrument):
                    order.trailadjust(instrument.close)

    def _pass(self) -> None:
        """Go once through the waiting orders, as Backtrader's broker does."""
        pending = self.pending
        pending.append(None)
        while True:
            order = pending.popleft()
            if order is None:
                return
            if self._phase is Phase.OPEN and order.expire():
                self.notify(order)
                self._ococheck(order)
                self._bracketize(order, cancel=True)
                continue
            if self._is_due(order):
                self._tried.add(order.ref)
                self._try_exec(order)
            if order.alive():
                pending.append(order)
                self._follow_parts(order)
            elif order.status == Order.Completed:
                self._bracketize(order)

    def _is_due(self, order: Order) -> bool:
        """Tell whether this is the pass in which the order can fill."""
        instrument = self._instruments[order.data]
        if order.ref in self._tried or not self._is_in_market(order, instrument):
            return False
        return order.exectype == Order.Historical or self._phase is self._phase_of(order, instrument.open)

    def _is_in_market(self, order: Order, instrument: Instrument) -> bool:
        """Tell whether the order has arrived, and there is a bar for it."""
        if not (order.active() and instrument.moved and instrument.length >= self._earliest.get(order.ref, 0)):
            return False
        # A bar that was there already when the order was placed is over, even if another data has moved since.
        return instrument.dt > order.created.dt or self.p.coo or order.exectype == Order.Historical

    def _phase_of(self, order: Order, price_at_open: float) -> Phase | None:
        """Return the pass that the order belongs to at this bar, None if to none."""
        kind = order.exectype
        if self._entry_inside(order) is not None:
            # Nobody knows what came after an entry inside the bar: assume the worst of it, and nothing good.
            is_limit = kind == Order.Limit or order.triggered
            return None if is_limit or self._phase < Phase.STOPS else self._phase
        if kind == Order.Market or order.ref in self._triggered:
            return Phase.OPEN
        if kind == Order.Close:
            return Phase.CLOSE
        price, is_from_above = _trigger_of(order)
        if price_at_open <= price if is_from_above else price_at_open >= price:
            return Phase.OPEN if _fills_when_reached(order, price_at_open) else Phase.LIMITS
        return Phase.LIMITS if kind == Order.Limit or order.triggered else Phase.STOPS

    def _entry_inside(self, order: Order) -> float | None:
        """Return the price at which the order's entry filled inside this bar, None if it did not."""
        return None if order.parent is None else self._entered_inside.get(order.parent.ref)

    def _try_exec(self, order: Order) -> None:
        """Match the order as Backtrader does, but for what else the same prices reach."""
        if self._phase is not Phase.OPEN and order.exectype in STOPS and self._liquidates_first(order):
            return
        if order.ref in self._triggered:
            self._execute(order, ago=0, price=self._instruments[order.data].open)
            return
        entry = self._entry_inside(order)
        self._is_a_limit = order.triggered
        if entry is None:
            super()._try_exec(order)
            return
        # For this order the bar begins at its entry.
        data, created = order.data, order.created
        prices = entry, data.high[0], data.low[0]
        if order.exectype in (Order.Stop, Order.StopTrail):
            self._try_exec_stop(order, *prices, created.price, data.close[0])
        else:
            self._try_exec_stoplimit(order, *prices, data.close[0], created.price, created.pricelimit)

    def _bracketize(self, order, cancel=False):
        """Do what Backtrader's broker does, but let stop and target work from the entry's fill on."""
        super()._bracketize(order, cancel=cancel)
        while self._toactivate:
            self._activate(self._toactivate.popleft())

    def _activate(self, order: Order) -> None:
        if not order.active():
            self._after[order.ref] = self._instruments[order.data].previous_dt
            order.activate()

    def _follow_parts(self, order: Order) -> None:
        """Keep the orders of a bracket in step where volume lets only parts of them fill."""
        if order.ref in self._reduce_only and not self.positions[order.data].size:
            self.cancel(order)
        elif order.status == Order.Partial and order.parent is None:
            for child in self._pchildren.get(order.ref, ()):
                self._activate(child)
        elif order.status == Order.Partial:
            self.cancel(order.parent, bracket=True)
            if not self._unprotected(order):
                self.cancel(order)


def _trigger_of(order: Order) -> tuple[float, bool]:
    """Return the price that the order waits for, and whether it is reached from above."""
    kind, created, is_buy = order.exectype, order.created, order.isbuy()
    if kind == Order.Limit:
        return created.price, is_buy
    if order.triggered:
        return created.pricelimit, is_buy
    return created.price, not is_buy


def _fills_when_reached(order: Order, price: float) -> bool:
    """Tell whether an order reached at this price fills there: all do but a stop-limit beyond its limit."""
    if order.exectype not in (Order.StopLimit, Order.StopTrailLimit):
        return True
    limit = order.created.pricelimit
    return price <= limit if order.isbuy() else price >= limit
