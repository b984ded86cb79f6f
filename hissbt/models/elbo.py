"""Bounds on the evidence of windows under a variational autoencoder with levels of latents; its training loss."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Terms:
    """What the bound of a batch of windows is made of, in nats: ELBO = -surprise - sum of all divergences."""

    surprise: Tensor
    """-ln p(x | z) of each window [B], for one draw of the latents."""
    divergence: tuple[Tensor, ...]
    """KL(q || p) of each latent variable, one [B,blocks,d] a level, finest first; given the draw of its parent."""

    @property
    def elbo(self) -> Tensor:
        """The bound of each window [B]."""
        return -self.surprise - sum(level.sum(dim=(1, 2)) for level in self.divergence)


class HierarchicalLoss(nn.Module):
    """-ELBO a bar, with a weight on the divergences and free bits.

    Free bits (Kingma et al., arXiv 1606.04934, eq. 15): the mean divergence of a latent vector over batch and
    blocks counts as at least ``free_nats``, so that a level below it feels no pull towards its prior. With
    ``each_dimension`` that holds for each variable instead of each vector.
    """

    def __init__(self, free_nats: float = 0.1, each_dimension: bool = False):
        super().__init__()
        self.free_nats, self.each_dimension = free_nats, each_dimension

    def forward(self, terms: Terms, bars: int, beta: float = 1.0) -> Tensor:
        """Return the scalar loss of windows of ``bars`` bars, in nats a bar; ``beta`` weighs the divergences."""
        divergence = sum(self._clamped(level) for level in terms.divergence)
        return (terms.surprise.mean() + beta * divergence) / bars

    def _clamped(self, level: Tensor) -> Tensor:
        """Return the divergence of a level [B,blocks,d] a window, nothing below its free bits."""
        nats = level.mean(dim=(0, 1))  # [d], of one latent vector
        nats = nats if self.each_dimension else nats.sum(dim=0, keepdim=True)
        return level.shape[1] * torch.clamp(nats, min=self.free_nats).sum()


@torch.no_grad()
def importance_bound(
    net: nn.Module, x: Tensor, k: int, generator: torch.Generator | None = None, batch: int = 1024
) -> Tensor:
    """Return the importance-weighted bound of each window of x [N,W,F], in nats [N]: ln of the mean of k weights.

    With k = 1 it is an estimate of the ELBO, and its mean rises with k towards ln p(x): Burda, Grosse and
    Salakhutdinov, arXiv 1509.00519, eq. 8 and theorem 1.

    Args:
        net: a ``WindowVAE``.
        x: normalized windows [N,W,F].
        k: draws of the latents of a window.
        generator: of the draws.
        batch: about how many windows, each counted k times, go through the network at once.
    """
    bounds = []
    for windows in x.split(max(1, batch // k)):
        weights = net.log_weights(windows.repeat_interleave(k, dim=0), lambda q: q.draw(generator))
        bounds.append(torch.logsumexp(weights.unflatten(0, (-1, k)), dim=1) - math.log(k))
    return torch.cat(bounds)
