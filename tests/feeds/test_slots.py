from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from hissbt.feeds.slots import (
    HOUR_MS,
    BarGrid,
    FundingGrid,
    joined,
    slot_at_or_before,
    to_ms,
    to_utc,
    windows,
    without,
)

SPANS = some.lists(some.tuples(some.integers(0, 60), some.integers(1, 9)), max_size=8).map(
    lambda pairs: joined([(first, first + length) for first, length in pairs])
)


def covered(spans) -> set[int]:
    return {moment for first, end in spans for moment in range(first, end)}


def test_moments_survive_the_way_to_milliseconds_and_back():
    assert to_ms("2024-01-01 12:00") == 1_704_110_400_000
    assert to_utc(to_ms("2024-01-01 12:00")).isoformat() == "2024-01-01T12:00:00+00:00"


@pytest.mark.parametrize(
    ("moment", "hours", "slot"),
    [
        ("2024-01-05 13:30", 1, "2024-01-05 13:00"),
        ("2024-01-05 13:30", 24, "2024-01-05"),
        ("2024-01-05", 168, "2024-01-01"),
    ],
)
def test_a_moment_lies_in_one_slot_and_weeks_open_on_mondays(moment, hours, slot):
    assert slot_at_or_before(to_ms(moment), hours * HOUR_MS) == to_ms(slot)


@given(spans=SPANS, known=SPANS)
def test_spans_without_others_hold_what_only_they_hold(spans, known):
    assert covered(without(spans, known)) == covered(spans) - covered(known)


@given(spans=SPANS, longest=some.integers(1, 20))
def test_windows_cover_all_spans_in_order_and_are_never_longer_than_a_page(spans, longest):
    found = list(windows(spans, longest))
    assert covered(spans) <= covered(found)
    assert all(0 < end - first <= longest for first, end in found)
    assert all(before[1] <= after[0] for before, after in pairwise(found))
    assert {first for first, _ in found} <= covered(spans)


@given(present=some.sets(some.integers(0, 40)))
def test_the_missing_bars_are_those_that_are_not_present(present):
    step = 5
    grid = BarGrid(step, page=10)
    slots = np.array(sorted(present), dtype=np.int64) * step
    holes = grid.missing(slots, 0, 41 * step)
    absent = {row for row in range(41) if row not in present}
    assert {moment // step for first, end in holes for moment in range(first, end, step)} == absent
    assert sum(grid.count(slots, *hole) for hole in holes) == len(absent)
    assert grid.complete(slots, 0, 41 * step) == (not absent)


def hours(*times: int) -> np.ndarray:
    return np.array(times, dtype=np.int64) * HOUR_MS


def test_funding_is_due_one_interval_after_the_last():
    grid = FundingGrid(200)
    assert grid.missing(hours(0, 8, 16, 24), 0, 32 * HOUR_MS) == []
    assert grid.missing(hours(0, 8, 16, 24), 0, 33 * HOUR_MS) == [(32 * HOUR_MS, 33 * HOUR_MS)]


def test_a_hole_in_funding_reaches_from_the_first_missing_event_to_the_next_one():
    grid = FundingGrid(200)
    events = hours(0, 8, 16, 24, 48, 56, 64, 72)
    assert grid.missing(events, 0, 80 * HOUR_MS) == [(32 * HOUR_MS, 48 * HOUR_MS)]
    assert grid.count(events[:4], 32 * HOUR_MS, 48 * HOUR_MS) == 2


def test_an_interval_that_changes_is_no_hole():
    grid = FundingGrid(200)
    assert grid.missing(hours(0, 8, 16, 24, 32, 36, 40, 44, 45, 46, 47), 0, 48 * HOUR_MS) == []


def test_before_all_funding_everything_is_missing():
    assert FundingGrid(200).missing(hours(), 5, 9) == [(5, 9)]
    assert FundingGrid(200).missing(hours(80, 88, 96), 0, 100 * HOUR_MS) == [(0, 80 * HOUR_MS)]


def test_only_an_even_row_of_events_fills_a_window_beyond_doubt():
    grid = FundingGrid(200)
    even = hours(*range(0, 80, 8))
    assert grid.complete(even, 0, 80 * HOUR_MS)
    assert not grid.complete(np.delete(even, 4), 0, 80 * HOUR_MS)
    assert not grid.complete(even[1:], 0, 80 * HOUR_MS)
    assert not grid.complete(even[:-1], 0, 80 * HOUR_MS)
    assert not grid.complete(even[:6], 0, 48 * HOUR_MS), "six events may be every other one of eleven"


def test_no_page_is_asked_for_more_rows_than_it_has():
    assert BarGrid(HOUR_MS, 1000).window_ms == 1000 * HOUR_MS
    assert FundingGrid(200).window_ms == 200 * HOUR_MS, "no interval is shorter than an hour"
