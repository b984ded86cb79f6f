"""How sure a Sharpe ratio is, given the shape of its returns and how many others were tried.

Bailey, López de Prado, "The Sharpe ratio efficient frontier", Journal of Risk 15(2), 2012 (PSR, minimum track
record) and "The deflated Sharpe ratio", Journal of Portfolio Management 40(5), 2014 (DSR). Letters: SR Sharpe
ratio per observation, T observations, N trials, V variance of the trials' Sharpe ratios.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Moments:
    """What the error of a Sharpe ratio depends on; those of normal returns unless said."""

    sharpe: float
    """Per observation."""
    count: float
    """Independent observations."""
    skew: float = 0.0
    kurtosis: float = 3.0
    """Not the excess: 3 for normal returns."""

    @classmethod
    def of(cls, returns: np.ndarray) -> "Moments":
        """Measure ``returns`` [T], with the corrections for bias; NaN where they are too few or never change."""
        from scipy.stats import kurtosis, skew  # half a second, which what only imports a backtest need not wait

        returns = np.asarray(returns, dtype=np.float64)
        if len(returns) < 4 or np.ptp(returns) == 0:
            return cls(math.nan, len(returns), math.nan, math.nan)
        return cls(
            float(returns.mean() / returns.std(ddof=1)),
            len(returns),
            float(skew(returns, bias=False)),
            float(kurtosis(returns, fisher=False, bias=False)),
        )

    @property
    def unit_variance(self) -> float:
        """Variance of the estimated Sharpe ratio, times T − 1; NaN if moments of few returns allow none."""
        variance = 1 - self.skew * self.sharpe + (self.kurtosis - 1) / 4 * self.sharpe**2
        return variance if variance > 0 else math.nan


def psr(returns: np.ndarray | Moments, benchmark: float = 0.0) -> float:
    """Return the probability that the true Sharpe ratio is above ``benchmark``, per observation.

    Φ((SR − benchmark) √(T − 1) / √(1 − skew SR + (kurtosis − 1) / 4 SR²)), of returns [T] or their moments. It
    knows of skew and fat tails, not of autocorrelation. NaN where the moments are not defined.
    """
    moments = _moments(returns)
    error = math.sqrt(moments.unit_variance / (moments.count - 1)) if moments.count > 1 else math.nan
    return float(ndtr((moments.sharpe - benchmark) / error))


def min_track_record(
    returns: np.ndarray | Moments, benchmark: float = 0.0, confidence: float = CONFIDENCE
) -> float:
    """Return how many observations with these moments would make ``psr`` as high as ``confidence``.

    Infinite where the Sharpe ratio is not above ``benchmark``, NaN where the moments are not defined.
    """
    moments = _moments(returns)
    ahead = moments.sharpe - benchmark
    return math.inf if ahead <= 0 else float(1 + moments.unit_variance * (ndtri(confidence) / ahead) ** 2)


def expected_max_sharpe(variance: float, n: float) -> float:
    """Return the Sharpe ratio that the best of ``n`` independent trials without skill is expected to reach (SR0).

    ``variance`` is that of the trials' Sharpe ratios; the result is per observation if they are. Equation 1 of the
    article, with Euler's constant; one trial is no choice, so 0.
    """
    if n <= 1:
        return 0.0
    typical, extreme = ndtri(1 - 1 / n), ndtri(1 - 1 / (n * math.e))
    return float(math.sqrt(variance) * ((1 - np.euler_gamma) * typical + np.euler_gamma * extreme))


@dataclass(frozen=True)
class Deflated:
    """A Sharpe ratio set against the luck of the best of ``n`` trials; all per observation."""

    sr: float
    sr0: float
    """What the best of the trials would be expected to reach without skill."""
    n: float
    variance: float
    """Of the trials' Sharpe ratios."""
    dsr: float
    """Probability that the true Sharpe ratio is above ``sr0``."""


def dsr(returns: np.ndarray | Moments, trial_sharpes: Sequence[float], n: float | None = None) -> Deflated:
    """Deflate the Sharpe ratio of ``returns`` [T], or of their moments, by the trials it was chosen from.

    ``trial_sharpes`` are the Sharpe ratios per observation of all that was tried, this one too, each a finite
    number; ``n`` is how many trials count, all of them if left out: more where some failed before they had a
    Sharpe ratio, fewer where they are known to be alike. Fewer than two have no variance, and deflate nothing.
    """
    moments = _moments(returns)
    count = len(trial_sharpes) if n is None else n
    variance = float(np.var(trial_sharpes, ddof=1)) if len(trial_sharpes) > 1 else 0.0
    sr0 = expected_max_sharpe(variance, count)
    return Deflated(moments.sharpe, sr0, count, variance, psr(moments, sr0))


def _moments(returns: np.ndarray | Moments) -> Moments:
    return returns if isinstance(returns, Moments) else Moments.of(returns)
