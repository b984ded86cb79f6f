"""How much to trade: rules for a fraction of equity, and Backtrader sizers that hold it."""

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


def volatility_fraction(volatility: float, *, horizon_volatility: float, max_fraction: float) -> float:
    """Return the fraction of equity, 0 or more, that is as volatile as equity should be, at most ``max_fraction``.

    ``horizon_volatility / volatility``, both standard deviations of the log return over the forecast's horizon;
    0 for a predicted ``volatility`` that is not positive and finite. Source: Moreira and Muir 2017,
    "Volatility-managed portfolios".
    """
    if not 0 < volatility < math.inf:
        return 0.0
    return min(max_fraction, horizon_volatility / volatility)


def horizon_volatility(annual_volatility: float, *, horizon: int, bars_per_year: float) -> float:
    """Return the standard deviation over ``horizon`` bars that makes ``annual_volatility`` in a year of such bars.

    Variance grows with time. ``Market.bars_per_year`` and ``ModelBundle.horizon`` have the numbers.
    """
    return annual_volatility * math.sqrt(horizon / bars_per_year)


def unit_value(scheme: bt.CommInfoBase, price: float) -> float:
    """Return the notional of one unit at ``price``, in the account's currency, under a commission scheme.

    The price; of a contract the price times ``mult``; of an inverse contract (PerpCommission) its value in coins.
    """
    if hasattr(scheme, "notional"):
        return scheme.notional(1.0, price)
    return price if scheme.stocklike else price * scheme.p.mult


def position_size(fraction: float, side: int, equity: float, price: float, quantity_step: float = 0.0) -> float:
    """Return the units (0 or more) to hold on ``side`` (1 long, -1 short) for a signed ``fraction`` of equity.

    0 when fraction and side disagree, or when equity is used up. The size is fractional; with a ``quantity_step``
    it is rounded down to a multiple of it. ``price`` is that of one unit, see ``unit_value``.
    """
    size = fraction * side * equity / price
    if not size > 0 or not equity > 0:
        return 0.0
    return round_down(size, quantity_step) if quantity_step else size


def round_down(size: float, step: float) -> float:
    """Return the largest multiple of ``step`` that is not above ``size``."""
    steps = math.floor(size / step)
    # The quotient is rounded: 3 * 0.1 / 0.1 may come out just below 3, and what lies just below 3 steps as 3.
    multiples = (count * step for count in (steps + 1, steps, steps - 1))
    return next((multiple for multiple in multiples if multiple <= size), 0.0)


class _EquitySizer(bt.Sizer):
    """Sizes ``buy()`` and ``sell()`` to hold a fraction of equity at the current close.

    An entry is filled up to the target, so calls at later bars never hold more (orders that are still on their way
    are not counted). An order against the position gets the position's size: it closes, whatever the forecast.
    Sizes are fractional, and each data has its own target.

    A size of 0 makes ``buy()`` send nothing and return None, and Backtrader's ``buy_bracket`` fails on that: ask
    ``getsizing()`` first, and place the bracket only above 0.
    """

    def _fraction(self, data: bt.feed.AbstractDataBase, side: int) -> float:
        """Return the fraction of equity to hold on ``side``; below 0 means the other side."""
        raise NotImplementedError

    def _getsizing(self, comminfo, cash, data, isbuy):
        side = 1 if isbuy else -1
        held = self.strategy.getposition(data).size * side
        if held < -FLAT:
            return -held
        price = unit_value(comminfo, data.close[0])
        # buy() takes the size without its sign: what points the other way must become 0 here.
        target = position_size(self._fraction(data, side), 1, self.broker.getvalue(), price)
        return target - held if target - held > FLAT else 0.0


class _ForecastSizer(_EquitySizer):
    """A sizer that reads the strategy's forecast: one indicator, or a dict with one for each data."""

    params = (("forecast", "hiss"), ("max_fraction", 0.20))

    def _forecast_of(self, data: bt.feed.AbstractDataBase) -> bt.Indicator:
        forecast = getattr(self.strategy, self.p.forecast, None)
        if isinstance(forecast, dict):
            forecast = forecast.get(data)
        if forecast is None:
            raise StrategyError(
                f"{type(self).__name__} finds no self.{self.p.forecast} for {data._name or 'the data'} in "
                f"{type(self.strategy).__name__}: name the attribute that holds the forecast with forecast=…"
            )
        return forecast


class KellySizer(_ForecastSizer):
    """Sizes ``buy()`` and ``sell()`` by the Kelly fraction of the strategy's forecast at the current close.

    An entry is filled up to the target, so calls at later bars never hold more than ``max_fraction`` of equity
    (orders that are still on their way are not counted); it is 0 when the forecast points the other way. An order
    against the position gets the position's size: it closes.

    Params: ``forecast``, the strategy attribute that holds the indicator (lines expected_return and
    volatility), or a dict with one for each data; ``scale``, the share of the full Kelly fraction;
    ``max_fraction``, the cap as a fraction of equity.

    Raises StrategyError when the strategy has no such attribute. A size of 0 makes ``buy()`` return None, and
    Backtrader's ``buy_bracket`` fails on that: ask ``getsizing()`` first, and place the bracket only above 0.
    """

    params = (("scale", 0.5),)

    def _fraction(self, data, side):
        forecast = self._forecast_of(data)
        return side * kelly_fraction(
            forecast.expected_return[0],
            forecast.volatility[0],
            scale=self.p.scale,
            max_fraction=self.p.max_fraction,
        )


class VolatilitySizer(_ForecastSizer):
    """Sizes ``buy()`` and ``sell()`` so that the position is as volatile as wanted, by the predicted volatility.

    Fills up, closes and sends nothing as KellySizer does; the side is the caller's. Params: ``forecast``, the
    strategy attribute that holds the indicator (line volatility), or a dict with one for each data;
    ``horizon_volatility``, the wanted standard deviation of equity over the forecast's horizon (the function
    ``horizon_volatility`` makes it of an annual one); ``max_fraction``, the cap as a fraction of equity.
    """

    params = (("horizon_volatility", 0.01),)

    def _fraction(self, data, side):
        return volatility_fraction(
            self._forecast_of(data).volatility[0],
            horizon_volatility=self.p.horizon_volatility,
            max_fraction=self.p.max_fraction,
        )


class FractionSizer(_EquitySizer):
    """Sizes ``buy()`` and ``sell()`` to a fixed ``fraction`` of equity; fills up and closes as KellySizer does."""

    params = (("fraction", 0.20),)

    def _fraction(self, data, side):
        return self.p.fraction
