"""How much worse the forecasts of unseen bars are when a level says nothing but its mean."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.features import LOWEST_VARIANCE
from hissbt.research.hvae_report.readings import Spans
from hissbt.research.level_report.intervals import interval_of_means
from hissbt.targets import TargetScale, direction, forward_return, realized_volatility
from hissbt.training.level_probe import LevelProbe

LOSSES = {
    "squared_error": "squared error",
    "log_score": "log score",
    "direction": "direction",
    "volatility": "volatility",
}
ALL, SKIP = "all levels", "linear skip"


def level_name(level: int) -> str:
    """Return what the page calls a level, counted from 0, the finest."""
    return f"level {level}"


def parts(levels: int) -> dict[str, tuple[int, ...]]:
    """Return what is taken out, by its name: each level, all if they are several, the inputs that skip them."""
    each = {level_name(level): (level,) for level in range(levels)}
    together = {ALL: tuple(range(levels))} if levels > 1 else {}
    return each | together | {SKIP: (levels,)}


def ablation(bars: Bars, bundle: ModelBundle, probe: LevelProbe, of: Spans) -> dict[str, Any]:
    """Return the mean of each of ``LOSSES`` out of sample, and its rise without each part, with an interval.

    The squared error is in parts of the mean squared return, the log score (of a normal distribution) and the
    cross-entropy of the direction in nats, volatility by QLIKE of the realized variance. Less is better, and a
    rise above 0 is what the part contributes. Without a part the forecasts are leveled to what they are with it
    on average over the training span, so that what is missed is how they move.
    """
    close, horizon = bars.frame["close"].to_numpy(), bundle.horizon
    rows = slice(of.unseen.start, of.unseen.stop - horizon)
    actual = forward_return(close, horizon)[rows], direction(close, horizon)[rows]
    variance = np.maximum(realized_volatility(close, horizon)[rows] ** 2, horizon * LOWEST_VARIANCE)
    scale, intact = TargetScale(**bundle.target_scale), probe.outputs()
    seen = slice(of.seen.start, of.seen.stop)

    def losses(outputs: np.ndarray) -> np.ndarray:
        return _losses(*scale.forecast(*outputs[:, rows]), *actual, variance)

    whole, taken = losses(intact), parts(len(probe.strides))
    rises = np.concatenate(
        [losses(leveled(probe.outputs(without), intact, seen)) - whole for without in taken.values()], axis=1
    )  # [N,parts*losses]
    block = min(max(2 * horizon, of.week), len(rises) // 4)
    found = iter(zip(rises.mean(axis=0).tolist(), interval_of_means(rises, block, of.day), strict=True))
    return {
        "scored": len(rises),
        "block": block,
        "whole": dict(zip(LOSSES, whole.mean(axis=0).tolist(), strict=True)),
        "rows": {name: {loss: _rise(*next(found)) for loss in LOSSES} for name in taken},
    }


def leveled(outputs: np.ndarray, to: np.ndarray, rows: slice) -> np.ndarray:
    """Shift return and logit [3,T] to the means of ``to`` over ``rows``, scale volatility to its mean square."""
    shift = to[:2, rows].mean(axis=1) - outputs[:2, rows].mean(axis=1)
    factor = np.sqrt(np.mean(to[2, rows] ** 2) / np.mean(outputs[2, rows] ** 2))
    return np.vstack([outputs[:2] + shift[:, None], outputs[2:] * factor])


def lost(rises: Mapping[str, Mapping], sign: int = 1) -> list[str]:
    """Return the losses that are shown to rise without a part, or with ``sign`` -1 to fall."""
    return [loss for loss, rise in rises.items() if min(sign * end for end in rise["interval"]) > 0]


def _rise(mean: float, interval: list[float]) -> dict[str, Any]:
    return {"rise": mean, "interval": interval}


def _losses(mean, prob_up, volatility, returns, rose, variance) -> np.ndarray:
    """Return the losses [N,4] of forecasts [N] of what came."""
    squares, said = (returns - mean) ** 2, volatility**2
    likelihood = np.where(rose > 0, prob_up, 1 - prob_up)
    ratio = variance / said
    return np.column_stack(
        [
            squares / np.mean(returns**2),
            0.5 * (np.log(2 * np.pi * said) + squares / said),
            -np.log(likelihood),
            ratio - np.log(ratio) - 1,
        ]
    )
