"""A training run may begin where another one ended, on other bars, and scales these anew."""

import numpy as np
import pytest

from hissbt.bundle import ModelBundle
from hissbt.errors import BundleError
from hissbt.training import train

SMALL = {
    "features": ["log_return", "range"],
    "network": {"d_model": 4, "d_state": 4},
    "window": 32,
    "burn_in": 8,
    "batch_size": 4,
    "epoch_steps": 2,
    "max_epochs": 1,
}
STILL = SMALL | {"lr": 1e-12, "weight_decay": 0.0}  # so that one sees where the weights began


def fit(bars, out, settings=SMALL, **further) -> ModelBundle:
    return train(bars, out, settings=settings, progress=False, runs=out.parent, **further)


@pytest.fixture(scope="module")
def first(hourly_bars, tmp_path_factory) -> ModelBundle:
    return fit(hourly_bars[:300], tmp_path_factory.mktemp("warm") / "first")


def test_weights_begin_as_those_of_the_bundle(hourly_bars, first, tmp_path):
    warm = fit(hourly_bars[300:600], tmp_path / "warm", STILL, warm_start=first)
    for name, array in first.weights.items():
        np.testing.assert_allclose(warm.weights[name], array, atol=1e-9)
    cold = fit(hourly_bars[300:600], tmp_path / "cold", STILL)
    assert any(not np.allclose(cold.weights[name], array, atol=1e-3) for name, array in first.weights.items())


def test_features_and_targets_are_scaled_by_the_new_bars(hourly_bars, first, tmp_path):
    warm = fit(hourly_bars[300:600], tmp_path / "warm", warm_start=first)
    cold = fit(hourly_bars[300:600], tmp_path / "cold")
    assert warm.normalizer.to_dict() == cold.normalizer.to_dict() != first.normalizer.to_dict()
    assert warm.target_scale["return_std"] == cold.target_scale["return_std"]


def test_a_folder_gives_what_its_bundle_gives_and_again(hourly_bars, first, tmp_path):
    first.save(tmp_path / "first")
    shas = {
        fit(hourly_bars[300:600], tmp_path / f"warm-{number}", warm_start=start).sha256
        for number, start in enumerate((first, tmp_path / "first"))
    }
    assert len(shas) == 1


@pytest.mark.parametrize(
    ("changed", "kind", "named"),
    [
        ({"network": {"d_model": 4, "d_state": 4, "strides": [2, 4]}}, "hiss", "network"),
        ({"features": ["log_return", "garman_klass"]}, "hiss", "features"),
        ({"horizon": 2}, "hiss", "horizon"),
        ({"network": {"d_model": 4}}, "gru", "kind"),
    ],
    ids=["strides", "features", "horizon", "kind"],
)
def test_weights_of_another_network_are_refused(hourly_bars, first, tmp_path, changed, kind, named):
    with pytest.raises(BundleError, match=f"to start from has {named}"):
        fit(hourly_bars[:300], tmp_path / "out", SMALL | changed, kind=kind, warm_start=first)
    assert not (tmp_path / "out").exists()


def test_a_switching_network_goes_on_though_its_returns_are_scaled_anew(hourly_bars, tmp_path):
    settings = SMALL | {"network": {"d_model": 4}}
    first = fit(hourly_bars[:300], tmp_path / "first", settings, kind="m-gru")
    warm = fit(hourly_bars[300:600], tmp_path / "warm", settings, kind="m-gru", warm_start=first)
    assert warm.config["zero_return"] != first.config["zero_return"]
