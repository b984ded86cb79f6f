"""The operations of ``hissbt.stream.kernels`` in plain numpy: what the compiled ones are tested against.

Same names, same operands, same effect on the state S; written to be read. ``walk`` runs a whole plan.
"""

import numpy as np
from scipy.special import erf, expit, log_ndtr, logsumexp, softmax
from scipy.stats import norm as normal
from scipy.stats import t as student

from hissbt.stream.kernels import BOUND, OPERATIONS, REACH


def _softplus(x):
    return np.logaddexp(np.float32(0), x)


def _gelu(x):
    return x * 0.5 * (1 + erf(x / np.sqrt(2)))


def linear(S, W, x, y, n, m, w, b):
    """y[m] = b + x[n] A, A [n,m] at w; b = -1 for none."""
    bias = W[b : b + m] if b >= 0 else 0
    S[y : y + m] = bias + S[x : x + n] @ W[w : w + n * m].reshape(n, m)


def norm(S, W, x, y, n, w, epsilon=1e-5):
    """Layer norm with gain and bias [2,n] at w."""
    X = S[x : x + n]
    gain, bias = W[w : w + 2 * n].reshape(2, n)
    S[y : y + n] = (X - X.mean()) / np.sqrt(X.var() + epsilon) * gain + bias


def s4d(S, W, x, y, n, pairs, w, h):
    """h = A h + B x, y = gelu(2 Re(C h) + D x), complex numbers as their real and imaginary parts."""
    a, b, c = (re + 1j * im for re, im in W[w : w + 6 * pairs * n].reshape(3, 2, pairs, n))  # [pairs,n] each
    D = W[w + 6 * pairs * n : w + 6 * pairs * n + n]
    state = S[h : h + 2 * pairs * n].reshape(2, pairs, n)  # a view
    new = a * (state[0] + 1j * state[1]) + b * S[x : x + n]
    state[0], state[1] = new.real, new.imag
    z = (c * new).real.sum(axis=0) + D * S[x : x + n]
    S[y : y + n] = _gelu(z)


def gated_add(S, W, x, y, n):
    """y[n] += x[:n] sigmoid(x[n:2n])."""
    S[y : y + n] += S[x : x + n] * expit(S[x + n : x + 2 * n])


def add(S, W, x, y, n):
    """y[n] += x[n]."""
    S[y : y + n] += S[x : x + n]


def copy(S, W, x, y, n):
    """y[n] = x[n]."""
    S[y : y + n] = S[x : x + n]


def mean(S, W, x, y, n, rows):
    """y[n] = mean of the rows of x[rows,n]."""
    S[y : y + n] = S[x : x + rows * n].reshape(rows, n).mean(axis=0)


def conv(S, W, x, y, n, width, w, h):
    """y[n] = silu(bias + causal depthwise convolution of x[n]); weights [width,n], bias at w; h [width-1,n]."""
    window = np.concatenate([S[h : h + (width - 1) * n], S[x : x + n]]).reshape(width, n)
    weights, bias = W[w : w + width * n].reshape(width, n), W[w + width * n : w + (width + 1) * n]
    z = (weights * window).sum(axis=0) + bias
    S[h : h + (width - 1) * n] = window[1:].ravel()
    S[y : y + n] = z * expit(z)


def selective_scan(S, W, x, y, n, states, w, h, rank):
    """Mamba's recurrence; the operands lie as ``kernels.selective_scan`` tells."""
    _, gate, u, raw = S[x : x + 4 * n].reshape(4, n)
    b, c = S[x + 4 * n + rank : x + 4 * n + rank + 2 * states].reshape(2, states)
    a, D = W[w : w + states * n].reshape(states, n), W[w + states * n : w + (states + 1) * n]
    state = S[h : h + states * n].reshape(states, n)  # a view
    dt = _softplus(raw)
    state[:] = np.exp(dt * a) * state + dt * u * b[:, None]
    S[y : y + n] = (c @ state + D * u) * gate * expit(gate)


def lstm(S, W, x, y, n):
    """One step of an LSTM; the operands lie as ``kernels.lstm`` tells."""
    i, f, g, o = S[x : x + 8 * n].reshape(2, 4, n).sum(axis=0)
    c = expit(f) * S[y + n : y + 2 * n] + expit(i) * np.tanh(g)
    S[y : y + 2 * n] = np.concatenate([expit(o) * np.tanh(c), c])


