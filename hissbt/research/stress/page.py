"""The page of a stress test: what the scenarios did to the account, beside the path that was real."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hissbt.atomic import atomic_file
from hissbt.reports.page.assumptions import ASSUMPTIONS
from hissbt.reports.page.document import Section, document, section
from hissbt.reports.page.facts import facts_tables
from hissbt.reports.page.markup import chart, note, pair, row, table
from hissbt.reports.page.panels import AMBER, BLUE, RED, milliseconds, panels
from hissbt.reports.page.text import NOTHING, escape, fixed, known, percent, time, words
from hissbt.research.stress.outcomes import LEAK_ERRORS
from hissbt.research.stress.risk import risk

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_FIGURES = {
    "total_return": "Total return, net of costs",
    "max_drawdown": "Max drawdown at closes of bars",
    "cvar": "CVaR 95: mean of the worst 5 % of the bars' returns",
}
_EVENTS = {"guard_in_force": "A guard was in force", "liquidated": "Liquidated"}
_BAND = "rgba(59,130,196,0.18)"  # BLUE, to be laid over itself
_SHOWN = "%{y:.4f}<extra>%{fullData.name}</extra>"

SCENARIO_ASSUMPTIONS = (
    "A scenario goes on from the last real close, at the market's own times. Its fees, spread, impact and margin "
    "are those of a backtest; its funding rates, if any, are the real ones of that time.",
    "The strategy is warm: it saw the real bars before the scenario, and decides first at the last of their "
    "closes.",
    "Latents that are fixed to an anchor were read off its real bars, also where these come after the beginning: "
    "such scenarios imitate what happened then, and forecast nothing.",
    "Errors are Monte-Carlo errors: what other scenarios of the same generator might have shown. That a generator "
    "is wrong about the market is not in them.",
    "Standard errors: of a quantile half of Woodruff's interval of one deviation, of a probability Agresti and "
    "Coull's.",
    "A percentile is the share of scenarios below the real path, of equal ones half.",
    "Drawdown is that of the account at the closes of bars, from its peak, the start included.",
)


def write_page(path: str | Path, results: Mapping) -> None:
    """Write the page of ``results``, whole or not at all; the same results give the same bytes."""
    sections = [outcomes(results), probabilities(results), drift(results), fans(results), histograms(results)]
    levels = [risk(results["risk"])] if "risk" in results else []
    page = document(_title(results), _head(results), [*sections, *levels, *background(results)])
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")


def _title(results: Mapping) -> str:
    return f"{results['strategy']} under stress on {results['symbol']}"


# --- the head


def _head(results: Mapping) -> str:
    since, until = (time(pd.Timestamp(results[end])) for end in ("since", "until"))
    span = (
        f"{results['n']:,} scenarios of each generator, {since} to {until} UTC, {results['bars']:,} bars of "
        f"{results['timeframe']}, seed {results['seed']}{_anchor(results)}"
    )
    return "\n".join(
        [
            f"<h1>{escape(_title(results))}</h1>",
            f'<p class="soft">{escape(span)}</p>',
            f'<p class="verdict">{escape(" ".join(results["verdicts"]))}</p>',
            _notices(results),
            _tiles(results),
        ]
    )


def _anchor(results: Mapping) -> str:
    asked = results.get("asked", {})
    if not asked.get("fix"):
        return ""
    return f"; {' and '.join(asked['fix'])} of the model fixed to {asked['anchor'] or 'the last real bars'}"


def _notices(results: Mapping) -> str:
    found = []
    if results["leak"]:
        found.append("LEAK: the strategy earns on prices that nobody can foretell.")
    for what in results["in_sample"]:
        found.append(f"IN SAMPLE: {what} was trained on bars after the beginning of the scenarios.")
    if results["real"] is None:
        found.append("The real bars end before the scenarios do: there is no real path beside them.")
    items = "".join(f"<li class=bad>{escape(text)}</li>" for text in found)
    return f'<ul class="notices">{items}</ul>' if items else ""


def _tiles(results: Mapping) -> str:
    found = next(iter(results["generators"].values()))
    returns, chances = found["quantiles"]["total_return"], found["probabilities"]
    tiles = {
        "Median return": percent(returns["values"][2], sign=True),
        "Return, worst of twenty": percent(returns["values"][0], sign=True),
        "Drawdown, worst of twenty": percent(-found["quantiles"]["max_drawdown"]["values"][0]),
        "Drawdown above 20 %": _whole(chances["drawdown_over_20"]["value"]),
        "A guard in force": _whole(chances["guard_in_force"]["value"]),
        "Liquidated": _whole(chances["liquidated"]["value"]),
    }
    shown = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in tiles.items())
    return f'<dl class="tiles">{shown}</dl>'


# --- tables


def outcomes(results: Mapping) -> Section:
    """Return the quantiles of each figure, a row a generator, with the real path's percentile among them."""
    parts = []
    for figure, title in _FIGURES.items():
        decimals = 3 if figure == "cvar" else 2  # a bar's returns are small
        rows = [
            _quantile_row(name, found["quantiles"][figure], decimals)
            for name, found in results["generators"].items()
        ]
        heads = ["", "5 %", "25 %", "Median", "75 %", "95 %", "Real path", "Above"]
        parts.append(f"<h3>{escape(title)}</h3>{table(heads, rows)}")
    remark = "± is the Monte-Carlo standard error. Above: the share of the scenarios that the real path is above."
    return section("Outcomes", "".join(parts) + note([remark]))


