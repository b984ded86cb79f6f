"""Each compiled operation does what its numpy twin does, and each network what its torch original does."""

from pathlib import Path

import numpy as np
import pytest
import torch
from bundles import in_units, random_bundle, torch_outputs
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from hissbt.features import FeatureSet
from hissbt.stream import Stream, kernels, reference
from hissbt.stream.kernels import OPERATIONS

# the operands of each operation on n channels: x at 0, y at 400, state at 800 of S
ROWS = {
    "linear": lambda n: (0, 400, n, 11, 0, 500),
    "linear without bias": lambda n: (0, 400, n, 16, 0, -1),
    "norm": lambda n: (0, 400, n, 0),
    "s4d": lambda n: (0, 400, n, 3, 0, 800),
    "gated_add": lambda n: (0, 400, n),
    "add": lambda n: (0, 400, n),
    "copy": lambda n: (0, 400, n),
    "mean": lambda n: (0, 400, n, 4),
    "push": lambda n: (0, 400, n, 2, 3),
    "conv": lambda n: (0, 400, n, 4, 0, 800),
    "selective_scan": lambda n: (0, 400, n, 5, 0, 800, 2),
    "lstm": lambda n: (0, 400, n),
    "gru": lambda n: (0, 400, n),
    "attention": lambda n: (0, 400, n, {1: 1, 7: 7, 16: 4, 33: 3}[n], 3, 0, 800),
    "activate": lambda n: (0, 400, n),
    "heads": lambda n: (0, 400, n, 0, 200, 7, 390),
    "splines": lambda n: (0, 400, n, 2, 3, 0),
    "splines that are steps": lambda n: (0, 400, n, 5, 0, 0),
    "memory": lambda n: (0, 400, n, 0),
    "tkan": lambda n: (0, 400, n),
    **{
        f"switching, form {form}": lambda n, form=form: (0, 400, min(n, 5), 0, 800, 390, form) for form in range(3)
    },
    "patch": lambda n: (0, 400, n, 3),
    "pool": lambda n: (0, 400, n, 2, 3, 0, 800),
    "pool of neighbors": lambda n: (0, 400, n, 1, 4, 0, 800),
    "posterior": lambda n: (0, 400, n, 450, 200),
    "posterior, standard prior": lambda n: (0, 400, n, 450, -1),
    "surprise": lambda n: (0, 400, n, 200, 0),
    "surprise of a normal distribution": lambda n: (0, 400, n, 200, -1),
}


def operation(name: str) -> str:
    """Return the operation that a row of ``ROWS`` is of."""
    return name.replace(",", "").split()[0]


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("n", [1, 7, 16, 33])
def test_an_operation_equals_its_numpy_twin(name, n):
    rng = np.random.default_rng(n)
    S, W = rng.normal(size=1200).astype(np.float32), rng.normal(size=1200).astype(np.float32)
    if name == "selective_scan":
        W[: 5 * n] = -np.abs(W[: 5 * n])  # decay rates are negative
    if name.startswith("switching"):  # of probabilities and deviations
        S[800:1080].view(float)[:] = rng.uniform(0.01, 1, 140)
        W[:12].view(float)[:] = rng.uniform(0.5, 2, 6)
    if name == "surprise":
        df = rng.uniform(2.1, 9, n)
        W[: 4 * n].view(float)[:] = np.concatenate([df, student.logpdf(0, df)])
    plan = np.zeros((1, 8), dtype=np.int64)
    operands = ROWS[name](n)
    plan[0, 0] = OPERATIONS.index(operation(name))
    plan[0, 1 : 1 + len(operands)] = operands
    inputs, expected = S[:400].copy(), S.copy()
    for bars in (2, 4, 6):  # states carry over
        S[:400] = expected[:400] = inputs  # the scan works on its inputs in place
        kernels.walk(plan, S, W, bars)
        reference.walk(plan, expected, W, bars)
        np.testing.assert_allclose(S[400:], expected[400:], rtol=2e-5, atol=2e-5)


def test_every_operation_has_a_twin_and_a_test():
    tested = {operation(name) for name in ROWS} | {"gate"}
    assert tested == set(OPERATIONS)


def test_a_gate_lets_pass_only_when_its_block_closes():
    W = np.zeros(1, dtype=np.float32)
    plan = np.array(
        [[OPERATIONS.index("gate"), 4, 2, 0, 0, 0, 0, 0], [OPERATIONS.index("copy"), 0, 1, 1, 0, 0, 0, 0]]
    )
    for walk in (kernels.walk, reference.walk):
        passed = []
        for bars in range(1, 13):
            S = np.array([1, 0], dtype=np.float32)
            walk(plan, S, W, bars)
            passed.append(bool(S[1]))
        assert [bars for bars, through in enumerate(passed, 1) if through] == [4, 8, 12]


@settings(max_examples=200, deadline=None)
@given(st.floats(-90, 90, width=32))
def test_functions_of_one_number_keep_their_stated_error(x):
    x32 = np.float32(x)
    exact = float(x32)
    assert scalar(kernels.exp)(x32) == pytest.approx(np.exp(np.clip(exact, -87, 88)), rel=3e-7)
    assert scalar(kernels.sigmoid)(x32) == pytest.approx(1 / (1 + np.exp(-exact)), abs=3e-7)
    assert scalar(kernels.tanh)(x32) == pytest.approx(np.tanh(exact), abs=5e-7)
    assert scalar(kernels.softplus)(x32) == pytest.approx(np.logaddexp(0, exact), rel=5e-7, abs=1e-37)
    gelu = torch.nn.functional.gelu(torch.tensor(exact, dtype=torch.float64)).item()
    assert scalar(kernels.gelu)(x32) == pytest.approx(gelu, rel=1e-6, abs=1e-6)


