"""A forecaster on the road from bars to a bundle: its data, its training step, what the bundle says of it."""

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from hissbt.bars import Bars
from hissbt.reports.metrics import forecast_scores
from hissbt.targets import TargetScale
from hissbt.training.config import TrainingConfig
from hissbt.training.dataset import TrainingData, prepare
from hissbt.training.lightning_module import ForecastModule
from hissbt.training.splits import Split
from hissbt.training.switching import regime_returns


class ForecastTask:
    """Any network that forecasts the return, as ``hissbt.training.fit`` wants it.

    Attributes: ``data``; ``loaders`` of windows and of the validation span; ``first_epoch`` whose validation loss
    counts.
    """

    def __init__(self, kind: str, bars: Bars, settings: dict[str, Any], split: Split | None = None):
        """Check the settings and prepare the bars; raises ConfigError, FeatureError and BarsError as they do."""
        self.kind, self.config = kind, TrainingConfig.of(settings)
        self.data = prepare(bars, self.config, kind, split)
        self.loaders = self.data.loaders(self.config)
        self.first_epoch = self.config.growth_epochs

    def module(self) -> ForecastModule:
        """Return a new network and its loss; weights are drawn from torch's seed."""
        return ForecastModule(self.kind, self.data.network, self.config)

    def bundle_fields(self, module: ForecastModule) -> dict[str, Any]:
        """Return what the bundle of the trained ``module`` holds besides what every bundle does."""
        scale, metrics = _validate(module, self.data)
        return {
            "features": self.data.features.names,
            "normalizer": self.data.normalizer,
            "horizon": self.config.horizon,
            "target_scale": asdict(scale),
            "warmup": max(self.config.burn_in, self.data.features.warmup, module.network.warmup),
            "metrics": metrics,
        }


def _validate(module: ForecastModule, data: TrainingData) -> tuple[TargetScale, dict]:
    """Score the network on the validation span and set the volatility scale so that the squares match there.

    The volatility head is trained on realized volatility, whose mean is below the standard deviation of the
    return; the scale makes mean(volatility²) equal the mean squared error of expected_return.
    """
    span = slice(data.split.validation.start, data.split.validation.stop)
    with torch.inference_mode():
        outputs = module.network.cpu().eval()(data.x[None, : span.stop])  # from the first bar, as a stream runs
    heads = [outputs[name][0, span, 0].numpy().astype(np.float64) for name in module.network.outputs]  # 3 x [V]
    realized = data.forward_returns[span]  # [V]
    expected_return, prob_up, volatility = data.scale.forecast(*heads)
    ratio = np.sqrt(np.mean((realized - expected_return) ** 2) / np.mean(volatility**2))
    scale = replace(data.scale, volatility_scale=data.scale.volatility_scale * float(ratio))
    metrics = {"validation": forecast_scores(expected_return, prob_up, realized)}
    if "belief" in outputs:
        span_of = {name: value[:, span] for name, value in outputs.items()}
        metrics["regime_returns"] = regime_returns(span_of, scale)
    return scale, metrics
