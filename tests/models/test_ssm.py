"""S4D and Mamba layers against their definitions, and against other people's code on the same weights."""

import math

import numpy as np
import pytest
import torch
from mambapy.mamba import MambaBlock
from mambapy.mamba import MambaConfig as MambapyConfig
from transformers import MambaConfig as TransformersConfig
from transformers.models.mamba.modeling_mamba import MambaMixer

from hissbt.errors import ConfigError
from hissbt.models.ssm import (
    DISCRETIZATIONS,
    S4D,
    S4D_INITS,
    CausalConvolution,
    Mamba,
    ResidualBlock,
    S4DKernel,
    fft_length,
    powers,
    s4d_diagonal,
)

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
S4D_VARIANTS = [(init, rule) for init in S4D_INITS for rule in DISCRETIZATIONS]
MIXERS = {f"s4d-{init}-{rule}": (S4D, {"init": init, "discretization": rule}) for init, rule in S4D_VARIANTS}
MIXERS["mamba"] = (Mamba, {})

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def seeded(*shape, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=dtype)


@pytest.fixture(params=MIXERS)
def block(request):
    torch.manual_seed(2)
    kind, settings = MIXERS[request.param]
    return ResidualBlock(8, kind(8, 16, **settings))


def run_by_steps(layer, x, state):
    """Step over x [B,T,H]; return the outputs [B,T,H] and the state after every bar, the given one first."""
    outputs, states = [], [state]
    for t in range(x.shape[1]):
        y, state = layer.step(x[:, t], state)
        outputs.append(y)
        states.append(state)
    return torch.stack(outputs, 1), states


def assert_states_equal(left, right, tolerance):
    if isinstance(left, tuple):
        for a, b in zip(left, right, strict=True):
            assert_states_equal(a, b, tolerance)
    else:
        torch.testing.assert_close(left, right, atol=tolerance, rtol=tolerance)


# ---------------------------------------------------------------------------------------- both mixers


@torch.no_grad()
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_steps_equal_forward_for_every_length_and_split(block, dtype):
    block, tolerance = block.to(dtype), TOLERANCE[dtype]
    x = seeded(2, 300, 8, dtype=dtype)
    stepped, states = run_by_steps(block, x, block.initial_state(2))
    for length in range(1, 301):
        y, state = block.prefill(x[:, :length])
        torch.testing.assert_close(y, stepped[:, :length], atol=tolerance, rtol=0)
        torch.testing.assert_close(block(x[:, :length]), y, atol=0, rtol=0)
        assert_states_equal(state, states[length], tolerance)


@torch.no_grad()
def test_stepping_goes_on_where_the_parallel_pass_ended(block):
    block, x = block.double(), seeded(2, 60, 8)
    _, state = block.prefill(x[:, :37])
    continued, _ = run_by_steps(block, x[:, 37:], state)
    torch.testing.assert_close(continued, block(x)[:, 37:], atol=1e-10, rtol=0)


@torch.no_grad()
def test_prefill_of_nothing_is_the_initial_state(block):
    y, state = block.prefill(torch.zeros(3, 0, 8))
    assert y.shape == (3, 0, 8)
    assert_states_equal(state, block.initial_state(3), 0)


@torch.no_grad()
def test_a_step_leaves_the_given_state_as_it_was(block):
    _, state = block.prefill(seeded(2, 9, 8, dtype=torch.float32))
    x = seeded(2, 8, dtype=torch.float32)
    first, after = block.step(x, state)
    run_by_steps(block, seeded(2, 5, 8, dtype=torch.float32), after)
    again, _ = block.step(x, state)
    assert torch.equal(first, again)


# ------------------------------------------------------------------------------------------------ S4D


