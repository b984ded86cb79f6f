"""HVAEStrategy trades a forecast in normal times only, and less in strange ones."""

import json
from dataclasses import replace

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from bundles import random_bundle
from observed_strategy import flat
from scripted_forecast import ScriptedForecast

from hissbt.backtest import run_backtest
from hissbt.errors import BarsError, StrategyError
from hissbt.plugins import load_strategy
from hissbt.strategies.hvae import HVAEStrategy

RISE = (0.01, 0.9, 0.02)


class ScriptedLatent(bt.Indicator):
    """Shows ``rows[i]`` = (anomaly1, anomaly2, regime) at bar i."""

    lines = ("anomaly1", "anomaly2", "regime")
    params = (("rows", None),)

    def next(self):
        for line, value in zip(self.lines, self.p.rows[len(self) - 1], strict=True):
            line[0] = value


class Scripted(HVAEStrategy):
    params = (("forecasts", None), ("states", None))

    def make_forecast(self):
        return ScriptedForecast(self.data, rows=self.p.forecasts)

    def make_latent(self):
        return ScriptedLatent(self.data, rows=self.p.states)

    def start(self):
        self.sizes, self.reasons = [], []

    def next(self):
        self.sizes.append(self.position.size)
        super().next()

    def notify_order(self, order):
        if order.status == order.Completed:
            self.reasons.append(order.info["reason"])


def run(top, *, cluster=None, bottom=0.5, **params):
    """Run over flat prices with the top level's p-values ``top`` and a forecast that always says up."""
    states = [(bottom, p, 0.0 if cluster is None else cluster[i]) for i, p in enumerate(top)]
    frame = pd.DataFrame([(*row, 1e6) for row in flat(100, len(top))])
    frame.columns = ["open", "high", "low", "close", "volume"]
    frame.index = pd.date_range("2024-01-01", periods=len(frame), freq="D")
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame))
    cerebro.addstrategy(Scripted, forecasts=[RISE] * len(top), states=states, **{"sizing": "fixed", **params})
    cerebro.broker.setcash(100_000)
    return cerebro.run()[0]


def test_it_holds_the_forecasts_side_while_the_top_level_is_normal():
    assert np.sign(run([0.9, 0.9, 0.01, 0.01, 0.9, 0.9]).sizes).tolist() == [0, 1, 1, 0, 0, 1]


def test_a_position_is_closed_for_the_regime():
    assert run([0.9, 0.9, 0.01, 0.01]).reasons == ["entry", "regime"]


def test_a_strange_bar_alone_changes_nothing():
    assert run([0.9] * 3, bottom=0.001).sizes == run([0.9] * 3).sizes


def test_an_entry_shrinks_with_the_anomaly_of_the_top_level():
    full, half, tenth = (run([p] * 3, least_normal=0.0, fully_normal=0.5).sizes[-1] for p in (0.8, 0.25, 0.05))
    assert full == pytest.approx(200.0)  # a fifth of 100,000 at 100
    assert half == pytest.approx(full / 2)
    assert tenth == pytest.approx(full / 10)


def test_between_equal_levels_a_size_is_whole_or_nothing():
    levels = {"least_normal": 0.3, "fully_normal": 0.3}
    assert run([0.3] * 3, **levels).sizes[-1] == pytest.approx(200.0)
    assert run([0.29] * 3, **levels).sizes[-1] == 0


def test_only_the_chosen_regimes_are_traded():
    cluster = [2, 2, 0, 0, 2, 2]
    assert np.sign(run([0.9] * 6, cluster=cluster, regimes=[0, 1]).sizes).tolist() == [0, 0, 0, 1, 1, 0]


def test_what_is_not_known_is_not_normal():
    assert run([float("nan")] * 3).sizes == [0, 0, 0]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"least_normal": 0.6, "fully_normal": 0.5}, "above fully_normal 0.5"),
        ({"least_normal": 1.5}, "least_normal"),
        ({"fully_normal": "much"}, "fully_normal"),
        ({"regimes": 0}, r"regimes of Scripted is 0: write a list of whole numbers from 0, such as \[0, 1\]"),
        ({"regimes": []}, "regimes"),
        ({"regimes": "calm"}, "regimes"),
        ({"regimes": [-1]}, "regimes"),
    ],
)
def test_params_that_make_no_sense_are_refused(params, message):
    with pytest.raises(StrategyError, match=message):
        run([0.9] * 3, **params)


def test_without_a_latent_model_it_says_so():
    class WithoutLatent(Scripted):
        make_latent = HVAEStrategy.make_latent

    cerebro = bt.Cerebro(stdstats=False)
    index = pd.date_range("2024-01-01", periods=3)
    frame = pd.DataFrame(flat(1.0, 3), columns=["open", "high", "low", "close"], index=index)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame))
    cerebro.addstrategy(WithoutLatent, forecasts=[RISE] * 3)
    with pytest.raises(StrategyError, match="no hvae model: pass --set latent=FOLDER"):
        cerebro.run()


@pytest.fixture(scope="module")
def models(hourly_bars):
    bars = hourly_bars[:200]
    return bars, random_bundle(bars, kind="lstm", warmup=20), random_bundle(bars, kind="hvae", warmup=60)


def test_both_models_are_warm_before_the_first_decision(models, tmp_path):
    bars, forecaster, latent = models
    params = {"latent": latent, "prob_long": 0.5, "prob_short": 0.5}
    strategy = load_strategy("hvae")
    finished = run_backtest(
        bars, strategy, model=forecaster, params=params, since=bars.open_times[100], out=tmp_path
    )
    assert (
        finished.strategy.data.bars.open_times[0] == bars.open_times[40]
    )  # the longer warm-up before the first bar
    assert len(finished.trades) > 0
    with pytest.raises(BarsError, match="the model needs 60 and there are 50"):
        run_backtest(bars, strategy, model=forecaster, params=params, since=bars.open_times[50], out=tmp_path)


def test_a_run_is_in_sample_until_both_models_are_done_with_training(models, tmp_path):
    bars, forecaster, latent = models
    earlier = {"start": forecaster.training_span["start"], "end": bars.frame.index[70].isoformat()}
    seen = replace(forecaster, training_span=earlier)
    finished = run_backtest(
        bars,
        load_strategy("hvae"),
        model=seen,
        params={"latent": latent},
        since=bars.open_times[100],
        out=tmp_path,
    )
    assert finished.metrics["in_sample"]
    said = json.loads((finished.folder / "run.json").read_text())
    assert said["trained_until"] == latent.training_span["end"]


def test_a_latent_model_of_another_timeframe_is_refused(models, tmp_path):
    bars, forecaster, latent = models
    params = {"latent": replace(latent, timeframe="1d")}
    with pytest.raises(BarsError, match="trained on bars of 1d"):
        run_backtest(bars, load_strategy("hvae"), model=forecaster, params=params, out=tmp_path)


def test_regimes_that_the_latent_model_does_not_know_are_refused(models, tmp_path):
    bars, forecaster, latent = models
    params = {"latent": latent, "regimes": [0, 3]}
    with pytest.raises(StrategyError, match="has 3, which is no cluster of the hvae model: choose from 0 to 2"):
        run_backtest(bars, load_strategy("hvae"), model=forecaster, params=params, out=tmp_path)
