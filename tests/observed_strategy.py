"""HiSSStrategy on scripted forecasts, watched at each bar."""

import backtrader as bt
import pandas as pd
from scripted_forecast import ScriptedForecast

from hissbt.loop import accelerate
from hissbt.strategies.hiss import HiSSStrategy

UP, DOWN, NONE = (0.02, 0.9, 0.02), (-0.02, 0.1, 0.02), (0.0, 0.5, 0.02)


class RegimeForecast(ScriptedForecast):
    """A scripted forecast that also says how likely a bear market is: the fourth number of each row."""

    lines = ("prob_bear",)


class Observed(HiSSStrategy):
    """HiSSStrategy on scripted forecasts, which notes the account before and after each decision."""

    params = (("rows", None), ("prob_long", 0.55), ("prob_short", 0.45), ("commission", 0.00055))

    def make_forecast(self):
        kind = RegimeForecast if len(self.p.rows[0]) == 4 else ScriptedForecast
        return kind(self.data, rows=self.p.rows)

    def start(self):
        self.notes, self.placed, self.status = [], [], {}

    def next(self):
        before = {o.ref for o in self.placed}
        note = {"size": self.position.size, "price": self.data.close[0], "value": self.broker.getvalue()}
        note["bar"] = len(self.data)
        note["live"] = self._live()
        super().next()
        note["live_after"] = self._live()
        note["new"] = [o for o in self.placed if o.ref not in before]
        note["guard"] = self.guards.reason
        note["tripped"] = "drawdown" in [row["name"] for row in self.guards.record]
        self.notes.append(note)

    def _live(self):
        return [(o.info["reason"], o.executed.remsize) for o in self.placed if o.alive()]

    def buy(self, *args, **kwargs):
        return self._noted(super().buy(*args, **kwargs))

    def sell(self, *args, **kwargs):
        return self._noted(super().sell(*args, **kwargs))

    def _noted(self, order):
        self.placed.append(order)
        return order

    def notify_order(self, order):
        self.status.setdefault(order.info["reason"], []).append((len(self), order.getstatusname()))


def run(prices, rows, *, cash=100_000.0, filler=None, mode=None, second=False, broker=None, fast=False, **params):
    """Run Observed over daily rows of (open, high, low, close); a second feed calls it between these bars too.

    ``length`` and ``times`` make bars of other lengths and closes; ``broker`` is another one than Backtrader's
    own.
    """
    frame = pd.DataFrame([(*row, 1e6)[:5] for row in prices], columns=["open", "high", "low", "close", "volume"])
    length = pd.Timedelta(params.pop("length", "1D"))
    frame.index = params.pop("times", pd.date_range("2024-01-01", periods=len(frame), freq=length))
    minutes = {"timeframe": bt.TimeFrame.Minutes, "compression": int(length / pd.Timedelta("1min"))}
    cerebro = bt.Cerebro(stdstats=False, **(mode or {}))
    cerebro.adddata(bt.feeds.PandasData(dataname=frame, **minutes))
    if second:
        cerebro.adddata(bt.feeds.PandasData(dataname=frame.shift(freq=length / 2), **minutes))
    cerebro.addstrategy(Observed, rows=rows, **params)
    if broker is None:
        cerebro.broker.setcommission(commission=0.00055)
    else:
        cerebro.broker = broker
    cerebro.broker.setcash(cash)
    if filler is not None:
        cerebro.broker.set_filler(filler)
    if fast:
        accelerate(cerebro)
    return cerebro.run()[0]


def flat(close, n=1):
    """Return ``n`` bars at one price."""
    return [(close, close, close, close)] * n


def sizes(strategy):
    """Return the size held at each close."""
    return [note["size"] for note in strategy.notes]


def reasons(strategy):
    """Return why each order that filled was placed."""
    return [order.info["reason"] for order in strategy.placed if order.executed.size]
