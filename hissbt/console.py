"""What the command prints: a short table and the path of the page, or one JSON object.

Tables are Rich's. Sentences and paths are printed plainly: Rich would break them at the width of the screen, where
a path must stay in one piece to be copied, and would read brackets in them as markup.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from hissbt.atomic import to_json

if TYPE_CHECKING:
    from hissbt.backtest import Run
    from hissbt.bundle import ModelBundle
    from hissbt.feeds.history import Fetched
    from hissbt.research.audit import Report

_RESULTS = {
    "total_return": "{:+.2%}",
    "sharpe": "{:.2f}",
    "sortino": "{:.2f}",
    "max_drawdown": "{:.2%}",
    "win_rate": "{:.1%}",
    "profit_factor": "{:.2f}",
    "turnover": "{:.1f} a year",
    "exposure": "{:.1%}",
    "trades": "{:d}",
}
_BEST = 10  # combinations of a sweep that are printed
_COSTS = ("gross", "fees", "impact", "funding", "liquidation_fees", "net")


def show_run(run: Run, as_json: bool = False) -> None:
    """Print the results of a backtest beside buy-and-hold, its forecasts beside the majority class."""
    if as_json:
        _last(to_json({"folder": str(run.folder), **run.metrics}))
        return
    console = Console()
    console.print(_results(run))
    console.print(_costs(run.metrics["costs"]))
    if run.metrics["forecast"]:
        console.print(_forecast(run.metrics["forecast"], "forecasts"))
    print(run.metrics["significance"]["sentence"])
    for fault in run.metrics["significance"]["ledger_faults"]:
        print(f"TRIALS MAY BE MISSING: {fault}")
    if run.metrics["in_sample"]:
        print("IN SAMPLE: the model was trained on some of these bars, so these results prove nothing.")
    if not run.metrics["trading"]["trades"]:
        print("No trade was made: the page says why.")
    print(f"tearsheet: {run.folder / 'tearsheet.html'}")
    _last(f"report: {run.folder / 'report.html'}")


def show_bundle(bundle: ModelBundle, path: Path, as_json: bool = False) -> None:
    """Print what was trained and how it did on the validation span."""
    if as_json:
        _last(to_json({"folder": str(path), "sha256": bundle.sha256, **bundle.metrics}))
        return
    days = {name: stamp[:16].replace("T", " ") for name, stamp in bundle.training_span.items()}
    horizon = f", horizon {bundle.horizon}" if bundle.targets else ""
    print(
        f"{bundle.kind} on {bundle.symbol} {bundle.timeframe}{horizon}, "
        f"bars from {days['start']} to {days['end']} UTC, warm-up {bundle.warmup} bars"
    )
    if "levels" in bundle.metrics:
        _show_levels(bundle.metrics)
    else:
        Console().print(_forecast(bundle.metrics["validation"], "validation"))
    _last(f"bundle: {path}")


def _show_levels(metrics: dict) -> None:
    """Print what each level of a hierarchical VAE says of the validation windows, and how well they are coded."""
    bound = metrics["bound"]
    table = Table(title=f"validation, {bound['windows']} windows")
    for heading in ("level", "bars", "KL a latent, nats", "KL a bar, nats", "active units"):
        table.add_column(heading, justify="right")
    for level in metrics["levels"]:
        nats = (_text("{:.3f}", level[name]) for name in ("kl_a_latent", "kl_a_bar"))
        table.add_row(
            f"z{level['level']}", f"{level['stride']}", *nats, f"{level['active_units']} of {level['units']}"
        )
    Console().print(table)
    print(
        f"ELBO {_text('{:.4f}', bound['elbo_a_dimension'])}, with 50 draws "
        f"{_text('{:.4f}', bound['iwae50_a_dimension'])} nats a standardized value"
    )
    for number in metrics["collapsed"]:
        print(f"COLLAPSED: level z{number} says nothing of the bars, so its latents and scores mean nothing.")


@contextmanager
def fetch_progress(as_json: bool = False) -> Iterator[Callable[[int, int], None] | None]:
    """Show a bar with rate and time left on stderr; yield what moves it, or None where nobody would see it."""
    if as_json or not sys.stderr.isatty():
        yield None
        return
    console = Console(stderr=True)
    columns = (
        BarColumn(),
        TaskProgressColumn(show_speed=False),
        MofNCompleteColumn(),
        TextColumn("bars"),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=None, rate="")

        def show(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            speed = bar.tasks[0].speed
            bar.update(task, rate=f"{speed:,.0f}/s" if speed else "")

        yield show


@contextmanager
def work_progress(as_json: bool = False) -> Iterator[Callable[[str, int, int], None] | None]:
    """Show a bar with the last piece of work that was done on stderr; yield as ``fetch_progress`` does."""
    if as_json or not sys.stderr.isatty():
        yield None
        return
    columns = BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(part: str, done: int, parts: int) -> None:
            bar.update(task, description=part, completed=done, total=parts)

        yield show


def show_comparison(folder: Path, results: dict, as_json: bool = False) -> None:
    """Print the scores of a comparison's networks, and what each of its tables shows."""
    if as_json:
        _last(to_json({"folder": str(folder), **results}))
        return
    tables = {
        "rivals": _rivals,
        "volatility": _volatilities,
        "three-scales": _three_scales,
        "switching-paper": _classification,
        "hvae": _densities,
    }
    Console().print(tables[results["preset"]](results))
    _verdicts(folder, results)


