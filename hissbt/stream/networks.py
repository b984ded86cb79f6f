"""From the config and weights of a bundle to a plan: one function a kind of network.

Names of weights are those of the torch networks in ``hissbt.models``; configs are complete, as bundles hold them.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from hissbt.limits import LEAST_DEVIATION, LEAST_DF
from hissbt.stream.plan import LINE, OUTPUTS, Place, Planner, as_bits

Weights = Mapping[str, np.ndarray]


class _Names:
    """Weights under a prefix: ``names["a"]`` is ``weights[prefix + "a"]``."""

    def __init__(self, weights: Weights, prefix: str = ""):
        self._weights, self._prefix = weights, prefix

    def __getitem__(self, name: str) -> np.ndarray:
        return np.asarray(self._weights[self._prefix + name])

    def under(self, name: str) -> "_Names":
        """Return the weights of a submodule."""
        return _Names(self._weights, f"{self._prefix}{name}.")


def hiss(planner: Planner, config: Mapping[str, Any], weights: Weights) -> None:
    """``hissbt.models.hiss.HiSSNet``."""
    names, widths, factors = _Names(weights), config["d_model"], config["strides"]
    summed = config["fuse"] == "sum"
    # The newest values of all levels lie side by side: concatenated as they are, and held between updates.
    held = planner.state(sum(widths), np.concatenate([np.zeros(widths[0]), *_first_held(names, widths)]))
    starts = [held + sum(widths[:i]) for i in range(len(widths))]
    source, width, gates, stride = planner.inputs, planner.n_features, [], 1
    for i, (start, d_model) in enumerate(zip(starts, widths, strict=True)):
        if i:
            source = _block(planner, starts[i - 1], width, factors[i - 1], stride, config["downsample"])
            stride *= factors[i - 1]
            gates.append(planner.add("gate", stride, 0))
            source = _pool(
                planner, source, width, factors[i - 1], config["downsample"], names.under(f"pools.{i - 1}")
            )
        level = names.under(f"levels.{i}")
        planner.linear(source, start, level["embed.weight"], level["embed.bias"])
        for j in range(config["n_layers"][i]):
            block = level.under(f"blocks.{j}")
            (_s4d_block if config["blocks"][i] == "s4d" else _mamba_block)(planner, start, d_model, block, config)
        width = d_model
    for gate in gates:
        planner.close(gate)
    fused, total = held, sum(widths)
    if summed:
        fused, total = planner.scratch(widths[0]), widths[0]
        planner.add("copy", held, fused, total)
        for start in starts[1:]:
            planner.add("add", start, fused, total)
    _read(planner, _norm(planner, fused, total, names.under("norm")), total, names)


def _first_held(names: _Names, widths: list[int]) -> list[np.ndarray]:
    return [names[f"first_held.{i}"] for i in range(len(widths) - 1)]


def _block(planner: Planner, x: Place, width: int, factor: int, stride: int, how: str) -> Place:
    """Collect the newest ``factor`` values of a level; the last one alone needs no block."""
    if how == "last":
        return x
    block = planner.state(factor * width)
    planner.add("push", x, block, width, stride, factor)
    return block


def _pool(planner: Planner, block: Place, width: int, factor: int, how: str, names: _Names) -> Place:
    """Turn a closed block into one value of the next level."""
    if how == "last":
        return block
    pooled = planner.scratch(width)
    if how == "mean":
        planner.add("mean", block, pooled, width, factor)
    else:
        planner.linear(block, pooled, names["conv.weight"], names["conv.bias"])
    return pooled


def _norm(planner: Planner, x: Place, n: int, names: _Names) -> Place:
    y = planner.scratch(n)
    planner.add("norm", x, y, n, planner.weights(names["weight"], names["bias"]))
    return y


def _read(planner: Planner, x: Place, n: int, names: _Names) -> None:
    """Append the heads."""
    readout = planner.weights(names["heads.readout.bias"], names["heads.readout.weight"])
    skip = planner.weights(names["heads.skip.weight"])
    planner.outputs = planner.scratch(3)
    planner.add("heads", x, planner.outputs, n, readout, skip, planner.n_features, planner.inputs)


def _s4d_block(planner: Planner, x: Place, n: int, names: _Names, config: Mapping[str, Any]) -> None:
    """Append x += glu(linear(gelu(s4d(norm(x)))))."""
    mixer = names.under("mixer")
    normed, mixed, gated = _norm(planner, x, n, names.under("norm")), planner.scratch(n), planner.scratch(2 * n)
    a, b, c = discretize_s4d(mixer.under("kernel"), config["discretization"])  # [n,pairs] each
    parts = [part.T for z in (a, b, 2 * c) for part in (z.real, z.imag)]  # [pairs,n] each
    pairs = a.shape[1]
    at = planner.weights(*parts, mixer["D"])
    planner.add("s4d", normed, mixed, n, pairs, at, planner.state(2 * pairs * n))
    planner.linear(mixed, gated, mixer["output_linear.0.weight"][..., 0], mixer["output_linear.0.bias"])
    planner.add("gated_add", gated, x, n)


def discretize_s4d(kernel: _Names, discretization: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return A, B and C of S4D's recurrence, complex [H,P], from double precision rounded once, as in training."""
    dt = np.exp(kernel["log_dt"].astype(np.float64))[:, None]  # [H,1]
    a = -np.exp(kernel["log_A_real"].astype(np.float64)) + 1j * kernel["A_imag"].astype(np.float64)  # [H,P]
    if discretization == "zoh":
        a_bar = np.exp(dt * a)
        b_bar = (a_bar - 1) / a
    else:
        a_bar = (1 + dt * a / 2) / (1 - dt * a / 2)
        b_bar = dt / (1 - dt * a / 2)
    c = kernel["C"][..., 0] + 1j * kernel["C"][..., 1]
    return a_bar.astype(np.complex64), b_bar.astype(np.complex64), c


