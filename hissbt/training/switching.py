"""What a switching network needs to know of its features, and what is told of its regimes."""

from typing import Any

import numpy as np
import torch

from hissbt.errors import ConfigError
from hissbt.features import Normalizer
from hissbt.models import NETWORKS, SwitchingNet
from hissbt.targets import TargetScale
from hissbt.training.config import TrainingConfig

RETURN = "log_return"
COVARIATES = ("range", "garman_klass")  # the article's: high less low, and a variance within the bar


def is_switching(kind: str) -> bool:
    """Tell whether a kind of network has regimes."""
    return kind in NETWORKS and issubclass(NETWORKS[kind][0], SwitchingNet)


def column_settings(names: tuple[str, ...], normalizer: Normalizer, config: TrainingConfig) -> dict[str, Any]:
    """Return the network settings that follow from the features, where the run's own do not say otherwise.

    The return is ``log_return``. The transition network sees ``range`` and ``garman_klass``, or all but the return
    where there is neither. Raises ConfigError for a run that such a network cannot be trained in.
    """
    if config.horizon != 1:
        raise ConfigError(f"horizon cannot be {config.horizon}: a switching network forecasts the next bar, set 1")
    if config.loss_weights != TrainingConfig().loss_weights:
        raise ConfigError(
            "loss_weights mean nothing to a switching network, which learns by likelihood: drop them"
        )
    if RETURN not in names:
        raise ConfigError(
            f"a switching network judges its regimes by the return of each bar: add {RETURN!r} to features"
        )
    column = names.index(RETURN)
    if config.network.get("return_column", column) != column:
        raise ConfigError(f"network.return_column has to be {column}, the place of {RETURN!r}: leave it out")
    covariates = tuple(names.index(name) for name in COVARIATES if name in names)
    return {
        "return_column": column,
        "covariate_columns": covariates or None,
        "zero_return": -normalizer.mean[column] / normalizer.std[column],
        **config.network,
    }


def column_scale(names: tuple[str, ...], normalizer: Normalizer) -> TargetScale:
    """Return the scale in which the next bar's return is what the return's column will be when it has closed."""
    mean, std = (values[names.index(RETURN)] for values in (normalizer.mean, normalizer.std))
    return TargetScale(mean, std, std)


def regime_returns(outputs: dict[str, torch.Tensor], scale: TargetScale) -> list[float]:
    """Return the mean log return that each regime expects, weighted by its probability: outputs are [B,T,K]."""
    belief, means = (outputs[name].double().flatten(0, 1).numpy() for name in ("belief", "regime_return"))
    weighted = np.sum(belief * means, axis=0) / np.maximum(belief.sum(axis=0), 1e-12)  # [K]
    return (weighted * scale.return_std + scale.return_mean).tolist()
