"""The bundle gets a mean of the weights, and the validation loss is that of the mean."""

import numpy as np
import pytest
import torch

from hissbt.training.config import TrainingConfig
from hissbt.training.forecasts import ForecastTask
from hissbt.training.lightning_module import ForecastModule
from hissbt.training.lightning_run import run_lightning

STEPS = 6
SETTINGS = {
    "features": ["log_return", "range"],
    "network": {"d_model": 4},
    "window": 16,
    "burn_in": 4,
    "batch_size": 2,
    "epoch_steps": STEPS,
    "max_epochs": 1,
    "lr": 0.05,
}


class Watched(ForecastModule):
    """Remembers its weights after every batch."""

    def on_train_start(self):
        self.past = []

    def on_train_batch_end(self, *_):
        self.past.append(weights(self))


def weights(module) -> np.ndarray:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()]).double().numpy()


def trained(bars, folder, kind="gru", **settings) -> tuple[Watched, ForecastTask]:
    task = ForecastTask(kind, bars, SETTINGS | settings)
    torch.manual_seed(0)
    module = Watched(kind, task.data.network, task.config)
    run_lightning(module, task.loaders, task.config, folder / "run", {})
    return module, task


def test_swa_is_the_plain_mean_over_the_second_half(hourly_bars, tmp_path):
    module, _ = trained(hourly_bars[:200], tmp_path, averaging="swa")
    assert np.ptp(module.past, axis=0).max() > 0.01
    np.testing.assert_allclose(weights(module), np.mean(module.past[STEPS // 2 :], axis=0), atol=1e-6)


def test_a_run_that_would_have_stopped_early_goes_on_until_weights_are_averaged(hourly_bars, tmp_path):
    stopping = {"max_epochs": 4, "patience": 1, "lr": 1.0}
    usual, _ = trained(hourly_bars[:200], tmp_path / "usual", **stopping)
    assert usual.trainer.current_epoch == 2
    module, _ = trained(hourly_bars[:200], tmp_path / "swa", averaging="swa", **stopping)
    means = [np.mean(module.past[2 * STEPS : stop * STEPS], axis=0) for stop in (3, 4)]
    assert any(np.allclose(weights(module), mean, atol=1e-5) for mean in means)


def test_ema_is_the_exponential_mean_from_the_first_batch_on(hourly_bars, tmp_path):
    module, _ = trained(hourly_bars[:200], tmp_path, averaging="ema", ema_decay=0.7)
    mean = module.past[0]
    for newest in module.past[1:]:
        mean = 0.7 * mean + 0.3 * newest
    np.testing.assert_allclose(weights(module), mean, atol=1e-6)


def test_without_averaging_the_weights_are_the_last_batchs(hourly_bars, tmp_path):
    module, _ = trained(hourly_bars[:200], tmp_path)
    np.testing.assert_array_equal(weights(module), module.past[-1])


@pytest.mark.parametrize("averaging", ["swa", "ema"])
def test_the_mean_is_what_the_validation_loss_judges(averaging, hourly_bars, tmp_path):
    module, task = trained(hourly_bars[:200], tmp_path, averaging=averaging)
    module.eval()
    with torch.inference_mode():
        x, targets, mask = next(iter(task.loaders[1]))
        loss = module.loss(module.network(x), targets, mask)
    assert float(module.trainer.callback_metrics["val_loss"]) == pytest.approx(float(loss), rel=1e-6)


def test_constants_are_not_averaged_away(hourly_bars, tmp_path):
    weights_of_losses = [0.3, 0.7, 0.9]  # no binary fractions: a mean of equal ones would be rounded
    module, _ = trained(hourly_bars[:200], tmp_path, averaging="ema", loss_weights=weights_of_losses)
    assert torch.equal(module.loss.factor, torch.tensor(weights_of_losses))


def rates(averaging: str) -> list[float]:
    config = TrainingConfig(averaging=averaging, epoch_steps=4, max_epochs=5, lr=0.01)
    module = ForecastModule("gru", {"n_features": 2}, config)
    parts = module.configure_optimizers()
    optimizer, schedule = parts["optimizer"], parts["lr_scheduler"]["scheduler"]
    learned = []
    for _ in range(config.steps):
        learned.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return learned


def test_the_learning_rate_stays_where_swa_begins():
    usual, held = rates("none"), rates("swa")
    assert held[:11] == usual[:11]
    assert held[10:] == [pytest.approx(0.005)] * 10
    assert usual == rates("ema") == sorted(usual, reverse=True)
    assert usual[-1] < 1e-4
