"""Refitting on a schedule: on closed bars only, as often as said, and not while a bar forms."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from hissbt.econometrics import Garch, Har, MarkovSwitching, Refitted, Schedule, covariates
from hissbt.errors import ConfigError, FeatureError


class Recording(Garch):
    """Keeps what it was fitted on."""

    def fit_rows(self, rows, **options):
        self.samples.append(rows)
        return super().fit_rows(rows, **{"errors": False, **options})


@pytest.fixture
def model() -> Recording:
    recording = Recording()
    object.__setattr__(recording, "samples", [])
    return recording


@pytest.fixture(scope="module")
def rows(hourly_bars) -> np.ndarray:
    return hourly_bars.arrays()[:80]


def run(refitted: Refitted, rows: np.ndarray) -> list:
    return [refitted.step(row) for row in rows]


def test_fits_come_on_schedule_and_know_closed_bars_only(model, rows):
    outputs = run(Refitted(model, Schedule(min_bars=30, refit_every=20)), rows)
    assert [len(sample) for sample in model.samples] == [29, 49, 69]  # the first bar has no return
    for sample in model.samples:
        assert_array_equal(sample[:, 0], np.diff(np.log(rows[: len(sample) + 1, 4])))
    assert [out is None for out in outputs] == [True] * 30 + [False] * 50


def test_a_window_keeps_the_newest_rows(model, rows):
    run(Refitted(model, Schedule(30, 20, window=25)), rows)
    assert [len(sample) for sample in model.samples] == [25, 25, 25]
    assert_array_equal(model.samples[-1][:, 0], np.diff(np.log(rows[44:70, 4])))


def test_a_bar_that_forms_is_judged_from_the_state_before_it(rows):
    plain, revised = (Refitted(Har((1, 2, 3)), Schedule(30, 20)) for _ in range(2))
    for row in rows:
        wrong = row.copy()
        wrong[2] *= 1.3
        provisional = revised.step(wrong)
        closed = revised.revise(row)
        assert closed == plain.step(row)
        assert provisional is None or provisional != closed


def test_versions_of_a_bar_cost_no_fit(model, rows):
    refitted = Refitted(model, Schedule(30, 20))
    run(refitted, rows[:31])
    for _ in range(5):
        refitted.revise(rows[30])
    assert len(model.samples) == 1


def test_covariates_are_the_house_features_of_the_bars(rows):
    values = covariates(("hml", "iv", "abs_return"), rows)
    high, low, close = rows[:, 2], rows[:, 3], rows[:, 4]
    np.testing.assert_allclose(values[:, 0], np.log(high / low))
    move = np.log(close / rows[:, 1])
    np.testing.assert_allclose(values[:, 1], 0.5 * np.log(high / low) ** 2 - (2 * np.log(2) - 1) * move**2)
    np.testing.assert_allclose(values[1:, 2], np.abs(np.diff(np.log(close))))
    with pytest.raises(FeatureError, match="mystery"):
        Refitted(MarkovSwitching(covariates=("mystery",)), Schedule())


def test_a_schedule_that_cannot_be_is_refused():
    for fields in ({"min_bars": 2}, {"refit_every": 0}, {"window": 1}):
        with pytest.raises(ConfigError, match="no schedule"):
            Schedule(**fields)
