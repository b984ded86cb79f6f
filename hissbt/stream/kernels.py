"""The compiled recurrence: one numba function that runs any network, bar by bar.

A network is a *plan* (``hissbt.stream.plan``): rows of eight int64, an operation and where its operands lie in two
float32 buffers, the weights W and the state S. One function, ``run``, walks the plan for every bar. It is compiled
once for all networks and kept on disk. Each operation has a twin in plain numpy in ``hissbt.stream.reference``.

Written for speed, hence: inner loops run over channels of slices, which LLVM turns into vector instructions;
division by zero gives inf, since Python's check for it would prevent that; nothing is allocated; exp and erf are
polynomials in float32. Sums may be reordered (``FAST``), but NaN and infinities keep their meaning.

The same compiled code serves one bar and many, so both give the same bits. For that, the operations and the walk
through them are copied into ``run`` before it is compiled (``inline="always"``). Were they functions of their own,
the process that compiles would call one version of them and a process that loads stored code another, each with
its sums in another order. Those marked ``exact`` may be: without fast math there is one order, and they compile
sooner.
"""

import hashlib
import math
from pathlib import Path

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from hissbt import features, limits, targets
from hissbt.features import step_all
from hissbt.targets import in_units

OPERATIONS = (
    "linear",
    "norm",
    "s4d",
    "gated_add",
    "add",
    "push",
    "gate",
    "mean",
    "copy",
    "conv",
    "selective_scan",
    "lstm",
    "gru",
    "attention",
    "activate",
    "heads",
    "splines",
    "memory",
    "tkan",
    "switching",
    "patch",
    "pool",
    "posterior",
    "surprise",
)
(
    LINEAR,
    NORM,
    S4D,
    GATED_ADD,
    ADD,
    PUSH,
    GATE,
    MEAN,
    COPY,
    CONV,
    SELECTIVE_SCAN,
    LSTM,
    GRU,
    ATTENTION,
    ACTIVATE,
    HEADS,
    SPLINES,
    MEMORY,
    TKAN,
    SWITCHING,
    PATCH,
    POOL,
    POSTERIOR,
    SURPRISE,
) = range(len(OPERATIONS))

f32 = np.float32
REACH = f32(limits.REACH)
DAY_S = 86400.0
BOUND = limits.BOUND
HALF_LOG_2PI = 0.5 * math.log(2.0 * math.pi)
FAST = {"contract", "reassoc", "nsz", "arcp", "afn"}
kernel = njit(fastmath=FAST, error_model="numpy", inline="always")
exact = njit(error_model="numpy")


@intrinsic
def _as_float(typingctx, bits):
    """Read the bits of an int32 as a float32."""

    def codegen(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), codegen


@intrinsic
def _use_wide_vectors(typingctx):
    """Let LLVM use vectors of 512 bits in the function that this is called in, where the processor has them.

    On most of these it prefers 256, for fear of lower clocks, which newer ones do not have; a network
    is a quarter faster with 512. Written past llvmlite's list of attributes, which holds those without a value.
    """

    def codegen(context, builder, signature, arguments):
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), codegen


# --- functions of one number ----------------------------------------------------------------------------------


@kernel
def exp(x):
    """e^x in float32, relative error below 1.2e-7: 2^k times a polynomial (Cephes expf coefficients)."""
    x = min(max(x, f32(-87.0)), f32(88.0))
    k = np.floor(x * f32(1.44269504) + f32(0.5))
    r = x - k * f32(0.693359375) + k * f32(2.12194440e-4)
    p = f32(1.9875691500e-4)
    p = p * r + f32(1.3981999507e-3)
    p = p * r + f32(8.3334519073e-3)
    p = p * r + f32(4.1665795894e-2)
    p = p * r + f32(1.6666665459e-1)
    p = p * r + f32(5.0000001201e-1)
    p = p * r * r + r + f32(1.0)
    return p * _as_float((np.int32(k) + np.int32(127)) << np.int32(23))


@kernel
def exp2_below(x):
    """2^x for x <= 0 in float32, 2^-126 below that, relative error below 2e-7 (minimax polynomial on [0, 1))."""
    x = max(x, f32(-126.0))
    k = np.floor(x)
    r = x - k
    p = f32(1.8775767e-3)
    p = p * r + f32(8.9893397e-3)
    p = p * r + f32(5.5826318e-2)
    p = p * r + f32(2.4015361e-1)
    p = p * r + f32(6.9315308e-1)
    p = p * r + f32(9.9999994e-1)
    return p * _as_float((np.int32(k) + np.int32(127)) << np.int32(23))


