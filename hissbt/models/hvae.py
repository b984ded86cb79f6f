"""A hierarchical variational autoencoder of windows of bars: each level of latents has a time scale of its own.

Generative chain, top-down (Sønderby et al., arXiv 1602.02282; the seed's section 2): z_L ~ N(0, I) for a window,
z_l ~ N(m_l, s_l)(z_{l+1}) for each block of ``strides[l-1]`` bars in its parent's, then the bars. That the levels
keep to their scales is imposed, since a chain need not use them (Zhao et al., arXiv 1702.08396): what a level sees
is pooled over its block, its latent is constant there, and each level has its own path to the bars.

Two ways to go through the same modules. ``infer`` takes whole windows, as training does. ``forward`` and ``step``
go with the time: at each bar the posterior of the window that *ends* there, its blocks aligned to that end, so
there is no phase, nothing is held, and nothing later is seen.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from hissbt.errors import ConfigError
from hissbt.models import base
from hissbt.models.base import NetworkConfig, SequenceNet
from hissbt.models.gaussian import Gaussian, divergence, merged
from hissbt.models.window_vae import Draw, Inference, WindowVAE, mean_and_log_scale, perceptron

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
            raise ConfigError(
                f"network setting 'd_latent' cannot be {self.d_latent}: give {len(self.strides)} sizes above 0, "
                "one for each of the strides"
            )
        if self.strides[0] < 1 or any(s % f or s <= f for f, s in pairwise(self.strides)):
            raise ConfigError(
                f"network setting 'strides' cannot be {self.strides}: each must be a multiple of the one before"
            )
        return self


class HVAENet(WindowVAE, SequenceNet):
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
        super().__init__(config)
        strides, sizes, hidden, count = config.strides, config.d_latent, config.d_hidden, len(config.strides)
        self.warmup = strides[-1]
        self.strides = (1,) * count
        inputs = [strides[0] * config.n_features] + [hidden] * (count - 1)
        self.bottom_up = nn.ModuleList([perceptron(size, hidden, hidden) for size in inputs])
        self.norms = nn.ModuleList([nn.LayerNorm(hidden) for _ in range(count)])
        self.evidence = nn.ModuleList(
            [perceptron(hidden + sum(sizes[level + 1 :]), hidden, 2 * sizes[level]) for level in range(count)]
        )
        self.prior = nn.ModuleList([perceptron(sizes[i + 1], hidden, 2 * sizes[i]) for i in range(count - 1)])
        paths = count if config.decoder == "paths" else 1
        self.path = nn.ModuleList(
            [perceptron(sizes[i], hidden, 2 * config.n_features * (1 if i else strides[0])) for i in range(paths)]
        )
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

    def infer(self, x: Tensor, draw: Draw = Gaussian.draw) -> Inference:
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

    def decode(self, latents: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return mean and log scale [B,T,F] of the bars of windows in a row, from the latents [B,blocks,d]."""
        patches = self.path[0](latents[0])  # [B,blocks,s F 2]
        summed = patches.reshape(len(patches), -1, 2 * self.config.n_features)  # [B,T,2 F]
        for level in range(1, len(self.path)):
            summed = summed + self.path[level](latents[level]).repeat_interleave(self.config.strides[level], dim=1)
        return mean_and_log_scale(summed)

    def prior_of(self, level: int, parent: Tensor) -> Gaussian:
        """Return the prior of the latents [B,blocks,d] of ``level`` (from 0) given those of the level above."""
        factor = self.config.strides[level + 1] // self.config.strides[level]
        return Gaussian.of(self.prior[level](parent.repeat_interleave(factor, dim=1)))

    def _block_features(self, x: Tensor) -> Iterator[Tensor]:
        """Yield the features [B,blocks,H] of each level."""
        seen, count = x, 1  # [B,T,F]
        for level, stride in enumerate(self.config.strides):
            blocks = seen.unflatten(1, (-1, stride // count))  # [B,blocks,n,..]
            seen = self._features(level, blocks.mean(dim=2) if level else blocks.flatten(2))
            count = stride
            yield seen

    def _features(self, level: int, pooled: Tensor) -> Tensor:
        if level == 0:
            pooled = self.reach(pooled)
        # Without the norm, too, one wild bar could move the mean of a week by any amount.
        return self.norms[level](self.bottom_up[level](pooled))

    def _posterior(self, level: int, seen: Tensor, parents: list[Tensor]) -> tuple[Gaussian, Gaussian]:
        """Return posterior and prior of a level from its features and all latents above, the nearest first."""
        evidence = Gaussian.of(self.evidence[level](torch.cat([seen, *parents], dim=-1)))
        if not parents:
            return evidence, Gaussian.standard_like(evidence.mean)
        prior = Gaussian.of(self.prior[level](parents[0]))
        return merged(evidence, prior), prior

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
        seen = torch.cat([past[:, bar : bar + length] for bar in range(strides[0])], dim=2)  # [B,T,s F]
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
        surprise = -self.log_density(x, *mean_and_log_scale(last)).sum(dim=-1, keepdim=True)
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
