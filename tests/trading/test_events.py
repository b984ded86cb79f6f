from itertools import combinations_with_replacement

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.errors import ConfigError
from hissbt.feeds.funding import Funding
from hissbt.trading.events import FundingEvents, checked_coverage, dearest_sizes

HOUR = 3_600_000
START = pd.Timestamp("2024-01-01", tz="UTC")
START_MS = START.value // 10**6


def series(count=30, without=(), late="0ms"):
    times = [START + number * pd.Timedelta("8h") for number in range(count) if number not in without]
    rates = np.array([0.001 * number for number in range(count) if number not in without])
    return Funding("X", pd.DatetimeIndex(times) + pd.Timedelta(late), rates)


def test_an_event_belongs_to_the_bar_that_closes_with_it_not_to_the_one_that_opens():
    events = FundingEvents(series())
    eight = START_MS + 8 * HOUR
    assert events.between(eight - HOUR, eight) == [(eight, 0.001)]
    assert events.between(eight, eight + HOUR) == []
    assert [time for time, _ in events.between(START_MS, START_MS + 24 * HOUR)] == [
        START_MS + hours * HOUR for hours in (8, 16, 24)
    ]


def test_an_event_that_is_stamped_some_milliseconds_late_is_on_time():
    eight = START_MS + 8 * HOUR
    assert FundingEvents(series(late="7ms")).between(eight - HOUR, eight) == [(eight, 0.001)]


@given(st.integers(-30 * HOUR, 300 * HOUR))
def test_the_next_event_is_the_first_that_is_later(after):
    events = FundingEvents(series())
    later = [time for time, _ in events.between(START_MS - 10**12, START_MS + 10**12) if time > START_MS + after]
    assert events.next_after(START_MS + after) == min(later, default=float("inf"))


held = st.lists(st.integers(-5, 5), min_size=1, max_size=4)
charges = st.lists(st.integers(-4, 4), max_size=5)


@given(held, charges)
def test_the_dearest_of_all_times_is_charged(sizes, rates):
    cost = sum(size * rate for size, rate in zip(dearest_sizes(sizes, rates), rates, strict=True))
    # All ways for the position to go forward through its sizes while the events come.
    ways = combinations_with_replacement(range(len(sizes)), len(rates))
    assert cost == max(sum(sizes[at] * rate for at, rate in zip(way, rates, strict=True)) for way in ways)


@given(held, charges)
def test_no_size_comes_before_one_that_was_held_earlier(sizes, rates):
    remaining = iter(range(len(sizes)))
    now = next(remaining)
    for size in dearest_sizes(sizes, rates):
        while sizes[now] != size:
            now = next(remaining)  # runs out, and fails, where the order is not kept


def test_what_is_held_throughout_is_charged_throughout():
    assert dearest_sizes([3], [1.0, -2.0]) == [3, 3]


SPAN = START_MS, START_MS + 20 * 8 * HOUR


def test_full_coverage_is_told():
    coverage = checked_coverage(series(), *SPAN, allow_missing=False, name="X")
    assert (coverage.present, coverage.expected, coverage.share) == (20, 20, 1.0)


def test_a_run_with_events_missing_is_refused_unless_allowed():
    lacking = series(without=(3, 4))
    with pytest.raises(ConfigError, match="funding of X is incomplete: 18 of 20 of the events due 2024-01-01"):
        checked_coverage(lacking, *SPAN, allow_missing=False, name="X")
    assert checked_coverage(lacking, *SPAN, allow_missing=True, name="X").present == 18


def test_funding_of_another_time_is_refused():
    with pytest.raises(ConfigError, match="incomplete"):
        checked_coverage(series(), SPAN[0] + 10**11, SPAN[1] + 10**11, allow_missing=False, name="X")
