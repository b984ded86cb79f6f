"""Inputs denoised by a Haar wavelet and standardized: by the whole set, which leaks, or by what was known.

Bao, Yue, Rao, "A deep learning framework for financial time series using stacked autoencoders and long-short term
memory", PLoS ONE 12(7), 2017, denoise prices by two Haar transforms before they split them. Without its details a
Haar transform is the mean of blocks of 2 bars, and twice of 4. At the first bar of such a block its mean holds the
closes to come.
"""

from array import array
from collections.abc import Callable

import backtrader as bt
import numpy as np

BLOCKS = (2, 4)
"""Bars that one and two levels of the transform smooth over."""
INPUTS = ("to_haar_2", "haar_2_move", "to_haar_4", "haar_4_move", "move", "week_move")
"""The log distance from the close to the denoised one, what that moved in a bar, and the moves of the close."""
WARMUP = 63
"""Bars, about three months, before a scale that is measured so far can be trusted."""
_WEEK = 5
_LEAST_VARIANCE = 1e-16

Seen = Callable[[int], np.ndarray]
"""How many of so many bars are used at each of them [T]."""


def whole_set(count: int) -> np.ndarray:
    """Let each bar use all of them, those to come too."""
    return np.full(count, count)


def so_far(count: int) -> np.ndarray:
    """Let each bar use those up to itself."""
    return np.arange(1, count + 1)


def inputs(closes: np.ndarray, denoising: Seen, scaling: Seen) -> np.ndarray:
    """Return the ``INPUTS`` [T,6] of closes [T], denoised and standardized by the bars that each bar may use."""
    price, seen = np.log(closes), denoising(len(closes))
    columns = []
    for length in BLOCKS:
        smooth = denoised(price, length, seen)
        columns += [smooth - price, np.diff(smooth, prepend=smooth[0])]
    earlier = price[np.maximum(np.arange(len(price)) - _WEEK, 0)]
    columns += [np.diff(price, prepend=price[0]), price - earlier]
    return standardized(np.column_stack(columns), scaling(len(closes)))


def denoised(values: np.ndarray, length: int, seen: np.ndarray) -> np.ndarray:
    """Return the mean of what is ``seen`` of the block of ``length`` that each of the values [T] is in."""
    bars = np.arange(len(values))
    first = bars // length * length
    end = np.minimum(first + length, seen)
    return (_sums(values, end) - _sums(values, first)) / (end - first)


def standardized(rows: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Return ``rows`` [T,F] less the mean of the rows that are seen at each, in their deviations."""
    count = seen[:, None]
    mean = _sums(rows, seen) / count
    variance = _sums(rows**2, seen) / count - mean**2
    return (rows - mean) / np.sqrt(np.maximum(variance, _LEAST_VARIANCE))


def _sums(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return the sums of the first so many values [T,...]."""
    return np.concatenate([np.zeros_like(values[:1]), np.cumsum(values, axis=0)])[counts]


class _Denoised(bt.Indicator):
    """Shows the ``INPUTS`` of the data's closes."""

    lines = INPUTS

    def __init__(self):
        self.addminperiod(WARMUP)
        self._closes = []

    def next(self):
        """Write the inputs at this close, as far as the bars have come."""
        self._note()
        for line, value in zip(self.lines, self._rows(self._closes)[-1], strict=True):
            line[0] = value

    def prenext(self):
        """Warm up."""
        self._note()

    def preonce(self, start, end):
        """Leave the warm-up to ``once``."""

    def once(self, start, end):
        """Write the inputs at all closes, whose array Backtrader has in memory here."""
        rows = self._rows(self.data.close.array[:end])
        for line, column in zip(self.lines, rows.T, strict=True):
            line.array[start:end] = array("d", column[start:].tobytes())

    def _note(self):
        self._closes[len(self.data) - 1 :] = [self.data.close[0]]  # a bar may be shown again

    def _rows(self, closes) -> np.ndarray:
        return inputs(np.array(closes), self._seen, self._seen)


class WholeSet(_Denoised):
    """Inputs that are denoised and scaled over all of history: the leak."""

    _seen = staticmethod(whole_set)


class SoFar(_Denoised):
    """The same of the bars up to each: its causal twin."""

    _seen = staticmethod(so_far)
