"""Numbers that judge a run: how good the forecasts were, how the account fared, and how far that may be luck."""

import math
from collections.abc import Iterable

import numpy as np
import pandas as pd

from hissbt.evidence.sharpe import Moments
from hissbt.evidence.verdict import FEWEST, sentence, weigh
from hissbt.reports.costs import turnover
from hissbt.reports.returns import daily_returns
from hissbt.targets import forward_return
from hissbt.trading.sizing import FLAT
from hissbt.trials import Outcome


def forecast_metrics(ledger: pd.DataFrame, horizon: int) -> dict | None:
    """Score a ledger's forecasts against what the next ``horizon`` bars brought; None if it holds no forecasts."""
    if not {"expected_return", "prob_up"} <= set(ledger.columns):
        return None
    realized = forward_return(ledger["price"].to_numpy(), horizon)  # [T]
    expected, prob_up = ledger["expected_return"].to_numpy(), ledger["prob_up"].to_numpy()  # [T], [T]
    return {"horizon": horizon, **forecast_scores(expected, prob_up, realized)}


def forecast_scores(expected: np.ndarray, prob_up: np.ndarray, realized: np.ndarray) -> dict:
    """Score forecasts [T] of the mean and the sign of log returns ``realized`` [T].

    Only rows where all three are known count (``n``). ``mse`` and ``mae`` are of the expected log return;
    ``accuracy`` and ``f1`` (of rises) are of ``prob_up > 0.5``. Beside them stand what always naming the more
    frequent direction (``majority_class``) and what always expecting 0 (``zero_forecast``) would have scored on
    the same rows. What is not defined is NaN.
    """
    known = np.isfinite(realized) & np.isfinite(expected) & np.isfinite(prob_up)
    realized, expected, prob_up = realized[known], expected[known], prob_up[known]
    rose = realized > 0
    majority = np.full(len(rose), rose.sum() * 2 > len(rose))
    return {
        "n": len(rose),
        **_errors(expected - realized),
        **_classification(prob_up > 0.5, rose),
        "majority_class": _classification(majority, rose),
        "zero_forecast": _errors(realized),
    }


def trading_metrics(
    ledger: pd.DataFrame, trades: pd.DataFrame, fills: pd.DataFrame, periods_per_year: int
) -> dict:
    """Judge a run by its ledger, trades and fills (the tables of ``Ledger``).

    ``sharpe``, ``sortino`` (downside deviation over all days) and ``max_drawdown`` (a negative fraction,
    counted from the start value on) are those of daily returns, annualized with ``periods_per_year`` days and
    no risk-free rate. ``win_rate`` and ``profit_factor`` (sum of profits over sum of losses) are of pnl_net
    over all trades, one still open being marked at the last close. ``turnover`` is that of ``cost_report``.
    ``exposure`` is the share of bars with a position. Money is the account's. What is not defined is NaN.
    """
    returns = daily_returns(ledger)
    end, start = ledger["value"].iloc[-1], ledger.attrs["start_value"]
    profits = trades["pnl_net"]
    return {
        "total_return": end / start - 1,
        **_risk(returns, periods_per_year),
        "win_rate": (profits > 0).mean() if len(trades) else math.nan,
        "profit_factor": _ratio(profits[profits > 0].sum(), -profits[profits < 0].sum()),
        "turnover": turnover(ledger, fills, periods_per_year),
        "exposure": (ledger["position"].abs() > FLAT).mean(),
        "trades": len(trades),
        "fees": ledger["fees"].sum(),
        "days": len(returns),
    }


def significance(ledger: pd.DataFrame, periods_per_year: int, tried: Iterable[Outcome | None]) -> dict:
    """Weigh the daily returns of a run against the luck of the best of all that was ``tried``, this run included.

    ``psr`` is the probability that the true Sharpe ratio is above 0, and ``dsr`` that it is above ``luck``, which
    the best of so many ``trials`` would be expected to reach without skill. ``sharpe`` and ``luck`` are annual, by
    ``periods_per_year``. ``needed_days`` are those at which such returns would be significant, infinite if no
    number would do, and ``effective_days`` what these are worth, as neighbors are alike. See ``hissbt.evidence``.

    A trial of another length counts with the Sharpe ratio that is as unlikely over this one's; one of less than
    30 days only as one more. Probabilities of so few days are NaN, as is all that is not defined.
    """
    return significance_of(daily_returns(ledger).to_numpy(), periods_per_year, tried)


