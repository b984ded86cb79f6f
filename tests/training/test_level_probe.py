"""What is measured on the levels of a network: what they hold, what it says without one, what they remember."""

import numpy as np
import pytest
import torch
from bundles import in_units, random_bundle, torch_network, torch_outputs

from hissbt.models import HiSSConfig, HiSSNet
from hissbt.training.level_probe import LevelProbe

SEEN = range(300)


def network(**settings) -> HiSSNet:
    torch.manual_seed(0)
    net = HiSSNet(HiSSConfig(**{"n_features": 2, "d_model": 4, "d_state": 4, "strides": (2, 3)} | settings))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net


def inputs(count=600) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 2))


class Decay(torch.nn.Module):
    """A level that forgets a tenth a bar, and above it one that holds the last of every fourth of its values."""

    strides = (1, 4)

    def held(self, x):
        kept = 0.9 ** torch.arange(x.shape[1]).double()
        finest = torch.stack(
            [(x[:, : t + 1, :1] * kept[: t + 1].flip(0)[:, None]).sum(1) for t in range(x.shape[1])], 1
        )
        newest = (torch.arange(x.shape[1]) + 1) // 4 * 4 - 1
        return [finest, torch.where(newest[:, None] < 0, 0.0, finest[:, newest])]


# --- what is said


def test_the_levels_over_bars_are_those_of_the_bundle(hourly_bars):
    bundle = random_bundle(hourly_bars)
    probe = LevelProbe.of(bundle, hourly_bars, SEEN)
    expected = torch_outputs(bundle, hourly_bars.arrays())
    np.testing.assert_allclose(in_units(bundle, probe.outputs().T), expected, rtol=1e-6)
    assert [held.shape for held in probe.held] == [(1200, 8)] * 3
    x = torch.from_numpy(probe.inputs)[None]
    assert torch.equal(torch.from_numpy(probe.held[2]), torch_network(bundle).held(x)[2][0].detach())


# --- what is missed


def test_a_level_that_never_changes_is_not_missed_at_all():
    net = network()
    with torch.no_grad():
        for parameter in [*net.levels[2].parameters(), net.first_held[1]]:
            parameter.zero_()
    probe = LevelProbe(net, inputs(), SEEN)
    assert np.ptp(probe.held[2]) == 0
    assert np.array_equal(probe.outputs([2]), probe.outputs())
    assert not np.array_equal(probe.outputs([1]), probe.outputs())


def test_levels_that_the_heads_do_not_read_are_not_missed_at_all():
    net = network()
    with torch.no_grad():
        net.heads.readout.weight.zero_()
    probe = LevelProbe(net, inputs(), SEEN)
    assert np.array_equal(probe.outputs([0, 1, 2]), probe.outputs())
    assert not np.array_equal(probe.outputs([3]), probe.outputs()), "the skip is all that is left"


@pytest.mark.parametrize("fuse", ["concat", "sum"])
def test_without_any_part_nothing_moves(fuse):
    outputs = LevelProbe(network(fuse=fuse), inputs(), SEEN).outputs([0, 1, 2, 3])
    assert np.ptp(outputs, axis=1).max() < 1e-6


def test_what_comes_after_the_seen_rows_does_not_change_what_is_put_in_place_of_a_level():
    x, altered = inputs(), inputs()
    altered[SEEN.stop :] += 3
    before, after = (LevelProbe(network(), values, SEEN).outputs([0]) for values in (x, altered))
    np.testing.assert_allclose(before[:, : SEEN.stop], after[:, : SEEN.stop], atol=1e-5)
    assert np.abs(before - after)[:, SEEN.stop :].max() > 0.01


# --- what is remembered


def test_the_memory_of_a_decay_is_that_decay_averaged_over_the_phases_of_the_blocks():
    probe = LevelProbe(Decay(), inputs(400)[:, :1], SEEN)
    finest, coarse = probe.responses(range(100, 400), 40, context=20, seed=1)
    deviations = [np.sqrt(held[:300].var()) for held in probe.held]
    decay = 0.9 ** np.arange(40)
    np.testing.assert_allclose(finest, decay / deviations[0], rtol=1e-5)
    # Disturbed at a phase, it moves first when its block closes, then every four bars.
    at_phase = [
        [decay[(k + phase + 1) // 4 * 4 - 1 - phase] if k + phase >= 3 else 0.0 for k in range(40)]
        for phase in range(4)
    ]
    np.testing.assert_allclose(coarse, np.mean(at_phase, axis=0) / deviations[1], rtol=1e-5)


def test_the_memory_of_a_network_begins_at_the_disturbed_bar_and_is_repeated_by_the_same_seed():
    probe = LevelProbe(network(), inputs(), SEEN)
    found = probe.responses(range(100, 600), 64, context=30, seed=3)
    assert found.shape == (3, 64)
    assert (found[:, 5:] > 0).all()
    assert found[0, 0] == found[0].max()
    assert np.array_equal(found, probe.responses(range(100, 600), 64, context=30, seed=3))


def test_a_level_that_never_changes_remembers_nothing():
    net = network(strides=())
    with torch.no_grad():
        for parameter in net.levels[0].parameters():
            parameter.zero_()
    probe = LevelProbe(net, inputs(), SEEN)
    assert not probe.responses(range(100, 600), 16, context=30, seed=3).any()
