"""From gross to net, against numbers that can be done in the head."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.reports.costs import cost_report, spread_paid, turnover

PAID = ("fees", "impact", "funding", "liquidation_fees")


def ledger(values=(1000.0, 1100.0), start=1000.0, **costs):
    """Days whose last one bears the costs."""
    n = len(values)
    table = {"close_time": pd.date_range("2024-01-02", periods=n, freq="D", tz="UTC"), "value": values}
    for name in ("fees", "funding", "impact", "liquidation_fee"):
        table[name] = [0.0] * (n - 1) + [costs.get(name, 0.0)]
    frame = pd.DataFrame(table)
    frame.attrs = {"start_value": start}
    return frame


def fills(*rows):
    """(price, raw price, impact, notional) of each."""
    return pd.DataFrame(list(rows), columns=["price", "raw_price", "impact", "notional"], dtype=float)


def test_gross_less_every_cost_is_net():
    frame = ledger(fees=20.0, impact=30.0, funding=-5.0, liquidation_fee=15.0)
    report = cost_report(frame, fills((101.0, 100.0, 30.0, 3000.0), (100.0, 100.0, 0.0, 1000.0)), 365)
    assert (report["net"], report["gross"]) == (100, 160)
    assert [report[name] for name in PAID] == [20, 30, -5, 15]
    assert report["gross_return"] == 0.16
    assert report["net_return"] == 0.1
    assert report["notional"] == 4000
    assert [report[f"{name}_bp"] for name in PAID] == [50, 75, -12.5, 37.5]
    assert report["break_even_cost_bp"] == report["gross_bp"] == 400


amounts = st.floats(-1e6, 1e6)
costs = st.fixed_dictionaries(dict.fromkeys(("fees", "funding", "impact", "liquidation_fee"), amounts))


@given(costs, st.floats(1.0, 1e6))
def test_at_the_break_even_cost_nothing_is_left(paid, notional):
    report = cost_report(ledger(**paid), fills((1.0, 1.0, 0.0, notional)), 365)
    assert report["gross"] - notional * report["break_even_cost_bp"] / 1e4 == pytest.approx(0, abs=1e-6)


def test_impact_is_parted_into_spread_and_the_rest():
    rows = [
        (100.3, 100.0, 3.0, 1003.0),  # bought 10, 10 bp of spread and 20 bp of impact
        (99.8, 100.0, 1.0, 499.0),  # sold 5, 20 bp in all
        (100.05, 100.0, 0.5, 1000.5),  # a limit left no room for all of the spread
        (100.0, 100.0, 0.0, 1000.0),  # a maker
    ]
    assert spread_paid(fills(*rows), 0.001) == pytest.approx(1.0 + 0.5 + 0.5)
    assert spread_paid(fills(*rows), 0.0) == 0
    report = cost_report(ledger(impact=4.5), fills(*rows), 365, half_spread=0.001)
    assert (report["spread"], report["square_root_impact"]) == pytest.approx((2.0, 2.5))


def test_the_spread_of_an_inverse_contract_is_parted_in_coin():
    size, raw, half_spread, impact = 30_000, 30_000.0, 0.001, 0.003
    price = raw * (1 + half_spread + impact)
    paid = size / raw - size / price
    assert spread_paid(fills((price, raw, paid, size / price)), half_spread) == pytest.approx(paid / 4)


def test_turnover_is_the_notional_of_a_year_over_average_equity():
    assert turnover(ledger((100.0, 110.0, 120.0, 110.0)), fills(*[(1, 1, 0, 11.0)] * 3), 365) == pytest.approx(
        33 / 110 * 365 / 4
    )


def test_at_its_capacity_square_root_impact_eats_the_edge():
    # Without square-root impact 130 would be left, and that took 30 of it.
    report = cost_report(ledger(impact=30.0), fills((101.0, 100.0, 30.0, 3000.0)), 365)
    k = report["capacity_multiple"]
    assert k == pytest.approx((130 / 30) ** 2)
    assert report["capacity"] == pytest.approx(1000 * k)
    assert k * 130 - k**1.5 * 30 == pytest.approx(0, abs=1e-9)
    assert report["capacity_reason"] == ""


def test_spread_grows_with_the_account_and_bounds_no_capacity():
    rows = [(100.0 * (1 + 3e-5), 100.0, 0.03, 1000.0), (99.7 * (1 - 3e-5), 99.7, 0.02991, 997.0)]
    report = cost_report(ledger(impact=0.05991), fills(*rows), 365, half_spread=3e-5)
    assert report["square_root_impact"] == 0
    assert math.isnan(report["capacity"])
    assert report["capacity_reason"] == "no square-root impact was charged"


def test_a_run_that_loses_before_impact_has_no_capacity():
    report = cost_report(ledger((1000.0, 960.0), impact=30.0), fills((101.0, 100.0, 30.0, 3000.0)), 365)
    assert (report["capacity"], report["capacity_multiple"]) == (0, 0)
    assert report["capacity_reason"] == "no edge before square-root impact"


def test_without_fills_what_is_per_notional_is_not_defined():
    report = cost_report(ledger((1000.0, 1000.0)), fills(), 365)
    assert math.isnan(report["break_even_cost_bp"])
    assert math.isnan(report["fees_bp"])
    assert (report["gross"], report["net"], report["turnover"], report["capacity"]) == (0, 0, 0, 0)
