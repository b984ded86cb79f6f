"""What an account was charged: the records that PerpBroker keeps and reports read."""

from __future__ import annotations

from dataclasses import dataclass

import backtrader as bt


@dataclass(frozen=True, slots=True)
class Fill:
    """An execution. Money is the account's (the quote currency, or the base coin of an inverse contract)."""

    owner: bt.Strategy | None
    """The strategy that ordered it; None for a liquidation and what a guard of the broker ordered."""
    data: bt.feed.AbstractDataBase
    """What was traded."""
    dt: float
    """The close of the bar in which it fell, as a Backtrader date number."""
    at: str
    """When in that bar: "open" (timed at its open), "inside" (time unknown) or "close"."""
    size: float
    """Units, or contracts of an inverse contract; negative if sold."""
    price: float
    """What was paid or received, spread and impact included."""
    raw_price: float
    """The market's price before spread and impact."""
    fee: float
    """Trading fee paid; negative if a maker was paid."""
    impact: float
    """Spread and impact paid: ``abs(size * (q(price) - q(raw_price)))`` with the book price ``q``."""
    liquidation_fee: float
    """Paid in place of a trading fee when the position was liquidated."""
    reason: str
    """Why: the reason that the order carries, or else its type; "liquidation"; or a guard's name."""
    maker: bool
    """Whether a resting limit order was met."""


@dataclass(frozen=True, slots=True)
class FundingCharge:
    """Funding at one event, on the position held just before it."""

    data: bt.feed.AbstractDataBase
    """What was held."""
    dt: float
    """The time of the event, as a Backtrader date number."""
    rate: float
    """The rate of the event: where it is positive, longs pay shorts."""
    amount: float
    """Money paid; negative if received."""
