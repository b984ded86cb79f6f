"""Volumes of bars that are taken out of their order.

The volume of a candle row is beside the mean of a day of bars before it. Rows in random order would compound
these ratios into a random walk, for nothing brings it back: after a month of hours it is fifty times too high or
too low. So a bar out of order brings its volume beside the mean of a much longer time, and that ratio is
multiplied with that mean at the end of history. A model of such ratios in their order compounds them no less, as
far as it forgets within a month what volume was: the mean of its scenarios is pulled back.
"""

import numpy as np
from numba import njit

from hissbt.bars import Bars
from hissbt.candles import CANDLE, VOLUME_SURPRISE
from hissbt.features import LN2, N_BAR_FIELDS, VOLUME, FeatureSet, ewm_mean

USUAL = FeatureSet(["volume_surprise:720"])  # a month of hours
RECENT = FeatureSet([CANDLE[VOLUME_SURPRISE]])
_SPAN = int(CANDLE[VOLUME_SURPRISE].partition(":")[2])
PULL = 0.1  # power of usual to recent mean; it brings volume back within some days of hours, as real volume comes


def with_steady_volume(rows: np.ndarray, history: Bars) -> np.ndarray:
    """Return the candle rows [T,5] of the last bars of history, their volumes beside the usual for a while."""
    steady = rows.copy()
    steady[:, VOLUME_SURPRISE] = USUAL.scan(history.arrays())[-len(rows) :, 0]
    return steady


def as_candles(paths: np.ndarray, history: Bars) -> np.ndarray:
    """Return scenarios [n,N,5] of rows ``with_steady_volume`` as candle rows that go on from history."""
    usual, recent = _means(history)
    volumes = usual[0] / usual[1] * np.expm1(paths[..., VOLUME_SURPRISE] + LN2)  # [n,N]
    candles = paths.copy()
    blank = np.ones((paths.shape[1], N_BAR_FIELDS))  # of what volume does not read
    for path, volume in zip(candles, np.maximum(volumes, 0.0), strict=True):
        blank[:, VOLUME] = volume
        path[:, VOLUME_SURPRISE] = RECENT.scan(blank, recent.copy())[:, 0]
    return candles


def pulled_back(paths: np.ndarray, history: Bars) -> np.ndarray:
    """Return candle rows [n,N,5] with volumes that stay about the usual of history, however long they are.

    Each is multiplied by (usual mean / running mean) to the power of ``PULL``. Without volume nothing changes.
    """
    usual, recent = _means(history)
    candles = paths.copy()
    if usual[0] > 0.0:
        for path in candles:
            _pull(path[:, VOLUME_SURPRISE], usual[0] / usual[1], _SPAN, recent.copy())
    return candles


def _means(history: Bars) -> tuple[np.ndarray, np.ndarray]:
    """Return the states of the usual and of the recent mean of volume at the end of history."""
    bars = history.arrays()
    usual, recent = USUAL.initial_state(), RECENT.initial_state()
    USUAL.scan(bars, usual)
    RECENT.scan(bars, recent)
    return usual, recent


@njit(cache=True)
def _pull(surprises, usual, span, memory) -> None:
    """Pull the surprises [N] in place; ``memory`` is the state of the running mean."""
    for t in range(len(surprises)):
        mean = memory[0] / memory[1]
        ratio = max(np.expm1(surprises[t] + LN2), 0.0)
        if mean > 0.0:
            ratio *= (usual / mean) ** PULL
        surprises[t] = np.log1p(ratio) - LN2
        ewm_mean(mean * ratio, span, memory)
