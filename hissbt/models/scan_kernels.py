"""The selective scan and its gradient on one CPU core, compiled by numba and kept on disk.

``hissbt.models.selective_scan`` has the equations, the letters and the same scan in torch. Here the inner loops
run over the E channels of one bar and one state, so that they become vector instructions; sums may be reordered
for that (``FAST``), but NaN and infinities keep their meaning. One core, because sums then have one order and a
fork or another library's threads cannot disturb it; the interpreter lock is released meanwhile.
"""

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}
LOG2_E = math.log2(math.e)

f32 = np.float32
kernel = njit(fastmath=FAST, error_model="numpy")
entry = njit(fastmath=FAST, error_model="numpy", nogil=True, cache=True)


@intrinsic
def _as_float(typingctx, bits):
    """Read the bits of an int32 as a float32."""

    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), codegen


def exp2(x):
    """2^x: the library's in float64; in float32 a polynomial times a power of two, which vectorizes.

    The polynomial has degree 5 and the least relative error on [-1/2, 1/2] with 2^0 = 1 exactly: 9e-8, with
    rounding below 2e-7. Below x = -126.5 the result is 0, so that no decay is a denormal number; from x = 127 on
    it grows no more.
    """
    return _exp2_of_float32(x) if isinstance(x, np.float32) else np.exp2(x)


@kernel
def _exp2_of_float32(x):
    x = min(max(x, f32(-127.0)), f32(127.0))  # in this order NaN stays NaN
    k = np.floor(x + f32(0.5))
    r = x - k
    p = f32(1.32695213e-3)
    p = p * r + f32(9.67129134e-3)
    p = p * r + f32(5.55071086e-2)
    p = p * r + f32(2.40222469e-1)
    p = p * r + f32(6.93147004e-1)
    p = p * r + f32(1.0)
    return p * _as_float((np.int32(k) + np.int32(127)) << np.int32(23))  # exponent bits: 0 is 0.0


@overload(exp2)
def _compiled_exp2(x):
    if x == types.float32:
        return lambda x: _exp2_of_float32(x)
    return lambda x: np.exp2(x)


# ---------------------------------------------------------------------------- one bar of one sequence


@kernel
def _advance(h, rate, x, dt, b, c, d, y):
    """h <- exp(dt A) h + dt x b, y = c . h + d x; rate is A log2(e)."""
    for e in range(len(x)):
        y[e] = d[e] * x[e]
    for n in range(len(b)):
        h_n, rate_n, b_n, c_n = h[n], rate[n], b[n], c[n]
        for e in range(len(x)):
            h_n[e] = exp2(dt[e] * rate_n[e]) * h_n[e] + dt[e] * x[e] * b_n
            y[e] += c_n * h_n[e]


@kernel
def _repeat(h, rate, x, dt, b, grad_y, decay, decayed, grad_c):
    """Advance h again; keep the decay exp(dt A) and the decayed old state, and read the gradient of c off."""
    for n in range(len(b)):
        h_n, rate_n, b_n, decay_n, decayed_n = h[n], rate[n], b[n], decay[n], decayed[n]
        total = grad_c.dtype.type(0)
        for e in range(len(x)):
            decay_n[e] = exp2(dt[e] * rate_n[e])
            decayed_n[e] = decay_n[e] * h_n[e]
            h_n[e] = decayed_n[e] + dt[e] * x[e] * b_n
            total += h_n[e] * grad_y[e]
        grad_c[n] = total


@kernel
def _retreat(grad_h, decay, decayed, a, x, dt, b, c, d, grad_y, grad_x, grad_dt, grad_a, grad_b, grad_d):
    """Take grad_h, which reaches h from later bars, back by one bar; set or add to the other gradients."""
    for e in range(len(x)):
        grad_x[e] = 0  # of dt x, until the end
        grad_dt[e] = 0
        grad_d[e] += grad_y[e] * x[e]
    for n in range(len(b)):
        grad_h_n, decay_n, decayed_n, a_n, grad_a_n = grad_h[n], decay[n], decayed[n], a[n], grad_a[n]
        b_n, c_n = b[n], c[n]
        total = grad_b.dtype.type(0)
        for e in range(len(x)):
            g = grad_h_n[e] + c_n * grad_y[e]  # now all that reaches h
            grad_h_n[e] = g * decay_n[e]
            total += g * dt[e] * x[e]
            grad_x[e] += g * b_n
            exponent = g * decayed_n[e]  # gradient of dt A
            grad_dt[e] += exponent * a_n[e]
            grad_a_n[e] += exponent * dt[e]
        grad_b[n] = total
    for e in range(len(x)):
        grad_dt[e] += grad_x[e] * x[e]
        grad_x[e] = grad_x[e] * dt[e] + grad_y[e] * d[e]


# -------------------------------------------------------------------------------- whole sequences


@entry
def forward(x, dt, a, b, c, d, chunk, y, h, starts):
    """Scan x [B,T,E] into y [B,T,E], the last state h [B,N,E], and that before each chunk [B,chunks,N,E]."""
    rate = a * a.dtype.type(LOG2_E)
    for i in range(x.shape[0]):
        h[i] = 0
        for t in range(x.shape[1]):
            if t % chunk == 0:
                starts[i, t // chunk] = h[i]
            _advance(h[i], rate, x[i, t], dt[i, t], b[i, t], c[i, t], d, y[i, t])


@entry
def backward(x, dt, a, b, c, d, chunk, starts, grad_y, grad_h, grad_x, grad_dt, grad_a, grad_b, grad_c, grad_d):
    """Fill grad_x .. grad_d with the gradients, given grad_y [B,T,E] and grad_h [B,N,E], which is used up."""
    length = x.shape[1]
    rate = a * a.dtype.type(LOG2_E)
    h, own_grad_a, own_grad_d = np.empty_like(a), np.empty_like(a), np.empty_like(d)
    decay = np.empty((chunk, *a.shape), a.dtype)
    decayed = np.empty((chunk, *a.shape), a.dtype)
    grad_a[:] = 0
    grad_d[:] = 0
    for i in range(x.shape[0]):
        own_grad_a[:] = 0  # a sum for each sequence, then over them: shorter sums round less
        own_grad_d[:] = 0
        for k in range(starts.shape[1] - 1, -1, -1):
            h[:] = starts[i, k]
            first, stop = k * chunk, min((k + 1) * chunk, length)
            for t in range(first, stop):
                j = t - first
                _repeat(h, rate, x[i, t], dt[i, t], b[i, t], grad_y[i, t], decay[j], decayed[j], grad_c[i, t])
            for t in range(stop - 1, first - 1, -1):
                j = t - first
                _retreat(
                    grad_h[i], decay[j], decayed[j], a, x[i, t], dt[i, t], b[i, t], c[i, t], d, grad_y[i, t],
                    grad_x[i, t], grad_dt[i, t], own_grad_a, grad_b[i, t], own_grad_d,
                )  # fmt: skip
        grad_a += own_grad_a
        grad_d += own_grad_d
