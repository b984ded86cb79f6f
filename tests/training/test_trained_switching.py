"""A short run of ``python -m tests.soak.trained_switching``, which tells what grows from what is forgotten."""

import copy

import numpy as np
import pytest
import torch
from soak.trained_switching import bits, differences, growth, largest, passes, same_weights, with_another_future

from hissbt.training import train

TINY = {"network": {"d_model": 4}, "window": 48, "burn_in": 16, "batch_size": 4, "epoch_steps": 2, "max_epochs": 2}


class Map(torch.nn.Module):
    """A bank of one number that a function moves on, whatever it sees; its state is that number."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def initial_state(self, batch):
        return (torch.full((1, batch, 1), 0.3, dtype=torch.float64),)

    def forward(self, x, state):
        (value,) = state
        for _ in range(x.shape[1]):
            value = self.function(value)
        return value, (value,)


@pytest.mark.parametrize(
    ("function", "exponent"),
    [(lambda s: 0.5 * s + 0.1, np.log(0.5)), (lambda s: 4 * s * (1 - s), np.log(2.0))],
    ids=["halved every bar", "the logistic map, which is chaotic"],
)
def test_the_growth_of_a_disturbance_is_the_known_one(function, exponent):
    x = torch.zeros(1, 3000, 1, dtype=torch.float64)
    assert growth(Map(function), x) == pytest.approx(exponent, abs=0.05)


@pytest.fixture(scope="module")
def bundle(hourly_bars, tmp_path_factory):
    return train(
        hourly_bars[:400], tmp_path_factory.mktemp("soak") / "bundle", kind="m-gru", settings=TINY, progress=False
    )


def test_a_trained_bundle_says_the_same_in_every_mode(bundle, hourly_bars):
    rows = hourly_bars[:300].arrays()
    found = {"differences": differences(bundle, rows), "bits": bits(bundle, rows)}
    assert passes(found)
    for part, name, broken in (("differences", "stream", 1e-3), ("bits", "snapshot", False)):
        other = copy.deepcopy(found)
        other[part][name] = broken
        assert not passes(other)


def test_what_is_not_a_number_is_infinitely_far():
    assert largest(np.array([1.0, np.nan]), np.ones(2)) == np.inf


def test_another_future_has_the_same_past(hourly_bars):
    until = hourly_bars.frame.index[299]
    other = with_another_future(hourly_bars[:400], until)
    assert other.frame.iloc[:300].equals(hourly_bars.frame.iloc[:300])
    assert not other.frame.iloc[300:400].equals(hourly_bars.frame.iloc[300:400])


def test_weights_of_another_seed_are_not_the_same(bundle, hourly_bars, tmp_path):
    other = train(
        hourly_bars[:400], tmp_path / "other", kind="m-gru", settings={**TINY, "seed": 1}, progress=False
    )
    assert same_weights(bundle, bundle)
    assert not same_weights(bundle, other)
