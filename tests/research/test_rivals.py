"""Every rival keeps the contract: shapes, opinions, causality, seeds."""

import numpy as np
import pytest

from hissbt.bars import Bars
from hissbt.features import default_features
from hissbt.research.audit.futures import noisy
from hissbt.research.rivals.roster import rivals
from hissbt.research.rivals.task import Task

NAMES = (
    *("HiSS", "flat S4D", "flat Mamba", "LSTM", "GRU", "Transformer", "m-GRU", "m-LSTM", "m-TKAN"),
    *("ridge", "random forest", "boosted trees", "support vectors", "nearest neighbors"),
    *("EWMA", "GARCH", "GJR-t", "HAR", "HAR + range", "HAR + range + season"),
    *("momentum", "buy and hold", "random walk"),
)
CONSTANT = ("buy and hold", "random walk")


def task_on(bars: Bars) -> Task:
    return Task(bars, default_features(bars.timeframe), 6, range(600), range(606, 700), range(706, 800))


def everyone(bars: Bars) -> dict:
    return {rival.name: rival for rival in rivals(bars.timeframe, quick=True)}


def arrays(forecasts) -> np.ndarray:
    return np.array([forecasts.expected_return, forecasts.prob_up, forecasts.volatility])


def test_the_roster_names_everyone_that_the_issue_names(hourly_bars):
    assert tuple(everyone(hourly_bars)) == NAMES


def test_whoever_has_a_choice_has_as_many_settings_as_the_others(hourly_bars):
    assert {len(rival.settings) for rival in everyone(hourly_bars).values()} == {1, 3}


@pytest.mark.parametrize("name", NAMES)
def test_a_rival_says_what_it_has_an_opinion_on_and_knows_nothing_of_the_future(hourly_bars, name):
    rival, task = everyone(hourly_bars)[name], task_on(hourly_bars)
    said = rival.forecast(task, rival.settings[0], 7)
    mean, prob_up, volatility = arrays(said)
    assert mean.shape == prob_up.shape == volatility.shape == (len(task.judged),)
    silent = {"econometric": 2 * [True] + [False], "rule": [False, False, name != "random walk"]}
    assert np.isnan(arrays(said)).all(axis=1).tolist() == silent.get(rival.family, 3 * [False])
    assert np.isnan(arrays(said)).any(axis=1).tolist() == silent.get(rival.family, 3 * [False])
    assert not ((prob_up < 0) | (prob_up > 1)).any()
    assert not (volatility <= 0).any()
    if rival.family in ("hiss", "network"):
        assert said.facts["parameters"] == pytest.approx(15_924, rel=0.05)

    unread = task.test.start  # the first bar that no label of the validation rows reads
    other = rival.forecast(task_on(noisy(hourly_bars, unread)), rival.settings[0], 7)
    known = unread - task.judged.start
    assert np.array_equal(arrays(said)[:, :known], arrays(other)[:, :known], equal_nan=True)
    same = np.array_equal(arrays(said)[:, known:], arrays(other)[:, known:], equal_nan=True)
    assert same == (name in CONSTANT)


@pytest.mark.parametrize("name", ["GRU", "support vectors", "ridge", "boosted trees"])
def test_another_seed_gives_another_forecast_where_there_is_chance_and_only_there(hourly_bars, name):
    rival, task = everyone(hourly_bars)[name], task_on(hourly_bars)
    one, two = (arrays(rival.forecast(task, rival.settings[0], seed)) for seed in (0, 1))
    assert np.array_equal(one, two) != rival.is_random


def test_momentum_expects_what_followed_the_same_way_in_training(hourly_bars):
    task = task_on(hourly_bars)
    said = everyone(hourly_bars)["momentum"].forecast(task, {"bars": 24}, 0)
    close = np.log(hourly_bars.frame["close"].to_numpy())
    rose = [row for row in task.train if close[row] > close[max(row - 24, 0)]]
    row = next(row for row in task.judged if close[row] > close[row - 24])
    at = row - task.judged.start
    assert said.prob_up[at] == np.mean(task.returns[rose] > 0)
    assert said.expected_return[at] == pytest.approx(task.returns[rose].mean(), rel=1e-12)


def test_a_switching_network_is_asked_for_the_next_bar_and_its_answer_drawn_out_along_a_line(hourly_bars):
    rival, inputs = everyone(hourly_bars)["m-LSTM"], ("log_return", "range")
    spans = range(600), range(606, 700), range(706, 800)
    near, far = (rival.forecast(Task(hourly_bars, inputs, h, *spans), rival.settings[0], 0) for h in (1, 6))
    assert near.volatility.mean() < far.volatility.mean()
    for one, other in (
        (near.expected_return, far.expected_return),
        (np.log(near.volatility), np.log(far.volatility)),
    ):
        assert abs(np.corrcoef(one, other)[0, 1]) == pytest.approx(1.0, rel=1e-9)
    assert (far.prob_up > 0.5).tolist() == (far.expected_return > 0).tolist()
