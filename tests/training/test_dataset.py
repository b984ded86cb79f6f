"""What the network is fitted on depends on no bar of the validation span, labels and scales included."""

import numpy as np
import pytest
import torch

from hissbt.bars import Bars
from hissbt.training.config import TrainingConfig
from hissbt.training.dataset import prepare

SETTINGS = {"window": 32, "burn_in": 8, "epoch_steps": 4, "batch_size": 4}


def other_prices_from(bars: Bars, row: int) -> Bars:
    frame = bars.frame.copy()
    frame.iloc[row:] *= np.linspace(1.1, 3.0, len(frame) - row)[:, None]
    return Bars(frame, bars.market, bars.timeframe)


def fitted_on(data) -> tuple:
    """Return everything of the data that the weights can depend on."""
    train = slice(0, len(data.split.train))
    targets = [target[train] for target in data.targets.values()]
    return torch.cat([data.x[train], *targets], dim=1), data.normalizer, data.scale


@pytest.mark.parametrize("horizon", [1, 5])
def test_validation_bars_reach_nothing_that_is_fitted(hourly_bars, horizon):
    config = TrainingConfig(horizon=horizon, **SETTINGS)
    data = prepare(hourly_bars, config)
    first = data.split.validation.start
    tensors, normalizer, scale = fitted_on(data)
    altered, *scales = fitted_on(prepare(other_prices_from(hourly_bars, first), config))
    assert torch.equal(tensors, altered)
    assert scales == [normalizer, scale]
    one_bar_earlier, *_ = fitted_on(prepare(other_prices_from(hourly_bars, first - 1), config))
    assert not torch.equal(tensors, one_bar_earlier)  # the last label reads up to the bar before: none is wasted


def test_windows_stay_in_the_training_part_and_losses_in_the_validation_part(hourly_bars):
    config = TrainingConfig(horizon=5, **SETTINGS)
    data = prepare(hourly_bars, config)
    windows, validation = data.loaders(config)
    x, _, mask = windows.dataset[len(windows.dataset) - 1]
    assert torch.equal(x, data.x[: len(data.split.train)][-32:])  # the last window ends where training ends
    assert mask[:, 0].tolist() == [0] * 8 + [1] * 24
    x, targets, mask = next(iter(validation))
    part = slice(data.split.validation.start, data.split.validation.stop)
    counted = mask[0, :, 0] == 1
    assert torch.equal(x[0, counted], data.x[part])
    assert torch.equal(targets["return"][0, counted], data.targets["return"][part])
