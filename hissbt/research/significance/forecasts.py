"""Which of several forecasts is better, and whether any beats none; the tests are statsmodels' and arch's.

Losses are per observation, the smaller the better; for strategies, minus their returns. Rows are in time order.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Loss = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Losses [T] of what was, [T], and what was forecast, [T]."""
REPEATS = 1000
SIZE = 0.05


@dataclass(frozen=True)
class Comparison:
    """A statistic, standard normal or Student's t if there is nothing to find, and its p-value."""

    statistic: float
    pvalue: float


def diebold_mariano(
    actual: np.ndarray, first: np.ndarray, second: np.ndarray, horizon: int = 1, loss: str | Loss = "mse"
) -> Comparison:
    """Test, from two sides, whether two forecasts [T] of ``actual`` [T] are equally good.

    The statistic is below 0 where ``first`` is better. ``horizon`` is how many observations each forecast
    reaches ahead; ``loss`` is statsmodels' name of one, or a function. Diebold, Mariano 1995, corrected for small
    samples as by Harvey, Leybourne, Newbold 1997. NaN for forecasts that are the same.
    """
    from statsmodels.tsa.stattools import diebold_mariano_test

    if np.array_equal(first, second):
        return Comparison(math.nan, math.nan)
    found = diebold_mariano_test(actual, first, second, criterion=loss, harvey_adj=True, horizon=horizon)
    return Comparison(found.statistic, found.pvalue)


def pesaran_timmermann(actual: np.ndarray, predicted: np.ndarray) -> Comparison:
    """Test whether the signs of ``predicted`` [T] foretell those of ``actual`` [T] better than chance would.

    One-sided; a forecast that never changes its sign foretells nothing by it and has NaN. Only for labels that do
    not overlap. Pesaran, Timmermann, Journal of Business & Economic Statistics 10(4), 1992.
    """
    from statsmodels.stats.diagnostic import pesaran_timmermann as test

    rises, calls = np.asarray(actual) > 0, np.asarray(predicted) > 0
    if rises.all() or calls.all() or not (rises.any() and calls.any()):
        return Comparison(math.nan, math.nan)
    found = test(actual, predicted, alternative="larger")
    return Comparison(float(found.statistic), float(found.pvalue))


@dataclass(frozen=True)
class SuperiorAbility:
    """p-values that no model beats the benchmark: ``consistent`` is the one to use, the others enclose it."""

    lower: float
    consistent: float
    upper: float


def superior_ability(
    benchmark: np.ndarray, models: np.ndarray, block: int, *, seed: int, repeats: int = REPEATS
) -> SuperiorAbility:
    """Test whether the best of N ``models`` beats the ``benchmark``, all N having been tried.

    Both are losses, [T,N] and [T]; ``block`` is the mean length of the stationary bootstrap's blocks. Hansen, "A
    test for superior predictive ability", Journal of Business & Economic Statistics 23(4), 2005.
    """
    from arch.bootstrap import SPA

    test = SPA(benchmark, models, block_size=block, reps=repeats, seed=seed)
    test.compute()
    return SuperiorAbility(*(float(test.pvalues[name]) for name in ("lower", "consistent", "upper")))


def model_confidence_set(
    losses: np.ndarray, block: int, *, seed: int, size: float = SIZE, repeats: int = REPEATS
) -> np.ndarray:
    """Return which of N models, with ``losses`` [T,N], cannot be told from the best: bool [N].

    The best is among them with probability 1 − ``size``. Models with the same losses count as one, as no test
    tells them apart. Hansen, Lunde, Nason, "The model confidence set", Econometrica 79(2), 2011, with the range
    statistic.
    """
    from arch.bootstrap import MCS

    _, first, same = np.unique(losses, axis=1, return_index=True, return_inverse=True)
    if len(first) == 1:
        return np.ones(losses.shape[1], dtype=bool)
    different = np.sort(first)
    test = MCS(losses[:, different], size=size, reps=repeats, block_size=block, seed=seed)
    test.compute()
    return np.isin(first[same.ravel()], different[test.included])
