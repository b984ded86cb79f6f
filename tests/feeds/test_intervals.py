import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.feeds.intervals import missing_events

HOUR = 3_600_000
START = 1_704_067_200_000


def series(*stretches):
    """Return event times: from the start, so many steps of so many hours each."""
    steps = np.concatenate([np.full(count, hours * HOUR) for hours, count in stretches])
    return START + np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)


def inside(events):
    return missing_events(events, int(events[0]), int(events[-1]) + 1)


@pytest.mark.parametrize("hours", [1, 2, 4, 8])
def test_an_even_series_lacks_nothing(hours):
    assert inside(series((hours, 50))).size == 0


def test_a_change_of_interval_is_no_hole():
    assert inside(series((8, 30), (4, 20), (1, 50), (8, 30), (2, 3), (8, 10))).size == 0


@given(st.sampled_from([1, 2, 4, 8]), st.sets(st.integers(6, 93), max_size=25))
def test_whatever_is_taken_out_is_missing(hours, taken):
    events = series((hours, 99))
    # Where less than every second event is left, nobody could tell a hole from a longer interval.
    taken = {i for i in taken if not any(j in taken for j in (i - 2, i + 2))}
    kept = np.delete(events, sorted(taken))
    assert inside(kept).tolist() == events[sorted(taken)].tolist()


def test_a_hole_is_counted_in_the_interval_around_it():
    events = series((8, 10), (4, 20))
    hole = np.delete(events, np.r_[15:22])
    assert inside(hole).tolist() == events[15:22].tolist()
    assert (
        inside(np.delete(series((1, 10), (8, 10)), [12, 13])).tolist() == (START + np.r_[26, 34] * HOUR).tolist()
    )


def test_a_hole_in_which_the_interval_changed_is_counted_in_the_longer_one():
    events = series((8, 10), (32, 1), (4, 10))
    assert inside(events).tolist() == (START + (80 + np.r_[8, 16, 24]) * HOUR).tolist()


def test_before_the_first_and_after_the_last_event_the_interval_goes_on():
    events = series((4, 5), (8, 5))
    due = missing_events(events, START - 9 * HOUR, int(events[-1]) + 24 * HOUR)
    assert ((due - START) // HOUR).tolist() == [-8, -4, 60 + 8, 60 + 16]
    # An event at the exclusive end is not due, one at the inclusive start is.
    assert missing_events(events, START - 8 * HOUR, START).tolist() == [START - 8 * HOUR, START - 4 * HOUR]


def test_a_span_without_events_beside_the_series_is_all_missing():
    events = series((8, 5))
    later = int(events[-1]) + 80 * HOUR
    assert missing_events(events, later, later + 24 * HOUR).size == 3


def test_a_few_milliseconds_are_no_hole():
    events = series((8, 40)) + np.arange(41) % 7
    assert inside(events).size == 0
    assert np.abs(inside(np.delete(events, 20)) - events[20]).tolist() < [7]


@pytest.mark.parametrize(("hours", "due"), [(8, []), (4, []), (24, [8, 16])])
def test_of_two_events_the_usual_interval_is_expected(hours, due):
    assert ((inside(series((hours, 1))) - START) // HOUR).tolist() == due


def test_without_events_nothing_is_known_to_be_missing():
    assert missing_events(np.empty(0, np.int64), 0, START).size == 0
    assert missing_events(np.array([START]), START, START + 17 * HOUR).size == 2
