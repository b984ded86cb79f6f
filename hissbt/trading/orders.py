"""What an exchange asks of an order: prices on the tick, quantities on the step, and not too little of either."""

from __future__ import annotations

import math

from hissbt.market import Market
from hissbt.trading.sizing import FLAT, round_down

_NEARLY = 1e-9  # a price this close to a tick, in ticks, is on it: 0.3 / 0.1 comes out below 3


def quantity_of(market: Market, size: float) -> float:
    """Return ``size`` (0 or more) rounded down to the market's step."""
    return round_down(size, market.quantity_step) if market.quantity_step else size


def limit_price(market: Market, price: float, is_buy: bool) -> float:
    """Return the price on the tick at or behind ``price``: a buyer pays no more, a seller gets no less."""
    if not market.tick:
        return price
    ticks = price / market.tick
    return (math.floor(ticks + _NEARLY) if is_buy else math.ceil(ticks - _NEARLY)) * market.tick


def trigger_price(market: Market, price: float) -> float:
    """Return the tick nearest to ``price``."""
    return round(price / market.tick) * market.tick if market.tick else price


def is_too_small(market: Market, size: float, notional: float) -> bool:
    """Tell whether an order of this size (0 or more) and notional (in the quote currency) would not be taken."""
    return size <= FLAT or size < market.min_quantity * (1 - _NEARLY) or notional < market.min_notional
