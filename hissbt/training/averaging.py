"""Means of the weights over the batches of a run: the bundle gets them, and the validation loss judges them.

``ema``  exponential mean over all batches, of which the newest weigh most
``swa``  equally weighted mean over the second half of the run, at the learning rate of its middle: Izmailov,
         Podoprikhin, Garipov, Vetrov, Wilson, "Averaging Weights Leads to Wider Optima and Better
         Generalization", UAI 2018 (arXiv 1803.05407). The losses before that half do not count.
"""

import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, WeightAveraging

from hissbt.training.config import RunConfig


def averaging_callbacks(config: RunConfig) -> list[WeightAveraging]:
    """Return Lightning's callback for the averaging of a run, or none.

    Checkpoints hold the averages as ``state_dict``, and the weights that are being trained beside them. Buffers
    are copied, as most of them are constants or counts.
    """
    if config.averaging == "none":
        return []
    if config.averaging == "ema":
        return [EMAWeightAveraging(use_buffers=False, decay=config.ema_decay)]

    def mean_since_start(mean: torch.Tensor, newest: torch.Tensor, batches: torch.Tensor) -> torch.Tensor:
        return torch.lerp(mean, newest, 1 / (max(int(batches) - config.falling_steps, 0) + 1))

    return [WeightAveraging(use_buffers=False, avg_fn=mean_since_start)]