def gru(S, W, x, y, n):
    """One step of a GRU; the operands lie as ``kernels.gru`` tells."""
    (r, z, new), (r_h, z_h, new_h) = S[x : x + 6 * n].reshape(2, 3, n)
    z = expit(z + z_h)
    S[y : y + n] = (1 - z) * np.tanh(new + expit(r + r_h) * new_h) + z * S[y : y + n]


def attention(S, W, x, y, n, heads, window, w, h, bars):
    """One step of windowed attention; the operands lie as ``kernels.attention`` tells."""
    q, k, v = S[x : x + 3 * n].reshape(3, heads, -1)  # [heads,size] each
    keys = S[h : h + n * window].reshape(heads, -1, window)  # a view [heads,size,window]
    values = S[h + n * window : h + 2 * n * window].reshape(heads, window, -1)  # a view [heads,window,size]
    slot = (bars - 1) % window
    keys[..., slot], values[:, slot] = k, v
    age = (slot - np.arange(window)) % window
    bias = np.where(age < bars, -W[w : w + heads, None] * age, -np.inf)  # [heads,window]
    scores = np.einsum("hc,hcs->hs", q, keys) / np.sqrt(q.shape[-1]) + bias
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    S[y : y + n] = np.einsum("hs,hsc->hc", weights / weights.sum(axis=1, keepdims=True), values).ravel()


def activate(S, W, x, y, n):
    """y[n] = gelu(x[n])."""
    S[y : y + n] = _gelu(S[x : x + n])


def heads(S, W, x, y, n, w, skip, features, inputs):
    """Read-out of x[n] and of the inputs; volatility through softplus."""
    bias, rows = W[w : w + 3], W[w + 3 : w + 3 + 3 * n].reshape(3, n)
    direct = W[skip : skip + 3 * features].reshape(3, features)
    S[y : y + 3] = bias + rows @ S[x : x + n] + direct @ S[inputs : inputs + features]
    S[y + 2] = _softplus(S[y + 2])


def splines(S, W, x, y, n, grid, order, w):
    """Relu, then all B-splines of a layer norm of x[n]; the operands lie as ``kernels.splines`` tells."""
    norm(S, W, x, y, n, w, 1e-3)
    U = S[y : y + n].copy()
    half, position, terms = (order + 1) / 2, U * (grid / 2), (order + 2) // 2
    factors = W[w + 2 * n : w + 2 * n + terms]
    for s in range(grid + order):
        distance = position - (s + (1 - order - grid) / 2)
        inside = (distance >= -half) & (distance < half)
        rest = [np.maximum(half - m - abs(distance), 0) ** order for m in range(terms)]
        S[y + (1 + s) * n : y + (2 + s) * n] = inside * (factors @ rest)
    S[y : y + n] = np.maximum(U, 0)


def memory(S, W, x, y, n, w):
    """y[n] = new x[n] + old y[n]; new, old [2,n] at w."""
    new, old = W[w : w + 2 * n].reshape(2, n)
    S[y : y + n] = new * S[x : x + n] + old * S[y : y + n]


def tkan(S, W, x, y, n):
    """One step of a TKAN cell, sublayers aside; the operands lie as ``kernels.tkan`` tells."""
    i, f, g = expit(S[x : x + 3 * n] + S[x + 4 * n : x + 7 * n]).reshape(3, n)
    c = f * S[y + n : y + 2 * n] + i * np.tanh(g)
    S[y : y + 2 * n] = np.concatenate([expit(S[x + 3 * n : x + 4 * n]) * np.tanh(c), c])


def switching(S, W, x, y, k, w, h, realized, form):
    """Hamilton filter and mixture of k regimes; the operands lie as ``kernels.switching`` tells."""
    state = S[h : h + 2 * (2 * k + k * k)].view(np.float64)
    log_filtered, matrix, means = state[:k], state[k : k + k * k].reshape(k, k), state[k + k * k :]
    *deviation, zero = W[w : w + 2 * (k + 1)].view(np.float64)
    now, raw = S[x : x + k].astype(np.float64), S[x + k : x + k + k * k].reshape(k, k).astype(np.float64)
    with np.errstate(divide="ignore"):
        log_matrix = np.maximum(np.log(matrix), -1e30)
    predicted = logsumexp(log_filtered[:, None] + log_matrix, axis=0)
    joint = predicted + normal.logpdf(np.float64(S[realized]), means, deviation)
    log_filtered[:] = joint - logsumexp(joint)
    factors = np.exp(np.clip(raw, 0, 50))
    if form == 2:
        np.fill_diagonal(factors, 1)
    matrix[:] = softmax(matrix * factors if form else raw, axis=1)
    belief = np.exp(log_filtered) @ matrix
    means[:] = now
    mean, above = belief @ now, (now - zero) / deviation
    up, down = (logsumexp(log_ndtr(side), b=belief) for side in (above, -above))
    volatility = np.sqrt(belief @ (np.square(deviation) + (now - mean) ** 2))
    S[y : y + 3 + k] = mean, up - down, volatility, *belief


