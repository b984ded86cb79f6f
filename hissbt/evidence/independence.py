"""How many independent values a sample of autocorrelated ones is worth."""

import numpy as np


def effective_size(values: np.ndarray, lags: int) -> float:
    """Return how many independent values would tell as much about the mean as ``values`` [T] do.

    T / (1 + 2 Σ w(k) ρ(k)) with autocorrelations ρ up to ``lags`` and Bartlett's weights w(k) = 1 − k / (lags + 1)
    (Newey, West, Econometrica 55(3), 1987). Constant values count as independent; it is never more than T.
    """
    values = np.asarray(values, dtype=np.float64)
    centered = values - values.mean()
    variance = centered @ centered
    if variance == 0:
        return float(len(values))
    reach = range(1, min(lags, len(values) - 1) + 1)
    inflation = 1 + 2 * sum(
        (1 - lag / (lags + 1)) * (centered[lag:] @ centered[:-lag]) / variance for lag in reach
    )
    return float(min(len(values) / max(inflation, 1 / len(values)), len(values)))


def disjoint_size(count: int, overlap: int) -> float:
    """Return how many of ``count`` labels in a row share no bar, where each reaches ``overlap`` bars ahead."""
    return count / overlap
