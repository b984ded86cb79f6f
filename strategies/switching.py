"""Trade the regimes of a switching network, with the size and exit rules and the guards of HiSSStrategy."""

import backtrader as bt

from hissbt.strategies.hiss import HiSSStrategy
from hissbt.trading.entry import Levels


class SwitchingStrategy(HiSSStrategy):
    """Long in a bull, short in a bear market, by the filtered regime.

    At each close: long when ``prob_bull > prob_long``, short when ``prob_bear > 1 - prob_short``, flat otherwise.
    With two regimes the second is ``prob_bull < prob_short``, so between the levels nobody knows. ``hysteresis``
    keeps a position up to that share of the way back to a probability of 0.5. With a ``threshold`` above 0 the
    expected return must speak for the same side, too, and by more than that.

    Everything else is as in ``hissbt.strategies.hiss.HiSSStrategy``: orders, stops and targets, pace, guards and
    errors. A position is ``max_fraction`` of equity, as the model knows regimes better than returns; with
    ``sizing="kelly"`` there is none against the expected return.
    """

    params = (("sizing", "fixed"),)
    probability = "prob_bull"

    def __init__(self):
        super().__init__()
        self._prob_bear = self.forecast.lines.prob_bear

    def make_forecast(self) -> bt.Indicator:
        """Return the indicator to trade on: any with lines prob_bull, prob_bear, expected_return and volatility.

        What HiSSStrategy asks of an indicator of your own holds here too.
        """
        given = self._given_model()
        from hissbt.indicators import Regime  # here as in HiSSStrategy

        return Regime(self.data, **given)

    def _wanted(self, levels: Levels, expected_return: float, prob_bull: float) -> int:
        """Return the side of the regime, 0 where none is likely enough."""
        if prob_bull > levels.prob_long:
            side = 1
        elif self._prob_bear[0] > 1 - levels.prob_short:
            side = -1
        else:
            return 0
        return side if not levels.threshold or side * expected_return > levels.threshold else 0


if __name__ == "__main__":
    from hissbt.cli import run_strategy_script

    run_strategy_script(SwitchingStrategy)
