"""Diagonal Gaussians as a pair of tensors: divergence, product, density, draws; and the density of a t."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from hissbt.limits import BOUND


class Gaussian(NamedTuple):
    """Independent normal variables: ``mean`` and ``log_std``, both [..,d]."""

    mean: Tensor
    log_std: Tensor

    @classmethod
    def of(cls, raw: Tensor) -> "Gaussian":
        """Read [..,2 d] as means and unbounded log standard deviations, which are bent to within ``BOUND``."""
        mean, log_std = raw.chunk(2, dim=-1)
        return cls(mean, bent(log_std))

    @classmethod
    def standard_like(cls, like: Tensor) -> "Gaussian":
        """Return the standard normal of the shape of ``like``."""
        return cls(torch.zeros_like(like), torch.zeros_like(like))

    def draw(self, generator: torch.Generator | None = None) -> Tensor:
        """Return a sample [..,d] that passes gradients on to mean and deviation."""
        shape, of = self.mean.shape, {"dtype": self.mean.dtype, "device": self.mean.device}
        return self.mean + torch.exp(self.log_std) * torch.randn(shape, generator=generator, **of)

    def log_density(self, z: Tensor) -> Tensor:
        """Return ln N(z) of each variable [..,d]."""
        standardized = (z - self.mean) * torch.exp(-self.log_std)
        return -0.5 * standardized**2 - self.log_std - 0.5 * math.log(2 * math.pi)


def bent(log_std: Tensor) -> Tensor:
    """Return BOUND tanh(x / BOUND): smooth, the identity around 0, never beyond ``BOUND``."""
    return BOUND * torch.tanh(log_std / BOUND)


def divergence(q: Gaussian, p: Gaussian) -> Tensor:
    """Return KL(q || p) of each variable [..,d], in nats."""
    excess = q.log_std - p.log_std
    shift = (q.mean - p.mean) * torch.exp(-p.log_std)
    return 0.5 * (torch.expm1(2 * excess) + shift**2) - excess


def merged(a: Gaussian, b: Gaussian) -> Gaussian:
    """Return the normalized product of two Gaussians: precisions add up, means are weighted by them.

    The Ladder merge, Sønderby et al., arXiv 1602.02282, eq. 17 and 18.
    """
    weight = torch.sigmoid(2 * (b.log_std - a.log_std))  # precision of a, over that of both
    log_std = -0.5 * torch.logaddexp(-2 * a.log_std, -2 * b.log_std)
    return Gaussian(weight * a.mean + (1 - weight) * b.mean, log_std)


def student_log_density(x: Tensor, mean: Tensor, log_scale: Tensor, df: Tensor) -> Tensor:
    """Return the log density of each x [..,F] under t distributions with ``df`` [F] degrees of freedom."""
    standardized = (x - mean) * torch.exp(-log_scale)
    peak = torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2) - 0.5 * torch.log(df * math.pi)
    return peak - log_scale - (df + 1) / 2 * torch.log1p(standardized**2 / df)
