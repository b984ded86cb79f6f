"""What every rival is given, and what it has to give back.

A task is one fold: rows up to the end of ``train`` may be learned from, ``validation`` chooses between settings,
``test`` is what is reported. Rows are bars; row t knows the bars up to t, and its labels are about the ``horizon``
bars after it. The purge and the embargo between the parts are in the ranges already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from hissbt.bars import Bars
from hissbt.features import LOWEST_VARIANCE, FeatureSet
from hissbt.targets import forward_return, realized_volatility


@dataclass(frozen=True)
class Task:
    """Bars, the inputs that all rivals share, and the rows of one fold."""

    bars: Bars
    features: tuple[str, ...]
    """Names for ``FeatureSet``."""
    horizon: int
    """Bars that a forecast reaches ahead."""
    train: range
    """Rows to learn from; the label of the last one ends before ``validation`` begins."""
    validation: range
    """Rows that choose between settings, and decide when a network stops."""
    test: range
    """Rows that are judged; after them a rival must not look."""

    @cached_property
    def x(self) -> np.ndarray:
        """The inputs [T,F], raw: whoever scales them fits the scale on ``train``."""
        known = FeatureSet(self.features)
        return known.scan(self.bars.arrays(known.columns))

    @cached_property
    def returns(self) -> np.ndarray:
        """The log return [T] over the next ``horizon`` bars; NaN where they are not all there."""
        return forward_return(self._close, self.horizon)

    @cached_property
    def log_variance(self) -> np.ndarray:
        """The log of the realized variance [T] over the same bars."""
        volatility = realized_volatility(self._close, self.horizon)
        return np.log(np.maximum(volatility**2, self.horizon * LOWEST_VARIANCE))

    @property
    def judged(self) -> range:
        """The rows to forecast: from the first of ``validation`` to the last of ``test``."""
        return range(self.validation.start, self.test.stop)

    @property
    def _close(self) -> np.ndarray:
        return self.bars.frame["close"].to_numpy()


@dataclass(frozen=True)
class Forecasts:
    """What a rival says at each row of ``task.judged``; NaN for what it has no opinion on."""

    expected_return: np.ndarray
    """Mean of the log return over the horizon [N]."""
    prob_up: np.ndarray
    """Probability [N] that it is above zero."""
    volatility: np.ndarray
    """Its standard deviation [N]: the root of the forecast realized variance."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """``parameters``, ``epochs``, ``fit_seconds`` and ``step_us`` (a decision) as far as known."""


@dataclass(frozen=True)
class Rival:
    """A way to forecast, and the settings between which the validation rows choose."""

    name: str
    """As tables show it."""
    family: str
    """``rule``, ``linear``, ``tree``, ``kernel``, ``neighbors``, ``econometric``, ``network`` or ``hiss``."""
    forecast: Callable[[Task, Mapping[str, Any], int], Forecasts]
    """Given a task, one of ``settings`` and a seed; a function of a module, so that processes can be sent it."""
    settings: tuple[Mapping[str, Any], ...] = ({},)
    """The configurations that are tried; a rule has nothing to choose."""
    is_random: bool = False
    """Whether another seed gives another forecast."""
