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
        if not means:
            continue
        losses = np.stack(list(means.values()), axis=1)  # [N,R]
        inside = model_confidence_set(losses, block, seed=protocol.tuning_seed, repeats=protocol.repeats)
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
