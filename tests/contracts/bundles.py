"""Bundles of untrained networks: what a contract needs of a model is that its numbers depend on everything."""

from dataclasses import asdict

import numpy as np
import torch

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.features import FeatureSet, Normalizer
from hissbt.models import HVAENet, SequenceNet, build_network
from hissbt.relay import Part, RelayBundle
from hissbt.targets import TargetScale
from hissbt.timeframe import format_timeframe

FEATURES = ("log_return", "range", "garman_klass", "return:5", "ewm_volatility:12", "volume_ratio:24", "rsi:14")
SMALL = {
    "hiss": {"d_model": 8, "d_state": 8},
    "transformer": {"d_model": 8, "n_heads": 2, "d_ff": 12, "window_bars": 10},
    "hvae": {"strides": (2, 4, 8), "d_latent": (2, 1, 3), "d_hidden": 8},
}
INTRADAY = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos")


def random_bundle(
    bars: Bars, *, features=(*FEATURES, *INTRADAY), kind="hiss", warmup=20, seed=1, **network
) -> ModelBundle:
    """Return a bundle whose network has random weights, with a normalizer fitted on ``bars``."""
    feature_set = FeatureSet(features)
    rows = feature_set.scan(bars.arrays(feature_set.columns))
    normalizer = Normalizer.fit(rows)
    torch.manual_seed(seed)
    net = build_network(kind, {"n_features": feature_set.size, **SMALL.get(kind, {"d_model": 8}), **network})
    with torch.no_grad():
        for parameter in net.parameters():  # also what is initialized to zero must matter
            parameter.add_(0.1 * torch.randn_like(parameter))
        if kind == "hvae":
            _calibrate(net, torch.from_numpy(normalizer(rows).astype(np.float32)))
    return ModelBundle(
        kind=kind,
        config=net.config.complete(),
        features=feature_set.names,
        normalizer=normalizer,
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


def random_relay(bars: Bars, borders, *, embargo=0, warmup=20, **network) -> RelayBundle:
    """Return a relay of random networks, the next in charge from the close of each bar of ``borders`` on, trained
    on the bars to ``embargo`` before it."""
    closes, parts = bars.frame.index, []
    for number, border in enumerate((warmup, *borders)):
        bundle = random_bundle(bars, seed=number, warmup=warmup, **network)
        bundle.training_span["end"] = closes[border - embargo].isoformat()
        parts.append(Part(closes[border], bundle))
    return RelayBundle(tuple(parts), embargo)


def _calibrate(net: HVAENet, x: torch.Tensor) -> None:
    """Set what training finds out after it: scores that are usual, and clusters that bars are spread over."""
    outputs = {name: values[0] for name, values in net(x[None]).items()}
    scores = outputs["kl"].clone()  # [T,L]
    scores[:, :1] += outputs["recon"]
    net.calibration.copy_(scores.quantile(torch.linspace(0.01, 0.99, net.calibration.shape[1]), dim=0).T)
    count, size = net.centers.shape
    net.centers.copy_(outputs["latent"][:: len(x) // count, -size:][:count])


def torch_network(bundle: ModelBundle) -> SequenceNet:
    """Return the bundle's network in torch."""
    network = build_network(bundle.kind, bundle.config)
    network.load_state_dict({name: torch.tensor(array) for name, array in bundle.weights.items()})
    return network.eval()


def torch_outputs(bundle: ModelBundle, rows: np.ndarray) -> np.ndarray:
    """Return what a stream of the bundle gives for rows [T,6+C], computed by torch over all of them: [T,O]."""
    x = bundle.normalizer(FeatureSet(bundle.features).scan(rows)).astype(np.float32)  # [T,F]
    network = torch_network(bundle)
    with torch.no_grad():
        outputs = network(torch.from_numpy(x)[None])
    return in_units(bundle, np.hstack([outputs[name][0].numpy() for name in network.outputs]))


def in_units(bundle: ModelBundle, outputs: np.ndarray) -> np.ndarray:
    """Return a network's outputs [T,O] in the units of a stream."""
    outputs = outputs.astype(np.float64)
    return outputs if bundle.kind == "hvae" else TargetScale(**bundle.target_scale).forecast(*outputs.T).T
