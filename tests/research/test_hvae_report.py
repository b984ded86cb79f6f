"""Statistics of paths have their known answers; comparison and analysis run to their ends and stay honest."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.stats import norm
from scipy.stats import t as student

from hissbt.research.hvae_report.forecasters import ClassForecast, StudentRegression, chosen
from hissbt.research.hvae_report.judges import discriminative_score, predictive_score
from hissbt.research.hvae_report.paths import (
    absolute_correlations,
    aggregated,
    by_regime,
    correlations,
    distances,
    drawdowns,
    hill_index,
    kurtosis_by_scale,
    leverage,
    moments,
    windows,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def garch_paths(count: int, length: int, seed: int, asymmetric: float = 0.0) -> np.ndarray:
    """Paths [N,T] whose volatility comes in waves, from its mean on."""
    draws = rng(seed).standard_normal((count, length))
    variance, returns = np.ones(count), np.empty((count, length))
    for t in range(length):
        returns[:, t] = np.sqrt(variance) * draws[:, t]
        news = 0.15 + asymmetric * (returns[:, t] < 0)
        variance = 0.05 + news * returns[:, t] ** 2 + (0.8 - asymmetric / 2) * variance
    return returns / 100


# --- statistics of paths


def test_windows_follow_each_other_and_end_with_the_series():
    np.testing.assert_array_equal(windows(np.arange(7), 3), [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(windows(np.arange(8).reshape(2, 4), 2), [[0, 1], [2, 3], [4, 5], [6, 7]])
    np.testing.assert_array_equal(aggregated(np.arange(8.0).reshape(2, 4), 2), [1, 5, 9, 13])


def test_paths_of_one_law_are_as_far_from_each_other_as_from_themselves():
    real, made = rng(1).standard_normal((2, 60, 128))
    for distance in distances(real, made).values():
        assert distance == pytest.approx(1, abs=0.35)


def test_paths_of_another_law_are_further_away():
    real = rng(1).standard_normal((60, 128))
    assert distances(real, 2 * real)[1] > 10
    # Each bar is right; their sums are not.
    trending = np.repeat(rng(2).standard_normal((60, 32)), 4, axis=1)
    found = distances(real, trending)
    assert found[1] < 3
    assert found[64] > 2


def test_distances_come_out_alike_for_the_same_seed():
    real, made = rng(1).standard_normal((2, 20, 64))
    assert distances(real, made) == distances(real, made)
    assert distances(real, made) != distances(real, made, seed=1)


def test_moments_of_an_exponential_are_known():
    found = moments(rng().exponential(size=400_000))
    assert_allclose([found[name] for name in ("mean", "deviation", "skew")], [1, 1, 2], rtol=0.03)
    assert found["kurtosis"] == pytest.approx(6, rel=0.15)


def test_kurtosis_of_independent_returns_falls_with_the_number_that_is_added():
    found = kurtosis_by_scale(rng().laplace(size=(400, 256)))  # excess 3, that of a sum of n is 3 / n
    for scale, value in found.items():
        assert value == pytest.approx(3 / scale, abs=0.25)


def test_the_correlations_of_an_autoregression_are_powers_of_its_coefficient():
    values = np.empty((50, 4_000))
    values[:, 0] = rng(1).standard_normal(50) / np.sqrt(1 - 0.8**2)
    for t, shock in enumerate(rng(2).standard_normal((3_999, 50)), start=1):
        values[:, t] = 0.8 * values[:, t - 1] + shock
    assert_allclose(correlations(values, values, 5), 0.8 ** np.arange(1, 6), atol=0.01)


def test_volatility_that_comes_in_waves_is_seen_in_absolute_returns():
    assert np.abs(absolute_correlations(rng().standard_normal((50, 500)))).max() < 0.03
    assert absolute_correlations(garch_paths(50, 500, 0))[:5].min() > 0.1


def test_a_pooled_correlation_counts_calm_and_wild_paths_as_memory():
    paths = rng().standard_normal((100, 50)) * np.repeat([0.5, 2.0], 50)[:, None]
    assert absolute_correlations(paths)[-1] > 0.2


def test_the_leverage_effect_is_below_zero_where_falls_raise_volatility():
    assert leverage(garch_paths(100, 500, 0, asymmetric=0.2))[:3].mean() < -0.05
    assert np.abs(leverage(garch_paths(100, 500, 0))[:3]).mean() < 0.03


@pytest.mark.parametrize("exponent", [2.0, 4.0])
def test_the_hill_index_of_a_pareto_tail_is_its_exponent(exponent):
    values = (1 + rng().pareto(exponent, 100_000)) * rng(1).choice([-1, 1], 100_000)
    assert hill_index(values) == pytest.approx(exponent, rel=0.05)


def test_a_drawdown_is_the_fall_from_the_peak_within_a_path():
    path = np.log([1.0, 2.0, 1.0, 1.5, 0.5])
    assert_allclose(drawdowns(np.diff(path, prepend=0)[None]), [-0.75])
    assert_allclose(drawdowns(np.full((1, 5), 0.01)), [0])


def test_regimes_of_paths_share_them_out():
    paths = np.array([[0.1, 0.2], [-0.1, -0.2], [0.1, -0.1], [0.3, 0.0]])
    found = by_regime(paths, 0.15)
    assert {name: each["share"] for name, each in found.items()} == {"bull": 0.5, "bear": 0.25, "sideways": 0.25}
    assert found["bear"]["mean"] == pytest.approx(-0.15)
    assert "mean" not in by_regime(paths, 10.0)["bull"]


# --- judges


def test_trees_cannot_tell_apart_what_is_of_one_law():
    one, other = garch_paths(80, 96, 1), garch_paths(80, 96, 2)
    assert discriminative_score(one, other)["score"] < 0.07


def test_trees_recognize_another_law():
    real = garch_paths(80, 96, 1)
    shuffled = rng().permuted(real.ravel()).reshape(real.shape)
    assert (
        discriminative_score(real, shuffled)["score"] > discriminative_score(real, garch_paths(80, 96, 3))["score"]
    )
    assert discriminative_score(real, 3 * real)["score"] > 0.3


def test_trees_forecast_better_when_they_learned_on_the_right_law():
    test, right = garch_paths(40, 200, 1), garch_paths(40, 200, 2)
    wrong = rng().permuted(right.ravel()).reshape(right.shape)
    assert predictive_score(right, test) < predictive_score(wrong, test)
    assert predictive_score(right, test) < predictive_score(3 * right, test)


# --- forecasters


def test_a_student_regression_finds_mean_scale_and_tail():
    x = rng(1).standard_normal((8_000, 2))
    y = 1 + 0.5 * x[:, 0] + np.exp(0.3 * x[:, 1]) * student.rvs(5, size=8_000, random_state=2)
    model = StudentRegression.fit(x, y, 1.0)
    assert_allclose(model.mean, [1, 0.5, 0], atol=0.08)
    assert_allclose(model.log_scale, [0, 0, 0.3], atol=0.06)
    assert 4 < model.df < 7
    assert_allclose(np.histogram(model.pit(x, y), 10, (0, 1))[0] / 8_000, 0.1, atol=0.02)
    truth = student.logpdf(y, 5, 1 + 0.5 * x[:, 0], np.exp(0.3 * x[:, 1])).mean()
    assert model.score(x, y).mean() == pytest.approx(truth, abs=0.01)


def test_a_regression_without_inputs_is_the_climate():
    y = norm.rvs(2, 3, 4_000, random_state=0)
    model = StudentRegression.fit(np.empty((4_000, 0)), y, 1.0)
    assert model.score(np.empty((1, 0)), np.array([2.0]))[0] == pytest.approx(norm.logpdf(2, 2, 3), abs=0.05)


def test_a_class_forecast_knows_the_shares_and_what_moves_them():
    x = rng(1).standard_normal((6_000, 1))
    odds = np.exp(x * [-2.0, 0.0, 2.0])
    y = (rng(2).random((6_000, 1)) > np.cumsum(odds / odds.sum(axis=1, keepdims=True), axis=1)).sum(axis=1)
    nothing = np.empty((6_000, 0))
    climate = ClassForecast.fit(nothing, y, 1.0, classes=3)
    assert_allclose(climate.probabilities(nothing[:1])[0], np.bincount(y) / 6_000, atol=1e-3)
    model = ClassForecast.fit(x, y, 1.0, classes=3)
    at_one = np.exp([-2.0, 0.0, 2.0])
    assert_allclose(model.probabilities(np.array([[1.0]]))[0], at_one / at_one.sum(), atol=0.03)
    assert model.score(x, y).mean() > climate.score(nothing, y).mean() + 0.1


def test_a_class_that_never_came_is_not_impossible():
    y = np.zeros(100, dtype=int)
    for x in (np.empty((100, 0)), rng().standard_normal((100, 1))):
        assert ClassForecast.fit(x, y, 1.0, classes=3).probabilities(x).min() > 0


def test_inputs_that_say_nothing_are_shrunk_away():
    x, y = rng(1).standard_normal((200, 30)), rng(2).standard_normal(200)
    model = chosen(StudentRegression.fit, x, y, 1)
    assert np.abs(model.mean[1:]).max() < 0.05


def test_no_outcome_of_the_chosen_part_is_fitted_to_while_choosing():
    seen = []

    def fit(x, y, strength):
        seen.append(len(y))
        return StudentRegression.fit(x, y, strength)

    chosen(fit, rng(1).standard_normal((100, 1)), rng(2).standard_normal(100), gap=20)
    assert sorted(set(seen)) == [50, 100]
