"""What a variational autoencoder of windows of bars is: latents inferred, bars decoded, the bound between them."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from hissbt.limits import LEAST_DF, REACH
from hissbt.models.base import NetworkConfig
from hissbt.models.elbo import Terms
from hissbt.models.gaussian import Gaussian, bent, divergence, student_log_density

Draw = Callable[[Gaussian], Tensor]


class Reach(nn.Module):
    """Bends what latents are inferred from to within ``REACH``: x becomes REACH tanh(x / REACH).

    One wild bar then says no more of its day and week than a large one does. What the latents are judged by, the
    likelihood of the bars, sees them as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x, bent."""
        return REACH * torch.tanh(x / REACH)


@dataclass(frozen=True)
class Inference:
    """Latents of windows, and the distributions that they come from; one entry a level, finest first."""

    latents: tuple[Tensor, ...]
    """[B,blocks,d]."""
    posteriors: tuple[Gaussian, ...]
    priors: tuple[Gaussian, ...]
    """Given the latents of the level above."""


class WindowVAE(nn.Module):
    """Base of the autoencoders: the bound and the weights of importance sampling, from ``infer`` and ``decode``.

    ``config`` has ``n_features`` and ``observation``: "student" (a t distribution with learned degrees of freedom
    for each feature) or "gaussian".
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.reach = Reach()
        if config.observation == "student":
            self.excess_df = nn.Parameter(torch.full((config.n_features,), 4.0))

    def infer(self, x: Tensor, draw: Draw = Gaussian.draw) -> Inference:
        """Return the latents of x [B,W,F]; ``draw`` picks a value of each posterior."""
        raise NotImplementedError

    def decode(self, latents: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return mean and log scale [B,W,F] of the bars, from the latents [B,blocks,d]."""
        raise NotImplementedError

    def top_level(self) -> tuple[nn.Module, ...]:
        """Return the modules of a level above all others; none where there is one level."""
        return ()

    def terms(self, x: Tensor, draw: Draw = Gaussian.draw) -> Terms:
        """Return the terms of the bound of the windows x [B,W,F], for one draw of their latents."""
        found = self.infer(x, draw)
        divergences = tuple(divergence(q, p) for q, p in zip(found.posteriors, found.priors, strict=True))
        return Terms(-self.log_likelihood(x, found.latents).sum(dim=(1, 2)), divergences)

    def log_weights(self, x: Tensor, draw: Draw = Gaussian.draw) -> Tensor:
        """Return ln p(x, z) - ln q(z | x) [B] of the windows x [B,W,F], for one draw of z."""
        found = self.infer(x, draw)
        weights = self.log_likelihood(x, found.latents).sum(dim=(1, 2))
        for z, q, p in zip(found.latents, found.posteriors, found.priors, strict=True):
            weights = weights + (p.log_density(z) - q.log_density(z)).sum(dim=(1, 2))
        return weights

    def log_likelihood(self, x: Tensor, latents: tuple[Tensor, ...]) -> Tensor:
        """Return ln p of each value of x [B,W,F] given the latents."""
        return self.log_density(x, *self.decode(latents))

    def log_density(self, x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        """Return ln p of each value of x [..,F] under the observation model."""
        if self.config.observation == "gaussian":
            return Gaussian(mean, log_scale).log_density(x)
        return student_log_density(x, mean, log_scale, self.degrees_of_freedom)

    @property
    def degrees_of_freedom(self) -> Tensor:
        """Of the t distribution of each feature [F], above ``LEAST_DF``."""
        return LEAST_DF + F.softplus(self.excess_df)


def perceptron(n_in: int, hidden: int, n_out: int) -> nn.Sequential:
    """Return the network that all parts of the autoencoders are: one hidden layer."""
    return nn.Sequential(nn.Linear(n_in, hidden), nn.GELU(), nn.Linear(hidden, n_out))


def mean_and_log_scale(raw: Tensor) -> tuple[Tensor, Tensor]:
    """Read [..,2 F] as means and unbounded log scales, which are bent to within ``BOUND``."""
    mean, log_scale = raw.chunk(2, dim=-1)
    return mean, bent(log_scale)
