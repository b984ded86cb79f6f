"""From bars to a bundle."""

import platform
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.errors import BundleError
from hissbt.timeframe import format_timeframe
from hissbt.training.forecasts import ForecastTask
from hissbt.training.hvae import HVAETask
from hissbt.training.lightning_run import one_thread, run_lightning
from hissbt.trials import Trials

_PACKAGES = ("hissbt", "torch", "lightning", "numpy")


def train(
    bars: Bars,
    out: str | Path,
    *,
    kind: str = "hiss",
    until: Any = None,
    settings: dict[str, Any] | None = None,
    resume: bool = False,
    progress: bool = True,
    runs: str | Path | None = None,
    warm_start: str | Path | ModelBundle | None = None,
) -> ModelBundle:
    """Fit a network of ``kind`` on the bars before ``until`` and write the bundle to the folder ``out``.

    The settings are the fields of ``LatentConfig`` for a hierarchical VAE, else of ``TrainingConfig``. No bar that
    closes after ``until`` is looked at, not for features, scaling, labels or early stopping. While it runs, the
    folder ``<out>.checkpoint`` holds what ``resume`` needs to continue after an interruption; it is removed when
    the bundle has been written. The fit is entered in the trial ledger of the folder ``runs`` (see
    ``hissbt.trials``, where it stands by default), whatever becomes of it: it is one more chance to be lucky.

    With ``warm_start``, the bundle of a forecaster, weights begin as those in it. Features and targets are scaled
    by the new bars all the same: the old weights were learned on values in standard deviations of their own span,
    and go on with those in standard deviations of the new one, so they keep their meaning as far as the spans are
    alike, and nothing of the new span is scaled by years long gone.

    Raises ConfigError for settings that are unknown or out of range, BarsError for too few bars, BundleError when
    ``out`` holds something else than a bundle or ``warm_start`` another network, TrainingError for a loss that is
    not finite, or on Ctrl-C.
    """
    bars = bars.between(until=until)
    ModelBundle.check_target(out)
    task = (HVAETask if kind == "hvae" else ForecastTask)(kind, bars, settings or {})
    pl.seed_everything(task.config.seed, workers=True, verbose=False)
    module = task.module()
    start = ModelBundle.load(warm_start) if isinstance(warm_start, str | Path) else warm_start
    if start is not None:
        _take_weights(module, task, start)
    checkpoints = Path(f"{out}.checkpoint")
    how = {"first": task.first_epoch, "resume": resume, "progress": progress}
    symbol, timeframe = bars.market.symbol, format_timeframe(bars.timeframe)
    run_id = {"data": bars.sha256, "kind": kind, "config": task.config.model_dump(mode="json")}
    run_id |= {} if start is None else {"warm_start": start.sha256}
    span = {"start": bars.frame.index[0].isoformat(), "end": bars.frame.index[-1].isoformat()}
    with Trials(runs).trial("fit", run_id, symbol=symbol, timeframe=timeframe, span=span) as trial:
        run_lightning(module, task.loaders, task.config, checkpoints, run_id, **how)
        bundle = bundle_of(task, module, bars)
        bundle.save(out)
        trial.result["bundles"] = [bundle.sha256]
    shutil.rmtree(checkpoints)
    return bundle


def bundle_of(task: ForecastTask | HVAETask, module: pl.LightningModule, bars: Bars) -> ModelBundle:
    """Return the bundle of the trained ``module``, which of ``bars`` has seen none but those of the task."""
    with one_thread():
        fields = task.bundle_fields(module)
    times = bars.frame.index
    return ModelBundle(
        kind=task.kind,
        config=module.network.config.complete(),
        timeframe=format_timeframe(bars.timeframe),
        symbol=bars.market.symbol,
        training_span={"start": times[0].isoformat(), "end": times[-1].isoformat()},
        seed=task.config.seed,
        data_sha256=bars.sha256,
        versions=versions(),
        weights={name: tensor.numpy() for name, tensor in module.network.state_dict().items()},
        **fields,
    )


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that decide what a training run ends with."""
    return {"python": platform.python_version()} | {name: version(name) for name in _PACKAGES}


def _take_weights(module: pl.LightningModule, task: ForecastTask | HVAETask, bundle: ModelBundle) -> None:
    """Let the network begin with the weights of a bundle of the same network, features and horizon."""
    if task.kind == "hvae":
        raise BundleError("an hvae cannot begin with the weights of another one: train it from scratch")
    wanted = {
        "kind": task.kind,
        "features": task.data.features.names,
        "horizon": task.config.horizon,
        "network": _settings(module.network.config.complete()),
    }
    found = {name: getattr(bundle, name) for name in ("kind", "features", "horizon")}
    found["network"] = _settings(bundle.config)
    if others := [name for name in wanted if wanted[name] != found[name]]:
        name = others[0]
        raise BundleError(
            f"the bundle to start from has {name} {found[name]!r}, this run {wanted[name]!r}: start from one "
            "trained with the same settings, or from scratch"
        )
    module.network.load_state_dict({name: torch.tensor(array) for name, array in bundle.weights.items()})


def _settings(config: dict[str, Any]) -> dict[str, Any]:
    """Return a network's config without what follows from the scale of its features."""
    return {name: value for name, value in config.items() if name != "zero_return"}
