"""The floor: a network's multiply-adds and nothing else, as BLAS calls in a compiled loop.

Each operation of the plan becomes one sgemv (``np.dot`` in numba, which calls OpenBLAS) of as many multiply-adds:

=================== ======================================= ==================================================
operation           matrix times vector                     multiply-adds
=================== ======================================= ==================================================
linear n → m        [m,n]                                   n m
s4d, P pairs        [8 P + 1, n]                            of n channels and P pairs: A h 4, B x 2, Re(C h) 2;
                                                            and D x
conv, width K       [K,n]                                   K n
selective_scan, N   [4 N + 1, n]                            of n channels and N states: dt A 1, h 2, c h 1;
                                                            and D u
attention, window L [2 L, n]                                q k and the weighted sum of v, over a full window
lstm, gru, tkan     [3,n]                                   gates times state; their linear maps are linears
splines, grid G,    [(G + k) k t,n]                         powers, of t terms, the least whole number from
order k                                                     (k + 1) / 2 on
memory              [2,n]                                   new o + old m
switching           [3 K,K]                                 filtered P twice, factors of P
heads               [3,n] and [3,F]                         both read-outs
=================== ======================================= ==================================================

Coarse levels run when they are due. Additions alone (residuals, means, biases), norms, exp, gelu, sigmoid,
softplus, divisions and copies are counted as nothing, and so are the densities and divergences of an hvae.
"""

import numpy as np
from numba import njit

from hissbt.bench.engines import _Planned
from hissbt.bundle import ModelBundle
from hissbt.stream.kernels import OPERATIONS
from hissbt.stream.plan import LINE, _aligned

FREE = {
    *("norm", "gated_add", "add", "push", "mean", "copy", "activate"),
    *("patch", "pool", "posterior", "surprise"),
}


class Floor(_Planned):
    """The multiply-adds of a bundle's network, bar after bar."""

    def __init__(self, bundle: ModelBundle):
        super().__init__(bundle)
        shapes = products(self._plan)
        sizes = [-(-m * n // LINE) * LINE for m, n, _ in shapes]
        starts = np.cumsum([0, *sizes])
        self._table = np.column_stack([np.array(shapes), starts[:-1]])  # [products,4]: m, n, stride, start
        rng = np.random.default_rng(1)
        self._A = _aligned(rng.standard_normal(starts[-1]).astype(np.float32))
        self._x = _aligned(np.ones(max(n for _, n, _ in shapes), dtype=np.float32))
        self._y = _aligned(np.zeros(max(m for m, _, _ in shapes), dtype=np.float32))

    @property
    def multiply_adds(self) -> float:
        """Multiply-adds of a bar, on average."""
        return float(sum(m * n / stride for m, n, stride, _ in self._table))

    def run(self, bars: int) -> None:
        """Do the multiply-adds of so many bars."""
        _multiply(self._table, self._A, self._x, self._y, bars)


def products(plan: np.ndarray) -> list[tuple[int, int, int]]:
    """Return (m, n, stride): matrix products [m,n] x [n] that stand for the plan, each done every stride bars."""
    shapes, stride, ends = [], 1, []
    for row, (number, x, y, n, *rest) in enumerate(plan.tolist()):
        while ends and ends[-1][0] == row:
            stride = ends.pop()[1]
        name = OPERATIONS[number]
        if name == "gate":
            ends.append((y, stride))
            stride = x
        elif name == "heads":
            shapes += [(3, n, stride), (3, rest[2], stride)]
        elif name not in FREE:
            shapes.append((multiply_adds(name, n, rest), n, stride))
    return shapes


def multiply_adds(name: str, n: int, rest: list[int]) -> int:
    """Return multiply-adds for each of the n channels of an operation."""
    if name == "linear" or name == "conv":
        return rest[0]
    if name == "s4d":
        return 8 * rest[0] + 1
    if name == "selective_scan":
        return 4 * rest[0] + 1
    if name == "attention":
        return 2 * rest[1]
    if name in ("lstm", "gru", "tkan"):
        return 3
    if name == "splines":
        grid, order = rest[:2]
        return (grid + order) * order * ((order + 2) // 2)
    if name == "memory":
        return 2
    if name == "switching":
        return 3 * n
    raise ValueError(f"no count of multiply-adds for the operation {name!r}")


@njit(error_model="numpy")
def _multiply(table, A, x, y, bars):
    for t in range(1, bars + 1):
        for row in range(len(table)):
            m, n, stride, start = table[row, 0], table[row, 1], table[row, 2], table[row, 3]
            if t % stride == 0:
                # [n,m] transposed: the layout in which OpenBLAS is fastest at these sizes
                np.dot(A[start : start + m * n].reshape(n, m).T, x[:n], y[:m])
