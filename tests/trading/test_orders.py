import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.market import Market
from hissbt.trading.orders import is_too_small, limit_price, quantity_of, trigger_price

FREE = Market("X")
STRICT = Market("X", tick=0.1, quantity_step=0.001, min_quantity=0.01, min_notional=5.0)
steps = st.sampled_from([0.001, 0.1, 0.25, 1.0, 5.0])
amounts = st.floats(0.001, 1e6)


@given(steps, amounts)
def test_a_size_is_rounded_down_to_the_step(step, size):
    rounded = quantity_of(Market("X", quantity_step=step), size)
    assert rounded <= size * (1 + 1e-9)
    assert size - rounded < step * (1 + 1e-6) + 1e-9 * size
    assert rounded / step == pytest.approx(round(rounded / step), abs=1e-6)


def test_a_size_on_the_step_stays():
    assert quantity_of(STRICT, 0.3) == pytest.approx(0.3)  # 0.3 / 0.001 comes out below 300
    assert quantity_of(STRICT, 0.0299999) == pytest.approx(0.029)


@given(steps, st.floats(1, 1e6))
def test_a_buyer_pays_no_more_and_a_seller_gets_no_less_than_the_limit(tick, price):
    market = Market("X", tick=tick)
    bid, ask = limit_price(market, price, is_buy=True), limit_price(market, price, is_buy=False)
    assert bid <= price * (1 + 1e-8)
    assert ask >= price * (1 - 1e-8)
    assert ask - bid <= tick * (1 + 1e-6)


@pytest.mark.parametrize("is_buy", [True, False])
def test_a_limit_on_the_tick_stays(is_buy):
    assert limit_price(STRICT, 0.3, is_buy) == pytest.approx(0.3)


def test_a_trigger_goes_to_the_nearest_tick():
    assert trigger_price(STRICT, 100.04) == pytest.approx(100.0)
    assert trigger_price(STRICT, 100.06) == pytest.approx(100.1)


def test_a_market_without_steps_changes_nothing():
    assert quantity_of(FREE, 0.123456789) == 0.123456789
    assert limit_price(FREE, 100.123456, is_buy=True) == trigger_price(FREE, 100.123456) == 100.123456
    assert not is_too_small(FREE, 1e-6, 0.0)


@pytest.mark.parametrize(
    ("size", "notional", "is_refused"),
    [(0.01, 5.0, False), (0.009, 50.0, True), (1.0, 4.99, True), (0.1 * 0.1, 5.0, False), (0.0, 0.0, True)],
)
def test_what_is_below_a_minimum_is_too_small(size, notional, is_refused):
    assert is_too_small(STRICT, size, notional) is is_refused
