"""What the forecasts would have earned: every rival trades at the same closes, long or short."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from hissbt.bars import Bars
from hissbt.evidence.sharpe import Moments
from hissbt.evidence.verdict import sentence, weigh
from hissbt.research.contest.protocol import BUY_AND_HOLD, Protocol
from hissbt.research.contest.scores import Board
from hissbt.research.performance import performance, strategy_returns
from hissbt.research.resampling import block_interval
from hissbt.research.significance.forecasts import superior_ability

COSTS = ("gross", "net")
_SHOWN = ("mean_return", "sharpe", "max_drawdown", "annual_turnover")


def positions(rise: np.ndarray, horizon: int) -> np.ndarray:
    """Return positions [S,N] of probabilities [S,N]: decided at every ``horizon``-th row and held in between."""
    decided = np.sign(rise[:, ::horizon] - 0.5)
    return np.repeat(decided, horizon, axis=1)[:, : rise.shape[1]]


def traded(board: Board, bars: Bars, protocol: Protocol, block: int) -> dict[str, Any]:
    """Return what each rival with an opinion on the direction would have earned, and how sure that is.

    ``rivals`` has by name the figures gross and net, means over the seeds, the interval of the net Sharpe ratio,
    and of the account that gives each seed an equal share the probabilistic and the deflated Sharpe ratio, with N
    the number of rivals. ``superior`` has the p-values that none of them earns more than buy-and-hold, net.
    ``curves`` has the net accounts ``at`` the closes of decisions.
    """
    horizon, year = protocol.horizon(bars.timeframe), bars.market.bars_per_year(bars.timeframe)
    close = bars.frame["close"].to_numpy()
    asset = close[board.rows + 1] / close[board.rows] - 1
    cost = {"gross": 0.0, "net": bars.market.taker + protocol.half_spread}
    held = {
        name: np.ones((1, len(asset)))
        if name == BUY_AND_HOLD
        else positions(board.opinions[name].prob_up, horizon)
        for name, found in board.losses.items()
        if "log_loss" in found
    }
    net = {name: strategy_returns(each, asset, cost["net"]) for name, each in held.items()}  # [S,N]
    shared = {name: returns.mean(axis=0) for name, returns in net.items()}
    sharpes = [ratio for returns in shared.values() if np.isfinite(ratio := Moments.of(returns).sharpe)]

    def row(name: str) -> dict[str, Any]:
        seeds = {which: [performance(each, asset, year, cost[which]) for each in held[name]] for which in COSTS}
        evidence = weigh(shared[name], year, sharpes, len(shared))
        return {
            which: {key: float(np.mean([seed[key] for seed in found])) for key in _SHOWN}
            for which, found in seeds.items()
        } | {
            "seeds": [seed["sharpe"] for seed in seeds["net"]],
            "interval": _sharpe_interval(net[name], year, block, protocol),
            "psr": evidence.psr,
            "dsr": evidence.deflated.dsr,
            "evidence": sentence(evidence, "bars"),
        }

    return {
        "cost": cost["net"],
        "decisions": len(asset[::horizon]),
        "rivals": {name: row(name) for name in held},
        "superior": _superior(shared, asset, cost["net"], block, protocol),
        "curves": _curves(shared, board.rows, horizon, bars),
    }


def _sharpe_interval(returns: np.ndarray, year: float, block: int, protocol: Protocol) -> list[float]:
    """Return the interval of the annual Sharpe ratio, mean over the seeds [S,N]; NaN where nothing is traded."""
    if not np.ptp(returns, axis=1).all():
        return [np.nan, np.nan]
    both = np.concatenate([returns, returns**2]).T  # [N,2S]

    def statistic(at: np.ndarray) -> np.ndarray:
        weights = np.bincount(at, minlength=len(both)) / len(at)
        mean, square = np.split(weights @ both, 2)
        return np.atleast_1d(np.mean(mean / np.sqrt(square - mean**2)) * np.sqrt(year))

    return block_interval(statistic, len(both), block, protocol.repeats, protocol.tuning_seed)[:, 0].tolist()


def _superior(
    shared: Mapping[str, np.ndarray], asset: np.ndarray, cost: float, block: int, protocol: Protocol
) -> dict[str, float] | None:
    """Return Hansen's p-values that no rival earns more than buy-and-hold; None if none trades otherwise."""
    benchmark = strategy_returns(np.ones(len(asset)), asset, cost)
    others = [returns for returns in shared.values() if np.ptp(returns - benchmark) > 0]
    if not others:
        return None
    found = superior_ability(
        -benchmark, -np.stack(others, axis=1), block, seed=protocol.tuning_seed, repeats=protocol.repeats
    )
    return asdict(found)


def _curves(shared: Mapping[str, np.ndarray], rows: np.ndarray, horizon: int, bars: Bars) -> dict[str, Any]:
    """Return the accounts at the closes of decisions, 1 before the first."""
    at = np.arange(0, len(rows), horizon)
    closes = bars.frame.index[rows[at]]
    wealth = {name: np.concatenate([[1.0], np.cumprod(1 + returns)])[at] for name, returns in shared.items()}
    return {
        "at": [close.isoformat() for close in closes],
        "net": {name: each.tolist() for name, each in wealth.items()},
    }
