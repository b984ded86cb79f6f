"""The Hamilton filter: what is known of a hidden Markov chain after each bar, in log space and differentiable.

Hamilton, "A new approach to the economic analysis of nonstationary time series and the business cycle",
Econometrica 57(2), 1989; with transition probabilities that change over time as in Diebold, Lee, Weinbach, 1993.
With xi the probabilities of the K regimes and f(t) [K] the density of what was observed at t under each:

    predicted[t] = filtered[t-1] @ transition[t]        row i is from regime i; initial before the first
    filtered[t]  = predicted[t] f(t) / sum(predicted[t] f(t))

Nothing of bar t+1 enters ``filtered[t]``, and nothing of bar t ``predicted[t]``, beyond what the caller put into
``transition[t]``: to forecast, that must be known at t-1.
"""

import math

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hissbt.errors import ConfigError

ROWS = 1e-4  # how far from 1 rows may sum: rounding in float32, not a transposed matrix
IMPOSSIBLE = -1e30  # log of a probability of 0


def hamilton_filter(loglik: Tensor, transition: Tensor, initial: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Filter a whole sequence; all in float64, whatever is given.

    Args:
        loglik: [..,T,K] log density of the observation at t under each regime.
        transition: [..,T,K,K] probabilities of the step from t-1 to t; row i is "from regime i" and sums to 1.
        initial: [..,K] probabilities before the first of these steps.

    Returns:
        filtered [..,T,K], given bars 0..t; predicted [..,T,K], given bars 0..t-1; log-likelihood [..].

    Raises:
        ConfigError: rows that do not sum to 1.
    """
    _check_rows(transition)
    filtered, predicted, log_density, _ = HamiltonFilter()(loglik, transition, safe_log(initial))
    return filtered, predicted, log_density.sum(-1)


class HamiltonFilter(nn.Module):
    """The filter as a layer without parameters. Its state is ``log filtered`` [..,K], float64.

    Densities of exactly 0 under every regime that is still possible give NaN from there on.
    """

    def initial_state(self, n_regimes: int, *batch: int) -> Tensor:
        """Return the state in which all regimes are equally probable, [*batch,K]."""
        return torch.full((*batch, n_regimes), 1 / n_regimes, dtype=torch.float64).log()

    def forward(self, loglik: Tensor, transition: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Filter loglik [..,T,K] with transition [..,T,K,K] (rows sum to 1) from a state [..,K].

        Returns filtered [..,T,K], predicted [..,T,K], log density [..,T] of each observation given those before
        it, and the state after the last.
        """
        loglik, log_transition = loglik.double(), safe_log(transition)
        state = state.double().expand(*loglik.shape[:-2], loglik.shape[-1])
        run = CompiledFilter.apply if loglik.device.type == "cpu" else filter_in_torch
        log_predicted, log_filtered, log_density, state = run(loglik, log_transition, state)
        return log_filtered.exp(), log_predicted.exp(), log_density, state

    def step(self, loglik: Tensor, transition: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Filter one bar: loglik [..,K], transition [..,K,K] of the step to it; returns as ``forward``, less T."""
        log_predicted, state, log_density = _advance(state.double(), safe_log(transition), loglik.double())
        return state.exp(), log_predicted.exp(), log_density[..., 0], state


def filter_in_torch(
    loglik: Tensor, log_transition: Tensor, state: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Run the filter on any device; also what the compiled one is tested against."""
    predicted, states, densities = [], [], []
    for at_t, step in zip(loglik.unbind(-2), log_transition.unbind(-3), strict=True):
        log_predicted, state, log_density = _advance(state, step, at_t)
        predicted.append(log_predicted)
        states.append(state)
        densities.append(log_density)
    return torch.stack(predicted, -2), torch.stack(states, -2), torch.cat(densities, -1), state


class CompiledFilter(torch.autograd.Function):
    """``filter_in_torch``, compiled; also of no bars at all. A second derivative is refused."""

    @staticmethod
    def forward(ctx, loglik, log_transition, state):
        """Run forward; keep both logarithms of every bar."""
        from hissbt.models import switching_kernels  # here, so that networks load without numba

        loglik, log_transition, first = (z.contiguous() for z in (loglik, log_transition, state))
        log_predicted, log_filtered, last = torch.empty_like(loglik), torch.empty_like(loglik), first.clone()
        log_density = loglik.new_empty(loglik.shape[:-1])
        switching_kernels.filter_forward(
            arrays(loglik, 2), arrays(log_transition, 3), arrays(last, 1),
            arrays(log_predicted, 2), arrays(log_filtered, 2), arrays(log_density, 1),
        )  # fmt: skip
        ctx.save_for_backward(log_transition, first, log_predicted, log_filtered)
        return log_predicted, log_filtered, log_density, last

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_predicted, grad_filtered, grad_density, grad_last):
        """Run backward."""
        from hissbt.models import switching_kernels

        log_transition, first, log_predicted, log_filtered = ctx.saved_tensors
        grad_state = grad_last.clone(memory_format=torch.contiguous_format)
        grad_loglik, grad_transition = torch.empty_like(log_filtered), torch.empty_like(log_transition)
        switching_kernels.filter_backward(
            arrays(log_transition, 3), arrays(first, 1), arrays(log_predicted, 2), arrays(log_filtered, 2),
            arrays(grad_predicted.contiguous(), 2), arrays(grad_filtered.contiguous(), 2),
            arrays(grad_density.contiguous(), 1), arrays(grad_state, 1),
            arrays(grad_loglik, 2), arrays(grad_transition, 3),
        )  # fmt: skip
        return grad_loglik, grad_transition, grad_state


def arrays(tensor: Tensor, dimensions: int):
    """Return a numpy array on the memory of a contiguous CPU tensor [..,*last dimensions], as [N,*..]."""
    lead = tensor.ndim - dimensions
    return tensor.detach().view(math.prod(tensor.shape[:lead]), *tensor.shape[lead:]).numpy()


def safe_log(probability: Tensor) -> Tensor:
    """Return the logarithm in float64; of 0 a number that no evidence outweighs, and no gradient flows.

    Minus infinity would do as well for the values, but its gradients are NaN.
    """
    probability = probability.double()
    possible = probability > 0
    return torch.where(possible, torch.where(possible, probability, 1.0).log(), IMPOSSIBLE)


def _advance(log_filtered: Tensor, log_transition: Tensor, loglik: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return log predicted [..,K], the new log filtered [..,K] and the log density of the observation [..,1]."""
    log_predicted = torch.logsumexp(log_filtered[..., None] + log_transition, dim=-2)
    joint = log_predicted + loglik
    log_density = torch.logsumexp(joint, dim=-1, keepdim=True)
    return log_predicted, joint - log_density, log_density


def _check_rows(transition: Tensor) -> None:
    worst = (transition.detach().double().sum(-1) - 1).abs()
    if worst.numel() and not worst.max() <= ROWS:
        raise ConfigError(
            f"rows of the transition matrices miss a sum of 1 by up to {worst.max():.3g}: transition[t][i][j] is "
            "the probability of regime j at t after regime i at t-1, so give rows, not columns, that sum to 1"
        )