def _quantile_row(name: str, found: Mapping, decimals: int) -> str:
    values = zip(found["values"], found["errors"], strict=True)
    share = found.get("percentile")
    above = NOTHING if share is None else _share(share, found["percentile_error"])
    cells = [_with_error(*each, decimals) for each in values]
    return row([escape(words(name)), *cells, _percent(found["real"], decimals), above])


def probabilities(results: Mapping) -> Section:
    """Return how often the account fell far, a guard was in force, or it was liquidated."""
    generators = results["generators"]
    events = list(next(iter(generators.values()))["probabilities"])
    rows = []
    for name, found in generators.items():
        chances = (found["probabilities"][event] for event in events)
        shares = [_share(chance["value"], chance["error"]) for chance in chances]
        rows.append(row([escape(words(name)), *shares, f"{found['trades']:.1f}"]))
    if results["real"] is not None:
        happened = next(iter(generators.values()))["probabilities"]
        answers = ["yes" if happened[event]["real"] else "no" for event in events]
        rows.append(row(["real path", *answers, str(results["real"]["trades"])]))
    heads = ["", *map(_event, events), "Trades, mean"]
    guards = "A guard is one of the limits of the strategy or the account, such as the drawdown at which it stops."
    return section("Probabilities", table(heads, rows) + note([guards]))


def _event(name: str) -> str:
    return _EVENTS.get(name) or f"Drawdown above {name.rpartition('_')[2]} %"


def drift(results: Mapping) -> Section:
    """Return the mean returns before and after costs, and what follows from those without drift."""
    rows = [
        row(
            [escape(words(name)), *(_with_error(mean["value"], mean["error"]) for mean in found["means"].values())]
        )
        for name, found in results["generators"].items()
    ]
    remark = [
        "Prices of the generator null have no drift and no memory: nobody earns there, on average, before costs.",
        f"A mean of more than {LEAK_ERRORS} standard errors above 0 is called a leak.",
    ]
    remark = "" if results["leak"] is None else note(remark)
    return section("Mean returns", table(["", "Before costs", "After costs"], rows) + remark)


# --- charts


def fans(results: Mapping) -> Section:
    """Return price and equity of the scenarios over time, as bands around their median."""
    halves = (chart(f"{what}-fan", _fan_chart(results, what)) for what in ("price", "equity"))
    remark = ["Multiples of the start.", "The bands hold 90 % and 50 % of the scenarios at each time."]
    return section("Fans", pair(*halves) + note(remark))


