"""The training step of any SequenceNet, as Lightning wants it."""

import math

import lightning.pytorch as pl
import torch

from hissbt.models import build_network
from hissbt.models.base import MultiTaskLoss, parameter_groups
from hissbt.models.switching import LikelihoodLoss, SwitchingNet
from hissbt.training.config import TrainingConfig


class ForecastModule(pl.LightningModule):
    """Network and loss, with AdamW and a cosine schedule down to zero at the last possible step."""

    def __init__(self, kind: str, network: dict, config: TrainingConfig):
        super().__init__()
        self.network = build_network(kind, network)
        is_switching = isinstance(self.network, SwitchingNet)
        self.loss = LikelihoodLoss() if is_switching else MultiTaskLoss(config.loss_weights)
        self._config = config

    def on_train_epoch_start(self) -> None:
        """Seed dropout by epoch, so that a resumed run draws the same masks."""
        torch.manual_seed(self._config.seed * 1_000_003 + self.current_epoch)

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

    def configure_optimizers(self):
        """AdamW; state-space parameters at their own rate, they and learned loss weights without decay."""
        groups = parameter_groups(self.network, self._config.lr, self._config.weight_decay)
        learned = list(self.loss.parameters())
        if learned:
            groups.append({"params": learned, "lr": self._config.lr, "weight_decay": 0.0})
        optimizer = torch.optim.AdamW(groups)
        steps = self._config.epoch_steps * self._config.max_epochs
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * min(step / steps, 1.0)))
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
