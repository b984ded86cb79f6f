"""The fits: every fold, forecaster and seed, side by side, each kept as soon as it is finished.

A finished fit is a file in ``<out>/.volatility``, named by a hash of all that it depends on. So a run that was
killed goes on where it was, and one with more seeds or other scores fits only what is new. The folder may be
deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hissbt.atomic import atomic_file, to_json
from hissbt.research.code import code_sha256
from hissbt.research.entries import Enter, fits_on
from hissbt.research.progress import Progress
from hissbt.research.rivals.task import Task
from hissbt.research.volatility.material import Material
from hissbt.research.volatility.protocol import Protocol
from hissbt.research.volatility.rivals import Calibrated, Forecaster, calibrated, forecasters

FOLDER = ".volatility"
_SCORING = ("seeds", "block_horizons", "repeats", "until")
"""Settings of the protocol that no fit depends on."""


@dataclass(frozen=True)
class Outlook:
    """What one forecaster said of the judged symbols over all folds."""

    name: str
    family: str
    log_mean: np.ndarray
    """[J,S,N] by judged symbol, seed and judged row."""
    log_variance: np.ndarray
    """[J,S,N]"""
    parameters: int
    fit_seconds: float
    """The mean over folds and seeds."""


@dataclass(frozen=True)
class _Job:
    forecaster: Forecaster
    fold: int
    seed: int


def outlooks(
    data: Material, protocol: Protocol, out: str | Path, workers: int, progress: Progress | None
) -> list[Outlook]:
    """Fit everybody on every fold; the number of workers changes no figure.

    Every fit is entered in the trial ledger of the folder ``out``, see ``hissbt.trials``.
    """
    everybody = forecasters(protocol)
    jobs = [
        _Job(one, fold, seed)
        for one in everybody
        for seed in (protocol.seeds if one.is_random else protocol.seeds[:1])
        for fold in range(len(data.folds))
    ]
    made = _work(jobs, data, protocol, Path(out) / FOLDER, workers, progress)
    return [
        _joined(one, [made[at] for at, job in enumerate(jobs) if job.forecaster is one], data) for one in everybody
    ]


def _joined(one: Forecaster, made: Sequence[tuple[list[Calibrated], dict]], data: Material) -> Outlook:
    """Join the folds of each seed; ``made`` is in the order of seeds, then folds."""
    folds = len(data.folds)
    seeds = [made[at : at + folds] for at in range(0, len(made), folds)]

    def joined(key: str) -> np.ndarray:
        parts = [
            [np.concatenate([getattr(said[at], key) for said, _ in seed])[: len(data.closes)] for seed in seeds]
            for at in data.judged
        ]
        return np.array(parts)

    facts = [facts for _, facts in made]
    seconds = float(np.mean([each["fit_seconds"] for each in facts]))
    return Outlook(
        one.name, one.family, joined("log_mean"), joined("log_variance"), facts[0]["parameters"], seconds
    )


def _work(
    jobs: Sequence[_Job],
    data: Material,
    protocol: Protocol,
    folder: Path,
    workers: int,
    progress: Progress | None,
) -> list[tuple[list[Calibrated], dict]]:
    """Return what each job forecast by symbol, and its facts, in the order of ``jobs``."""
    from joblib import Parallel, delayed, parallel_config

    places = [_place(folder, job, data, protocol) for job in jobs]
    left = [at for at, place in enumerate(places) if not place.is_file()]
    done = len(jobs) - len(left)
    if done and progress is not None:
        progress("fits that were finished before", done, len(jobs))
    enter = fits_on(data.bars[0], folder.parent)
    with parallel_config("loky", n_jobs=workers, inner_max_num_threads=1):
        fits = Parallel(return_as="generator_unordered")(
            delayed(_fit)(
                at, places[at], jobs[at], data.folds[jobs[at].fold], _config(jobs[at], data, protocol), enter
            )
            for at in left
        )
        for at in fits:
            done += 1
            if progress is not None:
                job = jobs[at]
                progress(f"{job.forecaster.name}, fold {job.fold + 1}, seed {job.seed}", done, len(jobs))
    return [_read(place) for place in places]


def _fit(at: int, place: Path, job: _Job, tasks: Sequence[Task], config: dict[str, Any], enter: Enter) -> int:
    """Fit, forecast, and keep in ``place`` what came of it; return ``at``."""
    with enter({"until": tasks[0].test.stop, **config}):
        said, facts = job.forecaster.forecast(tasks, job.seed)
        found = [calibrated(values, task) for values, task in zip(said, tasks, strict=True)]
    arrays = {f"{key}_{number}": values for number, one in enumerate(found) for key, values in asdict(one).items()}
    with atomic_file(place) as temporary:
        np.savez(temporary, facts=np.array(to_json(facts)), **arrays)
    return at


def _read(place: Path) -> tuple[list[Calibrated], dict]:
    with np.load(place) as arrays:
        symbols = (len(arrays.files) - 1) // 2
        found = [Calibrated(arrays[f"log_mean_{at}"], arrays[f"log_variance_{at}"]) for at in range(symbols)]
        return found, json.loads(str(arrays["facts"]))


def _config(job: _Job, data: Material, protocol: Protocol) -> dict[str, Any]:
    """Return what makes a fit another trial than the next one, beside bars and rows."""
    settings = {key: value for key, value in asdict(protocol).items() if key not in _SCORING}
    return {
        "preset": "volatility",
        "forecaster": job.forecaster.name,
        "seed": job.seed,
        "protocol": settings,
        "also": [bars.sha256 for bars in data.bars[1:]],
    }


def _place(folder: Path, job: _Job, data: Material, protocol: Protocol) -> Path:
    """Return the file of a job, named by all that its numbers depend on."""
    key = {
        "data": data.bars[0].sha256,
        "rows": [[task.train.start, task.train.stop, task.test.stop] for task in data.folds[job.fold]],
        "code": code_sha256(),
        **_config(job, data, protocol),
    }
    return folder / f"{hashlib.sha256(to_json(key).encode()).hexdigest()}.npz"
