"""The page of many models: tables and charts, and under each what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hissbt.reports.page.document import Section, section
from hissbt.reports.page.markup import chart, note, pair, row, table
from hissbt.reports.page.panels import AMBER, BLUE, GRAY, RED, add_line, milliseconds, panels
from hissbt.reports.page.text import chance, escape, fixed, percent
from hissbt.research.demonstrations.verdicts import MARKET
from hissbt.research.hvae_report.page import verdict

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

from hissbt.research.demonstrations.page import head, rests_on, write

TITLE = "The best of many models"
CHOICES = (
    "A model is a ridge or logistic regression, a tree of at most four levels, or a rule that follows or fades "
    "one feature. It sees one to eight features of the last one to five bars. All of that is drawn by the seed, "
    "and the same models run on every series.",
    "A third of the days to fit a model, a third to choose among the fitted ones, and a third that nobody looked "
    "at.",
    "It is long where its forecast is above the median of its forecasts while it was fitted, short below, from "
    "one close to the next.",
    "Its return is what it earns beyond holding its mean position of the same span: only for when it was long or "
    "short. Without that, every model that is long most of the time would share the rise of the index.",
    "Before all costs, which would take more from the models that trade most.",
    "Noise is the null of the scenarios: independent days, each a path without drift with the variance, gap and "
    "volume of a real day drawn at random. Nothing in it can be foretold.",
    "The luck of the best is that of as many independent trials. These are alike, so there are fewer, and the "
    "deflated ratio is rather too strict.",
    "The probability of overfitting is over the days to choose by and the unseen ones, 16 blocks of them, the "
    "models being fitted before.",
)
_BINS = 40


def write_million(path: str | Path, results: Mapping) -> None:
    """Write the page of many models, whole or not at all; the same results give the same bytes."""
    parts = [_best(results), _deflation(results), _overfitting(results), _fitting(results)]
    foot = rests_on(results, CHOICES, ("models", "seed"))
    write(path, TITLE, _head(results), [*parts, *foot])


def _head(results: Mapping) -> str:
    spans, market = results["data"]["spans"], results["worlds"][MARKET]
    about = (
        f"{results['models']:,} models on {results['data']['symbol']} and on {len(results['worlds']) - 1} series "
        f"of noise: fitted until {spans['fitted']['last'][:10]}, chosen by the days until "
        f"{spans['chosen']['last'][:10]}, unseen until {spans['unseen']['last'][:10]}."
    )
    shown = {
        "Best Sharpe when chosen": fixed(market["best"]["chosen"]["chosen"], 2),
        "The same, unseen": fixed(market["best"]["chosen"]["unseen"], 2),
        "Luck of the best": fixed(market["luck"], 2),
        "PSR": chance(market["psr"]),
        "Deflated": chance(market["dsr"]),
        "Overfitting": percent(market["overfitting"]["pbo"]),
    }
    return head(TITLE, about, results["verdicts"]["What is true"], shown)


def _best(results: Mapping) -> Section:
    rows = [
        row(
            [
                escape(name),
                f'<td class="text">{escape(found["model"])}</td>',
                *(fixed(found[span], 2) for span in ("chosen", "unseen")),
                fixed(world["rank_correlation"], 2),
            ]
        )
        for name, world in results["worlds"].items()
        for found in (world["best"]["chosen"],)
    ]
    heads = ["On", '<th scope="col" class="text">The best</th>', "Sharpe, chosen by", "Unseen", "Ranks of all"]
    drawn = pair(
        *(
            chart(f"scatter-{number}", _scatter(name, results["worlds"][name]), timed=False)
            for number, name in enumerate(_shown(results))
        )
    )
    curves = chart("curves", _curves(results))
    remark = note(
        [
            "Annual Sharpe ratios of what a model earns by being long and short at the right time, before costs. "
            "Ranks of all: Spearman's correlation of the models' Sharpe ratios on the days to choose by and on "
            "the unseen ones; they fall into groups of models that are nearly the same, so it is far from 0 by "
            "chance."
        ]
    )
    heading = "The best of many"
    return section(heading, table(heads, rows) + drawn + curves + remark + verdict(results["verdicts"][heading]))


def _shown(results: Mapping) -> list[str]:
    """Return the series that are drawn: the market, and the first of noise."""
    return list(results["worlds"])[:2]


def _scatter(name: str, world: Mapping) -> Figure:
    from plotly.graph_objects import Scatter

    figure = panels([f"Sharpe ratio on unseen days by that when chosen, {name}"], [340])
    best = world["best"]["chosen"]
    for x, y, hue, size, label in (
        (world["sharpes"]["chosen"], world["sharpes"]["unseen"], BLUE, 5, ""),
        ([best["chosen"]], [best["unseen"]], RED, 11, "the best"),
    ):
        figure.add_trace(
            Scatter(
                x=x,
                y=y,
                mode="markers",
                marker={"color": hue, "size": size, "opacity": 0.5 if size < 10 else 1.0},
                hovertemplate="%{x:.2f} when chosen, %{y:.2f} unseen<extra>" + label + "</extra>",
            )
        )
    figure.add_hline(y=0, line={"color": GRAY, "width": 1})
    figure.add_vline(x=world["luck"], line={"color": AMBER, "width": 1.6, "dash": "dot"})
    figure.update_layout(showlegend=False, hovermode="closest")
    return figure


def _curves(results: Mapping) -> Figure:
    closes = pd.Series(pd.to_datetime(results["closes"]))
    figure = panels(["What the best had earned, in sums of returns; unseen right of the line"], [300], closes)
    for name, hue in zip(_shown(results), (BLUE, GRAY), strict=True):
        add_line(figure, 1, closes, pd.Series(results["worlds"][name]["curve"]), name, hue, shown="%{y:.3f}")
    first = pd.DatetimeIndex([results["data"]["spans"]["unseen"]["first"]])
    figure.add_vline(x=milliseconds(first)[0], line={"color": AMBER, "width": 1.6, "dash": "dot"})
    return figure


def _deflation(results: Mapping) -> Section:
    heads = ["On", "Pass alone at 5 %", "PSR of the best", "Luck of the best", "DSR", "SPA, p", "PSR, unseen"]
    rows = [
        row(
            [
                escape(name),
                f"{world['significant_alone']:,} of {results['models']:,}",
                chance(world["psr"]),
                fixed(world["luck"], 2),
                chance(world["dsr"]),
                fixed(world["superior_ability"], 3),
                chance(world["unseen_psr"]),
            ]
        )
        for name, world in results["worlds"].items()
    ]
    drawn = pair(
        *(
            chart(f"histogram-{number}", _histogram(name, results["worlds"][name]), timed=False)
            for number, name in enumerate(_shown(results))
        )
    )
    remark = note(
        [
            "PSR and DSR: probability that the best's true Sharpe ratio is above 0, and above what luck gives the "
            "best of as many, on the days it was chosen by. SPA: Hansen's test that no model beats doing nothing. "
            "Dotted: the best, and in amber the luck of the best."
        ]
    )
    return section("Deflation", table(heads, rows) + drawn + remark + verdict(results["verdicts"]["Deflation"]))


def _histogram(name: str, world: Mapping) -> Figure:
    from plotly.graph_objects import Bar

    figure = panels([f"Models by Sharpe ratio, {name}"], [280])
    both = {"when chosen": ("chosen", BLUE), "unseen": ("unseen", GRAY)}
    edges = np.histogram_bin_edges(world["sharpes"]["chosen"] + world["sharpes"]["unseen"], _BINS)
    for label, (span, hue) in both.items():
        counts, _ = np.histogram(world["sharpes"][span], edges)
        figure.add_trace(
            Bar(
                x=((edges[:-1] + edges[1:]) / 2).tolist(),
                y=counts.tolist(),
                name=label,
                width=float(edges[1] - edges[0]),
                marker={"color": hue, "opacity": 0.6, "line": {"width": 0}},
                hovertemplate="%{x:.2f}: %{y}",
            )
        )
    for x, hue in ((world["best"]["chosen"]["chosen"], RED), (world["luck"], AMBER)):
        figure.add_vline(x=x, line={"color": hue, "width": 1.6, "dash": "dot"})
    figure.update_layout(barmode="overlay", bargap=0, hovermode="closest")
    return figure


def _overfitting(results: Mapping) -> Section:
    heads = ["On", "Probability of overfitting", "of a loss", "Slope"]
    rows = [
        row(
            [
                escape(name),
                percent(found["pbo"]),
                percent(found["probability_of_loss"]),
                fixed(found["degradation"], 2),
            ]
        )
        for name, world in results["worlds"].items()
        for found in (world["overfitting"],)
    ]
    remark = note(
        [
            "Over all ways to set one half of 16 blocks of days against the other: how often the best of one half "
            "was below the median in the other, and how often it lost there. Slope: of its Sharpe ratio in the "
            "other half by that in the one. Single series of noise are far from 50 % by chance."
        ]
    )
    return section("Overfitting", table(heads, rows) + remark + verdict(results["verdicts"]["Overfitting"]))


def _fitting(results: Mapping) -> Section:
    heads = ["On", '<th scope="col" class="text">What fitted best</th>', "Sharpe, fitted", "Next days", "Unseen"]
    rows = [
        row(
            [
                escape(name),
                f'<td class="text">{escape(found["model"])}</td>',
                *(fixed(found[span], 2) for span in ("fitted", "chosen", "unseen")),
            ]
        )
        for name, world in results["worlds"].items()
        for found in (world["best"]["fitted"],)
    ]
    return section("Fitting", table(heads, rows) + verdict(results["verdicts"]["Fitting"]))
