"""How good the forecasts are: QLIKE and log-MSE by symbol and on average, with intervals, and against HiSS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from hissbt.research.resampling import block_interval
from hissbt.research.significance.forecasts import diebold_mariano, model_confidence_set
from hissbt.research.volatility.engine import Outlook
from hissbt.research.volatility.material import Material
from hissbt.research.volatility.protocol import HISS, Protocol

LOSSES = ("qlike", "log_mse")
_SEED = 0  # of the bootstraps


def qlike(log_realized: np.ndarray, log_forecast: np.ndarray) -> np.ndarray:
    """Return v/f − ln(v/f) − 1 of variances v and forecasts f that are given as logs; 0 where they are equal.

    Patton, "Volatility forecast comparison using imperfect volatility proxies", Journal of Econometrics 160
    (2011).
    """
    ratio = log_realized - log_forecast
    return np.exp(ratio) - ratio - 1.0


def scored(found: Sequence[Outlook], data: Material, protocol: Protocol) -> list[dict[str, Any]]:
    """Return a row for each forecaster, the best QLIKE first.

    ``qlike`` and ``log_mse`` have the ``mean`` over the judged symbols of the seeds' mean forecast, its
    ``interval``, every seed's own value, and those by symbol. ``against`` says of all but HiSS what HiSS's QLIKE
    is less the rival's, as a share of the rival's, with its interval, and what Diebold and Mariano say.
    ``in_set``: whether the model confidence set holds it.
    """
    by_name = {one.name: _losses(one, data) for one in found}
    joint = {
        key: np.stack([each[key].mean(axis=0) for each in by_name.values()], axis=1) for key in LOSSES
    }  # [N,R]
    count, names = len(data.closes), list(by_name)
    ours = names.index(HISS)

    def statistic(at: np.ndarray) -> np.ndarray:
        means = np.stack([joint[key][at].mean(axis=0) for key in LOSSES])  # [2,R]
        return np.concatenate([means, means[:, ours, None] / means - 1.0])

    whole = statistic(np.arange(count))
    low, high = block_interval(lambda at: statistic(at).ravel(), count, protocol.block, protocol.repeats, _SEED)
    ends = np.stack([low, high], axis=-1).reshape(*whole.shape, 2)
    inside = model_confidence_set(joint["qlike"], protocol.block, seed=_SEED, repeats=protocol.repeats)
    rows = []
    for at, one in enumerate(found):
        row: dict[str, Any] = {
            "name": one.name,
            "family": one.family,
            "parameters": one.parameters,
            "fit_seconds": one.fit_seconds,
            "in_set": bool(inside[at]),
        }
        for number, key in enumerate(LOSSES):
            row[key] = {
                "mean": float(whole[number, at]),
                "interval": ends[number, at].tolist(),
                "seeds": _seeds(one, data, key),
                "symbols": by_name[one.name][key].mean(axis=1).tolist(),
            }
        if at != ours:
            row["against"] = {
                key: {
                    "relative": float(whole[len(LOSSES) + number, at]),
                    "interval": ends[len(LOSSES) + number, at].tolist(),
                    **_compared(joint[key][:, ours], joint[key][:, at], protocol),
                }
                for number, key in enumerate(LOSSES)
            }
        rows.append(row)
    return sorted(rows, key=lambda row: row["qlike"]["mean"])


def _losses(one: Outlook, data: Material) -> dict[str, np.ndarray]:
    """Return the losses [J,N] of the seeds' mean forecast."""
    said = zip(one.log_mean.mean(axis=1), one.log_variance.mean(axis=1), data.log_variance, strict=True)
    pairs = [(qlike(was, variance), (was - mean) ** 2) for mean, variance, was in said]
    return {key: np.stack(values) for key, values in zip(LOSSES, zip(*pairs, strict=True), strict=True)}


def _seeds(one: Outlook, data: Material, key: str) -> list[float]:
    """Return what every seed scores alone."""
    was = np.stack(data.log_variance)[:, None]  # [J,1,N]
    losses = qlike(was, one.log_variance) if key == "qlike" else (was - one.log_mean) ** 2
    return losses.mean(axis=(0, 2)).tolist()


def _compared(ours: np.ndarray, theirs: np.ndarray, protocol: Protocol) -> dict[str, float]:
    """Return Diebold and Mariano's statistic of two losses [N], below 0 where ours is smaller, and its p-value."""
    found = diebold_mariano(np.zeros(len(ours)), ours, theirs, protocol.block, lambda _, loss: loss)
    return {"statistic": float(found.statistic), "pvalue": float(found.pvalue)}
