"""Bootstrap intervals of Sharpe ratio and drawdown."""

import math

import numpy as np
import pytest

from hissbt.research.performance import max_drawdown
from hissbt.research.significance import bootstrap_intervals
from hissbt.research.significance.intervals import block_length


def gaussian(seed: int, count: int = 1000, drift: float = 0.0) -> np.ndarray:
    """Independent daily returns."""
    return np.random.default_rng(seed).normal(drift, 0.01, count)


def clustered(seed: int, count: int = 1000) -> np.ndarray:
    """Returns whose volatility comes in long waves."""
    wave = np.exp(np.sin(np.arange(count) / 40))
    return gaussian(seed, count) * wave


def test_the_interval_of_independent_returns_is_that_of_theory():
    returns = gaussian(0, drift=0.0005)
    low, high = bootstrap_intervals(returns, 252, seed=1, block=1)["sharpe"]
    sharpe = returns.mean() / returns.std(ddof=1)
    error = math.sqrt((1 + sharpe**2 / 2) / len(returns) * 252)  # Lo 2002
    assert low < sharpe * math.sqrt(252) < high
    assert high - low == pytest.approx(2 * 1.96 * error, rel=0.1)


def test_about_nineteen_of_twenty_intervals_hold_the_truth():
    truth = 0.05 * math.sqrt(252)
    found = [
        bootstrap_intervals(gaussian(seed, 500, 0.0005), 252, seed=seed, block=1, repeats=200)["sharpe"]
        for seed in range(100)
    ]
    assert 0.88 <= np.mean([low <= truth <= high for low, high in found]) <= 0.99


def test_a_drawdown_lies_between_all_and_nothing():
    low, high = bootstrap_intervals(gaussian(2), 252, seed=0)["max_drawdown"]
    assert -1 <= low <= max_drawdown(gaussian(2)) <= high <= 0


def test_waves_of_volatility_need_longer_blocks():
    assert block_length(clustered(3)) > 2 * block_length(gaussian(3))
    assert block_length(clustered(3, 60)) <= 15


def test_an_account_that_never_moves_has_neither():
    found = bootstrap_intervals(np.zeros(50), 252, seed=0)
    assert found == {"sharpe": (0.0, 0.0), "max_drawdown": (0.0, 0.0)}


def test_the_same_seed_draws_the_same():
    assert bootstrap_intervals(clustered(4), 252, seed=5) == bootstrap_intervals(clustered(4), 252, seed=5)
    assert bootstrap_intervals(clustered(4), 252, seed=5) != bootstrap_intervals(clustered(4), 252, seed=6)
