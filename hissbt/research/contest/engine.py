"""The fits of a contest: every fold, rival, setting and seed, side by side, each kept as soon as it is finished.

A finished fit is a file in ``<out>/.contest``, named by a hash of all that it depends on, the code included. So a
contest that was killed goes on where it was, and one with more seeds or other scores fits only what is new. The
folder may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hissbt.atomic import atomic_file, to_json
from hissbt.bars import Bars
from hissbt.errors import HissbtError, TrainingError
from hissbt.research.code import code_sha256
from hissbt.research.contest.protocol import HISS, Protocol
from hissbt.research.contest.runs import Contest, Run
from hissbt.research.contest.scores import validation_score
from hissbt.research.entries import Enter, fits_on
from hissbt.research.progress import Progress
from hissbt.research.rivals.task import Forecasts, Rival, Task

FOLDER = ".contest"
SAID = ("expected_return", "prob_up", "volatility")
"""The arrays of ``Forecasts``."""
_FEWEST = 10  # horizons in the training part of a fold


def tasks(bars: Bars, protocol: Protocol) -> list[Task]:
    """Return the folds; a task holds no bar after its test. Raises BarsError for too few bars."""
    from hissbt.training.splits import split_in_time, walk_forward  # torch comes with it, as with the roster

    count, horizon = len(bars), protocol.horizon(bars.timeframe)
    first_test = count - round(count * protocol.test_fraction)
    test_bars = -(-(count - first_test) // protocol.folds)
    found = []
    for fold in walk_forward(count, first_test, test_bars, embargo=horizon):
        split = split_in_time(fold.train.stop, protocol.validation_fraction, horizon, _FEWEST * horizon)
        shown, inputs = bars[: fold.test.stop], protocol.inputs(bars.timeframe)
        found.append(Task(shown, inputs, horizon, split.train, split.validation, fold.test))
    return found


def play(
    bars: Bars,
    protocol: Protocol,
    roster: Sequence[Rival],
    *,
    out: str | Path,
    workers: int = 2,
    progress: Progress | None = None,
) -> Contest:
    """Fit all of ``roster`` on all folds; the number of workers changes no figure.

    Every fit is entered in the trial ledger of the folder ``out``, see ``hissbt.trials``.
    A rival of which a fit fails with an error of ours is left out, and named; of its settings some may fail.
    Raises BarsError for too few bars.
    """
    folds = tasks(bars, protocol)
    numbers = range(len(folds))
    crew = _Crew(bars, folds, Path(out) / FOLDER, fits_on(bars, out), workers, progress)
    tuning = {
        rival.name: [[_Job(at, rival, each, protocol.tuning_seed) for each in rival.settings] for at in numbers]
        for rival in roster
    }
    fits = sum(len(_seeds(rival, protocol)) for rival in roster)
    if any(rival.name == HISS for rival in roster):
        fits += len(protocol.choices) * len(protocol.seeds)
    total = len(_flat(tuning)) + len(folds) * fits

    tuned = crew.work(tuning, 0, total)
    final = {}
    for rival in roster:
        best = [max(runs, key=lambda run: run.score) for runs in tuned[rival.name]]
        final[rival.name] = _seeded(rival, [run.setting for run in best], protocol)
        if rival.name == HISS:
            for name, change in protocol.choices.items():
                final[name] = _seeded(rival, [_merged(run.setting, change) for run in best], protocol)
    runs = crew.work(final, total - len(_flat(final)), total)

    faults = {name: [run.fault for fold in found for run in fold if run.fault] for name, found in runs.items()}
    failed = {name: some[0] for name, some in faults.items() if some}
    whole = {name: found for name, found in runs.items() if name not in failed}
    return Contest(
        folds,
        tuned,
        {name: found for name, found in whole.items() if name in tuned},
        {name: found for name, found in whole.items() if name not in tuned},
        failed,
    )


# --- the jobs


@dataclass(frozen=True)
class _Job:
    """A fit to be made."""

    fold: int
    rival: Rival
    setting: Mapping[str, Any]
    seed: int


_Jobs = Mapping[str, list[list[_Job]]]
"""By rival or choice, then fold."""


def _seeds(rival: Rival, protocol: Protocol) -> tuple[int, ...]:
    return protocol.seeds if rival.is_random else (protocol.tuning_seed,)


def _seeded(rival: Rival, settings: Iterable[Mapping], protocol: Protocol) -> list[list[_Job]]:
    return [
        [_Job(at, rival, setting, seed) for seed in _seeds(rival, protocol)] for at, setting in enumerate(settings)
    ]


def _merged(setting: Mapping, change: Mapping) -> dict:
    """Return ``setting`` with ``change`` put over it, in mappings inside of it too."""
    both = {
        key: _merged(setting[key], new) for key, new in change.items() if isinstance(setting.get(key), Mapping)
    }
    return {**setting, **change, **both}


def _flat(jobs: _Jobs) -> list[_Job]:
    return [job for folds in jobs.values() for fold in folds for job in fold]


# --- the work


class _Made(NamedTuple):
    """What a fit left behind."""

    said: Forecasts | None
    seconds: float
    fault: str | None = None


@dataclass(frozen=True)
class _Crew:
    """Does jobs side by side, and none that was finished before."""

    bars: Bars
    tasks: list[Task]
    folder: Path
    enter: Enter
    workers: int
    progress: Progress | None

    def work(self, jobs: _Jobs, done: int, total: int) -> dict[str, list[list[Run]]]:
        """Return the runs in the order of ``jobs``; ``progress`` is told from ``done`` on."""
        flat = _flat(jobs)
        places = [self._place(job) for job in flat]
        made = {place: _read(place) for place in places if place.is_file()}
        left = {place: job for place, job in zip(places, flat, strict=True) if place not in made}
        done += len(flat) - len(left)
        if made and self.progress is not None:
            self.progress("fits that were finished before", done, total)
        for place, fresh in self._fit_all(left):
            made[place] = fresh
            done += 1
            if self.progress is not None:
                job = left[place]
                self.progress(f"{job.rival.name}, fold {job.fold + 1}, seed {job.seed}", done, total)
        place_of = iter(places)
        return {
            name: [[self._run(job, made[next(place_of)]) for job in fold] for fold in folds]
            for name, folds in jobs.items()
        }

    def _place(self, job: _Job) -> Path:
        """Return the file of a job, named by all that its numbers depend on."""
        task = self.tasks[job.fold]
        key = {
            "data": self.bars.sha256,
            "code": code_sha256(),
            "rows": [[rows.start, rows.stop] for rows in (task.train, task.validation, task.test)],
            **_config(job, task),
        }
        return self.folder / f"{hashlib.sha256(to_json(key).encode()).hexdigest()}.npz"

    def _fit_all(self, jobs: Mapping[Path, _Job]) -> Iterator[tuple[Path, _Made]]:
        from joblib import Parallel, delayed, parallel_config

        with parallel_config("loky", n_jobs=self.workers, inner_max_num_threads=1):
            yield from Parallel(return_as="generator_unordered")(
                delayed(_fit)(place, job, self.tasks[job.fold], self.enter) for place, job in jobs.items()
            )

    def _run(self, job: _Job, made: _Made) -> Run:
        score = -np.inf if made.said is None else validation_score(made.said, self.tasks[job.fold])
        return Run(job.fold, job.setting, job.seed, made.said, score, made.seconds, made.fault)


def _config(job: _Job, task: Task) -> dict[str, Any]:
    """Return what makes a fit another trial than the next one, beside bars and rows."""
    return {
        "preset": "rivals",
        "rival": job.rival.name,
        "setting": job.setting,
        "seed": job.seed,
        "horizon": task.horizon,
        "features": task.features,
    }


def _fit(place: Path, job: _Job, task: Task, enter: Enter) -> tuple[Path, _Made]:
    """Fit and forecast; what succeeded is kept in ``place`` before it is returned."""
    begun = time.perf_counter()
    try:
        with enter({"until": task.test.stop, **_config(job, task)}):
            said = job.rival.forecast(task, job.setting, job.seed)
            _check(said, task, job.rival.name)
    except HissbtError as error:
        return place, _Made(None, time.perf_counter() - begun, str(error))
    made = _Made(said, time.perf_counter() - begun)
    _write(place, made)
    return place, made


def _check(said: Forecasts, task: Task, name: str) -> None:
    """Raise TrainingError for forecasts that are of another length, or have an opinion at some rows only."""
    for key in SAID:
        values = getattr(said, key)
        if values.shape != (len(task.judged),):
            raise TrainingError(f"{name} gave {key} of shape {values.shape}, not of {len(task.judged)} rows")
        known = np.isfinite(values)
        if known.any() and not known.all():
            raise TrainingError(
                f"{name} left out {key} at {(~known).sum()} of {len(known)} rows: give all or none"
            )


# --- what is kept


def _write(place: Path, made: _Made) -> None:
    notes = to_json({"facts": dict(made.said.facts), "seconds": made.seconds})
    with atomic_file(place) as temporary:
        np.savez(temporary, notes=np.array(notes), **{key: getattr(made.said, key) for key in SAID})


def _read(place: Path) -> _Made:
    with np.load(place) as arrays:
        notes = json.loads(str(arrays["notes"]))
        return _Made(Forecasts(**{key: arrays[key] for key in SAID}, facts=notes["facts"]), notes["seconds"])
