"""Table 4 again: each network trained with each seed, and rules that need no training."""

import time

import numpy as np

from hissbt.research.switching_paper.material import Material
from hissbt.research.switching_paper.protocol import KINDS, TWINS, Protocol
from hissbt.training.regimes import train_regimes


def train_one(kind: str, seed: int, data: Material, protocol: Protocol) -> dict:
    """Train one network; return the probability of bull at every bar, and how the fit went."""
    begun = time.perf_counter()
    trained = train_regimes(
        kind,
        protocol.network(kind, data.zero_return),
        data.x,
        data.labels,
        data.train,
        data.validation,
        protocol.training,
        seed,
    )
    fit = trained.fit
    return {
        "kind": kind,
        "seed": seed,
        "probability": trained.probability,
        "parameters": trained.parameters,
        "epochs": len(fit.validation_loss),
        "best_epoch": fit.best_epoch + 1,
        "train_loss": fit.train_loss[fit.best_epoch],
        "validation_loss": fit.validation_loss[fit.best_epoch],
        "seconds": time.perf_counter() - begun,
    }


def baselines(data: Material, protocol: Protocol) -> dict[str, np.ndarray]:
    """Return what rules without training say of every bar [T]: true for bull. NaN comparisons are bear."""
    price, span = data.price, protocol.span
    mean = np.full(len(price), np.nan)
    mean[span - 1 :] = np.lib.stride_tricks.sliding_window_view(price, span).mean(axis=1)
    ago = np.append(np.full(span, np.nan), price[:-span])
    known = np.append(np.full(span, np.nan), data.labels[:-span])  # complete only now
    before, after = (np.nanmean(data.labels[list(rows)]) > 0.5 for rows in (data.train, data.test))
    return {
        "always the majority of training": np.full(len(price), before),
        "always the majority of test (hindsight)": np.full(len(price), after),
        f"price above its mean of {span}": price > mean,
        f"price above that of {span} bars ago": price > ago,
        "the last label that is complete": known == 1.0,
    }


def jobs(protocol: Protocol) -> list[tuple[str, int]]:
    """Return every network and seed to train, those that take longest first, so that workers end together."""
    slowest_first = sorted(KINDS, key=lambda kind: (kind.endswith("tkan"), kind in TWINS), reverse=True)
    return [(kind, seed) for kind in slowest_first for seed in protocol.seeds]
