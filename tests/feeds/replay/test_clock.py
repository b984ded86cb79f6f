"""The simulated clock."""

import math

import pandas as pd
import pytest

from hissbt.errors import BarsError, ConfigError
from hissbt.feeds.replay import Clock

START = pd.Timestamp("2024-01-01", tz="UTC")
START_MS = START.value // 1_000_000


def test_it_stands_still_at_speed_zero_until_it_is_advanced():
    clock = Clock("2024-01-01", speed=0)
    assert [clock.now_ms(), clock.now_ms()] == [START_MS, START_MS]
    clock.advance_to(START + pd.Timedelta(hours=5))
    assert clock.now_ms() == START_MS + 5 * 3_600_000


def test_it_runs_forward_and_faster_than_it_would_at_speed_one():
    slow, fast = Clock(START, speed=1), Clock(START, speed=1e6)
    while slow.now_ms() == START_MS:
        pass
    assert fast.now_ms() - START_MS >= 1000 * (slow.now_ms() - START_MS) / 1000


def test_it_tells_how_long_to_wait():
    assert Clock(START, speed=0).wait_s(START_MS) == 0
    assert Clock(START, speed=0).wait_s(START_MS + 1) == math.inf
    assert 0 < Clock(START, speed=3600).wait_s(START_MS + 3_600_000) <= 1


def test_listeners_hear_of_jumps_until_they_leave():
    clock, heard = Clock(START, speed=0), []

    def listener():
        heard.append(clock.now_ms())

    clock.listen(listener)
    clock.advance_to("2024-01-02")
    clock.unlisten(listener)
    clock.advance_to("2024-01-03")
    assert heard == [START_MS + 86_400_000]


def test_it_never_goes_back():
    with pytest.raises(ConfigError, match="cannot go back"):
        Clock(START, speed=0).advance_to("2023-12-31")


@pytest.mark.parametrize("speed", [-1, math.nan, math.inf])
def test_an_impossible_speed_is_refused(speed):
    with pytest.raises(ConfigError, match="speed"):
        Clock(START, speed=speed)


def test_a_start_that_is_no_time_is_refused():
    with pytest.raises(BarsError, match="not a time"):
        Clock("soon")
