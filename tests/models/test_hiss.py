"""The hierarchy of HiSSNet: its rates, its causal hold, its settings."""

import pytest
import torch

from hissbt.errors import ConfigError
from hissbt.models import HiSSConfig, HiSSNet, build_network
from hissbt.models.hiss import BlockPool
from hissbt.models.ssm import S4D, Mamba


def make(**settings):
    torch.manual_seed(0)
    net = HiSSNet(HiSSConfig(n_features=2, d_model=4, d_state=4, **settings)).double().eval()
    with torch.no_grad():
        for first in net.first_held:
            first.normal_()
    return net


def sequence(length):
    return torch.randn(1, length, 2, dtype=torch.float64)


# -------------------------------------------------------------------------------------------- hierarchy


def test_the_default_is_three_levels_s4d_below_mamba():
    net = HiSSNet(HiSSConfig(n_features=2))
    assert net.strides == (1, 4, 16)
    assert net.warmup == 16
    assert [type(level.blocks[0].mixer) for level in net.levels] == [S4D, Mamba, Mamba]


def test_without_strides_it_is_one_flat_level():
    net = make(strides=())
    assert net.strides == (1,)
    assert net.warmup == 1
    x = sequence(20)
    expected = net.heads(net.norm(net.levels[0](x)), x)
    for name, output in net(x).items():
        torch.testing.assert_close(output, expected[name])


@torch.no_grad()
@pytest.mark.parametrize("strides", [(4, 4), (2, 3, 5), (7,)])
@pytest.mark.parametrize("length", [1, 3, 4, 16, 59, 60, 61])
def test_each_level_holds_its_newest_closed_block(strides, length):
    """Spelled out bar by bar: what a level holds at t is its value for block (t+1)//s - 1."""
    net, x = make(strides=strides), sequence(length)
    values = [net.levels[0](x)]
    for level, factor in zip(net.levels[1:], strides, strict=True):
        blocks = values[-1].shape[1] // factor
        pooled = [values[-1][:, j * factor : (j + 1) * factor].mean(1) for j in range(blocks)]
        values.append(level(torch.stack(pooled, 1)) if blocks else values[-1].new_zeros(1, 0, 4))
    expected = []
    for t in range(length):
        held = []
        for i, (value, stride) in enumerate(zip(values, net.strides, strict=True)):
            j = (t + 1) // stride - 1
            held.append(value[:, j] if j >= 0 else net.first_held[i - 1].expand(1, -1))
        expected.append(net.heads(net.norm(torch.cat(held, -1)), x[:, t])["return"])
    torch.testing.assert_close(net(x)["return"], torch.stack(expected, 1))


@torch.no_grad()
def test_a_coarse_level_moves_only_when_its_block_closes():
    net, moved = make(), {1: [], 2: []}
    state = net.initial_state(1)
    for t, bar in enumerate(sequence(48)[0]):
        _, after = net.step(bar[None], state)
        for level in moved:
            if not torch.equal(after[2][level - 1][2], state[2][level - 1][2]):
                moved[level].append(t)
        state = after
    assert moved[1] == [*range(3, 48, 4)]
    assert moved[2] == [15, 31, 47]


@torch.no_grad()
def test_the_outputs_depend_on_every_bar_of_the_past():
    net, x = make(), sequence(40)
    whole = net(x)["return"][0, -1]
    for t in range(40):
        altered = x.clone()
        altered[0, t] += 1
        assert net(altered)["return"][0, -1] != whole


def test_blocks_are_pooled_by_mean_last_value_or_convolution():
    block = torch.randn(2, 5, 4, 3)  # two streams, five blocks of four values, three channels
    torch.testing.assert_close(BlockPool("mean", 3, 4)(block), sum(block[:, :, i] for i in range(4)) / 4)
    torch.testing.assert_close(BlockPool("last", 3, 4)(block), block[:, :, 3])

    pool, conv = BlockPool("conv", 3, 4), torch.nn.Conv1d(3, 3, kernel_size=4, stride=4)
    with torch.no_grad():
        conv.weight.copy_(pool.conv.weight.unflatten(1, (4, 3)).transpose(1, 2))
        conv.bias.copy_(pool.conv.bias)
    torch.testing.assert_close(pool(block), conv(block.flatten(1, 2).mT).mT)


def test_levels_are_summed_when_asked():
    net, x = make(fuse="sum"), sequence(33)
    held = net._hold([net.levels[0](x), torch.ones(1, 8, 4).double(), torch.ones(1, 2, 4).double()])
    summed = net.norm(held[0] + held[1] + held[2])
    torch.testing.assert_close(net.read(held, x)["return"], net.heads(summed, x)["return"])
    assert net.heads.readout.in_features == 4


def test_dropout_acts_in_training_only():
    net, x = make(dropout=0.5), sequence(20)
    assert torch.equal(net(x)["return"], net(x)["return"])
    net.train()
    assert not torch.equal(net(x)["return"], net(x)["return"])


# --------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("n_features", 0),
        ("strides", (4, 1)),
        ("strides", "many"),
        ("blocks", "lstm"),
        ("blocks", ("s4d", "mamba")),
        ("d_model", -1),
        ("d_model", (8, 8)),
        ("d_state", 7),
        ("n_layers", 0),
        ("downsample", "max"),
        ("fuse", "attention"),
        ("dropout", 1.0),
        ("s4d_init", "random"),
        ("discretization", "euler"),
        ("width", 8),
    ],
)
def test_an_impossible_setting_is_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=rf"network setting '{name}'.*: ") as caught:
        build_network("hiss", {"n_features": 2, name: value})
    assert "\n" not in str(caught.value)


def test_a_missing_setting_is_named():
    with pytest.raises(ConfigError, match="'n_features' is missing"):
        build_network("hiss", {})


def test_levels_of_different_widths_cannot_be_summed():
    with pytest.raises(ConfigError, match=r"'d_model'.*equal widths"):
        HiSSConfig(n_features=2, d_model=(8, 4, 4), fuse="sum")


def test_an_unknown_kind_is_refused():
    with pytest.raises(ConfigError, match="unknown network 'oracle': choose one of hiss"):
        build_network("oracle", {})


def test_settings_survive_json():
    config = HiSSConfig(n_features=2, strides=(2, 3), d_model=(8, 4, 4), blocks="mamba")
    assert HiSSConfig.model_validate_json(config.model_dump_json()) == config
    assert HiSSConfig(**config.model_dump(mode="json")) == config