def _mamba_block(planner: Planner, x: Place, n: int, names: _Names, config: Mapping[str, Any]) -> None:
    """Append x += mamba(norm(x))."""
    mixer = names.under("mixer")
    inner, states = mixer["A_log"].shape
    rank, width = mixer["dt_proj.weight"].shape[1], mixer["conv1d.weight"].shape[-1]
    normed = _norm(planner, x, n, names.under("norm"))
    projected = np.asarray(mixer["x_proj.weight"])  # [rank+2*states,inner]
    projected = np.pad(projected, ((0, -len(projected) % 8), (0, 0)))  # whole vectors are quicker
    # raw, gate, u, dt: [inner] each, then the projection: what the scan expects side by side
    work = planner.scratch(4 * inner + len(projected))
    u, dt, projection = work + 2 * inner, work + 3 * inner, work + 4 * inner
    planner.linear(normed, work, mixer["in_proj.weight"], None)
    at = planner.weights(mixer["conv1d.weight"][:, 0].T, mixer["conv1d.bias"])
    planner.add("conv", work, u, inner, width, at, planner.state((width - 1) * inner))
    planner.linear(u, projection, projected, None)
    planner.linear(projection, dt, mixer["dt_proj.weight"], mixer["dt_proj.bias"])
    at = planner.weights(-np.exp(mixer["A_log"].T), mixer["D"])
    mixed, added = planner.scratch(inner), planner.scratch(n)
    planner.add("selective_scan", work, mixed, inner, states, at, planner.state(states * inner), rank)
    planner.linear(mixed, added, mixer["out_proj.weight"], None)
    planner.add("add", added, x, n)


def lstm(planner: Planner, config: Mapping[str, Any], weights: Weights) -> None:
    """``hissbt.models.rnn.LSTMNet``."""
    names = _Names(weights)
    _read(planner, _lstm(planner, config, names.under("rnn"), _all(planner)), config["d_model"], names)


