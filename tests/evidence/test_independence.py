"""Sizes of samples that are not independent."""

import numpy as np
import pytest

from hissbt.evidence.independence import disjoint_size, effective_size


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
