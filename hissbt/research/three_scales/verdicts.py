"""What the figures on three time scales show: plain sentences, derived by rule, whichever way they turn out.

A difference is shown where its 95 % interval over the seeds leaves out 0.
"""

from collections.abc import Mapping

from hissbt.reports.page.text import fixed, percent
from hissbt.research.three_scales.protocol import HISS


def verdicts(results: Mapping) -> dict[str, str]:
    """Return the sentences, by the heading that each stands under."""
    return {
        "Hierarchy against flat": _against(results["differences"]),
        "Errors": _errors(results["scores"], results["system"]),
        "What each learned": _learned(results["scores"]),
        "The system": _system(results["system"]),
    }


def _against(gaps: Mapping) -> str:
    groups = {
        "wins against": [name for name, gap in gaps.items() if gap["interval"][0] > 0],
        "loses to": [name for name, gap in gaps.items() if gap["interval"][1] < 0],
        "is not shown to differ from": [
            name for name, gap in gaps.items() if gap["interval"][0] <= 0 <= gap["interval"][1]
        ],
    }
    return " ".join(
        f"{HISS} {outcome} {', '.join(_by_how_much(name, gaps[name]) for name in names)}."
        for outcome, names in groups.items()
        if names
    )


def _by_how_much(name: str, gap: Mapping) -> str:
    change = f"{percent(abs(gap['relative']))} {'lower' if gap['difference'] > 0 else 'higher'}"
    return f"the {name} (MSE {change}, ahead with {gap['won']} of {len(gap['seeds'])} seeds)"


def _errors(scores: Mapping, system: Mapping) -> str:
    best = min(scores, key=lambda name: scores[name]["excess"])
    least = system["floors"][f"best of all, {system['window']} bars"] - system["floors"]["best of all, all bars"]
    beyond = [name for name in scores if scores[name]["excess"] < least]
    use = (
        f"Better than any forecast from {system['window']} bars could be: {', '.join(beyond)}."
        if beyond
        else f"None is better than a forecast from {system['window']} bars could be."
    )
    return (
        f"Closest to the best forecast that there is comes the {best}, with {percent(scores[best]['share'])} of "
        f"the variance that can be known. {use}"
    )


def _learned(scores: Mapping) -> str:
    parts = []
    for term in scores[HISS]["learned"]:
        best = min(scores, key=lambda name, term=term: abs(1 - scores[name]["learned"][term]))
        parts.append(f"{term} by the {best} ({fixed(scores[best]['learned'][term], 2)})")
    return f"Closest to all that can be known: {', '.join(parts)}."


def _system(system: Mapping) -> str:
    return (
        f"The best forecast from {system['window']} bars loses {percent(system['lost_by_window'])} of the "
        f"variance that can be known from all bars, and no forecast has an MSE below "
        f"{fixed(system['floors']['best of all, all bars'], 4)}."
    )
