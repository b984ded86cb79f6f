"""scikit-learn's models are used as by hand."""

from functools import partial

import numpy as np
import pytest

from hissbt.errors import BarsError
from hissbt.features import default_features
from hissbt.research.rivals import tabular
from hissbt.research.rivals.measures import smearing, step_us
from hissbt.research.rivals.task import Task


@pytest.fixture(scope="module")
def task(hourly_bars) -> Task:
    return Task(
        hourly_bars, default_features(hourly_bars.timeframe), 6, range(600), range(606, 700), range(706, 800)
    )


def test_ridge_is_what_the_normal_equations_give(task):
    said = partial(tabular.tabular_forecast, tabular.ridge, None)(task, {"alpha": 10.0}, 0)
    train, judged = list(task.train), list(task.judged)
    x = np.clip((task.x - task.x[train].mean(0)) / task.x[train].std(0), -8, 8)
    center = x[train].mean(0)

    def line(y: np.ndarray, rows: list[int]) -> np.ndarray:
        z, v = x[train] - center, y[train] - y[train].mean()
        weights = np.linalg.solve(z.T @ z + 10.0 * np.eye(z.shape[1]), z.T @ v)
        return (x[rows] - center) @ weights + y[train].mean()

    assert said.expected_return == pytest.approx(line(task.returns, judged), rel=1e-9)
    residual = task.log_variance[train] - line(task.log_variance, train)
    variance = np.exp(line(task.log_variance, judged)) * np.exp(residual).mean()
    assert said.volatility**2 == pytest.approx(variance, rel=1e-9)


def test_neighbors_are_looked_for_in_a_sample_over_the_whole_of_training(task):
    few, last = (
        partial(tabular.tabular_forecast, tabular.neighbors, most)(task, {"k": 3}, 0).expected_return
        for most in (3, None)
    )
    rows = [0, 299, 599]
    assert few == pytest.approx(task.returns[rows].mean(), rel=1e-9)
    assert last.std() > 0


def test_probabilities_of_support_vectors_are_calibrated_and_not_votes(task):
    said = partial(tabular.tabular_forecast, tabular.support, None)(task, {"gamma": 0.01, "cost": 0.01}, 0)
    assert len(np.unique(said.prob_up)) > 50


def test_a_price_that_only_rises_is_expected_to_rise(hourly_bars):
    price = 100 * np.exp(np.linspace(0, 1, len(hourly_bars)))
    bars = hourly_bars.with_values(np.column_stack([*4 * [price], np.ones(len(price))]))
    task = Task(bars, ("log_return", "range"), 6, range(600), range(606, 700), range(706, 800))
    said = tabular.tabular_forecast(tabular.ridge, None, task, {"alpha": 1.0}, 0)
    assert (said.prob_up == 1.0).all()
    assert said.expected_return == pytest.approx(6 / (len(bars) - 1), rel=1e-6)


def test_smearing_makes_the_mean_of_the_ratio_one():
    rng = np.random.default_rng(0)
    forecast, realized = rng.normal(size=(2, 500))
    factor = smearing(forecast, realized)
    assert np.mean(np.exp(realized) / (factor * np.exp(forecast))) == pytest.approx(1.0, rel=1e-12)


def test_the_time_of_a_step_grows_with_its_work():
    short, long = (step_us(lambda n: sum(range(n)), 20 * [n]) for n in (1_000, 100_000))
    assert long > 10 * short


def test_more_neighbors_than_rows_are_refused(task):
    with pytest.raises(BarsError, match="600 rows"):
        tabular.tabular_forecast(tabular.neighbors, None, task, {"k": 601}, 0)
