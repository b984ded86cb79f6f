"""A network as data: operations over one packed buffer of weights and one of state.

``Planner`` is what the networks of ``hissbt.stream.networks`` write themselves into; ``Program`` is what
``hissbt.stream.kernels.run`` executes.

Layout, in elements; ``size`` is that of the network's state, ``memory`` = 2 + that of the features' state:

========= =================================================================================================
table     int64 [1 + F + operations, 8]: row 0 is features, size, place of the first state in W, place of the
          inputs, place of the outputs, memory, whether the outputs are a forecast; then the plan of the
          features; then the operations
W         float32: weights, each array at a multiple of 64 bytes; the first state
S         float32: state [size], state before the last bar [size], windows, inputs [F], intermediate results
D         float64: bars since the state was fresh, last close time (s), state of the features [memory in all];
          the same before the last bar [memory]; the reset rule [4]: timeframe (s), gap that resets (s),
          whether sessions do, bars of a fresh state whose outputs are NaN; clip, return_mean, return_std,
          volatility_scale; mean [F]; std [F]; room for the features [F]; opens of the sessions (s), if known
========= =================================================================================================

Windows are rings of past values (a Transformer's keys and values). They need no copy of before the last bar: its
slot is only written again. Nor are they cleared: what lies there of the time before a reset is not read.
"""

from dataclasses import dataclass

import numpy as np

from hissbt.features import FeatureSet, Normalizer
from hissbt.stream.kernels import OPERATIONS
from hissbt.targets import TargetScale

OUTPUTS = ("expected_return", "prob_up", "volatility")  # a forecast
LINE = 16  # float32 in 64 bytes, a cache line and a vector register of AVX-512


@dataclass(frozen=True)
class Place:
    """A stretch of S whose start is known when the plan is complete."""

    space: str
    offset: int

    def __add__(self, count: int) -> "Place":
        """Return the place ``count`` elements further on."""
        return Place(self.space, self.offset + count)


@dataclass
class Program:
    """Everything that ``run`` needs, and nothing else; the layout is told in this module's text."""

    table: np.ndarray
    W: np.ndarray
    S: np.ndarray
    D: np.ndarray
    size: int
    windows: int
    memory: int
    outputs: tuple[str, ...]
    """What lies at the place of the outputs, by name."""

    def reset(self) -> None:
        """Go back to before the first bar."""
        initial = self.table[0, 2]
        self.S[: self.size] = self.W[initial : initial + self.size]
        self.D[0], self.D[1], self.D[2 : self.memory] = 0.0, -np.inf, 0.0

    def undo(self) -> None:
        """Go back to before the last bar."""
        self.S[: self.size] = self.S[self.size : 2 * self.size]
        self.D[: self.memory] = self.D[self.memory : 2 * self.memory]

    @property
    def state(self) -> tuple[np.ndarray, np.ndarray]:
        """Views of all that the next bar depends on, the state before the last bar included: S and D parts."""
        return self.S[: 2 * self.size + self.windows], self.D[: 2 * self.memory]


