"""A trained model that is fed one closed bar at a time and carries its state.

The road of a bar: ``[6+C] bar → features → normalizer → network step → expected_return, prob_up, volatility``.
``step`` takes a new bar, ``revise`` takes the same bar again with other values (Backtrader replays a forming bar,
and calls indicators again when another feed moved). Both compute from the state before that bar, so a bar counts
exactly once however often it is shown.
"""

import json
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from hissbt.bars import BAR_FIELDS
from hissbt.bundle import ModelBundle
from hissbt.errors import StreamError
from hissbt.features import FeatureSet
from hissbt.stream.torch_network import TorchNetwork, flatten_state, restore_state
from hissbt.targets import TargetScale

OUTPUTS = ("expected_return", "prob_up", "volatility")
SNAPSHOT_VERSION = 1


class _State(NamedTuple):
    close_time_s: float  # of the last bar, -inf before the first
    features: np.ndarray
    network: Any


class Stream:
    """One model running over one series of bars.

    Outputs are float64 [3] in the order of ``OUTPUTS``: mean of the log return over the bundle's horizon,
    probability that it is positive, and its standard deviation.

    Raises StreamError for a bar that is not finite, does not come after the last one, or a snapshot that does not
    belong to this bundle.
    """

    def __init__(self, bundle: ModelBundle):
        self.bundle = bundle
        self.warmup = bundle.warmup
        self._bundle_sha256 = bundle.sha256  # once: it hashes the weights
        self._features = FeatureSet(bundle.features)
        self._scale = TargetScale(**bundle.target_scale)
        self._network = TorchNetwork(bundle)
        self.reset()

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the values of a bar, in the order in which ``step`` wants them."""
        return (*BAR_FIELDS, *self._features.columns)

    def reset(self) -> None:
        """Forget every bar seen."""
        self._before = None
        self._after = _State(-np.inf, self._features.initial_state(), self._network.initial_state())

    def step(self, bar: np.ndarray) -> np.ndarray:
        """Take the next closed bar, float64 [6+C] in the order of ``fields``; return the outputs [3]."""
        outputs, after = self._compute(bar, self._after)
        self._before, self._after = self._after, after
        return outputs

    def revise(self, bar: np.ndarray) -> np.ndarray:
        """Take other values for the bar that was stepped last; return the outputs [3]."""
        if self._before is None:
            raise StreamError("there is no bar to revise: step the first bar before revising it")
        outputs, self._after = self._compute(bar, self._before)
        return outputs

    def scan(self, rows: np.ndarray) -> np.ndarray:
        """Step over ``rows`` [T,6+C]; return the outputs [T,3], bit-identical to as many calls of ``step``."""
        return np.array([self.step(row) for row in rows]).reshape(-1, len(OUTPUTS))

    def snapshot(self) -> bytes:
        """Return everything that the next bar depends on: states, chunk phase, last close time, bundle sha."""
        states = [self._after] if self._before is None else [self._after, self._before]
        header = {"version": SNAPSHOT_VERSION, "bundle": self._bundle_sha256, "states": len(states)}
        arrays = {"header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)}
        for i, state in enumerate(states):
            arrays |= {f"{i}.{j}": np.asarray(leaf, order="C") for j, leaf in enumerate(_leaves(state))}
        return safetensors.numpy.save(arrays)

    def restore(self, snapshot: bytes) -> None:
        """Continue after the bar at which ``snapshot`` was taken."""
        try:
            arrays = safetensors.numpy.load(snapshot)
            header = json.loads(arrays["header"].tobytes())
        except (SafetensorError, KeyError, ValueError) as error:
            raise StreamError("the snapshot is damaged: start the stream afresh and warm it up") from error
        if header["version"] != SNAPSHOT_VERSION:
            raise StreamError(
                f"the snapshot has schema version {header['version']}, this hissbt reads "
                f"{SNAPSHOT_VERSION}: start the stream afresh and warm it up"
            )
        if header["bundle"] != self._bundle_sha256:
            raise StreamError("the snapshot belongs to another bundle: restore it with the bundle it came from")
        states = [self._state(arrays, i) for i in range(header["states"])]
        self._after, self._before = states[0], states[1] if len(states) == 2 else None

    def _state(self, arrays: dict[str, np.ndarray], i: int) -> _State:
        count = sum(name.startswith(f"{i}.") for name in arrays)
        close_time_s, features, *network = (arrays[f"{i}.{j}"] for j in range(count))
        try:
            restored = restore_state(self._network.initial_state(), network)
        except (ValueError, IndexError) as error:
            raise StreamError("the snapshot does not fit this bundle: start the stream afresh") from error
        return _State(float(close_time_s), features, restored)

    def _compute(self, bar: np.ndarray, before: _State) -> tuple[np.ndarray, _State]:
        self._check(bar, before)
        feature_state = before.features.copy()
        x = self.bundle.normalizer(self._features.step(bar, feature_state))  # [F]
        outputs, network_state = self._network.step(x, before.network)
        return self._scale.forecast(*outputs), _State(float(bar[0]), feature_state, network_state)

    def _check(self, bar: np.ndarray, before: _State) -> None:
        if not np.isfinite(bar).all():
            name = self.fields[int(np.argmin(np.isfinite(bar)))]
            raise StreamError(f"the bar that closes at {_stamp(bar[0])} has no finite {name}: repair the bars")
        if bar[0] <= before.close_time_s:
            raise StreamError(
                f"the bar that closes at {_stamp(bar[0])} does not come after the last one at "
                f"{_stamp(before.close_time_s)}: feed bars in order, each once"
            )


def _leaves(state: _State) -> list[np.ndarray]:
    return [np.asarray(state.close_time_s), state.features, *flatten_state(state.network)]


def _stamp(close_time_s: float) -> str:
    return str(np.datetime64(int(close_time_s), "s")) if np.isfinite(close_time_s) else str(close_time_s)
