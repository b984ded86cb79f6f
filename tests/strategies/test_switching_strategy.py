"""SwitchingStrategy follows the regime, with everything else of HiSSStrategy."""

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from bundles import random_bundle
from observed_strategy import flat

from hissbt.backtest import run_backtest
from hissbt.errors import BundleError, StrategyError
from hissbt.plugins import load_strategy
from hissbt.strategies.switching import SwitchingStrategy

BULL, BEAR, UNSURE = (0.9, 0.1, 0.01, 0.02), (0.1, 0.9, -0.01, 0.02), (0.5, 0.5, 0.0, 0.02)


class ScriptedRegime(bt.Indicator):
    """Shows ``rows[i]`` = (prob_bull, prob_bear, expected_return, volatility) at bar i."""

    lines = ("prob_bull", "prob_bear", "expected_return", "volatility")
    params = (("rows", None),)

    def next(self):
        for line, value in zip(self.lines, self.p.rows[len(self) - 1], strict=True):
            line[0] = value


class Scripted(SwitchingStrategy):
    params = (("rows", None),)

    def make_forecast(self):
        return ScriptedRegime(self.data, rows=self.p.rows)

    def start(self):
        self.held, self.reasons = [], []

    def next(self):
        self.held.append(int(np.sign(self.position.size)))
        super().next()

    def notify_order(self, order):
        if order.status == order.Completed:
            self.reasons.append(order.info["reason"])


def run(rows, prices=None, **params):
    frame = pd.DataFrame([(*row, 1e6) for row in prices or flat(100, len(rows))])
    frame.columns = ["open", "high", "low", "close", "volume"]
    frame.index = pd.date_range("2024-01-01", periods=len(frame), freq="D")
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame))
    cerebro.addstrategy(Scripted, rows=rows, **params)
    cerebro.broker.setcash(100_000)
    return cerebro.run()[0]


def test_it_is_long_in_a_bull_and_short_in_a_bear_market():
    rows = [UNSURE, BULL, BULL, UNSURE, BEAR, BEAR, BULL, BULL, BULL]
    assert run(rows).held == [0, 0, 1, 1, 0, -1, -1, 0, 1]


def test_hysteresis_keeps_a_position_until_the_regime_is_undecided():
    weak = (0.55, 0.45, 0.0, 0.02)
    rows = [BULL, weak, weak, UNSURE, BEAR, weak]
    assert run(rows).held == [0, 1, 0, 0, 0, -1]
    assert run(rows, hysteresis=1.0).held == [0, 1, 1, 1, 0, -1]


def test_of_three_regimes_neither_bull_nor_bear_is_flat():
    between = (0.3, 0.2, 0.0, 0.02)  # prob_bull alone, below 0.4, would say short
    assert run([between, between, between]).held == [0, 0, 0]


def test_the_regime_decides_unless_a_threshold_asks_for_the_return_too():
    against = (0.9, 0.1, -0.005, 0.02)
    assert run([against] * 3).held == [0, 1, 1]
    assert run([against] * 3, threshold=0.001).held == [0, 0, 0]
    assert run([BULL] * 3, threshold=0.001).held == [0, 1, 1]
    assert run([against] * 3, sizing="kelly").held == [0, 0, 0]


def test_stops_and_guards_are_those_of_the_house():
    crash = [*flat(100, 2), (100, 100, 90, 90), *flat(90, 2)]
    assert run([BULL] * 5, crash).reasons[:2] == ["entry", "stop"]
    assert "model_fault" in run([BULL, BULL, (np.nan, np.nan, 0.01, 0.02), BULL, BULL]).reasons


def test_without_a_model_it_says_so():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(
        bt.feeds.PandasData(
            dataname=pd.DataFrame(
                flat(1.0, 3),
                columns=["open", "high", "low", "close"],
                index=pd.date_range("2024-01-01", periods=3),
            )
        )
    )
    cerebro.addstrategy(SwitchingStrategy)
    with pytest.raises(StrategyError, match="SwitchingStrategy has no model"):
        cerebro.run()


def test_its_name_runs_it_over_a_bundle_and_the_ledger_holds_the_regimes(hourly_bars, tmp_path):
    bars = hourly_bars[:150]
    bundle = random_bundle(bars, kind="m-gru")
    levels = {"prob_long": 0.5, "prob_short": 0.5}
    finished = run_backtest(
        bars, load_strategy("switching"), model=bundle, params=levels, since=bars.open_times[30], out=tmp_path
    )
    assert len(finished.trades) > 0
    sides, before = np.sign(finished.ledger["position"]), finished.ledger["prob_bull"].shift(1)
    assert (before[sides > 0] > 0.5).any()
    assert finished.metrics["forecast"] is None


def test_a_model_without_regimes_is_refused(hourly_bars, tmp_path):
    bars = hourly_bars[:150]
    with pytest.raises(BundleError, match="lstm bundle, which has no regimes"):
        run_backtest(bars, SwitchingStrategy, model=random_bundle(bars, kind="lstm"), out=tmp_path)
