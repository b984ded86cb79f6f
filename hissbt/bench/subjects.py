"""What is measured: a seeded series of minutes, and networks with random weights, whose speed is that of any."""

from collections.abc import Iterable
from dataclasses import asdict

import numpy as np
import pandas as pd

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.features import FeatureSet, Normalizer
from hissbt.market import Market
from hissbt.stream.networks import NETWORKS as STREAMED
from hissbt.targets import TargetScale
from hissbt.timeframe import format_timeframe

FEATURES = (
    *("log_return", "range", "garman_klass", "return:60"),
    *("ewm_volatility:60", "volume_ratio:60", "hour_sin", "hour_cos"),
)
HISS = {"d_model": 64, "d_state": 16, "strides": (4, 4)}
NETWORKS = {
    "HiSS-S4D": ("hiss", HISS | {"blocks": "s4d"}),
    "HiSS-Mamba": ("hiss", HISS | {"blocks": "mamba"}),
    "LSTM": ("lstm", {"d_model": 64, "n_layers": 2}),
    "GRU": ("gru", {"d_model": 64, "n_layers": 2}),
    "Transformer": ("transformer", {"d_model": 64, "n_layers": 2, "window_bars": 256}),
    "TKAN": ("tkan", {"d_model": 64, "n_layers": 2}),
    "m-GRU": ("m-gru", {"d_model": 64, "n_layers": 2}),
    "m-LSTM": ("m-lstm", {"d_model": 64, "n_layers": 2}),
    "m-TKAN": ("m-tkan", {"d_model": 64, "n_layers": 2}),
    "HVAE": ("hvae", {"d_hidden": 64, "d_latent": (2, 4, 8), "strides": (4, 24, 168)}),
}


def networks() -> list[str]:
    """Return the names of the networks that hissbt.stream runs."""
    return [name for name, (kind, _) in NETWORKS.items() if kind in STREAMED]


def synthetic_bars(count: int, seed: int = 7) -> Bars:
    """Return minute bars of a random walk with changing volatility, the same for the same seed."""
    rng = np.random.default_rng(seed)
    volatility = 5e-4 * np.exp(0.5 * np.sin(np.arange(count) / 700))
    close = 30_000 * np.exp(np.cumsum(volatility * rng.standard_normal(count)))
    opened = np.concatenate([[30_000.0], close[:-1]])
    reach = 1 + volatility * np.abs(rng.standard_normal((2, count)))
    columns = {
        "open": opened,
        "high": np.maximum(opened, close) * reach[0],
        "low": np.minimum(opened, close) / reach[1],
        "close": close,
        "volume": rng.lognormal(2, 0.5, count),
    }
    opens = pd.date_range("2024-01-01", periods=count, freq="min", tz="UTC", name="open_time")
    frame = pd.DataFrame(columns, index=opens)
    return Bars.from_frame(frame, market=Market("SYNTHETIC"), timeframe="1m", stamp="open")


def random_bundle(network: str, bars: Bars, seed: int = 1) -> ModelBundle:
    """Return a bundle of one of ``NETWORKS`` with random weights, for these bars."""
    import torch

    from hissbt.models import build_network

    kind, settings = NETWORKS[network]
    features = FeatureSet(FEATURES)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = build_network(kind, {"n_features": features.size, **settings})
        with torch.no_grad():
            for parameter in net.parameters():  # also what begins at zero shall matter, for the check of equality
                parameter.add_(0.05 * torch.randn_like(parameter))
            if kind != "hvae":  # forecasts that move as returns do, so that rules trade often
                (net.heads.skip.weight[:2] if hasattr(net, "heads") else net.skip)[:, 0] = 1.0
    returns = np.log(bars.frame["close"]).diff().std()
    return ModelBundle(
        kind=kind,
        config=net.config.complete(),
        features=FEATURES,
        normalizer=Normalizer.fit(features.scan(bars.arrays())),
        horizon=1,
        target_scale=asdict(TargetScale(0.0, returns, returns)),
        timeframe=format_timeframe(bars.timeframe),
        symbol=bars.market.symbol,
        training_span={"start": bars.frame.index[0].isoformat(), "end": bars.frame.index[0].isoformat()},
        warmup=net.warmup,
        seed=seed,
        data_sha256=bars.sha256,
        metrics={},
        versions={},
        weights={name: tensor.numpy() for name, tensor in net.state_dict().items()},
    )


class Tape:
    """An endless series of bars and of what the network sees of them, made by repeating a finite one."""

    def __init__(self, bars: Bars, bundle: ModelBundle):
        self._rows = bars.arrays()
        features = FeatureSet(bundle.features).scan(self._rows)
        self._x = bundle.normalizer(features).astype(np.float32)
        self._length_s = len(bars) * bars.timeframe.total_seconds()

    def rows(self, start: int, count: int) -> np.ndarray:
        """Return bars [count,6] in order of time."""
        laps, places = self._at(start, count)
        rows = self._rows[places]
        rows[:, 0] += laps * self._length_s
        return rows

    def x(self, start: int, count: int) -> np.ndarray:
        """Return the network's inputs, float32 [count,F]."""
        return self._x[self._at(start, count)[1]]

    def _at(self, start: int, count: int) -> Iterable[np.ndarray]:
        return np.divmod(np.arange(start, start + count), len(self._rows))
