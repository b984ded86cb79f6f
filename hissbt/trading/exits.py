"""Where to get out: stop and target in predicted volatility, a stop that trails, and a line that says leave."""

import math

import backtrader as bt

# exp(50) moves a price by 21 orders of magnitude: far enough for an exit that is never reached, and still a
# finite price above zero (Backtrader reads an order price of 0 as "none given" and takes the close instead).
_MAX_DISTANCE = 50.0

# A stop that trails by more than this, at less than 1 % of the price, would be no more than rounding.
_MAX_TRAIL = 5.0


def exit_prices(price: float, side: int, volatility: float, *, stop: float, target: float) -> tuple[float, float]:
    """Return the stop price and the target price of a position on ``side`` (1 or -1) opened near ``price``.

    They lie ``stop`` and ``target`` times ``volatility`` away, where volatility is the standard deviation of the
    log return: ``price * exp(-side * stop * volatility)`` and ``price * exp(side * target * volatility)``.
    """
    return _moved(price, -side * stop * volatility), _moved(price, side * target * volatility)


def trail_fraction(side: int, volatility: float, trailing: float) -> float:
    """Return how far behind the price a stop trails, as a fraction of it: Backtrader's ``trailpercent``.

    It is ``trailing`` standard deviations ``volatility`` of the log return, below the price of a long (side 1) and
    above that of a short (-1). Backtrader moves such a stop at each close, never away from the price.
    """
    distance = min(_MAX_TRAIL, trailing * volatility)
    return side * -math.expm1(-side * distance)


def stop_terms(side: int, price: float, trail: float | None = None) -> dict:
    """Return arguments for the order that protects a position on ``side`` at ``price``, as ``self.sell(**terms)``.

    A plain stop, or, with ``trail`` (see ``trail_fraction``), one that begins there and follows the price.
    """
    if trail is None:
        return {"exectype": bt.Order.Stop, "price": price}
    # Backtrader begins a trail at a distance from the price that it is given: this one, so that it begins at ours.
    return {"exectype": bt.Order.StopTrail, "price": price / (1 - side * trail), "trailpercent": trail}


def says_leave(value: float, level: float) -> bool:
    """Tell whether a line (a probability, or 1 for yes) says leave: above ``level``, or NaN, as nobody then
    knows."""
    return not value <= level


def _moved(price: float, log_return: float) -> float:
    return price * math.exp(max(-_MAX_DISTANCE, min(_MAX_DISTANCE, log_return)))
