"""What it costs to trade at once: half the spread, and the price that one's own size moves."""

from __future__ import annotations

import math

WINDOW_DAYS = 30
_MOST = 0.99  # of the price: a sale must leave something


class Impact:
    """Cost of a fill as a fraction of its price, from the bars that closed before it.

    ``half_spread + coefficient * sigma_day * sqrt(quantity / ADV)``: the square-root law of market impact
    (Almgren, Thum, Hauptmann, Li 2005, "Direct estimation of equity market impact"; Toth et al. 2011, "Anomalous
    price impact and the critical nature of liquidity in financial markets"), in which the coefficient is near 1.
    ``sigma_day`` is the daily volatility and ``ADV`` the average daily volume: running means of squared log
    returns and of volume a bar, in which each bar weighs as much as in a mean until there are 30 days of them, and
    1/(bars in 30 days) from then on. A market that has shown no volume counts as one whose whole day is traded.
    """

    def __init__(self, half_spread: float, coefficient: float, bars_per_day: float):
        self.half_spread, self.coefficient = half_spread, coefficient
        self.bars_per_day = bars_per_day
        self._least_weight = 1.0 / max(1.0, WINDOW_DAYS * bars_per_day)
        self._news: list[tuple[float, float]] = []  # bars that no cost depended on yet
        self._bars = 0
        self._close = math.nan
        self._variance = self._volume = 0.0  # of a bar

    def update(self, *bars: tuple[float, float]) -> None:
        """Take close and volume of bars that have closed, in their order."""
        if self.coefficient:
            self._news += bars

    def cost(self, quantity: float) -> float:
        """Return the fraction of the price that trading ``quantity`` units costs."""
        if not self.coefficient:
            return self.half_spread
        for close, volume in self._news:
            self._take(close, volume)
        self._news.clear()
        average_day = self._volume * self.bars_per_day
        share = quantity / average_day if average_day > 0 else 1.0
        sigma_day = math.sqrt(self._variance * self.bars_per_day)
        return min(_MOST, self.half_spread + self.coefficient * sigma_day * math.sqrt(share))

    def _take(self, close: float, volume: float) -> None:
        if not (close > 0 and volume >= 0):
            return  # other feeds may have bars that tell nothing: a NaN would stay in the means for good
        if self._bars:
            weight = max(1.0 / self._bars, self._least_weight)
            change = math.log(close / self._close)
            self._variance += weight * (change * change - self._variance)
        self._bars += 1
        self._volume += max(1.0 / self._bars, self._least_weight) * (volume - self._volume)
        self._close = close
