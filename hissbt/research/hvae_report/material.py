"""The bars as the comparison uses them: standardized values, and the spans they are cut into."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hissbt.bars import Bars
from hissbt.candles import CANDLE, LOG_RETURN, candle_rows
from hissbt.errors import BarsError
from hissbt.features import FeatureSet, Normalizer
from hissbt.research.hvae_report.protocol import Protocol
from hissbt.training.hvae import CLIP, varying

LEAST_WINDOWS = 8  # of the test span: fewer have no halves to compare


@dataclass(frozen=True)
class Material:
    """One row a bar, T in all; ``train`` and ``validation`` are rows."""

    closes: pd.DatetimeIndex
    candles: np.ndarray
    """[T,5] standardized by the rows of ``train``."""
    names: tuple[str, ...]
    """Which of them have a density over the rows of ``train``, the log return first."""
    mean: float
    """Of the log returns of ``train``."""
    deviation: float
    train: range
    validation: range
    test: np.ndarray
    """[N] first rows of the test windows."""
    window: int
    strides: tuple[int, ...]
    history: Bars
    """The bars up to the end of validation: what generators may know."""

    @property
    def returns(self) -> np.ndarray:
        """Log returns [T] in natural units."""
        return self.natural(self.candles[:, LOG_RETURN])

    def natural(self, standardized: np.ndarray) -> np.ndarray:
        """Return log returns from standardized ones, of any shape."""
        return self.mean + self.deviation * standardized

    def values(self, name: str) -> np.ndarray:
        """Return what the networks of one of ``SETS`` are given [T,F], the log return first."""
        names = {"returns": self.names[:1], "candles": self.names}[name]
        return self.candles[:, [CANDLE.index(feature) for feature in names]]

    def windows(self, first: np.ndarray) -> np.ndarray:
        """Return the log returns [N,W] of the windows that begin at the rows ``first``."""
        return self.returns[first[:, None] + np.arange(self.window)]


def material(bars: Bars, protocol: Protocol) -> Material:
    """Standardize ``bars`` and cut them; BarsError where they are too few."""
    strides = protocol.strides(bars.timeframe)
    window, warmup = strides[-1], FeatureSet(CANDLE).warmup
    end = int(len(bars) * (1 - protocol.test_fraction))
    border = warmup + int((end - warmup) * (1 - protocol.validation_fraction))
    train, validation = range(warmup, border), range(border + window, end)
    test = np.arange(end + window, len(bars) - window + 1, window)
    if len(test) < LEAST_WINDOWS or min(len(train), len(validation)) < 2 * window:
        raise BarsError(
            f"{len(bars)} bars are too few to compare windows of {window}: give at least "
            f"{int((LEAST_WINDOWS + 2) * window / protocol.test_fraction) + 100}"
        )
    rows = candle_rows(bars)
    normalizer = Normalizer.fit(rows[warmup:border], clip=CLIP)
    return Material(
        bars.frame.index,
        normalizer(rows),
        (CANDLE[LOG_RETURN], *varying(CANDLE[1:], bars[:border])),
        normalizer.mean[LOG_RETURN],
        normalizer.std[LOG_RETURN],
        train,
        validation,
        test,
        window,
        strides,
        bars[:end],
    )
