"""Two judges of made-up returns: can trees tell them from real ones, and can trees learn from them?

The discriminative and the predictive score of Yoon, Jarrett and van der Schaar, "Time-series generative
adversarial networks", NeurIPS 2019, with scikit-learn's gradient-boosted trees in place of their recurrent
networks: trees are quick, have no epochs to choose, and give the same answer twice. The figures do not compare
with that article's.
"""

from collections.abc import Mapping

import numpy as np

SEEN = 24
"""Bars that a judge sees at once, or half a path where that is shorter."""
_FOLDS = 5
_TREES = {"max_iter": 60, "max_leaf_nodes": 8, "min_samples_leaf": 20, "learning_rate": 0.1, "random_state": 0}


def discriminative_score(real: np.ndarray, made: np.ndarray, seed: int = 0) -> Mapping[str, float]:
    """Return |accuracy − ½| of trees that tell parts of 24 bars of ``real`` paths from parts of ``made`` ones.

    Both are log returns [N,T]. 0 is what cannot be told apart, 0.5 what is always recognized. There are as many
    parts of each, and they are judged by trees that saw no other part of the same path (5 folds). ``error`` is the
    standard error of the accuracy, were the paths independent of each other.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import GroupKFold

    rng = np.random.default_rng(seed)
    count = min(len(real), len(made))
    both = np.vstack([each[rng.choice(len(each), count, replace=False)] for each in (real, made)])  # [2N,T]
    parts = _parts(both)  # [2N,P,S]
    group = np.repeat(np.arange(2 * count), parts.shape[1])
    x, is_made = _summary(parts.reshape(-1, parts.shape[2])), (group >= count).astype(int)
    right = np.empty(len(x))
    folds = GroupKFold(min(_FOLDS, count), shuffle=True, random_state=seed)
    for train, test in folds.split(x, is_made, group):
        trees = HistGradientBoostingClassifier(**_TREES).fit(x[train], is_made[train])
        right[test] = trees.predict(x[test]) == is_made[test]
    of_path = right.reshape(len(both), -1).mean(axis=1)  # [2N]
    return {
        "score": float(abs(right.mean() - 0.5)),
        "accuracy": float(right.mean()),
        "error": float(of_path.std(ddof=1) / np.sqrt(len(of_path))),
    }


def predictive_score(train: np.ndarray, test: np.ndarray) -> float:
    """Return the mean absolute error on ``test`` paths [N,T] of trees that learned on ``train`` paths [M,T].

    What they forecast is |r| of the next bar from the 24 before it, as returns themselves can hardly be forecast.
    Both are divided by the deviation of ``test``: the error is in deviations, and wrong volatility costs.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor

    scale = test.std()
    trees = HistGradientBoostingRegressor(loss="absolute_error", **_TREES).fit(*_next_size(train / scale))
    x, y = _next_size(test / scale)
    return float(np.abs(trees.predict(x) - y).mean())


def _parts(paths: np.ndarray) -> np.ndarray:
    """Return [N,P,S]: the parts that follow each other in each path."""
    seen = _seen(paths)
    count = paths.shape[1] // seen
    return paths[:, : count * seen].reshape(len(paths), count, seen)


def _summary(parts: np.ndarray) -> np.ndarray:
    """Return what the trees are given of parts [N,S]: the returns, and what trees are slow to put together."""
    size = np.abs(parts)
    ordered = np.sort(size, axis=1)
    return np.column_stack(
        [
            parts,
            parts.sum(axis=1),
            size.mean(axis=1),
            ordered[:, [0, parts.shape[1] // 2, -2, -1]],
            ordered[:, -1] / np.maximum(size.mean(axis=1), np.finfo(float).tiny),
            (size[:, 1:] * size[:, :-1]).mean(axis=1),
            (parts[:, 1:] * parts[:, :-1]).mean(axis=1),
        ]
    )


def _next_size(paths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    length = _seen(paths) + 1
    parts = np.lib.stride_tricks.sliding_window_view(np.abs(paths), length, axis=1).reshape(-1, length)
    before = parts[:, :-1]
    return np.column_stack([before, before.mean(axis=1), before[:, -6:].mean(axis=1)]), parts[:, -1]


def _seen(paths: np.ndarray) -> int:
    return min(SEEN, paths.shape[1] // 2)
