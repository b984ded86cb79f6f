"""Bars are counted from open to open: what is decided at a close happens at the next one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.trading.pace import Pace


def answers(sides, question, **rule):
    """What ``question`` says at each close of a path of sides."""
    pace, found = Pace(**rule), []
    for bar, side in enumerate(sides, 1):
        pace.update(bar, side)
        found.append(getattr(pace, question))
    return found


def test_bars_are_counted_from_the_one_of_the_entry():
    assert answers([0, 1, 1, 1, 0, -1, 1, 1], "held_bars") == [0, 1, 2, 3, 0, 1, 1, 2]


def test_a_position_is_kept_for_its_least_time():
    assert answers([0, 1, 1, 1, 1], "may_leave", min_holding_bars=3) == [True, False, False, True, True]


def test_nothing_holds_a_position_without_a_least_time():
    assert all(answers([0, 1, 1, -1], "may_leave"))


def test_a_position_is_overdue_after_its_longest_time():
    assert answers([0, 1, 1, 1, 0], "is_overdue", max_holding_bars=2) == [False, False, True, True, False]
    assert not any(answers([1] * 9, "is_overdue"))


def test_bars_must_pass_between_two_positions():
    # Flat is first seen at bar 3; an order at the close of bar 5 fills at the open of bar 6: 4 and 5 have passed.
    assert answers([1, 1, 0, 0, 0, 0], "may_enter", cooldown_bars=2)[2:] == [False, False, True, True]
    assert all(answers([0, 1, 0, 0], "may_enter"))


def test_before_the_first_position_nothing_cools_down():
    assert all(answers([0, 0], "may_enter", cooldown_bars=5))


def test_a_position_that_came_and_went_inside_a_bar_cools_down_too():
    pace = Pace(cooldown_bars=1)
    pace.update(1, 0, ended=True)
    assert not pace.may_enter
    pace.update(2, 0)
    assert pace.may_enter


@given(st.lists(st.sampled_from([-1, 0, 1]), max_size=40), st.integers(0, 4), st.integers(0, 4))
def test_being_told_of_a_bar_again_changes_nothing(sides, least, cooldown):
    once, twice = (Pace(least, least + 1, cooldown) for _ in range(2))
    for bar, side in enumerate(sides, 1):
        once.update(bar, side)
        twice.update(bar, side)
        twice.update(bar, side)
        for question in ("held_bars", "may_enter", "may_leave", "is_overdue"):
            assert getattr(once, question) == getattr(twice, question)


@pytest.mark.parametrize("bars", [1, 3])
def test_least_and_longest_time_agree_on_what_a_bar_is(bars):
    sides = [0, 1, 1, 1, 1]
    least = answers(sides, "may_leave", min_holding_bars=bars)
    longest = answers(sides, "is_overdue", max_holding_bars=bars)
    assert least[1:] == longest[1:]