def patch(S, W, x, y, n, rows):
    """x[n], bent to within 3, becomes the last row of y[rows,n], and the first row leaves."""
    S[y : y + rows * n] = np.concatenate([S[y + n : y + rows * n], REACH * np.tanh(S[x : x + n] / REACH)])


def pool(S, W, x, y, n, stride, count, w, h, bars):
    """Mean over values ``stride`` bars apart; the operands lie as ``kernels.pool`` tells."""
    length = (count - 1) * stride + 1
    ring = S[h : h + length * n].reshape(length, n)  # a view
    ring[(bars - 1) % length] = S[x : x + n]
    past = [bars - 1 - k * stride for k in range(count)]
    S[y : y + n] = np.mean([ring[t % length] if t >= 0 else W[w : w + n] for t in past], axis=0)


def _gaussian(S, x, n):
    """Mean and deviation [n] of what lies at x."""
    return S[x : x + n].astype(np.float64), np.exp(_bent(S[x + n : x + 2 * n]))


def _bent(log_scale):
    return BOUND * np.tanh(log_scale.astype(np.float64) / BOUND)


def posterior(S, W, x, y, n, kl, prior):
    """Product of normal distributions, and its divergence; the operands lie as ``kernels.posterior`` tells."""
    (mean, std), prior_mean, prior_std = _gaussian(S, x, n), np.zeros(n), np.ones(n)
    if prior >= 0:
        prior_mean, prior_std = _gaussian(S, prior, n)
        precisions = std**-2, prior_std**-2
        mean = np.average([mean, prior_mean], axis=0, weights=precisions)
        std = sum(precisions) ** -0.5
    variances = (std / prior_std) ** 2
    S[y : y + n] = mean
    S[kl] = 0.5 * np.sum(variances + ((mean - prior_mean) / prior_std) ** 2 - 1 - np.log(variances))


def surprise(S, W, x, y, n, inputs, w):
    """-ln p of the inputs; the operands lie as ``kernels.surprise`` tells."""
    mean, scale = _gaussian(S, x, n)
    if w < 0:
        S[y] = -normal.logpdf(S[inputs : inputs + n], mean, scale).sum()
    else:
        df = W[w : w + 2 * n].view(np.float64)
        S[y] = -student.logpdf(S[inputs : inputs + n], df, mean, scale).sum()


def push(S, W, x, y, n, stride, rows, bars):
    """x[n] becomes a row of the block y[rows,n]; one comes every ``stride`` bars."""
    copy(S, W, x, y + (bars // stride - 1) % rows * n, n)


_BY_NAME = {
    "linear": (linear, 6),
    "norm": (norm, 4),
    "s4d": (s4d, 6),
    "gated_add": (gated_add, 3),
    "add": (add, 3),
    "copy": (copy, 3),
    "mean": (mean, 4),
    "conv": (conv, 6),
    "selective_scan": (selective_scan, 7),
    "lstm": (lstm, 3),
    "gru": (gru, 3),
    "activate": (activate, 3),
    "heads": (heads, 7),
    "splines": (splines, 6),
    "memory": (memory, 4),
    "tkan": (tkan, 3),
    "switching": (switching, 7),
    "patch": (patch, 4),
    "posterior": (posterior, 5),
    "surprise": (surprise, 5),
}


def walk(plan, S, W, bars):
    """Run the network once, on the inputs that lie in S, as bar number ``bars`` (from 1)."""
    row = 0
    while row < len(plan):
        name, operands = OPERATIONS[plan[row, 0]], plan[row, 1:].tolist()
        row += 1
        if name == "gate":
            row = row if bars % operands[0] == 0 else operands[1]
        elif name == "push":
            push(S, W, *operands[:5], bars)
        elif name in ("attention", "pool"):
            (attention if name == "attention" else pool)(S, W, *operands, bars)
        else:
            operation, count = _BY_NAME[name]
            operation(S, W, *operands[:count])