@kernel
def sigmoid(x):
    """1 / (1 + e^-x)."""
    return f32(1.0) / (f32(1.0) + exp(-x))


@kernel
def tanh(x):
    """2 sigmoid(2x) - 1, absolute error below 3e-7."""
    return f32(2.0) / (f32(1.0) + exp(f32(-2.0) * x)) - f32(1.0)


@kernel
def softplus(x):
    """ln(1 + e^x) = max(x, 0) + ln(1 + y) with y = e^-|x| <= 1, by the series of 2 artanh(y / (2 + y))."""
    y = exp(-abs(x))
    s = y / (f32(2.0) + y)
    q = s * s
    p = f32(1 / 13)
    p = p * q + f32(1 / 11)
    p = p * q + f32(1 / 9)
    p = p * q + f32(1 / 7)
    p = p * q + f32(1 / 5)
    p = p * q + f32(1 / 3)
    return max(x, f32(0.0)) + f32(2.0) * s * (p * q + f32(1.0))


@kernel
def gelu(x):
    """x Phi(x), with erf by Abramowitz and Stegun 7.1.26: absolute error of erf below 5e-7 in float32."""
    z = abs(x) * f32(0.70710678)
    t = f32(1.0) / (f32(1.0) + f32(0.3275911) * z)
    p = f32(1.061405429) * t - f32(1.453152027)
    p = p * t + f32(1.421413741)
    p = p * t - f32(0.284496736)
    p = p * t + f32(0.254829592)
    erf = f32(1.0) - p * t * exp(-z * z)
    return f32(0.5) * x * (f32(1.0) + (erf if x >= f32(0.0) else -erf))


# --- operations: S is the state, W the weights; x, y are places in S, w, b places in W -------------------------


@kernel
def linear(S, W, x, y, n, m, w, b):
    """y[m] = b + A x[n], A stored as [n,m]; b = -1 for none; eight rows of A at a time save passes over y."""
    X, Y = S[x : x + n], S[y : y + m]
    if b < 0:
        for o in range(m):
            Y[o] = f32(0.0)
    else:
        B = W[b : b + m]
        for o in range(m):
            Y[o] = B[o]
    eights = n // 8 * 8
    for i in range(0, eights, 8):
        x0, x1, x2, x3 = X[i], X[i + 1], X[i + 2], X[i + 3]
        x4, x5, x6, x7 = X[i + 4], X[i + 5], X[i + 6], X[i + 7]
        A = W[w + i * m : w + (i + 8) * m]
        for o in range(m):
            Y[o] += (
                x0 * A[o]
                + x1 * A[o + m]
                + x2 * A[o + 2 * m]
                + x3 * A[o + 3 * m]
                + x4 * A[o + 4 * m]
                + x5 * A[o + 5 * m]
                + x6 * A[o + 6 * m]
                + x7 * A[o + 7 * m]
            )
    for i in range(eights, n):
        x0 = X[i]
        A = W[w + i * m : w + (i + 1) * m]
        for o in range(m):
            Y[o] += x0 * A[o]


@kernel
def norm(S, W, x, y, n, w):
    """y[n] = layer norm of x[n], gain and bias [2,n] at w, epsilon 1e-5."""
    normalize(S, W, x, y, n, w, f32(1e-5))


@kernel
def normalize(S, W, x, y, n, w, epsilon):
    """y[n] = layer norm of x[n], gain and bias [2,n] at w."""
    X, Y, gain, bias = S[x : x + n], S[y : y + n], W[w : w + n], W[w + n : w + 2 * n]
    mean = f32(0.0)
    for i in range(n):
        mean += X[i]
    mean /= f32(n)
    variance = f32(0.0)
    for i in range(n):
        variance += (X[i] - mean) * (X[i] - mean)
    scale = f32(1.0) / f32(math.sqrt(variance / f32(n) + epsilon))
    for i in range(n):
        Y[i] = (X[i] - mean) * scale * gain[i] + bias[i]


