"""The numpy twins of the recurrent cells and of attention, in float64, are torch's step."""

import numpy as np
import pytest
import torch
from torch import nn

from hissbt.models.transformer import WindowAttention
from hissbt.stream import reference

BARS = 25


@pytest.fixture
def rng():
    torch.manual_seed(0)
    return np.random.default_rng(0)


@torch.no_grad()
@pytest.mark.parametrize(("name", "oracle", "gates"), [("lstm", nn.LSTMCell, 4), ("gru", nn.GRUCell, 3)])
@pytest.mark.parametrize("n", [1, 6, 17])
def test_a_cell_is_torchs(name, oracle, gates, n, rng):
    cell = oracle(5, n).double()
    weights = {name: parameter.numpy() for name, parameter in cell.named_parameters()}
    work, y = np.zeros(2 * gates * n + 2 * n), 2 * gates * n
    state = None
    for x in rng.normal(size=(BARS, 5)):
        h = work[y : y + n]
        work[: gates * n] = weights["weight_ih"] @ x + weights["bias_ih"]
        work[gates * n : y] = weights["weight_hh"] @ h + weights["bias_hh"]
        getattr(reference, name)(work, None, 0, y, n)
        state = cell(torch.from_numpy(x)[None], state)
        expected = torch.cat(state, -1)[0] if name == "lstm" else state[0]
        np.testing.assert_allclose(work[y : y + len(expected)], expected, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("window", [1, 2, 7, 100])
@pytest.mark.parametrize("heads", [1, 2, 4])
def test_attention_is_the_step_of_the_transformer(window, heads, rng):
    n = 8
    attention = WindowAttention(n, heads, window).double()
    nn.init.eye_(attention.out_proj.weight)
    nn.init.zeros_(attention.out_proj.bias)
    work = rng.normal(size=4 * n + window + 2 * n * window)  # what lies in the rings before a bar came is not read
    W, y, rings = attention.slopes.numpy(), 3 * n + window, 4 * n + window
    state = attention.initial_state(1)
    for bars, x in enumerate(rng.normal(size=(BARS, n))):
        work[: 3 * n] = attention.in_proj.weight.numpy() @ x
        reference.attention(work, W, 0, y, n, heads, window, 0, rings, bars + 1)
        expected, state = attention.step(torch.from_numpy(x)[None], state, bars)
        np.testing.assert_allclose(work[y : y + n], expected[0], atol=1e-12)
