"""In which order a run sees its windows: as they come, short ones first, or calm ones first.

Bengio, Louradour, Collobert, Weston, "Curriculum Learning", ICML 2009. What is drawn depends on seed and epoch
only. All windows lie in the training rows, and nothing else is known of the bars after them.
"""

import math
from collections.abc import Iterator

import numpy as np

from hissbt.training.config import TrainingConfig
from hissbt.training.windows import RandomStarts


def training_windows(config: TrainingConfig, volatility: np.ndarray) -> RandomStarts:
    """Return what draws the places of an epoch's ``Windows`` among training rows of this ``volatility`` [T]."""
    count = config.epoch_steps * config.batch_size
    starts = len(volatility) - config.window + 1
    if config.curriculum == "length":
        return ShortFirst(starts, count, config)
    if config.curriculum == "volatility":
        return CalmFirst(calmest_first(volatility, config.window), count, config)
    return RandomStarts(starts, count, config.seed)


class ShortFirst(RandomStarts):
    """Ranges of bars that grow to the full window, each epoch's of one length, for the first ``starts`` places."""

    def __init__(self, starts: int, count: int, config: TrainingConfig):
        super().__init__(starts, count, config.seed)
        self._config = config

    def __iter__(self) -> Iterator[range]:
        window = self._config.window
        length = math.ceil(self._config.share(self._epoch) * window)
        places = self._starts + window - length
        return (range(start, start + length) for start in self._below(places))


class CalmFirst(RandomStarts):
    """Starts from the front of ``order``, of which every epoch of the curriculum allows more."""

    def __init__(self, order: np.ndarray, count: int, config: TrainingConfig):
        super().__init__(len(order), count, config.seed)
        self._order, self._config = order.tolist(), config

    def __iter__(self) -> Iterator[int]:
        allowed = math.ceil(self._config.share(self._epoch) * self._starts)
        return (self._order[rank] for rank in self._below(allowed))


def calmest_first(volatility: np.ndarray, window: int) -> np.ndarray:
    """Return the starts of all windows within rows [T], the one with the least sum of squares first."""
    sums = np.cumsum(np.append(0.0, volatility**2))
    return np.argsort(sums[window:] - sums[:-window], kind="stable")
