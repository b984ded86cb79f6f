"""What other orders of the same returns, drawn in blocks, would have shown: intervals of Sharpe and drawdown."""

import math

import numpy as np

from hissbt.research.performance import max_drawdown
from hissbt.research.resampling import block_interval

REPEATS = 1000


def block_length(returns: np.ndarray) -> int:
    """Return how many neighbors of ``returns`` [T] a block needs for their volatility to stay clustered in it.

    Of the squares, by the rule of Politis, White, Econometric Reviews 23 (2004), as corrected in 2009; at most a
    quarter of the record, so that blocks can be chosen at all.
    """
    from arch.bootstrap import optimal_block_length

    if np.ptp(returns) == 0:
        return 1
    wanted = float(optimal_block_length(np.asarray(returns) ** 2)["circular"].iloc[0])
    return max(1, min(math.ceil(wanted), len(returns) // 4))


def bootstrap_intervals(
    returns: np.ndarray, periods: float, *, seed: int, block: int | None = None, repeats: int = REPEATS
) -> dict[str, tuple[float, float]]:
    """Return 95 % intervals of the annual ``sharpe`` and of ``max_drawdown`` (0 to −1) of ``returns`` [T].

    ``periods`` are the observations of a year; ``block`` is ``block_length`` if left out. Blocks drawn with
    replacement keep what neighbors have in common and change the drift and the order of the rest, so the
    interval of the drawdown says what else might have happened, and need not hold the one that did.
    """
    returns = np.asarray(returns, dtype=np.float64)
    year = math.sqrt(periods)

    def figures(rows: np.ndarray) -> np.ndarray:
        drawn = returns[rows]
        deviation = drawn.std(ddof=1)
        return np.array([drawn.mean() / deviation * year if deviation else 0.0, max_drawdown(drawn)])

    found = block_interval(figures, len(returns), block or block_length(returns), repeats, seed)
    return {
        name: (float(low), float(high))
        for name, (low, high) in zip(("sharpe", "max_drawdown"), found.T, strict=True)
    }