@torch.no_grad()
@pytest.mark.parametrize(("init", "discretization"), S4D_VARIANTS)
def test_s4d_convolution_equals_its_recurrence_over_4000_steps(init, discretization):
    kernel, u = S4DKernel(3, 64, init, discretization).double(), seeded(1, 4000, 3)
    layer = S4D(3, 64).double()
    layer.kernel = kernel
    stepped, _ = run_by_steps(layer, u, layer.initial_state(1))
    torch.testing.assert_close(layer(u), stepped, atol=1e-12, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("init", "discretization"), S4D_VARIANTS)
def test_s4d_kernel_is_the_impulse_response_of_the_discretized_system(init, discretization):
    """Both discretizations, worked out as matrices in numpy: the exact exponential and the trapezoid rule."""
    kernel = S4DKernel(2, 8, init, discretization).double()
    c = torch.view_as_complex(kernel.C).numpy()
    for channel in range(2):
        dt = math.exp(kernel.log_dt[channel])
        a = np.diag(-np.exp(kernel.log_A_real[channel].numpy()) + 1j * kernel.A_imag[channel].numpy())
        one, ones = np.eye(len(a)), np.ones(len(a))
        if discretization == "zoh":
            step = np.diag(np.exp(np.diag(a) * dt))
            weight = np.linalg.solve(a, step - one) @ ones
        else:
            step = np.linalg.solve(one - dt / 2 * a, one + dt / 2 * a)
            weight = dt * np.linalg.solve(one - dt / 2 * a, ones)
        state, response = weight, []
        for _ in range(50):
            response.append(2 * (c[channel] @ state).real)
            state = step @ state
        np.testing.assert_allclose(kernel(50)[channel].numpy(), response, atol=1e-12)


def test_fft_lengths_hold_the_bars_and_little_more():
    for count in range(1, 2000):
        assert count <= fft_length(count) <= max(4, 1.25 * count)


@pytest.mark.parametrize("length", [1, 2, 7, 20])
def test_the_causal_convolution_is_the_sum_over_past_bars_and_has_its_gradient(length):
    x, kernel = seeded(2, length, 3).requires_grad_(), seeded(3, length).flip(0).requires_grad_()
    expected = torch.stack([(kernel[:, : t + 1].flip(1) * x[:, : t + 1].mT).sum(-1) for t in range(length)], dim=1)
    torch.testing.assert_close(CausalConvolution.apply(x, kernel), expected, atol=1e-12, rtol=0)
    assert torch.autograd.gradcheck(CausalConvolution.apply, (x, kernel))


def test_s4d_diagonals_follow_the_paper():
    n = np.arange(32)
    expected = {
        "lin": -0.5 + 1j * math.pi * n,
        "inv": -0.5 + 1j * 64 / math.pi * (64 / (2 * n + 1) - 1),
        "real": -(n + 1.0),
    }
    for init, diagonal in expected.items():
        a, b = s4d_diagonal(init, 64)
        np.testing.assert_allclose(a.numpy(), diagonal, rtol=1e-12)
        assert torch.equal(b, torch.ones_like(b))


def test_s4d_legs_has_the_eigenvalues_of_the_normal_part_of_hippo():
    """HiPPO-LegS from its entries, plus P P^T, through a general eigensolver."""
    n = np.arange(64)
    hippo = -np.sqrt(np.outer(2 * n + 1, 2 * n + 1)) * (n[:, None] > n) - np.diag(n + 1)
    values, vectors = np.linalg.eig(hippo + np.outer(np.sqrt(n + 0.5), np.sqrt(n + 0.5)))
    upper = np.flatnonzero(values.imag > 0)
    upper = upper[np.argsort(values.imag[upper])]
    weights = np.abs(np.linalg.solve(vectors, np.sqrt(2 * n + 1)))[upper]  # unit eigenvectors: same moduli

    a, b = s4d_diagonal("legs", 64)
    np.testing.assert_allclose(a.numpy(), values[upper], rtol=1e-9)
    np.testing.assert_allclose(b.abs().numpy(), np.minimum(weights, 2), rtol=1e-9)
    assert (weights > 2).any()  # the clipping is seen


