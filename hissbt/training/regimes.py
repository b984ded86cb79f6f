"""Training a network to name regimes, as articles do: epochs, plateaus, early stopping.

``hissbt.training.train`` makes bundles on a schedule that ends by itself. This is the other usual way: every
window once an epoch, Adam, a learning rate that is divided when the validation loss stagnates, and the weights of
the best epoch. Plain torch: a fit lasts seconds, and many run side by side.
"""

import copy
from dataclasses import dataclass

import numpy as np
import torch

from hissbt.errors import TrainingError
from hissbt.models import SequenceNet, build_network
from hissbt.models.switching import RegimeLoss


@dataclass(frozen=True)
class RegimeTraining:
    """Settings of one fit. Counts are in bars unless the name says otherwise."""

    context: int
    """Bars before the first that carries a loss, in every window."""
    window: int
    """Bars that carry a loss in a window."""
    stride: int
    """Bars between the starts of two windows."""
    batch_size: int
    max_epochs: int
    patience: int
    """Epochs without a lower validation loss before the fit stops."""
    lr: float
    lr_patience: int
    """Epochs without a lower validation loss before ``lr`` is divided."""
    lr_divisor: float


@dataclass(frozen=True)
class RegimeFit:
    """What a fit went through."""

    train_loss: tuple[float, ...]
    """Mean cross-entropy of each epoch, in nats."""
    validation_loss: tuple[float, ...]

    @property
    def best_epoch(self) -> int:
        """The epoch, from 0, whose weights were kept."""
        return int(np.argmin(self.validation_loss))


@dataclass(frozen=True)
class TrainedRegimes:
    """What a network that was trained from its settings says, without the network."""

    probability: np.ndarray
    """[T] of class 1 at each bar."""
    fit: RegimeFit
    parameters: int


def train_regimes(
    kind: str,
    network: dict,
    x: np.ndarray,
    labels: np.ndarray,
    train: range,
    validation: range,
    settings: RegimeTraining,
    seed: int,
) -> TrainedRegimes:
    """Build the network of ``kind`` from its settings, fit it as ``fit_regimes`` does, and run it over ``x``.

    Uses one thread, as another number would give other digits: the same in every process.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        torch.manual_seed(seed)
        built = build_network(kind, network)
        fit = fit_regimes(built, x, labels, train, validation, settings, seed)
        return TrainedRegimes(
            regime_probability(built, x), fit, sum(weight.numel() for weight in built.parameters())
        )
    finally:
        torch.set_num_threads(threads)


def fit_regimes(
    network: SequenceNet,
    x: np.ndarray,
    labels: np.ndarray,
    train: range,
    validation: range,
    settings: RegimeTraining,
    seed: int,
) -> RegimeFit:
    """Fit ``network`` in place on the bars of ``train``; it ends with the weights that did best on ``validation``.

    ``x`` [T,F] are normalized inputs and ``labels`` [T] classes 0 .. K-1, known on both spans. No loss and no
    decision looks at a row outside of them; inputs of the ``context`` bars before a span warm the state.
    Raises TrainingError where the validation loss was never finite.
    """
    inputs, targets = torch.from_numpy(x.astype(np.float32)), torch.from_numpy(labels)
    loss_of, generator = RegimeLoss(), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=1 / settings.lr_divisor, patience=settings.lr_patience - 1, threshold=0.0
    )
    starts = _starts(train, settings)

    def loss(first: torch.Tensor, length: int, span: range) -> torch.Tensor:
        rows = first[:, None] + torch.arange(length)  # [B,L]
        mask = (rows >= span.start) & (rows < span.stop) & (torch.arange(length) >= settings.context)
        return loss_of(network(inputs[rows]), {"regime": targets[rows, None]}, mask[..., None])

    train_losses, validation_losses, best = [], [], None
    for _ in range(settings.max_epochs):
        network.train()
        sums = 0.0
        for first in starts[torch.randperm(len(starts), generator=generator)].split(settings.batch_size):
            optimizer.zero_grad()
            batch = loss(first, settings.context + settings.window, train)
            batch.backward()
            optimizer.step()
            sums += batch.item() * len(first)
        network.eval()
        with torch.inference_mode():
            first = torch.tensor([validation.start - settings.context])
            score = loss(first, settings.context + len(validation), validation).item()
        train_losses.append(sums / len(starts))
        validation_losses.append(score if np.isfinite(score) else np.inf)
        plateau.step(validation_losses[-1])
        epoch = int(np.argmin(validation_losses))
        if epoch == len(validation_losses) - 1:
            best = copy.deepcopy(network.state_dict())
        elif len(validation_losses) - 1 - epoch >= settings.patience:
            break
    if not np.isfinite(min(validation_losses)):
        raise TrainingError("the validation loss was never finite: lower lr or look for extreme bars")
    network.load_state_dict(best)
    return RegimeFit(tuple(train_losses), tuple(validation_losses))


def regime_probability(network: SequenceNet, x: np.ndarray) -> np.ndarray:
    """Return the probability [T] of class 1 at each bar of ``x`` [T,F], from the first bar on as a stream."""
    with torch.inference_mode():
        outputs = network.eval()(torch.from_numpy(x.astype(np.float32))[None])
    belief = outputs["belief"][0, :, 1] if "belief" in outputs else outputs["direction"][0, :, 0].sigmoid()
    return belief.numpy().astype(np.float64)


def _starts(train: range, settings: RegimeTraining) -> torch.Tensor:
    """Return the first row of each window; the last window ends with the span."""
    first, last = train.start - settings.context, train.stop - settings.window - settings.context
    return torch.tensor(sorted({*range(first, last + 1, settings.stride), max(last, first)}))
