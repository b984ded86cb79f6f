"""How much to trade: the Kelly fraction of a forecast, capped, and a Backtrader sizer that uses it."""

import math

import backtrader as bt

from hissbt.errors import StrategyError

FLAT = 1e-12
"""Sizes up to this count as no position: sums of fills leave float dust (0.1 + 0.2 - 0.3 is not 0)."""


def kelly_fraction(expected_return: float, volatility: float, *, scale: float, max_fraction: float) -> float:
    """Return the signed fraction of equity to hold: ``scale * expected_return / volatility**2``, clipped.

    With ``scale=1`` it is the growth-optimal fraction for a normal return of that mean and standard deviation
    (Kelly 1956; Thorp 2006, "The Kelly criterion in blackjack, sports betting, and the stock market", section 7);
    both must be over the same horizon. The result lies in [-max_fraction, max_fraction]; it is 0 for a
    volatility that is not positive and finite, and for an expected return that is not finite.
    """
    variance = volatility * volatility
    if not (0 < variance < math.inf and math.isfinite(expected_return)):
        return 0.0
    return max(-max_fraction, min(max_fraction, scale * expected_return / variance))


def position_size(fraction: float, side: int, equity: float, price: float, quantity_step: float = 0.0) -> float:
    """Return the units (0 or more) to hold on ``side`` (1 long, -1 short) for a signed ``fraction`` of equity.

    0 when fraction and side disagree, or when equity is used up. The size is fractional; with a ``quantity_step``
    it is rounded down to a multiple of it.
    """
    size = fraction * side * equity / price
    if not size > 0 or not equity > 0:
        return 0.0
    return _round_down(size, quantity_step) if quantity_step else size


def _round_down(size: float, step: float) -> float:
    steps = math.floor(size / step)
    # The quotient is rounded: 3 * 0.1 / 0.1 may come out just below 3, and what lies just below 3 steps as 3.
    multiples = (count * step for count in (steps + 1, steps, steps - 1))
    return next((multiple for multiple in multiples if multiple <= size), 0.0)


class KellySizer(bt.Sizer):
    """Sizes ``buy()`` and ``sell()`` by the Kelly fraction of the strategy's forecast at the current close.

    An entry is filled up to the target, so calls at later bars never hold more than ``max_fraction`` of equity
    (orders that are still on their way are not counted); it is 0 when the forecast points the other way. An order
    against the position gets the position's size: it closes.

    Params: ``forecast``, the strategy attribute that holds the indicator (lines expected_return and volatility);
    ``scale``, the share of the full Kelly fraction; ``max_fraction``, the cap as a fraction of equity.

    Raises StrategyError when the strategy has no such attribute. A size of 0 makes ``buy()`` return None, and
    Backtrader's ``buy_bracket`` fails on that: ask ``getsizing()`` first, and place the bracket only above 0.
    """

    params = (("forecast", "hiss"), ("scale", 0.5), ("max_fraction", 0.20))

    def _getsizing(self, comminfo, cash, data, isbuy):
        side = 1 if isbuy else -1
        held = self.strategy.getposition(data).size * side
        if held < -FLAT:
            return -held
        forecast = self._forecast()
        fraction = kelly_fraction(
            forecast.expected_return[0],
            forecast.volatility[0],
            scale=self.p.scale,
            max_fraction=self.p.max_fraction,
        )
        target = position_size(fraction, side, self.broker.getvalue(), data.close[0])
        return target - held if target - held > FLAT else 0.0

    def _forecast(self):
        forecast = getattr(self.strategy, self.p.forecast, None)
        if forecast is None:
            raise StrategyError(
                f"KellySizer finds no self.{self.p.forecast} in {type(self.strategy).__name__}: "
                "name the attribute that holds the forecast with forecast=…"
            )
        return forecast
