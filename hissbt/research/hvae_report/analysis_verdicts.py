"""What the figures of an analysis show: plain sentences, derived by rule, whichever way they turn out.

A difference is shown where its 95 % interval leaves out 0.
"""

from collections.abc import Mapping

from hissbt.reports.page.text import fixed, percent
from hissbt.research.hvae_report.forecasts import TASKS

PARTS = {"in_sample": "in sample", "out_of_sample": "out of sample"}


def analysis_verdicts(results: Mapping) -> dict[str, str]:
    """Return the sentences, by the heading that each stands under."""
    forecasts = {heading: _forecast(results["forecasts"][task], heading) for task, heading in TASKS.items()}
    return {
        "Levels": _levels(results["levels"]),
        "Regimes": _agreement(results["clusters"]["out_of_sample"]),
        **forecasts,
        "Anomalies": _false_alarms(results["anomalies"]),
    }


def collapsed(levels: list[Mapping]) -> list[int]:
    """Return the numbers of the levels of which no unit is active."""
    return [level["level"] for level in levels if level["active_units"] == 0]


def _levels(levels: Mapping) -> str:
    lost = {words: collapsed(levels[part]) for part, words in PARTS.items()}
    return " ".join(
        f"{words.capitalize()} "
        + (f"level {', '.join(map(str, numbers))} collapsed." if numbers else "no level collapsed.")
        for words, numbers in lost.items()
    )


def _agreement(found: Mapping) -> str:
    if not found["rows"]:
        return "There are too few windows out of sample to compare clusters with regimes."
    shown = "more than chance" if found["p_value"] <= 0.05 else "not shown to be more than chance"
    calm, wild = found["rows"][0]["deviation"], found["rows"][-1]["deviation"]
    ordered = ""
    if calm is not None and wild is not None:
        ordered = f" The wildest cluster is {wild / calm:.1f} times as volatile as the calmest out of sample."
    return (
        f"Clusters agree with bull, bear and sideways by {fixed(found['agreement'], 2)} (0 chance, 1 the same), "
        f"{shown}: {percent(found['p_value'])} of shifts agree as much.{ordered}"
    )


def _forecast(each: Mapping, heading: str) -> str:
    """Say whether the forecast from the latents is better than the others."""
    if "skipped" in each:
        return f"{heading}: not judged, as {each['skipped']}."
    # The level given the one above it, also where another did better.
    *_, name = (name for name in each["differences"] if " and " not in name)
    better = [other for other, gap in each["differences"][name].items() if gap["interval"][0] > 0]
    worse = [other for other, gap in each["differences"][name].items() if gap["interval"][1] < 0]
    rest = [other for other in each["differences"][name] if other not in (*better, *worse)]
    parts = [
        f"{words} {', '.join(others)}"
        for words, others in (
            ("better than", better),
            ("worse than", worse),
            ("not shown to differ from", rest),
        )
        if others
    ]
    return f"The {heading.lower()} from {name} is {', '.join(parts)}."


def _false_alarms(found: Mapping) -> str:
    parts = []
    for number, alarm in enumerate(found["alarms"]["0.01"], start=1):
        low, high = alarm["interval"]
        how = "as often as" if low <= 0.01 <= high else "more often than" if low > 0.01 else "less often than"
        parts.append(f"at level {number} {how} 1 % ({percent(alarm['share'])})")
    return f"Alarms at p ≤ 1 % come {', '.join(parts)} of bars."
