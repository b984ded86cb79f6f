"""Volumes of bars that are taken out of their order.

The volume of a candle row is beside the mean of a day of bars before it. Rows in random order would compound
these ratios into a random walk, for nothing brings it back: after a month of hours it is fifty times too high or
too low. So a bar out of order brings its volume beside the mean of a much longer time, and that ratio is
multiplied with that mean at the end of history.
"""

import numpy as np

from hissbt.bars import Bars
from hissbt.candles import CANDLE, VOLUME_SURPRISE
from hissbt.features import LN2, VOLUME, FeatureSet

USUAL = FeatureSet(["volume_surprise:720"])  # a month of hours
RECENT = FeatureSet([CANDLE[VOLUME_SURPRISE]])


def with_steady_volume(rows: np.ndarray, history: Bars) -> np.ndarray:
    """Return the candle rows [T,5] of the last bars of history, their volumes beside the usual for a while."""
    steady = rows.copy()
    steady[:, VOLUME_SURPRISE] = USUAL.scan(history.arrays())[-len(rows) :, 0]
    return steady


def as_candles(paths: np.ndarray, history: Bars) -> np.ndarray:
    """Return scenarios [n,N,5] of rows ``with_steady_volume`` as candle rows that go on from history."""
    bars = history.arrays()
    usual, recent = USUAL.initial_state(), RECENT.initial_state()
    USUAL.scan(bars, usual)
    RECENT.scan(bars, recent)
    volumes = usual[0] / usual[1] * np.expm1(paths[..., VOLUME_SURPRISE] + LN2)  # [n,N]
    candles = paths.copy()
    blank = np.ones((paths.shape[1], bars.shape[1]))  # of what volume does not read
    for path, volume in zip(candles, np.maximum(volumes, 0.0), strict=True):
        blank[:, VOLUME] = volume
        path[:, VOLUME_SURPRISE] = RECENT.scan(blank, recent.copy())[:, 0]
    return candles
