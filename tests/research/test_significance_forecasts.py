"""Tests of forecasts: the numbers of statsmodels and arch, and what they are for."""

import math

import numpy as np
import pytest
from arch.bootstrap import MCS, SPA
from scipy.stats import t as student
from statsmodels.stats.diagnostic import pesaran_timmermann as their_test
from statsmodels.tsa.stattools import diebold_mariano_test

from hissbt.research.significance import (
    diebold_mariano,
    model_confidence_set,
    pesaran_timmermann,
    superior_ability,
)

T = 500


@pytest.fixture(scope="module")
def series() -> dict[str, np.ndarray]:
    """What was, a forecast of it that knows something, and one that knows nothing."""
    rng = np.random.default_rng(0)
    signal = rng.normal(size=T)
    return {"actual": signal + rng.normal(size=T), "good": signal, "bad": rng.normal(size=T)}


def test_the_better_forecast_has_the_lower_loss(series):
    found = diebold_mariano(series["actual"], series["good"], series["bad"])
    assert found.statistic < -5
    assert found.pvalue < 0.001
    swapped = diebold_mariano(series["actual"], series["bad"], series["good"])
    assert swapped.statistic == pytest.approx(-found.statistic)


@pytest.mark.parametrize(
    ("horizon", "loss"), [(1, "mse"), (20, "mad"), (1, lambda was, said: abs(was - said) ** 3)]
)
def test_diebold_mariano_is_that_of_statsmodels_for_small_samples(series, horizon, loss):
    given = series["actual"], series["good"], series["bad"]
    theirs = diebold_mariano_test(*given, criterion=loss, horizon=horizon, harvey_adj=True)
    found = diebold_mariano(*given, horizon, loss)
    assert (found.statistic, found.pvalue) == (theirs.statistic, theirs.pvalue)
    assert found.pvalue == pytest.approx(2 * student.sf(abs(found.statistic), T - 1))


def test_a_forecast_is_no_better_than_itself(series):
    assert math.isnan(diebold_mariano(series["actual"], series["good"], series["good"]).pvalue)


def test_directions_that_are_foretold_are_noticed(series):
    assert pesaran_timmermann(series["actual"], series["good"]).pvalue < 1e-6
    assert pesaran_timmermann(series["actual"], -series["good"]).pvalue > 0.999  # of no use as it stands


def test_pesaran_timmermann_is_the_one_sided_test_of_statsmodels(series):
    found = pesaran_timmermann(series["actual"], series["bad"])
    theirs = their_test(series["actual"], series["bad"], alternative="larger")
    assert (found.statistic, found.pvalue) == (theirs.statistic, theirs.pvalue)


def test_pesaran_timmermann_by_hand():
    actual, predicted = np.array([1, 1, 1, -1, -1, -1.0]), np.array([1, 1, -1, -1, -1, 1.0])
    found = pesaran_timmermann(actual, predicted)  # 4 of 6 right, 3 by chance: (4/6 − 1/2) / √(1/24)
    assert found.statistic == pytest.approx((4 / 6 - 0.5) / math.sqrt(0.25 / 6))


@pytest.mark.parametrize("side", [1.0, -1.0])
def test_always_the_same_direction_foretells_nothing(series, side):
    assert math.isnan(pesaran_timmermann(series["actual"], np.full(T, side)).pvalue)
    assert math.isnan(pesaran_timmermann(np.full(T, side), series["good"]).pvalue)


@pytest.fixture(scope="module")
def losses() -> np.ndarray:
    """Losses [T,4]: the second model is the best, the last the worst."""
    return np.random.default_rng(1).normal(loc=[1.0, 0.5, 1.0, 2.0], size=(T, 4))


def test_superior_ability_is_that_of_arch(losses):
    found = superior_ability(losses[:, 0], losses[:, 1:], 10, seed=3)
    theirs = SPA(losses[:, 0], losses[:, 1:], block_size=10, reps=1000, seed=3)
    theirs.compute()
    assert [found.lower, found.consistent, found.upper] == list(theirs.pvalues)
    assert found.consistent < 0.01


def test_nothing_beats_the_best(losses):
    assert superior_ability(losses[:, 1], losses[:, [0, 2, 3]], 10, seed=3).consistent > 0.2


def test_the_confidence_set_is_that_of_arch_and_holds_the_best(losses):
    found = model_confidence_set(losses, 10, seed=4)
    theirs = MCS(losses, size=0.05, reps=1000, block_size=10, seed=4)
    theirs.compute()
    assert list(np.flatnonzero(found)) == sorted(theirs.included)
    np.testing.assert_array_equal(found, [False, True, False, False])


def test_models_with_the_same_losses_share_their_fate(losses):
    twice = model_confidence_set(losses[:, [0, 1, 1, 2, 0]], 10, seed=4)
    np.testing.assert_array_equal(twice, [False, True, True, False, False])
    assert model_confidence_set(losses[:, [0, 0]], 10, seed=4).all()


def test_models_that_cannot_be_told_apart_all_stay():
    losses = np.random.default_rng(5).normal(size=(T, 3))
    assert model_confidence_set(losses, 10, seed=0).all()
