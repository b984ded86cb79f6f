"""Training ends in a bundle, sees no bar of the test span, and is repeatable, also across an interruption."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
import torch

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.errors import BarsError, ConfigError, TrainingError
from hissbt.feeds import load_bars
from hissbt.stream import Stream
from hissbt.training import train
from hissbt.trials import Trials

SMALL = {
    "features": ["log_return", "range", "ewm_volatility:12"],
    "network": {"d_model": 8, "d_state": 8, "dropout": 0.1},
    "window": 64,
    "burn_in": 16,
    "batch_size": 8,
    "max_epochs": 2,
}

# Trains until its third checkpoint is on disk, and dies there without a chance to tidy up.
KILLED_RUN = """
import json, os, signal, sys
from pathlib import Path
from hissbt.feeds import load_bars
from hissbt.training import train
from hissbt.training.checkpoint import SafeCheckpointIO

save = SafeCheckpointIO.save_checkpoint

def save_and_die(self, checkpoint, path, storage_options=None):
    save(self, checkpoint, path, storage_options)
    if Path(path).name == "last.ckpt" and checkpoint["epoch"] >= 2:
        os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))

SafeCheckpointIO.save_checkpoint = save_and_die
folder = Path(sys.argv[1])
settings = json.loads((folder / "settings.json").read_text())
train(load_bars(folder / "bars.csv"), folder / "killed", settings=settings, progress=False, runs=folder)
"""


def fit(bars: Bars, out, **settings) -> ModelBundle:
    return train(bars, out, settings={**SMALL, **settings}, progress=False)


@pytest.fixture(scope="module")
def bars(hourly_bars) -> Bars:
    return hourly_bars[:600]


@pytest.fixture(scope="module")
def bundle(bars, tmp_path_factory) -> ModelBundle:
    return fit(bars, tmp_path_factory.mktemp("fit") / "bundle")


def test_the_same_bars_settings_and_seed_give_the_same_bundle(bundle, bars, tmp_path):
    again = fit(bars, tmp_path / "bundle")
    assert again.sha256 == bundle.sha256
    assert ModelBundle.load(tmp_path / "bundle").sha256 == bundle.sha256
    assert fit(bars, tmp_path / "other", seed=1).sha256 != bundle.sha256


def test_the_number_of_threads_changes_nothing(hourly_bars, tmp_path):
    """On so many bars and channels torch would share its sums among threads, and round them otherwise."""
    wide, before = {"network": {"d_model": 32}, "max_epochs": 1, "epoch_steps": 1}, torch.get_num_threads()
    shas = set()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        shas.add(fit(hourly_bars, tmp_path / f"bundle-{threads}", **wide).sha256)
        assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
    assert len(shas) == 1
    assert not torch.are_deterministic_algorithms_enabled()


def test_nothing_but_the_bundle_is_left_behind(bars, tmp_path):
    fit(bars, tmp_path / "bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_bars_after_train_until_change_nothing(bundle, bars, tmp_path):
    until = bars.frame.index[499]
    frame = bars.frame.copy()
    frame.iloc[500:] *= 1.5
    other = Bars(frame, bars.market, bars.timeframe)
    first = train(bars, tmp_path / "a", until=until, settings=SMALL, progress=False)
    second = train(other, tmp_path / "b", until=until, settings=SMALL, progress=False)
    assert first.sha256 == second.sha256
    assert first.training_span["end"] == until.isoformat()


def test_the_normalizer_is_fitted_before_the_validation_span(bundle, bars, tmp_path):
    frame = bars.frame.copy()
    frame.iloc[540:] *= np.linspace(1, 3, 60)[:, None]  # inside the last 15 %, which only stops the training
    other = fit(Bars(frame, bars.market, bars.timeframe), tmp_path / "bundle")
    assert other.normalizer == bundle.normalizer
    assert other.target_scale["return_std"] == bundle.target_scale["return_std"]


@pytest.mark.parametrize("kind", ["lstm", "gru", "transformer"])
def test_every_kind_of_network_trains_into_a_bundle_that_runs(kind, bars, tmp_path):
    settings = {**SMALL, "network": {"dropout": 0.1}, "max_epochs": 1, "epoch_steps": 2}
    trained = train(bars, tmp_path / "bundle", kind=kind, settings=settings, progress=False)
    loaded = ModelBundle.load(tmp_path / "bundle", kind=kind)
    assert loaded.sha256 == trained.sha256
    assert np.isfinite(Stream(loaded).scan(bars.arrays())).all()


def test_a_planted_pattern_is_learned(bars, tmp_path):
    returns = 0.01 * (-1.0) ** np.arange(len(bars)) + np.random.default_rng(0).normal(0, 0.002, len(bars))
    close = 100 * np.exp(np.cumsum(returns))
    frame = bars.frame.assign(open=close, high=close * 1.001, low=close * 0.999, close=close)
    scores = fit(Bars(frame, bars.market, bars.timeframe), tmp_path / "bundle", max_epochs=12, lr=1e-2).metrics
    assert scores["validation"]["accuracy"] > 0.95


def test_volatility_is_the_standard_deviation_of_the_return_over_the_horizon(bars, tmp_path):
    bundle = fit(bars, tmp_path / "bundle", horizon=4, max_epochs=3)
    expected_return, _, volatility = Stream(bundle).scan(bars.arrays()).T
    log_close = np.log(bars.frame["close"].to_numpy())
    span = slice(600 - 4 - 89, 600 - 4)  # the validation span: the last 15 % that have a label
    realized = (np.roll(log_close, -4) - log_close)[span]
    error = np.sqrt(np.mean((realized - expected_return[span]) ** 2))
    assert np.sqrt(np.mean(volatility[span] ** 2)) == pytest.approx(error, rel=1e-4)


@pytest.mark.parametrize("weights", [[1.0, 0.0, 0.5], "learned"])
def test_loss_weights_can_be_given_or_learned(bars, tmp_path, weights):
    assert fit(bars, tmp_path / "bundle", loss_weights=weights, max_epochs=1).metrics["validation"]["n"] > 0


def test_a_killed_run_resumes_to_the_bundle_of_an_uninterrupted_one(bars, tmp_path):
    settings = {**SMALL, "max_epochs": 5, "patience": 5}
    bars.frame.reset_index().to_csv(tmp_path / "bars.csv", index=False)
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    killed = subprocess.run([sys.executable, "-c", KILLED_RUN, tmp_path], check=False)
    assert killed.returncode != 0
    assert not (tmp_path / "killed").exists()
    same_bars = load_bars(tmp_path / "bars.csv")
    tried = same_bars.market.symbol, "1h"
    assert list(Trials(tmp_path).tried(*tried).values()) == [None]
    resumed = train(same_bars, tmp_path / "killed", settings=settings, resume=True, progress=False, runs=tmp_path)
    assert len(Trials(tmp_path).tried(*tried)) == 1
    whole = train(same_bars, tmp_path / "whole", settings=settings, progress=False)
    assert resumed.sha256 == whole.sha256


def test_a_fit_is_entered_with_its_bundle_and_one_that_fails_too(bars, tmp_path):
    trained = train(bars, tmp_path / "bundle", settings=SMALL | {"max_epochs": 1}, progress=False, runs=tmp_path)
    with pytest.raises(TrainingError, match="never finite"):
        train(bars, tmp_path / "other", settings=SMALL | {"lr": 1e30}, progress=False, runs=tmp_path)
    assert len(Trials(tmp_path).tried("SP500", "1h")) == 2
    with closing(sqlite3.connect(Trials(tmp_path).path)) as ledger:
        rows = ledger.execute("SELECT event, status, record FROM trials ORDER BY number").fetchall()
    assert [(event, status) for event, status, _ in rows] == [
        ("begun", None),
        ("ended", "done"),
        ("begun", None),
        ("ended", "failed"),
    ]
    begun, ended = json.loads(rows[0][2]), json.loads(rows[1][2])
    assert begun["config"]["kind"] == "hiss"
    assert begun["config"]["data"] == bars.sha256
    assert begun["config"]["config"]["max_epochs"] == 1
    assert ended["bundles"] == [trained.sha256]


def test_there_must_be_something_to_resume(bars, tmp_path):
    with pytest.raises(ConfigError, match="train without --resume"):
        train(bars, tmp_path / "bundle", settings=SMALL, resume=True, progress=False)


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ({"windows": 3}, "windows"),
        ({"lr": -1}, "lr"),
        ({"burn_in": 64}, "burn_in"),
        ({"network": {"d_modle": 8}}, "d_modle"),
        ({"loss_weights": "guessed"}, "loss_weights"),
    ],
)
def test_a_wrong_setting_is_named_and_leaves_nothing_behind(bars, tmp_path, setting, named):
    with pytest.raises(ConfigError, match=named):
        fit(bars, tmp_path / "bundle", **setting)
    assert list(tmp_path.iterdir()) == []


def test_too_few_bars_are_refused_with_the_number_needed(bars, tmp_path):
    with pytest.raises(BarsError, match=r"50 bars are too few to train on.*\d+ are needed"):
        fit(bars[:50], tmp_path / "bundle")
