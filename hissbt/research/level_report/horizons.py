"""Which future a level knows of: linear probes from what it holds to returns and variances over several horizons.

A probe is fitted on the training span, with outcomes inside it, and judged on what comes after.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from hissbt.evidence.independence import disjoint_size
from hissbt.features import LOWEST_VARIANCE
from hissbt.research.hvae_report.forecasters import chosen
from hissbt.research.hvae_report.readings import Spans
from hissbt.research.level_report.intervals import interval_of_means
from hissbt.targets import forward_return, realized_volatility

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

_OUTCOMES = 20  # that share no bar, at least, to fit to and to score on
_A_HORIZON = 24  # decisions at most: more of them share nearly all bars


@dataclass(frozen=True)
class Probe:
    """Ridge regression on standardized inputs."""

    model: Pipeline

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray, strength: float) -> Probe:
        """Fit to inputs x [N,k] and outcomes y [N]."""
        from sklearn.linear_model import Ridge
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        return cls(make_pipeline(StandardScaler(), Ridge(strength)).fit(x, y))

    def score(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the negative squared errors [N]: more is better."""
        return -((y - self.model.predict(x)) ** 2)


def log_variance(close: np.ndarray, horizon: int) -> np.ndarray:
    """Return the log of the realized variance [T] over the next ``horizon`` bars, NaN where they are not there."""
    return np.log(np.maximum(realized_volatility(close, horizon) ** 2, horizon * LOWEST_VARIANCE))


TARGETS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {"return": forward_return, "variance": log_variance}
"""What is forecast, by its name: from closes [T] and a horizon."""


def asked(of: Spans, trained: int) -> list[int]:
    """Return the horizons: a bar, an hour, four, a day, a week, a month, and that of the network."""
    return sorted({1, *(max(of.day // parts, 1) for parts in (24, 6)), of.day, of.week, of.month, trained})


def horizons(close: np.ndarray, sources: Mapping[str, np.ndarray], of: Spans, ask: list[int]) -> dict[str, Any]:
    """Return what a linear probe makes of each of ``sources`` [T,k], for every target and horizon.

    ``found`` lists target, horizon, how many decisions were fitted to and scored, and by source the share of the
    squared error of the training mean that the probe takes away out of sample, with a 95 % interval. A horizon
    with too few outcomes that share no bar is in ``left_out``.
    """
    enough = [h for h in ask if min(len(of.seen), len(of.unseen)) >= _OUTCOMES * h]
    return {
        "asked": ask,
        "left_out": [h for h in ask if h not in enough],
        "found": [_judged(target, close, sources, of, h) for target in TARGETS for h in enough],
    }


def fit_probes(
    y: np.ndarray, sources: Mapping[str, np.ndarray], seen: range, horizon: int, step: int
) -> tuple[dict[str, Probe], float]:
    """Return a probe a source, and the mean outcome, of the rows of ``seen`` whose outcomes end inside of it."""
    rows = np.arange(seen.start, seen.stop - horizon, step)
    gap = -(-horizon // step)
    return {name: chosen(Probe.fit, x[rows], y[rows], gap) for name, x in sources.items()}, float(y[rows].mean())


def _judged(
    target: str, close: np.ndarray, sources: Mapping[str, np.ndarray], of: Spans, horizon: int
) -> dict[str, Any]:
    y, step = TARGETS[target](close, horizon), max(horizon // _A_HORIZON, 1)
    probes, usual = fit_probes(y, sources, of.seen, horizon, step)
    rows = np.arange(of.unseen.start, of.unseen.stop - horizon, step)
    errors = [-probe.score(sources[name][rows], y[rows]) for name, probe in probes.items()]
    squares = np.column_stack([*errors, (y[rows] - usual) ** 2])  # [N,sources+1]

    def skill(means: np.ndarray) -> np.ndarray:
        return 1 - means[:-1] / means[-1]

    block = max(2 * -(-horizon // step), of.week // step)
    intervals = interval_of_means(squares, block, of.day // step, skill)
    return {
        "target": target,
        "horizon": horizon,
        "fitted": len(range(of.seen.start, of.seen.stop - horizon, step)),
        "scored": len(rows),
        "apart": disjoint_size(of.unseen.stop - horizon - of.unseen.start, horizon),
        "rows": {
            name: {"skill": float(value), "interval": interval}
            for name, value, interval in zip(probes, skill(squares.mean(axis=0)), intervals, strict=True)
        },
    }


def best(found: list[Mapping], target: str, source: str) -> Mapping | None:
    """Return the horizon of which the source knows most, if it is shown to know anything of any."""
    shown = [each for each in found if each["target"] == target and each["rows"][source]["interval"][0] > 0]
    return max(shown, key=lambda each: each["rows"][source]["skill"], default=None)
