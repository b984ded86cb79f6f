"""KAN layers and TKAN against the package ``tkan``, and the compiled loops against torch's operations."""

import os

os.environ["KERAS_BACKEND"] = "torch"  # before keras is imported

import keras
import pytest
import scipy.interpolate
import tkan
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from hissbt.models import build_network, tkan_scan
from hissbt.models.kan import TKAN, KANLinear, TKANCell
from hissbt.models.tkan_scan import Splines

SUB_OUTPUT = 7


def random_weights(module, seed=1, scale=0.1):
    """Move every weight, so that none is at a convenient value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator).to(parameter.dtype)
    return module


def theirs_like(cell, copy=0):
    """Return the package's cell with the weights of one copy of ours."""
    config = {"spline_order": cell.kan.splines.order, "grid_size": cell.kan.splines.grid_size}
    count = cell.n_sublayers
    other = tkan.tkan.TKANCell(
        cell.units, sub_kan_configs=[config] * count, sub_kan_output_dim=cell.sub_output
    )  # fmt: skip
    other.build((1, cell.kernel.shape[1]))
    own = slice(copy * count, (copy + 1) * count)
    memory = torch.cat([cell.new[own], cell.old[own]], dim=-1)
    pairs = [
        (other.kernel, cell.kernel[copy]),
        (other.recurrent_kernel, cell.recurrent[copy]),
        (other.bias, cell.bias[copy]),
        (other.sub_tkan_recurrent_kernel_inputs, cell.sub_inputs[own]),
        (other.sub_tkan_recurrent_kernel_states, cell.sub_states[own]),
        (other.sub_tkan_kernel, memory),
        (other.aggregated_weight, cell.gate[copy]),
        (other.aggregated_bias, cell.gate_bias[copy]),
    ]
    for i, layer in enumerate(other.tkan_sub_layers):
        pairs += copied_layer(layer, cell.kan, copy * count + i)
    for variable, value in pairs:
        variable.assign(value.detach().numpy())
    return other


def copied_layer(layer, kan, i):
    """Pair the package's KANLinear with the weights of one of ours."""
    return [
        (layer.layer_norm.gamma, kan.norm_gain[i]),
        (layer.layer_norm.beta, kan.norm_bias[i]),
        (layer.base_weight, kan.base[i]),
        (layer.base_bias, kan.bias[i]),
        (layer.spline_weight, kan.spline[i].flatten(0, 1)),
    ]


def as_tensor(value):
    return torch.as_tensor(keras.ops.convert_to_numpy(value))


# -------------------------------------------------------------------------------------------- the package


@torch.no_grad()
@pytest.mark.parametrize(("order", "grid_size"), [(3, 5), (3, 3), (0, 4), (1, 3), (2, 2), (4, 1)])
@pytest.mark.parametrize("n_sublayers", [1, 3])
def test_a_cell_is_the_packages_cell_with_the_same_weights(order, grid_size, n_sublayers):
    torch.manual_seed(0)
    cell = random_weights(TKANCell(4, 6, n_sublayers, SUB_OUTPUT, grid_size, order, copies=2))
    x = torch.randn(3, 40, 4)
    theirs = [theirs_like(cell, copy) for copy in range(2)]
    state = cell.initial_state(3)
    for t in range(40):
        before, (hidden, state) = state, cell(x[None, :, t : t + 1], state)
        for copy, other in enumerate(theirs):
            h, c, memory = before[0][copy], before[1][copy], before[2].unflatten(0, (2, -1))[copy]
            output, after = other.call(x[:, t], [h, c, *memory])  # from our state: rounding may not add up
            own = [hidden[copy, :, 0], state[0][copy], state[1][copy], *state[2].unflatten(0, (2, -1))[copy]]
            for ours, value in zip(own, [output, *after], strict=True):
                torch.testing.assert_close(ours, as_tensor(value), atol=1e-6, rtol=0)