@kernel
def s4d(S, W, x, y, n, pairs, w, h):
    """h = A h + B x, y = gelu(2 Re(C h) + D x); re, im of A, B, 2C [6,pairs,n], D [n] at w; h [2,pairs,n]."""
    size = pairs * n
    X, Y, D = S[x : x + n], S[y : y + n], W[w + 6 * size : w + 6 * size + n]
    for i in range(n):
        Y[i] = D[i] * X[i]
    for p in range(pairs):
        at = w + p * n
        a_re, a_im = W[at : at + n], W[at + size : at + size + n]
        b_re, b_im = W[at + 2 * size : at + 2 * size + n], W[at + 3 * size : at + 3 * size + n]
        c_re, c_im = W[at + 4 * size : at + 4 * size + n], W[at + 5 * size : at + 5 * size + n]
        h_re, h_im = S[h + p * n : h + (p + 1) * n], S[h + size + p * n : h + size + (p + 1) * n]
        for i in range(n):
            u, re, im = X[i], h_re[i], h_im[i]
            new_re = a_re[i] * re - a_im[i] * im + b_re[i] * u
            new_im = a_re[i] * im + a_im[i] * re + b_im[i] * u
            h_re[i] = new_re
            h_im[i] = new_im
            Y[i] += c_re[i] * new_re - c_im[i] * new_im
    for i in range(n):
        Y[i] = gelu(Y[i])


@kernel
def gated_add(S, x, y, n):
    """y[n] += x[:n] sigmoid(x[n:2n]): a gated linear unit onto the residual."""
    A, B, Y = S[x : x + n], S[x + n : x + 2 * n], S[y : y + n]
    for i in range(n):
        Y[i] += A[i] * sigmoid(B[i])


@kernel
def add(S, x, y, n):
    """y[n] += x[n]."""
    X, Y = S[x : x + n], S[y : y + n]
    for i in range(n):
        Y[i] += X[i]


@kernel
def copy(S, x, y, n):
    """y[n] = x[n]."""
    X, Y = S[x : x + n], S[y : y + n]
    for i in range(n):
        Y[i] = X[i]


@kernel
def mean(S, x, y, n, rows):
    """y[n] = mean of the rows of x[rows,n]."""
    copy(S, x, y, n)
    for r in range(1, rows):
        add(S, x + r * n, y, n)
    Y = S[y : y + n]
    for i in range(n):
        Y[i] /= f32(rows)


@kernel
def conv(S, W, x, y, n, width, w, h):
    """y[n] = silu(bias + causal depthwise convolution of x[n]); weights [width,n], bias at w; h [width-1,n]."""
    X, Y, B = S[x : x + n], S[y : y + n], W[w + width * n : w + width * n + n]
    newest = W[w + (width - 1) * n : w + width * n]
    for i in range(n):
        Y[i] = B[i] + newest[i] * X[i]
    for k in range(width - 1):
        K, P = W[w + k * n : w + (k + 1) * n], S[h + k * n : h + (k + 1) * n]
        for i in range(n):
            Y[i] += K[i] * P[i]
    for k in range(width - 2):
        copy(S, h + (k + 1) * n, h + k * n, n)
    copy(S, x, h + (width - 2) * n, n)
    for i in range(n):
        Y[i] = Y[i] * sigmoid(Y[i])


@kernel
def selective_scan(S, W, x, y, n, states, w, h, rank):
    """Mamba's recurrence h = exp(dt A) h + dt u b, y = (c h + D u) silu(gate), dt = softplus of its raw value.

    At x: raw input, gate, u, raw dt, each [n], then a projection [rank] that is not used here, b and c [states].
    A [states,n], D [n] at w; h [states,n].
    """
    G, U, T = S[x + n : x + 2 * n], S[x + 2 * n : x + 3 * n], S[x + 3 * n : x + 4 * n]
    B, C = (
        S[x + 4 * n + rank : x + 4 * n + rank + states],
        S[x + 4 * n + rank + states : x + 4 * n + rank + 2 * states],
    )
    Y, D = S[y : y + n], W[w + states * n : w + (states + 1) * n]
    for i in range(n):
        dt = softplus(T[i])
        Y[i] = D[i] * U[i]
        U[i] *= dt
        T[i] = dt * f32(1.44269504)  # e^(dt A) = 2^(dt A / ln 2), and dt A is negative
    for k in range(states):
        b, c = B[k], C[k]
        A, H = W[w + k * n : w + (k + 1) * n], S[h + k * n : h + (k + 1) * n]
        for i in range(n):
            new = exp2_below(T[i] * A[i]) * H[i] + U[i] * b
            H[i] = new
            Y[i] += c * new
    for i in range(n):
        Y[i] = Y[i] * G[i] * sigmoid(G[i])


