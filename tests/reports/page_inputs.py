"""What the run page is made from, of real runs: real bars, Backtrader's loop, our broker and ledger."""

import backtrader as bt
from scripted_forecast import ScriptedForecast

from hissbt.feeds import BarsFeed
from hissbt.reports.costs import cost_report
from hissbt.reports.ledger import Ledger
from hissbt.reports.metrics import buy_and_hold, forecast_metrics, trading_metrics
from hissbt.trading.broker import PerpBroker


class Alternating(bt.Strategy):
    """Long for some bars, flat, short, flat, and so on; with ``rows`` it has a forecast, and ignores it."""

    params = (("rows", None), ("size", 20.0), ("reason", "signal"))

    def __init__(self):
        if self.p.rows is not None:
            self.forecast = ScriptedForecast(self.data, rows=self.p.rows, warmup=5)

    def next(self):
        phase = len(self) % 10
        if phase == 1:
            self.buy(size=self.p.size)
        elif phase == 6:
            self.sell(size=self.p.size)
        elif phase in (4, 9) and self.position:
            self.close(reason=self.p.reason)


def page_inputs(*bars, strategy=Alternating, cash=100_000.0, in_sample=False, broker=None, **params) -> dict:
    """Run ``strategy`` over each of the bars as a data of its own, and return the arguments of ``run_page``."""
    costs = {"taker": 0.00055, "half_spread": 0.0001, "impact": 0.5} | (broker or {})
    cerebro = bt.Cerebro(stdstats=False)
    for each in bars:
        cerebro.adddata(BarsFeed(each), name=each.market.symbol)
    cerebro.addstrategy(strategy, **params)
    cerebro.addanalyzer(Ledger, _name="ledger")
    cerebro.broker = PerpBroker(**costs)
    cerebro.broker.setcash(cash)
    finished = cerebro.run()[0]
    ledger = finished.analyzers.ledger
    days = bars[0].market.periods_per_year
    guards = cerebro.broker.guards
    costs.pop("guards", None)
    return {
        "run": {
            "strategy": f"strategies/{strategy.__name__.lower()}.py:{strategy.__name__}",
            "params": params | {"rows": None, "prob_long": 0.55, "prob_short": 0.45},
            "seed": 0,
            "costs": costs,
            "source": {"sha256": bars[0].sha256},
            "trained_until": "2020-01-01T00:00:00+00:00" if in_sample else None,
            "git_revision": None,
        },
        "metrics": {
            "in_sample": in_sample,
            "trading": trading_metrics(ledger.frame, ledger.trades, ledger.fills, days),
            "buy_and_hold": trading_metrics(*buy_and_hold(ledger.frame, costs["taker"]), days),
            "forecast": forecast_metrics(ledger.frame, 1),
            "costs": cost_report(ledger.frame, ledger.fills, days, costs["half_spread"]),
            "counts": dict(cerebro.broker.counts),
        },
        "ledger": ledger.frame,
        "trades": ledger.trades,
        "fills": ledger.fills,
        "bars": bars[0],
        "guards": guards.record if guards else (),
    }
