"""The model file: a folder with ``bundle.json`` and ``weights.safetensors``, complete and unaltered or refused.

``bundle.json`` says everything that a run needs to feed the network and to read its outputs. It holds the sha256
of the weights file and of its own content, so that a change of either is noticed when the bundle is loaded.
Nothing is ever unpickled. The same content always gives the same bytes on disk.
"""

import hashlib
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import safetensors.numpy
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from safetensors import SafetensorError

from hissbt.atomic import atomic_folder, file_in_the_way, to_json
from hissbt.errors import BundleError
from hissbt.features import Normalizer

SCHEMA_VERSION = 1
CONTENT_FILE = "bundle.json"
WEIGHTS_FILE = "weights.safetensors"


@dataclass
class ModelBundle:
    """A trained network and all that belongs to it."""

    kind: str
    """Family of the network, a key of ``hissbt.models.build_network``."""
    config: dict[str, Any]
    """What ``build_network`` needs besides the kind; plain JSON values, so tuples come back as lists."""
    features: tuple[str, ...]
    """Names for ``FeatureSet``, in the order of the network's inputs."""
    normalizer: Normalizer
    """Scale of the features, fitted on the training span."""
    horizon: int
    """Bars over which the outputs forecast."""
    target_scale: dict[str, float]
    """``return_mean``, ``return_std``, ``volatility_scale``: from the network's units to log returns."""
    timeframe: str
    """Length of a bar, such as ``1h``."""
    symbol: str
    """What the network was trained on."""
    training_span: dict[str, str]
    """``start`` and ``end``: ISO 8601 close times of the first and last bar seen in training, labels included."""
    warmup: int
    """Bars until the outputs can be trusted."""
    seed: int
    """Seed of the training run."""
    data_sha256: str
    """``Bars.sha256`` of the bars that the training run was given."""
    metrics: dict[str, Any]
    """Scores of the training run; what is not finite comes back as None."""
    versions: dict[str, str]
    """Versions of Python and of the packages that trained it."""
    weights: dict[str, np.ndarray]
    """Arrays of the network, by the names of its ``state_dict``."""
    targets: tuple[str, ...] = ("return", "direction", "volatility")
    """What the network's outputs forecast, by the names of its outputs."""

    @property
    def sha256(self) -> str:
        """Hash of everything in the bundle, weights included, computed anew at each use."""
        return self._content(self._weights_bytes())["sha256"]

    def save(self, path: str | Path) -> None:
        """Write the bundle to the folder ``path``, whole or not at all; a bundle that is there is replaced.

        Raises BundleError if a field is not valid, or if ``path`` holds anything else than a bundle.
        """
        self.check_target(path)
        weights = self._weights_bytes()
        content = self._content(weights)
        _validated(content, "the bundle to save", "correct it before saving")
        with atomic_folder(path) as folder:
            (folder / CONTENT_FILE).write_text(canonical_text(content), encoding="utf-8")
            (folder / WEIGHTS_FILE).write_bytes(weights)

    @staticmethod
    def check_target(path: str | Path) -> None:
        """Raise BundleError if to save a bundle as ``path`` would destroy anything else than a bundle."""
        path = Path(path)
        if path.is_dir():
            strangers = sorted({item.name for item in path.iterdir()} - {CONTENT_FILE, WEIGHTS_FILE})
            if strangers:
                raise BundleError(f"{path} holds {strangers[0]}, no part of a bundle: save to another folder")
        elif file := file_in_the_way(path):
            raise BundleError(f"{file} is a file, where a bundle is a folder: save under another name")

    @classmethod
    def load(cls, path: str | Path, kind: str | None = None) -> "ModelBundle":
        """Read the bundle in the folder ``path``; ``kind`` states which family it has to be, if that matters.

        Raises BundleError, saying what to do, if anything is missing, altered, of another kind or schema version.
        """
        path = Path(path)
        if not path.is_dir():
            raise BundleError(f"there is no model bundle at {path}: check the path, or train a model there")
        schema = _read_content(path)
        if kind is not None and schema.kind != kind:
            raise BundleError(f"the bundle {path} holds a {schema.kind!r} model: name a bundle of kind {kind!r}")
        weights = _read_weights(path, schema.weights_sha256)
        fields = schema.model_dump(exclude={"schema_version", "weights_sha256", "sha256"})
        fields |= {name: tuple(fields[name]) for name in ("features", "targets")}
        fields["normalizer"] = Normalizer.from_dict(fields["normalizer"])
        return cls(**fields, weights=weights)

    def _weights_bytes(self) -> bytes:
        # Rows first whatever the layout in memory; asarray leaves arrays without dimensions as they are.
        return safetensors.numpy.save({name: np.asarray(w, order="C") for name, w in self.weights.items()})

    def _content(self, weights: bytes) -> dict[str, Any]:
        """Return what ``bundle.json`` says."""
        fields = {name: value for name, value in vars(self).items() if name != "weights"} | {
            "schema_version": SCHEMA_VERSION,
            "normalizer": self.normalizer.to_dict(),
            "weights_sha256": sha256_of(weights),
        }
        content = json.loads(to_json(fields))
        return content | {"sha256": sha256_of(canonical_text(content).encode())}


