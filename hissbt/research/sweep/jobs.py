"""The backtests of a sweep: every combination of a grid with every seed, over the same bars."""

from __future__ import annotations

import hashlib
import json
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import pandas as pd

from hissbt.atomic import to_json
from hissbt.backtest import Setup, trial_config
from hissbt.bars import Bars
from hissbt.errors import ConfigError, HissbtError
from hissbt.reports.metrics import daily_outcome, trading_metrics
from hissbt.reports.returns import daily_returns
from hissbt.version import __version__

_DRAWING = ("dask.sizeof", "distributed.comm.core", "distributed.utils_comm")
"""Modules that draw Python's random numbers whenever a Dask worker sends a message, while a backtest of the same
process does, too. They are given their own, so that a backtest has those of its seed."""


class Job(NamedTuple):
    """One backtest."""

    number: int
    """From 0."""
    params: dict[str, Any]
    """Its place in the grid."""
    seed: int

    def __str__(self) -> str:
        return ", ".join(f"{name} {value}" for name, value in {**self.params, "seed": self.seed}.items())


@dataclass(frozen=True)
class Stage:
    """What all backtests of a sweep share; each worker is sent it once."""

    setup: Setup
    """With the params of the first combination; the others replace them."""
    bars: Bars
    """Those that are fed, the warm-up too."""
    first_open: pd.Timestamp

    def setup_of(self, job: Job) -> Setup:
        """Return the setup of one backtest."""
        return replace(self.setup, params=self.setup.params | job.params)

    def config(self, job: Job) -> dict:
        """Return all that makes it another trial than the next one: what ``run_backtest`` would enter."""
        return trial_config(self.setup_of(job), job.seed, self.bars, self.first_open)

    def fingerprint(self, jobs: Sequence[Job]) -> str:
        """Return a hash of all that the figures of these jobs depend on."""
        grid = [[{name: repr(value) for name, value in job.params.items()}, job.seed] for job in jobs]
        return hashlib.sha256(to_json([__version__, self.config(jobs[0]), grid]).encode()).hexdigest()


def play(stage: Stage, job: Job) -> str:
    """Run a backtest in a worker, and return what became of it as JSON; it never raises.

    ``error`` says what was raised, and ``refused`` whether that was an error of ours about the input. Else there
    are ``figures`` (those of ``trading_metrics``), ``daily`` (what the ledger of trials keeps), and ``returns`` of
    ``days``.
    """
    for name in _DRAWING:
        if name in sys.modules:
            sys.modules[name].random = random.Random()
    return json.dumps(json.loads(to_json(_played(stage, job))))


def _played(stage: Stage, job: Job) -> dict[str, Any]:
    setup = stage.setup_of(job)
    try:
        ledger = setup.run(stage.bars, stage.first_open, job.seed).analyzers.ledger
        returns = daily_returns(ledger.frame)
        figures = trading_metrics(ledger.frame, ledger.trades, ledger.fills, setup.market.periods_per_year)
        daily = daily_outcome(ledger.frame)
    except Exception as error:  # noqa: BLE001, it is a result: others go on
        refused = isinstance(error, HissbtError) and error.exit_code == 2
        return failure(job, f"{type(error).__name__}: {error}", refused)
    days = [f"{day:%Y-%m-%d}" for day in returns.index]
    found = {"figures": figures, "daily": daily, "returns": returns.to_list(), "days": days}
    return {"job": job.number, "error": None, **found}


def failure(job: Job, error: str, refused: bool = False) -> dict[str, Any]:
    """Return the outcome of a backtest that failed."""
    return {"job": job.number, "error": error, "refused": refused}


def jobs_of(grid: Mapping[str, Sequence], seeds: Sequence[int]) -> list[Job]:
    """Return the jobs of a grid, the seeds of a combination beside each other, the last param turning fastest.

    Raises ConfigError for a grid or a param without values, for values that are there twice, and without seeds.
    """
    for name, values in (*grid.items(), ("seeds", seeds)):
        if not len(values) or len(set(map(repr, values))) < len(values):
            shown = ", ".join(map(str, values)) or "none"
            raise ConfigError(f"the values of {name} are {shown}: give at least one, and each one once")
    if not grid:
        raise ConfigError("the grid is empty: name a parameter of the strategy and its values")
    combinations = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    every = product(combinations, seeds)
    return [Job(number, params, seed) for number, (params, seed) in enumerate(every)]
