"""Time-ordered splits with a purge as long as the label."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.errors import BarsError
from hissbt.training.splits import split_in_time


@given(
    count=st.integers(200, 5000),
    fraction=st.floats(0.05, 0.5),
    overlap=st.integers(1, 48),
)
def test_no_label_of_one_part_is_computed_from_bars_of_the_next(count, fraction, overlap):
    try:
        split = split_in_time(count, fraction, overlap, minimum=32)
    except BarsError:
        return
    assert split.train[-1] + overlap < split.validation[0]
    assert split.validation[-1] + overlap <= count - 1, "a label reaches beyond the bars that were given"
    assert split.train[0] == 0


def test_the_bars_asked_for_when_there_are_too_few_are_enough():
    for overlap in (1, 24):
        with pytest.raises(BarsError, match="too few to train on") as refused:
            split_in_time(50, 0.15, overlap, minimum=256)
        needed = int(str(refused.value).split("settings ")[1].split()[0])
        assert len(split_in_time(needed, 0.15, overlap, minimum=256).train) >= 256
