"""Sweeps: a strategy with every combination of some params and every seed, and how far the best one is luck.

``sweep`` runs the backtests on all cores or on a cluster, goes on where it was stopped, and makes the page.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd

from hissbt.backtest import Setup, described, described_bars, span_of, trial_facts
from hissbt.bars import Bars, Time
from hissbt.bundle import ModelBundle
from hissbt.errors import ConfigError, StrategyError, SweepError
from hissbt.feeds.funding import Funding
from hissbt.reports.metrics import significance_of
from hissbt.reports.run_folder import provenance
from hissbt.research.progress import Progress
from hissbt.research.results import check_out, write_results
from hissbt.research.sweep.crew import crew_of, outcomes
from hissbt.research.sweep.jobs import Job, Stage, jobs_of, play
from hissbt.research.sweep.journal import Journal
from hissbt.research.sweep.page import write_page
from hissbt.research.sweep.ranking import (
    combinations_of,
    overfitting,
    overfitting_sentence,
    returns_of,
    spread_sentence,
    trials_of,
)
from hissbt.timeframe import format_timeframe
from hissbt.trading.costs import Costs
from hissbt.trials import Outcome, Trials

__all__ = ["Job", "Stage", "play", "sweep"]


def sweep(
    bars: Bars,
    strategy: type[bt.Strategy],
    *,
    grid: Mapping[str, Sequence],
    seeds: Sequence[int] = (0,),
    model: str | Path | ModelBundle | None = None,
    params: Mapping[str, Any] | None = None,
    since: Time | None = None,
    until: Time | None = None,
    cash: float = 100_000.0,
    costs: Costs | Mapping | None = None,
    funding: Funding | None = None,
    backend: str = "local",
    scheduler: str | None = None,
    workers: int | None = None,
    out: str | Path = "runs",
    name: str | None = None,
    progress: Progress | None = None,
) -> tuple[Path, dict[str, Any]]:
    """Backtest ``strategy`` with every combination of ``grid`` (values by param) and every one of ``seeds``.

    Everything else is as ``run_backtest`` has it, and the same bars are traded by all. ``backend`` is ``local``
    (so many ``workers``, one a core if left out), ``dask`` (all workers of the cluster at ``scheduler``) or
    ``ray``. A cluster's workers need this version of hissbt, and a strategy's own file where it is here. Who runs
    the backtests changes no figure. Outputs of models are computed by whoever needs them first, and then come from
    the cache of that machine.

    Each backtest is a trial in the ledger of ``out``, entered when it has ended, the failed ones too, which stop
    none of the others. What has ended is kept at once: killed workers cost what they were at, and a sweep that was
    stopped goes on where it was when it is asked for again.

    Returns the new folder in ``out`` and its results: report.html, results.json, and trials.parquet with one row a
    backtest. ``name`` is what they call the strategy.

    Raises ConfigError for a grid or seeds without values or with equal ones, for a model in the grid, and for a
    backend that is not there; SweepError if every backtest failed; and what ``run_backtest`` does before it runs.
    """
    begun = time.perf_counter()
    check_out(out)
    stage, jobs = _prepared(bars, strategy, grid, seeds, model, params, since, until, cash, costs, funding)
    ledger, facts = Trials(out), trial_facts(stage.setup, bars)
    journal = Journal(Path(out) / f".sweep-{stage.fingerprint(jobs)[:16]}.jsonl")
    found = journal.read()
    missing = [job for job in jobs if job.number not in found]
    with crew_of(backend, scheduler, workers, stage) as crew:
        for outcome in outcomes(stage, missing, crew):
            job = jobs[outcome["job"]]
            found[job.number] = outcome | {"config_sha256": _entered(ledger, facts, stage.config(job), outcome)}
            journal.add(found[job.number])
            if progress is not None:
                progress(str(job), len(found), len(jobs))
    journal.remove()
    _check_any(jobs, found)
    results = _measured(stage, bars, grid, seeds, jobs, found, ledger)
    results |= {"strategy": name or strategy.__name__, "seconds": time.perf_counter() - begun}
    tables = {"trials.parquet": _storable(trials_of(jobs, found), grid)}
    folder = write_results(out, f"sweep-{results['strategy']}", bars.market.symbol, results, write_page, tables)
    return folder, results


def _prepared(
    bars: Bars,
    strategy: type[bt.Strategy],
    grid: Mapping[str, Sequence],
    seeds: Sequence[int],
    model: str | Path | ModelBundle | None,
    params: Mapping[str, Any] | None,
    since: Time | None,
    until: Time | None,
    cash: float,
    costs: Costs | Mapping | None,
    funding: Funding | None,
) -> tuple[Stage, list[Job]]:
    """Check everything that can be checked before the first backtest."""
    jobs = jobs_of(grid, seeds)
    if models := {"model", *getattr(strategy, "model_params", ())} & set(grid):
        raise ConfigError(f"the grid varies {min(models)}: sweep one model after the other")
    given = {"cash": cash, "costs": costs, "funding": funding}
    setup = Setup.of(bars, strategy, model=model, params={**(params or {}), **jobs[0].params}, **given)
    return Stage(setup, *span_of(bars, since, until, setup)), jobs


def _entered(ledger: Trials, facts: Mapping[str, Any], config: Mapping, outcome: Mapping[str, Any]) -> str:
    """Enter a backtest that has ended in the ledger of trials, and return the sha256 of its config."""
    with suppress(StrategyError, SweepError), ledger.trial("backtest", config, **facts) as trial:
        if outcome["error"] is not None:
            raise (StrategyError if outcome["refused"] else SweepError)(outcome["error"])
        trial.result |= outcome["daily"]
    return trial.config_sha256


def _check_any(jobs: Sequence[Job], found: Mapping[int, Mapping]) -> None:
    if all(outcome["error"] is not None for outcome in found.values()):
        raise SweepError(
            f"all {len(jobs):,} backtests failed, the one with {jobs[0]} of {found[0]['error']}: try the strategy "
            "with `hissbt backtest` first"
        )


# --- what is shown


def _measured(
    stage: Stage,
    bars: Bars,
    grid: Mapping[str, Sequence],
    seeds: Sequence[int],
    jobs: Sequence[Job],
    found: Mapping[int, Mapping],
    ledger: Trials,
) -> dict[str, Any]:
    table = combinations_of(trials_of(jobs, found), len(seeds))
    returns = returns_of(jobs, found, len(seeds))
    best = int(table.index[0])
    judged = overfitting(returns)
    tried = _tried(ledger, bars, found)
    weighed = significance_of(returns[best].to_numpy(), bars.market.periods_per_year, tried.values())
    weighed["ledger_faults"] = ledger.verify()
    errors = {str(job): found[job.number]["error"] for job in jobs}
    until = stage.setup.trained_until
    return {
        "symbol": bars.market.symbol,
        "timeframe": format_timeframe(bars.timeframe),
        "since": stage.first_open.isoformat(),
        "until": stage.bars.frame.index[-1].isoformat(),
        "grid": {name: list(values) for name, values in grid.items()},
        "seeds": list(seeds),
        "backtests": len(jobs),
        "failed": {backtest: error for backtest, error in errors.items() if error is not None},
        "in_sample": until is not None and stage.first_open < until,
        "table": [
            {"params": jobs[place * len(seeds)].params, **figures}
            for place, figures in zip(table.index, table.to_dict("records"), strict=True)
        ],
        "significance": weighed,
        "overfitting": judged,
        "curves": _curves(returns, best),
        "verdicts": {
            "spread": spread_sentence(table["sharpe"]),
            "best": weighed["sentence"],
            "overfitting": overfitting_sentence(judged, returns.shape[1]),
        },
        "provenance": _provenance(stage, bars, grid),
    }


def _tried(ledger: Trials, bars: Bars, found: Mapping[int, Mapping]) -> dict[str, Outcome | None]:
    """Return all that was tried on such bars, by the ledger, these backtests in any case."""
    own = {}
    for outcome in found.values():
        daily = outcome.get("daily", {})
        if daily.get("sharpe") is not None:
            own[outcome["config_sha256"]] = Outcome(daily["sharpe"], daily["observations"])
        elif not outcome.get("refused"):
            own[outcome["config_sha256"]] = None
    return ledger.tried(bars.market.symbol, format_timeframe(bars.timeframe)) | own


def _curves(returns: pd.DataFrame, best: int) -> dict[str, Any]:
    """Return what a start of 1 has become on each day: with the best combination, and with all of them."""
    grown = (1 + returns).cumprod()
    middle = np.quantile(grown, (0.25, 0.5, 0.75), axis=1)
    lines = dict(zip(("lower quarter", "median", "upper quarter"), middle.round(6).tolist(), strict=True))
    return {"days": list(returns.index), "best": grown[best].round(6).tolist(), **lines}


def _storable(trials: pd.DataFrame, grid: Mapping[str, Sequence]) -> pd.DataFrame:
    """Return the table with params of mixed kinds as texts, which Parquet can hold."""
    mixed = [name for name, values in grid.items() if len(set(map(type, values))) > 1]
    return trials.assign(**{name: trials[name].map(str) for name in mixed}).infer_objects()


def _provenance(stage: Stage, bars: Bars, grid: Mapping[str, Sequence]) -> dict[str, Any]:
    """Return what the backtests have in common, and what they were made from."""
    given = described(stage.setup, 0)
    fixed = {name: value for name, value in given["params"].items() if name not in grid}
    funding = stage.setup.funding and {"symbol": stage.setup.funding.symbol, "sha256": stage.setup.funding.sha256}
    del given["seed"]
    return given | {"params": fixed, "funding": funding, "source": described_bars(bars), **provenance()}
