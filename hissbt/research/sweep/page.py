"""The page of a sweep: the table of combinations, its map, and what the best of them is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hissbt.atomic import atomic_file
from hissbt.reports.page.assumptions import ASSUMPTIONS
from hissbt.reports.page.document import Section, document, section
from hissbt.reports.page.markup import chart, note, pair, row, table
from hissbt.reports.page.panels import BLUE, GRAY, add_line, panels
from hissbt.reports.page.text import chance, escape, fixed, known, number, percent, time
from hissbt.research.hvae_report.page import background, tiles, verdict, warning

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

CHOICES = (
    "A combination of params is judged by the mean, over the seeds, of the annual Sharpe ratio of its daily net "
    "returns; all of them trade the same bars and pay the same costs.",
    "The curve of a combination with several seeds, and its returns where it is weighed, are the mean of theirs: "
    "an account shared out evenly on each day.",
    "The probability of overfitting is over the daily returns of all combinations, those that never trade having "
    "a Sharpe ratio of 0: how often the best by one half of the days is below the median in the other half.",
    "The luck of the best is that of all trials of this symbol and timeframe in the ledger of trials, whatever "
    "strategy they were of, as if they were independent. Those of a grid are alike, so it is rather too strict.",
    "A backtest that failed is a trial, too. It is in no mean.",
)
_MOST_ROWS = 100
_SCALE = ("rgba(208,138,29,0.6)", "rgba(138,143,152,0.12)", "rgba(59,130,196,0.6)")  # loss, nothing, gain
_COLUMNS = ("Sharpe", "Seeds from – to", "Total return", "Max drawdown", "Trades", "Turnover a year")


def write_page(path: str | Path, results: Mapping[str, Any]) -> None:
    """Write the page of ``results``, whole or not at all; the same results give the same bytes."""
    parts = [_combinations(results), _map(results), _best(results), _overfitting(results), *_failed(results)]
    page = document(_title(results), _head(results), [*parts, *_background(results)])
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")


def _title(results: Mapping) -> str:
    return f"{results['strategy']} swept on {results['symbol']}"


def _head(results: Mapping) -> str:
    best, weighed, judged = results["table"][0], results["significance"], results["overfitting"]
    count, seeds = results["backtests"], len(results["seeds"])
    about = (
        f"{count:,} backtests: {len(results['table']):,} combinations of {', '.join(results['grid'])}, "
        f"{seeds} seed{'s' if seeds > 1 else ''}, {_day(results['since'])} to {_day(results['until'])} UTC, bars "
        f"of {results['timeframe']}."
    )
    shown = {
        "Best Sharpe ratio": fixed(best["sharpe"], 2),
        "Luck of the best": fixed(weighed["luck"], 2),
        "Deflated": chance(weighed["dsr"]),
        "Overfitting": percent(judged["pbo"]) if judged else "–",
        "Failed": f"{len(results['failed']):,}",
    }
    sample = "IN SAMPLE: the model was trained on bars after the beginning."
    return "\n".join(
        [
            f"<h1>{escape(_title(results))}</h1>",
            f'<p class="soft">{escape(about)}</p>',
            f"<p>Best: {escape(_named(best['params']))}.</p>",
            verdict(results["verdicts"]["best"]),
            warning(sample) if results["in_sample"] else "",
            tiles(shown),
        ]
    )


def _day(moment: str) -> str:
    return time(pd.Timestamp(moment))


def _named(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in params.items())


# --- the table and its map


def _combinations(results: Mapping) -> Section:
    names, rows = list(results["grid"]), results["table"]
    heads = [*map(escape, names), *_COLUMNS]
    shown = [row([*(escape(value) for value in each["params"].values()), *_figures(each)]) for each in rows]
    left_out = len(rows) - _MOST_ROWS
    remark = [
        "Means over the seeds, net of all costs; the Sharpe ratio is annual.",
        f"{left_out:,} more, none of them better, are in trials.parquet." if left_out > 0 else "",
    ]
    said = verdict(results["verdicts"]["spread"])
    return section("Combinations", table(heads, shown[:_MOST_ROWS], "trades") + note(remark) + said)


def _figures(each: Mapping[str, Any]) -> list[str]:
    ends = [fixed(each[name], 2) for name in ("sharpe_low", "sharpe_high")]
    return [
        fixed(each["sharpe"], 2),
        " – ".join(ends) if each["finished"] > 1 else "",
        percent(each["total_return"], sign=True),
        percent(each["max_drawdown"]),
        fixed(each["trades"], 1 if each["finished"] > 1 else 0),
        number(each["turnover"], 4),
    ]


def _map(results: Mapping) -> Section:
    names = list(results["grid"])
    if len(names) == 1:
        drawn, remark = _line(results, names[0]), "The Sharpe ratio by the param; the bars span the seeds."
    else:
        others = f", the best over {', '.join(names[2:])}" if names[2:] else ""
        drawn, remark = _heat(results, *names[:2]), f"The Sharpe ratio by {names[0]} and {names[1]}{others}."
    lonely = "A best that stands alone among worse neighbors is more likely luck than one on a plateau."
    return section("Map", chart("map", drawn, timed=False) + note([remark, lonely]))


def _heat(results: Mapping, across: str, upward: str) -> Figure:
    from plotly.graph_objects import Heatmap

    x, y = results["grid"][across], results["grid"][upward]
    found = np.full((len(y), len(x)), np.nan)
    for each in results["table"]:
        place = y.index(each["params"][upward]), x.index(each["params"][across])
        if known(each["sharpe"]):
            found[place] = np.fmax(found[place], each["sharpe"])
    figure = panels([f"Sharpe ratio: {upward} upward, {across} to the right"], [max(180, min(520, 36 * len(y)))])
    largest = np.nanmax(np.abs(found), initial=0.0) or 1.0
    figure.add_trace(
        Heatmap(
            x=_labels(x),
            y=_labels(y),
            z=[[value if np.isfinite(value) else None for value in line] for line in found.tolist()],
            zmin=-largest,
            zmax=largest,
            colorscale=list(zip((0.0, 0.5, 1.0), _SCALE, strict=True)),
            texttemplate="%{z:.2f}" if found.size <= 150 else None,
            hovertemplate=f"{escape(across)} %{{x}}, {escape(upward)} %{{y}}: %{{z:.3f}}<extra></extra>",
            colorbar={"thickness": 10, "outlinewidth": 0, "tickfont": {"color": GRAY}},
        )
    )
    figure.update_layout(hovermode="closest")
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", showgrid=False)
    return figure


def _line(results: Mapping, name: str) -> Figure:
    from plotly.graph_objects import Scatter

    values = results["grid"][name]
    by_value = {repr(each["params"][name]): each for each in results["table"]}
    rows = [by_value[repr(value)] for value in values]
    sharpes = np.array([_or_nan(each["sharpe"]) for each in rows])
    ends = {side: [_or_nan(each[f"sharpe_{side}"]) for each in rows] for side in ("low", "high")}
    figure = panels([f"Sharpe ratio by {name}"], [300])
    figure.add_trace(
        Scatter(
            x=_labels(values),
            y=sharpes.tolist(),
            error_y={
                "type": "data",
                "symmetric": False,
                "array": (np.array(ends["high"]) - sharpes).tolist(),
                "arrayminus": (sharpes - np.array(ends["low"])).tolist(),
            },
            mode="lines+markers",
            line={"color": BLUE, "width": 1.6},
            hovertemplate="%{x}: %{y:.3f}<extra></extra>",
        )
    )
    figure.update_layout(showlegend=False, hovermode="closest")
    figure.update_xaxes(type="category", showgrid=False)
    return figure


def _or_nan(value: float | None) -> float:
    return value if known(value) else np.nan


def _labels(values: Sequence[Any]) -> list[str]:
    return [escape(value) for value in values]


# --- what the best is worth


def _best(results: Mapping) -> Section:
    curves, best, weighed = results["curves"], results["table"][0], results["significance"]
    days = pd.Series(pd.to_datetime(curves["days"]))
    figure = panels(["What a start of 1 became: the best, and all"], [300], days)
    lines = {"best": BLUE, "median": GRAY, "lower quarter": GRAY, "upper quarter": GRAY}
    for name, hue in lines.items():
        add_line(figure, 1, days, pd.Series(curves[name]), name, hue, shown="%{y:.4f}")
    figure.update_traces(selector=lambda trace: "quarter" in trace.name, line_dash="dot")
    facts = {
        **{escape(name): escape(value) for name, value in best["params"].items()},
        "Sharpe ratio of its daily returns": fixed(weighed["sharpe"], 2),
        "PSR": chance(weighed["psr"]),
        f"Luck of the best of {weighed['trials']:,} trials": fixed(weighed["luck"], 2),
        "Deflated (DSR)": chance(weighed["dsr"]),
    }
    listed = table(["", ""], [row([name, text]) for name, text in facts.items()], "plain")
    remark = note(
        [
            "PSR and DSR: the probability that the true Sharpe ratio is above 0, and above what luck gives the "
            "best of all that was tried.",
            *weighed["ledger_faults"],
        ]
    )
    said = verdict(results["verdicts"]["best"])
    return section("The best", pair(chart("curves", figure), listed) + remark + said)


def _overfitting(results: Mapping) -> Section:
    judged, said = results["overfitting"], verdict(results["verdicts"]["overfitting"])
    if judged is None:
        return section("Overfitting", said)
    facts = {
        "Probability of overfitting": percent(judged["pbo"]),
        "of a loss in the other half": percent(judged["probability_of_loss"]),
        "Slope": fixed(judged["degradation"], 2),
        "Blocks of days": str(judged["blocks"]),
        "Ways to halve them": f"{judged['ways']:,}",
    }
    listed = table(["", ""], [row([name, text]) for name, text in facts.items()], "plain")
    remark = (
        "Slope: of the Sharpe ratio in the other half by that in the one; below 0 the better is then the worse."
    )
    return section("Overfitting", listed + note([remark]) + said)


def _failed(results: Mapping) -> list[Section]:
    if not results["failed"]:
        return []
    rows = [
        row([escape(name), f'<td class="text">{escape(error)}</td>']) for name, error in results["failed"].items()
    ]
    heads = ["", '<th scope="col" class="text">Error</th>']
    return [section("Failed", table(heads, rows, "trades"))]


def _background(results: Mapping) -> list[Section]:
    source = results["provenance"]["source"]
    spans = [
        row(["Traded", _day(results["since"]), _day(results["until"])]),
        row(["Bars given", _day(source["first_open"]), _day(source["last_close"])]),
    ]
    facts = {
        "run": {name: results[name] for name in ("grid", "seeds", "backtests", "seconds")},
        "provenance": results["provenance"],
    }
    return background(table(["", "From", "To"], spans), (*CHOICES, *ASSUMPTIONS), facts)
