"""Buy once and hold: the benchmark that a strategy has to beat."""

import backtrader as bt

from hissbt.trading.params import FRACTION, check_params


class BuyAndHold(bt.Strategy):
    """Buys at the first open and never sells.

    Param ``fraction``: share of equity to buy with. It is below 1 because the size is set at one bar's close and
    paid at the next bar's open: an open that is higher by more than the rest, fees included, would leave too
    little cash, and the broker would refuse the order. A refused order is tried again at the next bar.
    """

    params = (("fraction", 0.98),)

    def __init__(self):
        check_params(self, fraction=FRACTION)
        self.order = None

    def next(self):
        """Buy unless that was done, or is on its way."""
        if not self.position and (self.order is None or not self.order.alive()):
            self.order = self.buy(
                size=self.p.fraction * self.broker.getvalue() / self.data.close[0], reason="entry"
            )


if __name__ == "__main__":
    from hissbt.cli import run_strategy_script

    run_strategy_script(BuyAndHold)
