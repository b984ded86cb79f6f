"""The driftless null: a market as wild as the real one in which nothing can be earned before costs.

Feller, "The asymptotic distribution of the range of sums of independent random variables", Annals of Mathematical
Statistics 22 (1951), and the reflection principle for the extremes; Parkinson (1980) for the variance of a bar.
"""

import numpy as np

from hissbt.bars import Bars
from hissbt.candles import GAP, LOG_RETURN, LOWER_WICK, UPPER_WICK
from hissbt.features import LN2
from hissbt.research.generators.source import random_streams, source_rows
from hissbt.research.generators.volume import as_candles, with_steady_volume


class Driftless:
    """Independent bars, each a Brownian path without drift whose variance is that of a real bar drawn at random.

    A real bar gives its variance, by its range, its volume, and the size of its gap, which goes up or down by the
    toss of a coin. Price is a martingale at every moment, within the bars too: not only orders at open or close,
    a stop or a limit that is touched, and filled at its price, earns 0 on average as well. (Real bars tossed up
    or down are no such null: the shape of their wicks pays for stops on an index and for limits on bitcoin.)
    A strategy whose mean return before costs is above 0 by more than chance looks ahead, or is filled at prices
    that nobody would give it.
    """

    name = "null"

    def generate(self, n: int, bars: int, seed: int, history: Bars) -> np.ndarray:
        """Return candle rows [n, bars, 5]; see ``Generator``."""
        streams = random_streams(n, bars, seed)
        rows = with_steady_volume(source_rows(history), history)
        paths = np.stack([_walked(rows[rng.integers(len(rows), size=bars)], rng) for rng in streams])
        return as_candles(paths, history)


def _walked(rows: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return candles [N,5] of Brownian paths as wild as the bars of the given ones [N,5]."""
    spread = np.abs(rows[:, LOG_RETURN] - rows[:, GAP]) + rows[:, UPPER_WICK] ** 2 + rows[:, LOWER_WICK] ** 2
    variance = spread**2 / (4.0 * LN2)
    gap = np.abs(rows[:, GAP])
    body = rng.normal(-0.5 * variance, np.sqrt(variance))  # so that the mean of exp(body) is 1
    # The highest and lowest point of a Brownian path whose end is known, from the open.
    reach = np.sqrt(body**2 + 2.0 * variance * rng.exponential(size=(2, len(rows))))  # [2,N]
    high, low = 0.5 * (body + reach[0]), 0.5 * (body - reach[1])
    candles = rows.copy()
    candles[:, GAP] = rng.choice((-1.0, 1.0), len(rows)) * gap - (np.logaddexp(gap, -gap) - LN2)  # minus ln cosh
    candles[:, LOG_RETURN] = candles[:, GAP] + body
    candles[:, UPPER_WICK] = np.sqrt(np.maximum(high - np.maximum(body, 0.0), 0.0))
    candles[:, LOWER_WICK] = np.sqrt(np.maximum(np.minimum(body, 0.0) - low, 0.0))
    return candles
