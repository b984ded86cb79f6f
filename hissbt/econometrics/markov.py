"""Markov switching in mean and variance, with transition probabilities that are constant or follow covariates.

``MarkovSwitching`` says which model, its ``fit`` estimates it (hissbt.econometrics.estimation), and a
``MarkovFit`` filters: never smooths, so that what it says of a bar was known at that bar's close. Regimes
are ordered by variance, the calmest first, and by intercept where all have the same variance.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from hissbt.econometrics import regime_filter
from hissbt.errors import ConfigError


class MarkovPath(NamedTuple):
    """What a filter says after each row: arrays over T rows, or of one row without that axis.

    NaN in the rows that only fill the lags.
    """

    filtered: np.ndarray
    """[T,K] probability of each regime, given rows up to this one."""
    predicted: np.ndarray
    """[T,K] the same, given the rows before this one."""
    ahead: np.ndarray
    """[T,K] probability of each regime in the next row, given rows up to this one."""
    expected_return: np.ndarray
    """[T] mean of the next row."""
    volatility: np.ndarray
    """[T] standard deviation of the next row."""
    log_density: np.ndarray
    """[T] log density of this row, given those before it; their sum is the log-likelihood."""


class MarkovParts(NamedTuple):
    """Parameters by what they mean."""

    transition: np.ndarray
    """[K-1,1+C,K] to, coefficient, from: logits against the last regime; without covariates probabilities."""
    intercepts: np.ndarray
    """[K] in units of the returns: the mean itself where nothing else is in it, or the model is expanded."""
    slopes: np.ndarray
    """[K,R] of the regressors in the mean, in units of the returns per unit of the covariate."""
    variances: np.ndarray
    """[K]"""
    ar: np.ndarray
    """[K,L]"""


@dataclass(frozen=True)
class MarkovSwitching:
    """A Markov switching model of returns; the words of the fields are statsmodels'.

    Raises ConfigError for a combination that is no model.
    """

    regimes: int = 2
    covariates: tuple[str, ...] = ()
    """Names of what drives the transition probabilities, beside a constant; empty where they are constant."""
    lag: int = 1
    """1: transitions into a bar follow the covariates of the bar before, so that they can be forecast.
    0: those of the bar itself. That is look-ahead where covariates are ranges of the bar: its own return is part
    of what explains its regime. Forecasts then hold the last covariates."""
    lags: int = 0
    """Past returns in the mean."""
    regressors: tuple[str, ...] = ()
    """Which of the covariates are in the mean as well, with a slope in each regime, as many bars back as ``lag``
    says: at 0 the mean of a bar, too, is explained by the bar itself."""
    expanded: bool = False
    """Whether lags are deviations from the mean of the regime they were made in (Hamilton 1989), which takes
    K^lags states; otherwise they are plain regressors."""
    switching_ar: bool = True
    switching_variance: bool = True

    def __post_init__(self):
        object.__setattr__(self, "covariates", tuple(self.covariates))
        object.__setattr__(self, "regressors", tuple(self.regressors))
        if self.regimes < 2 or self.lags < 0 or self.lag not in (0, 1):
            raise ConfigError(
                f"{self.regimes} regimes with {self.lags} lags and covariates {self.lag} bars back are no model: "
                "give at least 2 regimes, no fewer than 0 lags, and lag 0 or 1"
            )
        if self.expanded and not self.lags:
            raise ConfigError("an expanded model without lags is a plain one: give lags, or leave expanded out")
        if self.expanded and self.regressors:
            raise ConfigError("an expanded model has no regressors in its mean: leave one of the two out")
        if len(set(self.regressors) & set(self.covariates)) < len(self.regressors):
            raise ConfigError(
                f"regressors {self.regressors} are not among the covariates {self.covariates}, each once: name "
                "them there too"
            )

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the columns of a row: the return, then the covariates."""
        return ("log_return", *self.covariates)

    @property
    def regressor_columns(self) -> list[int]:
        """Which of the covariates the regressors are, by position."""
        return [self.covariates.index(name) for name in self.regressors]

    @property
    def first_row(self) -> int:
        """The first row that has a likelihood: those before it fill the lags."""
        return self.lags + (self.lag if self.covariates else 0)

    def fit(self, returns: np.ndarray, covariates: np.ndarray | None = None, **options) -> "MarkovFit":
        """Estimate by maximum likelihood from returns [T] and covariates [T,C] of the same bars.

        ``options`` are those of ``hissbt.econometrics.estimation.estimate``.
        """
        from hissbt.econometrics.estimation import estimate

        return MarkovFit(self, **estimate(self, *self.checked(returns, covariates), **options)._asdict())

    def fit_rows(self, rows: np.ndarray, **options) -> "MarkovFit":
        """Estimate from rows [T,1+C] of ``inputs``."""
        return self.fit(rows[:, 0], rows[:, 1:], **options)

    def checked(self, returns, covariates) -> tuple[np.ndarray, np.ndarray]:
        """Return float64 returns [T] and covariates [T,C]; ConfigError where they do not fit the model."""
        y = np.ascontiguousarray(returns, dtype=np.float64)
        none = np.empty((len(y), 0))
        x = np.ascontiguousarray(none if covariates is None else covariates, dtype=np.float64)
        if y.ndim != 1 or x.shape != (len(y), len(self.covariates)):
            raise ConfigError(
                f"returns {y.shape} and covariates {x.shape} do not fit: give [T] and [T,{len(self.covariates)}]"
            )
        if not (np.isfinite(y).all() and np.isfinite(x).all()):
            raise ConfigError("returns or covariates are not finite: leave out the first bar, which has no return")
        return y, x

    # --- parameters: one vector in statsmodels' order, or by what they mean ---------------------------------

    def names(self) -> tuple[str, ...]:
        """Return a name for each parameter, regimes counted from 1: ``p[1->2].hml``, ``sigma2[1]``.

        A slope in the mean has the name of its regressor: ``hml[1]``.
        """
        numbers = range(1, self.regimes + 1)
        terms = ("", *(f".{name}" for name in self.covariates))
        terms = (".const", *terms[1:]) if self.covariates else terms
        each = [f"[{k}]" for k in numbers]
        ar = [f"ar{back}{k}" for back in range(1, self.lags + 1) for k in (each if self.switching_ar else [""])]
        variance = [f"sigma2{k}" for k in (each if self.switching_variance else [""])]
        return (
            *(f"p[{j}->{i}]{term}" for i in numbers[:-1] for term in terms for j in numbers),
            *(f"{name}{k}" for name in ("const", *self.regressors) for k in each),
            *(variance + ar if self.expanded else ar + variance),
        )

    def unpack(self, params: np.ndarray) -> MarkovParts:
        """Return a parameter vector by its parts."""
        k, terms = self.regimes, 1 + len(self.covariates)
        n_ar = self.lags * (k if self.switching_ar else 1)
        n_variances = k if self.switching_variance else 1
        tail = (n_variances, n_ar) if self.expanded else (n_ar, n_variances)
        sizes = [k * (k - 1) * terms, k, k * len(self.regressors), *tail]
        if len(params) != sum(sizes):
            raise ConfigError(f"{len(params)} parameters are not those of this model, which has {sum(sizes)}")
        transition, intercepts, slopes, *rest = np.split(
            np.asarray(params, dtype=np.float64), np.cumsum(sizes)[:-1]
        )
        variances, ar = rest if self.expanded else rest[::-1]
        return MarkovParts(
            transition.reshape(k - 1, terms, k),
            intercepts,
            slopes.reshape(-1, k).T,
            np.broadcast_to(variances, k),
            np.broadcast_to(ar.reshape(self.lags, -1).T, (k, self.lags)) if self.lags else np.empty((k, 0)),
        )

    def pack(self, parts: MarkovParts) -> np.ndarray:
        """Return the vector that ``unpack`` takes apart."""
        ar = (parts.ar if self.switching_ar else parts.ar[:1]).T.ravel()
        variances = parts.variances if self.switching_variance else parts.variances[:1]
        tail = (variances, ar) if self.expanded else (ar, variances)
        return np.concatenate([parts.transition.ravel(), parts.intercepts, parts.slopes.T.ravel(), *tail])

    def ordered(self, params: np.ndarray) -> np.ndarray:
        """Return the parameters of the same model with its regimes in order of variance, then of intercept."""
        parts = self.unpack(params)
        return self.permuted(params, np.lexsort((parts.intercepts, parts.variances)))

    def permuted(self, params: np.ndarray, order: np.ndarray) -> np.ndarray:
        """Return the parameters of the same model when its regimes are renumbered: new k was ``order[k]``."""
        parts = self.unpack(params)
        whole = self._whole(parts.transition)[order][..., order]  # [K,1+C,K]
        transition = whole[:-1] - whole[-1:] if self.covariates else whole[:-1]
        return self.pack(MarkovParts(transition, *(part[order] for part in parts[1:])))

    def _whole(self, transition: np.ndarray) -> np.ndarray:
        """Return transition parameters [K,1+C,K] with those of the last regime, which follow from the others."""
        last = 0.0 * transition.sum(0) if self.covariates else 1.0 - transition.sum(0)
        return np.concatenate([transition, last[None]])


