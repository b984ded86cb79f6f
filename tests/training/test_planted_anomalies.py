"""What is unusual on one scale is called so by the level of that scale: soak/planted_anomalies.py in short."""

import pytest
from soak.planted_anomalies import MISSED, RAISED, judge


@pytest.fixture(scope="module")
def found():
    return judge(2, bars=16_000)


def test_false_alarms_are_as_frequent_as_the_p_value_says(found):
    for share, error in found["false_alarms"]:
        assert 0 < error < 0.05
        assert abs(share - 0.05) <= 3 * error


def test_the_finest_level_sees_a_spike_of_one_bar_and_the_top_does_not(found):
    assert found["spikes_missed_below"] <= MISSED
    without, with_spike = found["top_alarms"]
    assert with_spike - without <= RAISED


def test_the_top_sees_a_change_of_variance_within_its_window(found):
    assert found["changes"] > 10
    assert found["changes_missed_by_the_top"] <= MISSED