def test_s4d_parameters_have_the_official_names_and_shapes():
    shapes = {name: tuple(value.shape) for name, value in S4D(8, 16).named_parameters()}
    assert shapes == {
        "D": (8,),
        "kernel.C": (8, 8, 2),
        "kernel.log_dt": (8,),
        "kernel.log_A_real": (8, 8),
        "kernel.A_imag": (8, 8),
        "output_linear.0.weight": (16, 8, 1),
        "output_linear.0.bias": (16,),
    }


def test_step_sizes_start_between_a_thousandth_and_a_tenth():
    torch.manual_seed(0)
    s4d, mamba = S4D(2000, 2), Mamba(500)
    softplus = torch.nn.functional.softplus(mamba.dt_proj.bias)
    for dt in (s4d.kernel.log_dt.exp(), softplus):
        assert 0.999e-3 < dt.min() < 1.1e-3
        assert 0.09 < dt.max() < 0.1001
        assert abs(dt.log().mean() - math.log(0.01)) < 0.1  # log-uniform: the middle is the geometric one


def test_powers_are_powers():
    base = torch.tensor([0.9 + 0.3j, -0.5 + 0j], dtype=torch.complex128)
    for count in (1, 2, 7, 64, 65):
        torch.testing.assert_close(powers(base, count), base[:, None] ** torch.arange(count))


@pytest.mark.parametrize(
    "settings", [{"init": "random"}, {"discretization": "euler"}, {"d_state": 7}, {"d_state": 0}], ids=str
)
def test_s4d_refuses_what_it_does_not_know(settings):
    value = next(iter(settings.values()))
    with pytest.raises(ConfigError, match=str(value)):
        S4D(4, **settings)


# ---------------------------------------------------------------------------------------------- Mamba


def transformers_mixer(d_model):
    config = TransformersConfig(hidden_size=d_model, state_size=16, num_hidden_layers=1)
    return MambaMixer(config, layer_idx=0).eval()


@torch.no_grad()
def test_mamba_with_transformers_weights_gives_transformers_outputs():
    torch.manual_seed(3)
    peer, ours, x = transformers_mixer(32), Mamba(32, 16), seeded(2, 100, 32, dtype=torch.float32)
    ours.load_state_dict(peer.state_dict())
    torch.testing.assert_close(ours(x), peer(x), atol=1e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("parallel", [True, False])
def test_mamba_with_mambapy_weights_gives_mambapy_outputs_and_steps(parallel):
    torch.manual_seed(4)
    peer, ours = MambaBlock(MambapyConfig(d_model=32, n_layers=1, pscan=parallel)), Mamba(32, 16)
    ours.load_state_dict(peer.state_dict())
    x = seeded(2, 100, 32, dtype=torch.float32)
    torch.testing.assert_close(ours(x), peer(x), atol=1e-6, rtol=0)

    cache, state = (None, torch.zeros(2, 64, 3)), ours.initial_state(2)
    for t in range(100):
        theirs, cache = peer.step(x[:, t], cache)
        mine, state = ours.step(x[:, t], state)
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=0)
    torch.testing.assert_close(state[1], cache[0], atol=1e-6, rtol=0)


def test_mamba_has_the_gradients_of_mambapy():
    torch.manual_seed(5)
    peer, ours = MambaBlock(MambapyConfig(d_model=16, n_layers=1)), Mamba(16, 16)
    ours.load_state_dict(peer.state_dict())
    x = seeded(2, 50, 16, dtype=torch.float32)
    for net in (peer, ours):
        net(x).square().sum().backward()
    theirs = dict(peer.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, atol=1e-5, rtol=1e-4)


def test_mamba_starts_with_the_official_poles_and_skip():
    mamba = Mamba(8, 16)
    torch.testing.assert_close(mamba.A_log.exp(), torch.arange(1.0, 17).expand(16, 16))
    assert torch.equal(mamba.D, torch.ones(16))
    assert mamba.dt_proj.weight.abs().max() <= mamba.rank**-0.5
