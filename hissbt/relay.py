"""A relay: models that follow each other in time and are used as one, as a walk-forward trains them.

It is a folder with ``relay.json`` and a bundle for each part. ``relay.json`` says from which close on each part is
in charge, and holds the sha256 of every part and of its own content: complete and unaltered, or refused.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError

from hissbt.atomic import atomic_folder, file_in_the_way
from hissbt.bars import parse_time
from hissbt.bundle import ModelBundle, canonical_text, sha256_of
from hissbt.errors import BarsError, BundleError
from hissbt.timeframe import parse_timeframe

SCHEMA_VERSION = 1
CONTENT_FILE = "relay.json"
_REPLACE = "fetch an intact copy or run the walk-forward again"
# What the lines, the bars to feed and the meaning of a forecast hang on. Weights and scales may differ.
_ALIKE = ("kind", "timeframe", "horizon", "targets", "symbol", "features")


@dataclass(frozen=True)
class Part:
    """One of the models, and when its time begins."""

    since: pd.Timestamp
    """The first close at which the forecast is its own; it trades the bars that open from then on."""
    bundle: ModelBundle


def _of_first(name: str, text: str) -> property:
    def value(self: "RelayBundle"):
        return getattr(self.parts[0].bundle, name)

    return property(value, doc=text)


@dataclass(frozen=True)
class RelayBundle:
    """Models in the order of their turns, with what else code asks of a ``ModelBundle``.

    The model in charge at a close is the last one whose ``since`` is not after it; before all of them, the first.
    Each was trained on bars that had closed ``embargo`` bars or more before its turn, so none has seen a bar that
    it trades, and a run is in sample only if it begins before the first one's training span ends.

    Raises BundleError for parts that are not forecasters, differ in what they forecast from what, are not in
    order, or were trained on bars of their own turn or of the embargo before it.
    """

    parts: tuple[Part, ...]
    embargo: int
    """Bars between the end of a training span and the first close that its model decides, at least."""

    def __post_init__(self) -> None:
        _check(self.parts, self.embargo)

    kind = _of_first("kind", "Family of the networks.")
    config = _of_first("config", "Of the first network.")
    features = _of_first("features", "Names for ``FeatureSet``.")
    horizon = _of_first("horizon", "Bars over which the outputs forecast.")
    timeframe = _of_first("timeframe", "Length of a bar, such as ``1h``.")
    symbol = _of_first("symbol", "What the networks were trained on.")
    targets = _of_first("targets", "What the outputs forecast.")
    training_span = _of_first("training_span", "Of the first part: no bar after it is traded in sample.")
    seed = _of_first("seed", "Of the first training run.")
    data_sha256 = _of_first("data_sha256", "Of the bars of the first training run.")

    @property
    def warmup(self) -> int:
        """Bars until the outputs can be trusted, whoever is in charge."""
        return max(part.bundle.warmup for part in self.parts)

    @property
    def metrics(self) -> dict[str, Any]:
        """None of its own: each part has those of its training run."""
        return {}

    @property
    def sha256(self) -> str:
        """Hash of everything in the relay, weights included, computed anew at each use."""
        return self._content()["sha256"]

    def in_charge(self, close_times_s: np.ndarray) -> np.ndarray:
        """Return the number of the part [T], from 0, whose forecasts stand at closes in unix seconds [T]."""
        turns = [part.since.timestamp() for part in self.parts[1:]]
        return np.searchsorted(turns, close_times_s, side="right")

    def save(self, path: str | Path) -> None:
        """Write the relay to the folder ``path``, whole or not at all; a relay that is there is replaced.

        Raises BundleError if ``path`` holds anything else than a relay.
        """
        path = Path(path)
        if file := file_in_the_way(path):
            raise BundleError(f"{file} is a file, where a relay is a folder: save under another name")
        if path.is_dir() and not (path / CONTENT_FILE).is_file():
            raise BundleError(f"{path} is a folder, but no relay: save to another folder")
        content = self._content()
        with atomic_folder(path) as folder:
            (folder / CONTENT_FILE).write_text(canonical_text(content), encoding="utf-8")
            for part, row in zip(self.parts, content["parts"], strict=True):
                part.bundle.save(folder / row["folder"])

    @classmethod
    def load(cls, path: str | Path) -> "RelayBundle":
        """Read the relay in the folder ``path``.

        Raises BundleError, saying what to do, if anything is missing, altered, or of another schema version.
        """
        path = Path(path)
        content = _read_content(path)
        parts = []
        for row in content.parts:
            bundle = ModelBundle.load(path / row.folder)
            if bundle.sha256 != row.sha256:
                raise BundleError(f"the part {row.folder} of the relay {path} is another one's: {_REPLACE}")
            parts.append(Part(parse_time(row.since), bundle))
        return cls(tuple(parts), content.embargo)

    def _content(self) -> dict[str, Any]:
        """Return what ``relay.json`` says."""
        rows = [
            {"folder": f"part-{number:03}", "since": part.since.isoformat(), "sha256": part.bundle.sha256}
            for number, part in enumerate(self.parts, 1)
        ]
        content = {"schema_version": SCHEMA_VERSION, "embargo": self.embargo, "parts": rows}
        return content | {"sha256": sha256_of(canonical_text(content).encode())}


Model = ModelBundle | RelayBundle
"""What a strategy can be given as its model."""


def load_model(path: str | Path, kind: str | None = None) -> Model:
    """Read the bundle or the relay in the folder ``path``; ``kind`` states which family, if that matters.

    Raises BundleError, saying what to do, if anything is missing, altered or of another kind.
    """
    if not (Path(path) / CONTENT_FILE).is_file():
        return ModelBundle.load(path, kind=kind)
    relay = RelayBundle.load(path)
    if kind is not None and relay.kind != kind:
        raise BundleError(f"the relay {path} holds {relay.kind!r} models: name one of kind {kind!r}")
    return relay


def parts_of(model: Model) -> tuple[ModelBundle, ...]:
    """Return the trained networks of a model: those of a relay in their order, or the one that it is."""
    return tuple(part.bundle for part in model.parts) if isinstance(model, RelayBundle) else (model,)


def described_parts(relay: RelayBundle) -> list[dict[str, Any]]:
    """Return when each part is in charge and what it was trained on, as JSON can hold it."""
    return [
        {
            "since": part.since.isoformat(),
            "sha256": part.bundle.sha256,
            "training_span": part.bundle.training_span,
        }
        for part in relay.parts
    ]


# --- what a relay must be like


def _check(parts: Sequence[Part], embargo: int) -> None:
    if not parts:
        raise BundleError("a relay without parts cannot forecast: give it at least one")
    first = parts[0].bundle
    if not first.targets:
        raise BundleError(
            f"a relay cannot be made of {first.kind} bundles, as each has latents of its own: use forecasters"
        )
    ends = []
    for part in parts:
        bundle = part.bundle
        for name in _ALIKE:
            if getattr(bundle, name) != getattr(first, name):
                raise BundleError(
                    f"the part from {part.since.isoformat()} on has {name} {getattr(bundle, name)!r}, the first "
                    f"{getattr(first, name)!r}: a relay needs parts alike in {', '.join(_ALIKE)}"
                )
        ends.append(parse_time(bundle.training_span["end"]) + embargo * parse_timeframe(bundle.timeframe))
    for before, part in pairwise(parts):
        if part.since <= before.since:
            raise BundleError(
                f"the part from {part.since.isoformat()} on does not come after that from "
                f"{before.since.isoformat()} on: put the parts in the order of their turns"
            )
    for part, end in zip(parts, ends, strict=True):
        if part.since < end:
            raise BundleError(
                f"the part from {part.since.isoformat()} on was trained on bars to "
                f"{part.bundle.training_span['end']}, which with an embargo of {embargo} bars reaches into its "
                "turn: train it on earlier bars, or give it a later turn"
            )


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Row(_Strict):
    folder: str = Field(pattern=r"^part-\d+$")  # never a path that leads elsewhere
    since: str
    sha256: str


class _Schema(_Strict):
    schema_version: int
    embargo: NonNegativeInt
    parts: list[_Row]
    sha256: str


def _read_content(path: Path) -> _Schema:
    try:
        content = json.loads((path / CONTENT_FILE).read_text(encoding="utf-8"))
        version = content.get("schema_version", SCHEMA_VERSION)
        if version != SCHEMA_VERSION:
            raise BundleError(
                f"the relay {path} has schema version {version!r}, this hissbt reads {SCHEMA_VERSION}: run the "
                "walk-forward again, or use the hissbt that wrote it"
            )
        schema = _Schema.model_validate(content)
        for row in schema.parts:
            parse_time(row.since)
        stated = content.pop("sha256")
    except OSError as error:
        raise BundleError(
            f"cannot read {CONTENT_FILE} of the relay {path} ({error.strerror}): {_REPLACE}"
        ) from error
    except (ValueError, AttributeError, RecursionError, ValidationError, BarsError) as error:
        raise BundleError(f"{CONTENT_FILE} in {path} does not describe a relay: {_REPLACE}") from error
    if stated != sha256_of(canonical_text(content).encode()):
        raise BundleError(f"{CONTENT_FILE} in the relay {path} was altered after it was saved: {_REPLACE}")
    return schema
