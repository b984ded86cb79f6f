"""Fitting a network to regime labels: it learns, it repeats, and it looks at nothing outside of its spans."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from hissbt.errors import TrainingError
from hissbt.models import build_network
from hissbt.training.regimes import RegimeTraining, fit_regimes, regime_probability

SETTINGS = RegimeTraining(
    context=2,
    window=20,
    stride=10,
    batch_size=4,
    max_epochs=25,
    patience=5,
    lr=0.02,
    lr_patience=2,
    lr_divisor=4.0,
)
TRAIN, VALIDATION = range(5, 200), range(210, 260)


def series(seed=0, count=300):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(count, 3))
    return x, (x[:, 1] > 0).astype(np.float64)


def fitted(kind="gru", x=None, labels=None, settings=SETTINGS):
    if x is None:
        x, labels = series()
    torch.manual_seed(0)
    network = build_network(kind, {"n_features": 3, "d_model": 8})
    return network, fit_regimes(network, x, labels, TRAIN, VALIDATION, settings, seed=0)


@pytest.mark.parametrize("kind", ["gru", "m-gru"])
def test_a_label_that_an_input_tells_is_learned(kind):
    x, labels = series()
    network, fit = fitted(kind)
    hits = (regime_probability(network, x) > 0.5) == (labels == 1)
    assert hits[260:].mean() > 0.75
    assert fit.validation_loss[fit.best_epoch] == min(fit.validation_loss)
    assert fit.validation_loss[fit.best_epoch] < fit.validation_loss[0]


def test_the_same_seed_gives_the_same_network():
    (first, one), (second, other) = fitted(), fitted()
    assert one == other
    x, _ = series()
    np.testing.assert_array_equal(regime_probability(first, x), regime_probability(second, x))


def test_nothing_outside_of_the_spans_changes_the_fit():
    x, labels = series()
    changed_x, changed = x.copy(), labels.copy()
    changed[:5] = changed[200:210] = changed[260:] = np.nan
    changed_x[260:] = 1e3
    changed_x[200 : 210 - SETTINGS.context] = -1e3
    assert fitted(x=x, labels=labels)[1] == fitted(x=changed_x, labels=changed)[1]


def test_a_fit_ends_when_the_validation_loss_stops_falling():
    x, _ = series()
    noise = np.random.default_rng(9).integers(0, 2, len(x)).astype(np.float64)
    _, fit = fitted(x=x, labels=noise, settings=replace(SETTINGS, max_epochs=60))
    assert len(fit.validation_loss) == fit.best_epoch + 1 + SETTINGS.patience < 60


def test_a_loss_that_is_never_finite_is_refused():
    x, labels = series()
    x[VALIDATION.start] = np.nan
    with pytest.raises(TrainingError, match="never finite"):
        fitted(x=x, labels=labels)
