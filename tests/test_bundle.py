"""Bundles: what was saved comes back, the same content gives the same bytes, anything damaged is refused."""

import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from hissbt.bundle import ModelBundle
from hissbt.errors import BundleError
from hissbt.features import Normalizer


def make_bundle(**changes) -> ModelBundle:
    rng = np.random.default_rng(0)
    bundle = ModelBundle(
        kind="hiss",
        config={"n_features": 2, "strides": [4, 4], "dropout": 0.1},
        features=("log_return", "column:rate"),
        normalizer=Normalizer((0.1, 1 / 3), (1e-3, 2.0), 8.0),
        horizon=24,
        target_scale={"return_mean": 1e-5, "return_std": 0.02, "volatility_scale": 0.03},
        timeframe="1h",
        symbol="BTC/USDT:USDT",
        training_span={"start": "2021-01-01T01:00:00+00:00", "end": "2023-01-01T00:00:00+00:00"},
        warmup=504,
        seed=7,
        data_sha256="a" * 64,
        metrics={"validation": {"accuracy": 0.51, "steps": [1, 2]}},
        versions={"numpy": np.__version__},
        weights={
            "head.weight": rng.normal(size=(3, 4)).astype(np.float32),
            "scale": np.array(2.5),  # no dimension
            "turned": np.arange(6, dtype=np.int64).reshape(2, 3).T,
            "nothing": np.zeros((0, 2), dtype=np.float32),
        },
    )
    return replace(bundle, **changes)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bundles") / "hiss"
    make_bundle().save(path)
    return path


def files(path: Path) -> dict[str, bytes]:
    return {item.name: item.read_bytes() for item in path.iterdir()}


def copy_with(path: Path, tmp_path: Path, **contents: bytes | None) -> Path:
    """Copy a bundle, with the bytes of some files replaced, or the file left out."""
    copy = tmp_path / "copy"
    copy.mkdir(exist_ok=True)
    names = {"content": "bundle.json", "weights": "weights.safetensors"}
    for name, data in (files(path) | {names[key]: data for key, data in contents.items()}).items():
        if data is not None:
            (copy / name).write_bytes(data)
    return copy


def edited(path: Path, tmp_path: Path, edit) -> Path:
    content = json.loads((path / "bundle.json").read_text())
    edit(content)
    return copy_with(path, tmp_path, content=json.dumps(content).encode())


def refusal(path: Path, **options) -> str:
    with pytest.raises(BundleError) as error:
        ModelBundle.load(path, **options)
    message = str(error.value)
    assert "\n" not in message
    assert ": " in message
    return message


# --- there and back


def test_every_field_comes_back(saved):
    original, loaded = make_bundle(), ModelBundle.load(saved, kind="hiss")
    for field in fields(ModelBundle):
        if field.name != "weights":
            assert getattr(loaded, field.name) == getattr(original, field.name)
    assert loaded.weights.keys() == original.weights.keys()
    for name, array in original.weights.items():
        assert_array_equal(loaded.weights[name], array, strict=True)
    assert loaded.sha256 == original.sha256


def test_the_folder_holds_json_and_safetensors_only(saved):
    assert sorted(files(saved)) == ["bundle.json", "weights.safetensors"]


def test_the_same_content_gives_the_same_bytes(saved, tmp_path):
    original = make_bundle()
    shuffled = replace(
        original,
        config=dict(reversed(original.config.items())) | {"strides": (4, 4)},
        weights=dict(reversed(original.weights.items())),
    )
    shuffled.save(tmp_path / "again")
    assert files(tmp_path / "again") == files(saved)
    ModelBundle.load(saved).save(tmp_path / "again")
    assert files(tmp_path / "again") == files(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"horizon": 25},
        {"config": {"n_features": 2, "strides": [4, 4], "dropout": 0.2}},
        {"normalizer": Normalizer((0.1, np.nextafter(1 / 3, 1)), (1e-3, 2.0), 8.0)},
        {"weights": {"head.weight": np.ones(1)}},
        {"versions": {}},
    ],
)
def test_any_change_of_content_changes_the_sha256(change):
    assert make_bundle(**change).sha256 != make_bundle().sha256


def test_one_bit_of_one_weight_changes_the_sha256():
    bundle = make_bundle()
    bundle.weights["head.weight"][0, 0] = np.nextafter(bundle.weights["head.weight"][0, 0], np.float32(9))
    assert bundle.sha256 != make_bundle().sha256


def test_metrics_that_are_not_finite_come_back_as_none(tmp_path):
    make_bundle(metrics={"sharpe": float("nan"), "n": np.int64(3)}).save(tmp_path / "b")
    assert ModelBundle.load(tmp_path / "b").metrics == {"sharpe": None, "n": 3}


def test_loading_does_not_import_torch(saved):
    code = (
        "import sys; from hissbt.bundle import ModelBundle; ModelBundle.load(sys.argv[1]);"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(saved)], check=True)


# --- saving


def test_saving_replaces_a_bundle_and_leaves_nothing_beside_it(saved, tmp_path):
    path = copy_with(saved, tmp_path)
    make_bundle(seed=8).save(path)
    assert ModelBundle.load(path).seed == 8
    assert [item.name for item in tmp_path.iterdir()] == ["copy"]


def test_saving_into_an_empty_or_new_folder(tmp_path):
    (tmp_path / "empty").mkdir()
    make_bundle().save(tmp_path / "empty")
    make_bundle().save(tmp_path / "a" / "b")
    assert ModelBundle.load(tmp_path / "empty").sha256 == ModelBundle.load(tmp_path / "a" / "b").sha256


