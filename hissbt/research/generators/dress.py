"""Candles around returns: what a generator of returns alone leaves out is taken from real bars."""

from collections.abc import Sequence

import numpy as np

from hissbt.bars import Bars
from hissbt.candles import GAP, LOG_RETURN, LOWER_WICK, UPPER_WICK
from hissbt.research.generators.volume import as_candles, with_steady_volume


def mirrored(rows: np.ndarray) -> np.ndarray:
    """Return candle rows [...,5] of the same bars upside down; the volume stays as it is."""
    turned = rows.copy()
    turned[..., [LOG_RETURN, GAP]] *= -1.0
    turned[..., UPPER_WICK], turned[..., LOWER_WICK] = rows[..., LOWER_WICK], rows[..., UPPER_WICK]
    return turned


def dressed(
    returns: np.ndarray, rows: np.ndarray, history: Bars, streams: Sequence[np.random.Generator]
) -> np.ndarray:
    """Return candle rows [n,N,5] with these returns [n,N], the rest from the real rows [T,5] at history's end.

    Gap, wicks and volume are those of a real bar whose |return| has the same rank among the real ones as this one
    has in its own scenario (one at random where several have), mirrored if it went the other way, and enlarged
    as the scenario's mean |return| is beside the real one: so bars keep their shape in a scenario twice as wild.
    """
    usual = np.abs(rows[:, LOG_RETURN]).mean()
    by_size = with_steady_volume(rows, history)[np.argsort(np.abs(rows[:, LOG_RETURN]), kind="stable")]
    paths = [_dressed(path, by_size, usual, rng) for path, rng in zip(returns, streams, strict=True)]
    return as_candles(np.stack(paths), history)


def _dressed(returns: np.ndarray, by_size: np.ndarray, usual: float, rng: np.random.Generator) -> np.ndarray:
    size = np.abs(returns)
    rank = np.argsort(np.argsort(size, kind="stable"), kind="stable")
    share = (rank + rng.random(len(returns))) / len(returns)  # in [0,1)
    chosen = by_size[(share * len(by_size)).astype(np.int64)]
    against = returns * chosen[:, LOG_RETURN] < 0.0
    candles = np.where(against[:, None], mirrored(chosen), chosen)
    scale = size.mean() / usual
    candles[:, GAP] *= scale
    candles[:, [UPPER_WICK, LOWER_WICK]] *= np.sqrt(scale)
    candles[:, LOG_RETURN] = returns
    return candles
