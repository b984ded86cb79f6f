"""What every network promises, whatever its family: forward = step, causality, independence, gradients.

A new family adds its rows to ``NETWORKS`` and is held to all of it.
"""

import pytest
import torch

from hissbt.models import HiSSConfig, HiSSNet, build_network
from hissbt.models.window_vae import WindowVAE

FEATURES = 3
LENGTH = 300
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}  # forward against step
CAUSAL_TOLERANCE = 1e-12  # relative, in float64: FFT convolution spreads rounding, and rounding only, backwards

SMALL = {"n_features": FEATURES, "d_model": 8, "d_state": 8}
TRANSFORMER = {"n_features": FEATURES, "d_model": 12, "n_heads": 3, "d_ff": 10}
SWITCHING = {"n_features": FEATURES, "d_model": 5}
LATENT = {"n_features": FEATURES, "d_hidden": 8}
SMALL_TKAN = {"n_features": FEATURES, "d_model": 3}  # at random weights many forget nothing, rounding included
NETWORKS = {
    "hiss": ("hiss", SMALL),
    "hiss-wide-and-deep": ("hiss", {**SMALL, "d_model": (8, 12, 4), "n_layers": (2, 1, 2), "s4d_init": "legs"}),
    "hiss-conv-sum": ("hiss", {**SMALL, "downsample": "conv", "fuse": "sum", "discretization": "bilinear"}),
    "hiss-last-4-levels": ("hiss", {**SMALL, "downsample": "last", "strides": (2, 3, 5), "blocks": "mamba"}),
    "hiss-mamba-below-s4d": ("hiss", {**SMALL, "strides": (7,), "blocks": ("mamba", "s4d"), "s4d_init": "inv"}),
    "flat-s4d": ("hiss", {**SMALL, "strides": (), "blocks": "s4d", "s4d_init": "real"}),
    "flat-mamba": ("hiss", {**SMALL, "strides": (), "blocks": "mamba"}),
    "lstm": ("lstm", {"n_features": FEATURES, "d_model": 8}),
    "lstm-deep": ("lstm", {"n_features": FEATURES, "d_model": 5, "n_layers": 2}),
    "gru": ("gru", {"n_features": FEATURES, "d_model": 8}),
    "gru-deep": ("gru", {"n_features": FEATURES, "d_model": 5, "n_layers": 2}),
    "transformer": ("transformer", {**TRANSFORMER, "window_bars": 20}),
    "transformer-of-two-bars": ("transformer", {**TRANSFORMER, "n_layers": 1, "n_heads": 1, "window_bars": 2}),
    "tkan": ("tkan", {"n_features": FEATURES, "d_model": 8}),
    "tkan-deep": ("tkan", {**SMALL_TKAN, "n_layers": 2, "n_sublayers": 1, "sub_output": 4, "grid_size": 3}),
    "m-gru": ("m-gru", {**SWITCHING, "covariate_columns": (1,)}),
    "m-lstm": ("m-lstm", {**SWITCHING, "return_column": 2, "transition": "logits", "n_regimes": 3}),
    "m-tkan": ("m-tkan", {"n_features": FEATURES, "d_model": 8, "covariate_columns": (0, 1, 2)}),
    "transformer-of-all-bars": ("transformer", {**TRANSFORMER, "n_heads": 4, "window_bars": 2 * LENGTH}),
    "hvae": ("hvae", {**LATENT, "strides": (2, 6, 24), "d_latent": (1, 2, 3)}),
    "hvae-from-one-bar": ("hvae", {**LATENT, "strides": (1, 5), "d_latent": (3, 2), "observation": "gaussian"}),
    "hvae-chain": ("hvae", {**LATENT, "strides": (2, 4, 8, 16), "d_latent": (2,) * 4, "decoder": "chain"}),
}
FORECASTERS = [name for name, (kind, _) in NETWORKS.items() if kind != "hvae"]


def make(kind, config):
    """Build a network in float64, none of whose parameters is at a convenient zero."""
    torch.manual_seed(0)
    net = build_network(kind, config).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net


@pytest.fixture(params=NETWORKS)
def net(request):
    return make(*NETWORKS[request.param])