class Planner:
    """Collects weights, places and operations of one network."""

    def __init__(self, n_features: int):
        self.inputs = Place("inputs", 0)
        self.n_features = n_features
        self.outputs: Place | None = None
        self.names = OUTPUTS
        """Of the outputs. What begins with a forecast has that put in units."""
        self._sizes = {"state": 0, "window": 0, "inputs": _lines(n_features), "scratch": 0}
        self._first: list[tuple[int, np.ndarray]] = []
        self._weights: list[np.ndarray] = []
        self._packed = 0
        self._rows: list[list] = []

    def state(self, count: int, first: np.ndarray | None = None) -> Place:
        """Reserve ``count`` elements that last from bar to bar; ``first`` are their values at the start."""
        place = self._reserve("state", count)
        if first is not None:
            self._first.append((place.offset, np.ravel(first)))
        return place

    def doubles(self, first: np.ndarray) -> Place:
        """Reserve float64 elements that last from bar to bar: each has the room of two, and its own bits."""
        return self.state(2 * len(first), as_bits(first))

    def window(self, count: int) -> Place:
        """Reserve ``count`` elements that last, of which each bar writes its own slot only."""
        return self._reserve("window", count)

    def scratch(self, count: int) -> Place:
        """Reserve ``count`` elements that need not last."""
        return self._reserve("scratch", count)

    def weights(self, *arrays: np.ndarray) -> int:
        """Pack arrays one directly after the other, the first at a cache line; return where they begin in W."""
        packed = np.concatenate([np.ravel(array) for array in arrays]).astype(np.float32)
        at = self._packed
        self._weights.append(np.pad(packed, (0, _lines(len(packed)) - len(packed))))
        self._packed += len(self._weights[-1])
        return at

    def add(self, operation: str, *operands: Place | int) -> int:
        """Append an operation of ``kernels.OPERATIONS``; return its row, for ``close``."""
        row = [OPERATIONS.index(operation), *operands]
        self._rows.append(row + [0] * (8 - len(row)))
        return len(self._rows) - 1

    def linear(self, x: Place, y: Place, weight: np.ndarray, bias: np.ndarray | None) -> None:
        """Append y = bias + weight x for a torch weight [out,in]."""
        at = self.weights(np.asarray(weight).T)
        self.add("linear", x, y, weight.shape[1], weight.shape[0], at, -1 if bias is None else self.weights(bias))

    def close(self, gate: int) -> None:
        """End the operations that depend on a gate here."""
        self._rows[gate][2] = len(self._rows)

    def finish(
        self,
        features: FeatureSet,
        normalizer: Normalizer,
        scale: TargetScale,
        resets: tuple[float, float, float, float],
        session_opens: np.ndarray,
    ) -> Program:
        """Return the program; ``resets`` are the four numbers of the reset rule, opens are unix seconds [N]."""
        size, windows = self._sizes["state"], self._sizes["window"]
        starts = {"state": 0, "window": 2 * size, "inputs": 2 * size + windows}
        starts["scratch"] = starts["inputs"] + self._sizes["inputs"]

        def at(operand: Place | int) -> int:
            return starts[operand.space] + operand.offset if isinstance(operand, Place) else operand

        first = np.zeros(size, dtype=np.float32)
        for offset, values in self._first:
            first[offset : offset + len(values)] = values
        initial, memory = self.weights(first), 2 + len(features.initial_state())
        header = [features.size, size, initial, at(self.inputs), at(self.outputs), memory]
        header += [int(self.names[: len(OUTPUTS)] == OUTPUTS), 0]
        rows = [[at(operand) for operand in row] for row in self._rows]
        constants = [*resets, normalizer.clip, scale.return_mean, scale.return_std, scale.volatility_scale]
        program = Program(
            table=np.array([header, *np.pad(features.plan, ((0, 0), (0, 4))).tolist(), *rows], dtype=np.int64),
            W=_aligned(np.concatenate(self._weights)),
            S=_aligned(np.zeros(starts["scratch"] + self._sizes["scratch"], dtype=np.float32)),
            D=np.concatenate(
                [
                    np.zeros(2 * memory),
                    constants,
                    normalizer.mean,
                    normalizer.std,
                    np.zeros(features.size),
                    session_opens,
                ]
            ),
            size=size,
            windows=windows,
            memory=memory,
            outputs=self.names,
        )
        program.reset()
        return program

    def _reserve(self, space: str, count: int) -> Place:
        place = Place(space, self._sizes[space])
        self._sizes[space] += _lines(count)
        return place


def as_bits(values: np.ndarray) -> np.ndarray:
    """Return float64 values [N] as they lie in memory, float32 [2 N]; a kernel reads them with ``view``."""
    return np.ascontiguousarray(values, dtype=np.float64).view(np.float32)


def _lines(count: int) -> int:
    """Round up to whole cache lines."""
    return -(-count // LINE) * LINE


def _aligned(array: np.ndarray) -> np.ndarray:
    """Return a copy that begins at a multiple of 64 bytes: numpy promises 16 only, and vectors would straddle."""
    room = np.zeros(len(array) + LINE, dtype=np.float32)
    skip = -(room.ctypes.data // 4) % LINE
    room[skip : skip + len(array)] = array
    return room[skip : skip + len(array)]
