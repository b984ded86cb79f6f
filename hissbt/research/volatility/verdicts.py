"""What the figures show: plain sentences, derived by rule, whichever way they turn out.

A difference is shown where its 95 % interval leaves out 0.
"""

from collections.abc import Mapping, Sequence

from hissbt.reports.page.text import fixed, percent
from hissbt.research.volatility.protocol import FLAT, HAR, HAR_SEASON, HISS, RIDGE, RIDGE_SAME

SCORES, CLASSIC, FAIR = "Scores", "HiSS against each", "Linear and flat rivals"
"""The headings that sentences stand under."""


def verdicts(rows: Sequence[Mapping], aims: Mapping[str, float]) -> dict[str, str]:
    """Return the sentences by heading, for the rows of ``scored`` and the ``aims`` of the protocol."""
    by_name = {row["name"]: row for row in rows}
    best = rows[0]
    inside = [row["name"] for row in rows if row["in_set"]]
    order = f"The smallest QLIKE is that of {best['name']} ({fixed(best['qlike']['mean'], 4)})"
    order += "." if best["name"] == HISS else f"; HiSS has {fixed(by_name[HISS]['qlike']['mean'], 4)}."
    alone = "is the only one" if len(inside) == 1 else "are those"
    held = f" {listed(inside)} {alone} that the model confidence set cannot tell from the best."
    return {
        SCORES: order + held,
        CLASSIC: " ".join(_compared(by_name[name]) + _aimed(by_name[name], aims) for name in (HAR, HAR_SEASON)),
        FAIR: " ".join(_compared(by_name[name]) for name in (RIDGE, RIDGE_SAME, *FLAT)),
    }


def _aimed(row: Mapping, aims: Mapping[str, float]) -> str:
    if row["name"] not in aims:
        return ""
    gap, aim = row["against"]["qlike"], aims[row["name"]]
    reached = gap["relative"] <= -aim
    sure = gap["interval"][1] <= -aim
    found = f" The aim of {percent(aim)} under it is {'reached' if reached else 'missed'}"
    return found + ("." if sure or not reached else ", though the interval reaches above it.")


def _compared(row: Mapping) -> str:
    gap = row["against"]["qlike"]
    low, high = gap["interval"]
    how = "does better than" if high < 0 else "does worse than" if low > 0 else "is not shown to differ from"
    return (
        f"HiSS {how} {row['name']}: {_share(gap['relative'])} [{percent(low, sign=True)}, "
        f"{percent(high, sign=True)}], Diebold–Mariano {fixed(gap['statistic'], 1, '+')}."
    )


def _share(relative: float) -> str:
    return f"its QLIKE is {percent(abs(relative))} {'lower' if relative < 0 else 'higher'}"


def listed(parts: Sequence[str]) -> str:
    """Return names as a sentence has them."""
    *some, last = parts
    return f"{', '.join(some)} and {last}" if some else last
