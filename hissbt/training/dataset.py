"""From bars to the tensors of a training run: features, normalizer and standardized targets, all causal."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from hissbt.bars import Bars
from hissbt.features import FeatureSet, Normalizer, default_features
from hissbt.targets import TargetScale, direction, forward_return, overlap_bars, realized_volatility
from hissbt.training.config import TrainingConfig
from hissbt.training.curriculum import training_windows
from hissbt.training.splits import Split, split_in_time
from hissbt.training.switching import column_scale, column_settings, is_switching
from hissbt.training.windows import Windows


@dataclass(frozen=True)
class TrainingData:
    """A training span, ready for the network.

    ``x`` is [T,F] normalized features, ``targets`` holds [T,1] standardized labels; both are float32. The
    normalizer and the target scale were fitted on the bars of ``split.train`` only.
    """

    network: dict[str, Any]
    """Settings of the network, those that follow from the features included."""
    features: FeatureSet
    normalizer: Normalizer
    scale: TargetScale
    split: Split
    x: torch.Tensor
    targets: dict[str, torch.Tensor]
    forward_returns: np.ndarray  # [T] raw labels, for scores

    def loaders(self, config: TrainingConfig) -> tuple[DataLoader, DataLoader]:
        """Return the loader of random training windows, and that of the validation span as one long window."""
        train = slice(self.split.train.start, self.split.train.stop)
        windows = self._windows(train.start, train.stop, config.window, config.burn_in)
        starts = training_windows(config, self.targets["volatility"][train, 0].double().numpy())
        first, stop = self.split.validation.start, self.split.validation.stop
        # The bars before the validation span only warm the state.
        context = min(first, config.window)
        validation = self._windows(first - context, stop, stop - first + context, context)
        own = torch.Generator()  # else loaders take from the source of dropout's draws, a resumed run more often
        return (
            DataLoader(windows, batch_size=config.batch_size, sampler=starts, generator=own),
            DataLoader(validation, generator=own),
        )

    def _windows(self, start: int, stop: int, window: int, burn_in: int) -> Windows:
        targets = {name: target[start:stop] for name, target in self.targets.items()}
        return Windows(self.x[start:stop], targets, window, burn_in)


def prepare(bars: Bars, config: TrainingConfig, kind: str = "hiss", split: Split | None = None) -> TrainingData:
    """Turn the bars of a training span into training data for a kind of network.

    ``split`` says which rows are fitted to and which decide when to stop; by default the last
    ``validation_fraction`` of them are the latter. Its labels must be complete.
    Raises ConfigError for settings that do not suit the kind, FeatureError for unknown features, BarsError for too
    few bars or a column that they lack.
    """
    names = tuple(config.features or default_features(bars.timeframe))
    features = FeatureSet(names)
    overlap = overlap_bars(config.horizon)
    split = split or split_in_time(len(bars), config.validation_fraction, overlap, config.window)

    matrix = features.scan(bars.arrays(features.columns))  # [T,F]
    seen = slice(max(split.train.start, min(features.warmup, len(split.train) // 2)), split.train.stop)
    normalizer = Normalizer.fit(matrix[seen])

    close = bars.frame["close"].to_numpy()
    returns = forward_return(close, config.horizon)
    volatility = realized_volatility(close, config.horizon)
    network = {**config.network, "n_features": features.size}
    if is_switching(kind):
        network |= column_settings(names, normalizer, config)
        scale = column_scale(names, normalizer)
    else:
        scale = TargetScale.fit(returns[seen], volatility[seen])
    targets = scale.standardize(returns, direction(close, config.horizon), volatility)
    return TrainingData(
        network,
        features,
        normalizer,
        scale,
        split,
        torch.from_numpy(normalizer(matrix).astype(np.float32)),
        {name: torch.from_numpy(np.nan_to_num(y).astype(np.float32))[:, None] for name, y in targets.items()},
        returns,
    )
