import math
from itertools import pairwise

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scripted_forecast import ScriptedForecast

from hissbt.errors import StrategyError
from hissbt.trading.commission import PerpCommission
from hissbt.trading.sizing import (
    FractionSizer,
    KellySizer,
    VolatilitySizer,
    horizon_volatility,
    kelly_fraction,
    position_size,
    unit_value,
    volatility_fraction,
)

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


def test_the_volatility_fraction_makes_equity_as_volatile_as_wanted():
    assert volatility_fraction(0.04, horizon_volatility=0.01, max_fraction=1) == pytest.approx(0.25)
    assert volatility_fraction(0.004, horizon_volatility=0.01, max_fraction=1) == 1


@given(st.floats(1e-320, 1e300), st.floats(1e-6, 1), st.floats(0.01, 1))
def test_the_volatility_fraction_stays_inside_the_cap(volatility, wanted, cap):
    assert 0 <= volatility_fraction(volatility, horizon_volatility=wanted, max_fraction=cap) <= cap


@pytest.mark.parametrize("volatility", [0.0, -0.1, math.nan, math.inf])
def test_nothing_is_held_at_a_volatility_that_makes_no_sense(volatility):
    assert volatility_fraction(volatility, horizon_volatility=0.01, max_fraction=1) == 0


def test_an_annual_volatility_shrinks_with_the_root_of_time():
    assert horizon_volatility(0.2, horizon=1, bars_per_year=365) == pytest.approx(0.2 / math.sqrt(365))
    assert horizon_volatility(0.2, horizon=365, bars_per_year=365) == pytest.approx(0.2)


def test_a_unit_is_worth_its_price_or_its_share_of_a_contract():
    assert unit_value(bt.CommissionInfo(commission=0.001), 60_000.0) == 60_000
    assert unit_value(bt.CommissionInfo(margin=1000.0, mult=50.0), 4000.0) == 200_000
    assert unit_value(PerpCommission(), 60_000.0) == 60_000
    assert unit_value(PerpCommission(contract="inverse"), 50_000.0) == pytest.approx(1 / 50_000)


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


def held(rows, script, kind=KellySizer, scheme=None, **sizer):
    frame = pd.DataFrame(
        {"open": 100.0, "high": 100.0, "low": 100.0, "close": 100.0, "volume": 1.0},
        index=pd.date_range("2024-01-01", periods=len(script)),
    )
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame))
    cerebro.addstrategy(Trader, rows=rows, script=script)
    cerebro.addsizer(kind, **sizer)
    cerebro.broker.setcash(1000)
    if scheme is not None:
        cerebro.broker.addcommissioninfo(scheme)
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
    with pytest.raises(StrategyError, match=r"self\.model for the data in Trader"):
        held([UP] * 2, [Trader.buy, wait], forecast="model")


SIZERS = {
    KellySizer: {},  # 0.5 * 0.01 / 0.1**2 is half of equity, the cap 20 %
    VolatilitySizer: {"horizon_volatility": 0.02},  # 0.02 / 0.1
    FractionSizer: {"fraction": 0.2},
}
any_sizer = pytest.mark.parametrize("kind", SIZERS)


@any_sizer
def test_every_sizer_fills_up_to_its_target_and_closes_what_it_has(kind):
    script = [Trader.buy, Trader.buy, Trader.sell, wait, wait]
    assert held([UP] * 5, script, kind, **SIZERS[kind]) == pytest.approx([0, 2, 2, 0, 0])
    script = [Trader.sell, Trader.sell, Trader.buy, wait, wait]
    assert held([DOWN] * 5, script, kind, **SIZERS[kind]) == pytest.approx([0, -2, -2, 0, 0])


@any_sizer
def test_every_sizer_counts_in_contracts_of_their_own_value(kind):
    future = bt.CommissionInfo(margin=10.0, mult=10.0)
    assert held([UP] * 2, [Trader.buy, wait], kind, future, **SIZERS[kind])[-1] == pytest.approx(0.2)
    inverse = PerpCommission(contract="inverse", taker=0.0)  # 1000 coins at 100
    assert held([UP] * 2, [Trader.buy, wait], kind, inverse, **SIZERS[kind])[-1] == pytest.approx(20_000)


@pytest.mark.parametrize("kind", [KellySizer, VolatilitySizer])
def test_a_size_of_zero_sends_no_order(kind):
    placed = []
    for volatility in (0.0, math.nan, math.inf):
        held([(0.01, 0.6, volatility)] * 2, [lambda s: placed.append(s.buy()), wait], kind)
    assert placed == [None] * 3


class TwoMarkets(bt.Strategy):
    """Buys the first data and sells the second, each by its own forecast."""

    def __init__(self):
        first, second = self.datas
        self.hiss = {
            first: ScriptedForecast(first, rows=[UP] * 3),
            second: ScriptedForecast(second, rows=[(-0.01, 0.4, 0.2)] * 3),
        }

    def next(self):
        self.buy(data=self.datas[0])
        self.sell(data=self.datas[1])


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        (KellySizer, [4, -1.25]),  # 0.5 * 0.01 / 0.1**2, capped at 0.4, and 0.5 * 0.01 / 0.2**2
        (VolatilitySizer, [1, -0.5]),  # 0.01 / 0.1 and 0.01 / 0.2
        (FractionSizer, [2, -2]),
    ],
)
def test_every_data_has_its_own_target(kind, sizes):
    frame = pd.DataFrame(
        {"open": 100.0, "high": 100.0, "low": 100.0, "close": 100.0, "volume": 1.0},
        index=pd.date_range("2024-01-01", periods=3),
    )
    cerebro = bt.Cerebro(stdstats=False)
    for _ in range(2):
        cerebro.adddata(bt.feeds.PandasData(dataname=frame))
    cerebro.addstrategy(TwoMarkets)
    cerebro.addsizer(kind, **({} if kind is FractionSizer else {"max_fraction": 0.4}))
    cerebro.broker.setcash(1000)
    strategy = cerebro.run()[0]
    assert [strategy.getposition(data).size for data in strategy.datas] == pytest.approx(sizes)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(list(SIZERS)),
    st.lists(st.sampled_from([Trader.buy, Trader.sell, wait]), min_size=2, max_size=8),
    st.lists(st.tuples(st.floats(-0.1, 0.1), st.floats(0, 1), st.floats(1e-3, 1)), min_size=8, max_size=8),
)
def test_no_sizer_ever_jumps_from_one_side_to_the_other_or_beyond_its_cap(kind, script, rows):
    sizes = held(rows, script, kind, **SIZERS[kind])
    assert all(a * b >= 0 for a, b in pairwise(sizes))
    assert all(abs(size) <= 2 * (1 + 1e-9) for size in sizes)