@dataclass(frozen=True)
class MarkovFit:
    """A fitted Markov switching model: plain numbers, to JSON values and back by ``to_dict`` and ``from_dict``."""

    model: MarkovSwitching
    params: tuple[float, ...]
    """In the order of ``model.names()``."""
    log_likelihood: float = float("nan")
    n_obs: int = 0
    """Rows that the likelihood counts."""
    converged: bool = False
    """Whether the optimizer met its gradient tolerance at the start that was kept."""
    starts: int = 0
    """Starting points tried."""
    agreeing: int = 0
    """How many of them ended within 1e-3 of the likelihood that was kept: 1 of many is a warning."""
    errors_approx: tuple[float, ...] | None = None
    """Standard errors from the inverse Hessian: right if the model is."""
    errors_robust: tuple[float, ...] | None = None
    """Standard errors from the sandwich of Hessian and score (Huber, White): right for a wrong model, too."""

    @property
    def aic(self) -> float:
        """Akaike's criterion, smaller is better."""
        return 2 * len(self.params) - 2 * self.log_likelihood

    @property
    def bic(self) -> float:
        """Schwarz's criterion, smaller is better."""
        return np.log(self.n_obs) * len(self.params) - 2 * self.log_likelihood

    @property
    def regimes(self) -> int:
        """K."""
        return self.model.regimes

    @cached_property
    def parts(self) -> MarkovParts:
        """The parameters by what they mean."""
        return self.model.unpack(np.array(self.params))

    def transition(self, covariates=()) -> np.ndarray:
        """Return transition probabilities [K,K] at covariates [C]; row j is "from regime j" and sums to 1."""
        return regime_filter.transition_matrix(self._compiled[0], np.array(covariates, dtype=np.float64))

    def initial_state(self) -> np.ndarray:
        """Return the state before the first row: float64, flat, to be copied or saved as it is."""
        model = self.model
        size = regime_filter.state_size(model.regimes, model.lags, len(model.covariates), model.expanded)
        return np.zeros(size)

    def step(self, row: np.ndarray, state: np.ndarray) -> MarkovPath:
        """Return what is known after one more row [1+C] of ``model.inputs``, and advance ``state`` in place."""
        out = np.empty(3 * self.regimes + 3)
        regime_filter.step(*self._compiled, row[0], row[1:], state, out)
        return self._path(out)

    def filter(self, returns: np.ndarray, covariates: np.ndarray | None = None, state=None) -> MarkovPath:
        """Return what is known after each of the rows: returns [T], covariates [T,C].

        Starts before the first row, or from ``state``, which it then advances in place.
        """
        y, x = self.model.checked(returns, covariates)
        out = np.empty((len(y), 3 * self.regimes + 3))
        regime_filter.scan(*self._compiled, y, x, self.initial_state() if state is None else state, out)
        return self._path(out)

    def advance(self, rows: np.ndarray, state: np.ndarray) -> None:
        """Advance ``state`` in place by rows [T,1+C] of ``model.inputs``."""
        self.filter(rows[:, 0], rows[:, 1:], state)

    def to_dict(self) -> dict[str, Any]:
        """Return the fit as values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "MarkovFit":
        """Return the fit that ``to_dict`` described, before or after JSON."""
        known = {field.name: values[field.name] for field in fields(cls)}
        known["model"] = MarkovSwitching(**values["model"])
        for name in ("params", "errors_approx", "errors_robust"):
            known[name] = None if known[name] is None else tuple(known[name])
        return cls(**known)

    def _path(self, out: np.ndarray) -> MarkovPath:
        k = self.regimes
        probabilities = (out[..., :k], out[..., k : 2 * k], out[..., 2 * k : 3 * k])
        return MarkovPath(*probabilities, out[..., 3 * k], out[..., 3 * k + 1], out[..., 3 * k + 2])

    @cached_property
    def _compiled(self) -> tuple:
        model, parts = self.model, self.parts
        whole = model._whole(parts.transition).transpose(2, 0, 1)  # [K,K,1+C] from, to
        if not model.covariates:
            whole = np.log(np.maximum(whole, regime_filter.LEAST_PROBABILITY))
        slopes = np.zeros((model.regimes, len(model.covariates)))
        slopes[:, model.regressor_columns] = parts.slopes
        of_mean = (parts.intercepts, slopes, parts.ar)
        arrays = (np.ascontiguousarray(a) for a in (whole, *of_mean, parts.variances))
        return (*arrays, model.expanded, model.lag)
