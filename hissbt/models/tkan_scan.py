"""The two loops over time of a TKAN cell: in torch, and compiled for float32 and float64 on a CPU.

Both run C or G equal layers with weights of their own side by side, over x [C or G,B,T,..] from a first state:

- ``run_gates``: with z = sigmoid(given(t) + h R) split into i, f, g: c <- f c + i tanh(g), h <- opened(t) tanh(c);
- ``run_sublayers``: with s = given(t) + m S: o(t) = KAN(s), m <- new o(t) + old m.

Second derivatives are refused by the compiled ones.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

NORM_EPS = 1e-3


class Splines(NamedTuple):
    """All B-splines of an order on ``grid_size`` equal intervals of [-1, 1].

    By the symmetric form of the cardinal spline: with d the distance from the middle of its support in intervals,
    sum over m < (k+1)/2 of (-1)^m C(k+1,m) max((k+1)/2 - m - |d|, 0)^k / k!. Its terms are small.
    """

    grid_size: int
    order: int

    @property
    def count(self) -> int:
        """Number of splines."""
        return self.grid_size + self.order

    @property
    def scale(self) -> float:
        """Intervals per unit."""
        return self.grid_size / 2

    @property
    def half(self) -> float:
        """Half the width of a spline's support, in intervals."""
        return (self.order + 1) / 2

    def factors(self, like: Tensor) -> Tensor:
        """Return (-1)^m C(k+1,m) / k!."""
        terms = range(math.ceil(self.half))
        return like.new_tensor(
            [(-1) ** m * math.comb(self.order + 1, m) / math.factorial(self.order) for m in terms]
        )

    def centers(self, like: Tensor) -> Tensor:
        """Return their middles in intervals, which are exact numbers in any precision."""
        return (
            torch.arange(self.count, dtype=like.dtype, device=like.device) + (1 - self.order - self.grid_size) / 2
        )

    def at(self, x: Tensor) -> Tensor:
        """Return their values at x: [..] to [..,count]."""
        position, centers = x[..., None] * self.scale, self.centers(x)
        if self.order == 0:
            return ((position >= centers - self.half) & (position < centers + self.half)).to(x.dtype)
        distance = (position - centers).abs()
        terms = enumerate(self.factors(x))
        return sum(factor * (self.half - m - distance).relu().pow(self.order) for m, factor in terms)


class Sublayers(NamedTuple):
    """Weights of G recurrent KAN layers with I inputs and O outputs."""

    states: Tensor  # [G,O,I]
    gain: Tensor  # [G,I] of the normalized input
    shift: Tensor  # [G,I]
    base: Tensor  # [G,I,O]
    bias: Tensor  # [G,O]
    spline: Tensor  # [G,I,count,O]
    new: Tensor  # [G,O]
    old: Tensor  # [G,O]


def kan(x: Tensor, weights: Sublayers, splines: Splines) -> Tensor:
    """Return ``relu(n) base + bias + B(n) spline`` of the normalized input n: x [G,B,I] to [G,B,O]."""
    normal = F.layer_norm(x, x.shape[-1:], eps=NORM_EPS) * weights.gain[:, None] + weights.shift[:, None]
    base = torch.baddbmm(weights.bias[:, None], normal.relu(), weights.base)
    return torch.baddbmm(base, splines.at(normal).flatten(-2), weights.spline.flatten(1, 2))


# ---------------------------------------------------------------------------------- torch's operations


def gates_in_torch(given: Tensor, opened: Tensor, recurrent: Tensor, h: Tensor, c: Tensor):
    """Run the gates on any device; also what the compiled loop is tested against."""
    hidden = []
    for at_t, o in zip(given.unbind(2), opened.unbind(2), strict=True):
        i, f, g = torch.baddbmm(at_t, h, recurrent).sigmoid().chunk(3, dim=-1)
        c = f * c + i * g.tanh()
        h = o * c.tanh()
        hidden.append(h)
    return torch.stack(hidden, 2), h, c


def sublayers_in_torch(given: Tensor, memory: Tensor, weights: Sublayers, splines: Splines):
    """Run the sublayers on any device; also what the compiled loop is tested against."""
    outputs = []
    for at_t in given.unbind(2):
        output = kan(torch.baddbmm(at_t, memory, weights.states), weights, splines)
        memory = weights.new[:, None] * output + weights.old[:, None] * memory
        outputs.append(output)
    return torch.stack(outputs, 2), memory


# ------------------------------------------------------------------------------------------- compiled