def gru(planner: Planner, config: Mapping[str, Any], weights: Weights) -> None:
    """``hissbt.models.rnn.GRUNet``."""
    names = _Names(weights)
    _read(planner, _gru(planner, config, names.under("rnn"), _all(planner)), config["d_model"], names)


def tkan(planner: Planner, config: Mapping[str, Any], weights: Weights) -> None:
    """``hissbt.models.kan.TKANNet``."""
    names = _Names(weights)
    _read(planner, _tkan(planner, config, names.under("rnn"), 0, _all(planner)), config["d_model"], names)


def _all(planner: Planner) -> list[int]:
    return list(range(planner.n_features))


def _lstm(planner: Planner, config: Mapping[str, Any], names: _Names, columns: Sequence[int]) -> Place:
    return _recurrent(planner, config, names, columns, "lstm", gates=4, parts=2)


def _gru(planner: Planner, config: Mapping[str, Any], names: _Names, columns: Sequence[int]) -> Place:
    return _recurrent(planner, config, names, columns, "gru", gates=3, parts=1)


def _recurrent(planner: Planner, config, names: _Names, columns, cell: str, gates: int, parts: int) -> Place:
    """Append layers of a cell whose state is ``parts`` vectors, the first of them its output; return the last one.

    The first layer sees some of the inputs only, those in ``columns``.
    """
    x, n = planner.inputs, config["d_model"]
    for i in range(config["n_layers"]):
        state, work = planner.state(parts * n), planner.scratch(2 * gates * n)
        weight = names[f"weight_ih_l{i}"] if i else _of_columns(planner, names["weight_ih_l0"], columns)
        planner.linear(x, work, weight, names[f"bias_ih_l{i}"])
        planner.linear(state, work + gates * n, names[f"weight_hh_l{i}"], names[f"bias_hh_l{i}"])
        planner.add(cell, work, state, n)
        x = state
    return x


def _of_columns(planner: Planner, weight: np.ndarray, columns: Sequence[int]) -> np.ndarray:
    """Return weights for all inputs from those [out,in] for some of them; the others weigh nothing."""
    whole = np.zeros((len(weight), planner.n_features), dtype=weight.dtype)
    whole[:, columns] = weight
    return whole


def _tkan(planner: Planner, config: Mapping[str, Any], names: _Names, copy: int, columns: Sequence[int]) -> Place:
    """Append the cells of one of the copies in a ``hissbt.models.kan.TKAN``; return the h of the last one."""
    x = planner.inputs
    for i in range(config["n_layers"]):
        x = _tkan_cell(planner, config, names.under(f"cells.{i}"), copy, x, None if i else columns)
    return x


def _tkan_cell(planner: Planner, config, names: _Names, copy: int, x: Place, columns) -> Place:
    """Append a cell: what the sublayers and the gates see of x at once, then the sublayers, then the gates."""
    n, count, n_out = config["d_model"], config["n_sublayers"], config["sub_output"]
    layers = range(copy * count, (copy + 1) * count)
    n_in = names["sub_inputs"].shape[-1]
    hidden, kept = planner.state(2 * n), planner.state(count * n_out)
    work = planner.scratch(7 * n + count * n_in)  # what the gates expect side by side, then what the sublayers see
    seen = work + 7 * n
    weight = np.concatenate([names["kernel"][copy].T, *(names["sub_inputs"][layer].T for layer in layers)])
    bias = np.concatenate([names["bias"][copy], np.zeros(count * n_in)])
    planner.linear(x, work + 4 * n, weight if columns is None else _of_columns(planner, weight, columns), bias)
    remembered, outputs = planner.scratch(count * n_in), planner.scratch(count * n_out + LINE)
    for place, layer in enumerate(layers):
        planner.linear(kept + place * n_out, remembered + place * n_in, names["sub_states"][layer].T, None)
    planner.add("add", remembered, seen, count * n_in)
    for place, layer in enumerate(layers):
        _sublayer(planner, config, names.under("kan"), layer, seen + place * n_in, outputs + place * n_out)
    at = planner.weights(names["new"][layers.start : layers.stop], names["old"][layers.start : layers.stop])
    planner.add("memory", outputs, kept, count * n_out, at)
    planner.linear(outputs, work + 3 * n, names["gate"][copy].T, names["gate_bias"][copy])
    planner.linear(hidden, work, names["recurrent"][copy].T, None)
    planner.add("tkan", work, hidden, n)
    return hidden


