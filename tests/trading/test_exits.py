import math

import backtrader as bt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.trading.exits import exit_prices, says_leave, stop_terms, trail_fraction

side = st.sampled_from([1, -1])


def test_stop_and_target_lie_multiples_of_the_volatility_away():
    assert exit_prices(100, 1, 0.01, stop=2, target=3) == pytest.approx(
        (100 * math.exp(-0.02), 100 * math.exp(0.03))
    )
    assert exit_prices(100, -1, 0.01, stop=2, target=3) == pytest.approx(
        (100 * math.exp(0.02), 100 * math.exp(-0.03))
    )


@given(st.floats(1e-6, 1e6), side, st.floats(1e-9, 1e9))
def test_exits_are_finite_prices_on_the_right_sides(price, side, volatility):
    stop, target = exit_prices(price, side, volatility, stop=2, target=3)
    assert 0 < min(stop, target) <= price <= max(stop, target) < math.inf
    assert (target - stop) * side >= 0


def test_a_trail_is_a_fraction_of_the_price_below_a_long_and_above_a_short():
    assert 100 * (1 - trail_fraction(1, 0.01, 2)) == pytest.approx(100 * math.exp(-0.02))
    assert 100 * (1 + trail_fraction(-1, 0.01, 2)) == pytest.approx(100 * math.exp(0.02))


@given(side, st.floats(1e-6, 1e9), st.floats(1e-6, 1e6), st.floats(-0.5, 0.5))
def test_a_trailing_stop_begins_where_it_is_told_to(side, volatility, price, distance):
    trail = trail_fraction(side, volatility, 2)
    stop = price * math.exp(-side * abs(distance))
    terms = stop_terms(side, stop, trail)
    assert 0 < trail < math.inf
    # What Backtrader makes of it: the price less, or plus, its share.
    assert terms["price"] * (1 - side * terms["trailpercent"]) == pytest.approx(stop, rel=1e-9)


def test_a_stop_that_does_not_trail_is_a_plain_one():
    assert stop_terms(1, 95.0) == {"exectype": bt.Order.Stop, "price": 95.0}


class Protected(bt.Strategy):
    """Holds one unit, long or short, behind a stop that begins 10 % away and trails by 5 %."""

    params = (("side", 1),)

    def __init__(self):
        self.stops = []

    def next(self):
        if len(self) == 1:
            side = self.p.side
            enter, leave = (self.buy, self.sell) if side > 0 else (self.sell, self.buy)
            enter(size=1)
            trail = trail_fraction(side, math.log1p(0.05) if side < 0 else -math.log1p(-0.05), 1)
            self.stop_order = leave(size=1, **stop_terms(side, 100.0 - side * 10, trail))
        self.stops.append(self.stop_order.created.price)


@pytest.mark.parametrize("sign", [1, -1])
def test_backtrader_moves_the_trail_at_closes_and_never_back(sign):
    closes = [100, 100, 110, 104.6, 120, 113] if sign > 0 else [100, 100, 90, 94.4, 80, 85]
    frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), closes), dtype=float)
    frame.index = pd.date_range("2024-01-01", periods=len(frame))
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame))
    cerebro.addstrategy(Protected, side=sign)
    strategy = cerebro.run()[0]
    expected = [90, 95, 104.5, 104.5, 114, 114] if sign > 0 else [110, 105, 94.5, 94.5, 84, 84]
    assert strategy.stops == pytest.approx(expected)
    assert strategy.position.size == 0  # beyond the stop
    assert strategy.stop_order.executed.price == closes[-1]


def test_a_line_says_leave_above_its_level_and_when_it_is_unknown():
    assert says_leave(0.61, 0.6)
    assert says_leave(1.0, 0.5)
    assert says_leave(True, 0.5)
    assert not says_leave(0.6, 0.6)
    assert not says_leave(False, 0.5)
    assert says_leave(math.nan, 0.6)