def scalar(function):
    return lambda x: float(function(x))


NETWORKS = {
    "hiss": {},
    "hiss, summed, conv": {
        "strides": (2, 8),
        "downsample": "conv",
        "fuse": "sum",
        "blocks": ("mamba", "s4d", "s4d"),
    },
    "hiss, last, deep": {"downsample": "last", "n_layers": 2, "discretization": "bilinear", "s4d_init": "legs"},
    "hiss, widths": {"strides": (3,), "d_model": (5, 20), "d_state": (4, 6), "blocks": ("mamba", "s4d")},
    "flat s4d": {"strides": (), "blocks": ("s4d",), "d_model": 64, "s4d_init": "real"},
    "flat mamba": {"strides": (), "blocks": ("mamba",), "d_model": 33},
    "lstm": {"kind": "lstm", "d_model": 33},
    "lstm, deep": {"kind": "lstm", "n_layers": 3},
    "gru": {"kind": "gru", "d_model": 33},
    "gru, deep": {"kind": "gru", "n_layers": 3},
    "tkan": {"kind": "tkan", "d_model": 33},
    "tkan, deep": {"kind": "tkan", "n_layers": 2, "grid_size": 3, "order": 2, "n_sublayers": 2, "sub_output": 5},
    "m-gru": {"kind": "m-gru", "d_model": 33},
    "m-gru, deep": {"kind": "m-gru", "n_layers": 2, "covariate_columns": (1, 2), "unit_diagonal": True},
    "m-lstm": {"kind": "m-lstm", "transition": "logits", "n_regimes": 3},
    # of two layers at random weights, many turn rounding into other forecasts, torch's own as well
    "m-tkan": {"kind": "m-tkan", "covariate_columns": (3, 1, 2), "n_regimes": 3},
    "m-tkan, deep": {"kind": "m-tkan", "n_layers": 2, "n_sublayers": 1, "grid_size": 3},
    "transformer": {"kind": "transformer", "d_model": 18, "n_heads": 3, "d_ff": 21, "n_layers": 3},
    "transformer, one bar": {"kind": "transformer", "window_bars": 1},
    "transformer, all bars": {"kind": "transformer", "window_bars": 300, "n_heads": 1},
    "hvae": {"kind": "hvae", "strides": (4, 24, 168), "d_latent": (2, 4, 8), "d_hidden": 64},
    "hvae, chain": {"kind": "hvae", "decoder": "chain", "observation": "gaussian", "d_hidden": 13},
    "hvae, from one bar": {"kind": "hvae", "strides": (1, 5, 10, 60), "d_latent": (1, 1, 2, 5)},
    "hvae, one level": {"kind": "hvae", "strides": (7,), "d_latent": (4,)},
}


@pytest.fixture(params=NETWORKS, scope="module")
def bundle(request, hourly_bars):
    return random_bundle(hourly_bars[:300], **NETWORKS[request.param])


def test_the_stream_equals_torch_over_the_whole_sequence(bundle, hourly_bars):
    rows = hourly_bars[:300].arrays()
    np.testing.assert_allclose(Stream(bundle).scan(rows), torch_outputs(bundle, rows), rtol=1e-5, atol=1e-6)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-3, 0.3))
def test_the_stream_equals_torch_on_random_bars(bundle, hourly_bars, seed, scale):
    rows = hourly_bars[:120].arrays()
    factor = np.exp(np.random.default_rng(seed).normal(0, scale, len(rows)).cumsum())[:, None]
    rows[:, 1:5] *= factor
    rows[:, 5:6] *= factor**2
    np.testing.assert_allclose(Stream(bundle).scan(rows), torch_outputs(bundle, rows), rtol=1e-5, atol=1e-6)


def test_the_numpy_twins_run_the_whole_plan(bundle, hourly_bars):
    rows = hourly_bars[:80].arrays()
    compiled, plain = Stream(bundle), Stream(bundle)
    program = plain._program
    plan, inputs, outputs = program.table[1 + program.table[0, 0] :], program.table[0, 3], program.table[0, 4]
    x = bundle.normalizer(FeatureSet(bundle.features).scan(rows)).astype(np.float32)
    raw = []
    for bars, features in enumerate(x, 1):
        program.S[inputs : inputs + len(features)] = features
        reference.walk(plan, program.S, program.W, bars)
        raw.append(program.S[outputs : outputs + len(plain.outputs)].copy())
    np.testing.assert_allclose(compiled.scan(rows), in_units(bundle, np.array(raw)), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("module", ["features", "targets"])
def test_compiled_code_is_stored_under_the_version_of_all_its_sources(module, tmp_path, monkeypatch):
    enclosed = [cell.cell_contents for cell in kernels.run.py_func.__closure__]
    assert int(kernels.source_version()[:15], 16) in enclosed
    edited = tmp_path / "edited.py"
    code = getattr(kernels, module)
    edited.write_bytes(Path(code.__file__).read_bytes() + b"#")
    monkeypatch.setattr(code, "__file__", str(edited))
    assert int(kernels.source_version()[:15], 16) not in enclosed


def test_weights_begin_at_cache_lines(bundle):
    program = Stream(bundle)._program
    assert program.W.ctypes.data % 64 == 0
    assert program.S.ctypes.data % 64 == 0
