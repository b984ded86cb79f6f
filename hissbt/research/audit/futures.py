"""Other futures: bars whose first ``cut`` rows are the same, and whose later ones are not.

Each is a market that could have been, since a feed refuses what could not: prices are positive, high and low
enclose open and close, nothing is NaN. ``flat`` stands for missing values.
"""

from collections.abc import Callable

import numpy as np

from hissbt.bars import COLUMNS, Bars

_BLOCK = 8  # bars that stay together when blocks are shuffled
_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME = range(len(COLUMNS))


def truncated(bars: Bars, cut: int) -> Bars:
    """Return the first ``cut`` bars."""
    return bars[:cut]


def mirrored(bars: Bars, cut: int) -> Bars:
    """Turn the future upside down about the last kept bar: whatever would have risen above it falls."""
    values, last = _split(bars, cut)
    future = values[cut:]
    future[:, [_HIGH, _LOW]] = future[:, [_LOW, _HIGH]]
    future[:, :_VOLUME] = last[_CLOSE] ** 2 / future[:, :_VOLUME]
    volume = future[:, _VOLUME]
    future[:, _VOLUME] = (last[_VOLUME] + 1.0) ** 2 / (volume + 1.0)
    future[:, _VOLUME + 1 :] = 2.0 * last[_VOLUME + 1 :] - future[:, _VOLUME + 1 :]
    return bars.with_values(values)


def noisy(bars: Bars, cut: int) -> Bars:
    """Move all that is to come, by some percent mostly and by far more at times (Student's t)."""
    values, _ = _split(bars, cut)
    future, rng = values[cut:], np.random.default_rng(cut)
    size, count = future.shape
    factor = np.exp(np.clip(0.03 * rng.standard_t(2, (size, len(COLUMNS))), -1.0, 1.0))
    future[:, [_OPEN, _CLOSE]] *= factor[:, :2]
    widen = np.exp(0.01 * np.abs(rng.standard_normal((size, 2))))
    future[:, _HIGH] = future[:, [_OPEN, _HIGH, _CLOSE]].max(axis=1) * widen[:, 0]
    future[:, _LOW] = future[:, [_OPEN, _LOW, _CLOSE]].min(axis=1) / widen[:, 1]
    future[:, _VOLUME] = (future[:, _VOLUME] + 1.0) * factor[:, _VOLUME] ** 5
    spread = values[:, _VOLUME + 1 :].std(axis=0) + 1e-9
    future[:, _VOLUME + 1 :] += spread * rng.standard_normal((size, count - len(COLUMNS)))
    return bars.with_values(values)


def scaled(bars: Bars, cut: int) -> Bars:
    """Multiply all that is to come by a thousand."""
    values, _ = _split(bars, cut)
    values[cut:] *= 1000.0
    return bars.with_values(values)


def flat(bars: Bars, cut: int) -> Bars:
    """Let nothing happen any more: no trade, and extra columns as they were."""
    values, last = _split(bars, cut)
    values[cut:] = last
    values[cut:, :_VOLUME], values[cut:, _VOLUME] = last[_CLOSE], 0.0
    return bars.with_values(values)


def shuffled(bars: Bars, cut: int) -> Bars:
    """Put what is to come in another order, in blocks of some bars; the last of them first at any rate."""
    values, _ = _split(bars, cut)
    blocks = np.array_split(values[cut:], max(2, (len(values) - cut) // _BLOCK))
    order = np.random.default_rng(cut).permutation(len(blocks) - 1)
    values[cut:] = np.concatenate([blocks[-1], *(blocks[i] for i in order)])
    return bars.with_values(values)


Future = Callable[[Bars, int], Bars]
ALTERED: tuple[Future, ...] = (mirrored, noisy, scaled, flat, shuffled)


def _split(bars: Bars, cut: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of the bars [T,5+C], to be altered from row ``cut`` on, and the last row that stays."""
    values = bars.frame.to_numpy(copy=True)
    return values, values[max(cut - 1, 0)].copy()
