"""Strategies under stress: what becomes of an account in scenarios that did not happen, beside the one that did.

``stress`` generates scenarios and runs them, ``write_stress`` makes the page.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd

from hissbt.backtest import Setup, described, described_bars
from hissbt.bars import Bars, Time, parse_time
from hissbt.candles import CANDLE, LOG_RETURN
from hissbt.errors import BarsError, ConfigError
from hissbt.feeds.funding import Funding
from hissbt.reports.run_folder import provenance
from hissbt.research.generators import Driftless, Generator
from hissbt.research.progress import Progress
from hissbt.research.results import write_results
from hissbt.research.stress.engine import Stage, run_scenarios
from hissbt.research.stress.outcomes import LEVELS, Outcome, leaks, summary, table_of
from hissbt.research.stress.page import write_page
from hissbt.research.stress.verdicts import verdicts
from hissbt.timeframe import format_timeframe
from hissbt.trading.costs import Costs

__all__ = ["Stage", "Stress", "run_scenarios", "stress", "write_stress"]

_BINS = 40


@dataclass(frozen=True)
class Stress:
    """What a strategy went through."""

    results: dict[str, Any]
    """Everything that the page shows, as plain data."""
    outcomes: pd.DataFrame
    """One row a scenario, see ``hissbt.research.stress.outcomes``."""


def stress(
    bars: Bars,
    strategy: type[bt.Strategy],
    generators: Sequence[Generator],
    *,
    since: Time,
    length: int = 720,
    n: int = 500,
    seed: int = 0,
    params: Mapping | None = None,
    costs: Costs | Mapping | None = None,
    funding: Funding | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Stress:
    """Run ``strategy`` through ``n`` scenarios of ``length`` bars of each generator, and along the real path.

    Scenarios begin where the first bar that opens at or after ``since`` does, and go on from the real bars before
    it, which is all that a generator is given. The strategy is warm by then: it decides first at the last real
    close. Each scenario has a Cerebro of its own. ``model`` to ``guards`` are those of ``run_backtest``; rates of
    funding are the real ones of that time. The number of ``workers`` changes no figure.

    Raises ConfigError for an ``n`` or ``length`` below 1, or two generators of one name; BarsError for a ``since``
    outside of the bars, or too few bars before it; StrategyError where the strategy fails in a scenario, naming
    it; and what ``run_backtest`` and the generators do.
    """
    begun = time.perf_counter()
    _check(generators, n, length)
    start = _start(bars, since)
    history, real_bars = bars[:start], bars[start : start + length] if start + length <= len(bars) else None
    setup = Setup.of(bars, strategy, params=params, costs=costs, funding=funding)
    stage = Stage.of(setup, history, length)
    rows = {}
    for generator in generators:
        if progress is not None:
            progress(f"{generator.name} generates", 0, n * len(generators))
        rows[generator.name] = _generated(generator, n, length, seed, history)
    generated = time.perf_counter()
    outcomes = run_scenarios(stage, rows, seed=seed, workers=workers, progress=progress)
    played = time.perf_counter()
    real = None if real_bars is None else stage.play(real_bars, seed)
    table = table_of(outcomes)
    results = {
        "strategy": strategy.__name__,
        "symbol": bars.market.symbol,
        "timeframe": format_timeframe(bars.timeframe),
        "since": history.frame.index[-1].isoformat(),
        "until": stage.closes[-1].isoformat(),
        "n": n,
        "bars": length,
        "seed": seed,
        "warmup": stage.warmup,
        "real": real and real.row(),
        "generators": {name: summary(table[table["generator"] == name], real) for name in rows},
        "histograms": {figure: _histogram(table, figure) for figure in ("total_return", "max_drawdown")},
        "fans": _fans(stage, rows, outcomes, real_bars, real),
        "in_sample": _in_sample(setup, generators, history),
        "provenance": _provenance(setup, bars, seed),
        "seconds": {"generating": generated - begun, "backtests": played - generated},
    }
    results["leak"] = _leak(results["generators"])
    return Stress(results | {"verdicts": verdicts(results)}, table)


def write_stress(found: Stress, out: str | Path = "runs", name: str | None = None) -> Path:
    """Write report.html, results.json and scenarios.parquet to a new folder in ``out``, and return it.

    ``name`` is what the folder calls the strategy.
    """
    results = found.results
    tables = {"scenarios.parquet": found.outcomes}
    named = f"scenarios-{name or results['strategy']}"
    return write_results(out, named, results["symbol"], results, write_page, tables)


def _check(generators: Sequence[Generator], n: int, length: int) -> None:
    for name, count in (("n", n), ("length", length)):
        if count < 1:
            raise ConfigError(f"{name} is {count}: write a number of 1 or more")
    names = [generator.name for generator in generators]
    if len(set(names)) < len(names) or not names:
        raise ConfigError(f"generators are {', '.join(names) or 'none'}: name each one once, and at least one")


def _start(bars: Bars, since: Time) -> int:
    """Return the position of the first bar after the scenarios' beginning."""
    moment, opens, last = parse_time(since), bars.open_times, bars.frame.index[-1]
    if not opens[0] < moment <= last:
        raise BarsError(
            f"scenarios cannot begin at {moment:%Y-%m-%d %H:%M}: the bars of {bars.market.symbol} open at "
            f"{opens[0]:%Y-%m-%d %H:%M} and end at {last:%Y-%m-%d %H:%M} UTC, so choose a time inside, or load "
            "others"
        )
    return int(opens.searchsorted(moment))


