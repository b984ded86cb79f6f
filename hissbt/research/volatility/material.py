"""The bars of several symbols as the comparison uses them: folds in time, the same for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hissbt.bars import Bars, parse_time
from hissbt.errors import BarsError
from hissbt.features import FeatureSet
from hissbt.research.rivals.task import Task
from hissbt.research.volatility.protocol import Protocol
from hissbt.training.splits import walk_forward

LAST_SHARE = 0.25  # of the bars, judged where the protocol names no date
FEWEST = 5  # horizons of training rows


@dataclass(frozen=True)
class Material:
    """Bars by symbol, the first being those that were asked about, and what is judged of them."""

    symbols: tuple[str, ...]
    bars: tuple[Bars, ...]
    folds: tuple[tuple[Task, ...], ...]
    """By fold, a task for each symbol; a task holds no bar after its test, and its validation rows are none."""
    judged: tuple[int, ...]
    """Which symbols are judged: those whose bars reach over the test span."""
    closes: pd.DatetimeIndex
    """[N] of the rows that are judged, the same for all of these symbols."""
    log_variance: tuple[np.ndarray, ...]
    """[N] by judged symbol: the labels there."""


def material(bars: Bars, also: Sequence[Bars], protocol: Protocol) -> Material:
    """Cut ``bars`` and those of the symbols that are ``also`` learned from; BarsError where they are too few."""
    every = tuple(_prepared(each, protocol) for each in (bars, *also))
    symbols = tuple(each.market.symbol for each in every)
    if len(set(symbols)) < len(symbols):
        raise BarsError(f"the symbols {', '.join(symbols)} are not all different: name each once")
    closes = every[0].frame.index
    first = len(closes) - round(LAST_SHARE * len(closes))
    if protocol.first_test is not None:
        first = int(closes.searchsorted(parse_time(protocol.first_test)))
    warmup = FeatureSet(protocol.wide_features).warmup
    folds = walk_forward(len(closes), first, protocol.refit_bars, embargo=protocol.horizon)
    if folds[0].train.stop < warmup + FEWEST * protocol.horizon or len(closes) - first <= 2 * protocol.block:
        raise BarsError(
            f"{len(closes)} bars, judged from bar {first} on, are too few: give more than "
            f"{warmup + (FEWEST + 1) * protocol.horizon} before and {2 * protocol.block} after that"
        )
    tasks = tuple(tuple(_task(each, closes[fold.test], warmup, protocol) for each in every) for fold in folds)
    labelled = closes[first : len(closes) - protocol.horizon]
    judged = tuple(at for at, each in enumerate(every) if labelled.isin(_labelled(each, protocol)).all())
    labels = [_labels(every[at], protocol)[every[at].frame.index.get_indexer(labelled)] for at in judged]
    return Material(symbols, every, tasks, judged, labelled, tuple(labels))


def _prepared(bars: Bars, protocol: Protocol) -> Bars:
    """Return the bars at the timeframe and within the dates of the protocol."""
    if bars.timeframe < pd.Timedelta(protocol.timeframe):
        bars = bars.resample(protocol.timeframe)
    if protocol.since is None and protocol.until is None:
        return bars
    return bars.between(protocol.since, protocol.until)


def _task(bars: Bars, test: pd.DatetimeIndex, warmup: int, protocol: Protocol) -> Task:
    """Return the task of one symbol; it may have few rows, or none, where its bars begin or end elsewhere."""
    first, stop = bars.frame.index.searchsorted([test[0], test[-1] + pd.Timedelta(1, "ns")])
    end = max(int(first) - protocol.horizon, 0)  # of training: its last label ends before the test begins
    train = range(min(warmup, end), end)
    # Nothing is chosen here. Where its rows begin, so do those that a rival gives forecasts for.
    unused = range(train.start, train.start)
    return Task(bars[:stop], protocol.features, protocol.horizon, train, unused, range(int(first), int(stop)))


def _labels(bars: Bars, protocol: Protocol) -> np.ndarray:
    whole = range(len(bars))
    return Task(bars, protocol.features, protocol.horizon, whole, whole, whole).log_variance


def _labelled(bars: Bars, protocol: Protocol) -> pd.DatetimeIndex:
    return bars.frame.index[: max(len(bars) - protocol.horizon, 0)]
