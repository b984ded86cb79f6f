"""Rivals from econometrics, for volatility only: EWMA, GARCH and GJR, HAR with range and season.

Their other forecasts are NaN: they have no opinion on where the price goes. HAR is here a regression of the log of
the variance over the horizon on logs of mean variances over several spans, its exponential smeared, after Corsi,
"A simple approximate long-memory model of realized volatility", Journal of Financial Econometrics 7 (2009).
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from hissbt.bars import Bars
from hissbt.econometrics import Garch
from hissbt.features import LN2, LOWEST_VARIANCE, FeatureSet
from hissbt.research.rivals.measures import smearing, step_us
from hissbt.research.rivals.task import Forecasts, Task
from hissbt.timeframe import is_intraday

Terms = Literal["returns", "range", "season"]
_STEPS = 100  # decisions that are timed


def ewma(task: Task, settings: Mapping[str, Any], seed: int) -> Forecasts:
    """Expect the exponentially weighted variance of past returns to go on; ``settings["bars"]`` is its span."""
    now = FeatureSet([f"ewm_volatility:{settings['bars']}"]).scan(task.bars.arrays())[:, 0]
    return _volatility(task, np.sqrt(task.horizon) * np.maximum(now, np.sqrt(LOWEST_VARIANCE)), {"parameters": 0})


def garch(model: Garch, task: Task, settings: Mapping[str, Any], seed: int) -> Forecasts:
    """Fit ``model`` to the returns of the training rows, follow it over all bars, sum its variance ahead."""
    begun = time.process_time()
    returns = FeatureSet(["log_return"]).scan(task.bars.arrays())[: task.test.stop]
    fit = model.fit(returns[max(task.train.start, 1) : task.train.stop, 0], errors=False)  # the first bar has none
    fit_seconds = time.process_time() - begun
    ahead = fit.over(np.append(np.nan, fit.filter(returns[1:, 0])), task.horizon)
    state = fit.initial_state()
    facts = {
        "parameters": len(fit.params),
        "fit_seconds": fit_seconds,
        "step_us": step_us(lambda row: fit.over(fit.step(row, state), task.horizon), returns[1 : _STEPS + 1]),
    }
    return _volatility(task, ahead, facts)


def har(terms: Sequence[Terms], task: Task, settings: Mapping[str, Any], seed: int) -> Forecasts:
    """Regress the log variance on ``har_inputs`` over ``settings["windows"]``, fitted to the training rows."""
    from sklearn.linear_model import LinearRegression

    begun = time.process_time()
    inputs = har_inputs(task.bars[: task.test.stop], terms, settings["windows"], task.train)
    rows = np.array([row for row in task.train if np.isfinite(inputs[row]).all()])
    fit = LinearRegression().fit(inputs[rows], task.log_variance[rows])
    factor = smearing(fit.predict(inputs[rows]), task.log_variance[rows])
    known = np.isfinite(inputs).all(axis=1)
    volatility = np.full(len(inputs), np.nan)
    volatility[known] = np.sqrt(factor * np.exp(fit.predict(inputs[known])))
    facts = {"parameters": inputs.shape[1] + 1, "fit_seconds": time.process_time() - begun}
    return _volatility(task, volatility, facts)


def har_inputs(bars: Bars, terms: Sequence[Terms], windows: Sequence[int], train: range) -> np.ndarray:
    """Return what a HAR regression sees at each bar [T,k]; NaN until the longest window is full.

    ``returns`` and ``range`` are logs of the mean squared return and of the mean of Parkinson's variance over each
    of ``windows`` bars, never below a hundredth of what the rows ``train`` have on average, as a single bar that
    stood still says little. ``season`` are 1 or 0 for each weekday and hour (UTC) of the close but one of each.
    """
    log_return, log_range = FeatureSet(("log_return", "range")).scan(bars.arrays()).T
    log_return[0] = np.nan
    variances = {"returns": log_return**2, "range": log_range**2 / (4.0 * LN2)}
    columns = [
        _log_mean(variances[term], window, train) for term in terms if term != "season" for window in windows
    ]
    if "season" in terms:
        columns.extend(_season(bars))
    return np.column_stack(columns)


def _log_mean(variance: np.ndarray, window: int, train: range) -> np.ndarray:
    """Return the log [T] of the mean over the last ``window`` bars."""
    floor = max(0.01 * float(np.nanmean(variance[train])), LOWEST_VARIANCE)
    return np.log(pd.Series(variance).rolling(window).mean().clip(lower=floor).to_numpy())


def _season(bars: Bars) -> list[np.ndarray]:
    """Return 1 or 0 [T] for every weekday and hour of the close but one of each, which is the constant."""
    times = bars.frame.index
    days = [times.day_of_week == day for day in range(1, 7)]
    hours = [times.hour == hour for hour in range(1, 24)] if is_intraday(bars.timeframe) else []
    return [np.asarray(flag, dtype=np.float64) for flag in (*days, *hours)]


def _volatility(task: Task, volatility: np.ndarray, facts: Mapping[str, Any]) -> Forecasts:
    """Return forecasts of nothing but the volatility [T]."""
    silent = np.full(len(task.judged), np.nan)
    return Forecasts(silent, silent, volatility[task.judged], facts)