# --- what bundle.json must look like ------------------------------------------------------------------------


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class _Normalizer(_Strict):
    mean: list[float]
    std: list[PositiveFloat]
    clip: PositiveFloat


class _TargetScale(_Strict):
    return_mean: float
    return_std: PositiveFloat
    volatility_scale: PositiveFloat


class _TrainingSpan(_Strict):
    start: str
    end: str


class _Schema(_Strict):
    schema_version: int
    kind: str
    config: dict[str, Any]
    features: Annotated[list[str], Field(min_length=1)]
    normalizer: _Normalizer
    horizon: PositiveInt
    targets: list[str]
    target_scale: _TargetScale
    timeframe: str
    symbol: str
    training_span: _TrainingSpan
    warmup: NonNegativeInt
    seed: int
    data_sha256: str
    metrics: dict[str, Any]
    versions: dict[str, str]
    weights_sha256: str
    sha256: str

    @field_validator("normalizer")
    @classmethod
    def _one_scale_a_feature(cls, normalizer: _Normalizer, info: ValidationInfo) -> _Normalizer:
        count = len(info.data.get("features", ()))
        if not len(normalizer.mean) == len(normalizer.std) == count:
            raise ValueError(f"it must hold {count} means and standard deviations, one a feature")
        return normalizer


def _validated(content: dict[str, Any], what: str, advice: str) -> _Schema:
    try:
        return _Schema.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{what} has a bad field {field!r} ({first['msg']}): {advice}") from error


# --- reading ------------------------------------------------------------------------------------------------

_REPLACE = "fetch an intact copy or train the model again"


def _read_content(path: Path) -> _Schema:
    try:
        content = json.loads(_read_file(path, CONTENT_FILE), parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{CONTENT_FILE} in the bundle {path} is not valid JSON: {_REPLACE}") from error
    if not isinstance(content, dict):
        raise BundleError(f"{CONTENT_FILE} in the bundle {path} does not describe a model: {_REPLACE}")
    version = content.get("schema_version", SCHEMA_VERSION)  # first of all: another version has other fields
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"the bundle {path} has schema version {version!r}, this hissbt reads {SCHEMA_VERSION}: "
            "train the model again, or use the hissbt that wrote it"
        )
    schema = _validated(content, f"the bundle {path}", _REPLACE)
    stated = content.pop("sha256")
    if stated != sha256_of(canonical_text(content).encode()):
        raise BundleError(f"{CONTENT_FILE} in the bundle {path} was altered after it was saved: {_REPLACE}")
    return schema


def _read_weights(path: Path, stated_sha256: str) -> dict[str, np.ndarray]:
    """Return the arrays; nothing in the file is looked at before its hash has been checked."""
    weights = _read_file(path, WEIGHTS_FILE)
    if sha256_of(weights) != stated_sha256:
        raise BundleError(f"{WEIGHTS_FILE} in the bundle {path} is damaged or of another bundle: {_REPLACE}")
    try:
        return safetensors.numpy.load(weights)
    except SafetensorError as error:
        raise BundleError(f"{WEIGHTS_FILE} in the bundle {path} holds no arrays: {_REPLACE}") from error


def _read_file(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except OSError as error:
        raise BundleError(f"cannot read {name} of the bundle {path} ({error.strerror}): {_REPLACE}") from error


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a JSON number")
    return value


def canonical_text(content: dict[str, Any]) -> str:
    """Return ``content`` as JSON whose bytes depend on nothing else."""
    return json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n"


def sha256_of(data: bytes) -> str:
    """Return the sha256 of ``data``, in hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()
