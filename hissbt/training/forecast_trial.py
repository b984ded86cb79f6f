"""Forecasters for comparisons: fitted to given rows, with nothing written anywhere."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.errors import BarsError
from hissbt.targets import overlap_bars
from hissbt.training.fit import bundle_of
from hissbt.training.forecasts import ForecastTask
from hissbt.training.lightning_run import run_lightning
from hissbt.training.splits import Split


@dataclass(frozen=True)
class ForecastTrial:
    """A forecaster that was fitted, and what that took."""

    bundle: ModelBundle
    """As ``hissbt.training.train`` would have made it of these rows: a ``Stream`` runs it."""
    epochs: int
    """Until it stopped, those after the best included."""
    seconds: float
    """Of this process: whatever else the machine does is not counted."""


def forecast_trial(kind: str, bars: Bars, split: Split, settings: Mapping[str, Any]) -> ForecastTrial:
    """Fit a network of ``kind`` to the rows ``split.train``; ``split.validation`` decides when to stop.

    The settings are the fields of ``TrainingConfig``. No bar is looked at beyond those that the labels of the last
    validation row read. Raises what ``hissbt.training.train`` raises, BarsError if no window fits into the rows.
    """
    begun = time.process_time()
    seen = bars[: split.validation.stop + overlap_bars(settings.get("horizon", 1))]
    task = ForecastTask(kind, seen, dict(settings), split)
    if len(split.train) < task.config.window:
        raise BarsError(
            f"{len(split.train)} rows to train on hold no window of {task.config.window}: give more or set window"
        )
    torch.manual_seed(task.config.seed)
    module = task.module()
    with TemporaryDirectory() as folder:
        run_lightning(module, task.loaders, task.config, Path(folder) / "run", {}, first=task.first_epoch)
    bundle = bundle_of(task, module, seen)
    return ForecastTrial(bundle, module.trainer.current_epoch, time.process_time() - begun)
