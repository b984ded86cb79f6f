"""Fitting a variational autoencoder to windows of bars: KL warm-up, free bits, the best bound on later bars."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch.utils.data import DataLoader, Subset

from hissbt.errors import BarsError
from hissbt.models.elbo import HierarchicalLoss
from hissbt.models.gaussian import Gaussian
from hissbt.models.hvae import parameter_groups
from hissbt.models.window_vae import Draw, WindowVAE
from hissbt.training.config import LatentConfig
from hissbt.training.lightning_module import TrainingModule
from hissbt.training.lightning_run import run_lightning
from hissbt.training.windows import RandomStarts, Windows

JUDGED = 256  # windows at most that the validation loss is the mean of


class VAEModule(TrainingModule):
    """An autoencoder of windows with its loss: ``val_loss`` is -ELBO a bar, for the same draws every time."""

    def __init__(self, network: WindowVAE, config: LatentConfig):
        super().__init__(network, config)
        self.loss = HierarchicalLoss(config.free_nats, config.free_bits == "dimension")

    def training_step(self, batch, _):
        """Return the loss of one batch of windows, the divergences at the weight of this step."""
        x = batch[0]  # [B,W,F]
        beta = self._config.beta(self.global_step)
        loss = self.loss(self.network.terms(x), x.shape[1], beta)
        self.log("train_loss", loss, prog_bar=True, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, number):
        """Log -ELBO a bar over the validation windows."""
        x = batch[0]
        terms = self.network.terms(x, seeded_draw(self._config.seed * 1_000_003 + number))
        self.log("val_loss", -terms.elbo.mean() / x.shape[1], prog_bar=True, batch_size=len(x))

    def parameter_groups(self) -> list[dict]:
        """The top level at half the rate, vectors undecayed."""
        return parameter_groups(self.network, self._config.lr, self._config.weight_decay)


def seeded_draw(seed: int) -> Draw:
    """Return what draws from a Gaussian by a generator of its own."""
    generator = torch.Generator().manual_seed(seed)
    return lambda gaussian: Gaussian.draw(gaussian, generator)


def fit_vae(
    network: WindowVAE, x: torch.Tensor, train: range, validation: range, window: int, config: LatentConfig
) -> None:
    """Fit ``network`` in place on the rows ``train`` of x [T,F]; it ends with the weights best on ``validation``.

    The same loop as that of ``hissbt.training.train``, without features, bundle and resume. Initial weights are
    the caller's; ``config.seed`` is that of windows and draws.

    Raises TrainingError where the validation loss was never finite.
    """
    with TemporaryDirectory() as folder:
        loaders = window_loaders(x, train, validation, window, config)
        module = VAEModule(network, config)
        run_lightning(module, loaders, config, Path(folder) / "run", {}, first=config.warmup_epochs)


def window_loaders(
    x: torch.Tensor, train: range, validation: range, window: int, config: LatentConfig
) -> tuple[DataLoader, DataLoader]:
    """Return the loader of windows at random places of ``train``, and that of windows all over ``validation``."""
    windows = Windows(x[train.start : train.stop], {}, window, 0)
    starts = RandomStarts(len(windows), config.epoch_steps * config.batch_size, config.seed)
    judged = windows_of(x, validation, window)
    own = torch.Generator()  # else loaders take from the source of the latents' draws, a resumed run more often
    return (
        DataLoader(windows, batch_size=config.batch_size, sampler=starts, generator=own),
        DataLoader(judged, batch_size=4 * config.batch_size, generator=own),
    )


def windows_of(x: torch.Tensor, span: range, window: int) -> Subset:
    """Return at most ``JUDGED`` windows of x [T,F], evenly over ``span``, the last ending with it."""
    windows = Windows(x[span.start : span.stop], {}, window, 0)
    if len(windows) < 1:
        raise BarsError(f"{len(span)} bars hold no window of {window}: give more bars or shorter strides")
    last = len(windows) - 1
    return Subset(windows, torch.linspace(0, last, min(JUDGED, last + 1)).round().long().tolist())