def significance_of(returns: np.ndarray, periods_per_year: int, tried: Iterable[Outcome | None]) -> dict:
    """Weigh daily returns [T] as ``significance`` does those of a run."""
    tried = list(tried)
    sharpes = [
        outcome.sharpe * math.sqrt(outcome.observations / len(returns))
        for outcome in tried
        if outcome and outcome.observations >= FEWEST
    ]
    evidence = weigh(returns, periods_per_year, sharpes, len(tried))
    few = evidence.count < FEWEST
    return {
        "sentence": sentence(evidence),
        "verdict": evidence.verdict,
        "sharpe": evidence.sharpe,
        "psr": math.nan if few else evidence.psr,
        "dsr": math.nan if few else evidence.deflated.dsr,
        "luck": evidence.luck,
        "trials": len(tried),
        "trials_with_sharpe": len(sharpes),
        "days": evidence.count,
        "effective_days": evidence.effective,
        "needed_days": math.nan if few else evidence.needed,
    }


def daily_outcome(ledger: pd.DataFrame) -> dict:
    """Return what the ledger of trials keeps of a run: ``sharpe`` of a day, ``observations``, skew, kurtosis."""
    moments = Moments.of(daily_returns(ledger).to_numpy())
    return {
        "sharpe": moments.sharpe,
        "observations": moments.count,
        "skew": moments.skew,
        "kurtosis": moments.kurtosis,
    }


def buy_and_hold(
    ledger: pd.DataFrame, commission: float, inverse: bool = False
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Return the ledger, the trades and the fills of buying the asset at the ledger's start price and holding it.

    All of the start value is spent, ``commission`` (a fraction of notional) included, and paid once. The account
    of an ``inverse`` contract holds the asset already and counts in it: there is nothing to buy, nothing changes.
    """
    start_value, start_price = ledger.attrs["start_value"], ledger.attrs["start_price"]
    if inverse:
        held = ledger[["close_time", "price"]].assign(value=start_value, cash=start_value, position=0.0, fees=0.0)
        return held, pd.DataFrame({"pnl_net": []}), pd.DataFrame({"notional": []})
    size = start_value / (start_price * (1 + commission))
    fee = size * start_price * commission
    held = ledger[["close_time", "price"]].assign(value=size * ledger["price"], cash=0.0, position=size, fees=0.0)
    held.loc[held.index[0], "fees"] = fee
    gross = size * (ledger["price"].iloc[-1] - start_price)
    trade = {"size": size, "entry_price": start_price, "exit_time": pd.NaT, "exit_price": ledger["price"].iloc[-1]}
    trades = pd.DataFrame([trade | {"pnl_gross": gross, "fees": fee, "pnl_net": gross - fee}])
    return held, trades, pd.DataFrame({"notional": [size * start_price]})


def _errors(errors: np.ndarray) -> dict:
    if not len(errors):
        return {"mse": math.nan, "mae": math.nan}
    return {"mse": float(np.mean(errors**2)), "mae": float(np.mean(np.abs(errors)))}


def _classification(said: np.ndarray, was: np.ndarray) -> dict:
    """Return accuracy and F1 = 2 TP / (2 TP + FP + FN) of the positive class."""
    hits = np.sum(said & was)
    return {
        "accuracy": float(np.mean(said == was)) if len(was) else math.nan,
        "f1": _ratio(2 * hits, 2 * hits + np.sum(said != was)),
    }


def _risk(returns: pd.Series, periods_per_year: int) -> dict:
    # QuantStats' formulas, but not its guess: it takes returns that double in a day and never lose for prices.
    wealth = np.concatenate([[1.0], (1 + returns).cumprod()])
    losses = returns.clip(upper=0)
    year = math.sqrt(periods_per_year)
    return {
        "sharpe": _ratio(returns.mean() * year, returns.std()),
        "sortino": _ratio(returns.mean() * year, math.sqrt((losses**2).mean())),
        "max_drawdown": float((wealth / np.maximum.accumulate(wealth) - 1).min()),
    }


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else math.nan
