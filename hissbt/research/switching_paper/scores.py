"""Scores of the forecasts, of seeds and of their mean, with intervals that respect overlapping labels."""

from collections.abc import Callable, Mapping

import numpy as np

from hissbt.evidence.independence import disjoint_size, effective_size
from hissbt.research.classification import OVERALL, PER_CLASS, Counts
from hissbt.research.performance import performance, strategy_returns
from hissbt.research.resampling import block_interval
from hissbt.research.switching_paper.material import Material
from hissbt.research.switching_paper.protocol import TWINS, Protocol

COSTS = ("gross", "net")


def classified(said: Mapping[str, np.ndarray], data: Material, protocol: Protocol) -> dict:
    """Score forecasts ``said``, each [S,T] of S seeds and true for bull, on the test span.

    Every row holds each seed's scores, their mean, and the mean's interval; ``against_twins`` and
    ``against_baselines`` hold differences of mean accuracy and balanced accuracy, with intervals.
    """
    rows = np.arange(data.test.start, data.test.stop)
    was = data.labels[rows] == 1.0
    said = {name: forecast[:, rows] for name, forecast in said.items()}
    switching = [name for name in said if name in TWINS]
    rules = [name for name in said if name not in (*TWINS, *TWINS.values())]

    def interval(statistic: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        return block_interval(statistic, len(rows), protocol.block, protocol.repeats, protocol.seeds[0])

    def scored(name: str) -> dict:
        counts = Counts.of(said[name], was)
        found = interval(lambda at: _means(said[name][:, at], was[at]))
        means = _means(said[name], was)
        hits = np.mean(said[name] == was, axis=0)  # [N] share of seeds that were right
        return {
            "seeds": [_seed_scores(Counts.of(each, was)) for each in said[name]],
            "mean": {key: float(mean) for key, mean in zip(OVERALL, means, strict=True)},
            "interval": {key: found[:, at].tolist() for at, key in enumerate(OVERALL)},
            "classes": {
                side: {key: float(np.mean(score(of))) for key, score in PER_CLASS.items()}
                for side, of in (("bull", counts), ("bear", counts.swapped()))
            },
            "effective_size": effective_size(hits, 2 * protocol.span),
        }

    def difference(name: str, other: str) -> dict:
        def gap(at: np.ndarray) -> np.ndarray:
            return _means(said[name][:, at], was[at]) - _means(said[other][:, at], was[at])

        found, whole = interval(gap), gap(np.arange(len(rows)))
        return {
            key: {"difference": float(whole[at]), "interval": found[:, at].tolist()}
            for at, key in enumerate(OVERALL)
        }

    return {
        "n": len(rows),
        "bull": int(was.sum()),
        "bear": int((~was).sum()),
        "disjoint_size": disjoint_size(len(rows), protocol.span),
        "rows": {name: scored(name) for name in said},
        "against_twins": {name: difference(name, TWINS[name]) for name in switching},
        "against_baselines": {name: {rule: difference(name, rule) for rule in rules} for name in switching},
    }


def backtested(said: Mapping[str, np.ndarray], rows: range, data: Material, protocol: Protocol) -> dict:
    """Judge the positions that forecasts ``said`` stand for, long where bull and short where not, gross and net.

    Each has the figures of every seed, their mean, and the interval of the mean's ``mean_return`` and ``sharpe``.
    """
    at = np.arange(rows.start, rows.stop)
    asset = data.next_return[at]
    year = data.periods

    def judged(positions: np.ndarray, cost: float) -> dict:
        seeds = [performance(each, asset, year, cost) for each in positions]
        returns = strategy_returns(positions, asset, cost)  # [S,N]

        def means(some: np.ndarray) -> np.ndarray:
            mean = returns[:, some].mean(axis=1)
            return np.array([mean.mean() * year, np.mean(mean / returns[:, some].std(axis=1)) * np.sqrt(year)])

        found = block_interval(means, len(at), protocol.block, protocol.repeats, protocol.seeds[0])
        return {
            "seeds": seeds,
            "mean": {key: float(np.mean([seed[key] for seed in seeds])) for key in seeds[0]},
            "interval": {"mean_return": found[:, 0].tolist(), "sharpe": found[:, 1].tolist()},
        }

    positions = {name: np.where(forecast[:, at], 1.0, -1.0) for name, forecast in said.items()}
    positions["buy and hold"] = np.ones((1, len(at)))
    return {
        name: {which: judged(held, cost) for which, cost in zip(COSTS, (0.0, protocol.cost), strict=True)}
        for name, held in positions.items()
    }


def _means(said: np.ndarray, was: np.ndarray) -> np.ndarray:
    """Return the overall scores of forecasts [S,N], each a mean over the seeds."""
    counts = Counts.of(said, was)
    return np.array([np.mean(score(counts)) for score in OVERALL.values()])


def _seed_scores(counts: Counts) -> dict[str, float]:
    scores = {key: float(score(counts)) for key, score in OVERALL.items()}
    for side, of in (("bull", counts), ("bear", counts.swapped())):
        scores |= {f"{key}_{side}": float(score(of)) for key, score in PER_CLASS.items()}
    return scores
