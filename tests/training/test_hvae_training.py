"""A hierarchical VAE trains by the road of a forecaster; its bundle knows what is usual, and what collapsed."""

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from soak import three_scales

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.candles import CANDLE
from hissbt.console import show_bundle
from hissbt.errors import BarsError, ConfigError
from hissbt.models import HVAEConfig, HVAENet
from hissbt.models.flat_vae import FlatVAE, matched
from hissbt.training import train
from hissbt.training.checkpoint import SafeCheckpointIO
from hissbt.training.config import LatentConfig, TrainingConfig
from hissbt.training.hvae import HVAETask, anomaly_scores
from hissbt.training.latents import clusters, level_metrics, persistence, score_quantiles
from hissbt.training.lightning_module import TrainingModule
from hissbt.training.lightning_run import run_lightning
from hissbt.training.vae import fit_vae, window_loaders

NETWORK = {"strides": (2, 4, 12), "d_latent": (1, 1, 2), "d_hidden": 8}
SMALL = {"network": NETWORK, "batch_size": 8, "epoch_steps": 4, "max_epochs": 4}


@pytest.fixture(scope="module")
def bars(hourly_bars) -> Bars:
    return hourly_bars[:600]


@pytest.fixture(scope="module")
def bundle(bars, tmp_path_factory) -> ModelBundle:
    return fit(bars, tmp_path_factory.mktemp("hvae") / "bundle")


def fit(bars: Bars, out, **settings) -> ModelBundle:
    return train(bars, out, kind="hvae", settings=SMALL | settings, progress=False)


def altered_from(bars: Bars, row: int) -> Bars:
    frame = bars.frame.copy()
    frame.iloc[row:] *= np.linspace(1.01, 1.5, len(frame) - row)[:, None]
    return Bars(frame, bars.market, bars.timeframe)


def network_of(bundle: ModelBundle) -> HVAENet:
    network = HVAENet(HVAEConfig(**bundle.config))
    network.load_state_dict({name: torch.from_numpy(array) for name, array in bundle.weights.items()})
    return network.eval()


# --- the road from bars to a bundle


def test_the_same_bars_settings_and_seed_give_the_same_bundle(bundle, bars, tmp_path):
    assert fit(bars, tmp_path / "bundle").sha256 == bundle.sha256
    assert ModelBundle.load(tmp_path / "bundle", kind="hvae").sha256 == bundle.sha256
    assert fit(bars, tmp_path / "other", seed=1).sha256 != bundle.sha256


def test_an_interrupted_run_resumes_to_the_bundle_of_a_whole_one(bundle, bars, tmp_path, monkeypatch):
    save = SafeCheckpointIO.save_checkpoint

    def save_and_stop(self, checkpoint, path, storage_options=None):
        save(self, checkpoint, path, storage_options)
        if str(path).endswith("last.ckpt") and checkpoint["epoch"] == 2:
            raise OSError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(SafeCheckpointIO, "save_checkpoint", save_and_stop)
        with pytest.raises(OSError, match="full"):
            fit(bars, tmp_path / "bundle")
    resumed = train(bars, tmp_path / "bundle", kind="hvae", settings=SMALL, resume=True, progress=False)
    assert resumed.sha256 == bundle.sha256


def test_bars_after_train_until_change_nothing(bars, tmp_path):
    until = bars.frame.index[499]
    first, second = (
        train(some, tmp_path / name, kind="hvae", until=until, settings=SMALL, progress=False)
        for name, some in (("a", bars), ("b", altered_from(bars, 500)))
    )
    assert first.sha256 == second.sha256


def test_calibration_bars_reach_nothing_but_the_calibration(bundle, bars, tmp_path):
    start = HVAETask("hvae", bars, SMALL).calibration.start
    other = fit(altered_from(bars, start), tmp_path / "bundle")
    differs = [name for name, array in bundle.weights.items() if not np.array_equal(array, other.weights[name])]
    assert differs == ["calibration"]
    assert other.metrics == bundle.metrics


def test_a_window_lies_between_training_validation_and_calibration(bars):
    task = HVAETask("hvae", bars, SMALL)
    assert task.validation.start - task.train.stop == 12
    assert task.calibration.start - task.validation.stop == 12
    assert task.calibration.stop == len(bars)


@pytest.mark.parametrize("setting", ["horizon", "window", "burn_in", "loss_weights"])
def test_what_means_nothing_to_an_autoencoder_is_refused(bars, tmp_path, setting):
    with pytest.raises(ConfigError, match=f"unknown training setting '{setting}'"):
        fit(bars, tmp_path / "bundle", **{setting: 1})


