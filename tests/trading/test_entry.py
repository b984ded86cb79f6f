import math

import backtrader as bt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.trading.entry import Levels, covers_cost, hysteresis_side, round_trip_cost

RULE = Levels(prob_long=0.6, prob_short=0.4, threshold=0.001)
MIRRORED = Levels(prob_long=0.75, prob_short=0.25, threshold=0.001)
number = st.floats(-0.1, 0.1) | st.just(math.nan)
probability = st.floats(0, 1) | st.just(math.nan)
share = st.floats(0, 1)


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
    assert RULE.side(expected_return, prob_up) == side


@given(number, probability)
def test_the_rule_is_the_same_for_both_sides(expected_return, prob_up):
    assert MIRRORED.side(-expected_return, 1 - prob_up) == -MIRRORED.side(expected_return, prob_up)


def test_a_position_is_kept_at_levels_nearer_to_undecided():
    assert Levels(0.6, 0.3, 0.001).eased(0.5) == pytest.approx((0.55, 0.4, 0.0005))
    assert RULE.eased(0) == RULE
    assert RULE.eased(1) == pytest.approx((0.5, 0.5, 0))


@given(number, probability, share, probability.filter(math.isfinite), probability.filter(math.isfinite))
def test_what_is_worth_an_entry_is_worth_keeping(expected_return, prob_up, hysteresis, prob_long, prob_short):
    levels = Levels(prob_long, prob_short, 0.001)
    eased = levels.eased(hysteresis)
    assert eased.prob_long <= prob_long
    assert eased.prob_short >= prob_short
    assert 0 <= eased.threshold <= 0.001
    if levels.side(expected_return, prob_up) == 1:
        assert eased.side(expected_return, prob_up) == 1


def test_a_side_begins_above_one_level_and_lasts_until_a_lower_one():
    values, sides = [0.5, 1.1, 0.6, 0.5, 0.9, -1.1, -0.6, -0.5, 1.2, -1.3, math.nan], []
    for value in values:
        sides.append(hysteresis_side(value, sides[-1] if sides else 0, enter=1.0, leave=0.5))
    assert sides == [0, 1, 1, 0, 0, -1, -1, 0, 1, -1, 0]


@given(number, st.sampled_from([1, 0, -1]), share, share)
def test_hysteresis_is_the_same_for_both_sides(value, side, a, b):
    levels = {"enter": max(a, b), "leave": min(a, b)}
    assert hysteresis_side(-value, -side, **levels) == -hysteresis_side(value, side, **levels)


def test_a_round_trip_costs_two_fees_and_two_half_spreads():
    percent = bt.CommissionInfo(commission=0.00055)
    assert round_trip_cost(percent, 60_000) == pytest.approx(0.0011)
    assert round_trip_cost(percent, 60_000, half_spread=0.0001) == pytest.approx(0.0013)
    future = bt.CommissionInfo(commission=2.5, margin=1000.0, mult=50.0)
    assert round_trip_cost(future, 4000.0) == pytest.approx(2 * 2.5 / (4000 * 50))


def test_an_edge_must_exceed_a_multiple_of_the_cost_on_either_side():
    assert covers_cost(0.0023, 0.0011, 2)
    assert covers_cost(-0.0023, 0.0011, 2)
    assert not covers_cost(0.0022, 0.0011, 2)
    assert not covers_cost(-0.0021, 0.0011, 2)
    assert not covers_cost(math.nan, 0.0011, 2)
