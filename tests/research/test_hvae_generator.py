"""Scenarios of a hierarchical VAE: repeatable, valid bars, and each level under control."""

from dataclasses import replace

import numpy as np
import pytest

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.candles import CANDLE, VOLUME_SURPRISE, to_bars
from hissbt.errors import BarsError, BundleError, ConfigError
from hissbt.features import FeatureSet
from hissbt.models.hvae_arrays import HVAEArrays
from hissbt.research.generators.hvae import HVAEGenerator
from hissbt.research.generators.volume import pulled_back
from hissbt.training import train

SETTINGS = {
    "features": CANDLE,
    "network": {"strides": (2, 6, 12), "d_latent": (1, 2, 2), "d_hidden": 8},
    "batch_size": 4,
    "epoch_steps": 2,
    "max_epochs": 1,
}
ALL = ("z1", "z2", "z3")


@pytest.fixture(scope="module")
def bundle(hourly_bars, tmp_path_factory) -> ModelBundle:
    """Return a bundle whose weights were shaken, so that every level has something to say."""
    folder = tmp_path_factory.mktemp("generator") / "bundle"
    trained = train(hourly_bars[:600], folder, kind="hvae", settings=SETTINGS, progress=False)
    rng = np.random.default_rng(0)
    shaken = {
        name: (array + 0.3 * rng.normal(size=array.shape)).astype(np.float32) if "." in name else array
        for name, array in trained.weights.items()
    }
    shaken["persistence"] = np.array([[0.6, 0.2], [0.0, 0.3]], dtype=np.float32)
    return replace(trained, weights=shaken)


@pytest.fixture(scope="module")
def history(hourly_bars) -> Bars:
    return hourly_bars[:800]


def test_scenario_i_is_the_same_for_every_number_of_scenarios(bundle, history):
    rows = HVAEGenerator(bundle).generate(4, 30, 7, history)
    assert rows.shape == (4, 30, len(CANDLE))
    assert rows[:2].tobytes() == HVAEGenerator(bundle).generate(2, 30, 7, history).tobytes()
    assert len({row.tobytes() for row in (*rows, *HVAEGenerator(bundle).generate(4, 30, 8, history))}) == 8


def test_every_scenario_becomes_bars_that_continue_history(bundle, history):
    generator = HVAEGenerator(bundle)
    for rows in generator.generate(20, 50, 0, history):
        bars = to_bars(rows, CANDLE, history)
        assert bars.open_times[0] == history.frame.index[-1]
        first = history.frame["close"].iloc[-1] * np.exp(rows[0, 1])
        assert bars.frame["open"].iloc[0] == pytest.approx(first)


def test_no_bar_goes_beyond_what_the_normalizer_lets_through(bundle, history):
    tight = replace(bundle, normalizer=replace(bundle.normalizer, clip=1.0))
    rows = HVAEGenerator(tight).generate(20, 50, 0, history)
    mean, std = np.array(tight.normalizer.mean), np.array(tight.normalizer.std)
    assert np.abs((rows - mean) / std)[..., :-1].max() == pytest.approx(1.0)  # volume, the last, is pulled back


def test_volume_does_not_wander_off(bundle, history):
    rng = np.random.default_rng(0)
    free = np.zeros((8, 2000, len(CANDLE)))
    free[..., VOLUME_SURPRISE] = 0.4 * rng.normal(size=free.shape[:2]) - 0.06
    kept = pulled_back(free, history)
    assert np.array_equal(kept[..., :VOLUME_SURPRISE], free[..., :VOLUME_SURPRISE])
    apart, near = (
        [np.log(to_bars(path, CANDLE, history).frame["volume"].iloc[-200:].mean()) for path in paths]
        for paths in (free, kept)
    )
    usual = np.log(history.frame["volume"].iloc[-720:].mean())
    assert np.abs(near - usual).max() < 1.5 < np.abs(apart - usual).max()


def test_features_that_are_not_known_are_zero(bundle, history):
    wicks = ("log_return", "range", "gap", "upper_wick", "lower_wick")
    rows = HVAEGenerator(replace(bundle, features=wicks)).generate(1, 20, 0, history)
    assert (rows[..., CANDLE.index("volume_surprise:24")] == 0).all()
    assert (rows[..., CANDLE.index("lower_wick")] != 0).any()


# --- levels that are fixed


def stages(bundle, history, seed, **control) -> np.ndarray:
    """Return one scenario with the top alone, with the middle, with the bottom, and with noise."""
    return HVAEGenerator(bundle, **control).refine(30, seed, history)


@pytest.mark.parametrize(("fix", "alike"), [((), 0), (("z3",), 1), (("z3", "z2"), 2), (ALL, 3)])
def test_what_is_fixed_is_the_same_in_all_scenarios_and_the_rest_is_not(bundle, history, fix, alike):
    one, other = (stages(bundle, history, seed, fix=fix) for seed in (0, 1))
    assert [np.array_equal(a, b) for a, b in zip(one, other, strict=True)] == [True] * alike + [False] * (
        4 - alike
    )