def test_saving_never_replaces_what_is_not_a_bundle(saved, tmp_path):
    folder = copy_with(saved, tmp_path)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(BundleError, match=r"holds notes\.txt"):
        make_bundle().save(folder)
    with pytest.raises(BundleError, match="is a file"):
        make_bundle().save(folder / "notes.txt")
    assert (folder / "notes.txt").read_text() == "mine"
    assert ModelBundle.load(folder).seed == 7


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"horizon": 0}, "'horizon'"),
        ({"features": ()}, "'features'"),
        ({"normalizer": Normalizer((0.0,), (1.0,), 8.0)}, "'normalizer'"),
        ({"normalizer": Normalizer((0.0, float("nan")), (1.0, 1.0), 8.0)}, "'normalizer.mean.1'"),
        ({"target_scale": {"return_mean": 0.0}}, "'target_scale.return_std'"),
    ],
)
def test_a_bundle_that_could_not_be_loaded_is_not_saved(change, field, tmp_path):
    with pytest.raises(BundleError, match=field):
        make_bundle(**change).save(tmp_path / "b")
    assert list(tmp_path.iterdir()) == []


# --- refusing


def test_missing_folder_and_files(saved, tmp_path):
    assert "no model bundle at" in refusal(tmp_path / "absent")
    assert "no model bundle at" in refusal(saved / "bundle.json")
    assert "cannot read bundle.json" in refusal(copy_with(saved, tmp_path, content=None))


def test_missing_weights(saved, tmp_path):
    assert "cannot read weights.safetensors" in refusal(copy_with(saved, tmp_path, weights=None))


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", b'{"seed": NaN}', b'{"seed": 1e999}', b"[" * 100_000])
def test_invalid_json(saved, tmp_path, text):
    assert "is not valid JSON" in refusal(copy_with(saved, tmp_path, content=text))


@pytest.mark.parametrize("text", [b"[]", b"3", b"null"])
def test_json_of_something_else(saved, tmp_path, text):
    assert "does not describe a model" in refusal(copy_with(saved, tmp_path, content=text))


FIELDS = [field.name for field in fields(ModelBundle) if field.name != "weights"]


@pytest.mark.parametrize("field", [*FIELDS, "schema_version", "weights_sha256", "sha256"])
def test_a_missing_field_is_named(saved, tmp_path, field):
    assert f"bad field {field!r}" in refusal(edited(saved, tmp_path, lambda content: content.pop(field)))


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_of_the_wrong_type_is_named(saved, tmp_path, field):
    wrong = 1 if field not in ("horizon", "warmup", "seed") else "1"
    assert f"bad field '{field}" in refusal(
        edited(saved, tmp_path, lambda content: content.update({field: wrong}))
    )


def test_an_unknown_field_is_named(saved, tmp_path):
    assert "'surprise'" in refusal(edited(saved, tmp_path, lambda content: content.update(surprise=1)))
    message = refusal(edited(saved, tmp_path, lambda content: content["normalizer"].update(median=1)))
    assert "'normalizer.median'" in message


def test_another_schema_version(saved, tmp_path):
    message = refusal(edited(saved, tmp_path, lambda content: content.update(schema_version=2, new_field=1)))
    assert "schema version 2, this hissbt reads 1" in message


def test_a_valid_value_that_was_altered(saved, tmp_path):
    assert "was altered" in refusal(edited(saved, tmp_path, lambda content: content.update(horizon=12)))


def test_another_kind(saved):
    assert "holds a 'hiss' model: name a bundle of kind 'lstm'" in refusal(saved, kind="lstm")


def test_weights_of_another_bundle(saved, tmp_path):
    make_bundle(weights={"head.weight": np.ones(3)}).save(tmp_path / "other")
    weights = files(tmp_path / "other")["weights.safetensors"]
    assert "weights.safetensors" in refusal(copy_with(saved, tmp_path, weights=weights))


@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
@settings(max_examples=60, deadline=None)
def test_any_flipped_bit_in_the_weights_is_refused(saved, tmp_path_factory, position, bit):
    weights = bytearray(files(saved)["weights.safetensors"])
    weights[position % len(weights)] ^= 1 << bit
    damaged = copy_with(saved, tmp_path_factory.mktemp("flip"), weights=bytes(weights))
    assert "weights.safetensors" in refusal(damaged)


@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_weights_cut_short_or_too_long_are_refused(saved, tmp_path_factory, data):
    weights = files(saved)["weights.safetensors"]
    cut = weights[: data.draw(st.integers(0, len(weights) - 1))]
    for damaged in (cut, weights + b"\0"):
        assert "damaged" in refusal(copy_with(saved, tmp_path_factory.mktemp("cut"), weights=damaged))


@given(position=st.integers(0, 10**6), bit=st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_a_flipped_bit_in_the_json_is_refused_or_changes_nothing(saved, tmp_path_factory, position, bit):
    """White space and the spelling of a number carry no meaning; everything else does."""
    content = bytearray(files(saved)["bundle.json"])
    content[position % len(content)] ^= 1 << bit
    damaged = copy_with(saved, tmp_path_factory.mktemp("flip"), content=bytes(content))
    try:
        loaded = ModelBundle.load(damaged)
    except BundleError:
        return
    assert loaded.sha256 == make_bundle().sha256
