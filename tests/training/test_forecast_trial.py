"""A forecaster that is fitted to given rows sees no others."""

import numpy as np
import pytest

from hissbt.errors import BarsError
from hissbt.research.audit.futures import noisy
from hissbt.stream import Stream
from hissbt.training.forecast_trial import forecast_trial
from hissbt.training.splits import Split

SETTINGS = {"window": 32, "burn_in": 8, "epoch_steps": 4, "batch_size": 4, "max_epochs": 2, "horizon": 5}
SPLIT = Split(range(100, 400), range(405, 500))


def test_no_bar_is_seen_after_those_that_the_last_label_reads(hourly_bars):
    trials = [
        forecast_trial("gru", bars, SPLIT, SETTINGS)
        for bars in (hourly_bars, *(noisy(hourly_bars, first) for first in (505, 504)))
    ]
    weights = [trial.bundle.weights for trial in trials]
    assert all(np.array_equal(weights[0][name], weights[1][name]) for name in weights[0])
    scales = [trial.bundle.target_scale for trial in trials]
    assert scales[0] == scales[1] != scales[2]  # one bar earlier is read: none is wasted
    assert trials[0].bundle.training_span["end"] == hourly_bars.frame.index[504].isoformat()
    assert trials[0].epochs == 2


def test_the_bundle_is_one_that_streams(hourly_bars):
    trial = forecast_trial("gru", hourly_bars, SPLIT, SETTINGS)
    assert np.isfinite(Stream(trial.bundle).scan(hourly_bars.arrays())).all()


def test_rows_that_hold_no_window_are_refused(hourly_bars):
    with pytest.raises(BarsError, match="hold no window of 32"):
        forecast_trial("gru", hourly_bars, Split(range(20), range(25, 500)), SETTINGS)
