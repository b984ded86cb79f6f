"""A short run of ``python -m tests.soak.recovery``: estimates find what a series was made with."""

import numpy as np
from numpy.testing import assert_allclose
from soak.recovery import TABLE_1, Recovery, recover, simulate


def test_estimates_find_the_parameters_and_the_regimes_of_table_1():
    recovery = recover(range(2), starts=2)
    errors = np.abs(recovery.estimates - TABLE_1.params)
    assert (errors < 4 * recovery.approx).all()
    assert_allclose(recovery.robust, recovery.approx, rtol=0.2)  # the model is the right one
    assert_allclose(recovery.hits, 0.83, atol=0.025)
    assert (recovery.smoothed_hits > recovery.hits + 0.015).all(), "what the future would add"


def test_simulated_regimes_stay_and_spread_as_told():
    regimes, returns = simulate(TABLE_1, 100_000, np.random.default_rng(0))
    for regime in (0, 1):
        after = regimes[1:][regimes[:-1] == regime]
        assert_allclose(np.bincount(after) / len(after), TABLE_1.transition()[regime], atol=0.01)
        assert_allclose(returns[regimes == regime].var(), TABLE_1.parts.variances[regime], rtol=0.03)


def recovery_with(errors_of: float, hits: float) -> Recovery:
    estimates = TABLE_1.params + np.random.default_rng(0).normal(size=(200, 6))
    errors = np.full((200, 6), errors_of)
    return Recovery(estimates, errors, errors, np.full(200, hits), np.full(200, 0.86))


def test_errors_that_are_too_small_or_too_large_and_wrong_hit_rates_fail():
    assert recovery_with(1.0, 0.83).passes()
    assert not recovery_with(0.7, 0.83).passes()
    assert not recovery_with(2.0, 0.83).passes()
    assert not recovery_with(1.0, 0.86).passes()