def test_refinement_ends_with_the_scenario_and_begins_flat(bundle, history):
    found = stages(bundle, history, 5)
    assert found[-1].tobytes() == HVAEGenerator(bundle).generate(1, 30, 5, history)[0].tobytes()
    assert np.ptp(found[0, :12:2], axis=0) == pytest.approx(0)  # a window of the top alone repeats one pattern
    assert np.ptp(found[2, :12:2, 0]) > 0


def test_an_anchor_that_is_shorter_than_the_scenario_is_repeated(bundle, history):
    stretch = history[100:124]  # two windows
    coarse = HVAEGenerator(bundle, fix=ALL, anchor=stretch).refine(48, 0, history)[2]
    np.testing.assert_array_equal(coarse[:24], coarse[24:])
    assert not np.array_equal(coarse[:12], coarse[12:24])
    assert not np.array_equal(coarse, HVAEGenerator(bundle, fix=ALL).refine(48, 0, history)[2])


def test_without_an_anchor_levels_are_fixed_to_the_end_of_history(bundle, history):
    rows = FeatureSet(CANDLE).scan(history.arrays())
    model, normalizer = HVAEArrays(bundle.config, bundle.weights), bundle.normalizer
    means = [mean for mean, _ in model.posterior(normalizer(rows[-24:]))]
    expected = model.decode(means)[0] * normalizer.std + normalizer.mean
    found = HVAEGenerator(bundle, fix=ALL).refine(24, 0, history)[2]
    np.testing.assert_allclose(found, expected, atol=1e-4)  # the volume's memory is shorter here


def test_a_cluster_is_the_latent_at_its_center(bundle, history):
    center = bundle.weights["centers"][1]
    by_number, by_vector = (stages(bundle, history, 0, fix=("z3",), anchor=anchor) for anchor in (1, center))
    np.testing.assert_array_equal(by_number, by_vector)
    assert not np.array_equal(by_number, stages(bundle, history, 0, fix=("z3",), anchor=0))


def test_a_top_that_is_not_fixed_sets_out_from_the_anchor(bundle, history):
    steady = bundle.weights | {"persistence": 0.99 * np.eye(2, dtype=np.float32)}
    free, fixed = (
        stages(replace(bundle, weights=steady), history, 0, fix=fix, anchor=np.array([3.0, -3.0]))[0, :12]
        for fix in ((), ("z3",))
    )
    far = stages(bundle, history, 0, anchor=np.array([-3.0, 3.0]))[0, :12]
    assert np.abs(free - fixed).mean() < 0.5 * np.abs(far - fixed).mean()


# --- levels that are moved


@pytest.mark.parametrize("level", ALL)
def test_a_shift_moves_one_level_and_no_draw(bundle, history, level):
    plain, none, up, down = (
        stages(bundle, history, 0, shift=shift) for shift in (None, {level: 0.0}, {level: 0.5}, {level: -0.5})
    )
    assert plain.tobytes() == none.tobytes()
    place = 2 - ALL.index(level)  # stages before that of the level know nothing of it
    assert up[:place].tobytes() == plain[:place].tobytes()
    assert not np.array_equal(up[place], plain[place])
    assert np.corrcoef(up[-1, :, 0], down[-1, :, 0])[0, 1] > 0.5  # the same noise


# --- what is refused


@pytest.mark.parametrize(
    ("control", "error", "message"),
    [
        ({"fix": ("z4",)}, ConfigError, "no level 'z4': choose from z1, z2, z3"),
        ({"shift": {"top": 1.0}}, ConfigError, "no level 'top'"),
        ({"anchor": 3}, ConfigError, "no cluster 3: choose from 0 to 2"),
    ],
)
def test_control_of_what_is_not_there_is_refused(bundle, control, error, message):
    with pytest.raises(error, match=message):
        HVAEGenerator(bundle, **control)


def test_other_bundles_and_short_bars_are_refused(bundle, history):
    with pytest.raises(BundleError, match="makes no scenarios"):
        HVAEGenerator(replace(bundle, kind="hiss"))
    with pytest.raises(BarsError, match="11 bars do not fill a window"):
        HVAEGenerator(bundle, anchor=history[:11])
    with pytest.raises(BarsError, match="do not fill a window"):
        HVAEGenerator(bundle).generate(1, 5, 0, history[:11])
    with pytest.raises(ConfigError, match="give at least one"):
        HVAEGenerator(bundle).generate(0, 5, 0, history)


def test_bars_of_another_length_than_the_models_are_refused(bundle, history):
    other = replace(bundle, timeframe="1d")
    with pytest.raises(BarsError, match=r"the model makes bars of 1d, those of .* are of 1h"):
        HVAEGenerator(other, anchor=0).generate(1, 5, 0, history)
    with pytest.raises(BarsError, match="wrong timeframe"):
        HVAEGenerator(other, anchor=history)
