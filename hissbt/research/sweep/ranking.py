"""What a sweep found: combinations in the order of their Sharpe ratios, and how far the first one is luck."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from hissbt.research.significance import pbo
from hissbt.research.sweep.jobs import Job

FIGURES = ("sharpe", "total_return", "max_drawdown", "trades", "turnover")
"""Of a backtest, as ``trading_metrics`` has them; the table's columns."""
_MOST_BLOCKS = 16


def trials_of(jobs: Sequence[Job], outcomes: Mapping[int, Mapping]) -> pd.DataFrame:
    """Return one row a backtest, in the order of the jobs: params, seed, ``FIGURES`` and error, if any."""
    rows = []
    for job in jobs:
        outcome = outcomes[job.number]
        figures = outcome.get("figures", {})
        rows.append(
            {
                **job.params,
                "seed": job.seed,
                **{name: figures.get(name) for name in FIGURES},
                "error": outcome["error"],
            }
        )
    table = pd.DataFrame(rows, dtype=object)  # None and 24 are not NaN and 24.0
    return table.astype(dict.fromkeys(FIGURES, np.float64))


def combinations_of(trials: pd.DataFrame, seeds: int) -> pd.DataFrame:
    """Return one row a combination, the one with the highest Sharpe ratio first.

    Figures are means over the ``seeds`` that did not fail, whose number is ``finished``; ``sharpe_low`` and
    ``sharpe_high`` are the ends of the Sharpe ratios. Combinations without one come last, first of them those that
    never traded, then those that failed; equal ones keep the grid's order. The index is the place in the grid.
    """
    groups = trials.groupby(np.arange(len(trials)) // seeds)
    found = groups[list(FIGURES)].mean()
    found["sharpe_low"], found["sharpe_high"] = groups["sharpe"].min(), groups["sharpe"].max()
    found["finished"] = seeds - groups["error"].count()
    return found.sort_values(["sharpe", "finished"], ascending=False, kind="stable", na_position="last")


def returns_of(jobs: Sequence[Job], outcomes: Mapping[int, Mapping], seeds: int) -> pd.DataFrame:
    """Return the daily returns of each combination, the mean over the seeds that did not fail, by its place.

    The index is the days; combinations that failed with every seed are left out.
    """
    days, columns = None, {}
    for place, first in enumerate(range(0, len(jobs), seeds)):
        every = [outcomes[job.number] for job in jobs[first : first + seeds]]
        if done := [each for each in every if each["error"] is None]:
            days = done[0]["days"]
            columns[place] = np.mean([each["returns"] for each in done], axis=0)
    return pd.DataFrame(columns, index=days)


def overfitting(returns: pd.DataFrame) -> dict[str, Any] | None:
    """Return how often the best of one half of the days disappoints in the other; None of too few to tell.

    ``returns`` [T,N] are those of all combinations. See ``hissbt.research.significance.pbo``.
    """
    days, count = returns.shape
    blocks = min(_MOST_BLOCKS, days // 4 * 2)
    if blocks < 2 or count < 2:
        return None
    found = pbo(returns.to_numpy(), blocks)
    return {
        "pbo": found.pbo,
        "degradation": found.degradation,
        "probability_of_loss": found.probability_of_loss,
        "blocks": blocks,
        "ways": len(found.logits),
    }


def spread_sentence(sharpes: pd.Series) -> str:
    """Say how far the combinations are apart, by their Sharpe ratios."""
    traded = sharpes.dropna()
    if not len(traded):
        return f"None of the {len(sharpes):,} combinations traded, so none has a Sharpe ratio."
    best, middle, earning = traded.max(), traded.median(), (traded > 0).sum()
    said = f"The best Sharpe ratio is {best:.2f} and the median {middle:.2f}".replace("-", "−")
    idle = len(sharpes) - len(traded)
    rest = f"; {idle:,} never traded" if idle else ""
    return f"{said}: {earning:,} of {len(sharpes):,} combinations earned more than they cost{rest}."


def overfitting_sentence(found: Mapping[str, Any] | None, count: int) -> str:
    """Say what the probability of overfitting means for the choice of the best of ``count``."""
    if found is None:
        return "No probability of overfitting: that takes two combinations and four days at least."
    share = f"{100 * found['pbo']:.1f} %"
    said = (
        f"The best of {count:,} by one half of the days was below the median in the other half in {share} of "
        f"{found['ways']:,} ways to halve them"
    )
    if found["pbo"] >= 0.5:
        return f"{said}: to choose by the Sharpe ratio is no better here than to draw lots."
    if found["pbo"] > 0.05:
        return f"{said}: better than to draw lots, which has 50 %, but overfitting is not ruled out (5 % would)."
    return f"{said}: what is best on some of these days tends to be good on the others."
