import math

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scripted_forecast import ScriptedForecast

from hissbt.errors import StrategyError
from hissbt.trading.sizing import KellySizer, kelly_fraction, position_size

amount = st.floats(1e-6, 1e6)


def test_the_kelly_fraction_is_the_mean_over_the_variance():
    assert kelly_fraction(0.001, 0.1, scale=1, max_fraction=1) == pytest.approx(0.1)
    assert kelly_fraction(-0.001, 0.1, scale=0.5, max_fraction=1) == pytest.approx(-0.05)


@given(st.floats(-1, 1), st.floats(1e-4, 1), st.floats(0.01, 1))
def test_the_fraction_stays_inside_the_cap_and_has_the_sign_of_the_forecast(mean, volatility, cap):
    fraction = kelly_fraction(mean, volatility, scale=1, max_fraction=cap)
    assert abs(fraction) <= cap
    assert fraction * mean >= 0


@pytest.mark.parametrize("volatility", [0.0, math.nan, math.inf, 1e-200])
def test_there_is_no_fraction_without_a_usable_volatility(volatility):
    assert kelly_fraction(0.01, volatility, scale=1, max_fraction=0.2) == 0


@pytest.mark.parametrize("expected_return", [math.nan, math.inf])
def test_there_is_no_fraction_without_a_finite_expected_return(expected_return):
    assert kelly_fraction(expected_return, 0.01, scale=1, max_fraction=0.2) == 0


def test_a_size_is_fractional():
    assert position_size(0.2, 1, 1000, 60000) == pytest.approx(200 / 60000)


@pytest.mark.parametrize(
    ("fraction", "side", "equity"), [(0.2, -1, 1000), (-0.2, 1, 1000), (0, 1, 1000), (0.2, 1, -5)]
)
def test_the_size_is_zero_when_sides_disagree_or_equity_is_gone(fraction, side, equity):
    assert position_size(fraction, side, equity, 100) == 0


def test_a_lost_account_is_never_read_as_the_other_side():
    assert position_size(-0.2, 1, -1000, 100) == 0


@given(amount, st.sampled_from([0.1, 0.001, 1 / 3, 5.0]))
@example(699050.9999999999, 1 / 3)
def test_steps_round_down_and_stay_where_they_are(size, step):
    rounded = position_size(1, 1, size, 1, step)
    assert rounded <= size
    assert size - rounded <= step * (1 + 1e-9)
    assert round(rounded / step) == pytest.approx(rounded / step, abs=1e-9 * max(1, rounded / step))
    assert position_size(1, 1, rounded, 1, step) == rounded


class Trader(bt.Strategy):
    """Calls what ``script`` says at each bar and keeps the sizes held afterwards."""

    params = (("rows", None), ("script", None))

    def __init__(self):
        self.hiss = ScriptedForecast(self.data, rows=self.p.rows)
        self.held = []

    def next(self):
        self.held.append(self.position.size)
        self.p.script[len(self) - 1](self)


def held(rows, script, **sizer):
    frame = pd.DataFrame(
        {"open": 100.0, "high": 100.0, "low": 100.0, "close": 100.0, "volume": 1.0},
        index=pd.date_range("2024-01-01", periods=len(script)),
    )
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame))
    cerebro.addstrategy(Trader, rows=rows, script=script)
    cerebro.addsizer(KellySizer, **sizer)
    cerebro.broker.setcash(1000)
    return cerebro.run()[0].held


def wait(strategy):
    pass


UP, DOWN = (0.01, 0.6, 0.1), (-0.01, 0.4, 0.1)


def test_the_sizer_fills_up_to_the_cap_and_no_further():
    sizes = held([UP] * 4, [Trader.buy, Trader.buy, Trader.buy, wait])
    assert sizes == pytest.approx([0, 2, 2, 2])  # 20 % of 1000 at 100


def test_the_sizer_does_not_enter_against_the_forecast():
    assert held([DOWN] * 2, [Trader.buy, wait]) == [0, 0]
    assert held([UP] * 2, [Trader.sell, wait]) == [0, 0]


def test_an_order_against_the_position_closes_it_whatever_the_forecast():
    assert held([UP] * 4, [Trader.buy, wait, Trader.sell, wait]) == pytest.approx([0, 2, 2, 0])
    assert held([DOWN] * 4, [Trader.sell, wait, Trader.buy, wait]) == pytest.approx([0, -2, -2, 0])


def test_scale_and_cap_are_parameters():
    assert held([UP] * 2, [Trader.buy, wait], scale=0.1, max_fraction=0.5)[-1] == pytest.approx(
        1
    )  # .1 * .01 / .01


@pytest.mark.parametrize("volatility", [np.nan, 1e8])
def test_a_forecast_that_makes_no_sense_buys_nothing(volatility):
    assert held([(0.01, 0.6, volatility)] * 2, [Trader.buy, wait]) == [0, 0]


def test_a_missing_forecast_is_named():
    with pytest.raises(StrategyError, match=r"self\.model in Trader"):
        held([UP] * 2, [Trader.buy, wait], forecast="model")
