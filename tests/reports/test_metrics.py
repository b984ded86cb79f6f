import math

import numpy as np
import pandas as pd
import pytest

from hissbt.reports.costs import turnover
from hissbt.reports.metrics import buy_and_hold, forecast_metrics, trading_metrics
from hissbt.reports.quiet import quiet_quantstats

NAN = float("nan")


def ledger(price, start_price=None, **columns):
    n = len(price)
    table = {"close_time": pd.date_range("2024-01-02", periods=n, freq="D", tz="UTC"), "price": price}
    table |= {"value": [100.0] * n, "cash": [0.0] * n, "position": [0.0] * n, "fees": [0.0] * n, **columns}
    frame = pd.DataFrame(table)
    frame.attrs = {"start_value": 100.0, "start_price": start_price or price[0]}
    return frame


def trades(*rows):
    columns = ["size", "entry_price", "exit_price", "pnl_net", "exit_time"]
    table = pd.DataFrame([(*row, pd.Timestamp("2024-01-03", tz="UTC")) for row in rows], columns=columns)
    return table.assign(pnl_gross=1000.0)  # before costs everything may look like a win


def fills(*notionals):
    return pd.DataFrame({"notional": notionals}, dtype=float)


def test_forecasts_are_scored_against_what_the_horizon_brought():
    price = [100 * math.exp(x) for x in (0, 0.1, 0.0, 0.2, 0.2)]  # over 2 bars: 0.0, 0.1, 0.2, then unknown
    frame = ledger(price, expected_return=[0.1, 0.1, -0.1, 9, 9], prob_up=[0.6, 0.7, 0.4, 0.9, 0.9])
    scores = forecast_metrics(frame, horizon=2)
    assert scores["n"] == 3
    assert scores["mse"] == pytest.approx((0.1**2 + 0 + 0.3**2) / 3)
    assert scores["mae"] == pytest.approx((0.1 + 0 + 0.3) / 3)
    assert scores["accuracy"] == pytest.approx(1 / 3)  # the first did not rise, the third did
    assert scores["f1"] == pytest.approx(2 * 1 / (2 * 1 + 1 + 1))
    assert scores["majority_class"] == {"accuracy": pytest.approx(2 / 3), "f1": pytest.approx(4 / 5)}
    assert scores["zero_forecast"] == {"mse": pytest.approx((0.01 + 0.04) / 3), "mae": pytest.approx(0.1)}


def test_the_majority_of_falls_has_no_f1_of_rises():
    scores = forecast_metrics(ledger([3, 2, 1], expected_return=[0.0] * 3, prob_up=[0.4] * 3), horizon=1)
    assert scores["accuracy"] == 1
    assert math.isnan(scores["f1"])  # nothing rose and no rise was named
    assert scores["majority_class"]["accuracy"] == 1


def test_bars_without_a_forecast_do_not_count():
    scores = forecast_metrics(ledger([1, 2, 3], expected_return=[NAN, 0, 0], prob_up=[NAN, 0.6, 0.6]), horizon=1)
    assert scores["n"] == 1
    assert forecast_metrics(ledger([1, 2]), horizon=1) is None
    assert math.isnan(forecast_metrics(ledger([1, 2], expected_return=[0, 0], prob_up=[0, 0]), 5)["mse"])


@pytest.mark.parametrize("seed", range(5))
def test_risk_is_that_of_quantstats_on_daily_returns(seed):
    returns = np.random.default_rng(seed).normal(0.001, 0.02, 50)
    metrics = trading_metrics(ledger([1.0] * 50, value=100 * np.cumprod(1 + returns)), trades(), fills(), 252)
    daily = pd.Series(returns, index=pd.date_range("2024-01-01", periods=50))
    with quiet_quantstats() as quantstats:
        assert metrics["sharpe"] == pytest.approx(quantstats.stats.sharpe(daily, periods=252))
        assert metrics["sortino"] == pytest.approx(quantstats.stats.sortino(daily, periods=252))
        assert metrics["max_drawdown"] == pytest.approx(quantstats.stats.max_drawdown(daily))
    assert metrics["total_return"] == pytest.approx(np.prod(1 + returns) - 1)


def test_the_drawdown_counts_from_the_start_and_a_doubling_in_a_day_is_none():
    assert trading_metrics(ledger([1.0] * 2, value=[90.0, 99.0]), trades(), fills(), 365)[
        "max_drawdown"
    ] == pytest.approx(-0.1)
    doubled = trading_metrics(ledger([1.0] * 3, value=[250.0, 600.0, 610.0]), trades(), fills(), 365)
    assert doubled["max_drawdown"] == 0
    assert doubled["sharpe"] > 0
    assert math.isnan(doubled["sortino"])  # there was no loss


def test_trades_and_costs_are_counted():
    frame = ledger([1.0] * 4, value=[100, 110, 120, 110], position=[0, 1, -1, 1e-17], fees=[0, 1, 2, 0])
    table = trades((2, 10, 15, 9), (1, 20, 10, -4), (1, 10, 9, -2))
    metrics = trading_metrics(frame, table, fills(20, 30, 20, 10, 10, 9), 365)
    assert metrics["trades"] == 3
    assert metrics["fees"] == 3
    assert metrics["win_rate"] == pytest.approx(1 / 3)
    assert metrics["profit_factor"] == pytest.approx(9 / 6)
    assert metrics["exposure"] == pytest.approx(2 / 4)  # float dust is no position
    assert metrics["turnover"] == turnover(frame, fills(20, 30, 20, 10, 10, 9), 365)


def test_without_trades_what_is_not_defined_is_nan():
    metrics = trading_metrics(ledger([1.0, 2.0]), trades(), fills(), 365)
    assert [k for k, v in metrics.items() if math.isnan(v)] == ["sharpe", "sortino", "win_rate", "profit_factor"]
    assert metrics["max_drawdown"] == metrics["turnover"] == metrics["exposure"] == metrics["total_return"] == 0


def test_buy_and_hold_earns_the_asset_less_one_commission():
    held = buy_and_hold(ledger([110.0, 99.0, 121.0], start_price=100.0), commission=0.001)
    metrics = trading_metrics(*held, 365)
    assert metrics["total_return"] == pytest.approx(1.21 / 1.001 - 1)
    assert metrics["fees"] == pytest.approx(100 / 1.001 * 0.001)
    assert held[0]["value"].iloc[-1] == pytest.approx(100 + held[1]["pnl_net"].sum())
    assert metrics["max_drawdown"] == pytest.approx(99 / 110 - 1)
    assert (metrics["exposure"], metrics["trades"], metrics["win_rate"]) == (1, 1, 1)
