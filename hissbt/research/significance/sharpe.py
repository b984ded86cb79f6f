"""The probability of backtest overfitting: how often the best in sample is below the median out of sample.

Bailey, Borwein, López de Prado, Zhu, "The probability of backtest overfitting", Journal of Computational Finance
20(4), 2017: combinatorially symmetric cross-validation (CSCV). Letters: T observations, N strategies, S blocks of
rows, C = binomial(S, S/2) ways to call one half of the blocks in sample and the other out of sample.
"""

import math
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from hissbt.errors import ConfigError

_AT_ONCE = 1024
"""Ways that are scored at once, so that a thousand strategies need no gigabytes."""


@dataclass(frozen=True)
class Overfitting:
    """What became out of sample of the strategy that was best in sample, one entry a way [C]."""

    logits: np.ndarray
    """log(ω / (1 − ω)), ω being its rank out of sample over N + 1: 0 at the median, below it worse."""
    in_sample: np.ndarray
    """Its Sharpe ratio per observation in sample,"""
    out_of_sample: np.ndarray
    """and out of sample."""

    @property
    def pbo(self) -> float:
        """Share of the ways in which it was below the median; the median itself counts half, so noise has 0.5."""
        return float(np.mean(self.logits < 0) + np.mean(self.logits == 0) / 2)

    @property
    def degradation(self) -> float:
        """Slope of the Sharpe ratio out of sample on that in sample; NaN if the latter is always the same."""
        spread = self.in_sample - self.in_sample.mean()
        return float(spread @ self.out_of_sample / (spread @ spread)) if spread.any() else math.nan

    @property
    def probability_of_loss(self) -> float:
        """Share of the ways in which it lost out of sample."""
        return float(np.mean(self.out_of_sample < 0))


def pbo(returns: np.ndarray, blocks: int = 16) -> Overfitting:
    """Judge the choice of the best of N strategies by their ``returns`` [T,N], which share a clock.

    All of what was tried belongs in the matrix. The rows are cut into an even number of ``blocks``, all as long;
    up to ``blocks`` − 1 of the first rows are left out to make them so. A strategy that never trades has Sharpe 0.
    Raises ConfigError for an odd number of blocks, blocks of fewer than 2 rows, or fewer than 2 strategies.
    """
    if blocks < 2 or blocks % 2:
        raise ConfigError(
            f"blocks is {blocks}: give an even number, so that one half can be set against the other"
        )
    rows, strategies = returns.shape
    length = rows // blocks
    if length < 2 or strategies < 2:
        raise ConfigError(
            f"{rows} returns of {strategies} strategies are too few for {blocks} blocks: give at least 2 "
            f"strategies and {2 * blocks} returns, or fewer blocks"
        )
    parts = returns[rows - length * blocks :].reshape(blocks, length, strategies)
    halves = np.array([np.isin(np.arange(blocks), chosen) for chosen in combinations(range(blocks), blocks // 2)])
    scored = [_score(parts, some) for some in np.split(halves, range(_AT_ONCE, len(halves), _AT_ONCE))]
    return Overfitting(*(np.concatenate(column) for column in zip(*scored, strict=True)))


def _score(parts: np.ndarray, halves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return logits and Sharpe ratios [c] in and out of sample of the best, for parts [S,L,N] and halves [c,S]."""
    inside, outside = _sharpes(parts, halves), _sharpes(parts, ~halves)  # [c,N]
    every, best = np.arange(len(halves)), inside.argmax(axis=1)
    achieved = outside[every, best]
    below = (outside < achieved[:, None]).sum(axis=1)
    alike = (outside == achieved[:, None]).sum(axis=1)  # itself too; what is alike shares a mean rank
    share = (below + (alike + 1) / 2) / (outside.shape[1] + 1)
    return np.log(share / (1 - share)), inside[every, best], achieved


def _sharpes(parts: np.ndarray, halves: np.ndarray) -> np.ndarray:
    """Return the Sharpe ratios [c,N] over the blocks of ``parts`` [S,L,N] that each of ``halves`` [c,S] names."""
    center = parts.mean(axis=(0, 1))  # so that the sum of squares does not swallow the variance
    centered, chosen = parts - center, halves.astype(np.float64)
    count = halves[0].sum() * parts.shape[1]
    shift = chosen @ centered.sum(axis=1) / count
    variance = (chosen @ (centered**2).sum(axis=1) - count * shift**2) / (count - 1)
    changes = variance > 0
    return np.where(changes, (center + shift) / np.sqrt(np.where(changes, variance, 1)), 0.0)