@kernel
def lstm(S, x, y, n):
    """c = sigmoid(f) c + sigmoid(i) tanh(g), h = sigmoid(o) tanh(c); h, c [2,n] at y.

    At x: i, f, g, o [4,n] from the input, then what the old h adds to them.
    """
    H, C = S[y : y + n], S[y + n : y + 2 * n]
    add(S, x + 4 * n, x, 4 * n)
    I, F, G, O = S[x : x + n], S[x + n : x + 2 * n], S[x + 2 * n : x + 3 * n], S[x + 3 * n : x + 4 * n]  # noqa: E741
    for i in range(n):
        c = sigmoid(F[i]) * C[i] + sigmoid(I[i]) * tanh(G[i])
        C[i] = c
        H[i] = sigmoid(O[i]) * tanh(c)


@kernel
def gru(S, x, y, n):
    """h = (1 - sigmoid(z)) tanh(new + sigmoid(r) new_h) + sigmoid(z) h; h [n] at y.

    At x: r, z, new [3,n] from the input, then what the old h adds to r and z, and new_h.
    """
    H, New, NewH = S[y : y + n], S[x + 2 * n : x + 3 * n], S[x + 5 * n : x + 6 * n]
    add(S, x + 3 * n, x, 2 * n)
    R, Z = S[x : x + n], S[x + n : x + 2 * n]
    for i in range(n):
        z = sigmoid(Z[i])
        H[i] = (f32(1.0) - z) * tanh(New[i] + sigmoid(R[i]) * NewH[i]) + z * H[i]


