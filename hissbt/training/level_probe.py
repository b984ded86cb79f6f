"""What the levels of a trained HiSS network hold, what it forecasts without one, how long they remember a bar."""

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.features import FeatureSet
from hissbt.models import HiSSNet, build_network
from hissbt.training.lightning_run import one_thread

_MOST_PHASES = 64
_WINDOWS_A_PHASE = 4


class LevelProbe:
    """A trained network over one series of inputs, from its first bar on, as a stream runs.

    The heads read one part a level, finest first, and last the inputs themselves, which skip the levels.
    """

    def __init__(self, network: HiSSNet, x: np.ndarray, seen: range):
        """Run ``network`` over normalized inputs ``x`` [T,F]; ``seen`` are the rows that say what is usual."""
        self._network, self._seen = network.eval(), slice(seen.start, seen.stop)
        self._x = torch.from_numpy(x.astype(np.float32))[None]
        self.strides = network.strides
        """Bars between two values of each level."""
        with one_thread(), torch.inference_mode():
            self._held = network.held(self._x)

    @classmethod
    def of(cls, bundle: ModelBundle, bars: Bars, seen: range) -> "LevelProbe":
        """Return the probe of a bundle of kind hiss over ``bars``."""
        network = build_network(bundle.kind, bundle.config)
        network.load_state_dict({name: torch.tensor(weight) for name, weight in bundle.weights.items()})
        features = FeatureSet(bundle.features)
        return cls(network, bundle.normalizer(features.scan(bars.arrays(features.columns))), seen)

    @property
    def held(self) -> tuple[np.ndarray, ...]:
        """What each level holds at every bar: [T,D] each."""
        return tuple(held[0].numpy() for held in self._held)

    @property
    def inputs(self) -> np.ndarray:
        """The normalized inputs [T,F]."""
        return self._x[0].numpy()

    def outputs(self, without: Collection[int] = ()) -> np.ndarray:
        """Return the network's outputs [3,T], standardized, with the mean of a part in place of it.

        ``without`` numbers the parts of which the heads are given the mean over the seen rows only. What a level
        passes to the one above stays as it is.
        """
        parts = [
            _mean(part[:, self._seen]).expand_as(part) if number in without else part
            for number, part in enumerate([*self._held, self._x])
        ]
        *held, x = parts
        with one_thread(), torch.inference_mode():
            outputs = self._network.read(held, x)
        return np.stack([outputs[name][0, :, 0].numpy() for name in self._network.outputs])

    def responses(self, rows: range, lags: int, context: int, seed: int) -> np.ndarray:
        """Return [L,lags]: how far a level is moved k bars after a disturbed one, in deviations of the level.

        The length of the change of what the level holds over that of its usual deviation from its mean, averaged
        over windows with the disturbed bar all over ``rows`` and at every phase of the coarsest level's blocks (or
        64 of them). Disturbed are all inputs of one bar, each by one deviation up or down, as ``seed`` draws.
        Before it the network has run over at least ``context`` bars, which ``rows`` must leave room for.
        """
        rng, top = np.random.default_rng(seed), self.strides[-1]
        warm = -(-context // top) * top
        usual = [_deviation(held[0, self._seen]) for held in self._held]
        found = []
        for phase in range(0, top, -(-top // _MOST_PHASES)):
            at = warm + phase  # of the disturbed bar in its window
            disturbed = rng.integers(max(rows.start, at), rows.stop - lags + 1, size=_WINDOWS_A_PHASE)
            windows = torch.stack([self._x[0, row - at : row + lags] for row in disturbed])
            signs = rng.choice([-1.0, 1.0], size=(len(windows), windows.shape[-1]))
            found.append(self._moved(windows, at, torch.from_numpy(signs.astype(np.float32))))
        moved = torch.stack(found).mean(dim=0).numpy()  # [L,lags]
        return np.stack(
            [row / deviation if deviation else row for row, deviation in zip(moved, usual, strict=True)]
        )

    def _moved(self, windows: Tensor, at: int, by: Tensor) -> Tensor:
        """Return the mean length [L,lags] of the change of each level from bar ``at`` of the windows on."""
        changed = windows.clone()
        changed[:, at] += by
        with one_thread(), torch.inference_mode():
            pairs = zip(self._network.held(windows), self._network.held(changed), strict=True)
            return torch.stack(
                [(after - before)[:, at:].double().norm(dim=-1).mean(dim=0) for before, after in pairs]
            )


def _mean(part: Tensor) -> Tensor:
    # In float64, so that the mean of what never changes is that.
    return part.double().mean(dim=1, keepdim=True).to(part.dtype)


def _deviation(held: Tensor) -> float:
    """Return the root mean square distance of values [T,D] from their mean."""
    return float(held.double().var(dim=0, correction=0).sum().sqrt())
