"""The same plan as ONNX graphs, run by ONNX Runtime: one graph for each number of levels that are due at a bar.

The operations of ``hissbt.stream.kernels`` are translated one by one. Places in the state S become tensors: a
graph takes those that it reads before it writes them, and gives back those that must last.
"""

import numpy as np

from hissbt.bench.engines import _Planned
from hissbt.bundle import ModelBundle
from hissbt.stream.kernels import OPERATIONS

OPSET = 20


class OnnxRuntime(_Planned):
    """Steps by ONNX Runtime on one thread; tensors that last stay where ONNX Runtime put them."""

    def __init__(self, bundle: ModelBundle):
        import onnxruntime as ort

        super().__init__(bundle)
        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._strides = [x for number, x, *_ in self._plan.tolist() if OPERATIONS[number] == "gate"]
        self._make = ort.OrtValue.ortvalue_from_numpy
        self._graphs, self._values, self._bars = [], {}, 0
        for depth in range(len(self._strides) + 1):
            graph = _Graph(self._plan, self._W, self._places[:2].tolist(), self._size, self._strides[:depth])
            session = ort.InferenceSession(graph.model(), options, providers=["CPUExecutionProvider"])
            self._graphs.append((session, list(graph.inputs), list(graph.outputs)))
            for name, (start, shape) in graph.inputs.items():
                first = self._S[start : start + int(np.prod(shape))].reshape(shape)
                self._values.setdefault(name, self._make(first))

    def step(self, x):
        """Take one bar: float32 [F]."""
        self._bars += 1
        depth = sum(self._bars % stride == 0 for stride in self._strides)
        session, inputs, outputs = self._graphs[depth]
        values = self._values
        values["x"] = self._make(x[None])
        feed = {name: values[name] for name in inputs}
        results = session.run_with_ort_values([f"{name}'" for name in outputs], feed)
        values.update(zip(outputs, results, strict=True))
        return values["y"]

    def values(self, outputs):
        """Read the tensor."""
        return outputs.numpy()[0].astype(np.float64)


def missing_operations(plan: np.ndarray) -> list[str]:
    """Return the operations of a plan that have no translation."""
    names = {OPERATIONS[number] for number in plan[:, 0]} - {"gate"}
    return sorted(name for name in names if not hasattr(_Graph, f"_{name}"))