@kernel
def splines(S, W, x, y, n, grid, order, w):
    """y[1+grid+order,n] = relu of u, then the B-splines of an order on ``grid`` intervals of [-1, 1] at u.

    u[n] is the layer norm of x[n], epsilon 1e-3; gain, bias [2,n] at w, and after them the factors of the splines'
    terms, see ``hissbt.models.tkan_scan.Splines``. x is lost.
    """
    normalize(S, W, x, y, n, w, f32(1e-3))
    count, half, scale = grid + order, f32(order + 1) / f32(2.0), f32(grid) / f32(2.0)
    U, T = S[y : y + n], S[x : x + n]
    for s in range(count):
        B, center = S[y + (1 + s) * n : y + (2 + s) * n], f32(s) + f32(1 - order - grid) / f32(2.0)
        for i in range(n):
            B[i] = f32(0.0)
        for m in range((order + 2) // 2):
            reach, factor = half - f32(m), W[w + 2 * n + m]
            for i in range(n):
                distance = U[i] * scale - center
                T[i] = factor if -half <= distance and distance < half else f32(0.0)
            for _ in range(order):
                for i in range(n):
                    T[i] *= max(reach - abs(U[i] * scale - center), f32(0.0))
            for i in range(n):
                B[i] += T[i]
    for i in range(n):
        U[i] = max(U[i], f32(0.0))


@kernel
def memory(S, W, x, y, n, w):
    """y[n] = new x[n] + old y[n]; new, old [2,n] at w."""
    X, Y, new, old = S[x : x + n], S[y : y + n], W[w : w + n], W[w + n : w + 2 * n]
    for i in range(n):
        Y[i] = new[i] * X[i] + old[i] * Y[i]


@kernel
def tkan(S, x, y, n):
    """c = sigmoid(f) c + sigmoid(i) tanh(sigmoid(g)), h = sigmoid(o) tanh(c); h, c [2,n] at y.

    At x: what the old h adds to i, f, g [3,n], then o from the sublayers, and i, f, g [3,n] from the input.
    """
    H, C, O = S[y : y + n], S[y + n : y + 2 * n], S[x + 3 * n : x + 4 * n]  # noqa: E741
    add(S, x + 4 * n, x, 3 * n)
    I, F, G = S[x : x + n], S[x + n : x + 2 * n], S[x + 2 * n : x + 3 * n]  # noqa: E741
    for i in range(n):
        c = sigmoid(F[i]) * C[i] + sigmoid(I[i]) * tanh(sigmoid(G[i]))
        C[i] = c
        H[i] = sigmoid(O[i]) * tanh(c)


@exact
def switching(S, W, x, y, k, w, h, realized, form):
    """Hamilton filter and mixture of k regimes, in double precision, as ``hissbt.models.switching`` has them.

    At x: each regime's mean of the next return [k], then what the transition network says [k,k]. At h, doubles:
    log probabilities of the regimes [k], transition matrix of the step to this bar [k,k], the means of the bar
    before [k]. At w, doubles: deviations [k], what a return of 0 is. The return of this bar lies at ``realized``.
    ``form`` is 0 for a row softmax, 1 for the multiplied update, 2 for that with factors of 1 on the diagonal.
    At y: mean, logit of a rise, deviation of the next return, then the probabilities of its regime [k].
    """
    state, constants = S[h : h + 2 * (2 * k + k * k)].view(np.float64), W[w : w + 2 * (k + 1)].view(np.float64)
    log_filtered, matrix, means, zero = state[:k], state[k : k + k * k], state[k + k * k :], constants[k]
    for j in range(k):
        score = (np.float64(S[realized]) - means[j]) / constants[j]
        means[j] = log_predicted(log_filtered, matrix, k, j) - 0.5 * score * score - math.log(constants[j])
    top = means[0]
    for j in range(1, k):
        top = max(top, means[j])
    density = 0.0
    for j in range(k):
        density += math.exp(means[j] - top)
    density = top + math.log(density)
    for j in range(k):
        log_filtered[j] = means[j] - density
    for i in range(k):
        row = matrix[i * k : (i + 1) * k]
        for j in range(k):
            raw = np.float64(S[x + k + i * k + j])
            if form == 0:
                row[j] = raw
            elif form == 1 or i != j:
                row[j] *= math.exp(min(max(raw, 0.0), 50.0))
        softmax(row)
    for j in range(k):
        means[j] = 0.0
        for i in range(k):
            means[j] += math.exp(log_filtered[i]) * matrix[i * k + j]
    mean, variance, up, down = 0.0, 0.0, 1e-300, 1e-300
    for j in range(k):
        mean += means[j] * np.float64(S[x + j])
    for j in range(k):
        belief, at_j, deviation = means[j], np.float64(S[x + j]), constants[j]
        variance += belief * (deviation * deviation + (at_j - mean) * (at_j - mean))
        above = (at_j - zero) / deviation * 0.7071067811865476
        up += belief * 0.5 * math.erfc(-above)
        down += belief * 0.5 * math.erfc(above)
        S[y + 3 + j] = f32(belief)
        means[j] = at_j
    S[y] = f32(mean)
    S[y + 1] = f32(math.log(up) - math.log(down))
    S[y + 2] = f32(math.sqrt(variance))


@exact
def log_predicted(log_filtered, matrix, k, j):
    """Return the log probability of regime j at this bar, before it is seen; where it is 0, a number very low."""
    top = -np.inf
    for i in range(k):
        top = max(top, log_filtered[i] + log_or_least(matrix[i * k + j]))
    total = 0.0
    for i in range(k):
        total += math.exp(log_filtered[i] + log_or_least(matrix[i * k + j]) - top)
    return top + math.log(total)


@exact
def log_or_least(probability):
    """Return the logarithm, and -1e30 of 0."""
    return math.log(probability) if probability > 0.0 else -1e30


@exact
def softmax(X):
    """X = e^X, divided by its sum."""
    top, total = X[0], 0.0
    for i in range(1, len(X)):
        top = max(top, X[i])
    for i in range(len(X)):
        X[i] = math.exp(X[i] - top)
        total += X[i]
    for i in range(len(X)):
        X[i] /= total


@exact
def patch(S, x, y, n, rows):
    """y[rows,n] = its own rows but the first, then 3 tanh(x[n] / 3): the newest values in their order, bent."""
    for k in range(rows - 1):
        copy(S, y + (k + 1) * n, y + k * n, n)
    X, Y = S[x : x + n], S[y + (rows - 1) * n : y + rows * n]
    for i in range(n):
        Y[i] = REACH * tanh(X[i] / REACH)


@exact
def pool(S, W, x, y, n, stride, count, w, h, bars):
    """y[n] = mean of x[n] and of what it was ``stride``, 2 ``stride``, … bars before, ``count`` values in all.

    Before the first bar it was the vector [n] at w. At h: a ring [(count-1) stride + 1,n] of past values, in which
    bar number ``bars`` (from 1) has slot (bars - 1) % length.
    """
    length, seen = (count - 1) * stride + 1, min(count, (bars - 1) // stride + 1)
    X, Y, First, unseen = S[x : x + n], S[y : y + n], W[w : w + n], f32(count - seen)
    copy(S, x, h + (bars - 1) % length * n, n)
    for i in range(n):
        Y[i] = X[i] + unseen * First[i]
    for k in range(1, seen):
        add(S, h + (bars - 1 - k * stride) % length * n, y, n)
    for i in range(n):
        Y[i] /= f32(count)


@exact
def posterior(S, x, y, n, kl, prior):
    """y[n] = means of normal variables, and at ``kl`` their divergence (nats) from the prior, in double precision.

    At x: means [n], then log deviations [n] before they are bent; at ``prior`` those of the prior, by which they
    are multiplied as in ``hissbt.models.gaussian.merged``. prior = -1: it is standard, and they stay as they are.
    """
    total = 0.0
    for i in range(n):
        mean, log_std, prior_mean, prior_log_std = np.float64(S[x + i]), bent(S[x + n + i]), 0.0, 0.0
        if prior >= 0:
            prior_mean, prior_log_std = np.float64(S[prior + i]), bent(S[prior + n + i])
            precision = math.exp(2.0 * (log_std - prior_log_std))  # of the prior, over that at x
            mean = (mean + precision * prior_mean) / (1.0 + precision)
            log_std -= 0.5 * math.log1p(precision)
        shift, excess = (mean - prior_mean) * math.exp(-prior_log_std), log_std - prior_log_std
        total += 0.5 * (math.expm1(2.0 * excess) + shift * shift) - excess
        S[y + i] = f32(mean)
    S[kl] = f32(total)


@exact
def surprise(S, W, x, y, n, inputs, w):
    """S[y] = -ln p of the inputs[n] in nats, in double precision.

    At x: means [n], then log scales [n] before they are bent. At w, doubles: degrees of freedom of t distributions
    [n], their log densities at 0 [n]. w = -1: normal distributions.
    """
    total = 0.0
    for i in range(n):
        log_scale = bent(S[x + n + i])
        score = (np.float64(S[inputs + i]) - np.float64(S[x + i])) * math.exp(-log_scale)
        if w < 0:
            total += log_scale + 0.5 * score * score + HALF_LOG_2PI
        else:
            constants = W[w : w + 4 * n].view(np.float64)
            df, peak = constants[i], constants[n + i]
            total += log_scale - peak + 0.5 * (df + 1.0) * math.log1p(score * score / df)
    S[y] = f32(total)


@exact
def bent(log_scale):
    """BOUND tanh(x / BOUND), as ``hissbt.models.gaussian.bent``."""
    return BOUND * math.tanh(np.float64(log_scale) / BOUND)


@kernel
def highest(X):
    """Return the largest element; in four chains, since each comparison waits for the one before it."""
    a = b = c = d = X[0]
    fours = len(X) // 4 * 4
    for i in range(0, fours, 4):
        a, b, c, d = max(a, X[i]), max(b, X[i + 1]), max(c, X[i + 2]), max(d, X[i + 3])
    for i in range(fours, len(X)):
        a = max(a, X[i])
    return max(max(a, b), max(c, d))


@kernel
def total(X):
    """Return the sum; in four chains, since each addition waits for the one before it."""
    a = b = c = d = f32(0.0)
    fours = len(X) // 4 * 4
    for i in range(0, fours, 4):
        a, b, c, d = a + X[i], b + X[i + 1], c + X[i + 2], d + X[i + 3]
    for i in range(fours, len(X)):
        a += X[i]
    return (a + b) + (c + d)


@kernel
def attention(S, W, x, y, n, heads, window, w, h, bars):
    """y[n] = softmax(q k / sqrt(size) - slope * age) v in each head of n / heads = size channels.

    Over the newest ``window`` bars. At x: q, k, v [3,n], then room for the scores [window]. Slopes [heads] at w.
    At h: all k [heads,size,window], then all v [heads,window,size], both laid out for ``linear``: rings in which
    bar number ``bars`` (from 1) has slot (bars - 1) % window.
    """
    slot, seen, size, scores = (bars - 1) % window, min(bars, window), n // heads, x + 3 * n
    Z, scale = S[scores : scores + seen], f32(1.0) / f32(math.sqrt(f32(size)))
    for head in range(heads):
        q, keys, values, slope = (
            x + head * size,
            h + head * size * window,
            h + (n + head * size) * window,
            W[w + head],
        )
        for i in range(size):
            S[keys + i * window + slot] = S[q + n + i]
        copy(S, q + 2 * n, values + slot * size, size)
        linear(S, S, q, scores, size, window, keys, -1)
        for s in range(slot + 1):
            Z[s] = Z[s] * scale - slope * f32(slot - s)
        for s in range(slot + 1, seen):
            Z[s] = Z[s] * scale - slope * f32(slot + window - s)
        top = highest(Z)
        for s in range(seen):
            # The bound is below the precision of the sum. Without it products would be denormal, and slow.
            Z[s] = exp(max(Z[s] - top, f32(-60.0)))
        linear(S, S, scores, y + head * size, seen, size, values, -1)
        sum_of_weights, Y = total(Z), S[y + head * size : y + (head + 1) * size]
        for i in range(size):
            Y[i] /= sum_of_weights


@kernel
def activate(S, x, y, n):
    """y[n] = gelu(x[n])."""
    X, Y = S[x : x + n], S[y : y + n]
    for i in range(n):
        Y[i] = gelu(X[i])


@kernel
def heads(S, W, x, y, n, w, skip, features, inputs):
    """y[3] = bias [3], rows [3,n] at w times x[n], rows [3,features] at skip times the inputs, summed."""
    X, F = S[x : x + n], S[inputs : inputs + features]
    for o in range(3):
        total = W[w + o]
        row = W[w + 3 + o * n : w + 3 + (o + 1) * n]
        for i in range(n):
            total += X[i] * row[i]
        row = W[skip + o * features : skip + (o + 1) * features]
        for i in range(features):
            total += F[i] * row[i]
        S[y + o] = total
    S[y + 2] = softplus(S[y + 2])


# --- the walk through the plan ---------------------------------------------------------------------------------


@kernel
def _walk(plan, S, W, bars):
    _use_wide_vectors()
    row = 0
    while row < len(plan):
        kind, x, y, n = plan[row, 0], plan[row, 1], plan[row, 2], plan[row, 3]
        a, b, c, d = plan[row, 4], plan[row, 5], plan[row, 6], plan[row, 7]
        row += 1
        if kind == LINEAR:
            linear(S, W, x, y, n, a, b, c)
        elif kind == NORM:
            norm(S, W, x, y, n, a)
        elif kind == S4D:
            s4d(S, W, x, y, n, a, b, c)
        elif kind == GATED_ADD:
            gated_add(S, x, y, n)
        elif kind == ADD:
            add(S, x, y, n)
        elif kind == COPY:
            copy(S, x, y, n)
        elif kind == PUSH:
            # y is a block of b rows; x is a new one every a bars
            copy(S, x, y + (bars // a - 1) % b * n, n)
        elif kind == GATE:
            # what follows, up to row y, runs only when a block of x bars closes
            if bars % x != 0:
                row = y
        elif kind == MEAN:
            mean(S, x, y, n, a)
        elif kind == CONV:
            conv(S, W, x, y, n, a, b, c)
        elif kind == SELECTIVE_SCAN:
            selective_scan(S, W, x, y, n, a, b, c, d)
        elif kind == LSTM:
            lstm(S, x, y, n)
        elif kind == GRU:
            gru(S, x, y, n)
        elif kind == ATTENTION:
            attention(S, W, x, y, n, a, b, c, d, bars)
        elif kind == ACTIVATE:
            activate(S, x, y, n)
        elif kind == HEADS:
            heads(S, W, x, y, n, a, b, c, d)
        elif kind == SPLINES:
            splines(S, W, x, y, n, a, b, c)
        elif kind == MEMORY:
            memory(S, W, x, y, n, a)
        elif kind == TKAN:
            tkan(S, x, y, n)
        elif kind == SWITCHING:
            switching(S, W, x, y, n, a, b, c, d)
        elif kind == PATCH:
            patch(S, x, y, n, a)
        elif kind == POOL:
            pool(S, W, x, y, n, a, b, c, d, bars)
        elif kind == POSTERIOR:
            posterior(S, x, y, n, a, b)
        elif kind == SURPRISE:
            surprise(S, W, x, y, n, a, b)


@njit(fastmath=FAST, error_model="numpy", cache=True)
def walk(plan, S, W, bars):
    """Run the network once, on the inputs that lie in S, as bar number ``bars`` (from 1)."""
    _walk(plan, S, W, bars)


@njit
def _take_inputs(S, inputs, values, means, stds, clip):
    """Exactly Normalizer.__call__, in the network's precision: compiled on its own, without fast math."""
    for i in range(len(means)):
        S[inputs + i] = f32(min(max((values[i] - means[i]) / stds[i], -clip), clip))


@njit
def _session(open_s, session_opens):
    """Number of the session that a bar opens in: of those that open at these times, else of the UTC days."""
    if len(session_opens) == 0:
        return math.floor(open_s / DAY_S)
    return np.searchsorted(session_opens, open_s, side="right")


def _compiled_run(version: int):
    """Return ``run``, enclosing the version of its sources.

    Numba stores compiled code under what a function encloses. Of the files it only watches this one, and would go
    on running a feature as it was before an edit.
    """

    @njit(fastmath=FAST, error_model="numpy", cache=True)
    def run(table, W, S, D, rows, out):
        """Take bars ``rows`` float64 [T,6+C] in order; write their outputs to ``out`` float64 [T,O]; return -1.

        The other arguments are those of ``hissbt.stream.plan.Program``, which also explains their layout. The
        state before the last bar is kept, so that this bar can be revised. If a bar is not finite or does not come
        after the one before it, its number is returned and nothing is done. O may be less than the outputs there
        are; of a forecast the first three are put in units.
        """
        _ = version
        features, size, initial = table[0, 0], table[0, 1], table[0, 2]
        inputs, outputs, memory, forecasts = table[0, 3], table[0, 4], table[0, 5], table[0, 6]
        feature_plan, plan = table[1 : 1 + features, :4], table[1 + features :]
        constants = D[2 * memory :]
        timeframe_s, reset_gap_s, session_reset = constants[0], constants[1], constants[2]
        cold_bars, clip = constants[3], constants[4]
        ret_mean, ret_std, vol_scale = constants[5], constants[6], constants[7]
        means, stds = constants[8 : 8 + features], constants[8 + features : 8 + 2 * features]
        values, session_opens = constants[8 + 2 * features : 8 + 3 * features], constants[8 + 3 * features :]
        last_s = D[1]
        for t in range(len(rows)):
            for i in range(rows.shape[1]):
                if not np.isfinite(rows[t, i]):
                    return t
            if rows[t, 0] <= last_s:
                return t
            last_s = rows[t, 0]
        for t in range(len(rows)):
            bar, close_time_s, last_s = rows[t], rows[t, 0], D[1]
            if t == len(rows) - 1:
                copy(D, 0, memory, memory)
                copy(S, 0, size, size)
            if D[0] > 0.0:
                gap = close_time_s - last_s - timeframe_s >= reset_gap_s
                if gap or (
                    session_reset > 0.0
                    and _session(close_time_s - timeframe_s, session_opens)
                    != _session(last_s - timeframe_s, session_opens)
                ):
                    for i in range(size):
                        S[i] = W[initial + i]
                    for i in range(2, memory):
                        D[i] = 0.0
                    D[0] = 0.0
            D[0] += 1.0
            D[1] = close_time_s
            step_all(feature_plan, bar, D[2:memory], values)
            _take_inputs(S, inputs, values, means, stds, clip)
            _walk(plan, S, W, int(D[0]))
            if D[0] > cold_bars:
                for i in range(out.shape[1]):
                    out[t, i] = S[outputs + i]
                if forecasts > 0:
                    out[t, 0], out[t, 1], out[t, 2] = in_units(
                        S[outputs], S[outputs + 1], S[outputs + 2], ret_mean, ret_std, vol_scale
                    )
            else:
                out[t] = np.nan
        return -1

    return run


def source_version() -> str:
    """Return a hash of the code that turns a bar into outputs."""
    digest = hashlib.sha256()
    for path in (__file__, features.__file__, limits.__file__, targets.__file__):
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


run = _compiled_run(int(source_version()[:15], 16))
