"""The page of the comparison: every table of the article beside ours, and under each whether its claim holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from hissbt.atomic import atomic_file
from hissbt.reports.page.document import Section, document, section
from hissbt.reports.page.facts import facts_tables
from hissbt.reports.page.markup import chart, note, pair, row, table
from hissbt.reports.page.panels import AMBER, BLUE, GRAY, GREEN, RED, add_line, panels
from hissbt.reports.page.text import NOTHING, escape, fixed, known, number, percent, spread, words
from hissbt.research.switching_paper.protocol import CHOICES, KINDS, TWINS
from hissbt.research.switching_paper.tables import (
    BACKTEST_IN_SAMPLE,
    BACKTEST_OUT_OF_SAMPLE,
    CLASSIFICATION,
    implied_asset_mean,
)

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

TITLE = "Switching recurrent networks, repeated"
_HUES = dict(zip((*KINDS, "buy and hold"), (BLUE, BLUE, GREEN, GREEN, RED, RED, GRAY), strict=True))
_FIGURES = {
    "mean_return": "Mean return a year",
    "deviation": "Standard deviation a year",
    "sharpe": "Sharpe ratio",
    "sortino": "Sortino ratio, deviation of losing days",
    "sortino_downside": "Sortino ratio, downside of all days",
    "max_drawdown_of_sum": "Max drawdown of the sum of returns",
    "max_drawdown": "Max drawdown, compounded",
    "daily_turnover": "Mean daily turnover",
    "annual_turnover": "Annual turnover",
    "mean_return_on_volume": "Mean return on volume",
    "beta": "Beta",
    "alpha": "Alpha a year",
}


def write_page(path: str | Path, results: Mapping) -> None:
    """Write the page of ``results``, whole or not at all; the same results give the same bytes."""
    page = document(TITLE, _head(results), [*_markov(results), *_networks(results), *_background(results)])
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")


def _head(results: Mapping) -> str:
    data, seeds = results["data"], results["protocol"]["seeds"]
    whole, classified = data["whole"], results["classification"]
    networks = {name: classified["rows"][name]["mean"] for name in KINDS}
    best = max(networks, key=lambda name: networks[name]["balanced_accuracy"])
    tiles = {
        "Best network": f"{best}, {percent(networks[best]['balanced_accuracy'])} balanced",
        "Test bars, without shared days": f"{classified['n']:,}, {classified['disjoint_size']:.0f}",
        "Networks trained": f"{len(results['training'])}",
        "Minutes": f"{results['seconds'] / 60:.1f}",
    }
    shown = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(text)}</dd></div>" for name, text in tiles.items())
    return "\n".join(
        [
            f"<h1>{TITLE}</h1>",
            '<p class="soft">The tables of Inzirillo, "Deep State Space Recurrent Neural Networks for Time Series '
            f"Forecasting”, arXiv 2407.15236, beside our own estimates on {escape(data['symbol'])}, "
            f"{whole['first'][:10]} to {whole['last'][:10]} (closes, UTC), {len(seeds)} seeds.</p>",
            f'<p class="verdict">{escape(results["verdicts"]["Table 4"])}</p>',
            _warning(results),
            f'<dl class="tiles">{shown}</dl>',
        ]
    )


def _warning(results: Mapping) -> str:
    if not results["short"]:
        return ""
    return (
        '<ul class="notices"><li class=bad>This was a short run: few seeds, or networks too small or trained too '
        "briefly. Its figures show what the page looks like and nothing else.</li></ul>"
    )


def _claim(results: Mapping, name: str) -> str:
    return f'<p class="verdict">{escape(results["verdicts"][name])}</p>'


# --- tables 1 to 3 and the appendix


def _markov(results: Mapping) -> list[Section]:
    fits = results["markov"]
    sections = []
    for name, heading in (
        ("Table 1", "Table 1: two regimes"),
        ("Table 2", "Table 2: transitions driven by HML"),
        ("Table 3", "Table 3: transitions driven by HML and IV"),
    ):
        own = [fit for fit in fits if fit["table"] == name]
        sections.append(section(heading, pair(*map(_coefficients, own)) + _claim(results, name)))
    appendix = [fit for fit in fits if fit["table"].startswith("Appendix")]
    content = "".join(map(_coefficients, appendix)) + "<h3>All models</h3>" + _criteria(fits)
    remark = note(
        [
            "Regimes are ordered by variance. Covariates are standardized over the span.",
            "A coefficient differs from 0 where it is more than 1.96 times the larger of its errors away: where "
            "the likelihood is flat, one of them can be far too small.",
        ]
    )
    return [*sections, section("Appendix: three regimes", content + remark + _claim(results, "Appendix"))]


def _coefficients(fit: Mapping) -> str:
    heads = [
        "",
        "Article",
        "(error)",
        "Ours",
        "(Hessian)",
        "(robust)",
        "Same sign",
        "Differs from 0",
        "Within 2 errors",
    ]
    rows = [
        row(
            [
                escape(each["name"]),
                number(each["published"], 4),
                f"({number(each['published_error'], 2)})",
                number(each["ours"], 4),
                f"({number(each['error_approx'], 2)})",
                f"({number(each['error_robust'], 2)})",
                NOTHING if each["same_sign"] is None else _yes(each["same_sign"]),
                _yes(each["differs_from_0"]),
                _yes(each["within_2_errors"]),
            ]
        )
        for each in fit["rows"]
    ]
    lag = {None: "", 1: ", covariates of the bar before", 0: ", covariates of the same bar (look-ahead)"}[
        fit["lag"]
    ]
    return f"<div><h3>{escape(fit['table'])}{lag}</h3>{table(heads, rows)}</div>"


def _criteria(fits: Sequence[Mapping]) -> str:
    heads = [
        "",
        "Regimes",
        "Covariates",
        "In the mean",
        "Lag",
        "Bars",
        "Log-likelihood",
        "Parameters",
        "AIC",
        "BIC",
        "Starts",
        "Agree",
    ]
    rows = [
        row(
            [
                escape(fit["table"]),
                str(fit["regimes"]),
                escape(", ".join(fit["covariates"]) or "none"),
                escape(", ".join(fit["regressors"]) or "none"),
                NOTHING if fit["lag"] is None else str(fit["lag"]),
                f"{fit['n_obs']:,}",
                f"{fit['log_likelihood']:,.2f}",
                str(fit["parameters"]),
                fixed(fit["aic"], 1),
                fixed(fit["bic"], 1),
                str(fit["starts"]),
                f"{fit['agreeing']}{'' if fit['converged'] else ', not converged'}",
            ]
        )
        for fit in fits
    ]
    remark = note(["Agree: how many starts ended at the likelihood that was kept. Lower AIC and BIC are better."])
    return table(heads, rows) + remark


# --- tables 4 to 6


def _networks(results: Mapping) -> list[Section]:
    classified = results["classification"]
    sizes = note(
        [
            f"{classified['n']:,} test bars, {classified['bull']:,} bull and {classified['bear']:,} bear. Labels "
            f"of neighbors share bars: no more than {classified['disjoint_size']:.0f} of them share none, and "
            "the last column tells, from the autocorrelation of the hits, as how many independent ones they "
            "count.",
            f"In brackets 95 % intervals of the mean over the seeds, from a bootstrap in blocks of "
            f"{results['protocol']['block']} bars, which knows of the uncertainty of the test span only.",
            "The article's balanced accuracy is the mean of its recalls. Its class 0 has 408 test bars; so it is "
            "most likely bull, the larger class here too.",
            "With inputs divided by their largest magnitude, as here, the memories of a TKAN need not forget: a "
            "difference by rounding can grow, so the last digits of tkan and m-tkan belong to this machine and "
            "these versions.",
        ]
    )
    scores = _scores(classified) + sizes + "<h3>By class</h3>" + _classes(classified)
    seeds = pair(_seed_table(results), chart("seeds-chart", _seed_chart(classified), timed=False))
    gaps = "<h3>Differences of means</h3>" + _gaps(classified)
    sections = [
        section(
            "Table 4: classification",
            scores + gaps + "<h3>Every seed</h3>" + seeds + _claim(results, "Table 4"),
        )
    ]
    for name, heading, sample, published in (
        ("Table 5", "Table 5: backtest in sample", "in_sample", BACKTEST_IN_SAMPLE),
        ("Table 6", "Table 6: backtest out of sample", "out_of_sample", BACKTEST_OUT_OF_SAMPLE),
    ):
        found = results["backtest"][sample]
        content = _beside(found, published) + _asset(results, sample, published)
        content += "<h3>All forecasts</h3>" + _everything(found) + "<h3>Sharpe ratio of every seed, net</h3>"
        content += _seed_ratios(found, results["protocol"]["seeds"])
        if sample == "out_of_sample":
            content += chart("curves-chart", _curves(results["curves"]))
        sections.append(section(heading, content + _claim(results, name)))
    return sections


def _scores(classified: Mapping) -> str:
    heads = ["", "Accuracy, article", "Accuracy", "Balanced, article", "Balanced accuracy", "MCC", "Counts as"]
    rows = []
    for name, found in classified["rows"].items():
        published = CLASSIFICATION.get(name)
        mean, interval = found["mean"], found["interval"]
        balanced = (published[1].recall + published[2].recall) / 2 if published else None
        rows.append(
            row(
                [
                    escape(name),
                    fixed(published[0] if published else None, 2),
                    spread(mean["accuracy"], interval["accuracy"]),
                    fixed(balanced, 3),
                    spread(mean["balanced_accuracy"], interval["balanced_accuracy"]),
                    spread(mean["mcc"], interval["mcc"]),
                    f"{found['effective_size']:.0f}",
                ]
            )
        )
    return table(heads, rows)


def _classes(classified: Mapping) -> str:
    sides = ("bull", "bear")
    keys = ("precision", "recall", "f1")
    heads = ["", *(f"{side}: {key}{of}" for side in sides for key in keys for of in (", article", ""))]
    rows = []
    for name, found in classified["rows"].items():
        published = CLASSIFICATION.get(name)
        cells = []
        for at, side in enumerate(sides, start=1):
            for key in keys:
                cells += [
                    fixed(getattr(published[at], key) if published else None, 2),
                    fixed(found["classes"][side][key], 3),
                ]
        rows.append(row([escape(name), *cells]))
    return table(heads, rows)


def _gaps(classified: Mapping) -> str:
    pairs = [(name, TWINS[name], gap) for name, gap in classified["against_twins"].items()]
    for name, rules in classified["against_baselines"].items():
        pairs += [(name, rule, gap) for rule, gap in rules.items()]
    rows = [
        row(
            [
                escape(f"{name} less {other}"),
                *(spread(gap[key]["difference"], gap[key]["interval"], sign="+") for key in gap),
            ]
        )
        for name, other, gap in pairs
    ]
    return table(["", "Accuracy", "Balanced accuracy", "MCC"], rows)


def _seed_table(results: Mapping) -> str:
    rows = []
    for name in KINDS:
        runs = [run for run in results["training"] if run["kind"] == name]
        for run, scores in zip(runs, results["classification"]["rows"][name]["seeds"], strict=True):
            rows.append(
                row(
                    [
                        f"{escape(name)}, seed {run['seed']}",
                        *(fixed(scores[key], 3) for key in ("accuracy", "balanced_accuracy", "mcc")),
                        fixed(scores["recall_bull"], 2),
                        fixed(scores["recall_bear"], 2),
                        f"{run['best_epoch']} of {run['epochs']}",
                        fixed(run["validation_loss"], 3),
                    ]
                )
            )
    heads = ["", "Accuracy", "Balanced", "MCC", "Recall bull", "Recall bear", "Best epoch", "Validation loss"]
    return table(heads, rows, "trades")


def _seed_chart(classified: Mapping) -> Figure:
    from plotly.graph_objects import Scatter

    figure = panels(["Balanced accuracy on the test span: each seed, and the mean with its interval"], [360])
    rows = classified["rows"]
    for name, found in rows.items():
        values = [seed["balanced_accuracy"] for seed in found["seeds"]]
        mean, (low, high) = found["mean"]["balanced_accuracy"], found["interval"]["balanced_accuracy"]
        hue = _HUES.get(name, GRAY)
        bars = {"type": "data", "array": [high - mean], "arrayminus": [mean - low], "symmetric": False}
        figure.add_trace(
            Scatter(
                x=[escape(name)],
                y=[mean],
                error_y=bars,
                mode="markers",
                marker={"color": hue, "size": 10, "symbol": "line-ew", "line": {"width": 3, "color": hue}},
                hovertemplate="%{y:.3f}<extra>mean</extra>",
            )
        )
        if len(values) > 1:
            figure.add_trace(
                Scatter(
                    x=[escape(name)] * len(values),
                    y=values,
                    mode="markers",
                    marker={"color": hue, "size": 7, "opacity": 0.45},
                    hovertemplate="%{y:.3f}<extra></extra>",
                )
            )
    figure.add_hline(y=0.5, line={"color": AMBER, "width": 1, "dash": "dot"})
    figure.update_layout(showlegend=False, hovermode="closest")
    figure.update_xaxes(automargin=True, showgrid=False)
    return figure


def _beside(found: Mapping, published: Mapping) -> str:
    heads = [""]
    for name in published:
        heads += [f"{name}, article", "gross", "seeds from – to", "net"]
    rows = []
    for key, title in _FIGURES.items():
        cells = []
        for name, column in published.items():
            seeds = [seed[key] for seed in found[name]["gross"]["seeds"] if known(seed[key])]
            cells += [
                fixed(column.get(key), 3),
                fixed(found[name]["gross"]["mean"][key], 3),
                f"{fixed(min(seeds, default=None), 2)} – {fixed(max(seeds, default=None), 2)}",
                fixed(found[name]["net"]["mean"][key], 3),
            ]
        rows.append(row([title, *cells]))
    remark = note(
        [
            "Means over the seeds. The article does not say what it divides by in the Sortino ratio; the first "
            "of the two is of its size. Its drawdowns are those of a sum of returns. Turnover counts 2 for a "
            "turn from long to short, as in the article."
        ]
    )
    return table(heads, rows) + remark


def _asset(results: Mapping, sample: str, published: Mapping) -> str:
    ours = results["data"]["asset"]["in_sample" if sample == "in_sample" else "test"]["mean_return"]
    implied = ", ".join(f"{implied_asset_mean(column):.4f}" for column in published.values())
    return note(
        [
            f"The asset's mean return a year that the article's columns imply is {implied}; ours over this span "
            f"is {ours:.4f}."
        ]
    )


def _everything(found: Mapping) -> str:
    columns: dict[str, Callable[[Mapping], str]] = {
        "Mean return": lambda each: fixed(each["gross"]["mean"]["mean_return"], 3),
        "net": lambda each: spread(each["net"]["mean"]["mean_return"], each["net"]["interval"]["mean_return"]),
        "Sharpe": lambda each: fixed(each["gross"]["mean"]["sharpe"], 2),
        "Sharpe, net": lambda each: spread(each["net"]["mean"]["sharpe"], each["net"]["interval"]["sharpe"]),
        "Drawdown": lambda each: percent(each["gross"]["mean"]["max_drawdown"]),
        "Drawdown, net": lambda each: percent(each["net"]["mean"]["max_drawdown"]),
        "Turnover a year": lambda each: fixed(each["gross"]["mean"]["annual_turnover"], 1),
        "Break-even": lambda each: _basis_points(each["gross"]["mean"]["mean_return_on_volume"]),
        "Beta": lambda each: fixed(each["gross"]["mean"]["beta"], 2),
        "Alpha": lambda each: fixed(each["gross"]["mean"]["alpha"], 3),
    }
    rows = [row([escape(name), *(show(each) for show in columns.values())]) for name, each in found.items()]
    return table(["", *columns], rows)


def _seed_ratios(found: Mapping, seeds: Sequence[int]) -> str:
    rows = [
        row([escape(name), *(fixed(seed["sharpe"], 2) for seed in found[name]["net"]["seeds"])]) for name in KINDS
    ]
    return table(["", *(f"seed {seed}" for seed in seeds)], rows)


def _curves(curves: Mapping) -> Figure:
    closes = pd.Series(pd.to_datetime(curves["close_time"]))
    figure = panels(["Sum of returns, gross, mean over the seeds"], [320], closes)
    for name, values in curves["sums"].items():
        add_line(figure, 1, closes, pd.Series(values), name, _HUES[name], shown="%{y:.2f}")
        if name in TWINS.values():
            figure.data[-1].line.dash = "dot"
    return figure


# --- what it rests on


def _background(results: Mapping) -> list[Section]:
    items = "".join(f"<li>{escape(text)}</li>" for text in CHOICES)
    spans = results["data"]["spans"]
    rows = [
        row(
            [
                words(name).capitalize(),
                span["first"][:10],
                span["last"][:10],
                f"{span['bars']:,}",
                f"{span['bull']:,}",
            ]
        )
        for name, span in spans.items()
    ]
    shown = table(["Decisions at closes", "First", "Last", "Bars", "Bull"], rows)
    facts = {"protocol": results["protocol"], "data": results["data"], "provenance": results["provenance"]}
    groups = "".join(
        f"<div><h3>{escape(name)}</h3>{content}</div>"
        for part in facts.values()
        for name, content in facts_tables(part)
    )
    return [
        section("What we took", f'{shown}<ol class="assumptions">{items}</ol>'),
        section("Provenance", f'<div class="groups">{groups}</div>'),
    ]


def _basis_points(fraction: float | None) -> str:
    return f"{fixed(1e4 * fraction, 0)} bp" if known(fraction) else NOTHING


def _yes(value: bool) -> str:
    return "yes" if value else "no"
