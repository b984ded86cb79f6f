"""The econometric rivals: horizon variances, seasons."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from hissbt.bars import Bars
from hissbt.econometrics import Garch
from hissbt.market import Market
from hissbt.research.rivals.econometric import ewma, garch, har, har_inputs
from hissbt.research.rivals.task import Task
from hissbt.targets import realized_volatility

WINDOWS = {"windows": (1, 24, 168)}


def seasonal_bars(count: int = 2_400) -> Bars:
    """Return hours whose variance has a time of day and a weekend, eight half-hour moves to a bar."""
    rng = np.random.default_rng(3)
    times = pd.date_range("2024-01-01", periods=count, freq="h", tz="UTC")
    log_variance = -11 + 1.5 * np.sin(2 * np.pi * times.hour / 24) - 1.5 * (times.day_of_week >= 5)
    moves = np.exp(log_variance.to_numpy() / 2)[:, None] * rng.standard_normal((count, 8)) / np.sqrt(8)
    path = 100 * np.exp(np.cumsum(moves.ravel())).reshape(count, 8)
    opened = np.append(100.0, path[:-1, -1])
    whole = np.column_stack([opened, path])
    columns = {"open": opened, "high": whole.max(1), "low": whole.min(1), "close": path[:, -1], "volume": 1.0}
    return Bars.from_frame(pd.DataFrame(columns, index=times), market=Market("X"), timeframe="1h", stamp="open")


def qlike(task: Task, said) -> float:
    ratio = np.exp(task.log_variance[task.judged]) / said.volatility**2
    return float(np.mean(ratio - np.log(ratio) - 1))


def test_har_with_a_season_beats_the_one_without_where_there_is_one():
    task = Task(seasonal_bars(), ("log_return",), 6, range(1_600), range(1_606, 2_000), range(2_006, 2_300))
    plain, ranged, seasonal = (
        qlike(task, har(terms, task, WINDOWS, 0))
        for terms in (("returns",), ("returns", "range"), ("returns", "range", "season"))
    )
    assert seasonal < 0.5 * ranged < 0.5 * plain


def test_har_sees_means_of_past_variances_and_nothing_before_they_are_complete(hourly_bars):
    inputs = har_inputs(hourly_bars, ("returns",), (1, 24), range(600))
    assert np.isnan(inputs[:24]).any(axis=1).all()
    assert np.isfinite(inputs[24:]).all()
    close = hourly_bars.frame["close"].to_numpy()
    past = np.append(np.full(24, np.nan), realized_volatility(close, 24)[:-24])
    assert inputs[24:, 1] == pytest.approx(np.log(past[24:] ** 2 / 24), rel=1e-6)


def test_a_bar_that_stood_still_is_not_a_bar_without_variance(hourly_bars):
    frame = hourly_bars.frame.copy()
    frame.iloc[300, :4] = frame["close"].iloc[299]
    bars = Bars(frame, hourly_bars.market, hourly_bars.timeframe)
    returns = np.diff(np.log(frame["close"].to_numpy()[:600]))
    still = har_inputs(bars, ("returns",), (1,), range(600))[300, 0]
    assert still == pytest.approx(np.log(0.01 * np.mean(returns**2)), rel=1e-9)


def test_weekdays_alone_are_the_season_of_daily_bars(hourly_bars):
    days = hourly_bars.resample("1d")
    assert har_inputs(days, ("season",), (1,), range(40)).shape[1] == 6
    assert har_inputs(hourly_bars, ("season",), (1,), range(40)).shape[1] == 6 + 23


@pytest.mark.parametrize("model", [Garch(), Garch(asymmetric=True, student=True)], ids=["GARCH", "GJR-t"])
def test_the_variance_of_a_horizon_is_the_sum_of_those_of_its_bars(hourly_bars, model):
    task = Task(hourly_bars, ("log_return",), 6, range(600), range(606, 700), range(706, 800))
    said = partial(garch, model)(task, {}, 0)
    returns = np.diff(np.log(hourly_bars.frame["close"].to_numpy()))
    fit = model.fit(returns[:599], errors=False)
    state = fit.initial_state()
    fit.filter(returns[: task.judged.start], state)
    assert said.volatility[0] ** 2 == pytest.approx(np.sum(fit.forecast(state, 6) ** 2), rel=1e-9)


def test_ewma_expects_the_present_variance_to_stay(hourly_bars):
    task = Task(hourly_bars, ("log_return",), 6, range(600), range(606, 700), range(706, 800))
    returns = np.diff(np.log(hourly_bars.frame["close"].to_numpy()))[: task.judged.start]
    weights = (1 - 2 / 25) ** np.arange(len(returns))[::-1]
    variance = 6 * np.average(returns**2, weights=weights)
    assert ewma(task, {"bars": 24}, 0).volatility[0] ** 2 == pytest.approx(variance, rel=1e-9)
