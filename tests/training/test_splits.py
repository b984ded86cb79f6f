"""Time-ordered splits with a purge as long as the label."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.errors import BarsError, ConfigError
from hissbt.training.splits import split_in_time, walk_forward


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


@given(
    count=st.integers(10, 3000),
    first=st.integers(1, 3000),
    test_bars=st.integers(1, 800),
    embargo=st.integers(0, 100),
    train_bars=st.none() | st.integers(1, 2000),
)
def test_the_tests_of_a_walk_forward_follow_each_other_and_come_an_embargo_after_what_was_learned(
    count, first, test_bars, embargo, train_bars
):
    try:
        folds = walk_forward(count, first, test_bars, embargo, train_bars)
    except BarsError:
        assert first >= count or first < embargo + (train_bars or 1)
        return
    assert [row for fold in folds for row in fold.test] == list(range(first, count))
    for fold in folds:
        assert fold.train.stop + embargo == fold.test.start
        assert 0 <= fold.train.start < fold.train.stop
        assert len(fold.train) == (train_bars or fold.train.stop)


def test_folds_of_no_bars_are_refused():
    with pytest.raises(ConfigError, match="a test of 0 bars"):
        walk_forward(100, 50, 0, 5)
