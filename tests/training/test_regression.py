"""A network regresses a label: it learns what the inputs tell, and nothing after its rows reaches it."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hissbt.errors import BarsError, ConfigError
from hissbt.training.regression import Series, fit_regression

NETWORK = {"d_model": 8}
FAST = {"window": 64, "burn_in": 16, "epoch_steps": 10, "max_epochs": 4, "lr": 1e-2, "ema_decay": 0.9}


def noisy(seed: int, count: int = 1500) -> Series:
    """The label is 5 plus the last two x₀; its noise is three times as loud where x₁ is 1 as where it is -1."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(size=count), rng.integers(0, 2, count)])
    x[:, 1] = np.sign(x[:, 1] - 0.5)
    y = 5 + x[:, 0] + np.append(0.0, x[:-1, 0]) + 0.2 * (2 + x[:, 1]) * rng.normal(size=count)
    return Series(x, y, range(count - 500), range(count - 500, count - 250))


SERIES = noisy(0)


def test_mean_and_deviation_of_the_label_are_learned():
    mean, deviation = fit_regression("lstm", NETWORK, [SERIES], FAST | {"max_epochs": 15}).predict(SERIES.x)
    unseen = slice(-250, None)
    explained = 1 - np.var(SERIES.y[unseen] - mean[unseen]) / np.var(SERIES.y[unseen])
    assert explained > 0.7
    loud = SERIES.x[unseen, 1] > 0
    assert deviation[unseen][loud].mean() > 1.5 * deviation[unseen][~loud].mean()


def test_squared_error_tells_no_deviation():
    mean, deviation = fit_regression("gru", NETWORK, [SERIES], FAST | {"loss": "mse"}).predict(SERIES.x)
    assert np.corrcoef(mean[-250:], SERIES.y[-250:])[0, 1] > 0.5
    assert np.isnan(deviation).all()


@pytest.mark.parametrize("kind", ["hiss", "lstm"])
def test_what_comes_after_validation_reaches_nothing(kind):
    short = FAST | {"max_epochs": 1}
    x, y = SERIES.x.copy(), SERIES.y.copy()
    x[SERIES.validation.stop :] += 7
    y[SERIES.validation.stop :] = np.nan
    one, other = (
        fit_regression(kind, NETWORK, [series], short).predict(SERIES.x)
        for series in (SERIES, replace(SERIES, x=x, y=y))
    )
    assert_array_equal(one, other)
    y[SERIES.train[-1]] = 50.0  # the check can fail
    assert not np.array_equal(fit_regression(kind, NETWORK, [replace(SERIES, y=y)], short).predict(x), one)


def test_forecasts_of_a_row_use_no_later_one():
    fitted = fit_regression("hiss", NETWORK, [SERIES], FAST | {"max_epochs": 1})
    assert_allclose(fitted.predict(SERIES.x[:700]), np.array(fitted.predict(SERIES.x))[:, :700], atol=1e-5)


def test_rows_without_a_label_count_for_nothing():
    gaps = SERIES.y.copy()
    gaps[::3] = np.nan
    mean, _ = fit_regression("lstm", NETWORK, [replace(SERIES, y=gaps)], FAST).predict(SERIES.x)
    assert np.corrcoef(mean[-250:], SERIES.y[-250:])[0, 1] > 0.8


def test_series_are_pooled_on_one_scale():
    """Alone the short one is too short for a window; beside another it is at least on the same scale."""
    few = replace(noisy(1), train=range(40))
    with pytest.raises(BarsError, match="set a smaller window"):
        fit_regression("lstm", NETWORK, [few], FAST)
    fitted = fit_regression("lstm", NETWORK, [SERIES, few], FAST | {"max_epochs": 1})
    labels = np.concatenate([SERIES.y[:1000], few.y[:40]])
    assert (fitted.mean, fitted.deviation) == pytest.approx((labels.mean(), labels.std()))


def test_without_validation_rows_all_steps_are_made_and_the_last_weights_kept():
    """With a rate of nearly zero in the end, one more epoch changes little, and early weights are far off."""
    unjudged = replace(SERIES, validation=range(0))
    mean, _ = fit_regression("lstm", NETWORK, [unjudged], FAST).predict(SERIES.x)
    assert np.corrcoef(mean[-250:], SERIES.y[-250:])[0, 1] > 0.8


def test_a_seed_repeats_itself_and_another_does_not():
    one, same, other = (
        fit_regression("gru", NETWORK, [SERIES], FAST | {"max_epochs": 1, "seed": seed}).predict(SERIES.x)
        for seed in (3, 3, 4)
    )
    assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_contradicting_settings_are_refused():
    with pytest.raises(ConfigError, match="burn_in 64 must be less than window 64"):
        fit_regression("gru", NETWORK, [SERIES], FAST | {"burn_in": 64})
