"""A switching network learns by what its features say: which column is the return, which drive the regimes."""

import numpy as np
import pytest

from hissbt.bundle import ModelBundle
from hissbt.errors import ConfigError
from hissbt.features import Normalizer
from hissbt.indicators.regime import bull_and_bear
from hissbt.stream import Stream
from hissbt.training import train
from hissbt.training.config import TrainingConfig
from hissbt.training.switching import column_scale, column_settings, is_switching

TINY = {
    "network": {"d_model": 4},
    "window": 48,
    "burn_in": 16,
    "batch_size": 4,
    "epoch_steps": 2,
    "max_epochs": 2,
}
NAMES = ("range", "rsi:14", "log_return", "garman_klass")
NORMALIZER = Normalizer((0.01, 50.0, 0.002, 1e-4), (0.02, 20.0, 0.04, 1e-4))


@pytest.mark.parametrize("kind", ["m-gru", "m-lstm", "m-tkan", "tkan"])
def test_a_bundle_of_each_kind_runs_as_a_stream_and_comes_back_from_disk(kind, hourly_bars, tmp_path):
    bars = hourly_bars[:400]
    bundle = train(bars, tmp_path / "bundle", kind=kind, settings=TINY, progress=False)
    outputs = Stream(ModelBundle.load(tmp_path / "bundle", kind=kind), regimes=is_switching(kind)).scan(
        bars.arrays()
    )
    assert np.isfinite(outputs).all()
    assert ("regime_returns" in bundle.metrics) == is_switching(kind)
    if is_switching(kind):
        np.testing.assert_allclose(outputs[:, 3:].sum(axis=1), 1, atol=1e-6)
        assert bundle.features[bundle.config["return_column"]] == "log_return"
        assert [bundle.features[i] for i in bundle.config["covariate_columns"]] == ["range", "garman_klass"]
        bull, bear = bull_and_bear(bundle)
        assert bundle.metrics["regime_returns"][bull] > bundle.metrics["regime_returns"][bear]


def test_columns_follow_from_the_names_of_the_features():
    settings = column_settings(NAMES, NORMALIZER, TrainingConfig())
    assert settings == {"return_column": 2, "covariate_columns": (0, 3), "zero_return": pytest.approx(-0.05)}
    assert column_settings(("log_return", "rsi:14"), NORMALIZER, TrainingConfig())["covariate_columns"] is None


def test_settings_of_the_run_come_first():
    config = TrainingConfig(network={"covariate_columns": [1], "n_regimes": 3})
    settings = column_settings(NAMES, NORMALIZER, config)
    assert (settings["covariate_columns"], settings["n_regimes"], settings["return_column"]) == ([1], 3, 2)


def test_the_label_of_a_bar_is_what_the_next_bar_shows_in_its_return_column():
    scale, next_return = column_scale(NAMES, NORMALIZER), np.array([0.03])
    label = scale.standardize(next_return, None, np.array([0.01]))["return"]
    seen = NORMALIZER(np.array([0.0, 0.0, next_return[0], 0.0]))[2]
    assert label[0] == pytest.approx(seen)


@pytest.mark.parametrize(
    ("settings", "names", "message"),
    [
        ({"horizon": 5}, NAMES, "forecasts the next bar"),
        ({"loss_weights": "learned"}, NAMES, "learns by likelihood"),
        ({}, ("range", "rsi:14"), "add 'log_return' to features"),
        ({"network": {"return_column": 0}}, NAMES, "has to be 2"),
    ],
)
def test_what_a_switching_network_cannot_be_trained_in_is_refused(settings, names, message):
    with pytest.raises(ConfigError, match=message):
        column_settings(names, NORMALIZER, TrainingConfig(**settings))
