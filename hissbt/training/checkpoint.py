"""Lightning checkpoints without pickle: a safetensors file for the tensors, JSON for the rest."""

import json
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import CheckpointIO
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from hissbt.atomic import atomic_folder
from hissbt.errors import TrainingError


class SafeCheckpointIO(CheckpointIO):
    """Stores a checkpoint as a folder with ``tensors.safetensors`` and ``checkpoint.json``."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path, storage_options=None) -> None:
        """Write the folder atomically."""
        tensors: dict[str, torch.Tensor] = {}
        tree = _encode(checkpoint, tensors)
        with atomic_folder(path) as folder:
            (folder / "tensors.safetensors").write_bytes(save(tensors))
            (folder / "checkpoint.json").write_text(json.dumps(tree), encoding="utf-8")

    def load_checkpoint(self, path, map_location=None, weights_only=None) -> dict[str, Any]:
        """Read the folder back; raises TrainingError if it is damaged."""
        try:
            tensors = load_file(Path(path) / "tensors.safetensors")
            return _decode(json.loads((Path(path) / "checkpoint.json").read_text(encoding="utf-8")), tensors)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise TrainingError(f"the checkpoint {path} is damaged: remove it and train from the start") from error

    def remove_checkpoint(self, path) -> None:
        """Remove the folder."""
        for file in Path(path).glob("*"):
            file.unlink()
        Path(path).rmdir()


def _encode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        name = str(len(tensors))
        # A copy of its own: safetensors refuses tensors that share memory.
        tensors[name] = value.detach().cpu().clone().contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[_encode(k, tensors), _encode(v, tensors)] for k, v in value.items()]}
    if isinstance(value, list):
        return {"list": [_encode(item, tensors) for item in value]}
    if isinstance(value, tuple):
        return {"tuple": [_encode(item, tensors) for item in value]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TrainingError(f"a checkpoint cannot hold a {type(value).__name__} without pickle")


def _decode(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        return {_decode(k, tensors): _decode(v, tensors) for k, v in content}
    items = [_decode(item, tensors) for item in content]
    return tuple(items) if kind == "tuple" else items
