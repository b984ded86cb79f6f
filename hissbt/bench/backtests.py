"""Bars a second of whole backtests."""

import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import backtrader as bt
import numpy as np

import hissbt
from hissbt.bars import Bars
from hissbt.bench.engines import TorchBar
from hissbt.bench.measure import Row, Sample, Tick, compare, seconds
from hissbt.bench.subjects import random_bundle
from hissbt.bundle import ModelBundle
from hissbt.feeds.bulk import BarsFeed
from hissbt.indicators import HiSS
from hissbt.reports.ledger import Ledger
from hissbt.strategies.hiss import HiSSStrategy
from hissbt.stream import Stream
from hissbt.stream.cache import FEWEST_BARS

CASH = 1e6
FEE = 0.00055
STOCK, BULK, OTHER = "stock", "bulk feed", "backtesting.py"
STOCK_SMA, STOCK_TORCH = "stock, SMA cross", "stock, rule on torch step in next"
FULL = "HiSSStrategy"
FULL_AGAIN = "HiSSStrategy, forecasts from the cache"
FULL_NEXT = "HiSSStrategy, runonce=False"
RULE = "HiSS and rule"
RULE_LEDGER = "HiSS, rule and ledger"
FAST = ", accelerated"
WHAT = {
    STOCK: "PandasData, strategy without next",
    BULK: "BarsFeed, strategy without next",
    OTHER: "rule, forecasts given",
    FULL: "brackets, guard and ledger",
    RULE: "long or flat",
}
"""What the names leave out."""


@dataclass(frozen=True)
class Signal:
    """Forecasts of all bars and the levels between which the rules act."""

    prob_up: np.ndarray
    low: float
    high: float

    @classmethod
    def of(cls, bundle: ModelBundle, bars: Bars, beyond: float) -> "Signal":
        """Choose levels that the share ``beyond`` of the forecasts lies above, and as many below."""
        prob_up = Stream(bundle).scan(bars.arrays())[:, 1]
        low, high = np.quantile(prob_up[bundle.warmup :], (beyond, 1 - beyond))
        return cls(prob_up, float(low), float(high))


def strategy_params(bundle: ModelBundle, bars: Bars, beyond: float) -> dict:
    """Return params of HiSSStrategy; it opens a bracket at most at twice the share ``beyond`` of the bars."""
    signal = Signal.of(bundle, bars, beyond)
    return {
        "model": bundle,
        "prob_long": signal.high,
        "prob_short": signal.low,
        "max_drawdown": 0.99,  # looked at in every bar, yet never the end of trading
    }


def measure_backtests(bars: Bars, torch_bars: int, rounds: int, tick: Tick) -> list[Row]:
    """Return the rows, in bars a second; torch's row is measured on the first ``torch_bars`` only."""
    bundle = random_bundle("HiSS-S4D", bars[:5000])
    signal = Signal.of(bundle, bars, 1 / 42)  # low, then high: a trade about every 84 bars
    frame = _pandas_frame(bars)
    some = bars[:torch_bars]
    full = strategy_params(bundle, bars, 1 / 168)  # nor more often with brackets
    rule = {"model": bundle, "low": signal.low, "high": signal.high}

    def ours(strategy, params, *, ledger=False, fast=False, **how) -> Callable:
        return lambda: run_backtrader(BarsFeed(bars), strategy, params, ledger=ledger, fast=fast, **how)

    runs = {
        STOCK: lambda: run_backtrader(_pandas_feed(frame), bt.Strategy, {}),
        STOCK_SMA: lambda: run_backtrader(_pandas_feed(frame), SmaCross, {}),
        STOCK_TORCH: lambda: run_backtrader(_pandas_feed(frame[:torch_bars]), TorchRule, rule),
        BULK: ours(bt.Strategy, {}),
        FULL: ours(HiSSStrategy, full, ledger=True),
        FULL_AGAIN: ours(HiSSStrategy, full, ledger=True),
        FULL_NEXT: ours(HiSSStrategy, full, ledger=True, runonce=False),
        RULE_LEDGER: ours(Rule, rule, ledger=True),
        RULE: ours(Rule, rule),
    }
    missing = []
    if hasattr(hissbt, "accelerate"):
        runs |= {
            BULK + FAST: ours(bt.Strategy, {}, fast=True),
            FULL + FAST: ours(HiSSStrategy, full, ledger=True, fast=True),
            RULE_LEDGER + FAST: ours(Rule, rule, ledger=True, fast=True),
            RULE + FAST: ours(Rule, rule, fast=True),
        }
    else:
        missing.append(Row(FULL + FAST, "bars/s", note="this hissbt has no accelerate"))
    if importlib.util.find_spec("backtesting"):
        importlib.import_module("backtesting")  # not in its first round's time
        runs[OTHER] = lambda: run_backtesting_py(frame, signal)
    else:
        missing.append(Row(OTHER, "bars/s", note="not installed: pip install backtesting"))
    counts = dict.fromkeys(runs, len(bars)) | {STOCK_TORCH: len(some)}
    notes: dict[str, str] = {}
    with _own_cache() as cache:

        def measure(name: str) -> Sample:
            if name != FULL_AGAIN:
                shutil.rmtree(cache, ignore_errors=True)  # else forecasts would be read, not computed
            outcome = None

            def run():
                nonlocal outcome
                outcome = runs[name]()

            taken = seconds(run)
            notes[name] = outcome.note()
            return Sample(counts[name] / taken)

        runs[FULL]()  # loads compiled code
        subjects = {name: (lambda name=name: measure(name)) for name in runs}
        if len(bars) >= FEWEST_BARS:
            # Fills the cache again, whatever ran in between.
            subjects[FULL_AGAIN] = lambda: (runs[FULL](), measure(FULL_AGAIN))[1]
        else:
            del subjects[FULL_AGAIN]
        against = {name: [base for base in (STOCK, BULK, OTHER) if base != name] for name in runs}
        rows = compare("bars/s", subjects, against, rounds, tick)
    return [*(_counted(row, notes) for row in rows), *missing]


