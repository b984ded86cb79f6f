"""Combinatorial purged cross-validation: skfolio's splits, and no label that reaches into a test."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skfolio.model_selection import CombinatorialPurgedCV as Skfolio

from hissbt.errors import ConfigError
from hissbt.research.significance import CombinatorialPurgedCV


@st.composite
def histories(draw) -> tuple[CombinatorialPurgedCV, int]:
    """A way to split, and a number of observations that allows it."""
    groups = draw(st.integers(3, 7))
    purge, embargo = draw(st.integers(0, 4)), draw(st.integers(0, 4))
    cv = CombinatorialPurgedCV(groups, draw(st.integers(2, groups - 1)), purge, embargo)
    return cv, groups * (2 * purge + embargo + 2) + draw(st.integers(0, 30))


@given(histories())
def test_the_splits_and_paths_are_those_of_skfolio(history):
    cv, count = history
    oracle = Skfolio(cv.groups, cv.test_groups, cv.purge, cv.embargo)
    assert (cv.splits, cv.paths) == (oracle.n_splits, oracle.n_test_paths)
    np.testing.assert_array_equal(cv.tested, oracle.test_set_index)
    np.testing.assert_array_equal(cv.path_ids, oracle.get_path_ids())
    for (train, tests), (their_train, their_tests) in zip(
        cv.split(count), oracle.split(np.zeros((count, 1))), strict=True
    ):
        np.testing.assert_array_equal(train, their_train)
        for test, theirs in zip(tests, their_tests, strict=True):
            np.testing.assert_array_equal(test, theirs)


@given(histories())
def test_no_label_of_training_shares_a_bar_with_a_label_or_the_embargo_of_a_test(history):
    cv, count = history
    for train, tests in cv.split(count):
        for test in tests:
            before, after = train[train < test[0]], train[train > test[-1]]
            assert len(before) + len(after) == len(train)
            assert (before + cv.purge < test[0]).all()  # their labels end before the test begins
            assert (after > test[-1] + cv.purge + cv.embargo).all()  # they begin after its last label has ended


@given(histories())
def test_every_bar_is_tested_once_on_every_path(history):
    cv, count = history
    seen = np.zeros((cv.paths, count), dtype=int)
    splits = list(cv.split(count))
    assert len(splits) == math.comb(cv.groups, cv.test_groups)
    for (_, tests), ids in zip(splits, cv.path_ids, strict=True):
        for test, path in zip(tests, ids, strict=True):
            seen[path, test] += 1
    np.testing.assert_array_equal(seen, 1)


@given(histories())
def test_paths_are_put_together_in_the_order_of_time(history):
    cv, count = history
    predictions = [[test * 1000 + split for test in tests] for split, (_, tests) in enumerate(cv.split(count))]
    paths = cv.assemble(predictions)
    np.testing.assert_array_equal(paths // 1000, np.tile(np.arange(count), (cv.paths, 1)))
    assert len({tuple(path) for path in paths}) == cv.paths  # each is made by other models


def test_six_groups_of_which_two_are_tested():
    cv = CombinatorialPurgedCV(6, 2)
    assert (cv.splits, cv.paths) == (15, 5)


def test_one_group_at_a_time_is_a_purged_k_fold():
    cv = CombinatorialPurgedCV(5, 1, purge=2, embargo=1)
    assert (cv.splits, cv.paths) == (5, 1)
    train, (test,) = list(cv.split(50))[2]
    np.testing.assert_array_equal(test, np.arange(20, 30))
    np.testing.assert_array_equal(train, [*range(18), *range(33, 50)])


@pytest.mark.parametrize("settings", [(4, 0), (4, 4), (4, 2, -1), (4, 2, 0, -1)])
def test_numbers_that_allow_no_split_are_refused(settings):
    with pytest.raises(ConfigError):
        CombinatorialPurgedCV(*settings)


def test_a_history_too_short_for_the_purge_is_refused():
    with pytest.raises(ConfigError, match="60 observations in 6 groups"):
        list(CombinatorialPurgedCV(6, 2, purge=5).split(60))
