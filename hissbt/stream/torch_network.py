"""The network of a bundle, rebuilt in torch and stepped one bar at a time."""

from typing import Any

import numpy as np
import torch

from hissbt.bundle import ModelBundle
from hissbt.errors import BundleError, ConfigError
from hissbt.models import build_network


class TorchNetwork:
    """Batch of one, float32, no gradients. State is a nested tuple that ``step`` never alters."""

    def __init__(self, bundle: ModelBundle):
        try:
            network = build_network(bundle.kind, bundle.config)
        except ConfigError as error:
            raise BundleError(
                f"this hissbt cannot build the network of a {bundle.kind!r} bundle ({error}): use another bundle"
            ) from error
        weights = {name: torch.from_numpy(np.array(array)) for name, array in bundle.weights.items()}
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise BundleError(
                f"the weights of this {bundle.kind} bundle do not fit its config: train it again "
                f"({' '.join(str(error).split())[:200]})"
            ) from error
        self._network = network.eval().requires_grad_(False)

    def initial_state(self) -> Any:
        """Return the state before the first bar."""
        with torch.inference_mode():
            return self._network.initial_state(1)

    def step(self, features: np.ndarray, state: Any) -> tuple[tuple[float, float, float], Any]:
        """Take one row of normalized features [F]; return the three standardized outputs and the new state."""
        with torch.inference_mode():
            x = torch.from_numpy(features.astype(np.float32))[None]  # [1,F]
            outputs, state = self._network.step(x, state)
            return tuple(outputs[name].item() for name in self._network.outputs), state


def flatten_state(state: Any) -> list[np.ndarray]:
    """Return the leaves of a nested state, depth first; python ints become 0-d int64 arrays."""
    if isinstance(state, tuple | list):
        return [leaf for item in state for leaf in flatten_state(item)]
    if isinstance(state, torch.Tensor):
        return [state.numpy()]
    return [np.asarray(state, dtype=np.int64)]


def restore_state(template: Any, leaves: list[np.ndarray]) -> Any:
    """Rebuild a nested state shaped like ``template`` from ``leaves``, which are consumed from the front."""
    if isinstance(template, tuple | list):
        items = [restore_state(item, leaves) for item in template]
        return type(template)(*items) if hasattr(template, "_fields") else type(template)(items)
    leaf = leaves.pop(0)
    if isinstance(template, torch.Tensor):
        if leaf.shape != tuple(template.shape) or torch.from_numpy(leaf).dtype != template.dtype:
            raise ValueError(f"a state array has shape {leaf.shape}, expected {tuple(template.shape)}")
        return torch.from_numpy(leaf)
    return int(leaf)
