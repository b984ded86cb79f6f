"""Rivals from scikit-learn: each sees the inputs of one bar, whose features reach as far back as they do.

All go the same way: inputs and labels are standardized on the training rows; one regression forecasts the return,
a classifier whether it is above zero, another regression the log of the realized variance, whose exponential is
smeared. They differ in the learner and in what its settings mean:

=============  =============================================================================================
ridge          linear and logistic regression with a penalty ``alpha`` on the squares of the weights
forest         100 trees on bootstrapped rows, with at least ``leaf`` rows in a leaf
boosting       gradient-boosted trees on binned inputs, ``rounds`` of them at ``rate``
support        support vectors: linear ones on 200 random features of an RBF kernel (Nystroem) with ``gamma``, as
               an exact kernel costs the square of the rows; probabilities by Platt's method
neighbors      the mean of the ``k`` nearest rows, out of 8,000 training rows evenly over their span
=============  =============================================================================================
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from hissbt.errors import BarsError
from hissbt.features import Normalizer
from hissbt.research.rivals.measures import smearing, step_us
from hissbt.research.rivals.task import Forecasts, Task

TREES = 100
COMPONENTS = 200
SAMPLE = 8_000  # rows that neighbors are looked for in
PLATT_FOLDS = 3
_STEPS = 4  # decisions that are timed

Learner = Callable[[Mapping[str, Any], int], tuple[Any, Any]]
"""Given settings and a seed, an unfitted regressor and an unfitted classifier."""


def tabular_forecast(
    learner: Learner, most_rows: int | None, task: Task, settings: Mapping[str, Any], seed: int
) -> Forecasts:
    """Fit ``learner`` to all training rows, or to ``most_rows`` of them, and forecast.

    Here ``learner`` is a function of this module; ``functools.partial`` makes a rival of it.
    Raises BarsError for fewer rows than neighbors.
    """
    from sklearn.base import clone

    begun = time.process_time()
    rows = np.array(task.train)
    if most_rows is not None and len(rows) > most_rows:
        rows = rows[np.linspace(0, len(rows) - 1, most_rows).astype(np.int64)]
    if (wanted := settings.get("k", 0)) > len(rows):
        raise BarsError(f"{len(rows)} rows to train on hold no {wanted} neighbors: give more bars")
    x = Normalizer.fit(task.x[rows])(task.x[: task.test.stop])
    regressor, classifier = learner(settings, seed)
    returns = _Regression(clone(regressor), x[rows], task.returns[rows])
    log_variance = _Regression(regressor, x[rows], task.log_variance[rows])
    rises = _Probability(classifier, x[rows], task.returns[rows] > 0.0)
    factor = smearing(log_variance(x[rows]), task.log_variance[rows])
    fit_seconds = time.process_time() - begun

    def decide(inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        volatility = np.sqrt(factor * np.exp(log_variance(inputs)))
        return returns(inputs), rises(inputs), volatility

    judged = x[task.judged]
    facts = {"fit_seconds": fit_seconds, "step_us": step_us(decide, [judged[i : i + 1] for i in range(_STEPS)])}
    return Forecasts(*decide(judged), facts)


class _Regression:
    """A regression whose label is standardized."""

    def __init__(self, model, x: np.ndarray, y: np.ndarray):
        self._center, self._spread = y.mean(), y.std() or 1.0
        self._model = model.fit(x, (y - self._center) / self._spread)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self._model.predict(x) * self._spread + self._center


class _Probability:
    """The probability that a classifier gives to what is true; where all rows agree there is nothing to learn."""

    def __init__(self, model, x: np.ndarray, y: np.ndarray):
        self._share = y.mean()
        self._model = model.fit(x, y) if 0.0 < self._share < 1.0 else None

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self._model.predict_proba(x)[:, 1] if self._model else np.full(len(x), self._share)


def ridge(settings: Mapping[str, Any], seed: int) -> tuple[Any, Any]:
    """Return linear and logistic regression with the same penalty."""
    from sklearn.linear_model import LogisticRegression, Ridge

    return Ridge(alpha=settings["alpha"]), LogisticRegression(C=1 / settings["alpha"], max_iter=1_000)


def forest(settings: Mapping[str, Any], seed: int) -> tuple[Any, Any]:
    """Return random forests."""
    from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

    shape = {
        "n_estimators": TREES,
        "min_samples_leaf": settings["leaf"],
        "max_features": 1 / 3,
        "max_samples": 0.5,
        "random_state": seed,
    }
    return RandomForestRegressor(**shape), RandomForestClassifier(**shape)


def boosting(settings: Mapping[str, Any], seed: int) -> tuple[Any, Any]:
    """Return gradient-boosted trees."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    # Stopping early would hold out random rows, whose labels overlap those of the others.
    shape = {
        "max_iter": settings["rounds"],
        "learning_rate": settings["rate"],
        "max_leaf_nodes": 15,
        "min_samples_leaf": 50,
        "early_stopping": False,
        "random_state": seed,
    }
    return HistGradientBoostingRegressor(**shape), HistGradientBoostingClassifier(**shape)


def support(settings: Mapping[str, Any], seed: int) -> tuple[Any, Any]:
    """Return linear support vector machines on random features of a kernel."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.kernel_approximation import Nystroem
    from sklearn.model_selection import KFold
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC, LinearSVR

    def on_kernel(machine):
        return make_pipeline(
            Nystroem(gamma=settings["gamma"], n_components=COMPONENTS, random_state=seed), machine
        )

    # The squared loss, as the other has no fast solver for many rows.
    loss = {"loss": "squared_epsilon_insensitive", "epsilon": 0.1, "dual": False}
    regressor = LinearSVR(C=settings["cost"], **loss)
    classifier = LinearSVC(C=settings["cost"], dual=False)
    platt = CalibratedClassifierCV(classifier, method="sigmoid", cv=KFold(PLATT_FOLDS), ensemble=False)
    return on_kernel(regressor), on_kernel(platt)


def neighbors(settings: Mapping[str, Any], seed: int) -> tuple[Any, Any]:
    """Return the means of the nearest rows."""
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    shape = {"n_neighbors": settings["k"], "algorithm": "brute"}
    return KNeighborsRegressor(**shape), KNeighborsClassifier(**shape)
