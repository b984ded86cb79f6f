"""How sure a figure of overlapping, autocorrelated bars is."""

from collections.abc import Callable

import numpy as np

LEVEL = 0.95


def block_interval(
    statistic: Callable[[np.ndarray], np.ndarray], count: int, block: int, repeats: int, seed: int
) -> np.ndarray:
    """Return the 95 % percentile interval [2,...] of ``statistic`` under a circular block bootstrap.

    ``statistic`` is given positions of bars [count], drawn in blocks of ``block`` neighbors, and returns a vector.
    Politis, Romano, "A circular block-resampling procedure for stationary data", 1992; the draws are arch's.
    """
    from arch.bootstrap import CircularBlockBootstrap

    bootstrap = CircularBlockBootstrap(block, np.arange(count), seed=seed)
    return bootstrap.conf_int(statistic, reps=repeats, method="percentile", size=LEVEL)
