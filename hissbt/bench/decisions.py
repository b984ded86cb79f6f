"""How long a decision takes in next mode: bar in, features, network step, rules, order out."""

import time

import backtrader as bt
import numpy as np

from hissbt.bars import Bars
from hissbt.bench.backtests import CASH, FEE, strategy_params
from hissbt.bench.measure import Row, Sample, Tick, compare, make_row, quantiles, seconds
from hissbt.bench.subjects import random_bundle
from hissbt.feeds.bulk import BarsFeed
from hissbt.indicators import HiSS
from hissbt.strategies.hiss import HiSSStrategy

LOOP = "Backtrader's loop alone, no-op"
TOTAL = "loop with HiSSStrategy"
OWN = "features + step + rules, warm"
OWN_COLD = "features + step + rules, cold"
FORECAST = "of it features + step, warm"
ORDERS = "bar in to orders out, where there are any, warm"
ORDERS_COLD = "bar in to orders out, where there are any, cold"
NOTES = {
    OWN: "inside next of indicator and strategy, less what Backtrader takes to make and cancel orders",
    OWN_COLD: "64 MiB are read between bars, so that the processor's caches hold nothing of it",
    ORDERS: "a bracket of three orders, or cancellations and a close; mostly Backtrader's own time",
}
COLD_BYTES = 64 * 2**20
"""What is read between two bars of the cold runs: more than the processor's own caches hold."""


def measure_decisions(network: str, bars: Bars, cold_bars: int, rounds: int, tick: Tick) -> list[Row]:
    """Return the rows, in microseconds a bar, quantiles over bars after the warm-up; no run uses runonce.

    ``loop with HiSSStrategy`` less ``loop alone`` is more than the time in both ``next``: it has in it what
    Backtrader does about an indicator with three lines, and about orders and fills.
    """
    bundle = random_bundle(network, bars[:5000])
    params = strategy_params(bundle, bars, 1 / 42)  # an order at every tenth bar or so
    trash = np.ones(COLD_BYTES // 8)
    parts: dict[str, list[Sample]] = {FORECAST: [], ORDERS: [], ORDERS_COLD: []}

    def timed(count: int, cold: bool) -> Sample:
        run = _run(bars[:count], TimedStrategy, params | {"emptied": trash if cold else None})
        rules, orders = np.array(run.times_us), np.array(run.orders_us)
        forecast = np.array(run.forecast.times_us)[-len(rules) :]
        ordered = orders > 0
        if ordered.any():
            parts[ORDERS_COLD if cold else ORDERS].append(quantiles((forecast + rules)[ordered]))
        if not cold:
            parts[FORECAST].append(quantiles(forecast))
        return quantiles(forecast + rules - orders)

    each = 1e6 / len(bars)
    subjects = {
        LOOP: lambda: Sample(seconds(lambda: _run(bars, bt.Strategy, {})) * each),
        TOTAL: lambda: Sample(seconds(lambda: _run(bars, HiSSStrategy, params)) * each),
        OWN: lambda: timed(len(bars), cold=False),
        OWN_COLD: lambda: timed(cold_bars, cold=True),
    }
    rows = compare("µs/bar", subjects, {TOTAL: (LOOP,), OWN: (LOOP,), OWN_COLD: (OWN,)}, rounds, tick, NOTES)
    return rows + [
        make_row(name, "µs/bar", samples, {}, NOTES.get(name, "")) for name, samples in parts.items() if samples
    ]


class TimedHiSS(HiSS):
    """Keeps how long each forecast took."""

    def __init__(self):
        super().__init__()
        self.times_us = []

    def next(self):
        """Forecast."""
        start = time.perf_counter_ns()
        super().next()
        self.times_us.append((time.perf_counter_ns() - start) / 1e3)


class TimedStrategy(HiSSStrategy):
    """Keeps how long each decision took, and how much of that Backtrader took to make and cancel orders.

    Between bars it reads ``emptied``, if given, through the caches.
    """

    params = (("emptied", None),)

    def __init__(self):
        super().__init__()
        self.times_us, self.orders_us, self._orders_ns = [], [], 0
        for name in ("buy_bracket", "sell_bracket", "close", "cancel"):
            setattr(self, name, self._timed(getattr(self, name)))

    def make_forecast(self):
        """Return the timed indicator."""
        return TimedHiSS(self.data, model=self.p.model)

    def next(self):
        """Decide."""
        start, self._orders_ns = time.perf_counter_ns(), 0
        super().next()
        self.times_us.append((time.perf_counter_ns() - start) / 1e3)
        self.orders_us.append(self._orders_ns / 1e3)
        if self.p.emptied is not None:
            self.p.emptied.sum()

    def _timed(self, method):
        def timed(*args, **kwargs):
            start = time.perf_counter_ns()
            result = method(*args, **kwargs)
            self._orders_ns += time.perf_counter_ns() - start
            return result

        return timed


def _run(bars: Bars, strategy: type[bt.Strategy], params: dict) -> bt.Strategy:
    cerebro = bt.Cerebro(stdstats=False, runonce=False)
    cerebro.adddata(BarsFeed(bars))
    cerebro.addstrategy(strategy, **params)
    cerebro.broker.setcash(CASH)
    cerebro.broker.setcommission(commission=FEE)
    return cerebro.run()[0]
