"""How good the forecasts are: scores of every rival, of their seeds and of their mean, with intervals.

Losses are per row, the smaller the better, and what is compared is their mean. ``mse`` and ``mae`` are of the log
return; ``log_loss`` of the direction; ``qlike`` of the realized variance (Patton, Journal of Econometrics 160(1),
2011) and ``log_variance`` the squared error of its log; ``density`` is minus the Gaussian log density of the
return under mean and volatility. Of directions there are the accuracy and its kin, too, and ``calibration``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hissbt.bars import Bars
from hissbt.evidence.independence import disjoint_size, effective_size
from hissbt.research.classification import OVERALL, Counts, f1
from hissbt.research.contest.protocol import HISS, Protocol
from hissbt.research.contest.runs import Run
from hissbt.research.resampling import block_interval
from hissbt.research.rivals.task import Forecasts, Task

LOSSES = ("mse", "mae", "log_loss", "qlike", "log_variance", "density")
COUNTED = {**OVERALL, "f1": f1}
"""Scores of directions that are worked out from counts; more is better."""
BINS = 10
"""Of the probability of a rise, in the calibration."""
_SURE = 1e-6  # a probability closer to 0 or 1 counts as this close, or one row would decide the log loss


@dataclass(frozen=True)
class Opinion:
    """What a rival said at the test rows of all folds, one row for each seed."""

    expected_return: np.ndarray
    """[S,N], as the others; all of an array is NaN where there is no opinion."""
    prob_up: np.ndarray
    volatility: np.ndarray

    @classmethod
    def of(cls, runs: Sequence[Sequence[Run]], tasks: Sequence[Task], count: int) -> Opinion:
        """Join the first ``count`` test rows of ``runs``, by fold and seed."""

        def joined(key: str) -> np.ndarray:
            parts = [
                [getattr(run.said, key)[-len(task.test) :] for run in fold]
                for fold, task in zip(runs, tasks, strict=True)
            ]
            return np.concatenate(parts, axis=1)[:, :count]

        return cls(joined("expected_return"), joined("prob_up"), joined("volatility"))


@dataclass(frozen=True)
class Board:
    """The test rows whose labels are known, and what was said there."""

    rows: np.ndarray
    """Positions [N] in the bars."""
    returns: np.ndarray
    """Log returns over the horizon [N]."""
    log_variance: np.ndarray
    """Log of the realized variance over the same bars [N]."""
    opinions: Mapping[str, Opinion]
    """By rival."""

    @classmethod
    def of(cls, bars: Bars, tasks: Sequence[Task], runs: Mapping[str, Sequence[Sequence[Run]]]) -> Board:
        """Put what the ``runs`` said, by rival, fold and seed, beside what came."""
        last = tasks[-1]
        whole = Task(bars, last.features, last.horizon, last.train, last.validation, last.test)
        rows = np.arange(tasks[0].test.start, last.test.stop)
        rows = rows[np.isfinite(whole.returns[rows])]
        opinions = {name: Opinion.of(folds, tasks, len(rows)) for name, folds in runs.items()}
        return cls(rows, whole.returns[rows], whole.log_variance[rows], opinions)

    @cached_property
    def rose(self) -> np.ndarray:
        """Whether the return was above zero, bool [N]."""
        return self.returns > 0

    @cached_property
    def losses(self) -> dict[str, dict[str, np.ndarray]]:
        """By rival, the ``losses`` [S,N] of what it has an opinion on."""
        return {name: losses(said, self.returns, self.log_variance) for name, said in self.opinions.items()}


def losses(said: Opinion | Forecasts, returns: np.ndarray, log_variance: np.ndarray) -> dict[str, np.ndarray]:
    """Return the losses [...,N] of forecasts [...,N], by their names; those of no opinion are left out."""
    found = {}
    mean, rise, volatility = said.expected_return, said.prob_up, said.volatility
    if np.isfinite(mean).all():
        found |= {"mse": (returns - mean) ** 2, "mae": np.abs(returns - mean)}
    if np.isfinite(rise).all():
        sure = np.clip(rise, _SURE, 1 - _SURE)
        found["log_loss"] = -np.log(np.where(returns > 0, sure, 1 - sure))
    if np.isfinite(volatility).all():
        off = log_variance - 2 * np.log(volatility)
        found |= {"qlike": np.exp(off) - off - 1, "log_variance": off**2}
    if "mse" in found and "qlike" in found:
        found["density"] = np.log(np.sqrt(2 * np.pi) * volatility) + found["mse"] / (2 * volatility**2)
    return found


def validation_score(said: Forecasts, task: Task) -> float:
    """Return what the validation rows choose a setting by; more is better.

    The mean Gaussian log density of the return; of a rival that has an opinion on the volatility alone minus its
    QLIKE, on the direction alone its log score. Where one of mean and deviation is missing, that of the training
    rows stands in for it.
    """
    count, rows = len(task.validation), np.asarray(task.validation)
    known = task.returns[np.asarray(task.train)]
    mean, rise, volatility = (values[:count] for values in (said.expected_return, said.prob_up, said.volatility))
    whole = Forecasts(
        mean if np.isfinite(mean).all() else np.full(count, known.mean()),
        rise,
        volatility if np.isfinite(volatility).all() else np.full(count, known.std()),
    )
    found = losses(whole, task.returns[rows], task.log_variance[rows])
    alone = "qlike" if np.isfinite(volatility).all() else "log_loss"
    return -float(np.mean(found["density" if np.isfinite(mean).all() else alone]))


# --- tables


def scored(board: Board, protocol: Protocol, block: int) -> dict[str, dict[str, Any]]:
    """Return by rival its ``scores``, what it is worth ``against`` HiSS, and what its probabilities come to.

    A score has its ``mean`` over the seeds, the ``interval`` of that, and every seed's value. A difference is HiSS
    less the rival, of the means over the seeds.
    """
    columns = [(name, key) for name, found in board.losses.items() for key in found]
    rows_of = {pair: at for at, pair in enumerate(columns)}
    values = np.stack([board.losses[name][key].mean(axis=0) for name, key in columns], axis=1)  # [N,K]
    pairs = [(name, key) for name, key in columns if name != HISS and (HISS, key) in rows_of]
    ours, theirs = [rows_of[HISS, key] for _, key in pairs], [rows_of[pair] for pair in pairs]
    calls = _Calls(board)

    def statistic(at: np.ndarray) -> np.ndarray:
        weights = np.bincount(at, minlength=len(values)) / len(at)
        means = weights @ values
        return np.concatenate([means, means[ours] - means[theirs], calls.means(weights)])

    count = len(values)
    whole = statistic(np.arange(count))
    ends = block_interval(statistic, count, block, protocol.repeats, protocol.tuning_seed)
    cut = np.cumsum([len(columns), len(pairs)])
    losses_of, gaps, called = (
        [(float(mean), [float(low), float(high)]) for mean, low, high in zip(part, *limits, strict=True)]
        for part, limits in zip(np.split(whole, cut), np.split(ends, cut, axis=1), strict=True)
    )
    found: dict[str, dict] = {name: {"scores": {}, "against": {}} for name in board.opinions}
    for (name, key), (mean, interval) in zip(columns, losses_of, strict=True):
        seeds = board.losses[name][key].mean(axis=1).tolist()
        found[name]["scores"][key] = {"mean": mean, "interval": interval, "seeds": seeds}
    for (name, key), (mean, interval) in zip(calls.columns, called, strict=True):
        found[name]["scores"][key] = {"mean": mean, "interval": interval, "seeds": calls.seeds(name, key)}
    for (name, key), (mean, interval) in zip(pairs, gaps, strict=True):
        found[name]["against"][key] = {"difference": mean, "interval": interval}
    for name in calls.names:
        found[name] |= _probabilities(board, name, block)
    return found


class _Calls:
    """Directions that the rivals called, and the scores of them that are worked out from counts."""

    def __init__(self, board: Board):
        self.names = [name for name, found in board.losses.items() if "log_loss" in found]
        self.columns = [(name, key) for key in COUNTED for name in self.names]
        said = {name: board.opinions[name].prob_up > 0.5 for name in self.names}  # [S,N] each
        every = np.concatenate([*said.values(), np.empty((0, len(board.rows)), bool)])  # [M,N] of all seeds
        rose = board.rose
        kinds = [every & rose, every & ~rose, ~every & rose, ~every & ~rose]  # in the order of Counts
        self._kinds = np.concatenate(kinds).T.astype(np.float64)  # [N,4M]
        sizes = [len(said[name]) for name in self.names]
        self._mean = np.repeat(
            np.eye(len(sizes)) / np.maximum(sizes, 1), sizes, axis=1
        )  # [R,M], mean over the seeds
        self._first = dict(zip(self.names, np.cumsum([0, *sizes]), strict=False))
        self._sizes = dict(zip(self.names, sizes, strict=True))

    def means(self, weights: np.ndarray) -> np.ndarray:
        """Return the scores by ``columns``, each the mean over the seeds, of rows weighted by ``weights`` [N]."""
        return (self._scores(weights) @ self._mean.T).ravel()

    def seeds(self, name: str, key: str) -> list[float]:
        """Return the score of every seed over all rows."""
        whole = self._scores(np.full(len(self._kinds), 1 / len(self._kinds)))
        first = self._first[name]
        return whole[list(COUNTED).index(key), first : first + self._sizes[name]].tolist()

    def _scores(self, weights: np.ndarray) -> np.ndarray:
        counts = Counts(*np.split(weights @ self._kinds, 4))
        return np.stack([score(counts) for score in COUNTED.values()])  # [C,M]


def _probabilities(board: Board, name: str, block: int) -> dict[str, Any]:
    """Return how far the probabilities of a rise can be believed, and how many calls count as independent."""
    rise = board.opinions[name].prob_up
    hits = np.mean((rise > 0.5) == board.rose, axis=0)
    return {
        "calibration": float(np.mean([calibration_error(each, board.rose) for each in rise])),
        "reliability": reliability(rise.ravel(), np.tile(board.rose, len(rise))),
        "effective_size": effective_size(hits, block),
    }


def reliability(rise: np.ndarray, rose: np.ndarray) -> list[dict[str, float]]:
    """Return of each bin that holds probabilities ``rise`` [N] their share of rows, mean, and share of rises."""
    at = np.minimum((rise * BINS).astype(int), BINS - 1)
    return [
        {"weight": float(inside.mean()), "said": float(rise[inside].mean()), "came": float(rose[inside].mean())}
        for number in range(BINS)
        if (inside := at == number).any()
    ]


def calibration_error(rise: np.ndarray, rose: np.ndarray) -> float:
    """Return the expected calibration error of probabilities [N]: 0 where they are the share of rises.

    Naeini, Cooper, Hauskrecht, "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015.
    """
    return sum(found["weight"] * abs(found["said"] - found["came"]) for found in reliability(rise, rose))


def sizes(board: Board, horizon: int) -> dict[str, float]:
    """Return how many rows are judged, how many of their labels share no bar, and how many rose."""
    return {
        "n": len(board.rows),
        "disjoint_size": disjoint_size(len(board.rows), horizon),
        "rose": float(board.rose.mean()),
    }
