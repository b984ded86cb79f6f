"""The page of the comparison: densities, levels, made-up returns, and under each what it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hissbt.atomic import atomic_file
from hissbt.reports.page.document import Section, document, section
from hissbt.reports.page.facts import facts_tables
from hissbt.reports.page.markup import chart, note, pair, row, table
from hissbt.reports.page.panels import AMBER, BLUE, GRAY, GREEN, RED, VIOLET, panels
from hissbt.reports.page.text import escape, fixed, percent, spread, words
from hissbt.research.hvae_report.protocol import CHOICES, KINDS, SETS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TITLE = "A hierarchical VAE beside a flat one and the cheap models"
_HUES = {"hvae": BLUE, "flat": RED, "bootstrap": AMBER, "garch": GREEN, "markov": VIOLET, "real": GRAY}


def write_page(path: str | Path, results: Mapping) -> None:
    """Write the page of ``results``, whole or not at all; the same results give the same bytes."""
    sections = [*_densities(results), _levels(results), _generated(results), _runs(results), *_background(results)]
    with atomic_file(path) as temporary:
        temporary.write_text(document(TITLE, _head(results), sections), encoding="utf-8", newline="\n")


def verdict(text: str) -> str:
    """Return a sentence on what the figures above it show."""
    return f'<p class="verdict">{escape(text)}</p>'


def tiles(shown: Mapping[str, str]) -> str:
    """Return the few figures that stand at the top of a page."""
    cells = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in shown.items())
    return f'<dl class="tiles">{cells}</dl>'


def warning(text: str) -> str:
    """Return a notice that must not be passed over."""
    return f'<ul class="notices"><li class=bad>{escape(text)}</li></ul>'


def _head(results: Mapping) -> str:
    data, seeds = results["data"], results["protocol"]["seeds"]
    test = data["spans"]["test"]
    gaps = {name: results["bounds"][name]["differences"]["hvae less flat"] for name in SETS}
    shown = {f"Hierarchy ahead, {name}": f"{gap['won']} of {len(seeds)} seeds" for name, gap in gaps.items()}
    shown |= {
        "Test windows": f"{data['windows']} of {data['strides'][-1]} bars",
        "Minutes": fixed(results["seconds"] / 60, 1),
    }
    short = (
        "This was a short run: few seeds, or networks too small or trained too briefly. Its figures show what the "
        "page looks like and nothing else."
    )
    return "\n".join(
        [
            f"<h1>{TITLE}</h1>",
            f'<p class="soft">{escape(data["symbol"])}, judged on {test["first"][:10]} to {test["last"][:10]} '
            f"(closes, UTC), {len(seeds)} seeds. Levels span {', '.join(map(str, data['strides']))} bars.</p>",
            verdict(results["verdicts"]["Density of returns"]),
            warning(short) if results["short"] else "",
            tiles(shown),
        ]
    )


# --- densities


def _densities(results: Mapping) -> list[Section]:
    return [_density(results, name) for name in SETS]


def _density(results: Mapping, name: str) -> Section:
    found = results["bounds"][name]
    rows = [
        row([escape(model), spread(each["mean"], each["interval"], 4), _seeds(each["seeds"], 4)])
        for model, each in found["rows"].items()
    ]
    gaps = [
        row([escape(pair), spread(gap["difference"], gap["interval"], 4, "+"), _seeds(gap["seeds"], 4, "+")])
        for pair, gap in found["differences"].items()
    ]
    remark = note(
        [
            "Nats a value, more is better: of the networks a lower bound, of the others the log density itself."
            if name == "returns"
            else f"Nats a value of the {len(results['data']['candles'])} of a bar, more is better: lower bounds, "
            "which compare with each other only.",
            "In brackets the 95 % interval over the test windows, of the mean over the seeds; it knows of the "
            "uncertainty of the test span only.",
        ]
    )
    heads = ["", "Mean", "Seeds from – to"]
    tables = pair(table(heads, rows), table(heads, gaps))
    drawn = chart(f"{name}-density", _density_chart(found["rows"]), timed=False)
    heading = f"Density of {name}"
    return section(heading, tables + drawn + remark + verdict(results["verdicts"][heading]))


def _seeds(values: Sequence[float], decimals: int, sign: str = "") -> str:
    if len(values) == 1:
        return ""
    return f"{fixed(min(values), decimals, sign)} – {fixed(max(values), decimals, sign)}"


def _density_chart(rows: Mapping) -> Figure:
    from plotly.graph_objects import Scatter

    figure = panels(["Nats a value: each seed, and the mean with its interval"], [320])
    for name, found in rows.items():
        low, high = found["interval"]
        hue = _HUES.get(name, GREEN)
        ends = {"type": "data", "array": [high - found["mean"]], "arrayminus": [found["mean"] - low]}
        figure.add_trace(
            Scatter(
                x=[escape(name)],
                y=[found["mean"]],
                error_y=ends | {"symmetric": False},
                mode="markers",
                marker={"color": hue, "size": 10, "symbol": "line-ew", "line": {"width": 3, "color": hue}},
                hovertemplate="%{y:.4f}<extra>mean</extra>",
            )
        )
        if len(found["seeds"]) > 1:
            figure.add_trace(
                Scatter(
                    x=[escape(name)] * len(found["seeds"]),
                    y=found["seeds"],
                    mode="markers",
                    marker={"color": hue, "size": 7, "opacity": 0.45},
                    hovertemplate="%{y:.4f}<extra></extra>",
                )
            )
    figure.update_layout(showlegend=False, hovermode="closest")
    figure.update_xaxes(automargin=True, showgrid=False)
    return figure


# --- levels


def _levels(results: Mapping) -> Section:
    heads = ["", "Bars", "Latents", "KL a latent vector", "KL a bar", "Active units", "Collapsed"]
    rows = []
    for name in SETS:
        for kind in KINDS:
            for level in results["levels"][name][kind]:
                active = level["active_units"]
                units = "its one level" if kind == "flat" else f"level {level['level']}"
                rows.append(
                    row(
                        [
                            f"{kind} on {name}, {units}",
                            str(level["stride"]),
                            str(level["units"]),
                            fixed(level["kl_a_latent"], 3),
                            fixed(level["kl_a_bar"], 4),
                            f"{min(active)} – {max(active)}",
                            f"{level['collapsed']} of {len(active)} seeds",
                        ]
                    )
                )
    remark = note(
        [
            "Mean KL of posterior from prior over the test windows in nats, before any free bits, mean over the "
            "seeds. Active are units with more than 0.1 nat."
        ]
    )
    return section("Levels", table(heads, rows) + remark + verdict(results["verdicts"]["Levels"]))


# --- made-up returns

_Score = Callable[[Mapping], float]
_DISTANCES: dict[str, _Score] = {
    "W1, 1 bar": lambda found: found["distance"].get("1"),
    "4 bars": lambda found: found["distance"].get("4"),
    "16 bars": lambda found: found["distance"].get("16"),
    "64 bars": lambda found: found["distance"].get("64"),
    "ACF of |r|": lambda found: found["absolute_distance"],
    "Leverage": lambda found: found["leverage_distance"],
    "Drawdown": lambda found: found["drawdown_distance"],
    "Discriminative": lambda found: found["discriminative"]["score"],
    "Predictive": lambda found: found["predictive"],
}
_SHAPES: dict[str, _Score] = {
    "Mean, bp": lambda found: 1e4 * found["moments"]["mean"],
    "Deviation, %": lambda found: 1e2 * found["moments"]["deviation"],
    "Skew": lambda found: found["moments"]["skew"],
    "Kurtosis, 1 bar": lambda found: found["kurtosis"].get("1"),
    "4 bars": lambda found: found["kurtosis"].get("4"),
    "16 bars": lambda found: found["kurtosis"].get("16"),
    "64 bars": lambda found: found["kurtosis"].get("64"),
    "Hill index": lambda found: found["hill"],
    "Drawdown, median, %": lambda found: 1e2 * found["drawdown"]["50%"],
    "Drawdown, worst 5 %": lambda found: 1e2 * found["drawdown"]["5%"],
}


def _generated(results: Mapping) -> Section:
    found = results["generated"]
    everything = {"real, test span": [found["real"]]} | dict(found["generators"])
    distances = [
        row(
            [
                escape(name),
                *(_mean_of(seeds, score, 2 if "bar" in key else 3) for key, score in _DISTANCES.items()),
            ]
        )
        for name, seeds in found["generators"].items()
    ]
    shapes = [
        row([escape(name), *(_mean_of(seeds, score, 2) for score in _SHAPES.values())])
        for name, seeds in everything.items()
    ]
    remarks = note(
        [
            "Distances from the real test windows, less is better; in the last two columns by judges. W1: "
            "Wasserstein distance of returns over so many bars, 1 is what real windows have to real ones. ACF and "
            "leverage: mean absolute difference over the lags. Drawdown: Wasserstein distance of the windows' "
            "drawdowns. Discriminative: |accuracy − ½| of trees, 0 is best, 0.5 worst. Predictive: error in "
            "deviations of trees that learned |r| on what is made up and forecast the real test windows; those "
            "that learned on real bars are in the last row.",
            "Of networks the mean over the seeds, in brackets from – to.",
        ]
    )
    content = table(["", *_DISTANCES], distances) + remarks + verdict(results["verdicts"]["Made-up returns"])
    content += "<h3>Shape of the distributions</h3>" + table(["", *_SHAPES], shapes)
    content += note(["Kurtosis is in excess of the normal distribution's; in markets it falls with the bars."])
    content += "<h3>By what the window did</h3>" + _regimes(everything)
    charts = [
        chart(f"{name}-memory", _memory(everything, key, title), timed=False)
        for name, key, title in (
            ("absolute", "absolute_correlations", "Autocorrelation of |r| by lag in bars"),
            ("leverage", "leverage", "Correlation of r with r² so many bars later"),
        )
    ]
    return section("Made-up returns", content + pair(*charts))


def _mean_of(seeds: Sequence[Mapping], score: _Score, decimals: int) -> str:
    values = [score(seed) for seed in seeds]
    if values[0] is None or len(values) == 1:
        return fixed(values[0], decimals)
    low, high = fixed(min(values), decimals), fixed(max(values), decimals)
    return f"{fixed(float(np.mean(values)), decimals)} [{low} – {high}]"


def _regimes(everything: Mapping) -> str:
    figures = {
        "share": lambda value: percent(value),
        "mean": lambda value: fixed(1e4 * value, 2),
        "deviation": lambda value: fixed(1e2 * value, 3),
        "skew": lambda value: fixed(value, 2),
        "kurtosis": lambda value: fixed(value, 1),
    }
    names = {
        "share": "share",
        "mean": "mean, bp",
        "deviation": "deviation, %",
        "skew": "skew",
        "kurtosis": "kurt.",
    }
    heads = ["", *(f"{kind}: {names[key]}" for kind in ("bull", "sideways", "bear") for key in figures)]
    rows = []
    for name, seeds in everything.items():
        cells = []
        for kind in ("bull", "sideways", "bear"):
            for key, show in figures.items():
                values = [seed["regimes"][kind][key] for seed in seeds if key in seed["regimes"][kind]]
                cells.append(show(float(np.mean(values))) if values else "–")
        rows.append(row([escape(name), *cells]))
    remark = note(
        [
            "Bull and bear are windows whose return is more than half a deviation of the training returns, times "
            "the root of the bars, above or below 0. Moments are those of the bars in them."
        ]
    )
    return table(heads, rows) + remark


def _memory(everything: Mapping, key: str, title: str) -> Figure:
    from plotly.graph_objects import Scatter

    figure = panels([title], [300])
    for name, seeds in everything.items():
        values = np.mean([seed[key] for seed in seeds], axis=0)
        kind, _, rest = name.partition(", ")
        real = kind == "real"
        figure.add_trace(
            Scatter(
                x=list(range(1, len(values) + 1)),
                y=values.tolist(),
                name=escape(name),
                mode="lines",
                line={
                    "color": _HUES[kind],
                    "width": 2.4 if real else 1.3,
                    "dash": "dot" if rest in ("candles", "training span") else "solid",
                },
                hovertemplate="%{y:.3f}",
            )
        )
    return figure


# --- what it rests on


def _runs(results: Mapping) -> Section:
    rows = [
        row(
            [
                f"{run['kind']} on {run['set']}, seed {run['seed']}",
                fixed(run["rate"], 4),
                f"{run['parameters']:,}",
                fixed(run["validation"], 4),
                fixed(run["seconds"], 0),
            ]
        )
        for run in results["training"]
    ]
    tuned = [
        row([f"{run['kind']} on {run['set']}", fixed(run["rate"], 4), fixed(run["validation"], 4)])
        for run in results["rates"]
    ]
    return section(
        "Runs",
        pair(
            table(["", "Rate", "Parameters", "Validation bound", "Seconds"], rows, "trades"),
            "<h3>The rates tried, with a seed of their own</h3>" + table(["", "Rate", "Validation bound"], tuned),
        ),
    )


def _background(results: Mapping) -> list[Section]:
    rows = [
        row([words(name).capitalize(), span["first"][:16], span["last"][:16], f"{span['bars']:,}"])
        for name, span in results["data"]["spans"].items()
    ]
    facts = {"protocol": results["protocol"], "data": results["data"], "provenance": results["provenance"]}
    return background(table(["Closes", "First", "Last", "Bars"], rows), CHOICES, facts)


def background(spans: str, choices: Sequence[str], facts: Mapping[str, Mapping]) -> list[Section]:
    """Return what a page rests on: a table of spans (HTML), the choices made, and where the figures are from."""
    items = "".join(f"<li>{escape(text)}</li>" for text in choices)
    groups = "".join(
        f"<div><h3>{escape(name)}</h3>{content}</div>"
        for part in facts.values()
        for name, content in facts_tables(part)
    )
    return [
        section("What we took", f'{spans}<ol class="assumptions">{items}</ol>'),
        section("Provenance", f'<div class="groups">{groups}</div>'),
    ]
