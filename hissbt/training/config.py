"""Everything that can be set about a training run, with its default and the reason for it."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from hissbt.errors import ConfigError
from hissbt.settings import Settings

Weight = Annotated[float, Field(ge=0)]


class TrainingConfig(Settings):
    """Settings of one training run. Counts are in bars unless the name says otherwise."""

    kind: ClassVar[str] = "training setting"

    horizon: int = Field(1, ge=1)  # bars that a forecast looks ahead
    # None: the defaults of the timeframe
    features: tuple[str, ...] | None = Field(None, min_length=1, description='a list, as ["log_return","range"]')
    network: dict[str, Any] = Field(default_factory=dict)  # fields of the network's own config

    window: int = Field(256, ge=2)  # bars of one training sequence
    burn_in: int = Field(64, ge=0)  # first bars of a window that warm the state and carry no loss
    batch_size: int = Field(16, ge=1)
    validation_fraction: float = Field(0.15, gt=0, lt=1)  # last part of the training span, for early stopping

    epoch_steps: int = Field(20, ge=1)  # batches between two looks at the validation loss
    max_epochs: int = Field(20, ge=1)
    patience: int = Field(6, ge=1)  # epochs without a better validation loss before the run stops
    lr: float = Field(2e-3, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    gradient_clip: float = Field(1.0, gt=0)
    loss_weights: tuple[Weight, Weight, Weight] | Literal["learned"] = Field(
        (1.0, 1.0, 1.0), description="learned, or a list of three numbers from 0 on: return, direction, volatility"
    )
    seed: int = Field(0, ge=0, lt=2**32)  # what numpy's generator takes

    @field_validator("network")
    @classmethod
    def _inputs_are_counted(cls, network: dict[str, Any]):
        if "n_features" in network:
            raise ValueError("leave n_features out, it is the number of features")
        return network

    @model_validator(mode="after")
    def _burn_in_fits(self):
        if self.burn_in >= self.window:
            raise ValueError(f"burn_in {self.burn_in} must be less than window {self.window}: set both")
        return self


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read settings from a TOML file; raises ConfigError if it is missing or not TOML."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the config file {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the config file {path} is not valid TOML: {error}") from error
