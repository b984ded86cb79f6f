"""What a fill does to cash, position and order, and its line in the journal."""

from __future__ import annotations

from dataclasses import dataclass

import backtrader as bt
from backtrader.order import BuyOrder, Order, SellOrder

from hissbt.market import Market
from hissbt.trading.account import AccountLayer
from hissbt.trading.commission import PerpCommission
from hissbt.trading.contract import is_beyond, liquidation_price
from hissbt.trading.instrument import Instrument
from hissbt.trading.journal import Fill
from hissbt.trading.sizing import FLAT

STEP_DUST = 1e-9  # of a step


@dataclass(slots=True)
class Match:
    """An order that meets the market."""

    order: Order
    instrument: Instrument
    size: float
    """Signed."""
    price: float
    """What is paid or received."""
    raw_price: float
    """The market's, before spread and impact."""
    at: str
    """"open", "inside" or "close", see ``Fill``."""
    dt: float
    """The time of the fill, as a Backtrader date number."""
    maker: bool = False
    liquidation_fee: float | None = None
    """What is charged in place of a trading fee; None where that is due."""

    def fee(self, size: float) -> float:
        """Return the fee of a part of it."""
        if self.liquidation_fee is not None:
            return self.liquidation_fee
        return self.instrument.scheme.fee(size, self.price, self.maker)


class BookingLayer(AccountLayer):
    """Books fills."""

    def init(self):
        """Backtrader's hook before a run."""
        super().init()
        self._last_orders: dict[bt.feed.AbstractDataBase, Order] = {}  # those of strategies that filled

    def _book(self, match: Match) -> None:
        """Do what BackBroker._execute does with cash, position and order, in its order of operations."""
        order, scheme, price, size = match.order, match.instrument.scheme, match.price, match.size
        position = self.positions[order.data]
        held, before = position.size, position.price
        if abs(held + size) <= FLAT * max(abs(held), abs(size)):
            size = -held  # float dust would be a position for ever
        psize, pprice, opened, closed = position.pseudoupdate(size, price)
        pnl = scheme.profitandloss(-closed, before, price) if closed else 0
        closing = self._settle(match, closed, before, pnl) if closed else (closed, 0.0, 0.0)
        entry = _entry_price(scheme, (held, before), (opened, price), pprice)
        opening = self._pay(match, opened, psize, entry) if opened else (opened, 0.0, 0.0)
        filled = closed + opening[0]
        if filled:
            position.update(filled, price, order.data.datetime.datetime())
            if opening[0]:
                position.price = entry
            _snap(position, match.instrument.market)
            fee = closing[2] + opening[2]
            if closed and self.p.int2pnl:
                closing = (*closing[:2], closing[2] + self.d_credit.pop(order.data, 0.0))
            order.execute(match.dt, filled, price, *closing, *opening, scheme.margin, pnl, psize, pprice)
            if abs(order.executed.remsize) <= FLAT * abs(order.created.size):
                order.executed.remsize, order.status = 0, Order.Completed
            order.addcomminfo(scheme)
            self._note(match, filled, fee, held)
            self.notify(order)
            self._ococheck(order)
        if opened and not opening[0]:
            self._refuse_for_margin(order)

    def _settle(self, match: Match, closed: float, before: float, pnl: float) -> tuple[float, float, float]:
        """Pay out a closed size, and return it with its value at entry and the fee."""
        value, fee = match.instrument.scheme.getvaluesize(-closed, before), match.fee(closed)
        self.cash = self.cash + (value + pnl) - fee
        return closed, value, fee

    def _pay(self, match: Match, opened: float, size: float, entry: float) -> tuple[float, float, float]:
        """Pay for an opened size, and return it with its value and the fee; zeros where cash does not suffice.

        Nor is it opened if it would be liquidated at once. ``size`` and ``entry`` are the position's with it.
        """
        scheme = match.instrument.scheme
        value, fee = scheme.getvaluesize(opened, match.price), match.fee(opened)
        cash = self.cash - value - fee
        is_paid = self._free_with(match.order.data, cash, size, entry) >= 0.0
        # A fill at a close may be at one of the past (BackBroker._try_exec_close): what counts is the price now.
        market_price = match.instrument.close if match.at == "close" else match.raw_price
        if not is_paid or _is_lost(scheme, size, entry, market_price):
            return 0, 0.0, 0.0
        self.cash = cash
        return opened, value, fee

    def _refuse_for_margin(self, order: Order) -> None:
        self.counts["refused_margin"] += 1
        order.margin()
        self.notify(order)
        self._ococheck(order)
        self._bracketize(order, cancel=True)

    def _note(self, match: Match, size: float, fee: float, held: float) -> None:
        """Write a fill of ``size`` into the journal, and remember what the rest of this bar needs of it."""
        order, instrument, scheme = match.order, match.instrument, match.instrument.scheme
        is_ours = order.info.get("by_broker", False)
        impact = 0.0
        if match.price != match.raw_price:
            impact = abs(size * (scheme.book_price(match.price) - scheme.book_price(match.raw_price)))
        self.journal.append(
            Fill(
                owner=None if is_ours else order.owner,
                data=order.data,
                dt=match.dt,
                at=match.at,
                size=size,
                price=match.price,
                raw_price=match.raw_price,
                fee=fee if match.liquidation_fee is None else 0.0,
                impact=impact,
                liquidation_fee=match.liquidation_fee or 0.0,
                reason=order.info.get("reason", order.getordername().lower()),
                maker=match.maker,
            )
        )
        if not is_ours:
            self._last_orders[order.data] = order
        if order.status == Order.Partial:
            self.counts["partial_fill"] += 1
        if match.at != "open":
            instrument.sizes = [*(instrument.sizes or [held]), self.positions[order.data].size]

    def _own_order(self, data, size: float, reason: str) -> Order:
        """Return a market order of the broker's own, for whoever opened the position."""
        last = self._last_orders.get(data)
        order = (BuyOrder if size > 0 else SellOrder)(
            owner=None if last is None else last.owner,
            data=data,
            size=abs(size),
            exectype=Order.Market,
            tradeid=0 if last is None else last.tradeid,
        )
        order.addinfo(reason=reason, by_broker=True)
        self._ocoize(order, None)
        return order


def _entry_price(
    scheme: PerpCommission, before: tuple[float, float], added: tuple[float, float], arithmetic: float
) -> float:
    """Return the entry price of a position that grew, from sizes and prices: the harmonic mean if inverse."""
    (held, at), (opened, price) = before, added
    if not scheme.inverse or not opened or not held or held * opened < 0:
        return arithmetic
    return (held + opened) / (held / at + opened / price)


def _is_lost(scheme: PerpCommission, size: float, entry: float, market_price: float) -> bool:
    """Tell whether a position would be liquidated as it is opened: by its own impact, or by its leverage."""
    margin = scheme.notional(size, entry) / scheme.p.leverage
    price = liquidation_price(size, scheme.book_price(entry), margin, scheme.tiers, scheme.inverse)
    return price is not None and is_beyond(market_price, price, size)


def _snap(position: bt.Position, market: Market) -> None:
    """Put a size that is a multiple of the step but for float dust just there."""
    step = market.quantity_step
    if step and position.size:
        snapped = round(position.size / step) * step
        if abs(snapped - position.size) <= STEP_DUST * step:
            position.size = snapped
