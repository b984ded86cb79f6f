"""Numbers on a page: signs, decimals, and a dash for what is not there."""

import math

import pytest

from hissbt.reports.page.text import NOTHING, fixed, spread


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234.5, "1,234.50"), (-0.125, "−0.12"), (-0.001, "0.00"), (None, NOTHING), (math.nan, NOTHING)],
)
def test_a_number_has_its_decimals_and_nothing_has_no_sign(value, shown):
    assert fixed(value, 2) == shown


def test_a_gain_shows_its_sign_where_asked_to():
    assert fixed(0.5, 1, "+") == "+0.5"
    assert fixed(-0.5, 1, "+") == "−0.5"


def test_a_spread_names_both_ends():
    assert spread(0.5, (-1, 2), 1) == "0.5 [−1.0, 2.0]"
