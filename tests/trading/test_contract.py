import math

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hissbt.errors import ConfigError
from hissbt.trading.contract import (
    bankruptcy_price,
    book_price,
    is_beyond,
    liquidation_price,
    maintenance_tiers,
)

prices = st.floats(0.01, 1e5)
sizes = st.floats(0.01, 1e4).flatmap(lambda size: st.sampled_from([size, -size]))
rates = st.floats(0, 0.3)
contracts = st.booleans()
schedules = st.lists(st.tuples(st.floats(1, 1e8), rates), max_size=4, unique_by=lambda pair: pair[0]).flatmap(
    lambda pairs: st.builds(lambda first: ((0.0, first), *sorted(pairs)), rates)
)


def maintenance(schedule, notional):
    """Return the maintenance margin, slice by slice, as one would an income tax."""
    floors = [floor for floor, _ in schedule] + [math.inf]
    return math.fsum(
        rate * (min(notional, ceiling) - floor)
        for (floor, rate), ceiling in zip(schedule, floors[1:], strict=True)
        if notional > floor
    )


def profit(size, entry, price, inverse):
    return size * (1 / entry - 1 / price) if inverse else size * (price - entry)


def notional_of(size, price, inverse):
    return abs(size) / price if inverse else abs(size) * price


def test_a_linear_contract_is_booked_at_its_price_and_an_inverse_one_at_minus_its_reciprocal():
    assert book_price(50.0, inverse=False) == 50.0
    assert book_price(50.0, inverse=True) == -0.02


@given(sizes, prices, prices)
def test_profit_is_linear_in_the_book_price(size, entry, price):
    for inverse in (False, True):
        gain = size * (book_price(price, inverse) - book_price(entry, inverse))
        scale = notional_of(size, entry, inverse) + notional_of(size, price, inverse)
        assert gain == pytest.approx(profit(size, entry, price, inverse), abs=1e-12 * scale)


@given(schedules, st.floats(0, 1e9))
def test_rates_are_marginal(schedule, notional):
    tier = [tier for tier in maintenance_tiers(schedule) if tier.floor <= notional][-1]
    assert tier.rate * notional - tier.deduction == pytest.approx(maintenance(schedule, notional), abs=1e-6)


def test_one_rate_is_one_tier():
    assert maintenance_tiers(0.005) == ((0.0, 0.005, 0.0),)


@pytest.mark.parametrize(
    "wrong", [1.0, -0.1, math.nan, (), ((1, 0.1),), ((0, 0.1), (0, 0.2)), ((0, 0.1), (5, 1.5)), ((0, 1), (9, 0.1))]
)
def test_tiers_that_do_not_rise_from_zero_are_refused(wrong):
    with pytest.raises(ConfigError, match="rising tiers from 0 on"):
        maintenance_tiers(wrong)


def left(price, size, entry, margin, schedule, inverse):
    """Return by how much margin and unrealized profit exceed the maintenance margin."""
    needed = maintenance(schedule, notional_of(size, price, inverse))
    return margin + profit(size, entry, price, inverse) - needed


@given(sizes, prices, st.floats(0.5, 100), schedules, contracts)
def test_a_position_is_liquidated_where_its_margin_is_the_maintenance_margin(
    size, entry, leverage, schedule, inverse
):
    margin = notional_of(size, entry, inverse) / leverage
    rest = (size, entry, margin, schedule, inverse)
    price = liquidation_price(size, book_price(entry, inverse), margin, maintenance_tiers(schedule), inverse)
    worst, best = (1e-12, 1e15) if size > 0 else (1e15, 1e-12)
    if price is None:
        assert left(worst, *rest) > -1e-9 * margin or left(best, *rest) < 1e-9 * margin
        return
    scale = margin + notional_of(size, entry, inverse) + notional_of(size, price, inverse)
    assert left(price, *rest) == pytest.approx(0.0, abs=1e-9 * scale)
    assume(1e-9 < price < 1e12)
    better, worse = (1.001, 0.999) if size > 0 else (0.999, 1.001)
    assert left(price * worse, *rest) < 0 < left(price * better, *rest)


@settings(max_examples=2000, deadline=None)
@given(sizes, prices, st.floats(2, 100), rates, rates, contracts)
def test_so_it_is_where_one_tier_goes_over_into_the_next(size, entry, leverage, low, high, inverse):
    margin = notional_of(size, entry, inverse) / leverage
    price = liquidation_price(size, book_price(entry, inverse), margin, maintenance_tiers(low), inverse)
    assume(price is not None)
    schedule = ((0.0, low), (notional_of(size, price, inverse), high))
    again = liquidation_price(size, book_price(entry, inverse), margin, maintenance_tiers(schedule), inverse)
    assert again == pytest.approx(price, rel=1e-9)


def test_an_unleveraged_long_without_maintenance_is_never_liquidated():
    assert liquidation_price(2.0, 100.0, 200.0, maintenance_tiers(0.0), inverse=False) is None
    assert bankruptcy_price(2.0, 100.0, 200.0, inverse=False) is None


@given(sizes, prices, st.floats(0.5, 100), contracts)
def test_at_the_bankruptcy_price_all_of_the_margin_is_lost(size, entry, leverage, inverse):
    margin = notional_of(size, entry, inverse) / leverage
    price = bankruptcy_price(size, book_price(entry, inverse), margin, inverse)
    if price is None:
        assert leverage <= 1 + 1e-9
        assert (size > 0) is not inverse
        return
    assume(1e-6 < price < 1e12)
    assert profit(size, entry, price, inverse) == pytest.approx(-margin, rel=1e-6)


@given(sizes, prices, st.floats(1.1, 100), st.floats(0.0001, 0.3), contracts)
def test_liquidation_comes_before_bankruptcy(size, entry, leverage, rate, inverse):
    margin = notional_of(size, entry, inverse) / leverage
    book = book_price(entry, inverse)
    first = liquidation_price(size, book, margin, maintenance_tiers(rate), inverse)
    last = bankruptcy_price(size, book, margin, inverse)
    assume(first is not None and last is not None)
    assert is_beyond(last, first, size)


def test_a_price_at_the_limit_is_beyond_it():
    assert is_beyond(90.0, 90.0, 1.0)
    assert not is_beyond(90.1, 90.0, 1.0)
    assert is_beyond(90.1, 90.0, -1.0)
    assert not is_beyond(89.9, 90.0, -1.0)