def show_analysis(folder: Path, results: dict, as_json: bool = False) -> None:
    """Print what each level of a hierarchy says of the bars, and what else was found."""
    if as_json:
        _last(to_json({"folder": str(folder), **results}))
        return
    table = Table(title=f"{results['data']['spans']['out_of_sample']['bars']:,} bars that it was not trained on")
    fill = _latent_levels if isinstance(results["levels"], dict) else _levels
    fill(table, results["levels"])
    Console().print(table)
    _verdicts(folder, results)


def _levels(table: Table, levels: list[dict]) -> None:
    for heading in ("", "bars", "best horizon for volatility", "power above two blocks", "memory, 10 %", "1 %"):
        table.add_column(heading, justify="right" if heading else "left")
    for level in levels:
        lengths = (
            f"{level['memory'][share]} bars" if level["memory"][share] else "more" for share in ("0.1", "0.01")
        )
        table.add_row(
            f"level {level['level']}",
            str(level["stride"]),
            f"{level['best_horizon']['variance']} bars",
            _text("{:.0%}", level["slow_share"]),
            *lengths,
        )


def _latent_levels(table: Table, levels: dict) -> None:
    for heading in ("", "bars", "KL a latent vector", "active units"):
        table.add_column(heading, justify="right" if heading else "left")
    for level in levels["out_of_sample"]:
        active = f"{level['active_units']} of {level['units']}"
        table.add_row(f"level {level['level']}", str(level["stride"]), f"{level['kl_a_latent']:.3f} nats", active)


def _verdicts(folder: Path, results: dict) -> None:
    for name, sentence in results["verdicts"].items():
        print(f"{name}. {sentence}")
    _last(f"report: {folder / 'report.html'}")


