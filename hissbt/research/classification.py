"""Scores of forecasts of two classes, from counts alone, so that many forecasts are scored at once.

Formulas as in scikit-learn, with its ``zero_division=0``: what has nothing to divide by scores 0, as in most
articles. A balanced accuracy of outcomes that all have one class is NaN.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Counts:
    """How often each class was said and was right, all of shape [...]."""

    true_positive: np.ndarray
    false_positive: np.ndarray
    false_negative: np.ndarray
    true_negative: np.ndarray

    @classmethod
    def of(cls, said: np.ndarray, was: np.ndarray) -> "Counts":
        """Count forecasts ``said`` [...,T] against what ``was`` [T], both true for the positive class."""
        return cls(
            np.sum(said & was, axis=-1),
            np.sum(said & ~was, axis=-1),
            np.sum(~said & was, axis=-1),
            np.sum(~said & ~was, axis=-1),
        )

    def swapped(self) -> "Counts":
        """Return the counts with the other class as the positive one."""
        return Counts(self.true_negative, self.false_negative, self.false_positive, self.true_positive)


def accuracy(counts: Counts) -> np.ndarray:
    """Return the share of forecasts that were right."""
    right = counts.true_positive + counts.true_negative
    return right / (right + counts.false_positive + counts.false_negative)


def recall(counts: Counts) -> np.ndarray:
    """Return the share of the positive outcomes that were forecast."""
    return _ratio(counts.true_positive, counts.true_positive + counts.false_negative)


def precision(counts: Counts) -> np.ndarray:
    """Return the share of the positive forecasts that were right."""
    return _ratio(counts.true_positive, counts.true_positive + counts.false_positive)


def f1(counts: Counts) -> np.ndarray:
    """Return the harmonic mean of precision and recall."""
    twice = 2 * counts.true_positive
    return _ratio(twice, twice + counts.false_positive + counts.false_negative)


def support(counts: Counts) -> np.ndarray:
    """Return how many outcomes were positive."""
    return counts.true_positive + counts.false_negative


def balanced_accuracy(counts: Counts) -> np.ndarray:
    """Return the mean recall of the two classes: 0.5 for any forecast that does not look."""
    other = counts.swapped()
    mean = (recall(counts) + recall(other)) / 2
    return np.where((support(counts) > 0) & (support(other) > 0), mean, np.nan)


def matthews(counts: Counts) -> np.ndarray:
    """Return the correlation of forecasts and outcomes (Matthews 1975); 0 where either never changes."""
    tp, fp, fn, tn = (
        np.asarray(n, dtype=np.float64)
        for n in (counts.true_positive, counts.false_positive, counts.false_negative, counts.true_negative)
    )
    return _ratio(tp * tn - fp * fn, np.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)))


OVERALL = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "mcc": matthews}
"""Scores of both classes together."""

PER_CLASS = {"precision": precision, "recall": recall, "f1": f1, "support": support}
"""Scores of the positive class."""


def _ratio(numerator, denominator) -> np.ndarray:
    defined = np.asarray(denominator) != 0
    return np.where(defined, numerator / np.where(defined, denominator, 1), 0.0)
