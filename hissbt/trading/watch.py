"""What a strategy's model says, shown to the guards of its broker."""

from __future__ import annotations

import backtrader as bt

from hissbt.errors import ConfigError, StrategyError
from hissbt.trading.enforcement import GuardLayer


class ModelWatch(bt.Analyzer):
    """Lets the guards of a PerpBroker see a model, in anybody's Cerebro and with no change to the strategy.

    ``cerebro.addanalyzer(hissbt.ModelWatch, forecast="hiss")``, where ``forecast`` is the strategy attribute that
    holds the indicator; and ``hissbt.ModelFaultGuard()`` among the broker's guards. The guards then look at each
    bar after the strategy has decided, and where they allow nothing, what it has just ordered is canceled too. Add
    it before the Ledger, which else shows the guard's reason a bar late.

    Raises ConfigError for a broker without guards, StrategyError where the strategy has no such attribute.
    """

    params = (("forecast", "hiss"),)

    def start(self):
        """Backtrader's hook before the first bar."""
        broker = self.strategy.broker
        if not isinstance(broker, GuardLayer) or broker.guards is None:
            raise ConfigError(
                "ModelWatch shows a model to guards, and the broker has none: set cerebro.broker = "
                "hissbt.PerpBroker(guards=[hissbt.ModelFaultGuard()])"
            )
        forecast = getattr(self.strategy, self.p.forecast, None)
        if forecast is None:
            raise StrategyError(
                f"ModelWatch finds no self.{self.p.forecast} in {type(self.strategy).__name__}: name the "
                "attribute that holds the forecast with forecast=…"
            )
        self._broker, self._lines = broker, list(forecast.lines)
        broker.wait_for_model()

    def prenext(self):
        """Show the bar alone: the model warms up."""
        self._broker.show_model(None)

    def next(self):
        """Show the bar and the model's lines at it."""
        self._broker.show_model(tuple(line[0] for line in self._lines))

    def stop(self):
        """Backtrader's hook after the last bar: let go of what cannot be pickled."""
        self._broker = self._lines = None
