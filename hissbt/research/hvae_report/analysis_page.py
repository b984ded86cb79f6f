"""The page of ``hissbt analyze``: levels, regimes, forecasts and anomalies of one trained bundle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hissbt.atomic import atomic_file
from hissbt.reports.page.document import Section, document, section
from hissbt.reports.page.markup import chart, note, pair, row, table
from hissbt.reports.page.panels import BLUE, GRAY, GREEN, RED, panels
from hissbt.reports.page.text import NOTHING, escape, fixed, percent, spread
from hissbt.research.hvae_report.analysis_verdicts import PARTS, collapsed
from hissbt.research.hvae_report.anomalies import LEVELS
from hissbt.research.hvae_report.forecasts import CLIMATE, TASKS
from hissbt.research.hvae_report.page import background, tiles, verdict, warning

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_REGIMES = ("bull", "sideways", "bear")

CHOICES = (
    "In sample are the bars of the bundle's training span, its held-out part included; out of sample all after "
    "it. The bundle runs over the bars as a stream: at a bar nothing later is known.",
    "KL is that of posterior from prior, in nats and before any free bits, over windows all over each span. A "
    "unit is active where its mean KL is above 0.1 nat, or by variance where its posterior mean varies by more "
    "than 0.01 (arXiv 1509.00519).",
    "Bull is a window whose log return is above half a σ √window, bear one below its negative, σ being the "
    "volatility of the four windows before. The label is for evaluation: no network sees it.",
    "Clusters are those of the bundle, found on its training span and ordered by the mean |return| of their "
    "windows. Their agreement with the labels is that of windows which share no bar.",
    "Forecasts by level are ridge and logistic regressions on what the level says, a level's own latents beside "
    "those of the level above. All inputs go through the same two models, which are fitted once on the "
    "training span with outcomes inside it; how much they shrink is chosen on its last 30 %. Decisions are a "
    "day apart.",
    "Numbers are forecast as a Student distribution whose mean and scale follow the inputs. A log score is the "
    "log density, or probability, of what came: more is better. Intervals are of blocks longer than the "
    "horizon.",
    "Volatility is that of the ranges of bars (Parkinson 1980), as its log; HAR stands for its means over a "
    "sixth of a day, a day, a week and a month.",
    "An anomaly's p-value compares the bar's score with those of the bundle's calibration span. Out of sample, "
    "alarms above the nominal rate mean that the market has changed, or that the calibration span was calm.",
)
"""What a reader must know about the analysis, one fact each."""


def write_analysis(path: str | Path, results: Mapping) -> None:
    """Write the page of ``results``, whole or not at all; the same results give the same bytes."""
    sections = [_levels(results), _clusters(results), *_forecasts(results), _anomalies(results), *_rest(results)]
    with atomic_file(path) as temporary:
        temporary.write_text(document(_title(results), _head(results), sections), encoding="utf-8", newline="\n")


def _title(results: Mapping) -> str:
    return f"The levels of a hierarchical VAE on {results['data']['symbol']}"


def _head(results: Mapping) -> str:
    spans, strides = results["data"]["spans"], results["bundle"]["strides"]
    seen, unseen = spans["in_sample"], spans["out_of_sample"]
    lost = collapsed(results["levels"]["out_of_sample"])
    agreement = results["clusters"]["out_of_sample"].get("agreement")
    shown = {
        "Bars unseen": f"{unseen['bars']:,}",
        "Levels active": f"{len(strides) - len(lost)} of {len(strides)}",
        "Clusters agree with regimes": fixed(agreement, 2),
    }
    return "\n".join(
        [
            f"<h1>{escape(_title(results))}</h1>",
            f'<p class="soft">Trained to {seen["last"][:16]}, judged on {unseen["first"][:16]} to '
            f"{unseen['last'][:16]} (closes, UTC). Levels span {', '.join(map(str, strides))} bars.</p>",
            verdict(" ".join(results["verdicts"][name] for name in TASKS.values())),
            warning(f"Collapsed out of sample: level {', '.join(map(str, lost))}.") if lost else "",
            tiles(shown),
        ]
    )


# --- levels


def _levels(results: Mapping) -> Section:
    heads = ["", "Bars", "Latents", "KL a latent vector", "KL a bar", "Active units", "Active by variance"]
    rows = [
        row(
            [
                f"level {level['level']}, {words}",
                str(level["stride"]),
                str(level["units"]),
                fixed(level["kl_a_latent"], 3),
                fixed(level["kl_a_bar"], 4),
                f"{level['active_units']} of {level['units']}",
                f"{level['active_units_by_variance']} of {level['units']}",
            ]
        )
        for levels in zip(*(results["levels"][part] for part in PARTS), strict=True)
        for level, words in zip(levels, PARTS.values(), strict=True)
    ]
    remark = note(["KL is information, in nats: how much the bars say of a level. It is no measure of risk."])
    return section("Levels", table(heads, rows) + remark + verdict(results["verdicts"]["Levels"]))


# --- clusters


def _clusters(results: Mapping) -> Section:
    halves = []
    for part, words in PARTS.items():
        found = results["clusters"][part]
        heads = ["", "Share", *(f"{name}, %" for name in _REGIMES), "Mean, bp", "Deviation, %", "Bars in a row"]
        rows = [
            row(
                [
                    f"cluster {each['cluster']}",
                    percent(each["share"]),
                    *(_percents(each["regimes"][name]) for name in _REGIMES),
                    fixed(_times(each["mean"], 1e4), 2),
                    fixed(_times(each["deviation"], 1e2), 3),
                    fixed(each["bars_in_a_row"], 0),
                ]
            )
            for each in found["rows"]
        ]
        if found["rows"]:
            shares = [_percents(found["regimes"][name]) for name in _REGIMES]
            rows.append(row(["all windows", percent(1.0), *shares, "", "", ""]))
        title = f"<h3>{words.capitalize()}, {found['windows']} windows</h3>"
        halves.append(title + (table(heads, rows) if rows else note(["Too few windows."])))
    return section("Regimes", "".join(halves) + verdict(results["verdicts"]["Regimes"]))


def _percents(value: float | None) -> str:
    return NOTHING if value is None else fixed(100 * value, 0)


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else factor * value


# --- forecasts


def _forecasts(results: Mapping) -> list[Section]:
    return [_forecast(results, task) for task in TASKS]


def _forecast(results: Mapping, task: str) -> Section:
    each = results["forecasts"][task]
    if "skipped" in each:
        return section(TASKS[task], verdict(results["verdicts"][TASKS[task]]))
    is_class = task == "regime"
    heads = ["From", "Log score", *(_CLASS_HEADS if is_class else _NUMBER_HEADS)]
    cells = _class_cells if is_class else _number_cells
    rows = [
        row([escape(name), spread(line["score"], line["interval"]), *cells(line["calibration"])])
        for name, line in each["rows"].items()
    ]
    gaps = [
        row([escape(f"{name} less {other}"), spread(gap["difference"], gap["interval"], 3, "+")])
        for name, others in each["differences"].items()
        for other, gap in others.items()
    ]
    remark = note(
        [
            f"{each['fitted']:,} decisions to fit to, {each['scored']:,} to score on, a day apart, horizon "
            f"{each['horizon']:,} bars: their outcomes overlap, and count as no more than "
            f"{each['counts_as']:,.0f} independent ones."
        ]
    )
    tables = table(heads, rows)
    differences = "<h3>Differences of log scores</h3>" + table(["", "Mean"], gaps)
    drawn = chart(f"{task}-calibration", _calibration(each, is_class), timed=False)
    return section(
        TASKS[task], tables + remark + pair(differences, drawn) + verdict(results["verdicts"][TASKS[task]])
    )


_CLASS_HEADS = ("Likeliest came", "It was said", *(f"{name}: said, came" for name in _REGIMES))
_NUMBER_HEADS = ("In the middle 50 %", "In the middle 90 %")


def _class_cells(calibration: Mapping) -> list[str]:
    pairs = [f"{percent(calibration['said'][name])}, {percent(calibration['came'][name])}" for name in _REGIMES]
    return [percent(calibration["likeliest_came"]), percent(calibration["likeliest_said"]), *pairs]


def _number_cells(calibration: Mapping) -> list[str]:
    return [percent(calibration["inside_50"]), percent(calibration["inside_90"])]


def _calibration(each: Mapping, is_class: bool) -> Figure:
    from plotly.graph_objects import Bar

    names = [name for name in each["rows"] if name == CLIMATE or name in each["differences"]]
    if is_class:
        figure = panels(["How often each regime came, and how often it was said to"], [280])
        lines = [(name, each["rows"][name]["calibration"]["said"]) for name in names]
        lines.append(("came", each["rows"][names[0]]["calibration"]["came"]))
        shown = [(name, list(_REGIMES), [values[regime] for regime in _REGIMES]) for name, values in lines]
    else:
        figure = panels(["Share of outcomes in each tenth of the forecast distribution; even is right"], [280])
        tenths = [f"to {10 * (number + 1)} %" for number in range(10)]
        shown = [(name, tenths, each["rows"][name]["calibration"]["tenths"]) for name in names]
    for (name, x, y), hue in zip(shown, (GRAY, BLUE, GREEN, RED), strict=False):
        figure.add_trace(Bar(x=x, y=y, name=escape(name), marker={"color": hue}, hovertemplate="%{y:.1%}"))
    figure.update_layout(barmode="group")
    figure.update_yaxes(tickformat=".0%")
    return figure


# --- anomalies


def _anomalies(results: Mapping) -> Section:
    found = results["anomalies"]
    heads = ["p-value at most", *(f"level {number}" for number in range(1, len(found["most"]) + 1))]
    heads += ["Top only", "Bottom only", "Both", "Both, if unrelated"]
    rows = [
        row(
            [
                percent(level),
                *(_alarm(alarm) for alarm in found["alarms"][str(level)]),
                *(percent(share) for share in found["both_ends"][str(level)].values()),
            ]
        )
        for level in LEVELS
    ]
    remark = note(
        [
            f"Share of {found['bars']:,} bars out of sample, and in brackets its 95 % interval: where calibration "
            "and test bars are alike, it holds the p-value."
        ]
    )
    dates = [
        f"<h3>Level {number}</h3>"
        + table(
            ["Close, UTC", "p-value", "KL, nats"],
            [
                row([day["close_time"][:16].replace("T", " "), fixed(day["p"], 3), fixed(day["kl"], 2)])
                for day in most
            ],
        )
        for number, most in enumerate(found["most"], start=1)
    ]
    content = table(heads, rows) + remark + verdict(results["verdicts"]["Anomalies"])
    content += "<h3>The most unusual, a window apart</h3>" + pair(*dates)
    return section("Anomalies", content)


def _alarm(alarm: Mapping) -> str:
    low, high = (percent(end) for end in alarm["interval"])
    return f"{percent(alarm['share'])} [{low}, {high}]"


def _rest(results: Mapping) -> list[Section]:
    rows = [
        row([words.capitalize(), span["first"][:16], span["last"][:16], f"{span['bars']:,}"])
        for words, span in zip(PARTS.values(), results["data"]["spans"].values(), strict=True)
    ]
    facts = {"bundle": results["bundle"], "data": results["data"], "provenance": results["provenance"]}
    return background(table(["Closes", "First", "Last", "Bars"], rows), CHOICES, facts)
