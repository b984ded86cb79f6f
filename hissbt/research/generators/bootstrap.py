"""The stationary bootstrap: history itself, cut into blocks of random length and put together anew.

Politis, Romano, "The stationary bootstrap", JASA 89 (1994); block length by Politis, White, "Automatic
block-length selection for the dependent bootstrap", Econometric Reviews 23 (2004), as corrected in 2009.
"""

import numpy as np

from hissbt.bars import Bars
from hissbt.candles import LOG_RETURN
from hissbt.research.generators.source import random_streams, source_rows
from hissbt.research.generators.volume import as_candles, with_steady_volume


class StationaryBootstrap:
    """Blocks of real candles, whole bars together; their length is that which suits the squared returns.

    Squared, because returns themselves hardly depend on each other, and what a scenario must keep are its storms.
    """

    name = "bootstrap"

    def generate(self, n: int, bars: int, seed: int, history: Bars) -> np.ndarray:
        """Return candle rows [n, bars, 5]; see ``Generator``."""
        from arch.bootstrap import optimal_block_length

        streams, rows = random_streams(n, bars, seed), source_rows(history)
        block = max(1.0, float(optimal_block_length(rows[:, LOG_RETURN] ** 2)["stationary"].iloc[0]))
        rows = with_steady_volume(rows, history)
        return as_candles(np.stack([rows[_drawn(len(rows), bars, block, rng)] for rng in streams]), history)


def _drawn(count: int, bars: int, block: float, rng: np.random.Generator) -> np.ndarray:
    """Return places [bars] out of ``count``: runs of geometric length with mean ``block``, the end joined to the
    beginning."""
    begins = rng.random(bars) < 1.0 / block
    begins[0] = True
    since = np.arange(bars) - np.maximum.accumulate(np.where(begins, np.arange(bars), 0))
    starts = rng.integers(count, size=bars)[np.cumsum(begins) - 1]
    return (starts + since) % count