def _sublayer(planner: Planner, config, names: _Names, layer: int, x: Place, y: Place) -> None:
    """Append y = relu(u) base + B(u) spline + bias; it writes up to a cache line more than y."""
    grid, order = config["grid_size"], config["order"]
    n_in, count, n_out = names["spline"].shape[1:]
    terms = range((order + 2) // 2)
    factors = [(-1) ** m * math.comb(order + 1, m) / math.factorial(order) for m in terms]
    at = planner.weights(names["norm_gain"][layer], names["norm_bias"][layer], np.array(factors))
    values = planner.scratch((1 + count) * n_in)
    planner.add("splines", x, values, n_in, grid, order, at)
    spline = names["spline"][layer].swapaxes(0, 1).reshape(count * n_in, n_out)
    weight = np.concatenate([names["base"][layer], spline]).T  # [out,(1+count)*in]
    more = -n_out % LINE  # whole vectors are quicker
    planner.linear(values, y, np.pad(weight, ((0, more), (0, 0))), np.pad(names["bias"][layer], (0, more)))


def switching_gru(planner: Planner, config: Mapping[str, Any], weights: Weights) -> None:
    """``hissbt.models.switching.SwitchingGRU``."""
    names = _Names(weights)
    _switching(planner, config, names, lambda bank, k, at: _gru(planner, config, bank.under(f"stacks.{k}"), at))


def switching_lstm(planner: Planner, config: Mapping[str, Any], weights: Weights) -> None:
    """``hissbt.models.switching.SwitchingLSTM``."""
    names = _Names(weights)
    _switching(planner, config, names, lambda bank, k, at: _lstm(planner, config, bank.under(f"stacks.{k}"), at))


def switching_tkan(planner: Planner, config: Mapping[str, Any], weights: Weights) -> None:
    """``hissbt.models.switching.SwitchingTKAN``."""
    _switching(planner, config, _Names(weights), lambda bank, k, at: _tkan(planner, config, bank, k, at))


def _switching(planner: Planner, config: Mapping[str, Any], names: _Names, network: Callable) -> None:
    """Append a recurrent network a regime, that of the covariates, and the filter.

    ``network(names of a bank, its number there, columns it sees)`` appends one and returns its output.
    """
    k, realized, stay = config["n_regimes"], config["return_column"], config["persistence"]
    work, part = planner.scratch(k + k * k), planner.scratch(k)
    planner.linear(planner.inputs, work, names["skip"], names["readout_bias"])
    for regime in range(k):
        hidden = network(names.under("regimes"), regime, _all(planner))
        planner.linear(hidden, part + regime, names["readout"][regime : regime + 1], None)
    planner.add("add", part, work, k)
    columns = config["covariate_columns"] or [i for i in _all(planner) if i != realized]
    hidden = network(names.under("covariates"), 0, columns)
    planner.linear(hidden, work + k, names["transitions.linear.weight"], names["transitions.linear.bias"])
    matrix = np.where(np.eye(k), stay, (1 - stay) / (k - 1))
    state = planner.doubles(np.concatenate([np.full(k, -np.log(k)), matrix.ravel(), np.zeros(k)]))
    deviation = np.logaddexp(0.0, names["deviation"].astype(np.float64)) + LEAST_DEVIATION
    at = planner.weights(as_bits(np.append(deviation, config["zero_return"])))
    form = 1 + config["unit_diagonal"] if config["transition"] == "multiplied" else 0
    planner.outputs, planner.names = planner.scratch(3 + k), (*OUTPUTS, *(f"regime{i}" for i in range(k)))
    planner.add("switching", work, planner.outputs, k, at, state, planner.inputs + realized, form)


def transformer(planner: Planner, config: Mapping[str, Any], weights: Weights) -> None:
    """``hissbt.models.transformer.TransformerNet``."""
    names, n, n_heads = _Names(weights), config["d_model"], config["n_heads"]
    slopes = planner.weights(2.0 ** (-8 * np.arange(1, n_heads + 1) / n_heads))
    x = planner.scratch(n)
    planner.linear(planner.inputs, x, names["embed.weight"], names["embed.bias"])
    for i in range(config["n_layers"]):
        block = names.under(f"blocks.{i}")
        _attention(planner, x, n, block, n_heads, config["window_bars"], slopes)
        _feed_forward(planner, x, n, block, config["d_ff"])
    _read(planner, _norm(planner, x, n, names.under("norm")), n, names)


def _attention(planner: Planner, x: Place, n: int, names: _Names, n_heads: int, window: int, slopes: int) -> None:
    """Append x += attention(norm1(x))."""
    normed = _norm(planner, x, n, names.under("norm1"))
    work, mixed, added = planner.scratch(3 * n + window), planner.scratch(n), planner.scratch(n)
    planner.linear(normed, work, names["attention.in_proj.weight"], None)
    planner.add("attention", work, mixed, n, n_heads, window, slopes, planner.window(2 * n * window))
    planner.linear(mixed, added, names["attention.out_proj.weight"], names["attention.out_proj.bias"])
    planner.add("add", added, x, n)


def _feed_forward(planner: Planner, x: Place, n: int, names: _Names, d_ff: int) -> None:
    """Append x += linear2(gelu(linear1(norm2(x))))."""
    normed, hidden, added = _norm(planner, x, n, names.under("norm2")), planner.scratch(d_ff), planner.scratch(n)
    planner.linear(normed, hidden, names["linear1.weight"], names["linear1.bias"])
    planner.linear(_activated(planner, hidden, d_ff), added, names["linear2.weight"], names["linear2.bias"])
    planner.add("add", added, x, n)


def hvae(planner: Planner, config: Mapping[str, Any], weights: Weights) -> None:
    """``hissbt.models.hvae.HVAENet``; outputs are what ``latent_names`` says."""
    names, sizes, hidden = _Names(weights), config["d_latent"], config["d_hidden"]
    planner.names = latent_names(sizes)
    planner.outputs = planner.scratch(len(planner.names))
    recon = planner.outputs + len(sizes)
    starts = [recon + 1 + sum(sizes[:level]) for level in range(len(sizes))]  # of the latents, finest level first
    seen = _levels(planner, config, names)
    for level in reversed(range(len(sizes))):
        prior, above = -1, sum(sizes[level + 1 :])
        if above:
            planner.add("copy", starts[level + 1], seen[level] + hidden, above)
            prior = _perceptron(planner, starts[level + 1], names.under(f"prior.{level}"))
        evidence = _perceptron(planner, seen[level], names.under(f"evidence.{level}"))
        kl = planner.outputs + level
        planner.add("posterior", evidence, starts[level], sizes[level], kl, prior)
    at = -1
    if config["observation"] == "student":
        df = LEAST_DF + np.logaddexp(0.0, names["excess_df"].astype(np.float64))
        at = planner.weights(as_bits(np.concatenate([df, [_log_peak(n) for n in df]])))
    bar = _bar(planner, config, names, starts)
    planner.add("surprise", bar, recon, planner.n_features, planner.inputs, at)


def latent_names(sizes: Sequence[int]) -> tuple[str, ...]:
    """Return the names of the outputs of an ``hvae`` stream: ``kl1 …``, ``recon``, then ``z1_1 …`` by level."""
    levels = range(1, len(sizes) + 1)
    latents = (f"z{level}_{i}" for level in levels for i in range(1, sizes[level - 1] + 1))
    return (*(f"kl{level}" for level in levels), "recon", *latents)


def _levels(planner: Planner, config: Mapping[str, Any], names: _Names) -> list[Place]:
    """Append what each level sees of the bars; return its features, with room behind for the latents above."""
    strides, sizes, hidden, n = config["strides"], config["d_latent"], config["d_hidden"], planner.n_features
    pooled, still, seen = planner.state(strides[0] * n), np.zeros(strides[0] * n), []
    planner.add("patch", planner.inputs, pooled, n, strides[0])
    for level, stride in enumerate(strides):
        if level:
            finer, pooled = strides[level - 1], planner.scratch(hidden)
            ring, first = planner.window((stride - finer + 1) * hidden), planner.weights(still)
            planner.add("pool", seen[-1], pooled, hidden, finer, stride // finer, first, ring)
        bottom_up, norm = names.under(f"bottom_up.{level}"), names.under(f"norms.{level}")
        features = planner.scratch(hidden + sum(sizes[level + 1 :]))
        at = planner.weights(norm["weight"], norm["bias"])
        planner.add("norm", _perceptron(planner, pooled, bottom_up), features, hidden, at)
        seen.append(features)
        still = _features(still, bottom_up, norm)
    return seen


def _features(pooled: np.ndarray, bottom_up: _Names, norm: _Names) -> np.ndarray:
    """Return the features [H] of a level that sees ``pooled``, in double precision."""
    hidden = bottom_up["0.bias"] + bottom_up["0.weight"].astype(np.float64) @ pooled
    hidden *= [0.5 * (1 + math.erf(x / math.sqrt(2))) for x in hidden]
    raw = bottom_up["2.bias"] + bottom_up["2.weight"].astype(np.float64) @ hidden
    return (raw - raw.mean()) / np.sqrt(raw.var() + 1e-5) * norm["weight"] + norm["bias"]


def _bar(planner: Planner, config: Mapping[str, Any], names: _Names, latents: Sequence[Place]) -> Place:
    """Append the paths from the latents to the newest bar; return its means, then its log scales.

    Their hidden units lie side by side, so that one linear map adds up the paths.
    """
    paths, hidden = range(len(latents) if config["decoder"] == "paths" else 1), config["d_hidden"]
    units, bar = planner.scratch(len(paths) * hidden), planner.scratch(2 * planner.n_features)
    for path in paths:
        first = names.under(f"path.{path}.0")
        planner.linear(latents[path], units + path * hidden, first["weight"], first["bias"])
    units = _activated(planner, units, len(paths) * hidden)
    last = slice(-2 * planner.n_features, None)  # of the bars that the finest latent stands for
    weight = np.concatenate([names[f"path.{path}.2.weight"][last] for path in paths], axis=1)
    planner.linear(units, bar, weight, sum(names[f"path.{path}.2.bias"][last] for path in paths))
    return bar


def _perceptron(planner: Planner, x: Place, names: _Names) -> Place:
    """Append linear2(gelu(linear1(x)))."""
    hidden, y = planner.scratch(len(names["0.bias"])), planner.scratch(len(names["2.bias"]))
    planner.linear(x, hidden, names["0.weight"], names["0.bias"])
    planner.linear(_activated(planner, hidden, len(names["0.bias"])), y, names["2.weight"], names["2.bias"])
    return y


def _activated(planner: Planner, x: Place, n: int) -> Place:
    """Append gelu(x) in another place: in its own the compiled loop does one number at a time."""
    y = planner.scratch(n)
    planner.add("activate", x, y, n)
    return y


def _log_peak(df: float) -> float:
    """Return the log density at 0 of a t distribution."""
    return math.lgamma((df + 1) / 2) - math.lgamma(df / 2) - 0.5 * math.log(df * math.pi)


NETWORKS: Mapping[str, Callable[[Planner, Mapping[str, Any], Weights], None]] = {
    "hiss": hiss,
    "lstm": lstm,
    "gru": gru,
    "transformer": transformer,
    "tkan": tkan,
    "m-gru": switching_gru,
    "m-lstm": switching_lstm,
    "m-tkan": switching_tkan,
    "hvae": hvae,
}
