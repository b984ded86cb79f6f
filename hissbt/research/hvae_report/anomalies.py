"""Anomalies by level: how often each level alone, or both ends at once, call a bar unusual; and when most."""

import numpy as np
import pandas as pd

from hissbt.evidence.independence import effective_size
from hissbt.research.hvae_report.readings import Readings, Spans
from hissbt.research.resampling import block_interval

LEVELS = (0.01, 0.05)
"""P-values at or below which a bar is called unusual."""
MOST = 8
"""Dates that are shown of each level, a window apart at least."""
_REPEATS = 500


def anomalies(closes: pd.DatetimeIndex, read: Readings, spans: Spans, window: int) -> dict:
    """Return the shares of unusual bars, to which ends of the hierarchy they are, and the extreme dates."""
    rows = np.arange(spans.unseen.start, spans.unseen.stop)
    p = read.p_values[rows]  # [N,L]
    return {
        "bars": len(rows),
        "alarms": {
            str(level): [_alarm(p[:, number] <= level, window) for number in range(read.levels)]
            for level in LEVELS
        },
        "both_ends": {str(level): _both_ends(p[:, 0] <= level, p[:, -1] <= level) for level in LEVELS},
        "most": [
            _most(closes[rows], p[:, number], read.kl[rows, number], window) for number in range(read.levels)
        ],
    }


def _alarm(alarm: np.ndarray, window: int) -> dict:
    """Return the share of alarms and its interval: alarms come in runs, so blocks are two windows long."""
    values = alarm.astype(float)
    block = min(2 * window, max(len(values) // 4, 1))
    found = block_interval(lambda at: values[at].mean(keepdims=True), len(values), block, _REPEATS, 0)
    return {
        "share": float(values.mean()),
        "interval": found[:, 0].tolist(),
        "counts_as": effective_size(values, 2 * window),
    }


def _both_ends(bottom: np.ndarray, top: np.ndarray) -> dict[str, float]:
    """Return the shares of bars unusual to the finest level, to the top, to both; and if they were unrelated."""
    return {
        "top_only": float(np.mean(top & ~bottom)),
        "bottom_only": float(np.mean(bottom & ~top)),
        "both": float(np.mean(bottom & top)),
        "both_if_unrelated": float(bottom.mean() * top.mean()),
    }


def _most(closes: pd.DatetimeIndex, p: np.ndarray, kl: np.ndarray, window: int) -> list[dict]:
    """Return the most unusual bars, no two within a window: smallest p-value, of equal ones the largest KL."""
    found: list[int] = []
    for row in np.lexsort((-kl, p)):
        if all(abs(row - other) >= window for other in found):
            found.append(int(row))
        if len(found) == MOST:
            break
    return [{"close_time": closes[row].isoformat(), "p": float(p[row]), "kl": float(kl[row])} for row in found]
