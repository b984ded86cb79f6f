"""What the figures of the comparison show: plain sentences, derived by rule, whichever way they turn out.

A difference is shown where its 95 % interval over the test windows leaves out 0.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from hissbt.reports.page.text import fixed
from hissbt.research.hvae_report.protocol import SETS

_SCORES = {
    "distance": ("the distribution of single returns", lambda found: found["distance"]["1"]),
    "absolute": ("the memory of |r|", lambda found: found["absolute_distance"]),
    "leverage": ("the leverage effect", lambda found: found["leverage_distance"]),
    "discriminative": ("what trees can tell apart", lambda found: found["discriminative"]["score"]),
}


def verdicts(results: Mapping) -> dict[str, str]:
    """Return the sentences, by the heading that each stands under."""
    return {
        "Density of returns": _density(results["bounds"]["returns"], "returns"),
        "Density of candles": _density(results["bounds"]["candles"], "candles"),
        "Levels": _levels(results["levels"]),
        "Made-up returns": _generated(results["generated"]),
    }


def _density(bounds: Mapping, name: str) -> str:
    flat = bounds["differences"]["hvae less flat"]
    seeds = len(flat["seeds"])
    found = (
        f"On {name} the hierarchy {_against(flat)} the flat VAE of the same size: {_nats(flat)}, and it is ahead "
        f"with {flat['won']} of {seeds} seeds."
    )
    others = {key.removeprefix("hvae less "): gap for key, gap in bounds["differences"].items() if gap is not flat}
    parts = [
        f"{name} ({fixed(gap['difference'], 3, '+')})" for name, gap in others.items() if gap["interval"][1] < 0
    ]
    if parts:
        found += f" It does worse than {_listed(parts)}."
    elif others:
        found += " None of the cheap models is shown to do better."
    return found


def _against(gap: Mapping) -> str:
    low, high = gap["interval"]
    return "does better than" if low > 0 else "does worse than" if high < 0 else "is not shown to differ from"


def _nats(gap: Mapping) -> str:
    low, high = gap["interval"]
    return f"{fixed(gap['difference'], 4, '+')} nats a value, {fixed(low, 4, '+')} to {fixed(high, 4, '+')}"


def _levels(levels: Mapping) -> str:
    parts = []
    for name in SETS:
        lost = [
            f"level {level['level']} in {level['collapsed']} of {len(level['active_units'])} seeds"
            for level in levels[name]["hvae"]
            if level["collapsed"]
        ]
        parts.append(
            f"On {name} " + (f"collapsed: {_listed(lost)}." if lost else "no level of any seed collapsed.")
        )
    return " ".join(parts)


def _generated(generated: Mapping) -> str:
    found = {
        name: {key: float(np.mean([score(seed) for seed in seeds])) for key, (_, score) in _SCORES.items()}
        for name, seeds in generated["generators"].items()
        if not name.startswith("real")
    }
    parts = [
        f"{words} by {min(found, key=lambda name, key=key: found[name][key])}"
        for key, (words, _) in _SCORES.items()
    ]
    return f"Closest to the real test windows: {_listed(parts)}."


def _listed(parts: Sequence[str]) -> str:
    *some, last = parts
    return f"{', '.join(some)} and {last}" if some else last
