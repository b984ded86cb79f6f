"""The selective scan of Mamba and its gradient: compiled on the CPU, torch's own operations elsewhere.

    h[t] = exp(dt[t] A) h[t-1] + dt[t] x[t] b[t],  y[t] = c[t] . h[t] + d x[t],  from h = 0

(Gu, Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", 2023, arXiv 2312.00752, eq. 2a and
algorithm 2; the input matrix is discretized by Euler's rule, as in the official code.) Letters: B batch, T bars,
E channels, N state size; A is diagonal and is given as a [N,E].

Both forms put channels last, so that the long axis is the one that is vectorized, and keep only the state at
the start of each chunk of bars; their backward pass recomputes the rest chunk by chunk (as the paper's section
3.3.2 does), so that a chunk stays in the CPU's cache. The gradient of the recurrence is the same recurrence in
reverse.
"""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 16  # bars whose states are held at once


def selective_scan(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, Tensor]:
    """Scan x [B,T,E] with step sizes dt [B,T,E], a [N,E], input and output weights b, c [B,T,N] and skip d [E].

    Return y [B,T,E] and the last state h [B,N,E]. There is a gradient with respect to all six inputs, but none
    of that gradient.
    """
    inputs = (x, dt, a, b, c, d)
    kinds = {(z.device.type, z.dtype) for z in inputs}
    compiled = kinds in ({("cpu", torch.float32)}, {("cpu", torch.float64)})
    return (CompiledScan if compiled else TorchScan).apply(*inputs)


# -------------------------------------------------------------------------------------------- compiled


class CompiledScan(torch.autograd.Function):
    """The scan on one CPU core, by ``hissbt.models.scan_kernels``; its first call loads or compiles them."""

    @staticmethod
    def forward(ctx, x, dt, a, b, c, d):
        """Scan forward; keep the inputs and the state at each chunk's start."""
        from hissbt.models import scan_kernels  # numba is not needed to import networks

        inputs = [z.contiguous() for z in (x, dt, a, b, c, d)]
        batch, length, _ = x.shape
        y, h = inputs[0].new_empty(x.shape), x.new_empty(batch, *a.shape)
        starts = x.new_empty(batch, -(-length // CHUNK), *a.shape)
        scan_kernels.forward(*_arrays(inputs), CHUNK, *_arrays([y, h, starts]))
        ctx.save_for_backward(*inputs, starts)
        return y, h

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y, grad_h):
        """Scan backward."""
        from hissbt.models import scan_kernels

        *inputs, starts = ctx.saved_tensors
        given = [starts, grad_y.contiguous(), grad_h.clone(memory_format=torch.contiguous_format)]
        grads = [torch.empty_like(z) for z in inputs]
        scan_kernels.backward(*_arrays(inputs), CHUNK, *_arrays(given), *_arrays(grads))
        return tuple(grads)


def _arrays(tensors):
    """Return numpy arrays on the memory of contiguous CPU tensors."""
    return [z.detach().numpy() for z in tensors]


# ---------------------------------------------------------------------------------- torch's operations


class TorchScan(torch.autograd.Function):
    """The scan on any device; also what the compiled one is tested against."""

    @staticmethod
    def forward(ctx, x, dt, a, b, c, d):
        """Scan forward; keep the inputs and the state at each chunk's start."""
        h = x.new_zeros(x.shape[0], *a.shape)  # [B,N,E]
        y, starts = d * x, []
        for i in range(0, x.shape[1], CHUNK):
            s = slice(i, i + CHUNK)
            starts.append(h)
            _, states = _scan_chunk(x[:, s], dt[:, s], a, b[:, s], h)
            y[:, s] += (c[:, s, None] @ states).squeeze(-2)
            h = states[:, -1].clone()
        ctx.save_for_backward(x, dt, a, b, c, d, *starts)
        return y, h

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_y, grad_h):
        """Scan backward."""
        x, dt, a, b, c, d, *starts = ctx.saved_tensors
        grad_u, grad_dt, grad_b, grad_c = (torch.empty_like(z) for z in (x, dt, b, c))  # u is dt x
        grad_a = torch.zeros_like(a)
        for k in reversed(range(len(starts))):
            s, h = slice(k * CHUNK, (k + 1) * CHUNK), starts[k]
            decay, states = _scan_chunk(x[:, s], dt[:, s], a, b[:, s], h)
            grad_c[:, s] = (states @ grad_y[:, s, :, None]).squeeze(-1)
            grad = c[:, s, :, None] * grad_y[:, s, None]  # [B,T,N,E]: what reaches h[t] from y[t]
            for t in reversed(range(grad.shape[1])):
                grad[:, t] += grad_h  # what reaches it from later bars
                grad_h = decay[:, t] * grad[:, t]
            grad_u[:, s] = (b[:, s, None] @ grad).squeeze(-2)
            grad_b[:, s] = (grad @ (dt * x)[:, s, :, None]).squeeze(-1)
            exponent = grad * decay * torch.cat([h[:, None], states[:, :-1]], dim=1)  # gradient of dt A
            grad_dt[:, s] = (exponent * a).sum(-2)
            grad_a += (exponent * dt[:, s, None]).sum((0, 1))
        grad_x = grad_u * dt + grad_y * d
        return grad_x, grad_dt + grad_u * x, grad_a, grad_b, grad_c, (grad_y * x).sum((0, 1))


def _scan_chunk(x: Tensor, dt: Tensor, a: Tensor, b: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    """Return the decays exp(dt A) of a few bars and the states after them, both [B,T,N,E]."""
    decay = torch.exp(dt[:, :, None] * a)
    states = (dt * x)[:, :, None] * b[..., None]
    for t in range(states.shape[1]):
        h = states[:, t].addcmul_(decay[:, t], h)
    return decay, states