class CompiledGates(torch.autograd.Function):
    """``gates_in_torch``, compiled."""

    @staticmethod
    def forward(ctx, given, opened, recurrent, h, c):
        """Run forward; keep the gates and cells of every bar."""
        from hissbt.models import tkan_kernels  # here, so that networks load without numba

        given, opened, recurrent, first_h, first_c = (z.contiguous() for z in (given, opened, recurrent, h, c))
        gates, cells, hidden = torch.empty_like(given), torch.empty_like(opened), torch.empty_like(opened)
        h, c = first_h.clone(), first_c.clone()
        arrays = [_flat(z) for z in (h, c, gates, cells, hidden)]
        tkan_kernels.gates_forward(_flat(given), _flat(opened), _array(recurrent), *arrays)
        ctx.save_for_backward(opened, recurrent, first_h, first_c, gates, cells, hidden)
        return hidden, h, c

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_hidden, grad_h, grad_c):
        """Run backward."""
        from hissbt.models import tkan_kernels

        opened, recurrent, h, c, gates, cells, hidden = ctx.saved_tensors
        grad_h, grad_c = grad_h.clone().contiguous(), grad_c.clone().contiguous()
        grad_given, grad_opened = torch.empty_like(gates), torch.empty_like(opened)
        arrays = [_flat(z) for z in (c, gates, cells, grad_hidden.contiguous(), grad_h, grad_c)]
        tkan_kernels.gates_backward(
            _flat(opened), _array(recurrent), *arrays, _flat(grad_given), _flat(grad_opened)
        )  # fmt: skip
        before = torch.cat([h[:, :, None], hidden[:, :, :-1]], dim=2).flatten(1, 2)
        grad_recurrent = before.transpose(1, 2) @ grad_given.flatten(1, 2)
        return grad_given, grad_opened, grad_recurrent, grad_h, grad_c


class CompiledSublayers(torch.autograd.Function):
    """``sublayers_in_torch``, compiled."""

    @staticmethod
    def forward(ctx, splines, given, memory, *weights):
        """Run forward; keep the normalized inputs, memories and outputs of every bar."""
        from hissbt.models import tkan_kernels

        given, weights = given.contiguous(), [z.contiguous() for z in weights]
        memory = memory.clone(memory_format=torch.contiguous_format)
        normals, rates = torch.empty_like(given), given.new_empty(given.shape[:3])
        memories, outputs = (given.new_empty(*given.shape[:3], memory.shape[-1]) for _ in range(2))
        kept = normals, rates, memories, outputs
        eps = _array(given.new_tensor(NORM_EPS))[()]
        tkan_kernels.memory_forward(
            _flat(given), *map(_array, weights), *_shape(splines, given), eps, _flat(memory), *map(_flat, kept)
        )
        ctx.splines = splines
        ctx.save_for_backward(*weights, *kept)
        return outputs, memory

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_outputs, grad_memory):
        """Run backward."""
        from hissbt.models import tkan_kernels

        *weights, normals, rates, memories, outputs = ctx.saved_tensors
        grad_memory, grad_given = grad_memory.clone().contiguous(), torch.empty_like(normals)
        grads = [torch.zeros_like(z) for z in weights]
        read = [_array(z) for z, name in zip(weights, Sublayers._fields, strict=True) if name != "bias"]
        kept = normals, rates, memories, outputs, grad_outputs.contiguous(), grad_memory, grad_given
        tkan_kernels.memory_backward(
            *read, *_shape(ctx.splines, outputs), *map(_flat, kept), *map(_array, grads)
        )  # fmt: skip
        return None, grad_given, grad_memory, *grads


def run_gates(given: Tensor, opened: Tensor, recurrent: Tensor, h: Tensor, c: Tensor):
    """Run given [C,B,T,3U], opened [C,B,T,U] from h, c [C,B,U]; return h of all bars [C,B,T,U], last h and c."""
    run = CompiledGates.apply if _compiles(given) else gates_in_torch
    return run(given, opened, recurrent, h, c)


def run_sublayers(given: Tensor, memory: Tensor, weights: Sublayers, splines: Splines):
    """Run given [G,B,T,I] from memory [G,B,O]; return the outputs of all bars [G,B,T,O] and the last memory."""
    if _compiles(given):
        return CompiledSublayers.apply(splines, given, memory, *weights)
    return sublayers_in_torch(given, memory, weights, splines)


def _compiles(x: Tensor) -> bool:
    return x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)


def _array(tensor: Tensor):
    """Return a numpy array on the memory of a contiguous CPU tensor."""
    return tensor.detach().numpy()


def _flat(tensor: Tensor):
    """Return a numpy array on the memory of [G,B,..], as [G*B,..]."""
    return _array(tensor.flatten(0, 1))


def _shape(splines: Splines, like: Tensor) -> tuple:
    """Return what the kernels need of the splines: centers, scale, half, order, factors, in one precision."""
    scale, half = _array(like.new_tensor([splines.scale, splines.half]))
    return _array(splines.centers(like)), scale, half, splines.order, _array(splines.factors(like))
