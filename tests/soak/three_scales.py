"""Does the hierarchical VAE find three time scales that are there, and beat a flat one of its size?

``python -m tests.soak.three_scales [--seeds N] [--json]`` fits both on series with a slow, a middle and a fast
scale, seeds fixed, and lists all. Of each seed: the active units of every level; how much of what a new z3 changes
in the decoded series, all other draws alike, is at the scale of z3 or above it; and the importance-weighted bound
of both on later windows. Each model is fitted at every learning rate of the same list, and the one with the best
bound on the validation span counts. Exit 1 if a level is silent or z3 reaches below its scale on any seed, or
if the hierarchy wins on fewer than four of five.
"""

import argparse
import json
import math
import sys

import numpy as np
import torch

from hissbt.models.elbo import importance_bound
from hissbt.models.flat_vae import FlatVAE, matched
from hissbt.models.gaussian import Gaussian
from hissbt.models.hvae import HVAEConfig, HVAENet
from hissbt.models.window_vae import WindowVAE
from hissbt.training.config import LatentConfig
from hissbt.training.latents import ACTIVE_NATS
from hissbt.training.vae import fit_vae, seeded_draw

SEEDS = tuple(range(5))
STRIDES = (4, 16, 64)
NETWORK = HVAEConfig(n_features=1, strides=STRIDES, d_latent=(2, 2, 2), d_hidden=32)
TRAIN, VALIDATION, TEST = range(12_000), range(12_000, 15_000), range(15_000, 20_000)
RATES = (2e-3, 6e-3)
RUN = {"batch_size": 32, "epoch_steps": 50, "max_epochs": 30, "patience": 10}
COARSE_SHARE = 0.9


def simulate(seed: int, count: int = TEST.stop) -> np.ndarray:
    """Return [T]: a level held for 64 to 192 bars, one for 16 to 48, bursts of a wave of four bars, and noise."""
    rng = np.random.default_rng(seed)
    slow, middle, burst = (_held(rng, count, stride) for stride in (64, 16, 4))
    wave = np.sin(np.pi / 2 * np.arange(count) + np.pi / 4)
    return 1.0 * slow + 0.7 * middle + 0.7 * burst * wave + 0.3 * rng.normal(size=count)


def _held(rng: np.random.Generator, count: int, stride: int) -> np.ndarray:
    """Return [T] normal levels, each held over ``stride`` to three times as many bars."""
    lengths = rng.integers(stride, 3 * stride + 1, size=count // stride + 1)
    return np.repeat(rng.normal(size=len(lengths)), lengths)[:count]


def fit_best(make, x: torch.Tensor, seed: int, rates=RATES, **run) -> WindowVAE:
    """Fit ``make()`` on the training span at each learning rate; return the one of the best validation bound."""
    fitted = {}
    for lr in rates:
        torch.manual_seed(seed)
        network = make()
        fit_vae(network, x, TRAIN, VALIDATION, STRIDES[-1], LatentConfig(lr=lr, seed=seed, **(RUN | run)))
        fitted[bound(network, x, VALIDATION, 1)] = network.eval()
    return fitted[max(fitted)]


@torch.no_grad()
def bound(network: WindowVAE, x: torch.Tensor, span: range, k: int) -> float:
    """Return the importance-weighted bound of k draws on the windows of ``span``, in nats a value."""
    generator = torch.Generator().manual_seed(0)
    return importance_bound(network, side_by_side(x, span), k, generator).mean().item() / STRIDES[-1]


def side_by_side(x: torch.Tensor, span: range) -> torch.Tensor:
    """Return the windows [N,W,1] of ``span`` that share no bar."""
    return x[span.start : span.stop].unfold(0, STRIDES[-1], STRIDES[-1]).transpose(1, 2)


@torch.no_grad()
def active_units(network: HVAENet, x: torch.Tensor) -> list[int]:
    """Return how many units of each level say something of the held-out windows."""
    divergence = network.terms(side_by_side(x, TEST), seeded_draw(0)).divergence
    return [int((level.mean(dim=(0, 1)) > ACTIVE_NATS).sum()) for level in divergence]


@torch.no_grad()
def coarse_share(network: HVAENet, count: int = 500) -> float:
    """Return how much of what a new z3 changes in the decoded bars is a shift of whole windows, by energy.

    That is the share of the Haar levels from s_3 on. The levels below are drawn from their priors, alike for both.
    """
    generator = torch.Generator().manual_seed(0)
    size = NETWORK.d_latent[-1]
    tops = torch.randn(2, count, 1, size, generator=generator)
    noise = [
        torch.randn(count, STRIDES[-1] // stride, d, generator=generator)
        for stride, d in zip(STRIDES[:-1], NETWORK.d_latent[:-1], strict=True)
    ]
    decoded = []
    for z in tops:
        latents = [z]
        for level in reversed(range(len(noise))):
            prior: Gaussian = network.prior_of(level, latents[0])
            latents.insert(0, prior.mean + torch.exp(prior.log_std) * noise[level])
        decoded.append(network.decode(tuple(latents))[0])
    change = (decoded[1] - decoded[0])[..., 0]  # [N,W]
    return float((change.mean(dim=1) ** 2).sum() * STRIDES[-1] / (change**2).sum())


def compare(seed: int, rates=RATES, **run) -> dict:
    """Fit both models on one series; return what is asked of them."""
    x = torch.from_numpy(simulate(seed).astype(np.float32))[:, None]
    deep = fit_best(lambda: HVAENet(NETWORK), x, seed, rates, **run)
    flat = fit_best(lambda: FlatVAE(matched(NETWORK)), x, seed, rates, **run)
    bounds = {"hierarchical": bound(deep, x, TEST, 50), "flat": bound(flat, x, TEST, 50)}
    return {
        "seed": seed,
        "active_units": active_units(deep, x),
        "coarse_share": coarse_share(deep),
        **bounds,
        "gain": bounds["hierarchical"] - bounds["flat"],
    }


def main() -> None:
    """Compare on all seeds and print every one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many of the series")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    if not arguments.json:
        print("seed  active units  coarse share  hierarchical      flat     gain   (nats a value, held out)")
    for seed in SEEDS[: arguments.seeds]:
        rows.append(row := compare(seed))
        if not arguments.json:
            units = " ".join(map(str, row["active_units"]))
            line = "{seed:4d}  {units:>12}  {coarse_share:12.1%}  {hierarchical:12.4f}  {flat:8.4f}  {gain:+7.4f}"
            print(line.format(**row, units=units), flush=True)
    won = sum(row["gain"] > 0 for row in rows)
    found = all(min(row["active_units"]) > 0 and row["coarse_share"] >= COARSE_SHARE for row in rows)
    if arguments.json:
        print(json.dumps({"won": won, "levels_keep_their_scales": found, "seeds": rows}, indent=2))
    else:
        verdict = "keep" if found else "do NOT keep"
        print(f"the hierarchy wins {won} of {len(rows)}; its levels {verdict} their scales")
    sys.exit(not found or won < math.ceil(0.8 * len(rows)))


if __name__ == "__main__":
    main()
