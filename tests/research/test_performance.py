"""Positions held from close to close: figures by hand, and relations between them."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from hissbt.research.performance import (
    beta_alpha,
    max_drawdown,
    max_drawdown_of_sum,
    performance,
    strategy_returns,
    turnover,
)

RETURNS = arrays(float, st.integers(3, 40), elements=st.floats(-0.5, 0.5))


def test_costs_are_paid_on_the_entry_and_twice_on_a_turn():
    positions, asset = np.array([1.0, -1.0, -1.0]), np.array([0.1, 0.1, -0.2])
    np.testing.assert_allclose(strategy_returns(positions, asset, 0.01), [0.1 - 0.01, -0.1 - 0.02, 0.2])


def test_turnover_counts_two_for_a_turn_and_nothing_for_the_entry():
    assert turnover(np.array([1.0, -1.0, -1.0, 1.0, 1.0])) == (2 + 0 + 2 + 0) / 4


def test_drawdowns_compounded_and_as_a_sum():
    returns = np.array([0.5, -0.5, -0.6, 0.2])
    assert max_drawdown(returns) == pytest.approx(0.5 * 0.4 - 1)
    assert max_drawdown_of_sum(returns) == pytest.approx(-1.1)


def test_a_first_loss_is_a_drawdown_from_the_start():
    assert max_drawdown(np.array([-0.1, 0.5])) == pytest.approx(-0.1)
    assert max_drawdown_of_sum(np.array([-0.1, 0.5])) == pytest.approx(-0.1)


@given(RETURNS)
def test_a_compounded_drawdown_lies_between_all_and_nothing(returns):
    assert -1 <= max_drawdown(returns) <= 0
    assert max_drawdown_of_sum(returns) <= 0


def test_beta_and_alpha_by_hand():
    asset = np.array([0.01, -0.02, 0.03, 0.0])
    beta, alpha = beta_alpha(0.5 * asset + 0.001, asset, 365)
    assert beta == pytest.approx(0.5)
    assert alpha == pytest.approx(0.365)


def test_beta_is_that_of_least_squares():
    rng = np.random.default_rng(1)
    asset, returns = rng.normal(0, 0.03, 200), rng.normal(0, 0.03, 200)
    slope, intercept = np.polyfit(asset, returns, 1)
    assert beta_alpha(returns, asset, 365) == pytest.approx((slope, 365 * intercept))


def test_figures_by_hand():
    positions, asset = np.array([1.0, -1.0, -1.0, 1.0]), np.array([0.02, 0.01, -0.03, -0.02])
    returns = np.array([0.02, -0.01, 0.03, -0.02])
    found = performance(positions, asset, 100)
    assert found["mean_return"] == pytest.approx(0.5)
    assert found["deviation"] == pytest.approx(returns.std(ddof=1) * 10)
    assert found["sharpe"] == pytest.approx(0.5 / found["deviation"])
    assert found["sortino"] == pytest.approx(0.5 / (np.std([-0.01, -0.02], ddof=1) * 10))
    assert found["sortino_downside"] == pytest.approx(0.5 / (np.sqrt((0.0001 + 0.0004) / 4) * 10))
    assert found["daily_turnover"] == pytest.approx(4 / 3)
    assert found["annual_turnover"] == pytest.approx(400 / 3)
    assert found["mean_return_on_volume"] == pytest.approx(0.5 / (400 / 3))


def test_the_mean_return_on_volume_is_the_break_even_cost():
    rng = np.random.default_rng(2)
    positions, asset = rng.choice([-1.0, 1.0], 5000), rng.normal(0.001, 0.03, 5000)
    gross = performance(positions, asset, 365)
    net = performance(positions, asset, 365, gross["mean_return_on_volume"])
    assert net["mean_return"] == pytest.approx(0, abs=1e-3)  # the entry is paid too, and is no turn


def test_holding_the_asset_has_beta_one_and_no_alpha():
    asset = np.random.default_rng(3).normal(0, 0.03, 100)
    found = performance(np.ones(100), asset, 365)
    assert found["beta"] == pytest.approx(1)
    assert found["alpha"] == pytest.approx(0, abs=1e-12)
    assert found["daily_turnover"] == 0
    assert np.isnan(found["mean_return_on_volume"])