def _fan_chart(results: Mapping, what: str) -> Figure:
    from plotly.graph_objects import Scatter

    found = results["fans"]
    closes = pd.Series(pd.to_datetime(found["times"]))
    x = milliseconds(closes)
    names = list(found["generators"])
    figure = panels([f"{what.capitalize()}, {words(name)}" for name in names], [200] * len(names), closes)

    def add(panel: int, y: list[float], **how) -> None:
        how = {"mode": "lines", "hovertemplate": _SHOWN, "showlegend": False} | how
        figure.add_trace(Scatter(x=x, y=y, **how), row=panel, col=1)

    for panel, name in enumerate(names, start=1):
        low, quarter, middle, upper, high = found["generators"][name][what]
        first = panel == 1
        for below, above, share in ((low, high, "90 %"), (quarter, upper, "50 %")):
            edge = {"width": 0, "color": BLUE}
            add(panel, below, line=edge, hoverinfo="skip", hovertemplate=None)
            add(
                panel,
                above,
                line=edge,
                fill="tonexty",
                fillcolor=_BAND,
                name=share,
                legendgroup=share,
                showlegend=first,
                hoverinfo="skip",
                hovertemplate=None,
            )
        line = {"color": BLUE, "width": 1.4}
        add(panel, middle, line=line, name="Median", legendgroup="median", showlegend=first)
        if "real" in found:
            line = {"color": RED, "width": 1.4}
            real = found["real"][what]
            add(panel, real, line=line, name="Real path", legendgroup="real", showlegend=first)
    # One scale for all, so that they compare; "matches" on the axis that it names leaves that one without a range.
    shown = np.concatenate([np.ravel(trace.y) for trace in figure.data])
    room = 0.05 * np.ptp(shown) or 0.05
    figure.update_yaxes(range=[shown.min() - room, shown.max() + room])
    return figure


def histograms(results: Mapping) -> Section:
    """Return how many scenarios ended with which return, and with which drawdown."""
    boxes = [
        chart(f"{figure.replace('_', '-')}-histogram", _histogram_chart(results, figure), timed=False)
        for figure in results["histograms"]
    ]
    real = " Red: the real path." if results["real"] is not None else ""
    return section("Histograms", pair(*boxes) + note([f"Number of scenarios. Amber: their median.{real}"]))


def _histogram_chart(results: Mapping, figure: str) -> Figure:
    from plotly.graph_objects import Bar

    found = results["histograms"][figure]
    edges = found["edges"]
    centers = [(low + high) / 2 for low, high in pairwise(edges)]
    names = list(found["counts"])
    drawn = panels([f"{words(figure).capitalize()}, {words(name)}" for name in names], [110] * len(names))
    width = edges[1] - edges[0]
    for panel, name in enumerate(names, start=1):
        bars = Bar(
            x=centers,
            y=found["counts"][name],
            width=width,
            marker={"color": BLUE, "line": {"width": 0}},
            hovertemplate="%{x:.2%}: %{y}<extra></extra>",
        )
        drawn.add_trace(bars, row=panel, col=1)
        _mark(drawn, panel, results["generators"][name]["quantiles"][figure]["values"][2], AMBER)
        if results["real"] is not None:
            _mark(drawn, panel, results["real"][figure], RED)
    drawn.update_layout(showlegend=False, hovermode="closest", bargap=0)
    drawn.update_xaxes(tickformat=".1%", showgrid=False)
    return drawn


def _mark(figure: Figure, panel: int, x: float, hue: str) -> None:
    figure.add_vline(x=x, row=panel, col=1, line={"color": hue, "width": 1.6, "dash": "dot"})


# --- what it rests on


def background(results: Mapping) -> Iterable[Section]:
    """Return what was taken for granted, and what the page was made from."""
    items = "".join(f"<li>{escape(text)}</li>" for text in (*SCENARIO_ASSUMPTIONS, *ASSUMPTIONS))
    facts = {name: results[name] for name in ("since", "until", "n", "bars", "warmup")} | results.get("asked", {})
    groups = "".join(
        f"<div><h3>{escape(name)}</h3>{content}</div>"
        for name, content in facts_tables(facts | {"seconds": results["seconds"]} | results["provenance"])
    )
    return (
        section("Assumptions", f'<ol class="assumptions">{items}</ol>'),
        section("Provenance", f'<div class="groups">{groups}</div>'),
    )


# --- figures


def _with_error(value: float, error: float, decimals: int = 2) -> str:
    shown = _percent(value, decimals)
    return f"{shown} ± {_percent(error, decimals)}" if known(error) else shown


def _percent(value: float | None, decimals: int) -> str:
    return f"{fixed(100 * value, decimals)}%" if known(value) else NOTHING


def _share(value: float, error: float) -> str:
    return f"{_whole(value)} ± {_whole(error)}"


def _whole(share: float) -> str:
    return f"{share:.1%}"
