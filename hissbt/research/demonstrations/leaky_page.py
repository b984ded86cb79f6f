"""The page of the leak: tables and charts, and under each what it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from hissbt.reports.page.document import Section, section
from hissbt.reports.page.markup import chart, note, row, table
from hissbt.reports.page.panels import BLUE, GRAY, RED, add_line, panels
from hissbt.reports.page.text import escape, fixed, percent, spread
from hissbt.research.demonstrations.verdicts import LEAK, TWIN, significance
from hissbt.research.hvae_report.page import verdict

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

from hissbt.research.demonstrations.page import head, rests_on, write

TITLE = "A leak that looks like skill"
CHOICES = (
    "The model is a logistic regression on six inputs: the log distance of the close from its denoised value and "
    "the last move of that value, for one level of the Haar transform and for two, and the moves of the close "
    "over a bar and over five. Rises and falls have the same weight when it is trained.",
    "A direction is that of the next close itself, not of the denoised one. The call is made at a close, and held "
    "to the next, long or short.",
    "A block of the transform is counted from the first bar. Its mean is known when its last bar has closed; over "
    "the whole set it stands at all of its bars, and so far it is the mean of those of its bars that have closed.",
    "Scaling is less the mean, in deviations: of all rows of the set, or of those up to each bar.",
    "The model never sees a direction of the test span in either case: what leaks is in its inputs.",
    "Intervals are of a block bootstrap with blocks of a month, and know of the uncertainty of the test span "
    "only.",
)


def write_leaky(path: str | Path, results: Mapping) -> None:
    """Write the page of a leak, whole or not at all; the same results give the same bytes."""
    parts = [_accuracy(results), _places(results), _trading(results), _audit(results)]
    write(path, TITLE, _head(results), [*parts, *rests_on(results, CHOICES, ("seed", "cost"))])


def _head(results: Mapping) -> str:
    scores, test = results["scores"], results["data"]["spans"]["test"]
    about = f"{results['data']['symbol']}, judged on {test['first'][:10]} to {test['last'][:10]} (closes, UTC)."
    shown = {
        "Right, by the whole set": percent(scores[LEAK]["accuracy"]),
        "Right, by what was known": percent(scores[TWIN]["accuracy"]),
        "Days that rose": percent(results["rises"]),
        "Sharpe, by the whole set": fixed(scores[LEAK]["trading"]["sharpe"], 2),
        "Sharpe, by what was known": fixed(scores[TWIN]["trading"]["sharpe"], 2),
        "Sharpe, holding": fixed(results["held"]["sharpe"], 2),
    }
    return head(TITLE, about, results["verdicts"]["Accuracy"], shown)


def _accuracy(results: Mapping) -> Section:
    rows = [
        row(
            [
                escape(name),
                _share(score["accuracy"], score["interval"]),
                fixed(score["pesaran_timmermann"]["statistic"], 2),
                escape(significance(score["pesaran_timmermann"]["pvalue"])),
                percent(score["calls_up"]),
                f'<td class="text">{escape(score["hits"])}</td>',
            ]
        )
        for name, score in results["scores"].items()
    ]
    heads = ["Denoised and scaled by", "Right", "PT", "", "Calls up", '<th scope="col" class="text"></th>']
    remark = note(
        [
            f"In brackets the 95 % interval. PT: statistic of Pesaran and Timmermann, with its one-sided p-value. "
            f"{percent(results['rises'])} of the days rose: who always says so is right that often."
        ]
    )
    return section("Accuracy", table(heads, rows) + remark)


def _share(value: float, interval: Sequence[float]) -> str:
    return spread(100 * value, [100 * end for end in interval], 1) + " %"


def _places(results: Mapping) -> Section:
    scores = results["scores"]
    count = len(scores[LEAK]["by_place"])
    heads = ["Right, from bar", *(f"{place + 1} of {count}" for place in range(count))]
    rows = [row([escape(name), *map(percent, score["by_place"])]) for name, score in scores.items()]
    remark = note(["By the place that the bar which calls has in its block of the transform."])
    heading = "Where it comes from"
    return section(heading, table(heads, rows) + remark + verdict(results["verdicts"][heading]))


def _trading(results: Mapping) -> Section:
    shown = {
        "Return a year": ("mean_return", percent),
        "Deviation a year": ("deviation", percent),
        "Sharpe ratio": ("sharpe", lambda value: fixed(value, 2)),
        "Max drawdown": ("max_drawdown", percent),
        "Turnover a year": ("annual_turnover", lambda value: fixed(value, 0)),
    }
    columns = {name: score["trading"] for name, score in results["scores"].items()} | {"holding": results["held"]}
    rows = [
        row([escape(name), *(show(found[key]) for key, show in shown.values())]) for name, found in columns.items()
    ]
    remark = note(
        [
            f"Long or short from close to close, after {1e4 * results['cost']:g} bp of what is traded. Returns "
            "are added up, not compounded; the chart compounds them."
        ]
    )
    heading = "What it would have looked like"
    drawn = chart("account", _account(results["curves"]))
    return section(heading, table(["", *shown], rows) + drawn + remark + verdict(results["verdicts"][heading]))


def _account(curves: Mapping) -> Figure:
    closes = pd.Series(pd.to_datetime(curves["closes"]))
    figure = panels(["Worth of 1, on a scale of logarithms"], [360], closes)
    for name, hue in ((LEAK, RED), (TWIN, BLUE), ("holding", GRAY)):
        add_line(figure, 1, closes, pd.Series(curves[name]), name, hue, shown="%{y:,.3f}")
    figure.update_yaxes(type="log")
    return figure


def _audit(results: Mapping) -> Section:
    rows = [
        row([escape(name), f"{'Passes' if found['passed'] else 'LEAKS'}: {escape(found['sentence'])}"])
        for name, found in results["audits"].items()
    ]
    return section("Audit", table(["", ""], rows, "plain facts") + verdict(results["verdicts"]["Audit"]))
