import math

import numpy as np
import pandas as pd
import pytest

from hissbt.evidence.sharpe import dsr, psr
from hissbt.reports.costs import turnover
from hissbt.reports.metrics import buy_and_hold, daily_outcome, forecast_metrics, significance, trading_metrics
from hissbt.reports.quiet import quiet_quantstats
from hissbt.reports.returns import daily_returns
from hissbt.trials import Outcome

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


# --- significance


def record(days, seed=0, mean=0.001):
    """A ledger of that many days, each of whose gains is lost at once, but for the mean."""
    half = np.random.default_rng(seed).normal(0, 0.01, (days + 1) // 2)
    returns = np.stack([half, -half], axis=1).ravel()[:days] + mean
    return ledger([100.0] * days, value=list(100 * np.cumprod(1 + returns)))


def test_a_run_that_was_the_only_trial_is_not_deflated():
    frame = record(300)
    own = Outcome(**{name: daily_outcome(frame)[name] for name in ("sharpe", "observations")})
    weighed = significance(frame, 365, [own])
    assert weighed["trials"] == weighed["trials_with_sharpe"] == 1
    assert weighed["luck"] == 0
    assert weighed["dsr"] == weighed["psr"] == pytest.approx(psr(daily_returns(frame).to_numpy()))
    assert weighed["sharpe"] == pytest.approx(own.sharpe * math.sqrt(365))
    assert (weighed["days"], weighed["effective_days"]) == (300, 300)


def test_the_best_of_many_trials_is_set_against_their_luck():
    frame, sharpes = record(300), [0.1, -0.05, 0.02]
    weighed = significance(frame, 365, [Outcome(sharpe, 300) for sharpe in sharpes])
    deflated = dsr(daily_returns(frame).to_numpy(), sharpes)
    assert weighed["dsr"] == pytest.approx(deflated.dsr)
    assert weighed["luck"] == pytest.approx(deflated.sr0 * math.sqrt(365))
    assert weighed["dsr"] < weighed["psr"]


def test_trials_without_a_sharpe_ratio_count_as_more_of_the_others():
    frame, known = record(300), [Outcome(0.1, 300), Outcome(-0.1, 300)]
    fewer = significance(frame, 365, known)
    for unknown in None, Outcome(9.0, 29):
        more = significance(frame, 365, [*known, unknown])
        assert (more["trials"], more["trials_with_sharpe"]) == (3, 2)
        assert more["luck"] > fewer["luck"]


def test_a_shorter_trial_counts_with_what_is_as_unlikely_over_these_days():
    frame = record(400)
    same = significance(frame, 365, [Outcome(0.1, 400), Outcome(-0.1, 400)])
    shorter = significance(frame, 365, [Outcome(0.2, 100), Outcome(-0.1, 400)])
    assert shorter["luck"] == pytest.approx(same["luck"])


@pytest.mark.parametrize("days", [1, 2, 29])
def test_so_few_days_have_no_probability(days):
    weighed = significance(record(days), 365, [None])
    assert weighed["verdict"] == "too short"
    assert all(math.isnan(weighed[name]) for name in ("psr", "dsr", "needed_days"))


def test_luck_that_no_number_of_days_beats_is_infinitely_far():
    weighed = significance(record(300, mean=1e-5), 365, [Outcome(0.2, 300), Outcome(-0.2, 300)])
    assert weighed["verdict"] == "luck"
    assert weighed["needed_days"] == math.inf
