"""Liquidation: a position whose margin is used up is closed for its owner."""

from __future__ import annotations

import math

from backtrader.order import Order

from hissbt.trading.booking import Match
from hissbt.trading.charges import FundingLayer
from hissbt.trading.contract import bankruptcy_price, is_beyond, liquidation_price
from hissbt.trading.instrument import Instrument

_DUST_DAYS = 1e-8  # a millisecond: date numbers are not exact


class LiquidationLayer(FundingLayer):
    """Liquidates positions: at the open, on the way to a stop, and at the bar's worst price."""

    def safe_until(self, data) -> tuple[float, float, float]:
        """Return between which prices and until when an open position only changes its value, all exclusive.

        Until there is a fill or a deposit: then ask anew. The time is a Backtrader date number.
        """
        instrument = self._instruments[data]
        if instrument.has_marks:
            return math.inf, -math.inf, -math.inf  # each bar must be looked at
        price = self._liquidation_price(instrument)
        due = instrument.next_event - _DUST_DAYS
        if price is None:
            return -math.inf, math.inf, due
        return (price, math.inf, due) if self.positions[data].size > 0 else (-math.inf, price, due)

    def _margin(self, data) -> float:
        """Return what is posted for a position, less its share of what the account owes."""
        posted = {
            each: scheme.notional(position.size, position.price) / scheme.p.leverage
            for each, position in self.positions.items()
            if position.size
            for scheme in [self.getcommissioninfo(each)]
        }
        owed = min(0.0, self.get_cash())
        return posted[data] * (1 + owed / sum(posted.values()))

    def _bankruptcy_price(self, instrument: Instrument) -> float | None:
        position, scheme = self.positions[instrument.data], instrument.scheme
        entry, margin = scheme.book_price(position.price), self._margin(instrument.data)
        return bankruptcy_price(position.size, entry, margin, scheme.inverse)

    def _liquidation_price(self, instrument: Instrument) -> float | None:
        margins = self._known_margins()
        if instrument.data not in margins:
            position, scheme = self.positions[instrument.data], instrument.scheme
            entry, margin = scheme.book_price(position.price), self._margin(instrument.data)
            margins[instrument.data] = liquidation_price(
                position.size, entry, margin, scheme.tiers, scheme.inverse
            )
        return margins[instrument.data]

    def _liquidate_at_open(self, instrument: Instrument) -> None:
        size, price = self.positions[instrument.data].size, self._liquidation_price(instrument)
        if price is None or not is_beyond(instrument.mark_open, price, size):
            return
        worse = min if size > 0 else max
        self._liquidate(instrument, worse(price, instrument.open), "open")

    def _liquidate_inside(self, instruments: list[Instrument]) -> bool:
        """Liquidate what the bar's worst prices reach; return whether there was any."""
        any_was = False
        for instrument in instruments:
            size = self.positions[instrument.data].size
            if not size:
                continue
            price = self._liquidation_price(instrument)
            if price is not None and is_beyond(instrument.worst(size), price, size):
                self._liquidate(instrument, price, "inside")
                any_was = True
        return any_was

    def _liquidates_first(self, stop: Order) -> bool:
        """Liquidate, if on its way to the price of a stop the market passes that of the position's liquidation."""
        instrument = self._instruments[stop.data]
        size = self.positions[stop.data].size
        if not size or stop.isbuy() == (size > 0):
            return False
        price = self._liquidation_price(instrument)
        if price is None or not is_beyond(stop.created.price, price, size):
            return False
        if not is_beyond(instrument.worst(size), price, size):
            return False
        self._liquidate(instrument, price, "inside")
        # This one is out of the queue, because it is just being looked at.
        stop.cancel()
        self.notify(stop)
        self._ococheck(stop)
        self._bracketize(stop, cancel=True)
        return True

    def _liquidate(self, instrument: Instrument, price: float, at: str) -> None:
        data, scheme = instrument.data, instrument.scheme
        size, entry, margin = self.positions[data].size, self.positions[data].price, self._margin(data)
        floor = self._bankruptcy_price(instrument)
        if floor is not None:
            price = max(price, floor) if size > 0 else min(price, floor)
        left = max(0.0, margin + scheme.profitandloss(size, entry, price))
        fee = min(left, scheme.notional(size, price) * scheme.liquidation_fee)
        for order in [order for order in self.pending if order is not None and order.data is data]:
            self.cancel(order)
        self.counts["liquidation"] += 1
        order = self._own_order(data, -size, "liquidation")
        self.orders.append(order)
        order.submit(self)
        order.accept(self)
        self._book(Match(order, instrument, -size, price, price, at, instrument.dt, liquidation_fee=fee))