@pytest.fixture
def x():
    return torch.randn(2, LENGTH, FEATURES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def stack(net, outputs):
    """Return a network's outputs as one tensor [..,n], in the order of their names."""
    return torch.cat([outputs[name] for name in net.outputs], dim=-1)


def run(net, x):
    """Return all outputs [B,T,n] at all bars of x."""
    return stack(net, net(x))


def leaves(state):
    """Return the tensors and integers of a nested state in order; anything else in it is an error."""
    if isinstance(state, tuple):
        return [leaf for part in state for leaf in leaves(part)]
    assert isinstance(state, torch.Tensor | int), f"a state holds tensors and integers, not {type(state).__name__}"
    return [state]


def run_by_steps(net, x, state):
    """Step over x; return the outputs [B,T,3] and the state after every bar, the given one first."""
    outputs, states = [], [state]
    for t in range(x.shape[1]):
        y, state = net.step(x[:, t], state)
        outputs.append(stack(net, y))
        states.append(state)
    return torch.stack(outputs, dim=1), states


def assert_same_state(left, right, tolerance):
    for a, b in zip(leaves(left), leaves(right), strict=True):
        torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


# -------------------------------------------------------------------------------- forward and step agree


@torch.no_grad()
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_steps_equal_forward_for_every_length_and_split(net, x, dtype):
    """From the first bar the outputs agree at all lengths, and the states at all splits: so does what follows."""
    net, x, tolerance = net.to(dtype), x.to(dtype), TOLERANCE[dtype]
    stepped, states = run_by_steps(net, x, net.initial_state(len(x)))
    for length in range(1, LENGTH + 1):
        outputs, state = net.prefill(x[:, :length])
        torch.testing.assert_close(stack(net, outputs), stepped[:, :length], atol=tolerance, rtol=0)
        assert_same_state(state, states[length], tolerance)
        if length <= 64 or length > LENGTH - 16:
            forward = run(net, x[:, :length])
            torch.testing.assert_close(forward, stepped[:, :length], atol=tolerance, rtol=0)


@torch.no_grad()
def test_stepping_goes_on_where_the_parallel_pass_ended(net, x):
    """In every phase of the blocks, over more than one block of the coarsest level."""
    period = net.strides[-1]
    whole = run(net, x)
    for split in range(50, 50 + period):
        _, state = net.prefill(x[:, :split])
        end = min(split + 2 * period, LENGTH)
        continued, _ = run_by_steps(net, x[:, split:end], state)
        torch.testing.assert_close(continued, whole[:, split:end], atol=1e-10, rtol=0)


@torch.no_grad()
def test_prefill_of_nothing_is_the_initial_state(net):
    outputs, state = net.prefill(torch.zeros(2, 0, FEATURES, dtype=torch.float64))
    assert all(outputs[name].shape[:2] == (2, 0) for name in net.outputs)
    assert_same_state(state, net.initial_state(2), 0)


@torch.no_grad()
def test_a_step_leaves_the_given_state_as_it_was(net, x):
    for split in range(2 * net.strides[-1]):
        _, state = net.prefill(x[:, :split])
        before = [leaf.clone() if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves(state)]
        first, after = net.step(x[:, split], state)
        net.step(x[:, split + 1], after)
        again, _ = net.step(x[:, split], state)
        assert torch.equal(stack(net, first), stack(net, again))
        for old, leaf in zip(before, leaves(state), strict=True):
            assert torch.equal(torch.as_tensor(old), torch.as_tensor(leaf))


@torch.no_grad()
def test_a_state_keeps_its_shape_from_bar_to_bar(net, x):
    _, states = run_by_steps(net, x[:, :40], net.initial_state(2))
    shapes = {tuple(getattr(leaf, "shape", None) for leaf in leaves(state)) for state in states}
    assert len(shapes) == 1


# -------------------------------------------------------------------------------------------- causality


def assert_future_never_alters_the_past(net, x):
    """Alter all bars from t on, for t over all residues of the coarsest stride; compare the outputs before t."""
    before = run(net, x)
    for t in range(64, 64 + max(16, net.strides[-1])):
        altered = x.clone()
        altered[:, t:] = 10 - 3 * altered[:, t:]
        after = run(net, altered)
        torch.testing.assert_close(after[:, :t], before[:, :t], rtol=CAUSAL_TOLERANCE, atol=CAUSAL_TOLERANCE)
        assert not torch.allclose(after[:, t], before[:, t])  # the altered bar itself is seen at once


def assert_truncation_changes_nothing(net, x):
    """Compare the last output of x[:t] with output t-1 of x, for t over all residues of the coarsest stride."""
    whole = run(net, x)
    for t in range(1, 65 + max(16, net.strides[-1])):
        last = run(net, x[:, :t])[:, -1]
        torch.testing.assert_close(last, whole[:, t - 1], rtol=CAUSAL_TOLERANCE, atol=CAUSAL_TOLERANCE)


class LeakyHiSS(HiSSNet):
    """The tempting mistake: repeat each coarse value over its own block, before that block has closed."""

    def _hold(self, values):
        length, held = values[0].shape[1], [values[0]]
        for i, (coarse, stride) in enumerate(zip(values[1:], self.strides[1:], strict=True)):
            early = (torch.arange(length) // stride + 1).clamp(max=coarse.shape[1])
            held.append(self._with_first(i, coarse)[:, early])
        return held


@torch.no_grad()
def test_the_future_never_alters_the_past(net, x):
    assert_future_never_alters_the_past(net, x)


@torch.no_grad()
def test_truncating_the_future_changes_nothing(net, x):
    assert_truncation_changes_nothing(net, x)


@torch.no_grad()
@pytest.mark.parametrize("check", [assert_future_never_alters_the_past, assert_truncation_changes_nothing])
def test_a_network_that_looks_ahead_is_caught(check, x):
    torch.manual_seed(0)
    with pytest.raises(AssertionError):
        check(LeakyHiSS(HiSSConfig(**SMALL)).double().eval(), x)


# ------------------------------------------------------------------------------------------------ the rest


@torch.no_grad()
def test_the_streams_of_a_batch_do_not_touch(net, x):
    together = run(net, x)
    for i in range(len(x)):
        torch.testing.assert_close(together[i : i + 1], run(net, x[i : i + 1]), atol=1e-12, rtol=1e-12)


def test_gradients_flow_to_every_parameter(net, x):
    net.train()
    if isinstance(net, WindowVAE):  # of a window it decodes all bars; what goes by the bar is the last one
        net.terms(x[:, : net.warmup]).elbo.sum().backward()
    else:
        outputs = run(net, x)
        (outputs * torch.randn_like(outputs)).sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.count_nonzero() == parameter.numel(), name


@torch.no_grad()
def test_outputs_come_under_their_names_and_in_their_shapes(net, x):
    outputs = net(x)
    assert tuple(outputs)[: len(net.outputs)] == net.outputs
    assert all(outputs[name].shape[:2] == (2, LENGTH) for name in net.outputs)
    step, _ = net.step(x[:, 0], net.initial_state(2))
    assert {name: value.shape for name, value in step.items()} == {
        name: value[:, 0].shape for name, value in outputs.items()
    }


@torch.no_grad()
@pytest.mark.parametrize("net", FORECASTERS, indirect=True)
def test_a_forecast_is_a_return_a_direction_and_a_volatility(net, x):
    outputs = net(x)
    assert net.outputs == ("return", "direction", "volatility")
    assert all(outputs[name].shape == (2, LENGTH, 1) for name in net.outputs)
    assert (outputs["volatility"] > 0).all()


@torch.no_grad()
@pytest.mark.parametrize("name", NETWORKS)
def test_config_and_weights_alone_make_the_same_network(name, x):
    kind, config = NETWORKS[name]
    net = make(kind, config)
    twin = build_network(kind, net.config.complete()).double().eval()
    twin.load_state_dict(net.state_dict())
    assert torch.equal(run(twin, x), run(net, x))


def test_strides_start_at_one_and_warmup_covers_the_coarsest(net):
    assert net.strides[0] == 1
    assert all(coarse % fine == 0 for fine, coarse in zip(net.strides, net.strides[1:], strict=False))
    assert net.warmup >= net.strides[-1]