@torch.no_grad()
def test_two_layers_are_the_packages_two_layers():
    torch.manual_seed(0)
    ours = TKAN(3, 20, n_layers=2)
    x = torch.randn(2, 30, 3)
    hidden = x
    for cell in ours.cells:
        layer = keras.layers.RNN(theirs_like(cell), return_sequences=True)
        hidden = as_tensor(layer(hidden))
    torch.testing.assert_close(ours(x, ours.initial_state(2))[0][0], hidden, atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_kan_layer_is_the_packages_layer_with_the_same_weights():
    torch.manual_seed(0)
    ours = random_weights(KANLinear(5, 3, grid_size=4, order=2, copies=2))
    x = 2 * torch.randn(2, 50, 5)
    for i in range(2):
        theirs = tkan.tkan.KANLinear(3, grid_size=4, spline_order=2)
        theirs.build((1, 5))
        for variable, value in copied_layer(theirs, ours, i):
            variable.assign(value.detach().numpy())
        torch.testing.assert_close(ours(x)[i], as_tensor(theirs(x[i])), atol=1e-6, rtol=0)


def test_it_starts_as_the_package_does():
    """Zero biases but one for the forget gate, matrices of the same spread."""
    torch.manual_seed(0)
    ours, theirs = TKANCell(30, 40), tkan.tkan.TKANCell(40, sub_kan_configs=[None] * 3, sub_kan_output_dim=10)
    theirs.build((1, 30))
    assert torch.equal(ours.bias[0], as_tensor(theirs.bias))
    spreads = {
        "kernel": (ours.kernel, theirs.kernel),
        "recurrent": (ours.recurrent, theirs.recurrent_kernel),
        "inputs": (ours.sub_inputs, theirs.sub_tkan_recurrent_kernel_inputs),
        "states": (ours.sub_states, theirs.sub_tkan_recurrent_kernel_states),
        "gate": (ours.gate, theirs.aggregated_weight),
        "memory": (torch.cat([ours.new, ours.old], dim=-1), theirs.sub_tkan_kernel),
    }
    for name, (weight, variable) in spreads.items():
        assert weight.std().item() == pytest.approx(as_tensor(variable).std().item(), rel=0.1), name


# ------------------------------------------------------------------------------------------------ splines


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 8), st.integers(0, 5), st.integers(0, 2**32))
def test_splines_are_those_of_scipy(grid_size, order, seed):
    x = 3 * torch.rand(50, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1.5
    splines = Splines(grid_size, order)
    width = 2 / grid_size
    ours = splines.at(x)
    for i in range(splines.count):
        knots = -1 + width * (torch.arange(order + 2, dtype=torch.float64) + i - order)
        theirs = scipy.interpolate.BSpline.basis_element(knots.numpy(), extrapolate=False)(x.numpy())
        torch.testing.assert_close(ours[:, i], torch.as_tensor(theirs).nan_to_num(0.0), atol=1e-12, rtol=0)


@pytest.mark.parametrize("order", range(5))
def test_splines_sum_to_one_on_the_grid(order):
    x = torch.linspace(-1, 1, 101, dtype=torch.float64)[:-1]
    total = Splines(5, order).at(x).sum(-1)
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-12, rtol=0)


# ------------------------------------------------------------------------------------ the compiled loops


