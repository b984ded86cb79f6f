"""A position between its stop and its target: the orders of one data, from the entry to the close."""

from __future__ import annotations

import math

import backtrader as bt

from hissbt.trading.exits import stop_terms
from hissbt.trading.sizing import FLAT


class Bracket:
    """Enters, protects, trims and closes the position of a strategy in one data.

    Little is remembered between bars but the orders themselves: what to do follows from the position and from
    which orders are alive, so a refused, canceled or partly filled order needs no case of its own. Call
    ``look`` once at each close, before anything else. Every order says why in its info: reason entry, stop,
    trailing (a stop that has moved), target, trim, or the reason given to ``leave``.
    """

    def __init__(self, strategy: bt.Strategy, data: bt.feed.AbstractDataBase):
        self._strategy, self._data = strategy, data
        self._orders = ()  # entry (or trim), stop and target of the position that is open or on its way
        self._trail = None  # how far its stop trails, and the price at which it began
        self._stop_price = math.nan
        self._close = None

    def look(self, size: float) -> tuple[int, bool]:
        """Return which side is held, or else being entered, and whether a position came and went since last time.

        ``size`` is that of the position. The sides are 1 long, -1 short, 0 neither.
        """
        if abs(size) > FLAT:
            if self._orders and self._orders[1].created.price != self._stop_price:
                self._orders[1].addinfo(reason="trailing")
            return (1 if size > 0 else -1), False
        if not self._orders:
            return 0, False
        entry = self._orders[0]
        if entry.alive():
            return (1 if entry.isbuy() else -1), False
        self._orders = ()
        return 0, bool(entry.executed.size)

    def enter(self, side: int, size: float, *, stop: float, target: float, trail: float | None = None) -> None:
        """Buy (side 1) or sell (-1) at market, behind a stop and a target at these prices.

        With ``trail`` (see ``hissbt.trading.exits.trail_fraction``) the stop follows the price.
        """
        terms = stop_terms(side, stop, trail)
        place = self._strategy.buy_bracket if side > 0 else self._strategy.sell_bracket
        self._orders = place(
            data=self._data,
            size=size,
            exectype=bt.Order.Market,
            oargs={"reason": "entry"},
            stopexec=terms.pop("exectype"),
            stopprice=terms.pop("price"),
            stopargs={"reason": "stop", **terms},
            limitprice=target,
            limitargs={"reason": "target"},
        )
        self._trail, self._stop_price = trail, self._orders[1].created.price

    def protects(self, size: float) -> bool:
        """Whether the entry is still filling, or stop and target are alive for just this size."""
        if not self._orders:
            return False
        entry, stop, target = self._orders
        if entry.alive():
            return True
        dust = FLAT * max(1.0, abs(size))
        return (
            stop.alive()
            and target.alive()
            and abs(stop.executed.remsize + size) <= dust
            and abs(target.executed.remsize + size) <= dust
        )

    def restore(self, size: float) -> None:
        """Fit stop and target to a position that somebody else has made smaller; in any other case close it."""
        if self._orders:
            entry, *exits = self._orders
            was_cut_short = entry.isbuy() == (size > 0) and abs(entry.executed.size) <= abs(size)
            are_larger = all(order.alive() and abs(order.executed.remsize) > abs(size) for order in exits)
            if are_larger and not was_cut_short:
                self._protect(size, entry)
                return
        self.leave("unprotected")

    def trim(self, size: float, keep: float, reason: str) -> None:
        """Reduce a position of ``size`` to ``keep`` units, at market; stop and target stay, for what remains.

        Where that is nothing, or the entry still adds to the position, it is closed for ``reason``.
        """
        first = self._orders[0]
        if first.alive() and first.isbuy() != (size > 0):
            return  # an earlier trim, still filling
        if first.alive() or keep <= FLAT:
            self.leave(reason)
            return
        trim = self._reduce(size, abs(size) - keep, reason="trim")
        self._protect(math.copysign(keep, size), trim)

    def leave(self, reason: str) -> None:
        """Cancel what is open, then close the position: in this order, so that stop and close never both fill."""
        for order in self._orders:
            self._strategy.cancel(order)
        size = self._strategy.getposition(self._data).size
        if abs(size) > FLAT and not (self._close is not None and self._close.alive()):
            self._close = self._reduce(size, abs(size), reason=reason)

    def _protect(self, size: float, first: bt.Order) -> None:
        """Replace stop and target by such as fit ``size``, at the same prices."""
        _, stop, target = self._orders
        self._strategy.cancel(stop)
        self._strategy.cancel(target)
        terms = stop_terms(1 if size > 0 else -1, stop.created.price, self._trail)
        stop = self._reduce(size, abs(size), reason=stop.info["reason"], **terms)
        terms = {"exectype": bt.Order.Limit, "price": target.created.price, "oco": stop}
        target = self._reduce(size, abs(size), reason="target", **terms)
        self._orders, self._stop_price = (first, stop, target), stop.created.price

    def _reduce(self, size: float, by: float, **terms) -> bt.Order:
        """Order ``by`` units less of a position of ``size``."""
        order = self._strategy.sell if size > 0 else self._strategy.buy
        # Unchecked: a close needs no margin, yet Backtrader would refuse it to an account that owes money.
        return order(data=self._data, size=by, _checksubmit=False, **terms)
