"""The compiled step of a fitted Markov switching model: one bar in, what is known of its regime out.

Regimes s = 0 … K-1. Row r of the observations is y(r) with covariates x(r); transitions into row r are driven by
z(r) = x(r - lag):

    P(s(r) = i | s(r-1) = j) = softmax_i(coef[j,i,0] + coef[j,i,1:] · z(r))
    y(r) ~ N(mean, variances[s(r)])
    mean = intercepts[s(r)] + slopes[s(r)] · z(r) + Σ_l ar[s(r),l] (y(r-l) - shift(l))

where slopes are 0 for covariates that drive transitions only. The shift is 0, or intercepts[s(r-l)] in the
expanded model, whose mean looks back at the regimes of the last L rows. So what is carried is the joint log
probability of the last max(L, 1) regimes, the newest first: K^max(L,1) numbers, whatever came before. Before the
first row it is the steady state of the first transition matrix.

Hamilton, "A new approach to the economic analysis of nonstationary time series and the business cycle",
Econometrica 57(2), 1989; Filardo, "Business-cycle phases and their transitional dynamics", JBES 12(3), 1994.
"""

import math

import numpy as np
from numba import njit

LEAST_PROBABILITY = 1e-20  # keeps logs finite, as in statsmodels
LOG_2PI = math.log(2.0 * math.pi)
SEEN = 0  # slot of the state: how many rows were seen


@njit(cache=True)
def state_size(k: int, n_lags: int, n_covariates: int, expanded: bool) -> int:
    """Return the length of a state: rows seen, last covariates, last observations, log joint."""
    return 1 + n_covariates + n_lags + k ** _memory(n_lags, expanded)


@njit(cache=True)
def _memory(n_lags: int, expanded: bool) -> int:
    """Return of how many regimes, the newest included, the joint probability is carried."""
    return max(n_lags, 1) if expanded else 1


@njit(cache=True)
def transition_matrix(coef: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return P [K,K] for covariates z [C] and coef [K,K,1+C]; row j is "from regime j" and sums to 1."""
    k = coef.shape[0]
    matrix = np.empty((k, k))
    for j in range(k):
        for i in range(k):
            matrix[j, i] = coef[j, i, 0]
            for c in range(len(z)):
                matrix[j, i] += coef[j, i, 1 + c] * z[c]
        row = np.exp(matrix[j] - matrix[j].max())
        matrix[j] = row / row.sum()
    return matrix


@njit(cache=True)
def steady_state(matrix: np.ndarray) -> np.ndarray:
    """Return the distribution [K] that a transition matrix [K,K] leaves as it is."""
    k = matrix.shape[0]
    system = np.ones((k + 1, k))
    system[:k] = np.eye(k) - matrix.T
    distribution = np.linalg.pinv(system)[:, k].copy()
    return np.maximum(distribution, LEAST_PROBABILITY)


@njit(cache=True)
def _log_sum_exp(values: np.ndarray) -> float:
    top = values.max()
    return top + math.log(np.exp(values - top).sum()) if top > -np.inf else -np.inf


@njit(cache=True)
def _mean(i, before, intercepts, slopes, ar, z, lags, expanded) -> float:
    """Return the mean of a row under regime i, when the regimes before it have the index ``before``."""
    k, n_lags = ar.shape
    value = intercepts[i]
    for c in range(len(z)):
        value += slopes[i, c] * z[c]
    for back in range(n_lags):
        shift = intercepts[(before // k ** (n_lags - 1 - back)) % k] if expanded else 0.0
        value += ar[i, back] * (lags[back] - shift)
    return value


@njit(cache=True)
def _predict(log_joint: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Return the log joint [K, K^m] of the next regime and those before it."""
    k, n = matrix.shape[0], len(log_joint)
    predicted = np.empty((k, n))
    for i in range(k):
        for before in range(n):
            probability = max(matrix[before // (n // k), i], LEAST_PROBABILITY)
            predicted[i, before] = math.log(probability) + log_joint[before]
    return predicted


@njit(cache=True)
def _marginal(joint: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(joint)):
        out[i] = math.exp(_log_sum_exp(joint[i]))


@njit(cache=True)
def _forecast(predicted, intercepts, slopes, ar, variances, z, lags, expanded, out) -> None:
    """Write mean and standard deviation of the next row: of the mixture over all regimes."""
    first = second = 0.0
    for i in range(predicted.shape[0]):
        for before in range(predicted.shape[1]):
            weight = math.exp(predicted[i, before])
            mean = _mean(i, before, intercepts, slopes, ar, z, lags, expanded)
            first += weight * mean
            second += weight * (variances[i] + mean * mean)
    out[0] = first
    out[1] = math.sqrt(max(second - first * first, 0.0))


@njit(cache=True)
def step(coef, intercepts, slopes, ar, variances, expanded, lag, y, x, state, out) -> None:
    """Take one row and advance ``state`` in place.

    Writes to ``out`` [3K+3]: filtered [K], given rows up to this one; predicted [K], given those before; ahead
    [K], of the row to come; mean and standard deviation of the row to come; log density of this one. All are NaN
    in the rows that only fill the lags.
    """
    k, n_lags = ar.shape
    n_covariates = coef.shape[2] - 1
    covariates = state[1 : 1 + n_covariates]
    lags = state[1 + n_covariates : 1 + n_covariates + n_lags]
    log_joint = state[1 + n_covariates + n_lags :]
    row = int(state[SEEN]) - (lag if n_covariates else 0)  # from the first whose transition is known
    z = covariates if lag else x
    out[:] = np.nan
    begins = 0 if expanded else n_lags
    if row >= begins:
        matrix = transition_matrix(coef, z)
        if row == begins:
            joint = np.full((k, len(log_joint)), -np.inf)
            joint[:, 0] = np.log(steady_state(matrix))
        else:
            joint = _predict(log_joint, matrix)
        if row >= n_lags:
            _marginal(joint, out[k : 2 * k])
            for i in range(k):
                for before in range(len(log_joint)):
                    error = y - _mean(i, before, intercepts, slopes, ar, z, lags, expanded)
                    joint[i, before] -= 0.5 * (error * error / variances[i] + math.log(variances[i]) + LOG_2PI)
            out[3 * k + 2] = _log_sum_exp(joint.ravel())
            joint -= out[3 * k + 2]
            _marginal(joint, out[:k])
        flat = joint.ravel()
        for kept in range(len(log_joint)):  # the oldest regime drops out
            log_joint[kept] = _log_sum_exp(flat[kept * k : (kept + 1) * k])
    state[SEEN] += 1.0
    covariates[:] = x
    for back in range(n_lags - 1, 0, -1):
        lags[back] = lags[back - 1]
    if n_lags:
        lags[0] = y
    if row >= n_lags:
        ahead = _predict(log_joint, transition_matrix(coef, covariates))
        _marginal(ahead, out[2 * k : 3 * k])
        moments = out[3 * k : 3 * k + 2]
        _forecast(ahead, intercepts, slopes, ar, variances, covariates, lags, expanded, moments)


@njit(cache=True)
def scan(coef, intercepts, slopes, ar, variances, expanded, lag, y, x, state, out) -> None:
    """``step`` over y [T] and x [T,C] into ``out`` [T,3K+3]."""
    for t in range(len(y)):
        step(coef, intercepts, slopes, ar, variances, expanded, lag, y[t], x[t], state, out[t])
