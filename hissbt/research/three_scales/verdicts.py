"""What the figures on three time scales show: plain sentences, derived by rule, whichever way they turn out.

A difference is shown where its 95 % interval over the seeds leaves out 0.
"""

from collections.abc import Mapping

from hissbt.reports.page.text import fixed, percent
from hissbt.research.three_scales.protocol import HISS


def verdicts(results: Mapping) -> dict[str, str]:
    """Return the sentences, by the heading that each stands under."""
    return {
        "Hierarchy against flat": " ".join(_against(name, gap) for name, gap in results["differences"].items()),
        "Errors": _errors(results["scores"], results["system"]),
        "What each learned": _learned(results["scores"]),
        "The system": _system(results["system"]),
    }


def _against(name: str, gap: Mapping) -> str:
    low, high = gap["interval"]
    won = f"lower with {gap['won']} of {len(gap['seeds'])} seeds"
    span = f"{fixed(low, 4, '+')} to {fixed(high, 4, '+')}"
    if low <= 0 <= high:
        return (
            f"{HISS} is not shown to differ from the {name}: the MSE of the {name} less that of {HISS} is "
            f"{fixed(gap['difference'], 4, '+')} ({span}); that of {HISS} is {won}."
        )
    wins = low > 0
    return (
        f"{HISS} {'wins against' if wins else 'loses to'} the {name}: its MSE is "
        f"{fixed(abs(gap['difference']), 4)} ({percent(abs(gap['relative']))}) {'lower' if wins else 'higher'}, "
        f"the MSE of the {name} less that of {HISS} {span}; it is {won}."
    )


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
