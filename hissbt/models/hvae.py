"""A hierarchical variational autoencoder of windows of bars: each level of latents has a time scale of its own.

Generative chain, top-down (Sønderby et al., arXiv 1602.02282; the seed's section 2): z_L ~ N(0, I) for a window,
z_l ~ N(m_l, s_l)(z_{l+1}) for each block of ``strides[l-1]`` bars in its parent's, then the bars. That the levels
keep to their scales is imposed, since a chain need not use them (Zhao et al., arXiv 1702.08396): what a level sees
is pooled over its block, its latent is constant there, and each level has its own path to the bars.

Two ways to go through the same modules. ``infer`` takes whole windows, as training does. ``forward`` and ``step``
go with the time: at each bar the posterior of the window that *ends* there, its blocks aligned to that end, so
there is no phase, nothing is held, and nothing later is seen.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from hissbt.models import base
from hissbt.models.base import NetworkConfig, SequenceNet
from hissbt.models.elbo import Terms
from hissbt.models.gaussian import Gaussian, bent, divergence, merged

QUANTILES = 1000  # of the scores on the calibration span: p-values down to 0.001


class HVAEConfig(NetworkConfig):
    """Settings of ``HVAENet``; lists run from the finest level to the top."""

    n_features: int = Field(ge=1)
    strides: tuple[int, ...] = Field((4, 24, 168), min_length=1)
    """Bars that a latent of each level spans: on hours four of them, a day, a week. The last is the window."""
    d_latent: tuple[int, ...] = (2, 4, 8)
    """Size of one latent vector of each level."""
    d_hidden: int = Field(64, ge=1)
    decoder: Literal["paths", "chain"] = "paths"
    """Whether every level has a path to the bars, or only the finest has, as in the source."""
    observation: Literal["student", "gaussian"] = "student"
    n_clusters: int = Field(3, ge=1)
    """Regimes told apart by the top latent."""

    @model_validator(mode="after")
    def _levels_fit(self):
        if len(self.d_latent) != len(self.strides) or min(self.d_latent) < 1:
            raise ValueError(f"d_latent needs {len(self.strides)} sizes above 0, one a level")
        finer = (1, *self.strides[:-1])
        if any(s < 1 or s % f or (s == f and f > 1) for s, f in zip(self.strides, finer, strict=True)):
            raise ValueError("each of the strides must be a multiple of the one before, and longer")
        return self


@dataclass(frozen=True)
class Inference:
    """Latents of windows, and the distributions that they come from; one entry a level, finest first."""

    latents: tuple[Tensor, ...]
    """[B,blocks,d]."""
    posteriors: tuple[Gaussian, ...]
    priors: tuple[Gaussian, ...]
    """Given the latents of the level above."""


class HVAENet(SequenceNet):
    """Bottom-up features, top-down latents, one path a level to the bars.

    Outputs at bar t, of the window that ends there, with all latents at their posterior means:

    - ``kl`` [B,T,L]: divergence of the last block's posterior from its prior, by level, in nats
    - ``recon`` [B,T,1]: -ln p(bar t | latents), in nats
    - ``latent`` [B,T,D]: the means, finest level first

    Before the first bar the inputs count as 0, their mean. ``warmup`` is the window.

    Buffers, set by training and kept in the bundle: ``calibration`` [L,Q], quantiles of each level's anomaly score
    on bars held out; ``centers`` [K,d], clusters of the top latent, the calmest first; ``persistence`` [d,d], how
    the top latent of a window depends on that of the window before: z' = A z + e, with cov e = I - A Aᵀ, so that
    each keeps the prior of the model.
    """

    outputs = ("kl", "recon", "latent")

    def __init__(self, config: HVAEConfig):
        super().__init__()
        self.config = config
        strides, sizes, hidden, count = config.strides, config.d_latent, config.d_hidden, len(config.strides)
        self.warmup = strides[-1]
        self.strides = (1,) * count
        self.bottom_up = nn.ModuleList(
            [_net(hidden if level else strides[0] * config.n_features, hidden, hidden) for level in range(count)]
        )
        self.norms = nn.ModuleList([nn.LayerNorm(hidden) for _ in range(count)])
        self.evidence = nn.ModuleList(
            [_net(hidden + sum(sizes[level + 1 :]), hidden, 2 * sizes[level]) for level in range(count)]
        )
        self.prior = nn.ModuleList([_net(sizes[i + 1], hidden, 2 * sizes[i]) for i in range(count - 1)])
        paths = count if config.decoder == "paths" else 1
        self.path = nn.ModuleList(
            [_net(sizes[i], hidden, 2 * config.n_features * (1 if i else strides[0])) for i in range(paths)]
        )
        if config.observation == "student":
            self.excess_df = nn.Parameter(torch.full((config.n_features,), 4.0))
        self.register_buffer("calibration", torch.zeros(count, QUANTILES))
        self.register_buffer("centers", torch.zeros(config.n_clusters, sizes[-1]))
        self.register_buffer("persistence", torch.zeros(sizes[-1], sizes[-1]))

    @property
    def n_levels(self) -> int:
        """Levels of latents."""
        return len(self.config.strides)

    def top_level(self) -> tuple[nn.Module, ...]:
        """Return the modules of the top level; the prior it gives to the level below is among them."""
        own = [self.bottom_up[-1], self.norms[-1], self.evidence[-1], *self.prior[-1:]]
        return (*own, self.path[-1]) if len(self.path) == self.n_levels else tuple(own)

    # --- whole windows

    def infer(self, x: Tensor, draw: Callable[[Gaussian], Tensor] = Gaussian.draw) -> Inference:
        """Return the latents of x [B,T,F], windows in a row, each on its own; ``draw`` picks a value of each."""
        seen = list(self._block_features(x))  # [B,blocks,H] a level
        latents, posteriors, priors = [], [], []
        for level in reversed(range(self.n_levels)):
            own = self.config.strides[level]
            above = zip(self.config.strides[level + 1 :], latents, strict=True)
            parents = [z.repeat_interleave(stride // own, dim=1) for stride, z in above]  # the nearest first
            posterior, prior = self._posterior(level, seen[level], parents)
            latents.insert(0, draw(posterior))
            posteriors.insert(0, posterior)
            priors.insert(0, prior)
        return Inference(tuple(latents), tuple(posteriors), tuple(priors))

    def terms(self, x: Tensor) -> Terms:
        """Return the terms of the bound of the windows x [B,W,F], for one draw of their latents."""
        found = self.infer(x)
        divergences = tuple(divergence(q, p) for q, p in zip(found.posteriors, found.priors, strict=True))
        return Terms(-self.log_likelihood(x, found.latents).sum(dim=(1, 2)), divergences)

    def log_weights(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return ln p(x, z) - ln q(z | x) [B] of the windows x [B,W,F], for one draw of z."""
        found = self.infer(x, lambda posterior: posterior.draw(generator))
        weights = self.log_likelihood(x, found.latents).sum(dim=(1, 2))
        for z, q, p in zip(found.latents, found.posteriors, found.priors, strict=True):
            weights = weights + (p.log_density(z) - q.log_density(z)).sum(dim=(1, 2))
        return weights

    def log_likelihood(self, x: Tensor, latents: tuple[Tensor, ...]) -> Tensor:
        """Return ln p of each value of x [B,T,F] given the latents."""
        return self._log_density(x, *self.decode(latents))

    def decode(self, latents: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return mean and log scale [B,T,F] of the bars of windows in a row, from the latents [B,blocks,d]."""
        patches = self.path[0](latents[0])  # [B,blocks,s F 2]
        summed = patches.reshape(len(patches), -1, 2 * self.config.n_features)  # [B,T,2 F]
        for level in range(1, len(self.path)):
            summed = summed + self.path[level](latents[level]).repeat_interleave(self.config.strides[level], dim=1)
        return _mean_and_log_scale(summed)

    def prior_of(self, level: int, parent: Tensor) -> Gaussian:
        """Return the prior of the latents [B,blocks,d] of ``level`` (from 0) given those of the level above."""
        factor = self.config.strides[level + 1] // self.config.strides[level]
        return Gaussian.of(self.prior[level](parent.repeat_interleave(factor, dim=1)))

    @property
    def degrees_of_freedom(self) -> Tensor:
        """Of the t distribution of each feature [F]: above 2, so that there is a variance."""
        return 2.05 + F.softplus(self.excess_df)

    def _block_features(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the features [B,blocks,H] of each level."""
        seen, count = x, 1  # [B,T,F]
        for level, stride in enumerate(self.config.strides):
            blocks = seen.unflatten(1, (-1, stride // count))  # [B,blocks,n,..]
            seen = self._features(level, blocks.mean(dim=2) if level else blocks.flatten(2))
            count = stride
            yield seen

    def _features(self, level: int, pooled: Tensor) -> Tensor:
        # Without the norm one wild bar could move the mean of a week by any amount.
        return self.norms[level](self.bottom_up[level](pooled))

    def _posterior(self, level: int, seen: Tensor, parents: list[Tensor]) -> tuple[Gaussian, Gaussian]:
        """Return posterior and prior of a level from its features and all latents above, the nearest first."""
        evidence = Gaussian.of(self.evidence[level](torch.cat([seen, *parents], dim=-1)))
        if not parents:
            return evidence, Gaussian.standard_like(evidence.mean)
        prior = Gaussian.of(self.prior[level](parents[0]))
        return merged(evidence, prior), prior

    def _log_density(self, x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
        if self.config.observation == "gaussian":
            return Gaussian(mean, log_scale).log_density(x)
        df = self.degrees_of_freedom
        standardized = (x - mean) * torch.exp(-log_scale)
        peak = torch.lgamma((df + 1) / 2) - torch.lgamma(df / 2) - 0.5 * torch.log(df * math.pi)
        return peak - log_scale - (df + 1) / 2 * torch.log1p(standardized**2 / df)

    # --- bar by bar

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Run x [B,T,F]; return the outputs of the window that ends at each bar."""
        return self.prefill(x)[0]

    def prefill(self, x: Tensor) -> tuple[dict[str, Tensor], tuple]:
        """Run x [B,T,F]; return the outputs and the state after the last bar."""
        return self._advance(x, self.initial_state(len(x)))

    def initial_state(self, batch: int) -> tuple:
        """Return what the window of the first bar sees before it: inputs [B,s-1,F], features [B,..,H] a level."""
        strides = self.config.strides
        like = self.norms[0].weight
        x = like.new_zeros(batch, strides[0], self.config.n_features)
        state, seen = [x[:, 1:]], x.flatten(1)  # [B,s F]
        for level in range(self.n_levels - 1):
            seen = self._features(level, seen)  # [B,H]: as of a long stretch of zeros
            state.append(seen[:, None].expand(-1, strides[level + 1] - strides[level], -1))
        return tuple(state)

    def step(self, x: Tensor, state: tuple) -> tuple[dict[str, Tensor], tuple]:
        """Run one bar x [B,F]; return the outputs [B,..] and the new state."""
        outputs, state = self._advance(x[:, None], state)
        return {name: value[:, 0] for name, value in outputs.items()}, state

    def _advance(self, x: Tensor, state: tuple) -> tuple[dict[str, Tensor], tuple]:
        """Run x [B,T,F] after ``state``: what each level sees of the past, then the latents."""
        length, strides, features, new = x.shape[1], self.config.strides, [], []
        past = torch.cat([state[0], x], dim=1)  # [B,s-1+T,F]
        new.append(past[:, length:])
        seen = past.unfold(1, strides[0], 1).transpose(2, 3).flatten(2)  # [B,T,s F]
        for level in range(self.n_levels):
            if level:
                past = torch.cat([state[level], features[-1]], dim=1)
                new.append(past[:, length:])
                # What ended a multiple of the finer stride ago: the blocks of the window that ends now.
                ages = range(0, strides[level], strides[level - 1])
                offset = past.shape[1] - length
                seen = sum(past[:, offset - age : offset - age + length] for age in ages) / len(ages)
            features.append(self._features(level, seen))
        return self._read(x, features), tuple(new)

    def _read(self, x: Tensor, features: list[Tensor]) -> dict[str, Tensor]:
        """Return the outputs from the bars x [B,T,F] and what each level sees [B,T,H]."""
        latents, kl = [], []
        for level in reversed(range(self.n_levels)):
            posterior, prior = self._posterior(level, features[level], latents)
            latents.insert(0, posterior.mean)
            kl.insert(0, divergence(posterior, prior).sum(dim=-1, keepdim=True))
        last = self.path[0](latents[0])[..., -2 * self.config.n_features :]  # [B,T,2 F], of the block's last bar
        for level in range(1, len(self.path)):
            last = last + self.path[level](latents[level])
        surprise = -self._log_density(x, *_mean_and_log_scale(last)).sum(dim=-1, keepdim=True)
        return {"kl": torch.cat(kl, dim=-1), "recon": surprise, "latent": torch.cat(latents, dim=-1)}


def parameter_groups(net: HVAENet, lr: float, weight_decay: float) -> list[dict]:
    """Return optimizer groups as ``base.parameter_groups`` does, with the top level at half the rate.

    The top sees one latent vector a window where the finest level sees dozens: its gradients are the noisiest.
    """
    top = {id(parameter) for module in net.top_level() for parameter in module.parameters()}
    groups = []
    for group in base.parameter_groups(net, lr, weight_decay):
        slow = [parameter for parameter in group["params"] if id(parameter) in top]
        rest = [parameter for parameter in group["params"] if id(parameter) not in top]
        groups += [{**group, "params": rest}, {**group, "params": slow, "lr": group["lr"] / 2}]
    return [group for group in groups if group["params"]]


def _net(n_in: int, hidden: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, hidden), nn.GELU(), nn.Linear(hidden, n_out))


def _mean_and_log_scale(raw: Tensor) -> tuple[Tensor, Tensor]:
    mean, log_scale = raw.chunk(2, dim=-1)  # [..,F] each
    return mean, bent(log_scale)