def _generated(generator: Generator, n: int, length: int, seed: int, history: Bars) -> np.ndarray:
    rows = generator.generate(n, length, seed, history)
    if rows.shape != (n, length, len(CANDLE)):
        raise ConfigError(
            f"generator {generator.name} gave an array of shape {rows.shape} for {n} scenarios of {length} bars: "
            f"return candle rows [{n},{length},{len(CANDLE)}]"
        )
    return rows


# --- what is shown


def _in_sample(setup: Setup, generators: Sequence[Generator], history: Bars) -> list[str]:
    """Return who was trained on bars after ``history``."""
    ends = {"the strategy": setup.trained_until}
    for generator in generators:
        bundle = getattr(generator, "bundle", None)
        ends[f"the generator {generator.name}"] = bundle and parse_time(bundle.training_span["end"])
    return [name for name, end in ends.items() if end is not None and history.frame.index[-1] < end]


def _leak(generators: Mapping[str, Mapping]) -> bool | None:
    """Tell whether the strategy earns where it cannot; None where nothing of the kind was run."""
    return leaks(generators[Driftless.name]["means"]["gross_return"]) if Driftless.name in generators else None


def _histogram(table: pd.DataFrame, figure: str) -> dict[str, Any]:
    """Return how many scenarios of each generator end in which of the same bins."""
    edges = np.histogram_bin_edges(table[figure], bins=_BINS)
    counts = {
        name: np.histogram(values, edges)[0].tolist()
        for name, values in table.groupby("generator", sort=False)[figure]
    }
    return {"edges": edges.tolist(), "counts": counts}


def _fans(
    stage: Stage,
    rows: Mapping[str, np.ndarray],
    outcomes: Mapping[str, Sequence[Outcome]],
    real_bars: Bars | None,
    real: Outcome | None,
) -> dict[str, Any]:
    """Return quantiles of price and equity at each point of time, as multiples of what they were at the start."""
    found = {"times": [each.isoformat() for each in stage.times], "levels": LEVELS, "generators": {}}
    for name, candles in rows.items():
        price = np.exp(np.pad(candles[:, :, LOG_RETURN].cumsum(axis=1), ((0, 0), (1, 0))))  # [N,1+T]
        equity = np.stack([outcome.equity for outcome in outcomes[name]])  # [N,P]
        found["generators"][name] = {"price": _bands(price[:, stage.points]), "equity": _bands(equity)}
    if real is not None:
        closes = real_bars.frame["close"].to_numpy()
        path = np.concatenate([[stage.prefix.frame["close"].iloc[-1]], closes])
        found["real"] = {"price": (path / path[0])[stage.points].tolist(), "equity": real.equity.tolist()}
    return found


def _bands(curves: np.ndarray) -> list[list[float]]:
    """Return the quantiles [5][P] of curves [N,P]."""
    return np.quantile(curves, LEVELS, axis=0).round(6).tolist()


def _provenance(setup: Setup, bars: Bars, seed: int) -> dict[str, Any]:
    funding = setup.funding and {"symbol": setup.funding.symbol, "sha256": setup.funding.sha256}
    return {**described(setup, seed), "funding": funding, "source": described_bars(bars), **provenance()}
