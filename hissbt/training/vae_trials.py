"""Autoencoders of windows for comparisons: each is built, fitted and measured in one call, plain data in and out.

No bundle is written: what remains of a network are its scores on bars that it has not seen, and windows that it
made up.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.features import FeatureSet
from hissbt.models import HVAENet, build_network
from hissbt.models.elbo import importance_bound
from hissbt.models.flat_vae import FlatVAE, matched
from hissbt.models.gaussian import Gaussian
from hissbt.models.hvae import HVAEConfig
from hissbt.models.window_vae import WindowVAE
from hissbt.training.config import LatentConfig
from hissbt.training.latents import ACTIVE_NATS, level_metrics
from hissbt.training.lightning_run import one_thread
from hissbt.training.vae import fit_vae, seeded_draw, windows_of

DRAWS = 50  # of the importance-weighted bound
Kind = Literal["hvae", "flat"]


@dataclass(frozen=True)
class VAETrial:
    """What became of one network. Bounds are in nats a value, F values a bar, of the values as they were given."""

    validation: float
    """Importance-weighted bound on the validation windows."""
    test: np.ndarray
    """[N] the same of each test window."""
    levels: list[dict[str, Any]]
    """What each level says of the test windows, as ``hissbt.training.latents.level_metrics`` has it."""
    samples: np.ndarray
    """[n,W,F] windows made up."""
    parameters: int
    seconds: float


def vae_trial(
    kind: Kind,
    network: dict[str, Any],
    x: np.ndarray,
    train: range,
    validation: range,
    test: np.ndarray,
    settings: dict[str, Any],
    samples: int,
) -> VAETrial:
    """Fit a hierarchical VAE, or its flat rival of the same size, and measure it.

    Args:
        kind: which of the two.
        network: settings of the hierarchical one, which also say what the rival is like.
        x: [T,F] normalized values.
        train: rows to fit to.
        validation: rows for early stopping; no bar of theirs is fitted to.
        test: [N] first rows of the windows that are judged.
        settings: those of the training, as in ``hissbt train``; their seed is that of all that is random.
        samples: windows to make up.
    """
    begun = time.perf_counter()
    config, shape = LatentConfig.of(settings), HVAEConfig(**network)
    window = shape.strides[-1]
    values = torch.from_numpy(x.astype(np.float32))
    torch.manual_seed(config.seed)
    net = build_network("hvae", network) if kind == "hvae" else FlatVAE(matched(shape))
    with one_thread():
        fit_vae(net, values, train, validation, window, config)
        net.eval()
        with torch.inference_mode():
            judged = torch.stack([windows for windows, *_ in windows_of(values, validation, window)])
            unseen = torch.stack([values[row : row + window] for row in test])
            return VAETrial(
                float(_bound(net, judged, config.seed).mean()),
                _bound(net, unseen, config.seed),
                levels_of(net, unseen, config.seed),
                made_up(net, samples, config.seed),
                sum(weight.numel() for weight in net.parameters()),
                time.perf_counter() - begun,
            )


def bundle_levels(bundle: ModelBundle, bars: Bars) -> list[dict[str, Any]]:
    """Return what each level of an hvae bundle says of windows all over ``bars``, as in ``level_metrics``."""
    net = build_network(bundle.kind, bundle.config)
    net.load_state_dict({name: torch.from_numpy(np.array(weight)) for name, weight in bundle.weights.items()})
    features = FeatureSet(bundle.features)
    values = bundle.normalizer(features.scan(bars.arrays(features.columns))).astype(np.float32)
    span = range(features.warmup, len(values))
    windows = windows_of(torch.from_numpy(values), span, net.config.strides[-1])
    with one_thread(), torch.inference_mode():
        return levels_of(net.eval(), torch.stack([window for window, *_ in windows]), bundle.seed)


def levels_of(net: WindowVAE, windows: torch.Tensor, seed: int) -> list[dict[str, Any]]:
    """Return what each level says of the windows [N,W,F]."""
    if isinstance(net, HVAENet):
        return level_metrics(net, windows, seed)["levels"]
    (divergence,) = net.terms(windows, seeded_draw(seed)).divergence
    nats = divergence.mean(dim=(0, 1))
    return [
        {
            "level": 1,
            "stride": windows.shape[1],
            "units": len(nats),
            "kl_a_latent": float(nats.sum()),
            "kl_a_bar": float(nats.sum()) / windows.shape[1],
            "active_units": int((nats > ACTIVE_NATS).sum()),
        }
    ]


def made_up(net: WindowVAE, count: int, seed: int) -> np.ndarray:
    """Return windows [count,W,F] from the model: latents from their priors, top-down, and bars given them."""
    generator = torch.Generator().manual_seed(seed)
    mean, log_scale = net.decode(_latents(net, count, generator))
    rng = np.random.default_rng(seed)
    if net.config.observation == "student":
        noise = rng.standard_t(net.degrees_of_freedom.numpy(), mean.shape)
    else:
        noise = rng.standard_normal(mean.shape)
    return mean.numpy() + np.exp(log_scale.numpy()) * noise


def _latents(net: WindowVAE, count: int, generator: torch.Generator) -> Sequence[torch.Tensor]:
    """Return latents [count,blocks,d] drawn from their priors, finest level first."""
    size = net.config.d_latent[-1] if isinstance(net, HVAENet) else net.config.d_latent
    latents = [torch.randn(count, 1, size, generator=generator)]
    for level in reversed(range(net.n_levels - 1 if isinstance(net, HVAENet) else 0)):
        latents.insert(0, Gaussian.draw(net.prior_of(level, latents[0]), generator))
    return latents


def _bound(net: WindowVAE, windows: torch.Tensor, seed: int) -> np.ndarray:
    """Return the importance-weighted bound [N] of windows [N,W,F], in nats a value."""
    nats = importance_bound(net, windows, DRAWS, torch.Generator().manual_seed(seed))
    return nats.double().numpy() / windows[0].numel()
