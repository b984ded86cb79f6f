"""The loops over time of a switching network and their gradients, compiled by numba and kept on disk.

``hissbt.models.hamilton`` and ``hissbt.models.switching`` say what they compute, and have the same in torch.
Arrays are contiguous and float64; N counts sequences. No sum is reordered: logarithms of 0 are huge numbers here.
"""

import numpy as np
from numba import njit

entry = njit(error_model="numpy", nogil=True, cache=True)


@entry
def filter_forward(loglik, log_transition, state, log_predicted, log_filtered, log_density):
    """Filter loglik [N,T,K] with log_transition [N,T,K,K]; state [N,K] goes from the first to the last."""
    regimes = state.shape[1]
    for n in range(len(loglik)):
        now = state[n]
        for t in range(loglik.shape[1]):
            predicted, step = log_predicted[n, t], log_transition[n, t]
            highest = -np.inf
            for j in range(regimes):
                top, total = now[0] + step[0, j], 0.0
                for i in range(1, regimes):
                    top = max(top, now[i] + step[i, j])
                for i in range(regimes):
                    total += np.exp(now[i] + step[i, j] - top)
                predicted[j] = top + np.log(total)
                highest = max(highest, predicted[j] + loglik[n, t, j])
            total = 0.0
            for j in range(regimes):
                total += np.exp(predicted[j] + loglik[n, t, j] - highest)
            log_density[n, t] = highest + np.log(total)
            for j in range(regimes):
                now[j] = predicted[j] + loglik[n, t, j] - log_density[n, t]
            log_filtered[n, t] = now


@entry
def filter_backward(
    log_transition, first, log_predicted, log_filtered, grad_predicted, grad_filtered, grad_density,
    grad_state, grad_loglik, grad_transition,
):  # fmt: skip
    """Fill the gradients of loglik and log_transition; grad_state goes from the last state to the first."""
    regimes = first.shape[1]
    for n in range(len(first)):
        carried = grad_state[n]
        for t in range(log_predicted.shape[1] - 1, -1, -1):
            before = log_filtered[n, t - 1] if t else first[n]
            total = -grad_density[n, t]
            for j in range(regimes):
                carried[j] += grad_filtered[n, t, j]
                total += carried[j]
            for j in range(regimes):
                grad_loglik[n, t, j] = carried[j] - total * np.exp(log_filtered[n, t, j])
            carried[:] = 0.0
            for j in range(regimes):
                grad = grad_loglik[n, t, j] + grad_predicted[n, t, j]
                for i in range(regimes):
                    share = np.exp(before[i] + log_transition[n, t, i, j] - log_predicted[n, t, j])
                    grad_transition[n, t, i, j] = grad * share
                    carried[i] += grad * share


@entry
def matrices_forward(factor, matrix, matrices):
    """Fill matrices [N,T,K,K], each the row softmax of factor times the one before, at first ``matrix``."""
    for n in range(len(factor)):
        before = matrix[n]
        for t in range(factor.shape[1]):
            after = matrices[n, t]
            for i in range(len(before)):
                top, total = -np.inf, 0.0
                for j in range(len(before)):
                    after[i, j] = before[i, j] * factor[n, t, i, j]
                    top = max(top, after[i, j])
                for j in range(len(before)):
                    after[i, j] = np.exp(after[i, j] - top)
                    total += after[i, j]
                for j in range(len(before)):
                    after[i, j] /= total
            before = after


@entry
def matrices_backward(factor, matrix, matrices, grad_matrices, grad_factor, carried):
    """Fill grad_factor; carried [N,K,K], zeros, becomes the gradient of the first matrix."""
    for n in range(len(factor)):
        grad = carried[n]
        for t in range(factor.shape[1] - 1, -1, -1):
            before, after = matrices[n, t - 1] if t else matrix[n], matrices[n, t]
            for i in range(len(before)):
                along = 0.0
                for j in range(len(before)):
                    grad[i, j] += grad_matrices[n, t, i, j]
                    along += grad[i, j] * after[i, j]
                for j in range(len(before)):
                    inner = after[i, j] * (grad[i, j] - along)
                    grad_factor[n, t, i, j] = inner * before[i, j]
                    grad[i, j] = inner * factor[n, t, i, j]
