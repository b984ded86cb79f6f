"""Rivals that learn next to nothing: buy and hold, the random walk, momentum.

Whoever does not beat these has found nothing.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hissbt.features import FeatureSet
from hissbt.research.rivals.task import Forecasts, Task


def buy_and_hold(task: Task, settings: Mapping[str, Any], seed: int) -> Forecasts:
    """Expect at every bar what the training rows had on average: their mean return, their share of rises."""
    return _usual(task, np.zeros(len(task.bars), dtype=bool))


def random_walk(task: Task, settings: Mapping[str, Any], seed: int) -> Forecasts:
    """Expect no return, rises as often as falls, and the variance that the training rows had on average."""
    variance = float(np.mean(np.exp(task.log_variance[task.train])))
    count = len(task.judged)
    return Forecasts(np.zeros(count), np.full(count, 0.5), np.full(count, np.sqrt(variance)))


def momentum(task: Task, settings: Mapping[str, Any], seed: int) -> Forecasts:
    """Expect what followed in the training rows when the last ``settings["bars"]`` bars had gone the same way."""
    past = FeatureSet([f"return:{settings['bars']}"]).scan(task.bars.arrays())[:, 0]
    return _usual(task, past > 0.0)


def _usual(task: Task, state: np.ndarray) -> Forecasts:
    """Forecast the mean return and the share of rises of the training rows in the same ``state`` [T], of two."""
    in_train, returns = state[task.train], task.returns[task.train]
    mean, share = np.full((2, len(task.judged)), np.nan)
    for side in (False, True):
        like = returns[in_train == side]
        if not len(like):
            like = returns
        now = state[task.judged] == side
        mean[now], share[now] = like.mean(), np.mean(like > 0.0)
    return Forecasts(mean, share, np.full(len(task.judged), np.nan))
