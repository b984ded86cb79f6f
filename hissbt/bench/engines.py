"""Ways to compute a network's step. All give the same numbers; ``hissbt.bench.steps`` checks it in every run.

An engine is primed with the first bars of a tape, then goes on along it. What turns features into its own kind of
input (``inputs``) is not timed. Where torch has choices it gets its best simple form: inference mode, one thread,
and everything computed beforehand that does not depend on the bar.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit

from hissbt.bench.subjects import Tape
from hissbt.bundle import ModelBundle
from hissbt.features import FeatureSet
from hissbt.stream import Stream, reference
from hissbt.stream.kernels import walk
from hissbt.stream.plan import Program
from hissbt.targets import TargetScale

WINDOW = 512  # bars that are run again at every bar by those who carry no state


class Engine:
    """One way to step: ``inputs`` of some bars, then ``step`` on each, whose result ``values`` reads."""

    at = 0
    """Bars of the tape taken so far."""

    def inputs(self, tape: Tape, count: int) -> Sequence:
        """Return what ``step`` wants for the next bars of the tape."""
        x = tape.x(self.at, count)
        self.at += count
        return list(x)

    def prime(self, tape: Tape) -> np.ndarray:
        """Take the first WINDOW bars; return the outputs at the last of them, [O]."""
        for x in self.inputs(tape, WINDOW):
            outputs = self.step(x)
        return self.values(outputs)

    def step(self, x):
        """Take one bar."""
        raise NotImplementedError

    def values(self, outputs) -> np.ndarray:
        """Return the outputs of a step as an array [O]."""
        return np.array(outputs, dtype=np.float64)


class _Planned(Engine):
    """Engines that walk the operations of a bundle's program."""

    def __init__(self, bundle: ModelBundle):
        # The features' part of the table is left out: this is the network alone.
        stream = Stream(bundle)
        program: Program = stream._program
        self._plan = np.ascontiguousarray(program.table[1 + program.table[0, 0] :])
        self._S, self._W, self._size = program.S, program.W, program.size
        self._places = np.array([program.table[0, 3], program.table[0, 4], 0])  # inputs, outputs, bars so far
        self._out = np.empty(len(stream.outputs), dtype=np.float32)


class Compiled(_Planned):
    """hissbt's compiled walk, called from Python for each bar."""

    def step(self, x):
        """Take one bar: float32 [F]."""
        _compiled_step(self._plan, self._S, self._W, self._places, x, self._out)
        return self._out

    def scan(self, x: np.ndarray) -> np.ndarray:
        """Take many bars, float32 [T,F], in one call; return [T,O]."""
        out = np.empty((len(x), len(self._out)), dtype=np.float32)
        _compiled_scan(self._plan, self._S, self._W, self._places, x, out)
        return out


class Numpy(_Planned):
    """The plain-numpy twin of the walk."""

    def step(self, x):
        """Take one bar: float32 [F]."""
        first, outputs, bars = self._places
        self._places[2] += 1
        self._S[first : first + len(x)] = x
        reference.walk(self._plan, self._S, self._W, bars + 1)
        return self._S[outputs : outputs + len(self._out)]


# Not cached on disk: numba would not notice that ``walk`` has changed. Linking to it takes little time.
@njit(error_model="numpy")
def _compiled_step(plan, S, W, places, x, out):
    first, outputs = places[0], places[1]
    places[2] += 1
    for i in range(len(x)):
        S[first + i] = x[i]
    walk(plan, S, W, places[2])
    for i in range(len(out)):
        out[i] = S[outputs + i]


@njit(error_model="numpy")
def _compiled_scan(plan, S, W, places, x, out):
    for t in range(len(x)):
        _compiled_step(plan, S, W, places, x[t], out[t])


class TorchStep(Engine):
    """torch's own eager step with carried state."""

    def __init__(self, bundle: ModelBundle):
        self._network = torch_network(bundle)
        self._state = self._network.initial_state(1)

    def inputs(self, tape, count):
        """Return tensors [1,F]."""
        import torch

        return [torch.from_numpy(x)[None] for x in super().inputs(tape, count)]

    def step(self, x):
        """Take one bar: a tensor [1,F]."""
        outputs, self._state = self._network.step(x, self._state)
        return outputs

    def values(self, outputs):
        """Read the tensors."""
        return np.concatenate([outputs[name].numpy()[0] for name in self._network.outputs], dtype=np.float64)


class TorchWindow(Engine):
    """torch over the newest WINDOW bars again at every bar: no state to carry, and most of the work repeated."""

    def __init__(self, bundle: ModelBundle):
        self._network = torch_network(bundle)

    def inputs(self, tape, count):
        """Return tensors [1,WINDOW,F], views of one series."""
        import torch

        x = torch.from_numpy(tape.x(self.at - WINDOW + 1, count + WINDOW - 1))[None]
        self.at += count
        return [x[:, i : i + WINDOW] for i in range(count)]

    def prime(self, tape):
        """Run the first window alone; it ends at the same bar as the others' priming."""
        self.at = WINDOW - 1
        return self.values(self.step(self.inputs(tape, 1)[0]))

    def step(self, x):
        """Run a window: a tensor [1,WINDOW,F]."""
        return self._network(x)

    def values(self, outputs):
        """Read the tensors at the newest bar."""
        return np.concatenate([outputs[name].numpy()[0, -1] for name in self._network.outputs], dtype=np.float64)


class StreamStep(Engine):
    """What a user calls: a closed bar in, the outputs in their units out, features and checks included."""

    def __init__(self, bundle: ModelBundle):
        self._stream = Stream(bundle)

    def inputs(self, tape, count):
        """Return bars [6]."""
        rows = tape.rows(self.at, count)
        self.at += count
        return list(rows)

    def step(self, x):
        """Take one bar."""
        return self._stream.step(x)

    def scan(self, rows: np.ndarray) -> np.ndarray:
        """Take many bars in one call."""
        return self._stream.scan(rows)


class TorchBar(StreamStep):
    """The same by torch: features and units by hissbt's own functions, the network by torch's eager step."""

    def __init__(self, bundle: ModelBundle):
        self._features = FeatureSet(bundle.features)
        self._memory = self._features.initial_state()
        self._normalize, self._kind = bundle.normalizer, bundle.kind
        self._scale = TargetScale(**bundle.target_scale)
        self._torch = TorchStep(bundle)

    def step(self, x):
        """Take one bar."""
        import torch

        features = self._normalize(self._features.step(x, self._memory)).astype(np.float32)
        outputs = self._torch.step(torch.from_numpy(features)[None])
        values = self._torch.values(outputs)
        return values if self._kind == "hvae" else self._scale.forecast(*values)


def torch_network(bundle: ModelBundle):
    """Return the bundle's network in torch, with S4D's discretization and convolution kernel computed once."""
    import torch

    from hissbt.models import build_network
    from hissbt.models.ssm import S4DKernel

    network = build_network(bundle.kind, bundle.config)
    network.load_state_dict({name: torch.tensor(array) for name, array in bundle.weights.items()})
    network.eval().requires_grad_(False)
    for module in network.modules():
        if isinstance(module, S4DKernel):
            _remember(module)
    return network


def _remember(kernel) -> None:
    """Put constants in the place of what an S4D kernel works out anew at each call."""
    discrete, kernels, compute = kernel.discretize(), {}, kernel.forward

    def remembered(length: int):
        if length not in kernels:
            kernels[length] = compute(length).to(kernel.C.dtype)
        return kernels[length]

    kernel.discretize = lambda: discrete
    kernel.forward = remembered
