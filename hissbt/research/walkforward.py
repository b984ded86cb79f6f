"""``hissbt walkforward``: models trained anew as time goes on, each traded on what came after, as one backtest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import backtrader as bt
import pandas as pd

from hissbt.atomic import file_in_the_way, to_json, write_json
from hissbt.backtest import Run, Setup, run_backtest
from hissbt.bars import Bars, Time, parse_time
from hissbt.bundle import ModelBundle, sha256_of
from hissbt.errors import BundleError, ConfigError, StrategyError
from hissbt.feeds.funding import Funding
from hissbt.relay import Part, RelayBundle
from hissbt.research.progress import Progress
from hissbt.targets import overlap_bars
from hissbt.timeframe import parse_timeframe
from hissbt.trading.costs import Costs
from hissbt.trading.guards import Guard

if TYPE_CHECKING:
    from hissbt.training.splits import Fold

MODELS = "walkforward-models"
"""The folder in ``out`` that keeps every model, by a hash of all that it follows from."""
RELAY = "relay"
RECORD = "walkforward.json"

_YEAR = pd.Timedelta(days=365)


def walk_forward(
    bars: Bars,
    strategy: type[bt.Strategy],
    *,
    since: Time,
    until: Time | None = None,
    retrain_every: int | str = "90d",
    train_bars: int | str | None = None,
    embargo: int | None = None,
    warm_start: bool = False,
    kind: str = "hiss",
    settings: Mapping[str, Any] | None = None,
    params: Mapping | None = None,
    cash: float = 100_000.0,
    costs: Costs | Mapping | None = None,
    funding: Funding | None = None,
    guards: Sequence[Guard] = (),
    out: str | Path = "runs",
    seed: int = 0,
    name: str | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> Run:
    """Trade ``strategy`` from ``since`` on, with a model that is trained anew every ``retrain_every``.

    Each model of ``kind`` is trained with ``settings`` (see ``hissbt.training.train``) on all bars that closed
    ``embargo`` bars or more before its first decision, or on the newest ``train_bars`` of them; by default the
    embargo is as long as a label reaches, the horizon. Lengths are bars, or a time such as ``"90d"``, which is as
    many bars as the market has in it on average. With ``warm_start`` each begins with the weights of the one
    before. All of them form a relay, which one ``run_backtest`` trades: the other arguments are its, and ``seed``
    is that of the training runs too, unless ``settings`` have another.

    The run folder holds the relay in ``relay``, and in ``walkforward.json`` what it was made by; the page and the
    metrics tell what each model did. Models are kept in ``out``, so that the same call goes on after an
    interruption, and another strategy needs no training. Side by side ``workers`` train, if each starts from
    scratch; their number changes no figure.

    Raises ConfigError for lengths or settings that make no sense, BarsError for too few bars before ``since`` or
    after it, StrategyError for a strategy without a param ``model``, and what ``train`` and ``run_backtest`` do.
    """
    from hissbt.training.config import TrainingConfig
    from hissbt.training.splits import walk_forward as folds_of

    if file := file_in_the_way(out):
        raise ConfigError(f"{file} is a file, where the run folder would be made: name another folder")
    if kind == "hvae":
        raise ConfigError("an hvae forecasts nothing that could be traded: name a kind of forecaster")
    if "model" not in strategy.params._getkeys():
        raise StrategyError(f"{strategy.__name__} uses no model, so there is nothing to train: backtest it")
    trading = {"params": dict(params or {}), "cash": cash, "costs": costs, "funding": funding, "guards": guards}
    bars = bars.between(until=until)
    Setup.of(bars, strategy, **trading)  # finds what is wrong before hours of training do not
    config = TrainingConfig.of({"seed": seed, **(settings or {})})
    embargo = overlap_bars(config.horizon) if embargo is None else embargo
    every, newest = bars_in(retrain_every, bars), None if train_bars is None else bars_in(train_bars, bars)
    first = int(bars.open_times.searchsorted(parse_time(since)))
    folds = folds_of(len(bars), first, every, embargo, newest)
    plan = {"kind": kind, "settings": config.model_dump(mode="json", exclude_unset=True)}
    bundles = _bundles(bars, folds, plan, Path(out), warm_start, workers, progress)
    closes = bars.frame.index
    parts = (
        Part(closes[fold.test.start - 1], bundle) for fold, bundle in zip(folds, bundles, strict=True)
    )  # the forecast at the close before a turn is what its first bar is traded by
    relay = RelayBundle(tuple(parts), embargo)
    run = run_backtest(
        bars, strategy, model=relay, since=bars.open_times[first], out=out, seed=seed, name=name, **trading
    )
    relay.save(run.folder / RELAY)
    record = {
        **plan,
        "retrain_every": every,
        "train_bars": newest,
        "embargo": embargo,
        "warm_start": warm_start,
        "relay": relay.sha256,
    }
    write_json(run.folder / RECORD, record)
    if progress is not None:
        progress("backtest", len(folds) + 1, len(folds) + 1)
    return run


def bars_in(length: int | str, bars: Bars) -> int:
    """Return how many bars a length is: a number of them, or a time that the market has so many in on average.

    Raises BarsError for a text that is no length of time.
    """
    if isinstance(length, int):
        return length
    return round(parse_timeframe(length) / _YEAR * bars.market.bars_per_year(bars.timeframe))


def _bundles(
    bars: Bars,
    folds: Sequence[Fold],
    plan: Mapping,
    out: Path,
    warm_start: bool,
    workers: int,
    progress: Progress | None,
) -> list[ModelBundle]:
    """Train a model on each fold, or find it; from scratch side by side, else one after the other."""
    spans = [bars[fold.train.start : fold.train.stop] for fold in folds]
    bundles: list[ModelBundle] = []

    def told(bundle: ModelBundle) -> None:
        bundles.append(bundle)
        if progress is not None:
            text = f"model trained until {bundle.training_span['end'][:16].replace('T', ' ')}"
            progress(text, len(bundles), len(spans) + 1)

    if warm_start:
        for span in spans:
            told(_bundle(span, plan, out, bundles[-1] if bundles else None))
        return bundles

    from joblib import Parallel, delayed, parallel_config

    with parallel_config("loky", n_jobs=workers, inner_max_num_threads=1):
        for bundle in Parallel(return_as="generator")(delayed(_bundle)(span, plan, out, None) for span in spans):
            told(bundle)
    return bundles


def _bundle(bars: Bars, plan: Mapping, out: Path, start: ModelBundle | None) -> ModelBundle:
    """Return the model that the plan gives on ``bars``, trained now unless it is there."""
    from hissbt.training import train
    from hissbt.training.fit import versions

    follows_from = {
        **plan,
        "bars": bars.sha256,
        "start": None if start is None else start.sha256,
        "versions": versions(),
    }
    path = out / MODELS / sha256_of(to_json(follows_from).encode())[:32]
    try:
        return ModelBundle.load(path)
    except BundleError:  # there is none, or it is damaged
        return train(bars, path, **plan, progress=False, runs=out, warm_start=start)
