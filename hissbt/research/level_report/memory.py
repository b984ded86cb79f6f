"""How long a level remembers a bar."""

from typing import Any

import numpy as np

from hissbt.research.level_report.ablation import level_name

REST = (0.1, 0.01)
"""Shares of the largest response at which a bar counts as nearly, and as quite forgotten."""


def memory(responses: np.ndarray) -> dict[str, dict[str, Any]]:
    """Return by level the response [lags] to one disturbed bar, its largest value, and how long it lasts."""
    return {
        level_name(level): {
            "response": curve.tolist(),
            "largest": float(curve.max()),
            "largest_after": int(curve.argmax()),
            "bars": {str(rest): lasts(curve, rest) for rest in REST},
        }
        for level, curve in enumerate(responses)
    }


def lasts(curve: np.ndarray, rest: float) -> int | None:
    """Return after how many bars ``curve`` [lags] stays within ``rest`` of its largest value.

    None if that is not before it ends; 0 for a level that is never moved.
    """
    (above,) = np.nonzero(curve > rest * curve.max())
    end = int(above[-1]) + 1 if len(above) else 0
    return end if end < len(curve) else None
