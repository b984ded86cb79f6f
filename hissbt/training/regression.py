"""Any network learns to forecast a real label: for comparisons, so no bundle is written, and series may be pooled.

The heads of a ``SequenceNet`` are read anew: ``return`` is the mean of the label and ``volatility`` its standard
deviation, both in standard deviations of the training labels; ``direction`` is not used. The loss is the
likelihood of a normal distribution with that mean and deviation, or the squared error of the mean alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch.utils.data import ConcatDataset, DataLoader

from hissbt.errors import BarsError
from hissbt.features import Normalizer
from hissbt.models import SequenceNet, build_network, parameter_groups
from hissbt.training.config import WindowConfig
from hissbt.training.lightning_module import TrainingModule
from hissbt.training.lightning_run import one_thread, run_lightning
from hissbt.training.windows import RandomStarts, Windows


@dataclass(frozen=True)
class Series:
    """Inputs and labels of one symbol, and the rows of them that are fitted to and that are judged meanwhile."""

    x: np.ndarray
    """[T,F] raw, finite; row t knows the bars up to t."""
    y: np.ndarray
    """[T] labels, NaN where there is none."""
    train: range
    """The label of its last row must end before whatever is judged later begins."""
    validation: range
    """Decides when to stop; empty: all steps are made, and the last weights are kept."""


class RegressionConfig(WindowConfig):
    """Settings of ``fit_regression``; the defaults are 220 steps, all of which are made."""

    window: int = Field(768, ge=2)
    burn_in: int = Field(192, ge=0)
    max_epochs: int = Field(11, ge=1)
    patience: int = Field(11, ge=1)
    loss: Literal["gaussian", "mse"] = "gaussian"
    averaging: Literal["none", "swa", "ema"] = "ema"


class RegressionModule(TrainingModule):
    """A network and how its mean and deviation miss the labels; rows whose label is NaN count for nothing."""

    def __init__(self, network: SequenceNet, config: RegressionConfig):
        super().__init__(network, config)

    def training_step(self, batch, _):
        """Return the loss of one batch of windows."""
        return self._loss(batch)

    def validation_step(self, batch, _):
        """Log the loss of one validation span."""
        self.log("val_loss", self._loss(batch))

    def parameter_groups(self) -> list[dict]:
        """State-space parameters at their own rate."""
        return parameter_groups(self.network, self._config.lr, self._config.weight_decay)

    def _loss(self, batch) -> torch.Tensor:
        x, targets, mask = batch
        y = targets["y"]
        counts = mask.bool() & torch.isfinite(y)
        outputs = self.network(x)
        mean, deviation, y = outputs["return"][counts], outputs["volatility"][counts], y[counts]
        if self._config.loss == "mse":
            return F.mse_loss(mean, y)
        return F.gaussian_nll_loss(mean, y, deviation**2)


@dataclass(frozen=True)
class Regression:
    """A fitted network, in the units of the labels."""

    network: SequenceNet
    normalizer: Normalizer
    mean: float
    """Of the training labels."""
    deviation: float
    loss: Literal["gaussian", "mse"]

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation [T] of the label at each row of raw x [T,F], by one forward.

        Row t uses rows 0 … t. The deviations are NaN after a fit by squared error, which tells nothing of them.
        """
        with one_thread(), torch.inference_mode():
            outputs = self.network(_normalized(self.normalizer, x)[None])
        mean, deviation = (outputs[name][0, :, 0].double().numpy() for name in ("return", "volatility"))
        deviation = deviation * self.deviation if self.loss == "gaussian" else np.full(len(mean), np.nan)
        return self.mean + mean * self.deviation, deviation

    @property
    def parameters(self) -> int:
        """Number of parameters of the network."""
        return sum(weight.numel() for weight in self.network.parameters())


def fit_regression(
    kind: str, network: dict[str, Any], series: Sequence[Series], settings: dict[str, Any]
) -> Regression:
    """Fit the network of ``kind`` with the settings ``network`` to all ``series`` at once.

    One scale is fitted to the training rows of all of them, windows are drawn from all, and ``settings`` are the
    fields of ``RegressionConfig``. Nothing after the validation rows is looked at.

    Raises ConfigError for wrong settings, BarsError where no series has a window to train on, TrainingError
    where the loss was never finite.
    """
    config = RegressionConfig.of(settings)
    labels = np.concatenate([_rows(one.y, one.train) for one in series])
    labels = labels[np.isfinite(labels)]
    windows = max((len(one.train) for one in series), default=0)
    if not len(labels) or windows < config.window:
        raise BarsError(
            f"the training spans have {windows} rows at most, {len(labels)} of all have a label: "
            f"give more than {config.window}, or set a smaller window"
        )
    normalizer = Normalizer.fit(np.concatenate([_rows(one.x, one.train) for one in series]))
    mean, deviation = float(labels.mean()), float(labels.std()) or 1.0
    tensors = [
        (_normalized(normalizer, one.x), torch.from_numpy((one.y - mean) / deviation).float()[:, None])
        for one in series
    ]
    torch.manual_seed(config.seed)
    module = RegressionModule(build_network(kind, network | {"n_features": series[0].x.shape[1]}), config)
    with TemporaryDirectory() as folder:
        # Without validation rows the last weights are the ones to keep: no earlier loss counts.
        first = 0 if any(one.validation for one in series) else config.max_epochs - 1
        run_lightning(module, _loaders(series, tensors, config), config, Path(folder) / "run", {}, first=first)
    return Regression(module.network.cpu().eval(), normalizer, mean, deviation, config.loss)


def _loaders(
    series: Sequence[Series], tensors: Iterable[tuple[torch.Tensor, torch.Tensor]], config: RegressionConfig
) -> tuple[DataLoader, DataLoader]:
    """Return the loader of random training windows of all series, and that of the spans that are judged."""
    train, judged = [], []
    for one, (x, y) in zip(series, tensors, strict=True):
        if len(one.train) >= config.window:
            rows = slice(one.train.start, one.train.stop)
            train.append(Windows(x[rows], {"y": y[rows]}, config.window, config.burn_in))
        span = one.validation or one.train[-config.window :]
        context = min(span.start, config.window)  # only warms the state
        rows = slice(span.start - context, span.stop)
        judged.append(Windows(x[rows], {"y": y[rows]}, len(span) + context, context))
    windows = ConcatDataset(train)
    starts = RandomStarts(len(windows), config.epoch_steps * config.batch_size, config.seed)
    return DataLoader(windows, batch_size=config.batch_size, sampler=starts), DataLoader(ConcatDataset(judged))


def _normalized(normalizer: Normalizer, x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(normalizer(x).astype(np.float32))


def _rows(values: np.ndarray, span: range) -> np.ndarray:
    return values[span.start : span.stop]
