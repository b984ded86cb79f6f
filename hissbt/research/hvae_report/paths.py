"""What returns look like as paths: the statistics by which made-up ones are told from real ones.

Everywhere ``paths`` are log returns [N,T], N paths of T bars in natural units. Whatever is compared is estimated
from paths of the same length on both sides, so that the bias of short samples is on both sides as well.

Which statistics: Cont, "Empirical properties of asset returns: stylized facts and statistical issues",
Quantitative Finance 1 (2001); distances as in Ni, Szpruch, Wiese, Liao and Xiao (arXiv 2006.05421).
"""

from collections.abc import Mapping

import numpy as np
from scipy.stats import kurtosis, skew, wasserstein_distance

from hissbt.research.performance import max_drawdown

SCALES = (1, 4, 16, 64)
"""Bars whose returns are added up."""
ABSOLUTE_LAGS = 64
LEVERAGE_LAGS = 20
TAIL = 0.05
"""The share of the largest absolute returns that the Hill index is estimated from."""


def windows(series: np.ndarray, length: int) -> np.ndarray:
    """Return the parts [N,length] of a series [T] that follow each other; what is left over at its start is out.

    The same for paths [M,T], each cut on its own.
    """
    series = np.atleast_2d(series)
    count = series.shape[1] // length
    return series[:, series.shape[1] - count * length :].reshape(-1, length)


def aggregated(paths: np.ndarray, scale: int) -> np.ndarray:
    """Return the log returns [M] over blocks of ``scale`` bars of all paths; no block is part of two."""
    return windows(paths, scale).sum(axis=1)


def distances(real: np.ndarray, made: np.ndarray, splits: int = 20, seed: int = 0) -> dict[int, float]:
    """Return how far ``made`` paths are from ``real`` ones, by scale: 1 is as far as real ones from real ones.

    The real paths are split at random into halves; the Wasserstein-1 distance of as many made paths to one half is
    divided by that of the other half, both means over the splits. Equal sample sizes, so that what is made by the
    same law comes out at 1, not below and not above.
    """
    rng = np.random.default_rng(seed)
    half = len(real) // 2
    sums = {scale: np.zeros(2) for scale in SCALES if scale <= real.shape[1]}
    for _ in range(splits):
        order = rng.permutation(len(real))
        one, other = real[order[:half]], real[order[half : 2 * half]]
        some = made[rng.choice(len(made), half, replace=len(made) < half)]
        for scale, total in sums.items():
            reference = aggregated(one, scale)
            total += [wasserstein_distance(reference, aggregated(each, scale)) for each in (some, other)]
    return {scale: float(to_made / to_real) for scale, (to_made, to_real) in sums.items()}


def moments(returns: np.ndarray) -> dict[str, float]:
    """Return mean, standard deviation, skew and excess kurtosis of all values."""
    values = np.ravel(returns)
    return {
        "mean": float(values.mean()),
        "deviation": float(values.std()),
        "skew": float(skew(values)),
        "kurtosis": float(kurtosis(values)),
    }


def kurtosis_by_scale(paths: np.ndarray) -> dict[int, float]:
    """Return the excess kurtosis of returns over each of ``SCALES``; in real markets it falls with the scale."""
    return {scale: float(kurtosis(aggregated(paths, scale))) for scale in SCALES if scale <= paths.shape[1]}


def correlations(leading: np.ndarray, lagging: np.ndarray, lags: int) -> np.ndarray:
    """Return corr(leading(t), lagging(t+k)) for k = 1 … ``lags`` of values [N,T], pooled over the paths.

    Means and deviations are those of all paths together, so that a calm path beside a wild one counts as memory.
    """
    a, b = ((values - values.mean()) / values.std() for values in (leading, lagging))
    return np.array([np.mean(a[:, :-lag] * b[:, lag:]) for lag in range(1, lags + 1)])


def absolute_correlations(paths: np.ndarray) -> np.ndarray:
    """Return the autocorrelation of |r| at lags 1 … 64, or as far as the paths reach: volatility clusters."""
    size = np.abs(paths)
    return correlations(size, size, min(ABSOLUTE_LAGS, paths.shape[1] - 1))


def leverage(paths: np.ndarray) -> np.ndarray:
    """Return corr(r(t), r²(t+k)) for k = 1 … 20: below 0 where falls bring more volatility than rises."""
    return correlations(paths, paths**2, min(LEVERAGE_LAGS, paths.shape[1] - 1))


def hill_index(values: np.ndarray, share: float = TAIL) -> float:
    """Return the exponent of the tail of |values|: 3 to 4 in most markets, the smaller the heavier.

    Hill, "A simple general approach to inference about the tail of a distribution", Annals of Statistics 3 (1975),
    from the largest ``share`` of the values.
    """
    ordered = np.sort(np.abs(np.ravel(values)))[::-1]
    count = max(int(share * len(ordered)), 1)
    return float(1 / np.mean(np.log(ordered[:count] / ordered[count])))


def drawdowns(paths: np.ndarray) -> np.ndarray:
    """Return the largest loss from a peak [N] within each path: −1 to 0."""
    return np.array([max_drawdown(np.expm1(path)) for path in paths])


def by_regime(paths: np.ndarray, threshold: float) -> dict[str, dict[str, float]]:
    """Return moments of the bars in paths that rise, fall, and do neither, and the share of such paths.

    A path is bull where its return is above ``threshold``, bear where it is below −threshold, else sideways.
    """
    total = paths.sum(axis=1)
    kinds = {
        "bull": total > threshold,
        "bear": total < -threshold,
        "sideways": np.abs(total) <= threshold,
    }
    return {
        name: {"share": float(chosen.mean())} | (moments(paths[chosen]) if chosen.any() else {})
        for name, chosen in kinds.items()
    }


def described(paths: np.ndarray, real: np.ndarray, threshold: float, seed: int = 0) -> dict:
    """Return all statistics of ``paths``, and their distances from the ``real`` paths of the same length."""
    absolute, lever, falls = absolute_correlations(paths), leverage(paths), drawdowns(paths)
    return {
        "distance": {str(scale): found for scale, found in distances(real, paths, seed=seed).items()},
        "moments": moments(paths),
        "kurtosis": {str(scale): found for scale, found in kurtosis_by_scale(paths).items()},
        "regimes": by_regime(paths, threshold),
        "absolute_correlations": absolute.tolist(),
        "absolute_distance": float(np.abs(absolute - absolute_correlations(real)).mean()),
        "leverage": lever.tolist(),
        "leverage_distance": float(np.abs(lever - leverage(real)).mean()),
        "hill": hill_index(paths),
        "drawdown": quantiles(falls),
        "drawdown_distance": float(wasserstein_distance(falls, drawdowns(real))),
        "paths": len(paths),
    }


def quantiles(values: np.ndarray) -> Mapping[str, float]:
    """Return the 5, 50 and 95 % quantiles by name."""
    return {f"{level}%": float(np.quantile(values, level / 100)) for level in (5, 50, 95)}
