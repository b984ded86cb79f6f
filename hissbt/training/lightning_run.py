"""One run of Lightning: checkpoints, resume, early stopping, Ctrl-C, and the weights that did best."""

import logging
import shutil
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torch.utils.data import DataLoader

from hissbt.atomic import to_json, write_json
from hissbt.errors import ConfigError, TrainingError
from hissbt.training.checkpoint import SafeCheckpointIO
from hissbt.training.config import RunConfig
from hissbt.training.progress import TrainingProgress


class _Settled:
    """Deaf to the epochs before ``first``, in which another loss was minimized than the one that is judged."""

    first = 0

    def on_train_epoch_end(self, trainer, module) -> None:
        if trainer.current_epoch >= self.first:
            super().on_train_epoch_end(trainer, module)


class _Best(_Settled, ModelCheckpoint):
    pass


class _Patience(_Settled, EarlyStopping):
    pass


def run_lightning(
    module: pl.LightningModule,
    loaders: tuple[DataLoader, DataLoader],
    config: RunConfig,
    folder: Path,
    run_id: dict,
    *,
    first: int = 0,
    resume: bool = False,
    progress: bool = False,
) -> None:
    """Train ``module`` on the first loader; it ends with the weights of the lowest ``val_loss`` on the second.

    ``folder`` holds what ``resume`` needs after an interruption, of a run of the same ``run_id``; when all went
    well the caller removes it. The validation loss of the epochs before ``first`` does not count, nor of those
    before weights are averaged that are to be. One thread.

    Raises TrainingError for a loss that is not finite, or on Ctrl-C; ConfigError where there is nothing to resume.
    """
    last = _prepare_folder(folder, run_id, resume)
    best = _Best(folder, "best", monitor="val_loss", enable_version_counter=False)
    newest = ModelCheckpoint(folder, "last", enable_version_counter=False)
    stop = _Patience("val_loss", patience=config.patience, check_finite=True)
    best.first = stop.first = max(first, config.averaged_epoch)
    callbacks = [best, newest, stop]
    if progress:
        callbacks.append(TrainingProgress())
    with one_thread(), _quiet_lightning(), _interruptible(folder):
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
        trainer.fit(module, *loaders, ckpt_path=last)
    if best.best_model_score is None or not torch.isfinite(best.best_model_score):
        shutil.rmtree(folder)  # to resume would end no better
        raise TrainingError("the validation loss was never finite: lower lr or look for extreme bars")
    module.load_state_dict(SafeCheckpointIO().load_checkpoint(best.best_model_path)["state_dict"])


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
def one_thread() -> Iterator[None]:
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