def test_what_means_nothing_to_a_forecaster_is_refused():
    with pytest.raises(ConfigError, match="unknown training setting 'free_nats'"):
        TrainingConfig.of({"free_nats": 0.1})


def test_too_few_bars_are_refused_with_a_number_that_is_enough(bars, tmp_path):
    with pytest.raises(BarsError, match=r"100 bars are too few to train on windows of 12.* 360 are needed"):
        fit(bars[:100], tmp_path / "bundle")
    assert HVAETask("hvae", bars[:360], SMALL).loaders


def test_more_clusters_than_windows_are_refused_before_training(bars):
    most = 52  # windows of 12, one every 4, among the 216 warm bars of training
    HVAETask("hvae", bars[:360], {**SMALL, "network": {**NETWORK, "n_clusters": most}})
    with pytest.raises(ConfigError, match=f"'n_clusters' cannot be 53: these bars have {most} windows"):
        HVAETask("hvae", bars[:360], {**SMALL, "network": {**NETWORK, "n_clusters": most + 1}})


def test_a_feature_that_hardly_ever_varies_is_left_out(bars):
    frame = bars.frame.copy()
    frame["open"] = frame["close"].shift(fill_value=frame["open"].iloc[0])  # as of a perpetual future
    frame["high"] = frame[["open", "high", "close"]].max(axis=1)
    frame["low"] = frame[["open", "low", "close"]].min(axis=1)
    task = HVAETask("hvae", Bars(frame, bars.market, bars.timeframe), SMALL)
    assert task.features.names == tuple(name for name in CANDLE if name != "gap")


def test_bars_whose_price_stands_still_are_refused_unless_features_are_named(bars):
    still = bars.frame.copy()
    for column in ("open", "high", "low", "close"):
        still[column] = np.repeat(still["close"].to_numpy()[::2], 2)
    still = Bars(still, bars.market, bars.timeframe)
    with pytest.raises(BarsError, match="stands still at more than a third of the bars"):
        HVAETask("hvae", still, SMALL)
    assert HVAETask("hvae", still, {**SMALL, "features": ("log_return",)}).features.names == ("log_return",)


# --- the loss and what is judged


def test_the_divergence_gains_its_weight_over_the_first_share_of_the_steps():
    config = LatentConfig(epoch_steps=10, max_epochs=10, warmup_share=0.3)
    assert [config.beta(step) for step in (0, 14, 29, 99)] == pytest.approx([1 / 30, 0.5, 1, 1])
    assert config.warmup_epochs == 3
    assert LatentConfig(warmup_share=0).beta(0) == 1
    assert LatentConfig(max_epochs=1).warmup_epochs == 0


class Worsening(TrainingModule):
    """Has the best validation loss in its first epoch, and remembers in its weights how long it was trained."""

    def __init__(self, config):
        super().__init__(torch.nn.Linear(1, 1), config)
        self.register_buffer("epoch", torch.tensor(-1))

    def training_step(self, batch, _):
        self.epoch.fill_(self.current_epoch)
        return self.network(batch[0][:, :1, 0]).square().mean()

    def validation_step(self, batch, _):
        self.log("val_loss", float(self.current_epoch))

    def parameter_groups(self):
        return [{"params": list(self.parameters()), "lr": 1e-3}]


def test_no_epoch_of_the_warm_up_is_the_best_or_counts_against_patience(tmp_path):
    config = LatentConfig(epoch_steps=1, max_epochs=9, patience=2, batch_size=1)
    loaders = window_loaders(torch.zeros(8, 1), range(4), range(4, 8), 2, config)
    module = Worsening(config)
    run_lightning(module, loaders, config, tmp_path / "run", {}, first=3)
    assert module.epoch == 3
    assert SafeCheckpointIO().load_checkpoint(tmp_path / "run" / "last.ckpt")["epoch"] == 5


def test_flat_and_hierarchical_models_are_fitted_by_the_same_loop():
    config = HVAEConfig(n_features=1, **NETWORK)
    x = torch.sin(torch.arange(400.0))[:, None]
    run = LatentConfig(batch_size=8, epoch_steps=20, max_epochs=3, warmup_share=0, lr=1e-2)
    for make in (lambda: HVAENet(config), lambda: FlatVAE(matched(config))):
        torch.manual_seed(0)
        network = make()
        windows = x[300:].unfold(0, 12, 12).transpose(1, 2)
        before = network.terms(windows).elbo.mean()
        fit_vae(network, x, range(300), range(300, 400), 12, run)
        assert network.terms(windows).elbo.mean() > before + 1


