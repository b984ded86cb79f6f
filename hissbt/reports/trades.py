"""From fills and charges to trades: what each round trip from flat to flat earned, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import backtrader as bt
import numpy as np

from hissbt.trading.journal import Fill, FundingCharge

TRADE_COLUMNS = (
    "entry_time",
    "exit_time",
    "side",
    "size",
    "entry_price",
    "exit_price",
    "pnl_gross",
    "fees",
    "funding",
    "impact",
    "liquidation_fee",
    "pnl_net",
    "exit_reason",
    "symbol",
)
COSTS = ("fees", "funding", "impact", "liquidation_fee")
FEES, FUNDING = 0, 1  # where they are in COSTS
_DUST = 1e-12  # a position this small beside the largest one of its trade is what is left of float sums


def costs_of(fill: Fill) -> list[float]:
    """Return what a fill cost, in the order of ``COSTS``."""
    return [fill.fee, 0.0, fill.impact, fill.liquidation_fee]


def add_costs(total: list[float], costs: Iterable[float]) -> None:
    """Add costs to a total, both in the order of ``COSTS``."""
    for kind, cost in enumerate(costs):
        total[kind] += cost


@dataclass
class _Trade:
    """Fills from flat to flat; a flow is size times book price, signed as the size."""

    entry_dt: float
    side: int
    entered: float = 0.0  # units, without sign
    entry_flow: float = 0.0
    exit_flow: float = 0.0
    raw_entry_flow: float = 0.0  # at prices before spread and impact
    raw_exit_flow: float = 0.0
    peak: float = 0.0
    exit_dt: float = np.nan
    reason: str = "open"
    costs: list[float] = field(default_factory=lambda: [0.0] * len(COSTS))


@dataclass
class TradedData:
    """The position in one data, and its finished trades.

    ``book_price`` turns a price into the number in which profit is linear (see hissbt.trading.contract); it is its
    own inverse. ``multiplier`` is money per unit and step of it. ``closes`` is the data's line of closes.
    """

    symbol: str
    book_price: Callable[[float], float]
    multiplier: float
    closes: bt.LineBuffer
    size: float = 0.0
    last_price: float = np.nan
    trade: _Trade | None = None
    """The one that is open."""
    trades: list[_Trade] = field(default_factory=list)
    """All of them."""

    @classmethod
    def of(cls, data: bt.feed.AbstractDataBase, scheme: bt.CommInfoBase) -> TradedData:
        """Return the flat position in a data whose commission scheme is ``scheme``."""
        multiplier = 1.0 if scheme.stocklike else scheme.p.mult
        return cls(data._name, getattr(scheme, "book_price", _same), multiplier, data.lines.close)

    def fill(self, fill: Fill) -> None:
        """Take a fill; one that goes through flat is split there, its costs in proportion."""
        size, costs = fill.size, costs_of(fill)
        against = size * self.size < 0
        if against and abs(size) <= abs(self.size) * (1 + _DUST):
            closing, opening = size, 0.0
        else:
            closing = -self.size if against else 0.0
            opening = size - closing
        if closing:
            share = closing / size
            part = [cost * share for cost in costs]
            self._close(fill, closing, part)
            costs = [cost - paid for cost, paid in zip(costs, part, strict=True)]
        if opening:
            self._open(fill, opening, costs)

    def fund(self, charge: FundingCharge) -> None:
        """Charge what was held: the last trade of the side that pays, or is paid, this amount at this rate.

        That need not be the open one where the position changed inside the bar of the event.
        """
        side = 1 if charge.amount * charge.rate >= 0 else -1
        trade = next((trade for trade in reversed(self.trades) if trade.side == side), self.trades[-1])
        trade.costs[FUNDING] += charge.amount

    def accrue(self, interest: float) -> None:
        """Take interest that was charged on what is still open."""
        if self.trade is not None:
            self.trade.costs[FEES] += interest

    def mark(self) -> None:
        """Note the close, which cannot be read any more after the last bar when Backtrader saves memory."""
        if self.trade is not None:
            self.last_price = self.closes[0]

    def notional(self, fill: Fill) -> float:
        """Return what a fill was worth, in money."""
        return abs(fill.size * self.book_price(fill.price)) * self.multiplier

    def rows(self) -> list[tuple]:
        """Return the trades as rows of ``TRADE_COLUMNS``, an open one as if closed at the last close for free.

        Call it once, when the run has ended.
        """
        if self.trade is not None:
            flow = self.size * self.book_price(self.last_price)
            self.trade.exit_flow -= flow
            self.trade.raw_exit_flow -= flow
        return [self._row(trade) for trade in self.trades]

    def _open(self, fill, size, costs):
        if self.trade is None:
            self.trade = _Trade(fill.dt, 1 if size > 0 else -1)
            self.trades.append(self.trade)
        trade = self.trade
        trade.entered += abs(size)
        trade.entry_flow += size * self.book_price(fill.price)
        trade.raw_entry_flow += size * self.book_price(fill.raw_price)
        add_costs(trade.costs, costs)
        self.size += size
        trade.peak = max(trade.peak, abs(self.size))

    def _close(self, fill, size, costs):
        trade = self.trade
        trade.exit_flow += size * self.book_price(fill.price)
        trade.raw_exit_flow += size * self.book_price(fill.raw_price)
        add_costs(trade.costs, costs)
        self.size += size
        if abs(self.size) <= _DUST * trade.peak:
            trade.exit_dt, trade.reason = fill.dt, fill.reason
            self.size, self.trade = 0.0, None

    def _row(self, trade: _Trade) -> tuple:
        gross = -(trade.raw_entry_flow + trade.raw_exit_flow) * self.multiplier
        entry_price = self.book_price(trade.side * trade.entry_flow / trade.entered)
        exit_price = self.book_price(-trade.side * trade.exit_flow / trade.entered)
        side = "long" if trade.side > 0 else "short"
        numbers = (side, trade.entered, entry_price, exit_price, gross, *trade.costs, gross - sum(trade.costs))
        return (trade.entry_dt, trade.exit_dt, *numbers, trade.reason, self.symbol)


def _same(price: float) -> float:
    return price
