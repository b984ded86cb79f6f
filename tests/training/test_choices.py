"""Training choices reach every kind of network, survive an interruption, and come as presets."""

import re
from pathlib import Path

import pytest
import torch

from hissbt.bundle import ModelBundle
from hissbt.errors import ConfigError, TrainingError
from hissbt.features import FeatureSet
from hissbt.models import NETWORKS, build_network
from hissbt.training import train
from hissbt.training.checkpoint import SafeCheckpointIO
from hissbt.training.config import TrainingConfig, presets, read_settings
from hissbt.training.lightning_module import ForecastModule

FORECASTERS = sorted(set(NETWORKS) - {"hvae"})
PRESETS = Path(__file__).parents[2] / "hissbt" / "training" / "presets"
SMALL = {
    "features": ["log_return", "range"],
    "network": {"d_model": 4, "dropout": 0.1},
    "window": 32,
    "burn_in": 8,
    "batch_size": 4,
    "epoch_steps": 3,
    "max_epochs": 4,
}


def fit(bars, out, kind="gru", **how) -> ModelBundle:
    return train(bars, out, kind=kind, progress=False, **how)


@pytest.mark.parametrize(("averaging", "curriculum"), [("swa", "length"), ("ema", "volatility")])
def test_an_interrupted_run_resumes_to_the_bundle_of_a_whole_one(
    averaging, curriculum, hourly_bars, tmp_path, monkeypatch
):
    bars, settings = hourly_bars[:200], SMALL | {"averaging": averaging, "curriculum": curriculum}
    whole = fit(bars, tmp_path / "whole", settings=settings)
    save = SafeCheckpointIO.save_checkpoint

    def save_and_stop(self, checkpoint, path, storage_options=None):
        save(self, checkpoint, path, storage_options)
        if Path(path).name == "last.ckpt" and checkpoint["epoch"] == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SafeCheckpointIO, "save_checkpoint", save_and_stop)
        with pytest.raises(TrainingError, match="--resume continues it"):
            fit(bars, tmp_path / "stopped", settings=settings)
    assert fit(bars, tmp_path / "stopped", settings=settings, resume=True).sha256 == whole.sha256


def network_of(kind: str, **settings):
    columns = {"return_column": 0} if kind.startswith("m-") else {}
    return build_network(kind, {"n_features": 3, "d_model": 8} | columns | settings)


@pytest.mark.parametrize("kind", FORECASTERS)
def test_dropout_reaches_every_kind_of_forecaster_in_training_only(kind):
    net, x = network_of(kind, dropout=0.5), torch.linspace(-1, 1, 3 * 32).view(1, 32, 3)
    for is_training in (True, False):
        net.train(is_training)
        assert torch.equal(net(x)["return"], net(x)["return"]) != is_training


@pytest.mark.parametrize("kind", FORECASTERS)
def test_weight_decay_reaches_every_kind_but_no_bias_gain_or_pole(kind):
    config = TrainingConfig(weight_decay=0.3, loss_weights="learned")
    network = {"n_features": 3, "d_model": 8} | ({"return_column": 0} if kind.startswith("m-") else {})
    module = ForecastModule(kind, network, config)
    decayed = {id(p) for g in module.parameter_groups() if g["weight_decay"] == 0.3 for p in g["params"]}
    names = {name for name, parameter in module.named_parameters() if id(parameter) in decayed}
    assert any("readout" in name for name in names)
    assert not [name for name in names if re.search(r"bias|norm|log_|A_imag|first_held|\.D$", name)]


def test_a_hierarchy_learns_from_windows_shorter_than_a_block_of_its_top(hourly_bars, tmp_path):
    settings = SMALL | {"curriculum": "length", "max_epochs": 2, "network": {"d_model": 4, "strides": [4, 6]}}
    assert fit(hourly_bars[:200], tmp_path / "bundle", "hiss", settings=settings).metrics["validation"]["n"] > 0


@pytest.mark.parametrize("name", presets())
def test_a_preset_makes_a_network_and_says_what_each_option_does(name):
    config = TrainingConfig.of(read_settings(name))
    features = FeatureSet(config.features or ("log_return",))
    net = build_network("hiss", {**config.network, "n_features": features.size})
    assert config.window - config.burn_in > net.warmup
    lines = (PRESETS / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if re.match(r"\w+ = ", line):
            assert "#" in line or before.startswith("# "), line


def test_presets_only_choose_what_a_comparison_has_shown():
    usual = TrainingConfig()
    for name in ("hours", "days"):
        config = TrainingConfig.of(read_settings(name))
        for choice in ("averaging", "curriculum", "weight_decay", "batch_size", "lr", "max_epochs", "patience"):
            assert getattr(config, choice) == getattr(usual, choice), (name, choice)


def test_settings_are_read_by_name_or_from_a_file(tmp_path):
    (tmp_path / "mine.toml").write_text("horizon = 7\n")
    assert read_settings(tmp_path / "mine.toml") == {"horizon": 7}
    assert read_settings(Path("volatility"))["horizon"] == 24


def test_a_name_that_is_no_preset_is_told_which_are():
    with pytest.raises(ConfigError, match=r"config file hors: .*one of days, hours, volatility"):
        read_settings("hors")


@pytest.mark.parametrize("setting", [{"averaging": "mean"}, {"curriculum": "hard"}, {"ema_decay": 1.0}], ids=str)
def test_an_unknown_choice_is_named(setting):
    with pytest.raises(ConfigError, match=f"training setting '{next(iter(setting))}'"):
        TrainingConfig.of(setting)
