"""What guards allow, enforced on a whole account."""

from __future__ import annotations

import copy
import math

import backtrader as bt
from backtrader.order import Order

from hissbt.trading.guards import BELOW_CAP, Guards, Moment, exposure_of
from hissbt.trading.instrument import Instrument
from hissbt.trading.matching import MatchingLayer

_CAP_DUST = 1e-9  # a cap is met by what is this little above it, relatively


class GuardLayer(MatchingLayer):
    """Refuses and reduces what guards do not allow."""

    params = (("guards", ()),)

    def init(self):
        """Backtrader's hook before a run."""
        super().init()
        self.guards = Guards(copy.deepcopy(self.p.guards)) if self.p.guards else None
        self._allowed = math.inf  # by the guards, as a multiple of equity
        self._moved: list[Instrument] = []  # what the guards have to look at
        self._waits_for_model = False
        self._guard_orders: dict[bt.feed.AbstractDataBase, Order] = {}

    def wait_for_model(self) -> None:
        """Let the guards look at each bar when ``show_model`` is called, and not before."""
        self._waits_for_model = True

    def show_model(self, outputs: tuple[float, ...] | None) -> None:
        """Let the guards look at the bar and at what the model says of it, None where it warms up."""
        if self._moved:
            self._obey_guards(outputs)

    def _ask_guards(self, moved: list[Instrument]) -> None:
        self._moved = moved
        if not self._waits_for_model and moved:
            self._obey_guards(None)

    def _is_allowed(self, order: Order) -> bool:
        """Tell whether the guards let the order in; where they wait for the model, they withdraw it later."""
        return self._waits_for_model or self._fits(order)

    def _fits(self, order: Order) -> bool:
        if self._allowed == math.inf:
            return True
        data, size = order.data, order.size
        held = self.positions[data].size
        if self._allowed and held * size < 0 and abs(size) <= abs(held):
            if data in self._guard_orders and self._guard_orders[data].alive():
                self._reduce_only.add(order.ref)  # what both sell together may be more than is held
            return True
        coming = {each: position.size for each, position in self.positions.items()}
        for waiting in (*self.pending, *self.submitted):
            if waiting.exectype == Order.Market and waiting.parent is None and waiting is not order:
                coming[waiting.data] = coming.get(waiting.data, 0.0) + waiting.executed.remsize
        coming[data] = coming.get(data, 0.0) + size
        after = sum(
            self.getcommissioninfo(each).notional(held, each.close[0]) for each, held in coming.items() if held
        )
        return self._allowed > 0 and self._is_within_cap(exposure_of(after, self._value))

    def _is_within_cap(self, exposure: float) -> bool:
        return exposure <= self._allowed * (1 + _CAP_DUST)

    def _notional(self, data) -> float:
        size = self.positions[data].size
        return self.getcommissioninfo(data).notional(size, data.close[0]) if size else 0.0

    def _obey_guards(self, outputs: tuple[float, ...] | None) -> None:
        """Show the account to the guards, and do what they ask for."""
        moved, self._moved = self._moved, []
        exposure = exposure_of(sum(map(self._notional, list(self.positions))), self._value)
        moment = Moment(
            close_time=max(instrument.dt for instrument in moved),
            equity=self._value,
            exposure=exposure,
            missing_bars=max(instrument.missing_bars() for instrument in moved),
            outputs=outputs,
        )
        verdict = self.guards.check(moment)
        self._allowed = verdict.limit
        if not verdict.limit:
            ours = {order.ref for order in self._guard_orders.values()}
            for order in [order for order in self.pending if order.ref not in ours]:
                self.cancel(order)
        self._withdraw_submitted()
        if self._is_within_cap(exposure):
            return
        excess = 1 - BELOW_CAP * verdict.limit / exposure
        for data in [data for data, position in self.positions.items() if position.size]:
            self._reduce(data, excess, verdict.reason)

    def _withdraw_submitted(self) -> None:
        """Cancel what a strategy has ordered at this bar and is not allowed, before anything has become of it."""
        orders, refused = list(self.submitted), set()
        self.submitted.clear()
        for order in orders:
            entry = order if order.parent is None else order.parent
            if entry.ref not in refused and (entry is not order or self._fits(order)):
                self.submitted.append(order)
                continue
            if entry is order:
                refused.add(order.ref)
                self.counts["refused_by_guard"] += 1
                self._pchildren.pop(order.ref, None)
            order.cancel()
            self.notify(order)

    def _reduce(self, data, share: float, reason: str) -> None:
        """Order a share of a position to be closed at market; nothing of the data may then grow into a new one."""
        held = self.positions[data].size
        standing = self._guard_orders.get(data)
        if standing is not None and standing.alive():
            return
        step = self._instruments[data].market.quantity_step
        size = abs(held) * share
        if step:
            size = min(abs(held), math.ceil(size / step - _CAP_DUST) * step)
        others = (*self.pending, *self.submitted)
        self._reduce_only.update(o.ref for o in others if o.data is data and o.isbuy() == (held < 0))
        order = self._own_order(data, -math.copysign(size, held), reason)
        self._reduce_only.add(order.ref)
        self._guard_orders[data] = order
        self._take_in(order, check=False)
