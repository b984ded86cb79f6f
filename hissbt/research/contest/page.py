"""The page of the contest: volatility, returns, direction, trading, ways to train, under each what it shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from hissbt.atomic import atomic_file
from hissbt.reports.page.document import Section, document, section
from hissbt.reports.page.markup import chart, note, pair, row, table
from hissbt.reports.page.text import NOTHING, chance, escape, fixed, known, number, percent, spread, words
from hissbt.research.contest.figures import account_chart, reliability_chart, score_chart
from hissbt.research.contest.protocol import CHOICES, HISS
from hissbt.research.contest.verdicts import UNITS, ranking
from hissbt.research.hvae_report.page import background, tiles, verdict, warning

TITLE = "HiSS and its rivals on the same bars"


class _Part(NamedTuple):
    """A section of forecasts: by which loss it is sorted, and what else it shows."""

    heading: str
    key: str
    others: tuple[str, ...]
    about: str


_PARTS = (
    _Part(
        "Volatility",
        "qlike",
        ("log_variance",),
        "QLIKE of the forecast variance of the next {horizon} bars, less is better. Beside it the mean squared "
        "error of its log, for which a forecast of the mean of something as skew as a variance is too high.",
    ),
    _Part(
        "Returns",
        "mse",
        ("mae",),
        "Mean squared error of the log return over the next {horizon} bars in squared percent, and mean absolute "
        "error in percent; less is better.",
    ),
    _Part(
        "Direction",
        "log_loss",
        ("accuracy", "balanced_accuracy", "f1", "mcc"),
        "Log loss of the probability of a rise over the next {horizon} bars, less is better; a coin has 0.6931. A "
        "call is right where the probability is on the right side of one half, which itself counts as a fall. F1 "
        "is that of rises. Counts as: how many independent calls the autocorrelation of the hits leaves.",
    ),
)

_BARE = ("f1", "mcc")  # shown without their intervals, for which there is no room


def write_page(path: str | Path, results: Mapping) -> None:
    """Write the page of ``results``, whole or not at all; the same results give the same bytes."""
    sections = [
        *(_forecasts(results, part) for part in _PARTS),
        _trading(results),
        _training(results),
        _fits(results),
        *_background(results),
    ]
    with atomic_file(path) as temporary:
        temporary.write_text(document(TITLE, _head(results), sections), encoding="utf-8", newline="\n")


def _head(results: Mapping) -> str:
    data, rivals = results["data"], results["rivals"]
    test = data["spans"]["test"]
    ranks = {part.heading: ranking(rivals, part.key) for part in _PARTS}
    shown = {
        f"HiSS, {heading.lower()}": f"{order.index(HISS) + 1} of {len(order)}"
        for heading, order in ranks.items()
        if HISS in order
    }
    shown |= {
        "Test rows": f"{data['n']:,}",
        "Labels that share no bar": f"{data['disjoint_size']:.0f}",
        "Minutes": fixed(results["seconds"] / 60, 1),
    }
    failed = [f"{name} is left out: {fault}" for name, fault in results["failed"].items()]
    short = "This was a short run: few seeds, or networks trained too briefly. Its figures mean nothing."
    return "\n".join(
        [
            f"<h1>{TITLE}</h1>",
            f'<p class="soft">{escape(data["symbol"])}, judged on {test["first"][:10]} to {test["last"][:10]} '
            f"(closes, UTC), {data['horizon']} bars ahead, {len(data['folds'])} folds, "
            f"{len(results['protocol']['seeds'])} seeds.</p>",
            verdict(results["verdicts"]["Volatility"]),
            warning(short) if results["short"] else "",
            *map(warning, failed),
            tiles(shown),
        ]
    )


# --- forecasts


def _forecasts(results: Mapping, part: _Part) -> Section:
    rivals = results["rivals"]
    order = ranking(rivals, part.key)
    direction = part.key == "log_loss"
    heads = ["", UNITS[part.key].title, *(UNITS[key].title for key in part.others)]
    heads += ["Calibration error", "Counts as"] if direction else []
    heads += ["HiSS less this", "Diebold–Mariano", "p", "In the set"]
    rows = []
    for name in order:
        found = rivals[name]
        cells = [_score(found, key) for key in (part.key, *part.others)]
        if direction:
            cells += [fixed(found["calibration"], 3), fixed(found["effective_size"], 0)]
        rows.append(_row(name, cells + _against(found, part.key)))
    unit = UNITS[part.key]
    drawn = chart(f"{part.key}-chart", score_chart(unit.title, rivals, part.key, order, unit.scale), timed=False)
    if direction:
        drawn = pair(drawn, chart("reliability-chart", reliability_chart(rivals), timed=False))
    remark = note(
        [
            part.about.format(horizon=results["data"]["horizon"]),
            "Means over the seeds, in brackets 95 % intervals. In the set: whether it cannot be told from the "
            "best, at 95 %.",
        ]
    )
    content = table(heads, rows) + remark + verdict(results["verdicts"][part.heading]) + drawn
    return section(part.heading, content)


def _score(found: Mapping, key: str) -> str:
    score, unit = found["scores"].get(key), UNITS[key]
    if score is None:
        return NOTHING
    if key in _BARE:
        return fixed(score["mean"], unit.decimals)
    return spread(*_scaled(score["mean"], score["interval"], unit.scale), unit.decimals)


def _scaled(mean: float, interval: Sequence[float], scale: float) -> tuple[float, list[float]]:
    return scale * mean, [scale * end for end in interval]


def _against(found: Mapping, key: str) -> list[str]:
    gap, test, unit = found["against"].get(key), found["tests"].get(key, {}), UNITS[key]
    less = (
        NOTHING
        if gap is None
        else spread(*_scaled(gap["difference"], gap["interval"], unit.scale), unit.decimals, "+")
    )
    return [
        less,
        fixed(test.get("statistic"), 1),
        fixed(test.get("pvalue"), 3),
        "yes" if test.get("in_set") else "no",
    ]


def _row(name: str, cells: Sequence[str]) -> str:
    """Return a row of a table; that of HiSS is bold."""
    bold: Callable[[str], str] = (lambda cell: f"<b>{cell}</b>") if name == HISS else str
    return row([bold(escape(name)), *map(bold, cells)])


# --- trading


def _trading(results: Mapping) -> Section:
    found = results["trading"]

    def rank(name: str) -> float:
        sharpe = found["rivals"][name]["net"]["sharpe"]
        return -sharpe if known(sharpe) else float("inf")

    heads = ["", "Sharpe, net", "Sharpe, gross", "Return a year, net", "gross", "Drawdown, net", "Turnover a year"]
    heads += ["PSR", "DSR", "Seeds from – to"]
    rows = []
    for name in sorted(found["rivals"], key=rank):
        own = found["rivals"][name]
        gross, net = own["gross"], own["net"]
        seeds = [seed for seed in own["seeds"] if known(seed)]
        rows.append(
            _row(
                name,
                [
                    spread(net["sharpe"], own["interval"], 2) if known(net["sharpe"]) else NOTHING,
                    fixed(gross["sharpe"], 2),
                    percent(net["mean_return"], sign=True),
                    percent(gross["mean_return"], sign=True),
                    percent(net["max_drawdown"]),
                    number(net["annual_turnover"], 3),
                    chance(own["psr"]),
                    chance(own["dsr"]),
                    f"{fixed(min(seeds), 2)} – {fixed(max(seeds), 2)}" if len(seeds) > 1 else "",
                ],
            )
        )
    remark = note(
        [
            f"{found['decisions']:,} decisions, one every {results['data']['horizon']} bars, at the same closes "
            f"for all. Net: {fixed(1e4 * found['cost'], 1)} bp of what is traded. Ratios are annual, means over "
            "the seeds; PSR and DSR are the probabilities that the true Sharpe ratio is above 0 and above the "
            "luck of the best of all rivals.",
        ]
    )
    families = {name: own["family"] for name, own in results["rivals"].items()}
    drawn = chart("account-chart", account_chart(found, families))
    return section("Trading", table(heads, rows) + remark + verdict(results["verdicts"]["Trading"]) + drawn)


# --- training


def _training(results: Mapping) -> Section:
    heads = ["", "Changed", "Validation", "Better in", "Test: log density", "Test: QLIKE", "Test: log loss"]
    rows = [
        row(
            [
                escape(name),
                escape(_settings(found["change"])),
                fixed(found["validation"], 4, "+"),
                f"{found['won']} of {found['pairs']}",
                *(spread(gap["difference"], gap["interval"], 4, "+") for gap in found["test"].values()),
            ]
        )
        for name, found in results["choices"].items()
    ]
    remark = note(
        [
            "What each way to train HiSS gains on the plain one, more is better: same folds, same seeds, and over "
            "the setting that the plain one won with; where that has the change already, there is no difference. "
            "Validation and the first of the test columns are Gaussian log densities of the return, nats a row.",
            f"{len(rows)} ways are tried: of seven that make no difference, one in three times one passes.",
        ]
    )
    return section(
        "Training choices", table(heads, rows) + remark + verdict(results["verdicts"]["Training choices"])
    )


def _settings(setting: Mapping) -> str:
    if not setting:
        return "none"
    parts = [
        f"{words(name)} {_settings(value) if isinstance(value, Mapping) else value}"
        for name, value in setting.items()
    ]
    return ", ".join(parts)


# --- the fits


def _fits(results: Mapping) -> Section:
    heads = ["", "Family", "Parameters", "Fit, s", "Epochs", "A decision, µs", "Settings tried", "Chosen, by fold"]
    rows = [
        _row(
            name,
            [
                words(found["family"]),
                number(found["fits"]["parameters"], 8),
                fixed(found["fits"]["fit_seconds"], 1),
                fixed(found["fits"]["epochs"], 1),
                fixed(found["fits"]["step_us"], 0),
                str(found["tried"]),
                escape("; ".join(map(_settings, found["chosen"]))),
            ],
        )
        for name, found in results["rivals"].items()
    ]
    remark = note(["Of the chosen setting, means over folds and seeds; a dash where there is no such thing."])
    return section("Size and speed", table(heads, rows) + remark)


def _background(results: Mapping) -> list[Section]:
    spans = {**results["data"]["spans"]}
    rows = [
        row([words(name).capitalize(), span["first"][:16], span["last"][:16], f"{span['bars']:,}"])
        for name, span in spans.items()
    ]
    facts = {
        "protocol": {key: value for key, value in results["protocol"].items() if key != "choices"},
        "data": {key: value for key, value in results["data"].items() if key not in ("spans", "folds")},
        "provenance": results["provenance"],
    }
    return background(table(["Closes", "First", "Last", "Bars"], rows), CHOICES, facts)
