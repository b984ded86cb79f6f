"""Intervals and sizes of samples that are not independent."""

import numpy as np
import pytest

from hissbt.research.resampling import block_interval, disjoint_size, effective_size


def test_the_effective_size_by_hand():
    values = np.array([1.0, 1.0, 0.0, 0.0])  # centered ±0.5: ρ(1) = (1 − 1 + 1) 0.25 / 1 = 0.25
    assert effective_size(values, lags=1) == pytest.approx(4 / (1 + 2 * 0.5 * 0.25))


def test_independent_values_keep_their_size():
    values = np.random.default_rng(0).normal(size=20_000)
    assert effective_size(values, lags=20) == pytest.approx(20_000, rel=0.1)


def test_the_size_of_an_autoregression_is_that_of_theory():
    rng, rho = np.random.default_rng(1), 0.8
    values = np.zeros(100_000)
    for t, shock in enumerate(rng.normal(size=len(values) - 1), start=1):
        values[t] = rho * values[t - 1] + shock
    assert effective_size(values, lags=400) == pytest.approx(len(values) * (1 - rho) / (1 + rho), rel=0.1)


def test_values_that_never_change_are_not_divided_by_zero():
    assert effective_size(np.ones(10), lags=5) == 10


def test_an_alternation_counts_no_more_than_its_bars():
    assert effective_size(np.arange(100) % 2, lags=1) == 100


def test_labels_that_reach_ahead_overlap():
    assert disjoint_size(612, 20) == pytest.approx(30.6)


def test_blocks_widen_the_interval_of_values_in_long_runs():
    values = np.repeat(np.random.default_rng(2).normal(size=60), 20)

    def mean(rows):
        return np.array([values[rows].mean()])

    low, high = block_interval(mean, len(values), 1, 500, seed=3)
    low_of_blocks, high_of_blocks = block_interval(mean, len(values), 20, 500, seed=3)
    assert low < values.mean() < high
    assert (high_of_blocks - low_of_blocks) > 2.5 * (high - low)


def test_an_interval_is_the_same_for_the_same_seed():
    values = np.random.default_rng(4).normal(size=100)

    def mean(rows):
        return np.array([values[rows].mean()])

    first, second = (block_interval(mean, 100, 20, 50, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first, second)
