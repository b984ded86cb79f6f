"""What the figures of the contest show: plain sentences, derived by rule, whoever wins.

HiSS is better or worse than a rival where the 95 % interval of the difference of their losses leaves out 0. A way
to train is shown better where it is so on the test rows and is better on the validation rows, too.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from hissbt.evidence.verdict import SUSPICIOUS, hits_needed
from hissbt.reports.page.text import chance, fixed, known, percent
from hissbt.research.contest.choices import TOLD
from hissbt.research.contest.protocol import BUY_AND_HOLD, HISS


class Unit(NamedTuple):
    """How a score is told: its name, what it is multiplied by, and to how many decimals."""

    title: str
    scale: float = 1.0
    decimals: int = 4


UNITS = {
    "qlike": Unit("QLIKE"),
    "log_variance": Unit("MSE of log variance"),
    "mse": Unit("MSE, %²", 1e4),
    "mae": Unit("MAE, %", 1e2),
    "log_loss": Unit("Log loss"),
    "density": Unit("Minus log density"),
    "accuracy": Unit("Accuracy", decimals=3),
    "balanced_accuracy": Unit("Balanced accuracy", decimals=3),
    "f1": Unit("F1", decimals=3),
    "mcc": Unit("MCC", decimals=3),
}
"""By score."""


def verdicts(results: Mapping) -> dict[str, str]:
    """Return the sentences, by the heading that each stands under."""
    return {
        "Volatility": standing(results["rivals"], "qlike", "QLIKE of the variance"),
        "Returns": standing(results["rivals"], "mse", "squared error of the return, in %²,"),
        "Direction": standing(results["rivals"], "log_loss", "log loss of the direction")
        + suspicion(results["rivals"]),
        "Trading": trading(results["trading"]),
        "Training choices": training(results["choices"]),
    }


def ranking(rivals: Mapping, key: str) -> list[str]:
    """Return the rivals that have the loss ``key``, the best first."""
    having = [name for name, found in rivals.items() if key in found["scores"]]
    return sorted(having, key=lambda name: rivals[name]["scores"][key]["mean"])


def standing(rivals: Mapping, key: str, words: str) -> str:
    """Say where HiSS stands by the loss ``key``, and from whom it can be told."""
    order = ranking(rivals, key)
    if not order:
        return f"No rival has an opinion by which the {words} could be told."
    best, unit = order[0], UNITS[key]
    value, own = (
        fixed(unit.scale * rivals[name]["scores"][key]["mean"], unit.decimals) if name in order else ""
        for name in (best, HISS)
    )
    if HISS not in order:
        return f"The smallest {words} has {best}, {value}."
    parts = [f"By the {words} HiSS is number {order.index(HISS) + 1} of {len(order)} ({own})"]
    if best != HISS:
        parts[0] += f", {best} the first ({value})"
    for verb, names in _told(rivals, key, order).items():
        if names:
            everybody = len(names) > 1 and len(names) == len(order) - 1
            parts.append(f"{verb} {'every other' if everybody else _listed(names)}")
    return ". ".join(parts) + "." + _confidence(rivals, key, order)


def _confidence(rivals: Mapping, key: str, order: Iterable[str]) -> str:
    """Say who is left in the model confidence set, or who is not, whichever are fewer."""
    tested = {name: test["in_set"] for name in order if (test := rivals[name].get("tests", {}).get(key))}
    inside = [name for name, within in tested.items() if within]
    outside = [name for name in tested if name not in inside]
    if not outside:
        return " The model confidence set leaves out nobody." if inside else ""
    if len(outside) < len(inside):
        return f" The model confidence set leaves out {_listed(outside)}."
    return f" In the model confidence set are {_listed(inside)}."


def _told(rivals: Mapping, key: str, order: Iterable[str]) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {
        "It is better than": [],
        "It is worse than": [],
        "No difference is shown from": [],
    }
    better, worse, same = told.values()
    for name in order:
        if name != HISS:
            low, high = rivals[name]["against"][key]["interval"]
            (better if high < 0 else worse if low > 0 else same).append(name)
    return told


def suspicion(rivals: Mapping) -> str:
    """Say whose directions are right more often than real markets allow, in enough independent calls to tell."""
    names = [
        f"{name} ({percent(found['scores']['accuracy']['mean'])})"
        for name, found in rivals.items()
        if "accuracy" in found["scores"] and _suspicious(found)
    ]
    if not names:
        return ""
    return f" A leak is suspected where more than {SUSPICIOUS:.0%} are right: {_listed(names)}."


def _suspicious(found: Mapping) -> bool:
    rate = found["scores"]["accuracy"]["mean"]
    return rate > SUSPICIOUS and found["effective_size"] >= hits_needed(rate)


def trading(found: Mapping) -> str:
    """Say who earned most after costs, and whether that is more than luck and than buy-and-hold."""
    rows = {name: row for name, row in found["rivals"].items() if known(row["net"]["sharpe"])}
    if not rows:
        return "No rival trades."
    best = max(rows, key=lambda name: rows[name]["net"]["sharpe"])
    row = rows[best]
    said = (
        f"The best Sharpe ratio after costs has {best}, {fixed(row['net']['sharpe'], 2)} "
        f"({_ends(row['interval'], 2)}); that it is more than the luck of the best of {len(found['rivals'])} has "
        f"a probability of {chance(row['dsr'])}."
    )
    if HISS in rows and best != HISS:
        said += f" That of HiSS is {fixed(rows[HISS]['net']['sharpe'], 2)} ({_ends(rows[HISS]['interval'], 2)})."
    if BUY_AND_HOLD in rows and best != BUY_AND_HOLD:
        said += f" That of buy-and-hold is {fixed(rows[BUY_AND_HOLD]['net']['sharpe'], 2)}."
    if found["superior"] is not None:
        p = found["superior"]["consistent"]
        shown = "is shown" if p < 0.05 else "is not shown"
        said += f" That any rival earns more than buy-and-hold {shown} (p = {fixed(p, 3)}, all of them counted)."
    return said


def training(choices: Mapping) -> str:
    """Say which ways to train are shown better than the plain one, and which worse."""
    if not choices:
        return "No other way to train was tried."
    told: dict[str, list[str]] = {"Shown better than the plain one": [], "shown worse": [], "not told from it": []}
    better, worse, same = told.values()
    for name, found in choices.items():
        low, high = found["test"][TOLD[0]]["interval"]
        (better if low > 0 and found["validation"] > 0 else worse if high < 0 else same).append(name)
    said = "; ".join(f"{words}: {_listed(names) if names else 'none'}" for words, names in told.items())
    return f"{said}. " + (
        f"What is shown better may become the default: {_listed(better)}." if better else "No default changes."
    )


def _ends(interval: Sequence[float], decimals: int) -> str:
    low, high = (fixed(end, decimals) for end in interval)
    return f"{low} to {high}"


def _listed(names: Sequence[str]) -> str:
    *some, last = names
    return f"{', '.join(some)} and {last}" if some else last
