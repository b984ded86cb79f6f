"""Maximum likelihood of Markov switching models by statsmodels, from many starting points.

The likelihood has many local maxima, some of them spikes without meaning where a regime holds only a few equal
rows (Kiefer, "Discrete parameter variation", Econometrica 46, 1978), and an optimizer is at the mercy of units.
So the series is brought to unit size, every start is a few EM iterations (with constant transition probabilities)
and then BFGS, the best likelihood is kept, its regimes are put in order, and all is brought back; standard errors
travel along, because the way back is affine.
"""

import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from hissbt.errors import ConfigError, TrainingError

AGREE = 1e-3  # in log-likelihood: the same maximum
LEAST_VARIANCE = 1e-4  # of the whole series': a regime below has collapsed onto a few equal rows
EM_ITERATIONS = 10
BFGS_ITERATIONS = 200  # a sound maximum takes 20 to 60


class Estimate(NamedTuple):
    """What a MarkovFit says of its estimation, by the same names."""

    params: tuple[float, ...]
    log_likelihood: float
    n_obs: int
    converged: bool
    starts: int
    agreeing: int
    errors_approx: tuple[float, ...] | None
    errors_robust: tuple[float, ...] | None


def estimate(
    model,
    y: np.ndarray,
    x: np.ndarray,
    *,
    starts: int = 10,
    seed: int = 0,
    near=None,
    errors: bool = True,
) -> Estimate:
    """Fit ``model`` to returns y [T] and covariates x [T,C].

    Args:
        model: a MarkovSwitching.
        y: returns [T].
        x: covariates [T,C] of the same bars.
        starts: starting points: statsmodels' own, and the rest at random.
        seed: of the random ones.
        near: an earlier MarkovFit of the model, whose parameters are one more starting point.
        errors: whether to work out standard errors, which takes about as long as one start.

    Raises:
        ConfigError: fewer rows than parameters, returns that never vary, or no start at all.
        TrainingError: no start led to a likelihood that is a number.
    """
    names = model.names()
    if len(y) - model.first_row <= len(names) or np.ptp(y) == 0.0 or starts + (near is not None) < 1:
        raise ConfigError(
            f"{len(y)} returns from {starts} starts cannot determine {len(names)} parameters: give more "
            "rows, that vary, and at least one start"
        )
    units = _Units(y, x)
    problem = statsmodels_model(model, *units.standardize(y, x))
    first = _starting_points(model, problem, starts, np.random.default_rng(seed))
    if near is not None:
        first.append(units.standard_params(model, np.array(near.params)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # every start that fails says so; what counts is the one kept
        found = [_climb(problem, start) for start in first]
        log_likelihood, params, converged = max(found, key=lambda end: _rank(model, *end))
        if not np.isfinite(log_likelihood):
            raise TrainingError(
                f"no likelihood was found from {len(first)} starts on {len(y)} rows: give more of both"
            )
        params = model.ordered(params)
        covariances = _covariances(problem, params) if errors else None
    to_units = partial(units.params, model)
    back = _matrix_of(to_units, len(names))
    widths = [tuple(_root_of_diagonal(back @ c @ back.T)) for c in covariances] if errors else (None, None)
    return Estimate(
        tuple(to_units(params).tolist()),
        float(log_likelihood - problem.nobs * np.log(units.scale)),
        int(problem.nobs),
        converged and _is_sound(model, params),
        len(first),
        int(sum(abs(end[0] - log_likelihood) < AGREE for end in found)),
        *widths,
    )


def statsmodels_model(model, y: np.ndarray, x: np.ndarray):
    """Return the statsmodels model of y [T] and x [T,C], whose parameters are those of ``model`` in order."""
    from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression

    first, lags = (model.lag if model.covariates else 0), model.lags
    drivers = x[: len(x) - model.lag] if first else x
    drivers = np.column_stack([np.ones(len(drivers)), drivers]) if model.covariates else None
    y = y[first:]
    common = {"k_regimes": model.regimes, "switching_variance": model.switching_variance}
    if model.expanded:
        return _expanded()(y, order=lags, exog_tvtp=drivers, switching_ar=model.switching_ar, **common)
    drivers = None if drivers is None else drivers[lags:]
    in_mean = [drivers[:, 1 + column] for column in model.regressor_columns]
    past = [y[lags - back : len(y) - back] for back in range(1, lags + 1)]
    return MarkovRegression(
        y[lags:],
        exog=np.column_stack(in_mean + past) if in_mean + past else None,
        exog_tvtp=drivers,
        switching_exog=[True] * len(in_mean) + [model.switching_ar] * lags,
        **common,
    )


def _expanded() -> type:
    from statsmodels.tsa.regime_switching.markov_autoregression import MarkovAutoregression

    class Expanded(MarkovAutoregression):
        """statsmodels' model, whose variance belongs to the regime of the row at every order.

        In 0.15.0 it belongs to a regime before it where the order is 2 or more: a shape that broadcasts wrongly.
        """

        def _conditional_loglikelihoods(self, params):
            resid = self._resid(params)
            variance = params[self.parameters["variance"]].reshape(-1, *[1] * (resid.ndim - 1))
            return -0.5 * resid**2 / variance - 0.5 * np.log(2 * np.pi * variance)

    return Expanded


def _starting_points(model, problem, starts: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return statsmodels' own starting point, and random ones around what a series of unit size can have."""
    own = np.array(problem.start_params)
    return [own, *(_random_start(model, own, rng) for _ in range(starts - 1))][:starts]


def _random_start(model, own: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    k, parts = model.regimes, model.unpack(own)
    stay = rng.uniform(0.6, 0.99, k)
    matrix = np.where(np.eye(k, dtype=bool), stay[:, None], (1 - stay[:, None]) / (k - 1))  # row: from
    transition = np.zeros_like(parts.transition)
    transition[:, 0] = matrix.T[:-1]
    if model.covariates:
        transition[:, 0] = np.log(matrix.T[:-1] / matrix.T[-1])
        transition[:, 1:] = rng.normal(0.0, 0.5, transition[:, 1:].shape)
    random = parts._replace(
        transition=transition,
        intercepts=rng.normal(0.0, 0.5, k),
        variances=np.exp(rng.normal(-0.5, 1.0, k)),
        ar=rng.normal(0.0, 0.3 / max(model.lags, 1), parts.ar.shape),
        slopes=rng.normal(0.0, 0.3, parts.slopes.shape),
    )
    return model.pack(random)


def _climb(problem, start: np.ndarray) -> tuple[float, np.ndarray, bool]:
    """Return log-likelihood, parameters and convergence from one starting point; -inf where it breaks down."""
    try:
        if not problem.tvtp:
            start = problem._fit_em(start, maxiter=EM_ITERATIONS, tolerance=0, return_params=True)
        result = problem.fit(start, em_iter=0, maxiter=BFGS_ITERATIONS, disp=0, cov_type="none")
    except (np.linalg.LinAlgError, RuntimeError, ValueError):
        return -np.inf, start, False
    reached = float(result.llf) if np.isfinite(result.llf) else -np.inf
    return reached, np.array(result.params), bool(result.mle_retvals["converged"])


def _rank(model, log_likelihood: float, params: np.ndarray, converged: bool) -> tuple:
    """Return what the end of a climb is chosen by: any likelihood, then a sound maximum, then the highest."""
    return np.isfinite(log_likelihood), _is_sound(model, params), log_likelihood


def _is_sound(model, params: np.ndarray) -> bool:
    """Tell whether a maximum is more than the spike that any mixture of normals has where a variance vanishes."""
    return bool(model.unpack(params).variances.min() > LEAST_VARIANCE)


def _covariances(problem, params: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the covariance [P,P] of the parameters by the Hessian, and by the sandwich."""
    result = problem.smooth(params, cov_type="approx")
    return result.cov_params_approx, result.cov_params_robust


def _root_of_diagonal(covariance: np.ndarray) -> np.ndarray:
    """Return standard errors; NaN where a parameter at its bound leaves no curvature."""
    diagonal = np.diag(covariance)
    return np.sqrt(np.where(diagonal >= 0.0, diagonal, np.nan))


def _matrix_of(affine: Callable[[np.ndarray], np.ndarray], n: int) -> np.ndarray:
    """Return the matrix [n,n] of an affine map."""
    origin = affine(np.zeros(n))
    return np.column_stack([affine(unit) - origin for unit in np.eye(n)])


class _Units:
    """The line between a series as it is and the same of unit size: y divided, covariates standardized."""

    def __init__(self, y: np.ndarray, x: np.ndarray):
        self.scale = float(np.std(y))
        self._center = x.mean(axis=0)
        self._spread = np.where(np.ptp(x, axis=0) > 0.0, x.std(axis=0), 1.0) if x.size else np.ones(x.shape[1])

    def standardize(self, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return y / self.scale, (x - self._center) / self._spread

    def params(self, model, standard: np.ndarray) -> np.ndarray:
        """Return the parameters of the series as it is from those of the standardized one."""
        parts, of_mean = model.unpack(standard), model.regressor_columns
        transition, slopes = parts.transition.copy(), parts.slopes / self._spread[of_mean]
        if model.covariates:
            transition[:, 1:] /= self._spread[:, None]
            transition[:, 0] -= np.einsum("icj,c->ij", transition[:, 1:], self._center)
        intercepts = parts.intercepts - slopes @ self._center[of_mean]
        shifted = parts._replace(transition=transition, intercepts=intercepts, slopes=slopes)
        return model.pack(self._scaled(shifted, self.scale))

    def standard_params(self, model, params: np.ndarray) -> np.ndarray:
        """Undo ``params``."""
        parts, of_mean = model.unpack(params), model.regressor_columns
        transition, slopes = parts.transition.copy(), parts.slopes * self._spread[of_mean]
        if model.covariates:
            transition[:, 0] += np.einsum("icj,c->ij", transition[:, 1:], self._center)
            transition[:, 1:] *= self._spread[:, None]
        intercepts = parts.intercepts + parts.slopes @ self._center[of_mean]
        shifted = parts._replace(transition=transition, intercepts=intercepts, slopes=slopes)
        return model.pack(self._scaled(shifted, 1 / self.scale))

    @staticmethod
    def _scaled(parts, scale: float):
        of_returns = {"intercepts": parts.intercepts * scale, "slopes": parts.slopes * scale}
        return parts._replace(**of_returns, variances=parts.variances * scale**2)
