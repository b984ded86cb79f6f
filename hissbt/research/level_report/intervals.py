"""How sure the mean losses of many bars in a row are, at little cost."""

from collections.abc import Callable

import numpy as np

from hissbt.research.resampling import block_interval

_REPEATS = 1_000
_LEAST_CHUNKS = 100  # that stay apart
_LEAST_BLOCKS = 4


def interval_of_means(
    values: np.ndarray, block: int, chunk: int, of: Callable[[np.ndarray], np.ndarray] = lambda means: means
) -> list[list[float]]:
    """Return the 95 % intervals [k][2] of ``of`` the means of ``values`` [N,K] over their rows.

    Rows are drawn in blocks of ``block``, which are made of the means of ``chunk`` rows: blocks then begin at
    every chunk only, and cost a ``chunk``-th. What is left of the last chunk is left out.
    """
    chunk = max(min(chunk, len(values) // _LEAST_CHUNKS), 1)
    count = len(values) // chunk
    means = values[: count * chunk].reshape(count, chunk, -1).mean(axis=1)
    blocks = min(-(-block // chunk), count // _LEAST_BLOCKS)
    return block_interval(lambda at: of(means[at].mean(axis=0)), count, blocks, _REPEATS, 0).T.tolist()