class _Graph:
    """The operations that run at a bar at which the blocks of ``strides`` close."""

    def __init__(self, plan: np.ndarray, W: np.ndarray, places: list[int], size: int, strides: list[int]):
        self.inputs: dict[str, tuple[int, tuple[int, ...]]] = {}  # name: place in S, shape
        self.outputs: dict[str, str] = {}  # name among the lasting tensors: name in the graph
        self._W, self._nodes, self._constants, self._count = W, [], [], 0
        self._lasting = _lasting(plan, size)
        # Which tensor holds each element of S, and where in S that tensor begins.
        self._owner: dict[int, tuple[str, int]] = {}
        features = next(rest[2] for number, _, _, _, *rest in plan.tolist() if OPERATIONS[number] == "heads")
        self.inputs["x"] = (places[0], (1, features))
        self._write(places[0], features, "x")
        row = 0
        while row < len(plan):
            number, *operands = plan[row].tolist()
            row += 1
            if OPERATIONS[number] == "gate":
                row = row if operands[0] in strides else operands[1]
            else:
                getattr(self, f"_{OPERATIONS[number]}")(*operands)
        self.outputs["y"] = self._read(places[1], 3)

    def model(self) -> bytes:
        """Return the graph as a model that ONNX Runtime reads."""
        from onnx import TensorProto, helper

        for name, source in self.outputs.items():
            self._op("Identity", source, name=f"{name}'")
        inputs = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, (_, shape) in self.inputs.items()
        ]
        outputs = [helper.make_tensor_value_info(f"{name}'", TensorProto.FLOAT, None) for name in self.outputs]
        graph = helper.make_graph(self._nodes, "step", inputs, outputs, self._constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
        return model.SerializeToString()

    # --- tensors

    def _op(self, kind: str, *inputs: str, outputs: int = 1, name: str = "", **attributes):
        from onnx import helper

        self._count += 1
        names = [name or f"{kind.lower()}{self._count}_{i}" for i in range(outputs)]
        self._nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names[0] if outputs == 1 else names

    def _constant(self, array: np.ndarray) -> str:
        from onnx import numpy_helper

        self._count += 1
        name = f"constant{self._count}"
        self._constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _weights(self, at: int, *shape: int) -> np.ndarray:
        return self._W[at : at + int(np.prod(shape))].reshape(shape)

    def _sum(self, x: str, axis: int) -> str:
        return self._op("ReduceSum", x, self._constant(np.array([axis])), keepdims=1)

    def _slice(self, x: str, start: int, end: int, axis: int) -> str:
        return self._op("Slice", x, *(self._constant(np.array([value])) for value in (start, end, axis)))

    def _write(self, start: int, n: int, tensor: str) -> None:
        for i in range(start, start + n):
            self._owner[i] = (tensor, start)
        if start in self._lasting:
            self.outputs[f"s{start}"] = tensor

    def _read(self, start: int, n: int) -> str:
        """Return [1,n]: the tensors that hold these elements, cut and joined as needed."""
        parts, i = [], start
        while i < start + n:
            if i not in self._owner:
                region = max(place for place in self._lasting if place <= i)
                self._owner |= dict.fromkeys(
                    range(region, region + self._lasting[region]),
                    (self._input(region, (1, self._lasting[region])), region),
                )
            tensor, first = self._owner[i]
            end = i
            while end < start + n and self._owner.get(end) == (tensor, first):
                end += 1
            whole = i == first and self._owner.get(end) != (tensor, first)
            parts.append(tensor if whole else self._slice(tensor, i - first, end - first, 1))
            i = end
        return parts[0] if len(parts) == 1 else self._op("Concat", *parts, axis=1)

    def _input(self, start: int, shape: tuple[int, ...]) -> str:
        self.inputs[f"s{start}"] = (start, shape)
        return f"s{start}"

    # --- operations, with the operands of the kernels of the same names

    def _linear(self, x, y, n, m, w, b, *_):
        bias = [] if b < 0 else [self._constant(self._weights(b, m))]
        self._write(y, m, self._op("Gemm", self._read(x, n), self._constant(self._weights(w, n, m)), *bias))

    def _norm(self, x, y, n, w, *_):
        gain, bias = (self._constant(row) for row in self._weights(w, 2, n))
        self._write(y, n, self._op("LayerNormalization", self._read(x, n), gain, bias, axis=-1, epsilon=1e-5))

    def _s4d(self, x, y, n, pairs, w, h, *_):
        x = self._read(x, n)
        a, b, c = self._weights(w, 3, 2, pairs, n)
        skip = self._constant(self._weights(w + 6 * pairs * n, 1, n))
        state = self._input(h, (2, pairs, n))
        swapped = self._op(
            "Slice", state, *(self._constant(np.array([value])) for value in (1, -(2**31), 0, -1))
        )  # imaginary parts first
        turned = self._op("Mul", self._constant(np.stack([-a[1], a[1]])), swapped)
        kept, new = self._op("Mul", self._constant(a[:1]), state), self._op("Mul", self._constant(b), x)
        state = self._op("Sum", kept, turned, new)
        self.outputs[f"s{h}"] = state
        read = self._op("Mul", self._constant(np.stack([c[0], -c[1]])), state)
        axes = self._constant(np.array([0, 1]))
        mixed = self._op("Unsqueeze", self._op("ReduceSum", read, axes, keepdims=0), self._constant(np.array([0])))
        self._write(y, n, self._op("Gelu", self._op("Add", mixed, self._op("Mul", skip, x))))

    def _gated_add(self, x, y, n, *_):
        gated = self._op("Mul", self._read(x, n), self._op("Sigmoid", self._read(x + n, n)))
        self._write(y, n, self._op("Add", self._read(y, n), gated))

    def _add(self, x, y, n, *_):
        self._write(y, n, self._op("Add", self._read(y, n), self._read(x, n)))

    def _copy(self, x, y, n, *_):
        self._write(y, n, self._read(x, n))

    def _activate(self, x, y, n, *_):
        self._write(y, n, self._op("Gelu", self._read(x, n)))

    def _push(self, x, y, n, stride, rows, *_):
        # Not a ring but a queue: when the block closes, both hold its values in order.
        queue = self._slice(self._input(y, (rows, n)), 1, rows, 0)
        self.outputs[f"s{y}"] = self._op("Concat", queue, self._read(x, n), axis=0)

    def _mean(self, x, y, n, rows, *_):
        block = self.outputs[f"s{x}"]
        self._write(y, n, self._op("ReduceMean", block, self._constant(np.array([0])), keepdims=1))

    def _conv(self, x, y, n, width, w, h, *_):
        window = self._op("Concat", self._input(h, (width - 1, n)), self._read(x, n), axis=0)
        self.outputs[f"s{h}"] = self._slice(window, 1, width, 0)
        mixed = self._sum(self._op("Mul", window, self._constant(self._weights(w, width, n))), 0)
        z = self._op("Add", mixed, self._constant(self._weights(w + width * n, 1, n)))
        self._write(y, n, self._op("Mul", z, self._op("Sigmoid", z)))

    def _selective_scan(self, x, y, n, states, w, h, rank):
        gate, u, raw = (self._read(x + i * n, n) for i in (1, 2, 3))
        b, c = (self._read(x + 4 * n + rank + i * states, states) for i in (0, 1))
        rates, skip = (
            self._constant(self._weights(w, states, n)),
            self._constant(self._weights(w + states * n, 1, n)),
        )
        dt = self._op("Softplus", raw)
        decay = self._op("Exp", self._op("Mul", dt, rates))  # [N,n]
        new = self._op("Mul", self._op("Transpose", b, perm=[1, 0]), self._op("Mul", dt, u))  # [N,n]
        state = self._op("Add", self._op("Mul", decay, self._input(h, (states, n))), new)
        self.outputs[f"s{h}"] = state
        mixed = self._op("Add", self._op("MatMul", c, state), self._op("Mul", skip, u))
        self._write(y, n, self._op("Mul", mixed, self._op("Mul", gate, self._op("Sigmoid", gate))))

    def _lstm(self, x, y, n, *_):
        both = self._op("Add", self._read(x, 4 * n), self._read(x + 4 * n, 4 * n))
        i, f, g, o = self._op("Split", both, outputs=4, axis=1, num_outputs=4)
        i, f, o, g = (*(self._op("Sigmoid", z) for z in (i, f, o)), self._op("Tanh", g))
        old = self._read(y + n, n)
        c = self._op("Add", self._op("Mul", f, old), self._op("Mul", i, g))
        h = self._op("Mul", o, self._op("Tanh", c))
        self._write(y, 2 * n, self._op("Concat", h, c, axis=1))

    def _gru(self, x, y, n, *_):
        old, gates = self._read(y, n), (self._read(x, 2 * n), self._read(x + 3 * n, 2 * n))
        r, z = self._op("Split", self._op("Sigmoid", self._op("Add", *gates)), outputs=2, axis=1, num_outputs=2)
        new = self._op("Mul", r, self._read(x + 5 * n, n))
        new = self._op("Tanh", self._op("Add", self._read(x + 2 * n, n), new))
        # (1 - z) new + z old
        self._write(y, n, self._op("Add", new, self._op("Mul", z, self._op("Sub", old, new))))

    def _heads(self, x, y, n, w, skip, features, inputs):
        rows = (self._weights(w + 3, 3, n), self._weights(skip, 3, features))
        bias, matrices = self._constant(self._weights(w, 3)), [self._constant(row.T) for row in rows]
        direct = self._op("MatMul", self._read(inputs, features), matrices[1])
        both = self._op("Add", self._op("Gemm", self._read(x, n), matrices[0], bias), direct)
        spread = self._op("Softplus", self._slice(both, 2, 3, 1))
        self._write(y, 3, self._op("Concat", self._slice(both, 0, 2, 1), spread, axis=1))


def _lasting(plan: np.ndarray, size: int) -> dict[int, int]:
    """Return places in S, and lengths, of vectors that outlast a bar and that operations read as such."""
    lasting: dict[int, int] = {}
    gated, end = False, -1
    for row, (number, _, y, n, *rest) in enumerate(plan.tolist()):
        name = OPERATIONS[number]
        gated = gated and row < end
        if name == "gate":
            gated, end = True, y
        elif name in ("lstm", "gru"):
            lasting[y] = 2 * n if name == "lstm" else n
        elif name == "linear" and gated and y < size:
            lasting[y] = rest[0]
    return lasting