# --- what is measured after training


def test_the_calibration_is_of_the_scores_bar_by_bar(bundle, bars):
    task, network = HVAETask("hvae", bars, SMALL), network_of(bundle)
    with torch.inference_mode():
        outputs = {name: value[0].numpy() for name, value in network(task.x[None]).items()}
    scores = anomaly_scores(outputs["kl"], outputs["recon"])[task.calibration.start :]
    np.testing.assert_allclose(score_quantiles(scores, 1000), bundle.weights["calibration"], atol=1e-5)
    assert (np.diff(bundle.weights["calibration"]) >= 0).all()


def test_p_values_by_the_quantiles_are_uniform():
    rng = np.random.default_rng(0)
    quantiles = score_quantiles(rng.gamma(2, size=(20_000, 1)), 1000)[0]
    p = (1 + (quantiles >= rng.gamma(2, size=(5_000, 1))).sum(axis=1)) / 1001
    assert kstest(p, "uniform").pvalue > 0.01
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.01)


def test_clusters_are_ordered_from_calm_to_wild():
    rng = np.random.default_rng(0)
    centers, unrest = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 3.0]]), np.array([0.2, 0.3, 0.1])
    members = rng.integers(3, size=300)
    found = clusters(centers[members] + 0.1 * rng.normal(size=(300, 2)), unrest[members], 3, seed=0)
    np.testing.assert_allclose(found, centers[[2, 0, 1]], atol=0.05)


def test_persistence_is_found_as_far_as_the_latents_are_known():
    rng = np.random.default_rng(0)
    matrix = np.array([[0.8, 0.1], [0.0, 0.5]])
    spread = np.linalg.cholesky(np.eye(2) - matrix @ matrix.T)
    z = np.zeros((20_000, 2))
    for t in range(1, len(z)):
        z[t] = matrix @ z[t - 1] + spread @ rng.normal(size=2)
    np.testing.assert_allclose(persistence(z, np.zeros_like(z), 1), matrix, atol=0.03)
    known = 1 - np.array([0.2, 0.5])  # a mean varies by 1 less what stays open
    means = known * (z + np.sqrt(1 / known - 1) * rng.normal(size=z.shape))
    found = persistence(means, np.broadcast_to(1 - known, means.shape), 1)
    np.testing.assert_allclose(found, np.outer(known, known) * matrix, atol=0.03)


@pytest.mark.parametrize("ahead", [1, 3])
def test_what_persistence_leaves_to_chance_is_a_covariance(ahead):
    walk = np.cumsum(np.random.default_rng(1).normal(size=(500, 3)), axis=0)
    matrix = persistence(walk, np.full((500, 3), 1e-6), ahead)
    assert np.linalg.eigvalsh(np.eye(3) - matrix @ matrix.T).min() > 0


def test_a_level_that_says_nothing_is_named(bundle, bars, tmp_path, capsys):
    network = network_of(bundle)
    with torch.no_grad():  # the evidence of the middle level: as good as none
        network.evidence[1][-1].weight.zero_()
        network.evidence[1][-1].bias.copy_(torch.tensor([0.0, 50.0]))
        metrics = level_metrics(network, torch.randn(16, 12, network.config.n_features), seed=0)
    assert metrics["collapsed"].count(2) == 1
    assert metrics["levels"][1]["kl_a_latent"] == pytest.approx(0, abs=1e-3)
    bundle = ModelBundle(**vars(bundle) | {"metrics": metrics})
    show_bundle(bundle, tmp_path)
    assert "COLLAPSED: level z2 says nothing of the bars" in capsys.readouterr().out


def test_level_metrics_add_up(bundle):
    levels, bound = bundle.metrics["levels"], bundle.metrics["bound"]
    assert [level["stride"] for level in levels] == [2, 4, 12]
    for level in levels:
        assert level["kl_a_bar"] == pytest.approx(level["kl_a_latent"] / level["stride"])
        assert level["active_units"] <= level["units"]
    assert bound["iwae50_a_dimension"] > bound["elbo_a_dimension"]


# --- the hierarchy that was planted is found


def test_three_scales_are_found_on_one_series():
    """One seed, one rate and few epochs of ``python -m tests.soak.three_scales``."""
    x = torch.from_numpy(three_scales.simulate(0).astype(np.float32))[:, None]
    network = three_scales.fit_best(lambda: HVAENet(three_scales.NETWORK), x, 0, (3e-3,), max_epochs=12)
    assert min(three_scales.active_units(network, x)) > 0
    assert three_scales.coarse_share(network) >= three_scales.COARSE_SHARE
