"""The causal Transformer: torch's own encoder under a mask, its window, its positions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from hissbt.errors import ConfigError
from hissbt.models import TransformerConfig, TransformerNet, build_network
from hissbt.models import transformer as module
from hissbt.models.transformer import WindowAttention, alibi_slopes

D, HEADS, WINDOW, LENGTH = 12, 3, 7, 40


def make(**settings):
    torch.manual_seed(0)
    sizes = {"n_features": 2, "d_model": D, "n_heads": HEADS, "d_ff": 10, "n_layers": 2, "window_bars": WINDOW}
    net = TransformerNet(TransformerConfig(**{**sizes, **settings})).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net


@pytest.fixture
def x():
    return torch.randn(2, LENGTH, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def mask_spelled_out(n_heads, window, length):
    """Return what is added to the scores, [H,T,T], from the definition."""
    mask = torch.full((n_heads, length, length), -torch.inf, dtype=torch.float64)
    for head in range(n_heads):
        for t in range(length):
            for s in range(max(t - window + 1, 0), t + 1):
                mask[head, t, s] = -(2.0 ** (-8 * (head + 1) / n_heads)) * (t - s)
    return mask


# -------------------------------------------------------------------------------------- torch's own parts


@torch.no_grad()
@pytest.mark.parametrize("window", [1, 2, WINDOW, 100])
def test_attention_is_torchs_own_under_the_mask_of_the_window(window):
    torch.manual_seed(0)
    attention, x = WindowAttention(D, HEADS, window).double(), torch.randn(2, LENGTH, D).double()
    q, k, v = (z.reshape(2, LENGTH, HEADS, -1).transpose(1, 2) for z in attention.in_proj(x).split(D, dim=-1))
    mixed = F.scaled_dot_product_attention(q, k, v, mask_spelled_out(HEADS, window, LENGTH))
    expected = attention.out_proj(mixed.transpose(1, 2).reshape(2, LENGTH, D))
    torch.testing.assert_close(attention(x), expected, atol=1e-6, rtol=0)  # slopes are rounded to float32


@torch.no_grad()
def test_blocks_are_torchs_own_encoder_layers(x):
    net = make()
    h = net.embed(x)
    mask = mask_spelled_out(HEADS, WINDOW, LENGTH).repeat(len(x), 1, 1)  # [B*H,T,T]
    for block in net.blocks:
        oracle = nn.TransformerEncoderLayer(
            D, HEADS, 10, activation="gelu", batch_first=True, norm_first=True, dtype=torch.float64
        ).eval()
        weights = block.state_dict()
        weights["self_attn.in_proj_weight"] = weights.pop("attention.in_proj.weight")
        weights["self_attn.in_proj_bias"] = torch.zeros(3 * D)
        for name in ("weight", "bias"):
            weights[f"self_attn.out_proj.{name}"] = weights.pop(f"attention.out_proj.{name}")
        oracle.load_state_dict(weights)
        h = oracle(h, src_mask=mask)
    expected = net.heads(net.norm(h), x)
    for name, output in net(x).items():
        torch.testing.assert_close(output, expected[name], atol=1e-5, rtol=0)


def test_slopes_are_those_of_the_paper():
    torch.testing.assert_close(alibi_slopes(8), torch.tensor([2.0**-i for i in range(1, 9)]))
    torch.testing.assert_close(alibi_slopes(4), torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8]))


# --------------------------------------------------------------------------------- window and positions


def test_one_layer_sees_its_window_and_nothing_before(x):
    net, t = make(n_layers=1), 30
    x.requires_grad_()
    net(x)["return"][:, t].sum().backward()
    seen = (x.grad.abs().sum((0, 2)) > 0).nonzero()[:, 0].tolist()
    assert seen == list(range(t - WINDOW + 1, t + 1))


@torch.no_grad()
def test_the_same_bars_give_the_same_output_wherever_counting_began(x):
    """Two layers reach back 2 (W-1) bars; what came before, and how much of it, does not matter."""
    net, reach = make(), 2 * (WINDOW - 1) + 1
    whole = net(x)["return"][:, -1]
    torch.testing.assert_close(net(x[:, -reach:])["return"][:, -1], whole, atol=1e-12, rtol=0)
    assert not torch.allclose(net(x[:, -reach + 1 :])["return"][:, -1], whole, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 3, WINDOW, 16, LENGTH - 1])
def test_chunks_of_queries_change_nothing(x, monkeypatch, chunk):
    net = make()
    whole = net(x)["return"]
    monkeypatch.setattr(module, "QUERY_CHUNK", chunk)
    torch.testing.assert_close(net(x)["return"], whole, atol=1e-12, rtol=0)


@torch.no_grad()
def test_a_window_of_one_bar_steps_without_a_cache(x):
    net = make(window_bars=1)
    expected, state = net.prefill(x)
    assert all(cache.shape[2] == 0 for layer in state[1] for cache in layer)
    y, _ = net.step(x[:, -1], net.initial_state(2))
    torch.testing.assert_close(y["return"], expected["return"][:, -1], atol=1e-12, rtol=0)


# ------------------------------------------------------------------------------------------------ settings


def test_dropout_works_in_training_only(x):
    net = make(dropout=0.5).train()
    assert not torch.equal(net(x)["return"], net(x)["return"])
    net.eval()
    assert torch.equal(net(x)["return"], net(x)["return"])


@pytest.mark.parametrize(
    ("setting", "value"), [("n_heads", 5), ("window_bars", 0), ("d_ff", 0), ("n_layers", 0), ("heads", 4)]
)
def test_a_wrong_setting_is_named(setting, value):
    with pytest.raises(ConfigError, match=setting):
        build_network("transformer", {"n_features": 3, setting: value})
