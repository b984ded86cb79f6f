"""How long a decision takes in next mode: bar in, features, network step, rules, order out."""

import time

import backtrader as bt
import numpy as np

from hissbt.bars import Bars
from hissbt.bench.backtests import CASH, FEE, Signal
from hissbt.bench.measure import Row, Sample, Tick, compare, quantiles, seconds
from hissbt.bench.subjects import random_bundle
from hissbt.feeds.bulk import BarsFeed
from hissbt.indicators import HiSS
from hissbt.strategies.hiss import HiSSStrategy

LOOP = "Backtrader's loop alone, no-op"
TOTAL = "loop with HiSS and its rules"
WARM = "features + step + rules, warm"
COLD = "features + step + rules, caches emptied before each bar"
FORECAST, RULES = "of it features + step, warm", "of it rules and orders, warm"
COLD_BYTES = 64 * 2**20
"""What is read between two bars of the cold runs: more than the processor's own caches hold."""


def measure_decisions(network: str, bars: Bars, cold_bars: int, rounds: int, tick: Tick) -> list[Row]:
    """Return the rows, in microseconds a bar, quantiles over bars after the warm-up; no run uses runonce.

    The figures of features, step and rules are the time inside the indicator's and the strategy's ``next``, which
    includes what these call in Backtrader (a bracket is three orders). ``loop with HiSS`` less ``loop alone`` is
    more: it includes what Backtrader does about an indicator with three lines, and about orders and fills.
    """
    bundle = random_bundle(network, bars[:5000])
    signal = Signal.of(bundle, bars)
    params = {"model": bundle, "prob_long": signal.high, "prob_short": signal.low, "max_drawdown": 0.99}
    trash = np.ones(COLD_BYTES // 8)
    last: dict[str, np.ndarray] = {}

    def timed(count: int, emptied: np.ndarray | None) -> Sample:
        run = _run(bars[:count], TimedStrategy, params | {"emptied": emptied})
        forecast, rules = np.array(run.forecast.times_us), np.array(run.times_us)
        last[FORECAST], last[RULES] = forecast[-len(rules) :], rules
        return quantiles(last[FORECAST] + rules)

    def part(name: str):
        return lambda: quantiles(last[name])

    each = 1e6 / len(bars)
    subjects = {
        LOOP: lambda: Sample(seconds(lambda: _run(bars, bt.Strategy, {})) * each),
        TOTAL: lambda: Sample(seconds(lambda: _run(bars, HiSSStrategy, params)) * each),
        WARM: lambda: timed(len(bars), None),
        COLD: lambda: timed(cold_bars, trash),
    }
    rows = compare("µs/bar", subjects, {TOTAL: (LOOP,), WARM: (LOOP,), COLD: (WARM,)}, rounds, tick)
    timed(len(bars), None)
    parts = compare("µs/bar", {FORECAST: part(FORECAST), RULES: part(RULES)}, {}, 1, lambda: None)
    return [*rows, *parts]


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
    """Keeps how long each decision took; between bars it reads ``emptied``, if given, through the caches."""

    params = (("emptied", None),)

    def __init__(self):
        super().__init__()
        self.times_us = []

    def make_forecast(self):
        """Return the timed indicator."""
        return TimedHiSS(self.data, model=self.p.model)

    def next(self):
        """Decide."""
        start = time.perf_counter_ns()
        super().next()
        self.times_us.append((time.perf_counter_ns() - start) / 1e3)
        if self.p.emptied is not None:
            self.p.emptied.sum()


def _run(bars: Bars, strategy: type[bt.Strategy], params: dict) -> bt.Strategy:
    cerebro = bt.Cerebro(stdstats=False, runonce=False)
    cerebro.adddata(BarsFeed(bars))
    cerebro.addstrategy(strategy, **params)
    cerebro.broker.setcash(CASH)
    cerebro.broker.setcommission(commission=FEE)
    return cerebro.run()[0]
