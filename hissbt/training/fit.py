"""From bars to a bundle."""

import logging
import platform
import shutil
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from hissbt.atomic import to_json, write_json
from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.errors import ConfigError, TrainingError
from hissbt.reports.metrics import forecast_scores
from hissbt.targets import TargetScale
from hissbt.timeframe import format_timeframe
from hissbt.training.checkpoint import SafeCheckpointIO
from hissbt.training.config import TrainingConfig
from hissbt.training.dataset import TrainingData, prepare
from hissbt.training.lightning_module import ForecastModule
from hissbt.training.progress import TrainingProgress
from hissbt.training.switching import regime_returns

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
) -> ModelBundle:
    """Fit a network of ``kind`` on the bars before ``until`` and write the bundle to the folder ``out``.

    No bar that closes after ``until`` is looked at, not for features, scaling, labels or early stopping. While it
    runs, the folder ``<out>.checkpoint`` holds what ``resume`` needs to continue after an interruption; it is
    removed when the bundle has been written.

    Raises ConfigError for settings that are unknown or out of range, BarsError for too few bars, BundleError when
    ``out`` holds something else than a bundle, TrainingError for a loss that is not finite, or on Ctrl-C.
    """
    config = TrainingConfig.of(settings or {})
    bars = bars.between(until=until)
    ModelBundle.check_target(out)
    data = prepare(bars, config, kind)
    pl.seed_everything(config.seed, workers=True, verbose=False)
    module = ForecastModule(kind, data.network, config)
    checkpoints = Path(f"{out}.checkpoint")
    run_id = {"data": bars.sha256, "kind": kind, "config": config.model_dump(mode="json")}
    with _one_thread():
        best = _fit(module, data, config, checkpoints, run_id, resume, progress)
        module.load_state_dict(best)
        bundle = _bundle(module, kind, bars, data, config)
    bundle.save(out)
    shutil.rmtree(checkpoints)
    return bundle


def _fit(module, data: TrainingData, config, folder: Path, run_id: dict, resume: bool, progress: bool) -> dict:
    """Run Lightning in ``folder``; return the state dict with the lowest validation loss."""
    last = _prepare_folder(folder, run_id, resume)
    best = ModelCheckpoint(folder, "best", monitor="val_loss", enable_version_counter=False)
    newest = ModelCheckpoint(folder, "last", enable_version_counter=False)
    callbacks = [best, newest, EarlyStopping("val_loss", patience=config.patience, check_finite=True)]
    if progress:
        callbacks.append(TrainingProgress())
    train, validation = data.loaders(config)
    with _quiet_lightning(), _interruptible(folder):
        trainer = pl.Trainer(
            max_epochs=config.max_epochs,
            gradient_clip_val=config.gradient_clip,
            callbacks=callbacks,
            plugins=[SafeCheckpointIO()],
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            deterministic="warn",
        )
        trainer.fit(module, train, validation, ckpt_path=last)
    if best.best_model_score is None or not torch.isfinite(best.best_model_score):
        shutil.rmtree(folder)  # to resume would end no better
        raise TrainingError("the validation loss was never finite: lower lr or look for extreme bars")
    return SafeCheckpointIO().load_checkpoint(best.best_model_path)["state_dict"]


def _prepare_folder(folder: Path, run_id: dict, resume: bool) -> Path | None:
    """Empty the checkpoint folder for a new run, or find in it the checkpoint to resume from."""
    last, run_file = folder / "last.ckpt", folder / "run.json"
    if not resume:
        _check_own(folder)
        shutil.rmtree(folder, ignore_errors=True)
        write_json(run_file, run_id)
        return None
    if not _can_resume(folder) or not run_file.is_file():
        raise ConfigError(f"there is no interrupted run in {folder}: train without --resume")
    if run_file.read_text(encoding="utf-8") != to_json(run_id) + "\n":
        raise ConfigError(
            f"the run in {folder} used other bars or settings: repeat them or train without --resume"
        )
    return last


def _check_own(folder: Path) -> None:
    """Raise ConfigError if ``folder`` holds anything else than a training run, which would be lost."""
    names = {path.name for path in folder.glob("[!.]*")}
    if strangers := sorted(names - {"last.ckpt", "best.ckpt", "run.json"}):
        raise ConfigError(f"{folder} holds {strangers[0]}, no part of a training run: train with another --out")


@contextmanager
def _interruptible(folder: Path) -> Iterator[None]:
    """Say on Ctrl-C how to continue; after any failure keep ``folder`` only if there is something to resume."""
    on_ctrl_c = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:  # Lightning's answer to Ctrl-C, after making the process deaf to further ones
        signal.signal(signal.SIGINT, on_ctrl_c)
        advice = "the same with --resume continues it" if _can_resume(folder) else "nothing had been saved yet"
        raise TrainingError(f"training was interrupted: {advice}") from error
    finally:
        if not _can_resume(folder):
            shutil.rmtree(folder, ignore_errors=True)


def _can_resume(folder: Path) -> bool:
    return (folder / "last.ckpt").is_dir()


@contextmanager
def _one_thread() -> Iterator[None]:
    """Keep torch on one thread, as another number gives other digits; networks this small would gain nothing.

    Torch is left as it was found, also by Lightning, which switches to deterministic algorithms and stays there.
    """
    threads, deterministic = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_deterministic_debug_mode(deterministic)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Keep Lightning's notices about hardware, workers and loggers off the screen."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _bundle(module: ForecastModule, kind, bars: Bars, data: TrainingData, config) -> ModelBundle:
    scale, metrics = _validate(module, data)
    return ModelBundle(
        kind=kind,
        config=module.network.config.complete(),
        features=data.features.names,
        normalizer=data.normalizer,
        horizon=config.horizon,
        target_scale=asdict(scale),
        timeframe=format_timeframe(bars.timeframe),
        symbol=bars.market.symbol,
        training_span={"start": bars.frame.index[0].isoformat(), "end": bars.frame.index[-1].isoformat()},
        warmup=max(config.burn_in, data.features.warmup, module.network.warmup),
        seed=config.seed,
        data_sha256=bars.sha256,
        metrics=metrics,
        versions={"python": platform.python_version()} | {name: version(name) for name in _PACKAGES},
        weights={name: tensor.numpy() for name, tensor in module.network.state_dict().items()},
    )


def _validate(module: ForecastModule, data: TrainingData) -> tuple[TargetScale, dict]:
    """Score the network on the validation span and set the volatility scale so that the squares match there.

    The volatility head is trained on realized volatility, whose mean is below the standard deviation of the
    return; the scale makes mean(volatility²) equal the mean squared error of expected_return.
    """
    span = slice(data.split.validation.start, data.split.validation.stop)
    with torch.inference_mode():
        outputs = module.network.cpu().eval()(data.x[None, : span.stop])  # from the first bar, as a stream runs
    heads = [outputs[name][0, span, 0].numpy().astype(np.float64) for name in module.network.outputs]  # 3 x [V]
    realized = data.forward_returns[span]  # [V]
    expected_return, prob_up, volatility = data.scale.forecast(*heads)
    ratio = np.sqrt(np.mean((realized - expected_return) ** 2) / np.mean(volatility**2))
    scale = replace(data.scale, volatility_scale=data.scale.volatility_scale * float(ratio))
    metrics = {"validation": forecast_scores(expected_return, prob_up, realized)}
    if "belief" in outputs:
        span_of = {name: value[:, span] for name, value in outputs.items()}
        metrics["regime_returns"] = regime_returns(span_of, scale)
    return scale, metrics
