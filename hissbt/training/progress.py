"""The progress bar of a training run: one line over all epochs, on stderr."""

from lightning.pytorch.callbacks import Callback
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class TrainingProgress(Callback):
    """Shows batches done, time left and the validation loss, now and at its best."""

    def __init__(self):
        self._progress = None

    def on_train_start(self, trainer, module) -> None:
        """Show the bar; a resumed run starts where it had stopped."""
        self._best = float("inf")
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=Console(stderr=True),
        )
        total = trainer.max_epochs * trainer.num_training_batches
        self._task = self._progress.add_task("", total=total, completed=trainer.global_step, losses="")
        self._progress.start()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        """Count the batch."""
        self._progress.update(self._task, completed=trainer.global_step)

    def on_validation_end(self, trainer, module) -> None:
        """Show the new validation loss."""
        loss = float(trainer.callback_metrics["val_loss"])
        self._best = min(self._best, loss)
        self._progress.update(self._task, losses=f"val_loss {loss:.4f}, best {self._best:.4f}")

    def on_train_end(self, trainer, module) -> None:
        """Leave the finished bar on the screen; a run that stopped early counts as finished."""
        self._progress.update(self._task, total=trainer.global_step)
        self._progress.stop()

    def on_exception(self, trainer, module, exception) -> None:
        """Give the screen back."""
        if self._progress is not None:  # it is None when the checkpoint to resume from was refused
            self._progress.stop()
