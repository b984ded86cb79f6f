"""Targets: equal to plain loops, and reading no more than ``horizon`` bars ahead."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from hissbt.errors import ConfigError
from hissbt.targets import (
    TargetScale,
    direction,
    forward_return,
    market_regime,
    overlap_bars,
    realized_volatility,
    trend_regime,
)

closes = arrays(float, st.integers(1, 40), elements=st.floats(0.01, 1e6) | st.just(100.0))
horizons = st.integers(1, 45)
LABELS = (forward_return, direction, realized_volatility)


def looped(close: np.ndarray, h: int) -> np.ndarray:
    """The three labels [T, 3] by definition, NaN where the horizon ends after the last bar."""
    labels = np.full((len(close), 3), np.nan)
    for t in range(len(close) - h):
        total = math.log(close[t + h]) - math.log(close[t])
        steps = [math.log(close[k]) - math.log(close[k - 1]) for k in range(t + 1, t + h + 1)]
        labels[t] = total, float(close[t + h] > close[t]), math.sqrt(math.fsum(step**2 for step in steps))
    return labels


@given(closes, horizons)
def test_labels_equal_plain_loops(close, h):
    labels = np.column_stack([label(close, h) for label in LABELS])
    expected = looped(close, h)
    assert_array_equal(np.isnan(labels), np.isnan(expected))
    assert_allclose(labels[:, [0, 2]], expected[:, [0, 2]], rtol=1e-9, atol=1e-12)
    clear = np.abs(expected[:, 0]) > 1e-12
    assert_array_equal(labels[clear, 1], expected[clear, 1])


@given(closes, horizons, st.data())
def test_a_label_reads_its_horizon_and_no_bar_further(close, h, data):
    t = data.draw(st.integers(0, len(close) - 1))
    altered = close.copy()
    altered[t + overlap_bars(h) + 1 :] *= 3.0
    for label in LABELS:
        assert_array_equal(label(altered, h)[: t + 1], label(close, h)[: t + 1])


def test_a_label_reads_its_horizon_to_the_last_bar():
    close = np.linspace(100.0, 120.0, 20)
    altered = close.copy()
    altered[10 + overlap_bars(4)] = 1.0
    for label in LABELS:
        assert label(altered, 4)[10] != label(close, 4)[10]


@given(closes, st.integers(1, 25))
def test_the_trend_is_bull_where_the_past_mean_is_below_the_future_one(close, span):
    labels = trend_regime(close, span)
    for t in range(len(close)):
        complete = t >= span - 1 and t + span < len(close)
        assert np.isnan(labels[t]) == (not complete)
        if complete:
            past, future = close[t - span + 1 : t + 1].mean(), close[t + 1 : t + span + 1].mean()
            assert labels[t] == float(past < future)


@given(closes, st.integers(1, 25), st.data())
def test_a_trend_label_reads_no_bar_beyond_its_overlap(close, span, data):
    t = data.draw(st.integers(0, len(close) - 1))
    altered = close.copy()
    altered[t + overlap_bars(span) + 1 :] *= 3.0
    assert_array_equal(trend_regime(altered, span)[: t + 1], trend_regime(close, span)[: t + 1])


def test_a_rising_price_is_bull_and_a_falling_or_flat_one_is_bear():
    rising = np.arange(1.0, 61.0)
    assert_array_equal(trend_regime(rising)[19:40], 1.0)
    assert_array_equal(trend_regime(rising[::-1])[19:40], 0.0)
    assert_array_equal(trend_regime(np.full(60, 0.1))[19:40], 0.0)


@given(closes, st.integers(1, 5), st.data())
def test_a_market_regime_reads_no_later_bar(close, window, data):
    t = data.draw(st.integers(0, len(close) - 1))
    altered = close.copy()
    altered[t + 1 :] *= 3.0
    assert_array_equal(market_regime(altered, window)[: t + 1], market_regime(close, window)[: t + 1])


@given(closes, st.integers(1, 5))
def test_a_market_regime_is_known_when_its_memory_is(close, window):
    assert np.isnan(market_regime(close, window)[: 5 * window]).all()
    assert np.isfinite(market_regime(np.linspace(1, 2, 30), window)[5 * window :]).all()


def test_a_market_regime_compares_a_window_with_the_volatility_before_it():
    quiet = np.tile([0.01, -0.01], 20)  # a root mean square of 0.01 a bar
    for total, expected in ((0.011, 1.0), (0.009, 0.0), (-0.009, 0.0), (-0.011, -1.0)):  # beside ½ · 0.01 · √4
        close = np.exp(np.cumsum(np.append(quiet, [total, 0.0, 0.0, 0.0])))
        assert market_regime(close, 4)[-1] == expected
    assert np.isnan(market_regime(np.ones(60), 4)).all()


def test_no_move_is_not_up_and_has_no_volatility():
    close = np.full(10, 0.1)
    assert_array_equal(direction(close, 3)[:7], 0.0)
    assert_array_equal(realized_volatility(close, 3)[:7], 0.0)


def test_volatility_of_one_bar_is_the_magnitude_of_its_return():
    close = np.exp(np.random.default_rng(0).normal(size=50))
    assert_allclose(realized_volatility(close, 1)[:-1], np.abs(forward_return(close, 1)[:-1]), rtol=1e-14)


@pytest.mark.parametrize("label", LABELS)
def test_a_horizon_below_one_bar_is_refused(label):
    with pytest.raises(ConfigError, match="horizon 0"):
        label(np.ones(5), 0)
    with pytest.raises(ConfigError, match="one close per bar"):
        label(np.ones((5, 2)), 1)


def test_target_scale_turns_standardized_labels_back():
    close = np.exp(np.cumsum(np.random.default_rng(0).normal(0.001, 0.01, size=300)))
    returns, volatility = forward_return(close, 5), realized_volatility(close, 5)
    scale = TargetScale.fit(returns, volatility)
    labels = scale.standardize(returns, direction(close, 5), volatility)
    assert np.nanmean(labels["return"]) == pytest.approx(0, abs=1e-12)
    assert np.nanstd(labels["return"]) == pytest.approx(1)
    back = scale.forecast(labels["return"], np.zeros(300), labels["volatility"])  # [3,T]
    assert_allclose(back, [returns, np.full(300, 0.5), volatility], atol=1e-15)
