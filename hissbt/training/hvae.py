"""A hierarchical VAE on the road from bars to a bundle: windows, loss, and what is measured once it is trained."""

import math
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from hissbt.bars import Bars
from hissbt.candles import CANDLE, LOG_RETURN
from hissbt.errors import BarsError, ConfigError
from hissbt.features import FeatureSet, Normalizer
from hissbt.models import HVAENet, build_network
from hissbt.models.hvae import HVAEConfig
from hissbt.targets import TargetScale
from hissbt.training.config import LatentConfig
from hissbt.training.latents import clusters, level_metrics, persistence, score_quantiles, top_latents
from hissbt.training.vae import VAEModule, window_loaders, windows_of

SPIKE = 1 / 3
CLIP = 20.0  # standard deviations: also the largest move that a generated bar can make


class HVAETask:
    """``HVAENet`` as ``hissbt.training.fit`` wants it.

    The held-out part of the bars is halved: its first half stops the training, its second calibrates the anomaly
    scores. A window's bars lie unused before each half, as what ends there sees that far back.

    Attributes: ``train``, ``validation`` and ``calibration``, rows of the normalized features ``x`` [T,F];
    ``features`` and ``normalizer``, fitted on ``train``; ``window`` in bars; ``first_epoch`` whose validation loss
    counts.
    """

    def __init__(self, kind: str, bars: Bars, settings: dict[str, Any]):
        """Check the settings and prepare the bars.

        Raises ConfigError for settings that are unknown or out of range, FeatureError for unknown features,
        BarsError for too few bars.
        """
        self.kind, self.config = kind, LatentConfig.of(settings)
        held_out = round(len(bars) * self.config.validation_fraction)
        half, end = held_out // 2, len(bars) - held_out
        self.features = FeatureSet(self.config.features or _usual_features(bars[:end]))
        self.network = {**self.config.network, "n_features": self.features.size}
        config = HVAEConfig(**self.network)
        self.window = config.strides[-1]
        self._step = config.strides[-2:][0]  # bars between the windows that the top latent is described by
        self.first_epoch = self.config.warmup_epochs
        self.train = range(min(self.features.warmup, end // 2), end)
        self.validation = range(end + self.window, end + half)
        self.calibration = range(end + half + self.window, len(bars))
        if min(len(self.train), len(self.validation)) < 2 * self.window:
            share = min(self.config.validation_fraction / 2, 1 - self.config.validation_fraction)
            raise BarsError(
                f"{len(bars)} bars are too few to train on windows of {self.window}: with these settings "
                f"{math.ceil(3 * self.window / share)} are needed; give more or set shorter network.strides"
            )
        windows = (len(self.train) - self.window) // self._step + 1
        if config.n_clusters > windows:
            raise ConfigError(
                f"network setting 'n_clusters' cannot be {config.n_clusters}: these bars have {windows} windows "
                "to tell apart, so give a number well below that"
            )
        matrix = self.features.scan(bars.arrays(self.features.columns))  # [T,F]
        self.normalizer = Normalizer.fit(matrix[self.train.start : end], clip=CLIP)
        self.x = torch.from_numpy(self.normalizer(matrix).astype(np.float32))
        self._moves = np.abs(np.diff(np.log(bars.frame["close"].to_numpy()), prepend=np.nan))  # [T]
        self._moves[0] = 0.0
        self.loaders = window_loaders(self.x, self.train, self.validation, self.window, self.config)

    def module(self) -> VAEModule:
        """Return a new network and its loss; weights are drawn from torch's seed."""
        return VAEModule(build_network(self.kind, self.network), self.config)

    def bundle_fields(self, module: VAEModule) -> dict[str, Any]:
        """Set the buffers of the trained network; return what its bundle holds besides what every bundle does."""
        network = module.network.cpu().eval()
        with torch.inference_mode():
            self._calibrate(network)
            self._describe_top(network)
            windows = torch.stack([x for x, *_ in windows_of(self.x, self.validation, self.window)])
            metrics = level_metrics(network, windows, self.config.seed)
        return {
            "features": self.features.names,
            "normalizer": self.normalizer,
            "horizon": 1,
            "targets": (),
            "target_scale": asdict(TargetScale(0.0, 1.0, 1.0)),  # nothing is forecast
            "warmup": self.features.warmup + network.warmup,
            "metrics": metrics,
        }

    def _calibrate(self, network: HVAENet) -> None:
        """Keep the quantiles of the anomaly scores of the calibration part, bar by bar."""
        seen = self.x[None, self.calibration.start - self.window : self.calibration.stop]
        outputs = {name: value[0, self.window :] for name, value in network(seen).items()}
        scores = anomaly_scores(outputs["kl"].numpy(), outputs["recon"].numpy())
        quantiles = score_quantiles(scores.astype(np.float64), network.calibration.shape[1])
        network.calibration.copy_(torch.from_numpy(quantiles))

    def _describe_top(self, network: HVAENet) -> None:
        """Keep the clusters and the persistence of the top latent over the training part."""
        span = slice(self.train.start, self.train.stop)
        windows = self.x[span].unfold(0, self.window, self._step).transpose(1, 2)  # [N,W,F]
        top = top_latents(network, windows)
        means, variances = top.mean.double().numpy(), torch.exp(2 * top.log_std).double().numpy()
        moves = np.lib.stride_tricks.sliding_window_view(self._moves[span], self.window)[:: self._step].mean(
            axis=1
        )
        centers = clusters(means, moves, len(network.centers), self.config.seed)
        network.centers.copy_(torch.from_numpy(centers))
        network.persistence.copy_(torch.from_numpy(persistence(means, variances, self.window // self._step)))


def _usual_features(bars: Bars) -> tuple[str, ...]:
    names = varying(CANDLE, bars)
    if CANDLE[LOG_RETURN] not in names:
        raise BarsError(
            f"the price of {bars.market.symbol} stands still at more than a third of the bars, so that its "
            "returns have no density: give bars of a longer timeframe, or set features"
        )
    return names


def varying(names: tuple[str, ...], bars: Bars) -> tuple[str, ...]:
    """Return the features that have a density over bars: those of which no value makes up more than ``SPIKE``.

    The open of a perpetual future, say, is its last close: any density of such a gap is as high as one likes.
    """
    values = FeatureSet(names).scan(bars.arrays()).T  # [F,T]
    repeats = [np.unique(column, return_counts=True)[1].max() for column in values]
    return tuple(name for name, count in zip(names, repeats, strict=True) if count <= SPIKE * len(bars))


def anomaly_scores(kl: np.ndarray, recon: np.ndarray) -> np.ndarray:
    """Return the score [T,L] of each level: its divergence, at the finest level with the bar's own surprise."""
    scores = kl.copy()
    scores[:, 0] += recon[:, 0]
    return scores