@dataclass(frozen=True)
class Outcome:
    """What a backtest ended with."""

    bars: int
    trades: int
    value: float

    def note(self) -> str:
        """Say how busy it was."""
        return f"{self.bars:,} bars, {self.trades:,} trades" if self.trades else f"{self.bars:,} bars"


def run_backtrader(feed, strategy, params, *, ledger=False, fast=False, **how) -> Outcome:
    """Run a strategy over a feed."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feed)
    cerebro.addstrategy(strategy, **params)
    if ledger:
        cerebro.addanalyzer(Ledger, _name="ledger")
    cerebro.broker.setcash(CASH)
    cerebro.broker.setcommission(commission=FEE)
    if fast:
        hissbt.accelerate(cerebro)
    finished = cerebro.run(**how)[0]
    trades = sum(len(of_data) for of_data in finished._trades.values() for of_data in of_data.values())
    return Outcome(len(finished), trades, cerebro.broker.getvalue())


class Rule(bt.Strategy):
    """Buy one when a rise is likely, sell it when a fall is."""

    params = (("model", None), ("low", 0.5), ("high", 0.5))

    def __init__(self):
        self.prob_up = HiSS(self.data, model=self.p.model).prob_up

    def next(self):
        """Decide at the close of the bar at [0]."""
        prob = self.prob_up[0]
        if not self.position:
            if prob > self.p.high:
                self.buy(size=1)
        elif prob < self.p.low:
            self.close()


class TorchRule(bt.Strategy):
    """The same rule, with torch's eager step in next."""

    params = (("model", None), ("low", 0.5), ("high", 0.5))

    def __init__(self):
        import torch

        self._torch = torch
        self._engine = TorchBar(self.p.model)
        self.addminperiod(self.p.model.warmup)

    def prenext(self):
        """Warm the state."""
        self._prob_up()

    def next(self):
        """Decide at the close of the bar at [0]."""
        prob = self._prob_up()
        if not self.position:
            if prob > self.p.high:
                self.buy(size=1)
        elif prob < self.p.low:
            self.close()

    def _prob_up(self) -> float:
        data = self.data
        close_time_s = round((data.datetime[0] - 719163) * 86_400_000) / 1000
        bar = np.array([close_time_s, data.open[0], data.high[0], data.low[0], data.close[0], data.volume[0]])
        with self._torch.inference_mode():
            return float(self._engine.step(bar)[1])


class SmaCross(bt.Strategy):
    """Backtrader's own quick start: long while the short average is above the long one."""

    def __init__(self):
        self.cross = bt.ind.CrossOver(bt.ind.SMA(period=50), bt.ind.SMA(period=200))

    def next(self):
        """Decide at the close of the bar at [0]."""
        if self.cross[0] > 0 and not self.position:
            self.buy(size=1)
        elif self.cross[0] < 0 and self.position:
            self.close()


def run_backtesting_py(frame, signal: Signal) -> Outcome:
    """Run the rule in backtesting.py, with the forecasts given as a column."""
    from backtesting import Backtest, Strategy

    class Given(Strategy):
        def init(self):
            self.prob_up = self.I(lambda: signal.prob_up, name="prob_up", overlay=False)

        def next(self):
            prob = self.prob_up[-1]
            if not self.position:
                if prob > signal.high:
                    self.buy(size=1)
            elif prob < signal.low:
                self.position.close()

    renamed = frame.rename(columns=str.title)
    test = Backtest(renamed, Given, cash=CASH, commission=FEE, finalize_trades=True)
    result = test.run()
    return Outcome(len(frame), int(result["# Trades"]), float(result["Equity Final [$]"]))


def _counted(row: Row, notes: dict[str, str]) -> Row:
    return replace(row, note="; ".join(text for text in (WHAT.get(row.name), notes[row.name]) if text))


def _pandas_frame(bars: Bars):
    """Return the table that a user of PandasData would have: times without zone, of the bars' closes."""
    return bars.frame.tz_localize(None)


def _pandas_feed(frame):
    return bt.feeds.PandasData(dataname=frame, timeframe=bt.TimeFrame.Minutes)


@contextmanager
def _own_cache() -> Iterator[Path]:
    """Keep forecasts in an empty folder for a while, instead of the user's."""
    before = os.environ.get("HISSBT_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["HISSBT_CACHE"] = folder
        try:
            yield Path(folder) / "outputs"
        finally:
            if before is None:
                del os.environ["HISSBT_CACHE"]
            else:
                os.environ["HISSBT_CACHE"] = before
