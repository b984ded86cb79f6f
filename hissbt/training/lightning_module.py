"""The training step of a network, as Lightning wants it."""

import math

import lightning.pytorch as pl
import torch
from torch import nn

from hissbt.models import build_network
from hissbt.models.base import MultiTaskLoss, parameter_groups
from hissbt.models.switching import LikelihoodLoss, SwitchingNet
from hissbt.training.averaging import averaging_callbacks
from hissbt.training.config import RunConfig, TrainingConfig


class TrainingModule(pl.LightningModule):
    """Network and settings, with AdamW and a cosine schedule down to zero at the last possible step.

    Weights that are averaged with equal weights (``swa``) leave the schedule half-way down, where it stays.
    """

    def __init__(self, network: nn.Module, config: RunConfig):
        super().__init__()
        self.network = network
        self._config = config

    def parameter_groups(self) -> list[dict]:
        """Return the optimizer's groups."""
        raise NotImplementedError

    def on_train_epoch_start(self) -> None:
        """Seed what is random by epoch, so that a resumed run draws the same."""
        torch.manual_seed(self._config.seed * 1_000_003 + self.current_epoch)

    def configure_callbacks(self):
        """What averages the weights, if anything does."""
        return averaging_callbacks(self._config)

    def configure_optimizers(self):
        """AdamW over the groups of the network."""
        optimizer = torch.optim.AdamW(self.parameter_groups())
        steps, falling = self._config.steps, self._config.falling_steps
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(step, falling) / steps))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


class ForecastModule(TrainingModule):
    """Any SequenceNet that forecasts, with its loss."""

    def __init__(self, kind: str, network: dict, config: TrainingConfig):
        super().__init__(build_network(kind, network), config)
        is_switching = isinstance(self.network, SwitchingNet)
        self.loss = LikelihoodLoss() if is_switching else MultiTaskLoss(config.loss_weights)

    def training_step(self, batch, _):
        """Return the loss of one batch of windows."""
        x, targets, mask = batch
        loss = self.loss(self.network(x), targets, mask)
        self.log("train_loss", loss, prog_bar=True, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch, _):
        """Log the loss over the validation span."""
        x, targets, mask = batch
        self.log("val_loss", self.loss(self.network(x), targets, mask), prog_bar=True)

    def parameter_groups(self) -> list[dict]:
        """State-space parameters at their own rate, they and learned loss weights without decay."""
        groups = parameter_groups(self.network, self._config.lr, self._config.weight_decay)
        learned = list(self.loss.parameters())
        if learned:
            groups.append({"params": learned, "lr": self._config.lr, "weight_decay": 0.0})
        return groups
