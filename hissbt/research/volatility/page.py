"""The page of the comparison: scores, by symbol, over time, and under each what it shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from hissbt.atomic import atomic_file
from hissbt.reports.page.document import Section, document, section
from hissbt.reports.page.markup import chart, note, row, table
from hissbt.reports.page.panels import AMBER, BLUE, GRAY, GREEN, RED, VIOLET, add_line, panels
from hissbt.reports.page.text import escape, fixed, percent, spread
from hissbt.research.hvae_report.page import background, tiles, verdict, warning
from hissbt.research.volatility.protocol import CHOICES, HAR, HAR_SEASON, HISS, RIDGE
from hissbt.research.volatility.verdicts import CLASSIC, FAIR, SCORES

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TITLE = "The volatility of the next day"
_HUES = {HISS: BLUE, "network": VIOLET, "linear": GREEN, "econometric": GRAY}
_SHORT = (
    "This was a short run: few seeds, or networks too small or trained too briefly. Its figures show what the "
    "page looks like and nothing else."
)


def write_page(path: str | Path, results: Mapping) -> None:
    """Write the page of ``results``, whole or not at all; the same results give the same bytes."""
    sections = [
        _scores(results),
        _against(results),
        _fair(results),
        _symbols(results),
        _time(results),
        _runs(results),
        *_background(results),
    ]
    with atomic_file(path) as temporary:
        temporary.write_text(document(TITLE, _head(results), sections), encoding="utf-8", newline="\n")


def _head(results: Mapping) -> str:
    data, rows = results["data"], {row["name"]: row for row in results["rows"]}
    best = results["rows"][0]
    shown = {
        "QLIKE of HiSS": fixed(rows[HISS]["qlike"]["mean"], 4),
        "against HAR": percent(rows[HAR]["against"]["qlike"]["relative"], sign=True),
        "with season": percent(rows[HAR_SEASON]["against"]["qlike"]["relative"], sign=True),
        "against ridge": percent(rows[RIDGE]["against"]["qlike"]["relative"], sign=True),
        "Smallest": f"{best['name']}, {fixed(best['qlike']['mean'], 4)}",
    }
    return "\n".join(
        [
            f"<h1>{TITLE}</h1>",
            f'<p class="soft">{escape(" and ".join(data["judged"]))}, judged at {data["n"]:,} closes from '
            f"{data['first'][:10]} to {data['last'][:10]} (UTC), {len(data['folds'])} fits on the way, "
            f"{len(results['protocol']['seeds'])} seeds of each network.</p>",
            verdict(results["verdicts"][CLASSIC]),
            warning(_SHORT) if results["short"] else "",
            tiles(shown),
        ]
    )


def _scores(results: Mapping) -> Section:
    rows = [
        row(
            [
                _name(found),
                spread(found["qlike"]["mean"], found["qlike"]["interval"], 4),
                _seeds(found["qlike"]["seeds"]),
                spread(found["log_mse"]["mean"], found["log_mse"]["interval"], 4),
                "yes" if found["in_set"] else "no",
            ]
        )
        for found in results["rows"]
    ]
    remark = note(
        [
            "Less is better. Means over the judged symbols; in brackets 95 % intervals. Differences from "
            "HiSS, below, are surer than these, as the same days are hard for all. "
            f"Independent are about {fixed(results['data']['disjoint'], 0)} of the {results['data']['n']:,} "
            "labels. Seeds alone: from the best to the worst; the forecast that is scored is their mean. The "
            "chart has the difference as a share of the rival's QLIKE, with its interval."
        ]
    )
    heads = ["", "QLIKE", "Seeds alone", "Log-MSE", "In the confidence set"]
    drawn = chart("scores", _scores_chart(results["rows"]), timed=False)
    return section(SCORES, table(heads, rows) + drawn + remark + verdict(results["verdicts"][SCORES]))


def _name(found: Mapping) -> str:
    return f"<strong>{HISS}</strong>" if found["name"] == HISS else escape(found["name"])


def _seeds(values: list[float]) -> str:
    return f"{fixed(min(values), 4)} – {fixed(max(values), 4)}" if len(values) > 1 else ""


def _scores_chart(rows: list[Mapping]) -> Figure:
    from plotly.graph_objects import Scatter

    figure = panels(["QLIKE of HiSS under that of"], [26 * len(rows)])
    for found in reversed([one for one in rows if "against" in one]):
        gap = found["against"]["qlike"]
        low, high = gap["interval"]
        hue = _HUES[found["family"]]
        figure.add_trace(
            Scatter(
                x=[-100 * gap["relative"]],
                y=[escape(found["name"])],
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [100 * (gap["relative"] - low)],
                    "arrayminus": [100 * (high - gap["relative"])],
                },
                mode="markers",
                marker={"color": hue, "size": 9},
                hovertemplate="HiSS is %{x:.1f} % under<extra></extra>",
            )
        )
    figure.update_layout(showlegend=False, hovermode="closest")
    figure.update_xaxes(ticksuffix=" %", zeroline=True, zerolinecolor=GRAY)
    figure.update_yaxes(showgrid=False, nticks=len(rows) + 1)
    return figure


def _against(results: Mapping) -> Section:
    rows = []
    for found in results["rows"]:
        if "against" not in found:
            continue
        gap, other = found["against"]["qlike"], found["against"]["log_mse"]
        rows.append(
            row(
                [
                    _name(found),
                    _share(gap),
                    fixed(gap["statistic"], 2, "+"),
                    fixed(gap["pvalue"], 4),
                    _share(other),
                    fixed(other["statistic"], 2, "+"),
                ]
            )
        )
    heads = ["HiSS against", "QLIKE", "DM", "p", "Log-MSE", "DM"]
    remark = note(
        [
            "By how much HiSS's loss is below (−) or above (+) the rival's, as a share of it, with 95 % "
            "intervals; DM is Diebold and Mariano's statistic, below 0 where HiSS is better, and p its "
            "two-sided p-value."
        ]
    )
    return section(CLASSIC, table(heads, rows) + remark + verdict(results["verdicts"][CLASSIC]))


def _share(gap: Mapping) -> str:
    low, high = (percent(end, sign=True) for end in gap["interval"])
    return f"{percent(gap['relative'], sign=True)} [{low}, {high}]"


def _fair(results: Mapping) -> Section:
    rows = [
        row([_name(found), f"{found['parameters']:,}", fixed(found["fit_seconds"], 1), found["family"]])
        for found in results["rows"]
    ]
    heads = ["", "Parameters", "Seconds a fit", "Family"]
    return section(FAIR, table(heads, rows) + verdict(results["verdicts"][FAIR]))


def _symbols(results: Mapping) -> Section:
    judged = results["data"]["judged"]
    rows = [
        row(
            [
                _name(found),
                *(
                    fixed(found[key]["symbols"][at], 4)
                    for at in range(len(judged))
                    for key in ("qlike", "log_mse")
                ),
            ]
        )
        for found in results["rows"]
    ]
    heads = ["", *(f"{escape(symbol)}: {loss}" for symbol in judged for loss in ("QLIKE", "log-MSE"))]
    return section("By symbol", table(heads, rows))


def _time(results: Mapping) -> Section:
    over = results["over_time"]
    closes = pd.Series(pd.to_datetime(over["closes"]))
    figure = panels(
        ["Lead of HiSS: summed QLIKE", "Volatility of a day, %"],
        [280, 260],
        closes,
    )
    hues = (RED, AMBER, GREEN)
    for (name, values), hue in zip(over["lead"].items(), hues, strict=True):
        add_line(figure, 1, closes, pd.Series(values), f"against {name}", hue, shown="%{y:,.1f}")
    for (name, values), hue in zip(over["volatility"].items(), (GRAY, BLUE), strict=True):
        add_line(figure, 2, closes, pd.Series(values), name, hue, shown="%{y:.2f}")
    remark = note(
        [
            "Days of UTC. The lead grows where HiSS's QLIKE is below the rival's. Below: "
            f"{results['data']['judged'][0]}, what came and what HiSS had said."
        ]
    )
    return section("Over time", chart("time", figure) + remark)


def _runs(results: Mapping) -> Section:
    rows = [
        row([fold["first"][:16], fold["last"][:16], *(f"{count:,}" for count in fold["train"])])
        for fold in results["data"]["folds"]
    ]
    heads = [
        "First test close",
        "Last",
        *(f"Rows learned from, {escape(name)}" for name in results["data"]["symbols"]),
    ]
    return section("Refits", table(heads, rows))


def _background(results: Mapping) -> list[Section]:
    rows = [
        row([escape(name), span["first"][:16], span["last"][:16], f"{span['bars']:,}"])
        for name, span in results["data"]["spans"].items()
    ]
    facts = {
        "protocol": results["protocol"],
        "data": results["data"]["sources"],
        "provenance": results["provenance"],
    }
    return background(table(["Closes", "First", "Last", "Bars"], rows), CHOICES, facts)
