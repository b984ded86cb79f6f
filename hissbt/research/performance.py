"""What positions that are held from close to close would have earned, bar by bar, without an engine.

For tables of many forecasts at once; a strategy that is meant to be believed runs through ``hissbt.backtest``.
Position p(t) is decided at close t and earns r(t+1), the simple return of the asset to the next close, on an
account that is rebalanced at every close. Ratios are annualized with the periods of a year and no risk-free rate.
"""

import math

import numpy as np


def strategy_returns(positions: np.ndarray, asset: np.ndarray, cost: float = 0.0) -> np.ndarray:
    """Return the simple returns [...,T] of ``positions`` [...,T] over the ``asset``'s next returns [T].

    ``cost`` is a fraction of what is traded: of |p(t) − p(t−1)|, the first position being an entry from 0.
    """
    before = np.concatenate([np.zeros_like(positions[..., :1]), positions[..., :-1]], axis=-1)
    return positions * asset - cost * np.abs(positions - before)


def turnover(positions: np.ndarray) -> float:
    """Return the mean of |p(t) − p(t−1)| over the T−1 steps of ``positions`` [T]; a turn from +1 to −1 is 2."""
    return float(np.abs(np.diff(positions)).mean())


def max_drawdown(returns: np.ndarray) -> float:
    """Return the largest loss from a peak of the compounded account, 1 before the first return: −1 to 0."""
    wealth = np.concatenate([[1.0], np.cumprod(1 + returns)])
    return float((wealth / np.maximum.accumulate(wealth) - 1).min())


def max_drawdown_of_sum(returns: np.ndarray) -> float:
    """Return the deepest fall of the sum of returns from its peak, which is 0 before the first of them.

    It can be below −1, where no account can lose more than it has: an article that prints this added returns up.
    """
    total = np.concatenate([[0.0], np.cumsum(returns)])
    return float((total - np.maximum.accumulate(total)).min())


def beta_alpha(returns: np.ndarray, asset: np.ndarray, periods: int) -> tuple[float, float]:
    """Return slope and annualized intercept of ``returns`` [T] regressed on those of the ``asset`` [T]."""
    spread = asset - asset.mean()
    beta = float(spread @ returns / (spread @ spread))
    return beta, float((returns.mean() - beta * asset.mean()) * periods)


def performance(positions: np.ndarray, asset: np.ndarray, periods: int, cost: float = 0.0) -> dict[str, float]:
    """Judge ``positions`` [T] over the ``asset``'s next returns [T]; NaN for what is not defined.

    ``sortino`` divides by the deviation of the losing days, as pandas and the article of the preset have it;
    ``sortino_downside`` by the root mean square of losses over all days, as in ``hissbt.reports.metrics``.
    ``mean_return_on_volume`` is the mean return over the annual turnover: the cost at which nothing would be left.
    """
    returns = strategy_returns(positions, asset, cost)
    mean, year = float(returns.mean() * periods), math.sqrt(periods)
    losses = returns[returns < 0]
    daily = turnover(positions)
    beta, alpha = beta_alpha(returns, asset, periods)
    deviation = float(returns.std(ddof=1) * year)
    return {
        "mean_return": mean,
        "deviation": deviation,
        "sharpe": _ratio(mean, deviation),
        "max_drawdown_of_sum": max_drawdown_of_sum(returns),
        "max_drawdown": max_drawdown(returns),
        "sortino": _ratio(mean, float(losses.std(ddof=1) * year) if len(losses) > 1 else 0.0),
        "sortino_downside": _ratio(mean, float(np.sqrt(np.mean(np.minimum(returns, 0) ** 2)) * year)),
        "daily_turnover": daily,
        "annual_turnover": daily * periods,
        "mean_return_on_volume": _ratio(mean, daily * periods),
        "beta": beta,
        "alpha": alpha,
    }


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else math.nan
