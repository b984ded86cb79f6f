"""What the clusters of the top latent stand for: beside bull, bear and sideways as prices define them."""

import numpy as np

from hissbt.bars import Bars
from hissbt.research.hvae_report.readings import Readings
from hissbt.targets import market_regime

REGIMES = {"bear": -1.0, "sideways": 0.0, "bull": 1.0}
_SHIFTS = 200


def clusters(bars: Bars, read: Readings, rows: range, window: int, count: int) -> dict:
    """Return what happened in windows of each cluster, over ``rows``, windows that share no bar.

    ``agreement`` is the adjusted mutual information of cluster and regime: 0 is chance, 1 is the same. Its
    ``p_value`` is the share of circular shifts of the one against the other that agree as much, which keeps how
    long both last.
    """
    from sklearn.metrics import adjusted_mutual_info_score

    close = np.log(bars.frame["close"].to_numpy())
    regime = market_regime(np.exp(close), window)
    ends = np.array([row for row in rows[::-1][::window] if row >= window and np.isfinite(regime[row])])[::-1]
    if len(ends) < 2 * count:
        return {"windows": len(ends), "rows": []}
    cluster, labels = read.cluster[ends].astype(int), regime[ends]
    moves = np.diff(close, prepend=close[0])[ends[:, None] - np.arange(window)]  # [N,W]
    agreement = adjusted_mutual_info_score(labels, cluster)
    shifts = np.unique(np.linspace(1, len(ends) - 1, _SHIFTS).astype(int))
    as_much = [adjusted_mutual_info_score(np.roll(labels, shift), cluster) >= agreement for shift in shifts]
    return {
        "windows": len(ends),
        "agreement": float(agreement),
        "p_value": (1 + sum(as_much)) / (1 + len(shifts)),
        "regimes": {name: float(np.mean(labels == value)) for name, value in REGIMES.items()},
        "rows": [_row(number, cluster == number, labels, moves, read.cluster[rows]) for number in range(count)],
    }


def _row(number: int, inside: np.ndarray, labels: np.ndarray, moves: np.ndarray, every_bar: np.ndarray) -> dict:
    some = bool(inside.any())
    runs = _runs(every_bar == number)
    return {
        "cluster": number,
        "share": float(inside.mean()),
        "regimes": {
            name: float(np.mean(labels[inside] == value)) if some else None for name, value in REGIMES.items()
        },
        "mean": float(moves[inside].mean()) if some else None,
        "deviation": float(moves[inside].std()) if some else None,
        "bars_in_a_row": float(runs.mean()) if len(runs) else None,
    }


def _runs(inside: np.ndarray) -> np.ndarray:
    """Return how many bars each stretch of true values lasts."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], inside, [False]]).astype(int)))
    return np.diff(edges)[::2]
