"""Bundles of untrained networks: what a contract needs of a model is that its numbers depend on everything."""

from dataclasses import asdict

import torch

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.features import FeatureSet, Normalizer
from hissbt.models import build_network
from hissbt.targets import TargetScale
from hissbt.timeframe import format_timeframe

FEATURES = ("log_return", "range", "garman_klass", "return:5", "ewm_volatility:12", "volume_ratio:24", "rsi:14")
INTRADAY = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos")


def random_bundle(
    bars: Bars, *, features=(*FEATURES, *INTRADAY), kind="hiss", warmup=20, seed=1, **network
) -> ModelBundle:
    """Return a bundle whose network has random weights, with a normalizer fitted on ``bars``."""
    feature_set = FeatureSet(features)
    small = {"hiss": {"d_state": 8}, "transformer": {"n_heads": 2, "d_ff": 12, "window_bars": 10}}
    config = {"n_features": feature_set.size, "d_model": 8, **small.get(kind, {}), **network}
    torch.manual_seed(seed)
    net = build_network(kind, config)
    with torch.no_grad():
        for parameter in net.parameters():  # also what is initialized to zero must matter
            parameter.add_(0.1 * torch.randn_like(parameter))
    return ModelBundle(
        kind=kind,
        config=net.config.complete(),
        features=feature_set.names,
        normalizer=Normalizer.fit(feature_set.scan(bars.arrays(feature_set.columns))),
        horizon=1,
        target_scale=asdict(TargetScale(1e-4, 0.01, 0.01)),
        timeframe=format_timeframe(bars.timeframe),
        symbol=bars.market.symbol,
        training_span={"start": bars.frame.index[0].isoformat(), "end": bars.frame.index[-1].isoformat()},
        warmup=warmup,
        seed=seed,
        data_sha256=bars.sha256,
        metrics={},
        versions={},
        weights={name: tensor.numpy() for name, tensor in net.state_dict().items()},
    )
