"""The money of a perpetual future: what a position is worth, what it must keep posted, and where it is liquidated.

A linear contract earns and owes in the quote currency, ``size * (exit - entry)``. An inverse one earns and owes in
the base coin, ``size * (1/entry - 1/exit)``, its size counting contracts of one unit of the quote currency (Bybit,
"P&L calculations (inverse contract)"). Both are one formula in book prices ``q``: ``q = price`` for linear and
``q = -1 / price`` for inverse, profit is ``size * (q_exit - q_entry)`` and notional ``abs(size * q)``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from hissbt.errors import ConfigError

_DUST = 1e-9  # relatively: between two tiers lies what floats lose, too


class Tier(NamedTuple):
    """The part of a position's notional from ``floor`` on needs ``rate`` of it as maintenance margin."""

    floor: float
    rate: float
    deduction: float
    """What ``rate * notional`` counts too much, because the parts below the floor have lower rates."""


def book_price(price: float, inverse: bool) -> float:
    """Return the number in which profit is linear: the price, or ``-1 / price`` of an inverse contract."""
    return -1.0 / price if inverse else price


def maintenance_tiers(maintenance: float | Sequence[tuple[float, float]]) -> tuple[Tier, ...]:
    """Return the tiers of a maintenance rate, or of ``((notional floor, rate), ...)``, the first floor being 0.

    Rates are marginal, as Bybit's are: each holds for the notional above its floor. Raises ConfigError for rates
    outside [0, 1), or floors that do not begin at 0 and rise.
    """
    pairs = [(0.0, maintenance)] if isinstance(maintenance, int | float) else list(maintenance)
    floors, rates = [float(floor) for floor, _ in pairs], [float(rate) for _, rate in pairs]
    rising = all(low < high for low, high in pairwise(floors))
    if not floors or floors[0] != 0 or not rising or not all(0 <= rate < 1 for rate in rates):
        raise ConfigError(
            f"maintenance is {maintenance}: write a rate such as 0.005, or rising tiers from 0 on, as in "
            "((0, 0.005), (2_000_000, 0.01))"
        )
    tiers, deduction, below = [], 0.0, 0.0
    for floor, rate in zip(floors, rates, strict=True):
        deduction += floor * (rate - below)
        tiers.append(Tier(floor, rate, deduction))
        below = rate
    return tuple(tiers)


def liquidation_price(
    size: float, entry_book: float, margin: float, tiers: Sequence[Tier], inverse: bool
) -> float | None:
    """Return the price at which margin and unrealized profit are just the maintenance margin; None if none is.

    ``margin`` is what is posted for the position, in the account's currency. In a tier the maintenance margin is
    ``rate * notional - deduction``, and the equation is linear in the book price.
    """
    sign = -1.0 if inverse else 1.0  # notional = abs(size) * sign * q
    for number, tier in enumerate(tiers):
        book = (size * entry_book - margin - tier.deduction) / (size - tier.rate * abs(size) * sign)
        if not book * sign > 0:
            continue
        notional = abs(size * book)
        ceiling = tiers[number + 1].floor if number + 1 < len(tiers) else math.inf
        if tier.floor * (1 - _DUST) <= notional <= ceiling * (1 + _DUST):
            return -1.0 / book if inverse else book
    return None


def bankruptcy_price(size: float, entry_book: float, margin: float, inverse: bool) -> float | None:
    """Return the price at which all of the posted margin is lost; None if no price above zero does that."""
    book = entry_book - margin / size
    if inverse:
        return -1.0 / book if book < 0 else None
    return book if book > 0 else None


def is_beyond(price: float, limit: float, size: float) -> bool:
    """Tell whether a price is at ``limit`` or worse for a position of this sign."""
    return price <= limit if size > 0 else price >= limit
