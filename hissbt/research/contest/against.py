"""Whether the differences between the rivals are more than chance: Diebold–Mariano, the model confidence set."""

from __future__ import annotations

from typing import Any

import numpy as np

from hissbt.research.contest.protocol import HISS, Protocol
from hissbt.research.contest.scores import Board
from hissbt.research.significance.forecasts import diebold_mariano, model_confidence_set

TESTED = ("mse", "log_loss", "qlike")
"""The losses that are tested, the mean over the seeds of each row."""


def tested(board: Board, horizon: int, block: int, protocol: Protocol) -> dict[str, dict[str, Any]]:
    """Return by rival and loss the Diebold–Mariano ``statistic`` and ``pvalue`` of HiSS against it, and
    ``in_set``.

    The statistic is below 0 where HiSS has the smaller loss; there is none for HiSS itself.
    """
    found: dict[str, dict] = {name: {} for name in board.opinions}
    for key in TESTED:
        means = {name: own[key].mean(axis=0) for name, own in board.losses.items() if key in own}
        inside = _confidence_set(np.stack(list(means.values()), axis=1), block, protocol) if means else []
        for name, within in zip(means, inside, strict=True):
            found[name][key] = {"in_set": bool(within)} | _against(means, name, horizon)
    return found


def _against(means: dict[str, np.ndarray], name: str, horizon: int) -> dict[str, float]:
    if name == HISS or HISS not in means:
        return {}
    found = diebold_mariano(np.zeros(len(means[name])), means[HISS], means[name], horizon, _itself)
    return {"statistic": float(found.statistic), "pvalue": float(found.pvalue)}


def _itself(_: np.ndarray, loss: np.ndarray) -> np.ndarray:
    return loss


def _confidence_set(losses: np.ndarray, block: int, protocol: Protocol) -> np.ndarray:
    """Return which columns of ``losses`` [N,R] are in the set; equal ones count as one, as no test tells them."""
    different, column = np.unique(losses, axis=1, return_inverse=True)
    if different.shape[1] == 1:
        return np.ones(losses.shape[1], bool)
    inside = model_confidence_set(different, block, seed=protocol.tuning_seed, repeats=protocol.repeats)
    return inside[column.ravel()]
