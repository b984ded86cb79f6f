"""The page of ``hissbt analyze`` for a HiSS bundle: contribution, spectrum, horizons and memory of each level."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hissbt.atomic import atomic_file
from hissbt.reports.page.document import Section, document, section
from hissbt.reports.page.markup import chart, note, pair, row, table
from hissbt.reports.page.panels import AMBER, BLUE, GRAY, GREEN, RED, VIOLET, panels
from hissbt.reports.page.text import NOTHING, escape, fixed, percent, spread
from hissbt.research.hvae_report.page import background, tiles, verdict
from hissbt.research.level_report.ablation import LOSSES, level_name
from hissbt.research.level_report.memory import REST
from hissbt.research.level_report.verdicts import KNOWN
from hissbt.timeframe import parse_timeframe

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_HUES = (BLUE, GREEN, VIOLET, AMBER, RED)
_CURVE_POINTS = 160
_LEAST_SHOWN = 1e-4  # of a response, in deviations

CHOICES = (
    "In sample are the bars of the bundle's training span, its held-out part included; out of sample all after "
    "it. The network runs over the bars from the first of them, as a stream does: at a bar nothing later is "
    "known.",
    "Levels are counted from 0, the finest. What a level says is what it holds at a bar: its value for its "
    "newest closed block, before all levels are normalized together and read.",
    "To take a part out is to give the heads its mean over the training span in its place, the network being "
    "otherwise as it was trained, and to level the forecasts to what they are with it on average over that "
    "span: what is missed is how they move. What a level passes on to the one above stays; what it does through "
    "the common normalization goes. The inputs reach the heads by a linear skip too, which is taken out the "
    "same way. A level of which another says the same is not missed: see what becomes of all together.",
    "Squared errors are in parts of the mean squared return, the log score (of a normal distribution) and the "
    "cross-entropy of the direction in nats, volatility by QLIKE of the realized variance. Intervals hold 95 % "
    "and are of blocks of at least two horizons and at least a week; of so many figures a few miss 0 by luck.",
    "Spectra are Welch's, of what each level holds at every bar out of sample, its channels added. A value that "
    "is held is a staircase: about a quarter of the power of a level whose blocks are unrelated is at periods "
    "below two of its blocks.",
    "What a level knows is what ridge regression makes of it: fitted on the training span with outcomes inside "
    "of it, how much it shrinks chosen on its last 30 %, judged out of sample. R² is the share of the squared "
    "error of the training span's mean that it takes away: of the log return, and of the log of the realized "
    "variance, of which a market that is calmer than it was lets a probe take away much by little. The network "
    "has seen the training span, so that a probe may trust it more there than it should.",
    "For the memory all inputs of one bar are moved by one deviation up or down, at random, at places all over "
    "the bars out of sample and at every phase of the coarsest blocks. Shown is how far that moves a level so "
    "many bars later, in parts of the deviation of what it holds.",
)
"""What a reader must know about the analysis, one fact each."""


def write_page(path: str | Path, results: Mapping) -> None:
    """Write the page of ``results``, whole or not at all; the same results give the same bytes."""
    sections = [_levels(results), _contribution(results), _spectrum(results), _horizons(results), _memory(results)]
    with atomic_file(path) as temporary:
        page = document(_title(results), _head(results), [*sections, *_background(results)])
        temporary.write_text(page, encoding="utf-8", newline="\n")


def _title(results: Mapping) -> str:
    return f"The levels of a HiSS network on {results['data']['symbol']}"


def _head(results: Mapping) -> str:
    spans, strides = results["data"]["spans"], results["bundle"]["strides"]
    seen, unseen = spans["in_sample"], spans["out_of_sample"]
    missed = sum(bool(each["worse_without"]) for each in results["levels"])
    shown = {
        "Bars unseen": f"{unseen['bars']:,}",
        "Levels that are missed": f"{missed} of {len(strides)}",
        "Bars forecast": str(results["bundle"]["horizon"]),
        "QLIKE of volatility": fixed(results["ablation"]["whole"]["volatility"], 3),
    }
    return "\n".join(
        [
            f"<h1>{escape(_title(results))}</h1>",
            f'<p class="soft">Trained to {seen["last"][:16]}, judged on {unseen["first"][:16]} to '
            f"{unseen['last'][:16]} (closes, UTC). Levels move every {', '.join(map(str, strides))} bars of "
            f"{results['data']['timeframe']}.</p>",
            verdict(results["verdicts"]["Levels"]),
            tiles(shown),
        ]
    )


def _levels(results: Mapping) -> Section:
    heads = ["", "Moves every", "Worse without it", "Better without it", "Power above two blocks"]
    heads += [f"Knows {words} over" for words in KNOWN.values()] + _kept_heads()
    rows = [
        row(
            [
                level_name(each["level"]),
                _bars(results, each["stride"]),
                _listed(each["worse_without"]),
                _listed(each["better_without"]),
                percent(each["slow_share"]),
                *(_bars(results, each["best_horizon"][target]) for target in KNOWN),
                *(_kept(results, each["memory"][str(rest)]) for rest in REST),
            ]
        )
        for each in results["levels"]
    ]
    remark = note(
        ["What the figures below show; returns and volatility: the horizon of the highest R², a dash for none."]
    )
    return section("Levels", table(heads, rows) + remark)  # its sentence stands at the top of the page


def _listed(losses: list[str]) -> str:
    return ", ".join(LOSSES[loss] for loss in losses) or NOTHING


def _contribution(results: Mapping) -> Section:
    found = results["ablation"]
    heads = ["", *(words.capitalize() for words in LOSSES.values())]
    rows = [row(["whole network", *(fixed(found["whole"][loss], 4) for loss in LOSSES)])]
    rows += [
        row([f"without {name}", *(spread(each[loss]["rise"], each[loss]["interval"], 4, "+") for loss in LOSSES)])
        for name, each in found["rows"].items()
    ]
    remark = note(
        [
            f"Mean losses over {found['scored']:,} bars out of sample, less is better, and their rise without a "
            f"part: above 0 the part is missed. In brackets 95 % intervals, of blocks of {found['block']:,} bars."
        ]
    )
    return section("Contribution", table(heads, rows) + remark + verdict(results["verdicts"]["Contribution"]))


# --- spectrum


def _spectrum(results: Mapping) -> Section:
    found = results["spectrum"]
    edges = [each["nyquist_period"] for each in found.values()]
    bands = [f"{low} – {high} bars" for low, high in pairwise(edges)]
    heads = ["Power at periods of", *bands, f"above {edges[-1]} bars", "Half of it above", "Deviation"]
    rows = [
        row(
            [
                name,
                *map(percent, each["shares"]),
                _bars(results, each["median_period"]),
                fixed(each["deviation"], 3),
            ]
        )
        for name, each in found.items()
    ]
    longest = max(each["longest_period"] for each in found.values())
    remark = note(
        [
            "Equal areas are equal shares. A level can show periods from two of its blocks on: left of its dotted "
            "line is what the hold makes. "
            f"From segments of {longest:,} bars: movements slower than that are hardly seen."
        ]
    )
    drawn = chart("spectrum", _spectrum_chart(results), timed=False)
    return section("Spectrum", drawn + table(heads, rows) + remark + verdict(results["verdicts"]["Spectrum"]))


def _spectrum_chart(results: Mapping) -> Figure:
    figure = panels(["Share of its power an octave, by period"], [300])
    for (name, each), hue in zip(results["spectrum"].items(), _HUES * len(results["spectrum"]), strict=False):
        _add(figure, each["periods"], each["power"], name, hue, "%{y:.1%}")
        figure.add_vline(x=each["nyquist_period"], line={"color": hue, "width": 1, "dash": "dot"})
    figure.update_yaxes(tickformat=".0%", rangemode="tozero")
    return _over_bars(figure, results)


# --- horizons


def _horizons(results: Mapping) -> Section:
    found = results["horizons"]
    content = pair(
        *(
            chart(f"{target}-horizons", _horizons_chart(results, target, words), timed=False)
            for target, words in KNOWN.items()
        )
    )
    for target, words in KNOWN.items():
        each = [line for line in found["found"] if line["target"] == target]
        names = list(each[0]["rows"])
        rows = [
            row(
                [
                    _bars(results, line["horizon"]),
                    *(spread(skill["skill"], skill["interval"]) for skill in line["rows"].values()),
                    fixed(line["apart"], 0),
                ]
            )
            for line in each
        ]
        heads = ["Over the next", *map(escape, names), "Outcomes that share no bar"]
        content += f"<h3>{words.capitalize()}: R² out of sample</h3>" + table(heads, rows)
    left_out = ", ".join(map(str, found["left_out"]))
    remark = note(
        [
            "Above 0 is better than the mean of the training span. Inputs are those of the bar alone, all levels "
            "are together in one regression.",
            f"Too few outcomes that share no bar: {left_out} bars." if left_out else "",
        ]
    )
    return section("Horizons", content + remark + verdict(results["verdicts"]["Horizons"]))


def _horizons_chart(results: Mapping, target: str, words: str) -> Figure:
    figure = panels([f"R² of {words} out of sample, by horizon"], [280])
    lines = [line for line in results["horizons"]["found"] if line["target"] == target]
    levels = len(results["bundle"]["strides"])
    for number, name in enumerate(lines[0]["rows"]):
        skills = [line["rows"][name] for line in lines]
        middle = np.array([skill["skill"] for skill in skills])
        low, high = np.array([skill["interval"] for skill in skills]).T
        _add(
            figure,
            # Beside each other, so that intervals do not hide one another.
            [line["horizon"] * 1.06**number for line in lines],
            middle.tolist(),
            escape(name),
            _HUES[number % len(_HUES)] if number < levels else GRAY,
            "%{y:.3f}",
            mode="lines+markers",
            error_y={
                "type": "data",
                "symmetric": False,
                "array": (high - middle).tolist(),
                "arrayminus": (middle - low).tolist(),
                "thickness": 1,
                "width": 0,
            },
        )
    figure.update_traces(line_dash="dot", selector={"name": "inputs"})
    figure.add_hline(y=0, line={"color": GRAY, "width": 1})
    return _over_bars(figure, results)


# --- memory


def _memory(results: Mapping) -> Section:
    heads = ["", "Moved most by", "After", *_kept_heads()]
    rows = [
        row(
            [
                name,
                f"{fixed(each['largest'], 3)} deviations",
                _bars(results, each["largest_after"]),
                *(_kept(results, each["bars"][str(rest)]) for rest in REST),
            ]
        )
        for name, each in results["memory"].items()
    ]
    remark = note(
        [
            "Means over all phases: a coarse level is not moved before the block of the disturbed bar has closed. "
            "A bar is kept until a level is moved by less than that share of the most that it was moved."
        ]
    )
    drawn = chart("memory", _memory_chart(results), timed=False)
    return section("Memory", drawn + table(heads, rows) + remark + verdict(results["verdicts"]["Memory"]))


def _memory_chart(results: Mapping) -> Figure:
    figure = panels(["Moved by one bar, in deviations, so many bars on"], [300])
    for (name, each), hue in zip(results["memory"].items(), _HUES * len(results["memory"]), strict=False):
        response = np.array(each["response"])
        at = np.unique(np.geomspace(1, len(response), _CURVE_POINTS).astype(int))
        values = np.where(response[at - 1] >= _LEAST_SHOWN, response[at - 1], np.nan)
        _add(figure, at.tolist(), values.tolist(), name, hue, "%{y:.4f}")
    figure.update_yaxes(type="log", tickvals=[10.0**power for power in range(-4, 2)], exponentformat="power")
    return _over_bars(figure, results)


# --- pieces


def _add(figure: Figure, x: list, y: list, name: str, hue: str, shown: str, mode: str = "lines", **more) -> None:
    from plotly.graph_objects import Scatter

    line = {"color": hue, "width": 1.6}
    figure.add_trace(Scatter(x=x, y=y, name=name, mode=mode, line=line, hovertemplate=shown, **more))


def _over_bars(figure: Figure, results: Mapping) -> Figure:
    """Put the figure over a logarithmic axis of bars, marked with the time that they take as well."""
    last = max(max(trace.x) for trace in figure.data)
    marks = [4**power for power in range(int(np.ceil(np.log(last) / np.log(4))) + 1)]
    texts = [f"{mark:,}<br>{_time(results, mark)}" for mark in marks]
    figure.update_xaxes(type="log", tickvals=marks, ticktext=texts, tickangle=0)
    figure.update_layout(margin_b=68, height=figure.layout.height + 16, legend_y=-46 / figure.layout.height)
    return figure


def _bars(results: Mapping, bars: float | None) -> str:
    if bars is None:
        return NOTHING
    shown = fixed(bars, 0)
    return f"{shown} bar{'' if shown == '1' else 's'}, {_time(results, bars)}"


def _kept_heads() -> list[str]:
    return [f"Keeps {100 * rest:.0f} % for" for rest in REST]


def _kept(results: Mapping, bars: int | None) -> str:
    if bars is None:
        return f"over {_bars(results, len(results['memory'][level_name(0)]['response']))}"
    return _bars(results, bars)


def _time(results: Mapping, bars: float) -> str:
    """Return how long so many bars take."""
    length = bars * parse_timeframe(results["data"]["timeframe"])
    for name, unit, least in (("d", pd.Timedelta(days=1), 2), ("h", pd.Timedelta(hours=1), 1)):
        if length >= least * unit:
            return f"{length / unit:,.3g} {name}"
    return f"{length / pd.Timedelta(minutes=1):,.3g} min"


def _background(results: Mapping) -> list[Section]:
    names = {"in_sample": "In sample", "out_of_sample": "Out of sample"}
    rows = [
        row([names[part], span["first"][:16], span["last"][:16], f"{span['bars']:,}"])
        for part, span in results["data"]["spans"].items()
    ]
    facts = {"bundle": results["bundle"], "data": results["data"], "provenance": results["provenance"]}
    return background(table(["Closes", "First", "Last", "Bars"], rows), CHOICES, facts)
