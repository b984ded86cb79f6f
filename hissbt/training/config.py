"""Everything that can be set about a training run, with its default and the reason for it."""

import math
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from hissbt.errors import ConfigError
from hissbt.settings import Settings

Weight = Annotated[float, Field(ge=0)]

_PRESETS = files("hissbt.training") / "presets"

EASIEST = 0.25  # share of the windows' length, or of the windows, that a curriculum begins with


class RunConfig(Settings):
    """What can be set about any training run. Counts are in bars unless the name says otherwise."""

    kind: ClassVar[str] = "training setting"

    # None: the defaults of the timeframe; for an autoencoder what there is in a candle, as far as it varies
    features: tuple[str, ...] | None = Field(None, min_length=1, description='a list, as ["log_return","range"]')
    network: dict[str, Any] = Field(default_factory=dict)  # fields of the network's own config

    batch_size: int = Field(16, ge=1)
    validation_fraction: float = Field(0.15, gt=0, lt=1)  # last part of the training span, for early stopping

    epoch_steps: int = Field(20, ge=1)  # batches between two looks at the validation loss
    max_epochs: int = Field(20, ge=1)
    patience: int = Field(6, ge=1)  # epochs without a better validation loss before the run stops
    lr: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    gradient_clip: float = Field(1.0, gt=0)
    averaging: Literal["none", "swa", "ema"] = "none"  # which mean of the weights is judged, and kept
    ema_decay: float = Field(0.98, ge=0, lt=1)  # of the weights' exponential mean a batch, with ema
    seed: int = Field(0, ge=0, lt=2**32)  # what numpy's generator takes

    @property
    def steps(self) -> int:
        """Batches of the whole run, if nothing stops it early."""
        return self.epoch_steps * self.max_epochs

    @property
    def falling_steps(self) -> int:
        """Batches over which the learning rate falls; to average with equal weights it stays from there on."""
        return self.steps // 2 if self.averaging == "swa" else self.steps

    @property
    def averaged_epoch(self) -> int:
        """First epoch that ends with averaged weights, if any are: the losses before it do not count."""
        return self.falling_steps // self.epoch_steps if self.averaging == "swa" else 0

    @field_validator("network")
    @classmethod
    def _inputs_are_counted(cls, network: dict[str, Any]):
        if "n_features" in network:
            raise ValueError("leave n_features out, it is the number of features")
        return network


class WindowConfig(RunConfig):
    """Settings of a run over windows whose length is free."""

    window: int = Field(256, ge=2)  # bars of one training sequence
    burn_in: int = Field(64, ge=0)  # first bars of a window that warm the state and carry no loss

    @model_validator(mode="after")
    def _burn_in_fits(self):
        if self.burn_in >= self.window:
            raise ValueError(f"burn_in {self.burn_in} must be less than window {self.window}: set both")
        return self


class TrainingConfig(WindowConfig):
    """Settings of a run that trains a forecaster."""

    horizon: int = Field(1, ge=1)  # bars that a forecast looks ahead
    # What comes first, short windows or calm ones: over the first half of the epochs it grows to all there are
    curriculum: Literal["none", "length", "volatility"] = "none"
    loss_weights: tuple[Weight, Weight, Weight] | Literal["learned"] = Field(
        (1.0, 1.0, 1.0), description="learned, or a list of three numbers from 0 on: return, direction, volatility"
    )

    @property
    def growth_epochs(self) -> int:
        """Epochs of the curriculum, whose validation loss does not count; one at least comes after them."""
        return 0 if self.curriculum == "none" else min(math.ceil(self.max_epochs / 2), self.max_epochs - 1)

    def share(self, epoch: int) -> float:
        """Return how much of what the curriculum withholds is there in an epoch, counted from 0.

        It grows linearly: the competence of Platanios et al., "Competence-based Curriculum Learning for Neural
        Machine Translation", NAACL 2019, eq. 6.
        """
        if epoch >= self.growth_epochs:
            return 1.0
        return EASIEST + (1 - EASIEST) * epoch / self.growth_epochs


class LatentConfig(RunConfig):
    """Settings of a run that trains a variational autoencoder. Its windows are as long as its network says."""

    batch_size: int = Field(32, ge=1)
    # Twice that of a forecaster: its later half calibrates the anomaly scores.
    validation_fraction: float = Field(0.2, gt=0, lt=1)
    epoch_steps: int = Field(100, ge=1)
    max_epochs: int = Field(60, ge=1)
    patience: int = Field(12, ge=1)  # counted after the warm-up
    weight_decay: float = Field(1e-4, ge=0)

    free_nats: float = Field(0.1, ge=0)  # divergence that costs nothing, per latent vector or variable
    free_bits: Literal["level", "dimension"] = "level"  # whether a vector has free_nats, or each of its variables
    warmup_share: float = Field(
        0.3, ge=0, lt=1
    )  # of all steps, over which the weight of the divergence grows to 1

    @property
    def warmup_epochs(self) -> int:
        """Epochs whose validation loss does not count, as the loss was still another; one at least does."""
        return min(math.ceil(self.warmup_share * self.max_epochs), self.max_epochs - 1)

    def beta(self, step: int) -> float:
        """Return the weight of the divergence at a step, counted from 0."""
        return min(1.0, (step + 1) / max(self.warmup_share * self.steps, 1.0))


def presets() -> list[str]:
    """Return the names of the settings that come with the package."""
    return sorted(path.name.removesuffix(".toml") for path in _PRESETS.iterdir())


def read_settings(source: str | Path) -> dict[str, Any]:
    """Read settings from a TOML file, or from the preset of that name, which goes before a file of it.

    Raises ConfigError if there is neither, or if the file is not TOML.
    """
    path = _PRESETS / f"{source}.toml" if str(source) in presets() else Path(source)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        names = ", ".join(presets())
        raise ConfigError(
            f"cannot read the config file {source}: {error.strerror}; give a file, or one of {names}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the config file {source} is not valid TOML: {error}") from error
