"""A strategy through many scenarios: each in a Cerebro of its own, after the same real bars, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import backtrader as bt
import numpy as np
import pandas as pd

from hissbt.backtest import Setup
from hissbt.bars import COLUMNS, Bars
from hissbt.candles import CANDLE, next_closes, to_bars
from hissbt.errors import BarsError, BundleError, HissbtError, StrategyError
from hissbt.features import FeatureSet
from hissbt.feeds.bulk import BarsFeed
from hissbt.research.progress import Progress
from hissbt.research.stress.outcomes import Outcome, outcome_of

MOST_POINTS = 200
"""The most points of a curve."""
_MEMORY = 500  # bars after which the running mean of the volume has forgotten all, to the last bit
_BATCH = 10  # scenarios that are sent to a worker at once: a second's work or less


@dataclass(frozen=True)
class Stage:
    """Where scenarios begin: a strategy that is warm, and the real bars up to there. Workers are sent it."""

    setup: Setup
    prefix: Bars
    """The last real bars before the scenarios: all that the first prices and the warm-up need."""
    warmup: int
    """How many of them the strategy is fed: it decides first at the last of these closes."""
    closes: pd.DatetimeIndex
    """[T] When the scenarios' bars close."""

    @classmethod
    def of(cls, setup: Setup, history: Bars, length: int) -> Stage:
        """Prepare scenarios of ``length`` bars after ``history``.

        Raises BarsError where that is shorter than the strategy's warm-up, or where the market's calendar ends;
        BundleError for a model that reads a column of bars that no scenario has.
        """
        if extra := [name for bundle in setup.bundles for name in FeatureSet(bundle.features).columns]:
            raise BundleError(
                f"a model of the strategy reads the column {extra[0]!r}, which no scenario has: use one trained "
                "without it"
            )
        history = _without_extras(history)
        warmup = _warmup(setup, history)
        if len(history) < warmup:
            raise BarsError(
                f"too few bars before the scenarios: the strategy needs {warmup} and there are {len(history)}, so "
                "begin later or load earlier bars"
            )
        return cls(setup, history[-max(warmup, _MEMORY) :], warmup, next_closes(history, length))

    @property
    def points(self) -> np.ndarray:
        """[P] The bars at which curves are kept, counted from the start."""
        bars = len(self.closes)
        return np.linspace(0, bars, min(bars + 1, MOST_POINTS)).round().astype(int)

    @property
    def times(self) -> pd.DatetimeIndex:
        """[P] When these close; the first is the last close before the scenarios."""
        return self.closes.insert(0, self.prefix.frame.index[-1])[self.points]

    def play(self, bars: Bars, seed: int) -> Outcome:
        """Run the strategy over ``bars`` after the warm-up."""
        return outcome_of(self.run(bars, seed), self.points)

    def run(self, bars: Bars, seed: int) -> bt.Strategy:
        """Return the strategy as it was after ``bars``, its ledger beginning with the first of them."""
        lead = self.prefix[-self.warmup :].frame
        whole = Bars(pd.concat([lead, _without_extras(bars).frame]), bars.market, bars.timeframe)
        return self.setup.run(whole, lead.index[-1], seed)

    def bars_of(self, rows: np.ndarray) -> Bars:
        """Return the bars of a scenario's candle rows [T,C]."""
        return to_bars(rows, CANDLE, self.prefix, self.closes)


def run_scenarios(
    stage: Stage,
    scenarios: Mapping[str, np.ndarray],
    *,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> dict[str, list[Outcome]]:
    """Run the strategy through candle rows [N,T,5] of each generator; return the outcomes under the same names.

    Before scenario i of any generator Python's and numpy's random numbers are seeded alike, by ``seed`` and i. The
    number of workers changes no figure. What a scenario raises is raised, and says which scenario that was.
    """
    from joblib import Parallel, delayed, parallel_config

    todo = [delayed(_play)(stage, *batch, seed) for batch in _batches(scenarios)]
    found: dict[str, list[Outcome]] = {name: [] for name in scenarios}
    total, done = sum(map(len, scenarios.values())), 0
    # Arrays of memory maps cannot be written to, and compiled code would be compiled for them once more.
    with parallel_config("loky", n_jobs=workers, inner_max_num_threads=1, max_nbytes=None):
        for name, outcomes in Parallel(return_as="generator")(todo):
            found[name] += outcomes
            done += len(outcomes)
            if progress is not None:
                progress(name, done, total)
    return found


def _batches(scenarios: Mapping[str, np.ndarray]) -> Iterator[tuple[str, int, np.ndarray]]:
    for name, rows in scenarios.items():
        for first in range(0, len(rows), _BATCH):
            yield name, first, rows[first : first + _BATCH]


def _play(stage: Stage, name: str, first: int, rows: np.ndarray, seed: int) -> tuple[str, list[Outcome]]:
    return name, [_play_one(stage, name, number, each, seed) for number, each in enumerate(rows, start=first)]


def _play_one(stage: Stage, name: str, number: int, rows: np.ndarray, seed: int) -> Outcome:
    try:
        return stage.play(stage.bars_of(rows), scenario_seed(seed, number))
    except HissbtError as error:
        raise type(error)(f"scenario {number} of {name}: {error}") from error
    except Exception as error:
        raise StrategyError(
            f"{stage.setup.strategy.__name__} failed in scenario {number} of {name} with "
            f"{type(error).__name__}: {error}"
        ) from error


def scenario_seed(seed: int, number: int) -> int:
    """Return the seed of Python's and numpy's random numbers in a scenario."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1)[0])


def _warmup(setup: Setup, history: Bars) -> int:
    """Return how many bars the strategy waits for before it decides, which it knows once it has been made."""
    # One bar, and bar by bar: to compute indicators at once Backtrader needs as many bars as they wait for.
    cerebro = bt.Cerebro(stdstats=False, runonce=False)
    cerebro.adddata(BarsFeed(history[-1:]))
    cerebro.addstrategy(setup.strategy, **setup.params)
    cerebro.broker = setup.costs.broker(setup.market, cash=setup.cash)
    return max(cerebro.run()[0]._minperiods)


def _without_extras(bars: Bars) -> Bars:
    """Return the bars without the columns that no scenario has."""
    if not bars.extra_columns:
        return bars
    return Bars(bars.frame[list(COLUMNS)], bars.market, bars.timeframe)
