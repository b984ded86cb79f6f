"""The page of the comparison on three time scales: who wins and by how much, and how near the floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hissbt.atomic import atomic_file
from hissbt.reports.page.document import Section, document, section
from hissbt.reports.page.markup import chart, note, pair, row, table
from hissbt.reports.page.panels import BLUE, GRAY, GREEN, RED, panels
from hissbt.reports.page.text import escape, fixed, percent, spread
from hissbt.research.hvae_report.page import background, tiles, verdict, warning
from hissbt.research.three_scales.protocol import CHOICES, HISS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TITLE = "A hierarchy beside flat networks, on three time scales"


def write_page(path: str | Path, results: Mapping) -> None:
    """Write the page of ``results``, whole or not at all; the same results give the same bytes."""
    sections = [
        _differences(results),
        _errors(results),
        _learned(results),
        _system(results),
        _runs(results),
        *_background(results),
    ]
    with atomic_file(path) as temporary:
        temporary.write_text(document(TITLE, _head(results), sections), encoding="utf-8", newline="\n")


def _head(results: Mapping) -> str:
    system, scores, gaps = results["system"], results["scores"], results["differences"]
    seeds = len(results["protocol"]["seeds"])
    shown = {
        f"{HISS}, of what can be known": percent(scores[HISS]["share"]),
        "Rivals it wins against": f"{sum(gap['interval'][0] > 0 for gap in gaps.values())} of {len(gaps)}",
        "Rivals it loses to": f"{sum(gap['interval'][1] < 0 for gap in gaps.values())} of {len(gaps)}",
        "Minutes": fixed(results["seconds"] / 60, 1),
    }
    short = (
        "This was a short run: few seeds, or networks trained too briefly. Its figures show what the page looks "
        "like and nothing else."
    )
    lengths = ", ".join(str(bars) for bars in system["scales"].values())
    return "\n".join(
        [
            f"<h1>{TITLE}</h1>",
            f'<p class="soft">A simulated system with memories of {lengths} bars; {len(scores)} networks of one '
            f"size, {seeds} seeds of series and network.</p>",
            warning(short) if results["short"] else "",
            tiles(shown),
        ]
    )


def _differences(results: Mapping) -> Section:
    heading = "Hierarchy against flat"
    rows = [
        row(
            [
                escape(name),
                spread(gap["difference"], gap["interval"], 4, "+"),
                percent(gap["relative"], sign=True),
                percent(gap["relative_excess"], sign=True),
                f"{gap['won']} of {len(gap['seeds'])}",
                *(fixed(value, 4, "+") for value in gap["seeds"]),
            ]
        )
        for name, gap in results["differences"].items()
    ]
    seeds = [f"Seed {seed}" for seed in results["protocol"]["seeds"]]
    heads = [f"MSE less that of {HISS}", "Mean", "Of its MSE", "Of its MSE above the floor", f"{HISS} won"]
    remark = note(
        [
            f"Above 0 the rival's error is larger and {HISS} is better. In brackets Student's 95 % interval over "
            "the seeds; a difference is shown where it leaves out 0."
        ]
    )
    return section(heading, table([*heads, *seeds], rows) + remark + verdict(results["verdicts"][heading]))


def _errors(results: Mapping) -> Section:
    floor = results["system"]["floors"]
    total = results["system"]["explained"]
    best = floor["best of all, all bars"]
    networks = [
        row(
            [
                escape(name),
                f"{fixed(found['mse'], 4)} {_seeds(found['mse_seeds'], 4)}",
                fixed(best + found["excess"], 4),
                percent(found["share"]),
                f"{found['parameters']:,}",
                fixed(found["rate"], 4),
                fixed(found["seconds"], 0),
            ]
        )
        for name, found in results["scores"].items()
    ]
    floors = [
        row([escape(name.capitalize()), "", fixed(mse, 4), percent(1 - (mse - best) / total), "", "", ""])
        for name, mse in floor.items()
    ]
    remark = note(
        [
            "MSE on the test rows, mean over the seeds, in brackets from – to. Without luck: the noise floor and"
            " the mean squared distance from the best forecast that there is. Known: share of the variance that "
            "can be known at all which is explained. Below the networks what is so by construction."
        ]
    )
    heads = ["", "MSE", "MSE without luck", "Known", "Parameters", "Rate", "Seconds a fit"]
    drawn = chart("errors", _chart(results), timed=False)
    return section(
        "Errors", table(heads, networks + floors) + drawn + remark + verdict(results["verdicts"]["Errors"])
    )


def _seeds(values: Sequence[float], decimals: int) -> str:
    return f"[{fixed(min(values), decimals)} – {fixed(max(values), decimals)}]"


def _chart(results: Mapping) -> Figure:
    from plotly.graph_objects import Scatter

    figure = panels(["Share of what can be known that each network explains: each seed, and the mean"], [320])
    for name, found in results["scores"].items():
        hue = BLUE if name == HISS else RED
        figure.add_trace(
            Scatter(
                x=[escape(name)] * len(found["share_seeds"]),
                y=found["share_seeds"],
                mode="markers",
                marker={"color": hue, "size": 7, "opacity": 0.5},
                hovertemplate="%{y:.1%}<extra></extra>",
            )
        )
        figure.add_trace(
            Scatter(
                x=[escape(name)],
                y=[found["share"]],
                mode="markers",
                marker={"color": hue, "size": 14, "symbol": "line-ew", "line": {"width": 3, "color": hue}},
                hovertemplate="%{y:.1%}<extra>mean</extra>",
            )
        )
    system = results["system"]
    best, total = system["floors"]["best of all, all bars"], system["explained"]
    for name, hue in ((f"best of all, {system['window']} bars", GREEN), ("best linear, all bars", GRAY)):
        share = 1 - (system["floors"][name] - best) / total
        figure.add_hline(y=share, line={"color": hue, "width": 1.2, "dash": "dot"}, annotation_text=escape(name))
    figure.update_layout(showlegend=False, hovermode="closest")
    figure.update_xaxes(automargin=True, showgrid=False)
    figure.update_yaxes(tickformat=".0%")
    return figure


def _learned(results: Mapping) -> Section:
    heading, scores = "What each learned", results["scores"]
    terms = list(scores[HISS]["learned"])
    rows = [
        row([escape(name), *(fixed(found["learned"][term], 2) for term in terms)])
        for name, found in scores.items()
    ]
    remark = note(
        [
            "How much of each term of the label is in the forecast: coefficients of the forecasts of the test "
            "rows in a regression on what can be known of the terms, mean over the seeds. 1 is all of it, 0 "
            "nothing."
        ]
    )
    return section(
        heading, table(["", *map(escape, terms)], rows) + remark + verdict(results["verdicts"][heading])
    )


def _system(results: Mapping) -> Section:
    heading, system = "The system", results["system"]
    rows = [
        row(
            [
                escape(term["term"]),
                fixed(term["variance"], 3),
                fixed(term["explained"], 3),
                fixed(term["explained_by_window"], 3),
            ]
        )
        for term in system["terms"]
    ]
    rows.append(row(["noise", fixed(system["label_noise"], 3), fixed(0, 3), fixed(0, 3)]))
    heads = ["Term of the label", "Variance", "Known from all bars", f"From {system['window']} bars"]
    scales = [row([escape(name), str(bars)]) for name, bars in system["scales"].items()]
    remark = note(
        [
            "Each state is s(t) = a s(t−1) + √(1 − a²) u(t) with a = exp(−1/τ) and u white; products are of "
            "normalized Hermite polynomials. Seen are rotated sums of the inputs u, with noise of variance "
            f"{fixed(system['input_noise'], 2)} beside the 1 of each. All figures of this table follow from that."
        ]
    )
    tables = pair(table(heads, rows), table(["State", "Memory τ, bars"], scales))
    return section(heading, tables + remark + verdict(results["verdicts"][heading]))


def _runs(results: Mapping) -> Section:
    runs = [
        row(
            [
                f"{escape(run['network'])}, seed {run['seed']}",
                fixed(run["rate"], 4),
                fixed(run["validation"], 4),
                fixed(run["mse"], 4),
                fixed(run["cpu_seconds"], 0),
            ]
        )
        for run in results["training"]
    ]
    tuned = [
        row([escape(run["network"]), fixed(run["rate"], 4), fixed(run["validation"], 4)])
        for run in results["rates"]
    ]
    return section(
        "Runs",
        pair(
            table(["", "Rate", "Validation MSE", "Test MSE", "CPU seconds"], runs, "trades"),
            "<h3>The rates tried, on a series of their own</h3>" + table(["", "Rate", "Validation MSE"], tuned),
        ),
    )


def _background(results: Mapping) -> list[Section]:
    protocol = results["protocol"]
    parts = {name: protocol[name] for name in ("train", "validation", "test")}
    rows = [row([name.capitalize(), f"{bars:,}"]) for name, bars in parts.items()]
    bars = sum(parts.values()) + len(parts) * protocol["apart"]
    choices = [text.format(**parts, apart=protocol["apart"], bars=bars) for text in CHOICES]
    data = {f"seed {run['seed']}": run["data_sha256"] for run in results["training"]}
    facts = {"protocol": protocol, "data": {"sha256": data}, "provenance": results["provenance"]}
    return background(table(["Rows", "Bars"], rows), choices, facts)
