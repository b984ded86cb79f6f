"""Scores of two classes: by hand, and as scikit-learn has them."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays
from sklearn.metrics import balanced_accuracy_score, matthews_corrcoef, precision_recall_fscore_support

from hissbt.research.classification import (
    OVERALL,
    Counts,
    accuracy,
    balanced_accuracy,
    f1,
    matthews,
    precision,
    recall,
    support,
)

PAIRS = st.integers(2, 60).flatmap(lambda n: st.tuples(arrays(bool, n), arrays(bool, n)))


def test_a_small_case_by_hand():
    counts = Counts.of(np.array([True, True, True, False, False]), np.array([True, True, False, True, False]))
    assert accuracy(counts) == pytest.approx(3 / 5)
    assert precision(counts) == pytest.approx(2 / 3)
    assert recall(counts) == pytest.approx(2 / 3)
    assert f1(counts) == pytest.approx(2 / 3)
    assert balanced_accuracy(counts) == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert matthews(counts) == pytest.approx((2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2))


@given(PAIRS)
def test_scores_are_those_of_scikit_learn(pair):
    said, was = pair
    counts = Counts.of(said, was)
    for positive, side in ((True, counts), (False, counts.swapped())):
        expected = precision_recall_fscore_support(was, said, labels=[positive], average=None, zero_division=0)
        found = [precision(side), recall(side), f1(side), support(side)]
        np.testing.assert_allclose(found, np.concatenate(expected), atol=1e-12)
    assert matthews(counts) == pytest.approx(matthews_corrcoef(was, said), abs=1e-12)
    if was.any() and not was.all():
        assert balanced_accuracy(counts) == pytest.approx(balanced_accuracy_score(was, said))


def test_many_forecasts_are_scored_at_once():
    rng = np.random.default_rng(0)
    said, was = rng.random((7, 50)) > 0.4, rng.random(50) > 0.6
    for score in OVERALL.values():
        one_by_one = [score(Counts.of(each, was)) for each in said]
        np.testing.assert_allclose(score(Counts.of(said, was)), one_by_one)


def test_a_forecast_that_never_changes_has_no_skill():
    was = np.arange(30) % 3 == 0
    counts = Counts.of(np.zeros(30, dtype=bool), was)
    assert accuracy(counts) == pytest.approx(2 / 3)
    assert balanced_accuracy(counts) == 0.5
    assert matthews(counts) == 0
    assert precision(counts) == 0


def test_outcomes_of_one_class_have_no_balanced_accuracy():
    assert np.isnan(balanced_accuracy(Counts.of(np.array([True, False]), np.array([True, True]))))
