"""PerpCommission, and what Backtrader's own broker can do with it."""

import backtrader as bt
import pytest
from accounts import Scripted, bars_of, eight_hourly_funding
from hypothesis import given
from hypothesis import strategies as st

from hissbt.errors import ConfigError
from hissbt.feeds import BarsFeed
from hissbt.market import Market
from hissbt.trading.commission import PerpCommission

FLAT = [(100, 100, 100, 100)] * 24
sizes, prices = st.floats(-1e4, 1e4), st.floats(0.01, 1e5)


def stock(rows, script, *, cash=10_000.0, **terms):
    """Run a script under Backtrader's own broker; return the strategy."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars_of(rows)))
    cerebro.broker.setcash(cash)
    cerebro.broker.addcommissioninfo(PerpCommission(**{"taker": 0.0, "maker": 0.0} | terms))
    cerebro.addstrategy(Scripted, script=script)
    return cerebro.run()[0]


def buy(size, **kwargs):
    return lambda strategy: strategy.buy(size=size, **kwargs)


def sell(size):
    return lambda strategy: strategy.sell(size=size)


@given(sizes, prices, prices)
def test_a_linear_contract_earns_in_the_quote_currency(size, price, later):
    scheme = PerpCommission()
    assert scheme.profitandloss(size, price, later) == size * (later - price)
    assert scheme.notional(size, price) == abs(size) * price


@given(sizes, prices, prices)
def test_an_inverse_contract_earns_in_the_coin(size, price, later):
    scheme = PerpCommission(contract="inverse")
    scale = abs(size) * (1 / price + 1 / later)
    expected = size * (1 / price - 1 / later)
    assert scheme.profitandloss(size, price, later) == pytest.approx(expected, abs=1e-12 * scale)
    assert scheme.notional(size, price) == pytest.approx(abs(size) / price)


@pytest.mark.parametrize("contract", ["linear", "inverse"])
def test_the_size_of_an_amount_has_it_as_notional(contract):
    scheme = PerpCommission(contract=contract)
    assert scheme.notional(scheme.getsize(80.0, 500.0), 80.0) == pytest.approx(500.0)


def test_fees_are_fractions_of_notional_and_a_maker_may_be_paid():
    scheme = PerpCommission(taker=0.001, maker=-0.0002)
    assert scheme.fee(-5.0, 100.0, maker=False) == pytest.approx(0.5)
    assert scheme.fee(5.0, 100.0, maker=True) == pytest.approx(-0.1)


def test_liquidation_costs_the_taker_fee_unless_told():
    assert PerpCommission(taker=0.001).liquidation_fee == 0.001
    assert PerpCommission(taker=0.001, liquidation_fee=0.02).liquidation_fee == 0.02


@pytest.mark.parametrize(
    ("terms", "words"),
    [
        ({"contract": "quanto"}, "write linear or inverse"),
        ({"taker": 1.0}, "taker is 1.0"),
        ({"taker": -0.001}, "taker is -0.001"),
        ({"maker": -0.02}, "maker is -0.02"),
        ({"liquidation_fee": -0.1}, "liquidation_fee is -0.1"),
        ({"leverage": 0}, "leverage is 0"),
        ({"leverage": float("inf")}, "leverage is inf"),
        ({"leverage": 30, "market": Market("X", max_leverage=25)}, "at most 25"),
        ({"maintenance": 1.5}, "maintenance is 1.5"),
    ],
)
def test_terms_out_of_range_are_refused(terms, words):
    with pytest.raises(ConfigError, match=words):
        PerpCommission(**terms)


# --- under Backtrader's own broker


def test_every_fill_pays_the_taker_fee_there():
    limit = buy(10, exectype=bt.Order.Limit, price=99)
    rows = [(100, 100, 100, 100), (100, 100, 98, 100), *FLAT]
    assert stock(rows, {1: limit}, taker=0.001, maker=0.0).values[2] == pytest.approx(10_000 + 10 - 0.99)


def test_funding_is_charged_there_at_the_close_on_what_was_held_before_the_bar():
    funding = eight_hourly_funding([0.01, 0.01, 0.01])
    through = stock(FLAT, {2: buy(10)}, funding=funding)
    assert through.values[6:9] == [10_000, 9_990, 9_990]  # stamped 07:00, 08:00, 09:00
    assert through.values[-1] == 9_970


def test_what_is_entered_in_the_bar_of_an_event_is_missed_there_and_what_is_closed_in_it_is_charged():
    funding = eight_hourly_funding([0.01, 0.0, 0.0])
    assert stock(FLAT, {7: buy(10)}, funding=funding).values[-1] == 10_000  # fills at 07:00, is held at 08:00
    assert stock(FLAT, {2: buy(10), 7: sell(10)}, funding=funding).values[-1] == 9_990


def test_a_short_receives_a_positive_rate_there():
    funding = eight_hourly_funding([0.01, 0.0, 0.0])
    assert stock(FLAT, {2: sell(10)}, funding=funding).values[-1] == 10_010


def test_leverage_is_respected_there_for_longs_and_a_short_needs_no_margin():
    assert stock(FLAT, {2: buy(150)}).sizes[-1] == 0
    assert stock(FLAT, {2: sell(100_000)}).sizes[-1] == -100_000


def test_sizes_are_fractional_there():
    assert stock(FLAT, {2: buy(0.125)}).sizes[-1] == 0.125


def test_an_inverse_contract_has_the_right_profit_there_from_one_entry_to_one_exit():
    rows = [*[(100, 100, 100, 100)] * 5, *[(125, 125, 125, 125)] * 5]
    terms = {"contract": "inverse", "cash": 10.0}
    assert stock(rows, {2: buy(500), 7: sell(500)}, **terms).values[-1] == pytest.approx(
        10 + 500 / 100 - 500 / 125
    )
    assert stock(rows, {2: sell(500), 7: buy(500)}, **terms).values[-1] == pytest.approx(
        10 - 500 / 100 + 500 / 125
    )


def test_nothing_is_ever_liquidated_there():
    rows = [*[(100, 100, 100, 100)] * 5, *[(10, 10, 10, 10)] * 5]
    assert stock(rows, {2: buy(90)}, leverage=2.0, maintenance=0.1).sizes[-1] == 90
