"""The rival of the hierarchical VAE: one latent vector for the whole window, of the same total size."""

from functools import partial
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor

from hissbt.errors import ConfigError
from hissbt.models.base import NetworkConfig
from hissbt.models.gaussian import Gaussian
from hissbt.models.hvae import HVAEConfig, HVAENet
from hissbt.models.size import parameter_count
from hissbt.models.window_vae import Draw, Inference, WindowVAE, mean_and_log_scale, perceptron

CHANNELS = 4


class FlatVAEConfig(NetworkConfig):
    """Settings of ``FlatVAE``."""

    n_features: int = Field(ge=1)
    window: int = Field(ge=1)
    """Bars."""
    patch: int = Field(ge=1)
    """Bars that the networks next to the bars see at once; the window is a multiple."""
    d_latent: int = Field(ge=1)
    d_hidden: int = Field(ge=1)
    """Width of the networks next to the bars."""
    d_joint: int = Field(ge=1)
    """Width of the networks between all patches and the latents."""
    channels: int = Field(CHANNELS, ge=1)
    """Numbers that stand for a patch between the two."""
    observation: Literal["student", "gaussian"] = "student"

    @model_validator(mode="after")
    def _patches_fit(self):
        if self.window % self.patch:
            raise ConfigError(
                f"network setting 'patch' cannot be {self.patch}: it must divide the window {self.window}"
            )
        return self


class FlatVAE(WindowVAE):
    """Patches of bars → channels → z ~ N(0, I) → channels → patches of bars.

    The networks next to the bars are like those of the hierarchical model: one hidden layer, shared by all
    patches. Those between them and the latents see all patches at once, each at its place, so that any latent can
    tell of any stretch of the window.
    """

    def __init__(self, config: FlatVAEConfig):
        super().__init__(config)
        inputs, channels = config.patch * config.n_features, config.channels
        joined = config.window // config.patch * channels
        self.below = perceptron(inputs, config.d_hidden, channels)
        self.evidence = perceptron(joined, config.d_joint, 2 * config.d_latent)
        self.above = perceptron(config.d_latent, config.d_joint, joined)
        self.path = perceptron(channels, config.d_hidden, 2 * inputs)

    def infer(self, x: Tensor, draw: Draw = Gaussian.draw) -> Inference:
        """Return the latents [B,1,D] of the windows x [B,W,F]; ``draw`` picks a value of their posterior."""
        patches = x.unflatten(1, (-1, self.config.patch)).flatten(2)  # [B,P,s F]
        posterior = Gaussian.of(self.evidence(self.below(self.reach(patches)).flatten(1))[:, None])
        return Inference((draw(posterior),), (posterior,), (Gaussian.standard_like(posterior.mean),))

    def decode(self, latents: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Return mean and log scale [B,W,F] of the bars, from the latents [B,1,D] of their windows."""
        channels = self.above(latents[0][:, 0]).unflatten(1, (-1, self.config.channels))  # [B,P,c]
        return mean_and_log_scale(self.path(channels).reshape(len(channels), self.config.window, -1))


def matched(config: HVAEConfig) -> FlatVAEConfig:
    """Return the flat model with as many latents and, within 2 %, as many parameters as the hierarchical one.

    A latent vector of the hierarchy counts as often as it occurs in a window. The networks next to the bars are as
    wide as the hierarchy's; those that see the whole window are as wide as the rest of the parameters allows, and
    what that leaves over widens the former. A flat model cannot share weights between blocks: this is where its
    parameters go.
    """
    window, patch = config.strides[-1], config.strides[0]
    latents = sum(d * window // stride for d, stride in zip(config.d_latent, config.strides, strict=True))
    common = {"n_features": config.n_features, "observation": config.observation}
    flat = FlatVAEConfig(
        **common, window=window, patch=patch, d_latent=latents, d_hidden=config.d_hidden, d_joint=1
    )
    size = parameter_count(partial(HVAENet, config))
    return _widened(_widened(flat, "d_joint", size), "d_hidden", size)


def _widened(config: FlatVAEConfig, name: str, parameters: int) -> FlatVAEConfig:
    """Return ``config`` with the width ``name`` increased as far as that many parameters allow."""
    now = parameter_count(partial(FlatVAE, config))
    wider = config.model_copy(update={name: getattr(config, name) + 1})
    steps = (parameters - now) // (parameter_count(partial(FlatVAE, wider)) - now)
    return FlatVAEConfig(**config.complete() | {name: getattr(config, name) + steps})
