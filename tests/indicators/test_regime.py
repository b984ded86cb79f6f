"""Regime names the regimes of a switching network, by what training found out about them."""

import numpy as np
import pytest
import torch
from bundles import random_bundle
from indicator_contract import named_lines

import hissbt
from hissbt.errors import BundleError
from hissbt.indicators import Forecast, Regime
from hissbt.indicators.regime import bull_and_bear
from hissbt.models import build_network
from hissbt.stream import Stream


@pytest.fixture
def bars(hourly_bars):
    return hourly_bars[:60]


def test_its_lines_have_the_names_that_they_are_known_by(bars):
    assert hissbt.Regime is Regime
    found = named_lines(bars, Regime, model=random_bundle(bars, kind="m-gru"))
    assert tuple(found) == ("prob_bull", "prob_bear", "expected_return", "volatility")


def test_two_regimes_have_probabilities_that_sum_to_one(bars):
    found = named_lines(bars, Regime, model=random_bundle(bars, kind="m-lstm"))
    both = found["prob_bull"] + found["prob_bear"]
    np.testing.assert_allclose(both[19:], 1, atol=1e-6)
    assert np.isnan(both[:19]).all()


def test_return_and_volatility_are_those_of_the_forecast(bars):
    bundle = random_bundle(bars, kind="m-tkan")
    regime, forecast = named_lines(bars, Regime, model=bundle), named_lines(bars, Forecast, model=bundle)
    for name in ("expected_return", "volatility"):
        np.testing.assert_array_equal(regime[name], forecast[name])


def test_bull_is_the_regime_that_expected_most_in_training(bars):
    bundle = random_bundle(bars, kind="m-gru")
    assert bull_and_bear(bundle) == (1, 0)
    before = named_lines(bars, Regime, model=bundle)
    bundle.metrics["regime_returns"] = [0.003, -0.001]
    assert bull_and_bear(bundle) == (0, 1)
    after = named_lines(bars, Regime, model=bundle)
    np.testing.assert_array_equal(after["prob_bull"], before["prob_bear"])
    np.testing.assert_array_equal(after["expected_return"], before["expected_return"])


def test_the_probabilities_are_the_networks_belief(bars):
    bundle = random_bundle(bars, kind="m-lstm", n_regimes=3)
    stream = Stream(bundle, regimes=True)
    network = build_network(bundle.kind, bundle.config).eval()
    network.load_state_dict({name: torch.from_numpy(array) for name, array in bundle.weights.items()})
    x = bundle.normalizer(stream._features.scan(bars.arrays())).astype(np.float32)
    with torch.no_grad():
        belief = network(torch.from_numpy(x)[None])["belief"][0].numpy()
    np.testing.assert_allclose(stream.scan(bars.arrays())[:, 3:], belief, atol=1e-5)


def test_a_bundle_without_regimes_is_refused(bars):
    with pytest.raises(BundleError, match="this is a gru bundle, which has no regimes: name one of m-gru"):
        named_lines(bars, Regime, model=random_bundle(bars, kind="gru"))
