"""Simple forecasts from given inputs: a distribution of a number, the probabilities of classes.

Whatever is compared goes through the same two models, so that a difference in score is one of the inputs. Fitted
once, on the training span; how much they shrink is chosen on its last part, behind a gap of the horizon.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student

_STRENGTHS = tuple(10.0 ** np.arange(-1, 6))
_HELD_OUT = 0.3
_LEAST = 1e-12  # of a residual, before its logarithm


@dataclass(frozen=True)
class StudentRegression:
    """y ~ mean(x) + scale(x) t(df): both ridge regressions on standardized inputs, the scale on its logarithm."""

    center: np.ndarray
    spread: np.ndarray
    mean: np.ndarray
    """[1+k] intercept and slopes."""
    log_scale: np.ndarray
    df: float

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray, strength: float) -> "StudentRegression":
        """Fit to inputs x [N,k], k from 0 on, and outcomes y [N]."""
        center, spread = x.mean(axis=0), x.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        inputs = (x - center) / spread
        mean = _ridge(inputs, y, strength)
        residual = y - _line(mean, inputs)
        log_scale = _ridge(inputs, np.log(np.maximum(np.abs(residual), _LEAST)), strength)
        df, _, scale = student.fit(residual / np.exp(_line(log_scale, inputs)), floc=0)
        log_scale[0] += np.log(scale)
        return cls(center, spread, mean, log_scale, float(df))

    def score(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the log density [N] of outcomes, in nats."""
        return student.logpdf(y, self.df, *self._parameters(x))

    def pit(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the probability [N] of no more than what came: uniform where forecasts are right."""
        return student.cdf(y, self.df, *self._parameters(x))

    def _parameters(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        inputs = (x - self.center) / self.spread
        return _line(self.mean, inputs), np.exp(_line(self.log_scale, inputs))


def _ridge(x: np.ndarray, y: np.ndarray, strength: float) -> np.ndarray:
    from sklearn.linear_model import Ridge

    if not x.shape[1]:
        return np.array([y.mean()])
    found = Ridge(alpha=strength).fit(x, y)
    return np.append(found.intercept_, found.coef_)


def _line(weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    return weights[0] + x @ weights[1:]


@dataclass(frozen=True)
class ClassForecast:
    """Probabilities of classes by multinomial logistic regression; without inputs how often each was."""

    center: np.ndarray
    spread: np.ndarray
    slopes: np.ndarray
    """[C,k]"""
    intercepts: np.ndarray
    """[C]"""

    @classmethod
    def fit(cls, x: np.ndarray, y: np.ndarray, strength: float, classes: int) -> "ClassForecast":
        """Fit to inputs x [N,k] and classes y [N], numbers from 0 on; each counts as seen once more."""
        from sklearn.linear_model import LogisticRegression

        center, spread = x.mean(axis=0), x.std(axis=0)
        spread = np.where(spread > 0, spread, 1.0)
        if not x.shape[1]:
            counts = np.bincount(y, minlength=classes) + 1
            return cls(center, spread, np.zeros((classes, 0)), np.log(counts / counts.sum()))
        inputs = np.vstack([(x - center) / spread, np.zeros((classes, x.shape[1]))])
        model = LogisticRegression(C=1 / strength, max_iter=1000).fit(inputs, np.append(y, np.arange(classes)))
        return cls(center, spread, model.coef_, model.intercept_)

    def probabilities(self, x: np.ndarray) -> np.ndarray:
        """Return the probability of each class [N,C]."""
        logits = (x - self.center) / self.spread @ self.slopes.T + self.intercepts
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        return odds / odds.sum(axis=1, keepdims=True)

    def score(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Return the log probability [N] of what came, in nats."""
        return np.log(self.probabilities(x)[np.arange(len(y)), y])


def chosen(fit: Callable, x: np.ndarray, y: np.ndarray, gap: int):
    """Return ``fit(x, y, strength)`` with the strength that did best on the last 30 % of the rows.

    ``gap`` rows before these are left out while choosing: their outcomes reach into them.
    """
    border = int((1 - _HELD_OUT) * len(x))
    early, late = slice(max(border - gap, 1)), slice(border, None)
    strengths = _STRENGTHS if x.shape[1] else _STRENGTHS[:1]
    scores = [fit(x[early], y[early], strength).score(x[late], y[late]).mean() for strength in strengths]
    return fit(x, y, strengths[int(np.argmax(scores))])