def gradients(net, x, state):
    """Return the outputs, the new state and the gradients of a sum of squares by all that went in."""
    hidden, after = net(x, state)
    tensors = [hidden, *(z for cell in after for z in cell)]
    inputs = [x, *(z for cell in state for z in cell), *net.parameters()]
    return tensors + list(torch.autograd.grad(sum(z.square().sum() for z in tensors), inputs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("order", "n_layers"), [(3, 2), (0, 1), (1, 1), (2, 1), (4, 1)])
def test_the_compiled_loops_are_torchs_operations(order, n_layers, dtype, monkeypatch):
    torch.manual_seed(0)
    net = random_weights(TKAN(4, 6, n_layers, copies=2, n_sublayers=2, grid_size=4, order=order).to(dtype))
    x = torch.randn(3, 12, 4, dtype=dtype).requires_grad_()
    state = tuple(
        tuple((z + 0.1 * torch.randn_like(z)).requires_grad_() for z in cell) for cell in net.initial_state(3)
    )
    compiled = gradients(net, x, state)
    monkeypatch.setattr(tkan_scan, "_compiles", lambda x: False)
    tolerance = 1e-10 if dtype == torch.float64 else 1e-4
    for ours, theirs in zip(compiled, gradients(net, x, state), strict=True):
        torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=tolerance)


def test_the_gradients_are_right():
    torch.manual_seed(0)
    net = random_weights(TKAN(3, 2, copies=2, n_sublayers=2, sub_output=2, grid_size=3).double())
    x = torch.randn(2, 4, 3, dtype=torch.float64).requires_grad_()
    names = [name for name, _ in net.named_parameters()]

    def run(x, *weights):
        values = dict(zip(names, weights, strict=True))
        return torch.func.functional_call(net, values, (x, net.initial_state(2)))[0]

    assert torch.autograd.gradcheck(run, [x, *net.parameters()])


def test_a_second_derivative_is_refused():
    net = TKAN(3, 4)
    x = torch.randn(1, 5, 3).requires_grad_()
    hidden, _ = net(x, net.initial_state(1))
    (gradient,) = torch.autograd.grad(hidden.square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


@torch.no_grad()
def test_a_nan_is_never_hidden():
    net = TKAN(3, 4)
    x = torch.randn(1, 9, 3)
    x[0, 5, 1] = torch.nan
    hidden, _ = net(x, net.initial_state(1))
    assert hidden[..., :5, :].isfinite().all()
    assert hidden[..., 5:, :].isnan().all()


# ------------------------------------------------------------------------------------------- the network


@torch.no_grad()
def test_copies_are_cells_of_their_own():
    torch.manual_seed(0)
    together = TKAN(3, 5, n_layers=2, copies=3, n_sublayers=2)
    x = torch.randn(2, 20, 3)
    hidden, _ = together(x, together.initial_state(2))
    for i in range(3):
        alone = TKAN(3, 5, n_layers=2, n_sublayers=2)
        for name, parameter in alone.named_parameters():
            every = together.get_parameter(name)
            parameter.copy_(every.unflatten(0, (3, -1))[i])
        torch.testing.assert_close(hidden[i], alone(x, alone.initial_state(2))[0][0], atol=1e-6, rtol=0)


@torch.no_grad()
def test_outputs_are_the_heads_of_the_last_layer():
    net = build_network("tkan", {"n_features": 3, "d_model": 6, "n_layers": 2}).eval()
    x = torch.randn(2, 20, 3)
    hidden, _ = net.rnn(x, net.initial_state(2))
    assert all(torch.equal(net(x)[name], value) for name, value in net.heads(hidden[0], x).items())


@torch.no_grad()
def test_candidates_are_squashed_twice():
    """The package's way: the candidate is tanh(sigmoid(.)), so no cell gets below 0."""
    cell = random_weights(TKANCell(3, 8))
    _, (_, c, _) = cell(5 * torch.randn(1, 2, 50, 3), cell.initial_state(2))
    assert (c > 0).all()
    one = F.sigmoid(torch.tensor(100.0)).tanh()
    assert one == pytest.approx(0.7616, abs=1e-4)


def test_dropout_works_in_training_only():
    net = build_network("tkan", {"n_features": 3, "d_model": 6, "n_layers": 2, "dropout": 0.5})
    x = torch.randn(2, 20, 3)
    assert not torch.equal(net(x)["return"], net(x)["return"])
    net.eval()
    assert torch.equal(net(x)["return"], net(x)["return"])
