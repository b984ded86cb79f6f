"""Whether another way to train HiSS is better than the plain one, on the same folds with the same seeds."""

from __future__ import annotations

from typing import Any

import numpy as np

from hissbt.bars import Bars
from hissbt.research.contest.protocol import HISS, Protocol
from hissbt.research.contest.runs import Contest
from hissbt.research.contest.scores import Board, scored

TOLD = ("density", "qlike", "log_loss")
"""The losses by which a choice is told from the plain one; the first decides."""


def choices(contest: Contest, bars: Bars, protocol: Protocol, block: int) -> dict[str, Any]:
    """Return by choice what it gains on the plain HiSS; more is better.

    ``validation`` is the mean gain in the validation score over folds and seeds, ``won`` in how many of ``pairs``
    there is one; ``test`` has the gain in each of ``TOLD`` on the test rows, with its interval.
    """
    plain = contest.runs.get(HISS)
    if plain is None:
        return {}
    board = Board.of(bars, contest.tasks, {HISS: plain, **contest.choices})
    found = scored(board, protocol, block)
    rows = {}
    for name, runs in contest.choices.items():
        gains = [
            run.score - other.score
            for fold, others in zip(runs, plain, strict=True)
            for run, other in zip(fold, others, strict=True)
        ]
        rows[name] = {
            "change": dict(protocol.choices[name]),
            "validation": float(np.mean(gains)),
            "won": sum(gain > 0 for gain in gains),
            "pairs": len(gains),
            "test": {key: found[name]["against"][key] for key in TOLD},
        }
    return rows
