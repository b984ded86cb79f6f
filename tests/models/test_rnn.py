"""LSTM and GRU are torch's own, with heads."""

import pytest
import torch
from torch import nn

from hissbt.errors import ConfigError
from hissbt.models import build_network

CELLS = {"lstm": nn.LSTM, "gru": nn.GRU}


def make(kind, **settings):
    torch.manual_seed(0)
    net = build_network(kind, {"n_features": 3, "d_model": 6, "n_layers": 2, **settings}).double()
    nn.init.normal_(net.heads.skip.weight)
    return net


@pytest.fixture
def x():
    return torch.randn(2, 30, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@torch.no_grad()
@pytest.mark.parametrize("kind", CELLS)
def test_outputs_are_the_heads_of_torchs_own_module_with_the_same_weights(kind, x):
    net = make(kind).eval()
    oracle = CELLS[kind](3, 6, 2, batch_first=True).double()
    prefix = "rnn."
    weights = net.state_dict()
    oracle.load_state_dict(
        {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
    )
    hidden, last = oracle(x)
    expected = hidden @ net.heads.readout.weight[0] + net.heads.readout.bias[0] + x @ net.heads.skip.weight[0]
    outputs, state = net.prefill(x)
    torch.testing.assert_close(outputs["return"][..., 0], expected, atol=1e-12, rtol=0)
    assert all(torch.equal(a, b) for a, b in zip(state, last if kind == "lstm" else (last,), strict=True))


@torch.no_grad()
@pytest.mark.parametrize("kind", CELLS)
def test_a_step_is_the_textbook_cell(kind, x):
    """Written out from the papers' equations, in torch's order of gates."""
    net = make(kind, n_layers=1).eval()
    _, state = net.prefill(x[:, :10])
    weights = dict(net.rnn.named_parameters())
    h = state[0][0]
    inputs = x[:, 10] @ weights["weight_ih_l0"].T + weights["bias_ih_l0"]
    recurrent = h @ weights["weight_hh_l0"].T + weights["bias_hh_l0"]
    if kind == "lstm":
        i, f, g, o = (inputs + recurrent).chunk(4, dim=-1)
        h = o.sigmoid() * torch.tanh(f.sigmoid() * state[1][0] + i.sigmoid() * g.tanh())
    else:
        (r, z, n), (r_h, z_h, n_h) = inputs.chunk(3, dim=-1), recurrent.chunk(3, dim=-1)
        z = (z + z_h).sigmoid()
        h = (1 - z) * torch.tanh(n + (r + r_h).sigmoid() * n_h) + z * h
    _, after = net.step(x[:, 10], state)
    torch.testing.assert_close(after[0][0], h, atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize("n_layers", [1, 2])
def test_dropout_works_in_training_only(kind, n_layers, x):
    net = make(kind, dropout=0.5, n_layers=n_layers)
    assert not torch.equal(net(x)["return"], net(x)["return"])
    net.eval()
    assert torch.equal(net(x)["return"], net(x)["return"])


@pytest.mark.parametrize("kind", CELLS)
@pytest.mark.parametrize(("setting", "value"), [("d_model", 0), ("n_layers", 0), ("dropout", 1.0), ("d_state", 4)])
def test_a_wrong_setting_is_named(kind, setting, value):
    with pytest.raises(ConfigError, match=setting):
        build_network(kind, {"n_features": 3, setting: value})
