"""What the figures on the levels show: plain sentences, derived by rule, whichever way they turn out.

Something is shown where its 95 % interval leaves out 0.
"""

from collections.abc import Mapping
from typing import Any

from hissbt.reports.page.text import fixed
from hissbt.research.level_report.ablation import ALL, LOSSES, SKIP, level_name, lost
from hissbt.research.level_report.horizons import best
from hissbt.research.level_report.memory import REST

KNOWN = {"return": "returns", "variance": "volatility"}


def level_rows(results: Mapping) -> list[dict[str, Any]]:
    """Return one row a level of what was found, for a table that is read at a glance."""
    found, rows = results["horizons"]["found"], []
    for level, stride in enumerate(results["bundle"]["strides"]):
        name = level_name(level)
        most = {target: best(found, target, name) for target in KNOWN}
        rows.append(
            {
                "level": level,
                "stride": stride,
                "worse_without": lost(results["ablation"]["rows"][name]),
                "better_without": lost(results["ablation"]["rows"][name], -1),
                "slow_share": slow_share(results["spectrum"], level),
                "median_period": results["spectrum"][name]["median_period"],
                "best_horizon": {target: each and each["horizon"] for target, each in most.items()},
                "memory": results["memory"][name]["bars"],
            }
        )
    return rows


def verdicts(results: Mapping) -> dict[str, str]:
    """Return the sentences, by the heading that each stands under."""
    rises = results["ablation"]["rows"]
    return {
        "Levels": _missed(rises),
        "Contribution": " ".join(_contribution(name, each) for name, each in rises.items()),
        "Spectrum": _spectrum(results),
        "Horizons": " ".join(_horizons(name, results["horizons"]["found"]) for name in _names(results)),
        "Memory": _memory(results),
    }


def _names(results: Mapping) -> list[str]:
    return [level_name(level) for level in range(len(results["bundle"]["strides"]))]


def _missed(rises: Mapping) -> str:
    """Say in short what the forecasts of unseen bars would be worse without."""
    missed = {name: worse for name, each in rises.items() if (worse := lost(each))}
    if not missed:
        return "Out of sample nothing gets measurably worse without any level, or without the linear skip."
    parts = [f"{_called(name)} for {_listed(worse)}" for name, worse in missed.items()]
    rest = [_called(name) for name in rises if name not in missed]
    return f"Missed out of sample: {', '.join(parts)}." + (f" Not missed: {', '.join(rest)}." if rest else "")


def _contribution(name: str, rises: Mapping) -> str:
    """Say what gets worse or better when a level, all of them or the skip says nothing."""
    worse, better = lost(rises), lost(rises, -1)
    rest = [loss for loss in rises if loss not in (*worse, *better)]
    ways = {"worse": worse, "better": better, "not measurably changed": rest}
    parts = [f"{_listed(losses)} {how}" for how, losses in ways.items() if losses]
    if not worse and not better:
        return f"{_called(name).capitalize()} contributes nothing measurable to {_listed(rest)}."
    return f"Without {_called(name)}: {'; '.join(parts)}."


def _called(name: str) -> str:
    return {ALL: "all of them together", SKIP: "the linear skip"}.get(name, name)


def _listed(losses: list[str]) -> str:
    *first, last = (LOSSES[loss] for loss in losses)
    return f"{', '.join(first)} and {last}" if first else last


def _spectrum(results: Mapping) -> str:
    return " ".join(
        _moves(results["spectrum"], level, stride) for level, stride in enumerate(results["bundle"]["strides"])
    )


def _moves(spectrum: Mapping, level: int, stride: int) -> str:
    name = level_name(level)
    median = spectrum[name]["median_period"]
    if median is None:
        return f"{name.capitalize()} does not move."
    own = f", {_percent(slow_share(spectrum, level))} above the {2 * stride} that its blocks can show"
    return f"Half of the power of {name} is at periods above {fixed(median, 0)} bars{own if stride > 1 else ''}."


def slow_share(spectrum: Mapping, level: int) -> float:
    """Return the share of a level's power at periods above the shortest that its blocks can show, two of them."""
    return sum(spectrum[level_name(level)]["shares"][level:])


def _horizons(name: str, found: list[Mapping]) -> str:
    parts = []
    for target, words in KNOWN.items():
        each = best(found, target, name)
        parts.append(
            f"nothing measurable of {words}"
            if each is None
            else f"most of {words} over {each['horizon']} bars (R² {fixed(each['rows'][name]['skill'], 3)})"
        )
    return f"{name.capitalize()} knows {' and '.join(parts)}."


def _memory(results: Mapping) -> str:
    lags = len(results["memory"]["level 0"]["response"])
    sentences = []
    for name in _names(results):
        bars = results["memory"][name]["bars"]
        spans = [f"{_percent(rest)} {_after(bars[str(rest)], lags)}" for rest in REST]
        sentences.append(f"Of one bar {name} keeps less than {' and less than '.join(spans)}.")
    return " ".join(sentences)


def _after(bars: int | None, lags: int) -> str:
    return f"not within {lags:,} bars" if bars is None else f"after {bars:,} bar{'' if bars == 1 else 's'}"


def _percent(share: float) -> str:
    return f"{fixed(100 * share, 0)} %"
