"""When to be long, short or flat, and where to get out: pure rules over one forecast."""

import math

# exp(50) moves a price by 21 orders of magnitude: far enough for an exit that is never reached, and still a
# finite price above zero (Backtrader reads an order price of 0 as "none given" and takes the close instead).
_MAX_DISTANCE = 50.0


def signal(
    expected_return: float, prob_up: float, *, prob_long: float, prob_short: float, threshold: float
) -> int:
    """Return the side to be on: 1 long, -1 short, 0 flat.

    Long when ``prob_up > prob_long`` and ``expected_return > threshold``; short when ``prob_up < prob_short`` and
    ``expected_return < -threshold``. A forecast that is NaN means flat.
    """
    if prob_up > prob_long and expected_return > threshold:
        return 1
    if prob_up < prob_short and expected_return < -threshold:
        return -1
    return 0


def exit_prices(price: float, side: int, volatility: float, *, stop: float, target: float) -> tuple[float, float]:
    """Return the stop price and the target price of a position on ``side`` (1 or -1) opened near ``price``.

    They lie ``stop`` and ``target`` times ``volatility`` away, where volatility is the standard deviation of the
    log return: ``price * exp(-side * stop * volatility)`` and ``price * exp(side * target * volatility)``.
    """
    return _moved(price, -side * stop * volatility), _moved(price, side * target * volatility)


def _moved(price: float, log_return: float) -> float:
    return price * math.exp(max(-_MAX_DISTANCE, min(_MAX_DISTANCE, log_return)))
