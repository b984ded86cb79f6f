"""Who forecasts: EWMA, GARCH and HAR by symbol, linear models and networks for all symbols at once.

Each is a function of the tasks of one fold, a task a symbol, and a seed. It returns for each task the forecast log
variance of the rows from the first of ``train`` to the last of ``test``; ``calibrated`` then treats all alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from hissbt.econometrics import Garch
from hissbt.features import LOWEST_VARIANCE, FeatureSet, Normalizer
from hissbt.research.rivals.econometric import ewma, garch, har
from hissbt.research.rivals.measures import smearing
from hissbt.research.rivals.sizes import parameters_of, width_for
from hissbt.research.rivals.task import Forecasts, Task
from hissbt.research.volatility.protocol import FLAT, HAR, HAR_SEASON, HISS, RIDGE, RIDGE_SAME, Protocol

Said = tuple[list[np.ndarray], dict[str, Any]]
"""Log variances [R] by task, and ``parameters`` and ``fit_seconds``."""
SHAPES = {
    "flat S4D": ("hiss", {"strides": (), "blocks": "s4d", "n_layers": 3}),
    "flat Mamba": ("hiss", {"strides": (), "blocks": "mamba", "n_layers": 2}),
    "LSTM": ("lstm", {}),
}
"""The networks that are made as large as HiSS."""


@dataclass(frozen=True)
class Forecaster:
    """A rival by name."""

    name: str
    family: str
    """``econometric``, ``linear`` or ``network``."""
    forecast: Callable[[Sequence[Task], int], Said]
    """Given the tasks of a fold and a seed; functions of this module, so that processes can be sent them."""
    is_random: bool = False


@dataclass(frozen=True)
class Calibrated:
    """Forecasts [N] of one symbol at the test rows, right on average over the training rows."""

    log_mean: np.ndarray
    """The mean of the log variance."""
    log_variance: np.ndarray
    """The log of the mean variance."""


def calibrated(said: np.ndarray, task: Task) -> Calibrated:
    """Move a log variance [R] from the first training row on so that training residuals are right on average."""
    learned, known = said[: len(task.train)], task.log_variance[_slice(task.train)]
    rows = np.isfinite(learned) & np.isfinite(known)
    judged = said[len(said) - len(task.test) :]
    center = float(np.mean(known[rows] - learned[rows]))
    return Calibrated(judged + center, judged + np.log(smearing(learned[rows], known[rows])))


def forecasters(protocol: Protocol) -> tuple[Forecaster, ...]:
    """Return everyone who competes, HiSS first."""
    windows = {"windows": protocol.har}
    spans = [f"{name}:{span}" for name in ("log_volatility", "log_range_volatility") for span in protocol.har]
    lines = partial(ridge, protocol.alpha)
    return (
        Forecaster(HISS, "network", partial(network, "hiss", protocol.hiss, None, protocol.training), True),
        *(
            Forecaster(name, "network", partial(network, *SHAPES[name], protocol.hiss, protocol.training), True)
            for name in FLAT
        ),
        Forecaster(RIDGE, "linear", partial(lines, protocol.wide_features, None)),
        Forecaster(RIDGE_SAME, "linear", partial(lines, protocol.features, None)),
        Forecaster(
            "ridge refitted more often",
            "linear",
            partial(lines, protocol.wide_features, protocol.ridge_refit_bars),
        ),
        Forecaster("pooled HAR + range + harmonics", "linear", partial(lines, (*spans, *protocol.season), None)),
        Forecaster(
            HAR_SEASON, "econometric", partial(alone, partial(har, ("returns", "range", "season")), windows)
        ),
        Forecaster("HAR + range", "econometric", partial(alone, partial(har, ("returns", "range")), windows)),
        Forecaster(HAR, "econometric", partial(alone, partial(har, ("returns",)), windows)),
        Forecaster(
            "GJR-t", "econometric", partial(alone, partial(garch, Garch(asymmetric=True, student=True)), {})
        ),
        Forecaster("GARCH", "econometric", partial(alone, partial(garch, Garch()), {})),
        Forecaster("EWMA", "econometric", partial(alone, ewma, {"bars": protocol.horizon})),
    )


def alone(
    rival: Callable[[Task, Mapping[str, Any], int], Forecasts],
    settings: Mapping[str, Any],
    tasks: Sequence[Task],
    seed: int,
) -> Said:
    """Ask a rival of ``hissbt.research.rivals`` that knows one symbol at a time, for each of them."""
    found = [rival(task, settings, seed) for task in tasks]
    facts = {
        "parameters": found[0].facts["parameters"],
        "fit_seconds": sum(one.facts.get("fit_seconds", 0.0) for one in found),
    }
    return [_log(one.volatility**2) for one in found], facts


def ridge(alpha: float, features: Sequence[str], refit: int | None, tasks: Sequence[Task], seed: int) -> Said:
    """Regress the log variance on ``features``, all symbols at once; anew after ``refit`` test rows, if given."""
    from sklearn.linear_model import Ridge

    begun = time.perf_counter()
    known = FeatureSet(features)
    x = [known.scan(task.bars.arrays(known.columns)) for task in tasks]
    said = [np.full(_reach(task), np.nan) for task in tasks]
    step = refit or max(len(task.test) for task in tasks)
    for done in range(0, max(len(task.test) for task in tasks), step):
        seen = [range(task.train.start, task.train.stop + min(done, len(task.test))) for task in tasks]
        inputs = np.concatenate([one[_slice(rows)] for one, rows in zip(x, seen, strict=True)])
        labels = np.concatenate([task.log_variance[_slice(rows)] for task, rows in zip(tasks, seen, strict=True)])
        scale = Normalizer.fit(inputs)
        fit = Ridge(alpha=alpha).fit(scale(inputs), labels)
        for task, one, into in zip(tasks, x, said, strict=True):
            # The first fit speaks of the training rows, too; a later one of the test rows from ``done`` on.
            first = task.test.start + done if done else task.train.start
            if first < task.test.stop:
                into[first - task.train.start :] = fit.predict(scale(one[first : task.test.stop]))
    return said, {"parameters": known.size + 1, "fit_seconds": time.perf_counter() - begun}


def network(
    kind: str,
    shape: Mapping[str, Any],
    like: Mapping[str, Any] | None,
    training: Mapping[str, Any],
    tasks: Sequence[Task],
    seed: int,
) -> Said:
    """Fit a network to all symbols at once; one as large as the HiSS ``like``, if given."""
    from hissbt.training.regression import Series, fit_regression

    count = len(tasks[0].features)
    if like is not None:
        shape = width_for(kind, shape, count, parameters_of("hiss", like, count))
    begun = time.perf_counter()
    series = [Series(task.x, task.log_variance, task.train, range(0)) for task in tasks]
    fit = fit_regression(kind, shape, series, {**training, "seed": seed})
    seconds = time.perf_counter() - begun
    said = [fit.predict(task.x)[0][task.train.start :] for task in tasks]
    return said, {"parameters": fit.parameters, "fit_seconds": seconds}


def _log(variance: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(variance, LOWEST_VARIANCE))


def _reach(task: Task) -> int:
    """Return the number of rows from the first of ``train`` to the last of ``test``."""
    return task.test.stop - task.train.start


def _slice(rows: range) -> slice:
    return slice(rows.start, rows.stop)
