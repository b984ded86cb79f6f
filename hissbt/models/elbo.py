"""The evidence lower bound of a variational autoencoder with levels of latents, and its training loss."""

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
