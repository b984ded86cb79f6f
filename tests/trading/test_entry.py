import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.trading.entry import exit_prices, signal

RULE = {"prob_long": 0.6, "prob_short": 0.4, "threshold": 0.001}
number = st.floats(-0.1, 0.1) | st.just(math.nan)
probability = st.floats(0, 1) | st.just(math.nan)


@pytest.mark.parametrize(
    ("expected_return", "prob_up", "side"),
    [
        (0.002, 0.61, 1),
        (-0.002, 0.39, -1),
        (0.002, 0.60, 0),  # not above the probability
        (0.001, 0.61, 0),  # not above the threshold
        (-0.002, 0.40, 0),
        (-0.001, 0.39, 0),
        (-0.0005, 0.39, 0),
        (0.0005, 0.39, 0),
        (-0.002, 0.61, 0),  # the two disagree
        (0.002, 0.39, 0),
        (math.nan, 0.9, 0),
        (0.002, math.nan, 0),
    ],
)
def test_a_side_is_taken_only_when_return_and_probability_agree(expected_return, prob_up, side):
    assert signal(expected_return, prob_up, **RULE) == side


@given(number, probability)
def test_the_rule_is_the_same_for_both_sides(expected_return, prob_up):
    mirrored = signal(-expected_return, 1 - prob_up, prob_long=0.75, prob_short=0.25, threshold=0.001)
    assert mirrored == -signal(expected_return, prob_up, prob_long=0.75, prob_short=0.25, threshold=0.001)


def test_stop_and_target_lie_multiples_of_the_volatility_away():
    assert exit_prices(100, 1, 0.01, stop=2, target=3) == pytest.approx(
        (100 * math.exp(-0.02), 100 * math.exp(0.03))
    )
    assert exit_prices(100, -1, 0.01, stop=2, target=3) == pytest.approx(
        (100 * math.exp(0.02), 100 * math.exp(-0.03))
    )


@given(st.floats(1e-6, 1e6), st.sampled_from([1, -1]), st.floats(1e-9, 1e9))
def test_exits_are_finite_prices_on_the_right_sides(price, side, volatility):
    stop, target = exit_prices(price, side, volatility, stop=2, target=3)
    assert 0 < min(stop, target) <= price <= max(stop, target) < math.inf
    assert (target - stop) * side >= 0
