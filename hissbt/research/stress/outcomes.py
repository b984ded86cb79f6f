"""What became of an account in one scenario, and in all of them: quantiles and probabilities with their errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd

from hissbt.backtest import guard_record
from hissbt.reports.trades import COSTS
from hissbt.research.performance import max_drawdown

LEVELS = (0.05, 0.25, 0.50, 0.75, 0.95)
"""The quantiles that are reported."""
FIGURES = ("total_return", "max_drawdown", "cvar")
"""Of what they are."""
DRAWDOWNS = (0.05, 0.10, 0.20)
"""The drawdowns whose probability is reported."""
TAIL = 0.05
"""The share of the worst bars over which ``cvar`` is a mean."""
LEAK_ERRORS = 2.33
"""How many standard errors above 0 the mean return on a driftless null is a leak: one-sided 1 %."""


@dataclass(frozen=True)
class Outcome:
    """How a run ended. Returns are simple and fractions of the start value, drawdown and CVaR 0 or less."""

    total_return: float
    """Net of all costs."""
    gross_return: float
    """At the prices before spread and impact, no costs paid."""
    max_drawdown: float
    """Of equity at the closes of bars, from its peak, which is the start value at first."""
    cvar: float
    """Mean of the worst 5 % of the bars' returns."""
    trades: int
    guards: str
    """Names of the guards that were in force at some bar, separated by spaces."""
    liquidated: bool
    equity: np.ndarray
    """[P] at the points that were asked for, as a multiple of the start value."""

    def row(self) -> dict[str, Any]:
        """Return everything but the curve."""
        return {name: value for name, value in vars(self).items() if name != "equity"}


def outcome_of(finished: bt.Strategy, points: np.ndarray) -> Outcome:
    """Judge a finished strategy by its ledger.

    ``points`` [P] are numbers of bars since the start, at which equity is wanted; 0 is before the first. A run
    that ended before the last of its bars keeps the value that it ended with.
    """
    ledger = finished.analyzers.ledger
    start, frame = ledger.frame.attrs["start_value"], ledger.frame
    equity = np.concatenate([[start], frame["value"].to_numpy()]) / start  # [1+T]
    # An account that is used up earns nothing more.
    returns = np.divide(np.diff(equity), equity[:-1], out=np.zeros(len(frame)), where=equity[:-1] > 0)
    costs = frame[list(COSTS)].to_numpy().sum()
    return Outcome(
        total_return=float(equity[-1] - 1),
        gross_return=float(equity[-1] - 1 + costs / start),
        max_drawdown=max_drawdown(returns),
        cvar=tail_mean(returns),
        trades=len(ledger.trades),
        guards=" ".join(sorted({row["name"] for row in guard_record(finished)})),
        liquidated=finished.broker.counts["liquidation"] > 0,
        equity=equity[np.minimum(points, len(frame))],
    )


def tail_mean(returns: np.ndarray, tail: float = TAIL) -> float:
    """Return the mean of the lowest share ``tail`` of ``returns`` [T], at least of one: the CVaR, as a return."""
    count = max(1, round(tail * len(returns)))
    return float(np.partition(returns, count - 1)[:count].mean())


def table_of(outcomes: Mapping[str, Iterable[Outcome]]) -> pd.DataFrame:
    """Return one row a scenario: the generator, the scenario's number, and all of the outcome but its curve."""
    return pd.DataFrame(
        {"generator": name, "scenario": number} | outcome.row()
        for name, found in outcomes.items()
        for number, outcome in enumerate(found)
    )


def summary(table: pd.DataFrame, real: Outcome | None = None) -> dict[str, Any]:
    """Return what the outcomes of one generator say together, and where the real path lies among them.

    ``quantiles`` of each of ``FIGURES`` at ``LEVELS`` and ``probabilities`` of events have Monte-Carlo standard
    errors beside them (see the functions below), and so have ``means`` of the return before and after costs.
    """
    return {
        "n": len(table),
        "quantiles": {name: _quantiles(table[name].to_numpy(), real and getattr(real, name)) for name in FIGURES},
        "probabilities": {
            name: probability(happened) | {"real": None if real is None else bool(_events(real.row())[name])}
            for name, happened in _events(table).items()
        },
        "means": {name: mean(table[name].to_numpy()) for name in ("gross_return", "total_return")},
        "trades": float(table["trades"].mean()),
    }


def _events(row: Mapping[str, Any] | pd.DataFrame) -> dict[str, Any]:
    """Return which events happened, in one outcome or in each of a table."""
    deep = {f"drawdown_over_{100 * depth:.0f}": row["max_drawdown"] < -depth for depth in DRAWDOWNS}
    return {**deep, "guard_in_force": row["guards"] != "", "liquidated": row["liquidated"]}


def _quantiles(values: np.ndarray, real: float | None) -> dict[str, Any]:
    found = {
        "values": np.quantile(values, LEVELS).tolist(),
        "errors": [quantile_error(values, level) for level in LEVELS],
        "real": real,
    }
    return found if real is None else found | percentile(values, real)


def quantile_error(values: np.ndarray, level: float) -> float:
    """Return the standard error of a quantile: half of Woodruff's interval (JASA 47, 1952) of one deviation.

    The quantiles between which the sampling of ``values`` [N] puts the level: level ± √(level (1 − level) / N).
    NaN for a single value.
    """
    if len(values) < 2:
        return math.nan
    reach = math.sqrt(level * (1 - level) / len(values))
    low, high = np.quantile(values, np.clip([level - reach, level + reach], 0, 1))
    return float(high - low) / 2


def probability(happened: np.ndarray | pd.Series) -> dict[str, float]:
    """Return the share of the scenarios in which something happened, and its standard error.

    The error is Agresti and Coull's (The American Statistician 52, 1998), as if it had happened twice more and had
    not twice more: what was seen in none or in all of N scenarios is not certain.
    """
    count, hits = len(happened), int(np.sum(happened))
    guess = (hits + 2) / (count + 4)
    return {"value": hits / count, "error": math.sqrt(guess * (1 - guess) / (count + 4))}


def percentile(values: np.ndarray, real: float) -> dict[str, float]:
    """Return the share of ``values`` [N] below ``real``, of equal ones half, and its standard error."""
    share = float(np.mean(values < real) + np.mean(values == real) / 2)
    return {"percentile": share, "percentile_error": probability(values < real)["error"]}


def mean(values: np.ndarray) -> dict[str, float]:
    """Return the mean of ``values`` [N] and its standard error, NaN for a single value."""
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else math.nan
    return {"value": float(values.mean()), "error": error}


def leaks(found: Mapping[str, float]) -> bool:
    """Tell whether a mean return before costs, of prices that nobody can foretell, is above 0 beyond chance."""
    return found["value"] > LEAK_ERRORS * found["error"]