def _rivals(results: dict) -> Table:
    data, traded = results["data"], results["trading"]["rivals"]
    table = Table(
        title=f"{data['spans']['test']['bars']:,} test bars, {len(results['protocol']['seeds'])} seeds, "
        f"horizon {data['horizon']}"
    )
    for heading in ("", "QLIKE", "MSE, %²", "right", "log loss", "Sharpe, net", "size"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, found in results["rivals"].items():
        qlike, mse, right, log_loss = (
            found["scores"].get(key, {}).get("mean", math.nan) for key in ("qlike", "mse", "accuracy", "log_loss")
        )
        table.add_row(
            name,
            _text("{:.4f}", qlike),
            _text("{:.3f}", 1e4 * mse),
            _text("{:.1%}", right),
            _text("{:.4f}", log_loss),
            _text("{:.2f}", traded[name]["net"]["sharpe"] if name in traded else None),
            _text("{:,.0f}", found["fits"]["parameters"]),
        )
    return table


def _volatilities(results: dict) -> Table:
    data = results["data"]
    table = Table(title=f"{data['n']:,} test bars of {' and '.join(data['judged'])}")
    for heading in ("", "QLIKE", "log-MSE", "HiSS against it", "95 % interval", "DM", "size"):
        table.add_column(heading, justify="right" if heading else "left")
    for found in results["rows"]:
        gap = found.get("against", {}).get("qlike")
        low, high = gap["interval"] if gap else (math.nan, math.nan)
        table.add_row(
            found["name"],
            f"{found['qlike']['mean']:.4f}",
            f"{found['log_mse']['mean']:.4f}",
            _text("{:+.1%}", gap and gap["relative"]),
            f"{low:+.1%} to {high:+.1%}" if gap else "-",
            _text("{:+.2f}", gap and gap["statistic"]),
            f"{found['parameters']:,}",
        )
    return table


def _three_scales(results: dict) -> Table:
    table = Table(title=f"a made-up system, {len(results['protocol']['seeds'])} seeds")
    for heading in ("", "MSE", "known", "less HiSS's", "95 % interval", "HiSS won", "size"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, found in results["scores"].items():
        gap = results["differences"].get(name)
        low, high = gap["interval"] if gap else (math.nan, math.nan)
        table.add_row(
            name,
            f"{found['mse']:.4f}",
            f"{found['share']:.1%}",
            _text("{:+.4f}", gap and gap["difference"]),
            f"{low:+.4f} to {high:+.4f}" if gap else "-",
            f"{gap['won']} of {len(gap['seeds'])}" if gap else "-",
            f"{found['parameters']:,}",
        )
    return table


def _densities(results: dict) -> Table:
    table = Table(title=f"{results['data']['windows']:,} test windows, {len(results['protocol']['seeds'])} seeds")
    for heading in ("", "nats a value", "95 % interval"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, found in results["bounds"].items():
        for model, each in found["rows"].items():
            low, high = each["interval"]
            table.add_row(f"{model} on {name}", f"{each['mean']:.4f}", f"{low:.4f} to {high:.4f}")
    return table


def _classification(results: dict) -> Table:
    classified = results["classification"]
    table = Table(title=f"{classified['n']:,} test bars, {len(results['protocol']['seeds'])} seeds")
    for heading in ("", "accuracy", "balanced accuracy", "MCC", "Sharpe, net"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, found in classified["rows"].items():
        net = results["backtest"]["out_of_sample"][name]["net"]["mean"]["sharpe"]
        table.add_row(name, *(_text("{:.3f}", score) for score in found["mean"].values()), _text("{:.2f}", net))
    return table


def show_scenarios(folder: Path, results: dict, as_json: bool = False) -> None:
    """Print what scenarios did to an account, by generator, and what came of it in plain words."""
    if as_json:
        short = {name: found for name, found in results.items() if name not in ("fans", "histograms")}
        _last(to_json({"folder": str(folder), **short}))
        return
    table = Table(title=f"{results['n']:,} scenarios of {results['bars']:,} bars from {results['since'][:10]} on")
    for heading in ("", "return, median", "worst 5 %", "drawdown, worst 5 %", "liquidated", "before costs, mean"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, found in results["generators"].items():
        returns, gross = found["quantiles"]["total_return"]["values"], found["means"]["gross_return"]
        table.add_row(
            name,
            _text("{:+.2%}", returns[2]),
            _text("{:+.2%}", returns[0]),
            _text("{:.2%}", found["quantiles"]["max_drawdown"]["values"][0]),
            _text("{:.1%}", found["probabilities"]["liquidated"]["value"]),
            f"{_text('{:+.2%}', gross['value'])} ± {_text('{:.2%}', gross['error'])}",
        )
    Console().print(table)
    for sentence in results["verdicts"]:
        print(sentence)
    _last(f"report: {folder / 'report.html'}")


def show_sweep(folder: Path, results: dict, as_json: bool = False) -> None:
    """Print the best combinations of a sweep, and how likely it is that the best of them was luck."""
    if as_json:
        _last(to_json({"folder": str(folder), **{name: results[name] for name in results if name != "curves"}}))
        return
    table = Table(
        title=f"{results['backtests']:,} backtests from {results['since'][:10]} to {results['until'][:10]}"
    )
    for heading in (*results["grid"], "Sharpe", "return", "max drawdown", "trades"):
        table.add_column(heading, justify="right")
    for each in results["table"][:_BEST]:
        table.add_row(
            *map(str, each["params"].values()),
            _text("{:.2f}", each["sharpe"]),
            _text("{:+.2%}", each["total_return"]),
            _text("{:.2%}", each["max_drawdown"]),
            _text("{:.0f}", each["trades"]),
        )
    Console().print(table)
    if results["failed"]:
        backtest, error = next(iter(results["failed"].items()))
        print(f"{len(results['failed']):,} backtests failed, as {backtest}: {error}")
    if results["in_sample"]:
        print("IN SAMPLE: the model was trained on some of these bars, so these results prove nothing.")
    for sentence in results["verdicts"].values():
        print(sentence)
    _last(f"report: {folder / 'report.html'}")


def show_audit(report: Report, as_json: bool = False) -> None:
    """Print the verdicts of a leak audit, what each rests on, and what they come to."""
    if as_json:
        _last(to_json(report.as_dict()))
        return
    table = Table(title=f"{report.target}, {report.runs:,} runs")
    for heading in ("property", "verdict", "first at", "of", "reach, bars"):
        table.add_column(heading, justify="right" if heading.startswith("reach") else "left")
    for verdict in report.verdicts:
        word = verdict.status.upper() if verdict.is_flagged else verdict.status
        reach = "" if verdict.reach is None else f"{verdict.reach:,}"
        when = "" if verdict.bar is None else verdict.bar.removesuffix(":00+00:00").replace("T", " ")
        table.add_row(verdict.property, word, when, verdict.line or "", reach)
    Console().print(table)
    for verdict in report.verdicts:
        print(f"{verdict.property}: {verdict.text}.")
    _last(report.sentence)


def show_leaky(folder: Path, results: dict, as_json: bool = False) -> None:
    """Print how often a model was right on inputs that leak and on those that do not, and what that shows."""
    if as_json:
        _last(to_json({"folder": str(folder), **{name: results[name] for name in results if name != "curves"}}))
        return
    from hissbt.research.demonstrations.verdicts import significance

    table = Table(title=f"{results['data']['spans']['test']['bars']:,} days that the model was not trained on")
    for heading in ("inputs by", "right", "95 % interval", "Pesaran–Timmermann", "Sharpe, net"):
        table.add_column(heading, justify="left" if heading == "inputs by" else "right")
    for name, score in results["scores"].items():
        low, high = score["interval"]
        pvalue = significance(score["pesaran_timmermann"]["pvalue"])
        sharpe = _text("{:.2f}", score["trading"]["sharpe"])
        table.add_row(name, f"{score['accuracy']:.1%}", f"{low:.1%} to {high:.1%}", pvalue, sharpe)
    Console().print(table)
    _verdicts(folder, results)


def show_million(folder: Path, results: dict, as_json: bool = False) -> None:
    """Print what became of the best of many models, on the market and on noise, and what that shows."""
    worlds = results["worlds"]
    if as_json:
        long = ("sharpes", "curve")
        short = {name: {key: world[key] for key in world if key not in long} for name, world in worlds.items()}
        kept = {name: results[name] for name in results if name != "closes"}
        _last(to_json({"folder": str(folder), **kept, "worlds": short}))
        return
    from hissbt.reports.page.text import chance

    table = Table(title=f"the best of {results['models']:,} models, annual Sharpe ratios")
    for heading in ("on", "when chosen", "unseen", "luck of the best", "PSR", "DSR", "PBO"):
        table.add_column(heading, justify="left" if heading == "on" else "right")
    for name, world in worlds.items():
        best = world["best"]["chosen"]
        ratios = (_text("{:.2f}", value) for value in (best["chosen"], best["unseen"], world["luck"]))
        chances = (chance(value) for value in (world["psr"], world["dsr"], world["overfitting"]["pbo"]))
        table.add_row(name, *ratios, *chances)
    Console().print(table)
    _verdicts(folder, results)


def show_fetched(fetched: list[Fetched], root: Path, as_json: bool = False) -> None:
    """Print what a download did to each dataset, and the gaps that are accepted in it."""
    if as_json:
        _last(to_json({"store": str(root), "datasets": [_fetched_fields(one) for one in fetched]}))
        return
    table = Table(title=" and ".join({f"{one.dataset.exchange} {one.dataset.network}": None for one in fetched}))
    for heading in ("dataset", "new", "missing", "begins", "requests"):
        left = heading == "dataset"
        table.add_column(heading, justify="left" if left else "right", no_wrap=left)
    for one in fetched:
        missing = sum(gap.count for gap in one.gaps)
        table.add_row(
            f"{one.dataset.symbol} {one.dataset.kind} {one.dataset.timeframe}",
            f"{one.bars:,}",
            f"{missing:,}",
            f"{one.begins:%Y-%m-%d %H:%M}" if one.begins else "",
            f"{one.requests:,}",
        )
    Console().print(table)
    for one in fetched:
        for gap in one.gaps:
            print(f"gap in {one.dataset}: {gap}")
    _last(f"store: {root}")


def _fetched_fields(one: Fetched) -> dict:
    """Return what JSON shows of one download; times are ISO 8601 in UTC."""
    gaps = [{"first": gap.first.isoformat(), "end": gap.end.isoformat(), "count": gap.count} for gap in one.gaps]
    return asdict(one) | {"begins": one.begins and one.begins.isoformat(), "gaps": gaps}


def _last(text: str) -> None:
    """Print and flush: that a reader has gone away, as with ``| head``, must show while typer can deal with it."""
    print(text, flush=True)


def _results(run: Run) -> Table:
    closes = run.ledger["close_time"]
    table = Table(title=f"{closes.iloc[0]:%Y-%m-%d} to {closes.iloc[-1]:%Y-%m-%d}, {len(closes):,} bars")
    table.add_column("")
    table.add_column("strategy", justify="right")
    table.add_column("buy and hold", justify="right")
    for name, form in _RESULTS.items():
        values = (run.metrics[column][name] for column in ("trading", "buy_and_hold"))
        table.add_row(name.replace("_", " "), *(_text(form, value) for value in values))
    return table


def _costs(costs: dict) -> Table:
    table = Table(title=f"from gross to net, break-even at {_text('{:.1f} bp', costs['break_even_cost_bp'])}")
    for name in ("", "money", "of the start", "of the turnover"):
        table.add_column(name, justify="right" if name else "left")
    for name in _COSTS:
        sign = 1 if name in ("gross", "net") else -1
        forms = ("", "{:+,.2f}"), ("_return", "{:+.2%}"), ("_bp", "{:+.2f} bp")
        table.add_row(name.replace("_", " "), *(_text(form, sign * costs[name + of] + 0.0) for of, form in forms))
    return table


def _forecast(scores: dict, title: str) -> Table:
    table = Table(title=f"{title}, {scores['n']:,} bars")
    table.add_column("")
    table.add_column("model", justify="right")
    table.add_column("baseline", justify="right")
    for name, form, baseline in (
        ("accuracy", "{:.2%}", "majority_class"),
        ("f1", "{:.3f}", "majority_class"),
        ("mse", "{:.3e}", "zero_forecast"),
        ("mae", "{:.3e}", "zero_forecast"),
    ):
        values = _text(form, scores[name]), _text(form, scores[baseline][name])
        table.add_row(f"{name}, beside {baseline.replace('_', ' ')}", *values)
    return table


def _text(form: str, value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else form.format(value)
