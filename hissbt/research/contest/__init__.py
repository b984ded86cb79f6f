"""The contest: HiSS and all its rivals on the same folds, as ``hissbt compare --preset rivals`` runs it.

``protocol`` is everything that decides it; ``engine`` makes the fits, side by side and never twice, and
``runs`` hold them; ``scores``, ``trading``, ``against`` and ``choices`` work out what they are worth; ``verdicts``
says it by rule, ``figures`` and ``page`` show it. Who competes is in ``hissbt.research.rivals``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from hissbt.bars import Bars
from hissbt.errors import ConfigError
from hissbt.reports.run_folder import provenance
from hissbt.research.contest.against import tested
from hissbt.research.contest.choices import choices
from hissbt.research.contest.engine import play
from hissbt.research.contest.page import write_page
from hissbt.research.contest.protocol import FULL, QUICK, Protocol
from hissbt.research.contest.runs import Contest
from hissbt.research.contest.scores import Board, scored, sizes
from hissbt.research.contest.trading import traded
from hissbt.research.contest.verdicts import verdicts
from hissbt.research.progress import Progress
from hissbt.research.results import check_out, write_results
from hissbt.research.rivals.task import Rival

__all__ = ["FULL", "QUICK", "Protocol", "compare_rivals", "measure"]


def compare_rivals(
    bars: Bars,
    protocol: Protocol = FULL,
    *,
    out: str | Path = "runs",
    workers: int = 2,
    progress: Progress | None = None,
) -> tuple[Path, dict]:
    """Compare all rivals on ``bars``; return the new folder with report.html and results.json, and the results.

    Finished fits are kept in ``<out>/.contest``: the same call goes on where one was stopped.
    Raises BarsError for too few bars, ConfigError for a rival that does not exist, or if ``out`` is a file.
    """
    check_out(out)
    results = measure(bars, protocol, _roster(bars, protocol), out=out, workers=workers, progress=progress)
    return write_results(out, "compare-rivals", bars.market.symbol, results, write_page), results


def _roster(bars: Bars, protocol: Protocol) -> list[Rival]:
    from hissbt.research.rivals.roster import rivals  # torch comes with it, which few processes need

    everyone = {rival.name: rival for rival in rivals(bars.timeframe, protocol.quick)}
    names = protocol.rivals or tuple(everyone)
    if absent := [name for name in names if name not in everyone]:
        raise ConfigError(f"there is no rival {absent[0]!r}: choose from {', '.join(everyone)}")
    return [everyone[name] for name in names]


def measure(
    bars: Bars,
    protocol: Protocol,
    roster: Sequence[Rival],
    *,
    out: str | Path,
    workers: int = 2,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fit and score ``roster``; return it as plain data. The number of workers changes no figure but seconds."""
    begun = time.perf_counter()
    contest = play(bars, protocol, roster, out=out, workers=workers, progress=progress)
    horizon = protocol.horizon(bars.timeframe)
    block = max(protocol.block_horizons * horizon, 2)
    board = Board.of(bars, contest.tasks, contest.runs)
    worth, tests = scored(board, protocol, block), tested(board, horizon, block, protocol)
    fits = {rival.name: _fits(rival, contest) for rival in roster if rival.name in contest.runs}
    results = {
        "preset": "rivals",
        "short": protocol.quick or len(protocol.seeds) < len(FULL.seeds),
        "protocol": asdict(protocol),
        "data": _described(bars, contest, board, horizon, block),
        "rivals": {name: {**fits[name], **worth[name], "tests": tests[name]} for name in fits},
        "trading": traded(board, bars, protocol, block),
        "choices": choices(contest, bars, protocol, block),
        "failed": contest.failed,
    }
    results["verdicts"] = verdicts(results)
    return results | {"provenance": provenance(), "seconds": time.perf_counter() - begun}


def _fits(rival: Rival, contest: Contest) -> dict[str, Any]:
    """Return what a rival is, what was tried of it, and what a fit of it takes."""
    runs = [run for fold in contest.runs[rival.name] for run in fold]

    def mean(name: str) -> float:
        values = [run.said.facts[name] for run in runs if run.said.facts.get(name) is not None]
        return float(np.mean(values)) if values else float("nan")

    facts = {name: mean(name) for name in ("parameters", "epochs", "step_us")}
    seconds = mean("fit_seconds")
    facts["fit_seconds"] = float(np.mean([run.seconds for run in runs])) if np.isnan(seconds) else seconds
    return {
        "family": rival.family,
        "fits": facts,
        "tried": len(rival.settings),
        "chosen": [dict(fold[0].setting) for fold in contest.runs[rival.name]],
        "validation": [
            [{"setting": dict(run.setting), "score": run.score, "fault": run.fault} for run in fold]
            for fold in contest.tuned[rival.name]
        ],
    }


def _described(bars: Bars, contest: Contest, board: Board, horizon: int, block: int) -> dict[str, Any]:
    """Return which bars were used for what; spans are closes, first and last."""
    closes = bars.frame.index

    def span(rows: range) -> dict[str, Any]:
        return {"first": closes[rows[0]].isoformat(), "last": closes[rows[-1]].isoformat(), "bars": len(rows)}

    folds = [
        {"train": span(task.train), "validation": span(task.validation), "test": span(task.test)}
        for task in contest.tasks
    ]
    parts = {f"{name}, fold {at}": each for at, fold in enumerate(folds, 1) for name, each in fold.items()}
    judged = range(int(board.rows[0]), int(board.rows[-1]) + 1)
    return {
        "symbol": bars.market.symbol,
        "sha256": bars.sha256,
        "bars_given": len(bars),
        "horizon": horizon,
        "block": block,
        "features": list(contest.tasks[0].features),
        **sizes(board, horizon),
        "folds": folds,
        "spans": {**parts, "test": span(judged)},
    }
