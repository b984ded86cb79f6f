"""Easy windows come first, all come in the end, and none reaches out of the training rows."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hissbt.bars import Bars
from hissbt.training.config import EASIEST, TrainingConfig
from hissbt.training.curriculum import calmest_first, training_windows
from hissbt.training.dataset import TrainingData, prepare
from hissbt.training.splits import Split

CURRICULA = ["none", "length", "volatility"]
SETTINGS = {"features": ["log_return"], "window": 32, "burn_in": 8, "epoch_steps": 5, "batch_size": 8}
EPOCHS = 8
CALM_ROWS, ROWS = 300, 500
VOLATILITY = np.where(np.arange(ROWS) < CALM_ROWS, 0.1, 3.0)


def config_of(curriculum: str, **settings) -> TrainingConfig:
    return TrainingConfig(curriculum=curriculum, **(SETTINGS | {"max_epochs": EPOCHS} | settings))


def places(curriculum: str, epoch: int, **settings) -> list:
    drawn = training_windows(config_of(curriculum, **settings), VOLATILITY)
    drawn.set_epoch(epoch)
    return list(drawn)


def numbered(data: TrainingData) -> TrainingData:
    """Put its row's number in place of every input and label."""
    rows = torch.arange(len(data.x))[:, None].float()
    return replace(data, x=rows, targets=dict.fromkeys(data.targets, rows))


@pytest.mark.parametrize("first", [0, 250], ids=["from the first bar", "from a later bar"])
@pytest.mark.parametrize("curriculum", CURRICULA)
def test_windows_never_leave_the_training_rows(curriculum, first, hourly_bars):
    config = config_of(curriculum, epoch_steps=40)
    split = Split(range(first, 600), range(610, 700))
    data = prepare(hourly_bars, config, split=split)
    train, _ = numbered(data).loaders(config)
    seen = set()
    for epoch in range(EPOCHS):
        train.sampler.set_epoch(epoch)
        for x, targets, mask in train:
            assert x.shape[1] == targets["return"].shape[1] == mask.shape[1]
            assert torch.equal(x, targets["return"])
            assert torch.equal(x[:, 1:] - x[:, :-1], torch.ones_like(x[:, 1:]))
            seen |= set(x.flatten().tolist())
    assert min(seen) >= split.train.start
    assert max(seen) < split.train.stop
    assert len(seen) > 0.9 * len(split.train)


@pytest.mark.parametrize("curriculum", CURRICULA)
def test_bars_from_the_validation_span_on_choose_no_window(curriculum, hourly_bars):
    config = config_of(curriculum)
    split = Split(range(600), range(601, 700))
    frame = hourly_bars.frame.copy()
    frame.iloc[601:] *= np.linspace(1.1, 5.0, len(frame) - 601)[:, None]
    altered = Bars(frame, hourly_bars.market, hourly_bars.timeframe)
    for epoch in (0, EPOCHS - 1):
        drawn = []
        for bars in (hourly_bars, altered):
            sampler = prepare(bars, config, split=split).loaders(config)[0].sampler
            sampler.set_epoch(epoch)
            drawn.append(list(sampler))
        assert drawn[0] == drawn[1]


def test_windows_grow_from_a_quarter_to_the_full_length():
    lengths = [{len(place) for place in places("length", epoch)} for epoch in range(EPOCHS)]
    assert lengths == [{8}, {14}, {20}, {26}, {32}, {32}, {32}, {32}]
    ends = [place.stop for epoch in range(EPOCHS) for place in places("length", epoch, epoch_steps=500)]
    assert max(ends) == ROWS


def test_shorter_windows_have_a_shorter_burn_in(hourly_bars):
    config = config_of("length")
    train, _ = prepare(hourly_bars, config).loaders(config)
    counted = []
    for epoch in (0, 2, EPOCHS - 1):
        train.sampler.set_epoch(epoch)
        _, _, mask = next(iter(train))
        assert mask[:, :, 0].diff(dim=1).min() >= 0
        counted.append((mask.shape[1], int((mask[0] == 0).sum())))
    assert counted == [(8, 2), (20, 5), (32, 8)]


def test_calm_windows_come_first_and_all_in_the_end():
    ends = [max(place + 32 for place in places("volatility", epoch)) for epoch in (0, EPOCHS - 1)]
    assert ends[0] <= CALM_ROWS
    assert ends[1] > CALM_ROWS
    last = {place for seed in range(40) for place in places("volatility", EPOCHS - 1, epoch_steps=20, seed=seed)}
    assert last == set(range(ROWS - 32 + 1))


@given(st.lists(st.integers(0, 9), min_size=3, max_size=40), st.integers(1, 3))
def test_windows_are_ranked_by_their_realized_variance(volatility, window):
    volatility = np.array(volatility, dtype=float)
    order = calmest_first(volatility, window).tolist()
    assert sorted(order) == list(range(len(volatility) - window + 1))
    variance = [np.sum(volatility[start : start + window] ** 2) for start in order]
    assert variance == sorted(variance)


@pytest.mark.parametrize("curriculum", CURRICULA)
def test_places_depend_on_seed_and_epoch_only(curriculum):
    drawn = places(curriculum, 5)
    assert places(curriculum, 5) == drawn
    assert places(curriculum, 6) != drawn
    assert places(curriculum, 5, seed=1) != drawn


def test_a_grown_run_sees_the_windows_of_one_without_a_curriculum():
    grown = [place.start for place in places("length", EPOCHS - 1)]
    assert grown == places("none", EPOCHS - 1)


@given(st.integers(1, 60))
def test_what_is_withheld_is_there_before_the_loss_counts(max_epochs):
    config = config_of("length", max_epochs=max_epochs)
    shares = [config.share(epoch) for epoch in range(max_epochs)]
    assert shares == sorted(shares)
    assert min(shares) >= EASIEST
    assert 0 <= config.growth_epochs < max_epochs
    assert all(share == 1.0 for share in shares[config.growth_epochs :])
    assert config_of("none", max_epochs=max_epochs).growth_epochs == 0
