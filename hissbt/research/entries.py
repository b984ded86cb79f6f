"""Fits that a comparison makes count as trials, too: each is entered from the process that makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from hissbt.bars import Bars
from hissbt.timeframe import format_timeframe
from hissbt.trials import Trial, Trials

Enter = Callable[[Mapping], AbstractContextManager[Trial]]
"""Given the config of a fit, what surrounds it."""


def fits_on(bars: Bars, runs: str | Path | None) -> Enter:
    """Return what enters a fit on ``bars`` in the trial ledger of the folder ``runs``, begun and ended."""
    of = {"symbol": bars.market.symbol, "timeframe": format_timeframe(bars.timeframe)}
    return partial(_entered, Trials(runs), bars.sha256, of)


def _entered(trials: Trials, sha256: str, of: Mapping, config: Mapping) -> AbstractContextManager[Trial]:
    return trials.trial("fit", {"data": sha256, **config}, **of)
