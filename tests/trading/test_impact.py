import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.trading.impact import Impact

RNG = np.random.default_rng(5)
CLOSES = 100 * np.exp(np.cumsum(RNG.normal(0, 0.01, 400)))
VOLUMES = RNG.uniform(1, 9, 400)


def after(count, *, half_spread=0.0, coefficient=1.0, bars_per_day=24.0):
    impact = Impact(half_spread, coefficient, bars_per_day)
    for close, volume in zip(CLOSES[:count].tolist(), VOLUMES[:count].tolist(), strict=True):
        impact.update((close, volume))
    return impact


def test_the_half_spread_alone_needs_no_history():
    assert Impact(0.0002, 0.0, 24.0).cost(1e9) == 0.0002


def test_a_market_that_was_never_seen_costs_the_half_spread():
    assert Impact(0.0002, 1.0, 24.0).cost(1.0) == 0.0002


@pytest.mark.parametrize("count", [2, 30, 400])
def test_until_there_are_thirty_days_every_bar_weighs_the_same(count):
    history = pd.Series(CLOSES[:count])
    variance = (np.log(history).diff().dropna() ** 2).expanding().mean().iloc[-1]
    volume = pd.Series(VOLUMES[:count]).expanding().mean().iloc[-1]
    expected = 0.0001 + 0.8 * math.sqrt(24 * variance) * math.sqrt(3.0 / (24 * volume))
    assert after(count, half_spread=0.0001, coefficient=0.8).cost(3.0) == pytest.approx(expected, rel=1e-9)


def test_from_thirty_days_on_the_mean_is_exponential():
    window = 30  # one bar a day
    squares = np.log(pd.Series(CLOSES)).diff().dropna() ** 2

    def mean(values):
        # The plain mean of the first bars, and then weights 1/30: pandas begins its recursion with a first value.
        start = pd.Series([values.iloc[:window].mean()])
        rest = pd.concat([start, values.iloc[window:]])
        return rest.ewm(alpha=1 / window, adjust=False).mean().iloc[-1]

    expected = math.sqrt(mean(squares)) * math.sqrt(2.0 / mean(pd.Series(VOLUMES)))
    assert after(400, bars_per_day=1.0).cost(2.0) == pytest.approx(expected, rel=1e-9)


@given(st.floats(0.01, 100), st.floats(0.01, 100))
def test_it_grows_with_the_square_root_of_the_quantity(quantity, factor):
    impact = after(100)
    one, other = impact.cost(quantity), impact.cost(quantity * factor)
    if max(one, other) < 0.9:
        assert other == pytest.approx(one * math.sqrt(factor), rel=1e-9)


def test_a_market_without_volume_counts_as_if_its_whole_day_were_traded():
    impact = Impact(0.0, 1.0, 24.0)
    impact.update((100.0, 0.0), (101.0, 0.0))
    assert impact.cost(5.0) == pytest.approx(math.log(1.01) * math.sqrt(24))


def test_a_sale_always_leaves_something():
    assert after(100, coefficient=1e6).cost(1e6) == 0.99


def test_several_bars_at_once_are_the_same_as_one_after_the_other():
    at_once = Impact(0.0, 1.0, 24.0)
    at_once.update(*zip(CLOSES.tolist(), VOLUMES.tolist(), strict=True))
    assert at_once.cost(1.0) == after(400).cost(1.0)


def test_asking_in_between_changes_nothing():
    asked = Impact(0.0, 1.0, 24.0)
    for bar in zip(CLOSES.tolist(), VOLUMES.tolist(), strict=True):
        asked.update(bar)
        asked.cost(1.0)
    assert asked.cost(1.0) == after(400).cost(1.0)


@pytest.mark.parametrize("bar", [(math.nan, 5.0), (100.0, math.nan), (0.0, 5.0)])
def test_a_bar_without_a_price_or_a_volume_tells_nothing(bar):
    impact = after(20)
    before = impact.cost(3.0)
    impact.update(bar)
    assert impact.cost(3.0) == before
