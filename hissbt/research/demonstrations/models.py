"""Small models drawn at random: which features they see, how far back, what they are, and how hard they fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hissbt.bars import Bars
from hissbt.features import FeatureSet

BANK = (
    *(f"return:{bars}" for bars in (1, 2, 3, 5, 10, 21, 42, 63, 126)),
    *(f"rsi:{bars}" for bars in (3, 7, 14)),
    *(f"ewm_volatility:{bars}" for bars in (5, 21)),
    *(f"volume_ratio:{bars}" for bars in (5, 21)),
    "abs_return",
    "range",
    "garman_klass",
    "gap",
    "upper_wick",
    "lower_wick",
    "log_range_volatility:21",
)
"""What a model may see of the bars up to its decision."""
WARMUP = FeatureSet(BANK).warmup
KINDS = ("ridge", "logistic", "tree", "rule")
MOST_FEATURES, MOST_LAGS = 8, 5
DEEPEST = 4  # of a tree
_LEAST_LEAF = 20  # rows


@dataclass(frozen=True)
class Model:
    """One draw."""

    kind: str
    """``ridge``, ``logistic`` or ``tree``, which learn the next return or its sign; or ``rule``, which follows a
    feature."""
    features: tuple[str, ...]
    lags: int
    """Bars of which it sees the features: 1 is the last one only."""
    strength: float
    """How hard weights are held to 0, 10^−2 to 10^4; the depth of a tree; the sign by which a rule follows."""


def draw(count: int, seed: int) -> list[Model]:
    """Return ``count`` models; model i is the same for every count."""
    return [_draw(np.random.default_rng(child)) for child in np.random.SeedSequence(seed).spawn(count)]


def _draw(rng: np.random.Generator) -> Model:
    kind = str(rng.choice(KINDS))
    if kind == "rule":
        return Model(kind, (str(rng.choice(BANK)),), 1, float(rng.choice((-1.0, 1.0))))
    chosen = rng.choice(len(BANK), size=rng.integers(1, MOST_FEATURES + 1), replace=False)
    strength = rng.integers(1, DEEPEST + 1) if kind == "tree" else 10 ** rng.uniform(-2, 4)
    lags = int(rng.integers(1, MOST_LAGS + 1))
    return Model(kind, tuple(BANK[i] for i in sorted(chosen)), lags, float(strength))


def bank(bars: Bars, fitted: slice) -> np.ndarray:
    """Return the features of the ``BANK`` [T,F], standardized by the rows that models are fitted on."""
    rows = FeatureSet(BANK).scan(bars.arrays())
    spread = rows[fitted].std(axis=0)
    return (rows - rows[fitted].mean(axis=0)) / np.where(spread > 0, spread, 1.0)


def positions(model: Model, rows: np.ndarray, ahead: np.ndarray, fitted: slice) -> np.ndarray:
    """Return +1, 0 or −1 at each of the ``rows`` [T,F] of the bank, held to the next close.

    The model learns from the ``fitted`` rows what comes ``ahead`` [T], the next return. It is long where its
    forecast is above the median of those that it makes of the rows it was fitted on, and short below.
    """
    forecast = _forecast(model, _columns(model, rows), ahead, fitted)
    return np.sign(forecast - np.median(forecast[fitted]))


def _columns(model: Model, rows: np.ndarray) -> np.ndarray:
    """Return what the model sees at each row [T,K]; before the first row it sees that."""
    chosen = rows[:, [BANK.index(name) for name in model.features]]
    back = np.arange(len(rows))[:, None] - np.arange(model.lags)  # [T,lags]
    return chosen[np.maximum(back, 0)].reshape(len(rows), -1)


def _forecast(model: Model, seen: np.ndarray, ahead: np.ndarray, fitted: slice) -> np.ndarray:
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.tree import DecisionTreeRegressor

    x, y = seen[fitted], ahead[fitted]
    if model.kind == "rule":
        return model.strength * seen[:, 0]
    if model.kind == "ridge":
        return Ridge(alpha=model.strength).fit(x, y).predict(seen)
    if model.kind == "tree":
        tree = DecisionTreeRegressor(max_depth=int(model.strength), min_samples_leaf=_LEAST_LEAF, random_state=0)
        return tree.fit(x, y).predict(seen)
    return LogisticRegression(C=1 / model.strength, solver="newton-cholesky").fit(x, y > 0).decision_function(seen)


def name_of(model: Model) -> str:
    """Return what the model is called in tables."""
    what = f"{model.kind} of {', '.join(model.features)}"
    if model.kind == "rule":
        return f"{what}, {'followed' if model.strength > 0 else 'faded'}"
    strength = f"depth {model.strength:.0f}" if model.kind == "tree" else f"penalty {model.strength:.2g}"
    return f"{what}; {model.lags} {'bar' if model.lags == 1 else 'bars'}, {strength}"
