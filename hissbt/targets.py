"""What a network learns to forecast: the log return over the next ``horizon`` bars, its sign, its size; the trend.

Horizon convention: the label of bar t reads the closes of bars t … t+horizon and nothing else. It belongs to
the row of bar t, so the last ``horizon`` rows have no label yet and are NaN. Between a training span and what
follows it, ``overlap_bars`` must be purged: the labels of the last training bars would reach across the border.
"""

import math
from dataclasses import dataclass

import numpy as np
from numba import njit

from hissbt.errors import ConfigError


def forward_return(close: np.ndarray, horizon: int) -> np.ndarray:
    """Return ln(c[t+h] / c[t]) for closes [T]: float64 [T], NaN in the last ``horizon`` rows."""
    log_close = np.log(_closes(close, horizon))
    labels = np.full(len(log_close), np.nan)
    labels[:-horizon] = log_close[horizon:] - log_close[:-horizon]
    return labels


def direction(close: np.ndarray, horizon: int) -> np.ndarray:
    """Return 1.0 where the forward return is above zero, else 0.0: [T], NaN in the last ``horizon``."""
    returns = forward_return(close, horizon)
    return np.where(np.isnan(returns), np.nan, (returns > 0.0).astype(np.float64))


def realized_volatility(close: np.ndarray, horizon: int) -> np.ndarray:
    """Return the realized standard deviation of the ``horizon``-bar log return, for closes [T].

    It is the root of the sum of squared one-bar log returns over bars t+1 … t+h: a standard deviation over
    the whole horizon, not per bar and not annualized. NaN in the last ``horizon`` rows. Andersen, Bollerslev,
    Diebold and Labys, "Modeling and forecasting realized volatility", Econometrica 71 (2003).
    """
    squares = np.diff(np.log(_closes(close, horizon))) ** 2  # [T-1], squares[t] belongs to the return of bar t+1
    labels = np.full(len(close), np.nan)
    if len(squares) >= horizon:
        windows = np.lib.stride_tricks.sliding_window_view(squares, horizon)  # [T-h,h]
        labels[:-horizon] = np.sqrt(windows.sum(axis=1))
    return labels


def trend_regime(close: np.ndarray, span: int = 20) -> np.ndarray:
    """Return 1.0 for bull and 0.0 for bear, for closes [T]: is the mean of the past below that of the future?

    The past are the ``span`` closes up to t, with t; the future the ``span`` after t, so ``overlap_bars(span)``
    must be purged. NaN where either is not complete; equal means are bear. Labels side by side share all but one
    bar of each mean: of T labels some T / span are independent. arXiv 2407.15236 (2024), section 4.3.
    """
    close = _closes(close, span)
    labels = np.full(len(close), np.nan)
    if len(close) >= 2 * span:
        means = np.lib.stride_tricks.sliding_window_view(close, span).mean(axis=1)  # [T-span+1], t … t+span-1
        labels[span - 1 : -span] = means[:-span] < means[span:]
    return labels


def market_regime(close: np.ndarray, window: int, threshold: float = 0.5, memory: int = 4) -> np.ndarray:
    """Return 1.0 for bull, -1.0 for bear and 0.0 for sideways, for closes [T]: what the last ``window`` bars were.

    Bull is a log return of bars t-window+1 … t above ``threshold`` σ √window, bear one below its negative, where σ
    is the root mean square of the one-bar returns in the ``memory`` windows before: what was known when the window
    began. Unlike the other labels it looks back, at nothing after t: a target is what it will be a window later.
    NaN while window and memory are not complete, and where nothing moved in the memory.
    """
    log_close = np.log(_closes(close, window))
    length = memory * _checked(window)
    labels = np.full(len(log_close), np.nan)
    sums = np.cumsum(np.append(0.0, np.diff(log_close) ** 2))  # [T], sums[t] of the returns of bars 1 … t
    end = np.arange(length + window, len(labels))
    usual = np.sqrt(np.maximum(sums[end - window] - sums[end - window - length], 0.0) / length * window)
    moved = log_close[end] - log_close[end - window]
    side = np.sign(moved) * (np.abs(moved) > threshold * usual)
    labels[end] = np.where(usual > 0.0, side, np.nan)
    return labels


def overlap_bars(horizon: int) -> int:
    """Return how many bars after its own a label reads: the purge between splits."""
    return _checked(horizon)


def _closes(close: np.ndarray, horizon: int) -> np.ndarray:
    _checked(horizon)
    close = np.asarray(close, dtype=np.float64)
    if close.ndim != 1:
        raise ConfigError(f"closes of shape {close.shape} are not one series: give one close per bar [T]")
    return close


def _checked(horizon: int) -> int:
    if horizon < 1:
        raise ConfigError(f"horizon {horizon} is not a future: give at least 1 bar")
    return int(horizon)


@njit(cache=True)
def in_units(ret, logit, volatility, return_mean, return_std, volatility_scale):
    """Return expected_return, prob_up and volatility of one bar from a network's standardized outputs."""
    prob_up = 0.5 * (1.0 + math.tanh(0.5 * logit))  # the logistic function, without overflow
    return ret * return_std + return_mean, prob_up, volatility * volatility_scale


@dataclass(frozen=True)
class TargetScale:
    """The line between log returns and the standardized units that a network is trained in.

    Fitted on training labels only and stored in the bundle; training uses ``standardize``, everything that runs a
    network uses ``forecast``.
    """

    return_mean: float
    return_std: float
    volatility_scale: float

    @classmethod
    def fit(cls, returns: np.ndarray, volatility: np.ndarray) -> "TargetScale":
        """Fit on forward returns and realized volatilities [T]; NaN rows are left out."""
        return_std = float(np.nanstd(returns))  # 0 in a flat market, which then scales by 1
        root_mean_square = float(np.sqrt(np.nanmean(np.square(volatility))))
        return cls(float(np.nanmean(returns)), return_std or 1.0, root_mean_square or 1.0)

    def standardize(self, returns, directions, volatility) -> dict[str, np.ndarray]:
        """Return the labels [T] by the names of a network's outputs."""
        return {
            "return": (returns - self.return_mean) / self.return_std,
            "direction": directions,
            "volatility": volatility / self.volatility_scale,
        }

    def forecast(self, ret, logit, volatility) -> np.ndarray:
        """Turn standardized outputs, scalars or [T], into expected_return, prob_up, volatility: [3] or [3,T]."""
        heads = np.array([ret, logit, volatility], dtype=np.float64)  # [3] or [3,T]
        for row in heads.reshape(3, -1).T:
            row[:] = in_units(row[0], row[1], row[2], self.return_mean, self.return_std, self.volatility_scale)
        return heads
