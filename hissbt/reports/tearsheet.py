"""The page that shows a run: QuantStats' tearsheet, or, where there is nothing to chart, a page that says why."""

from __future__ import annotations

import html
import io
import math
from pathlib import Path

import backtrader as bt
import numpy as np
import pandas as pd

from hissbt.atomic import atomic_file
from hissbt.bars import Bars
from hissbt.errors import StrategyError
from hissbt.reports.ledger import Ledger
from hissbt.reports.metrics import buy_and_hold, trading_metrics
from hissbt.reports.quiet import quiet_quantstats
from hissbt.reports.returns import benchmark_returns, daily_returns

_FRACTIONS = ("total_return", "max_drawdown", "win_rate", "exposure")
_FEWEST_DAYS = 5  # below this, annualized ratios and monthly charts say nothing


def tearsheet(
    strategy: bt.Strategy,
    path: str | Path,
    benchmark: Bars | pd.Series | None = None,
    periods_per_year: int | None = None,
    notes: dict[str, str] | None = None,
) -> Path:
    """Write the page of a finished run, whole or not at all, and return its path.

    ``strategy`` is what ``cerebro.run()`` returned; it must have run with a Ledger analyzer, else StrategyError.
    ``benchmark`` is the Bars of the traded asset, or simple daily returns. ``periods_per_year`` is the number of
    days to annualize with; by default it is the market's, or 365 where a bar closed on a weekend and else 252.
    ``notes`` are shown under the title, and so are how many gaps the bars had and what the run paid, if any. All
    days of the ledger count, also those before the first trade.
    """
    path = Path(path)
    ledger = _ledger(strategy)
    notes = (notes or {}) | _gap_note(ledger.frame) | _cost_note(ledger)
    days = periods_per_year or _periods_per_year(strategy, ledger.frame, benchmark)
    returns = daily_returns(ledger.frame).rename(type(strategy).__name__)
    if isinstance(benchmark, Bars):
        benchmark = benchmark_returns(benchmark, ledger.frame)
    title = f"{type(strategy).__name__} on {strategy.data._name or 'data'}"
    with atomic_file(path) as temporary:
        why = _nothing_to_chart(strategy, ledger, returns)
        why = why or _quantstats_page(temporary, title, returns, benchmark, days, notes)
        if why:
            temporary.write_text(_own_page(title, why, strategy, ledger, days, notes), encoding="utf-8")
    return path


def _ledger(strategy: bt.Strategy) -> Ledger:
    for analyzer in strategy.analyzers:
        if isinstance(analyzer, Ledger):
            return analyzer
    raise StrategyError(
        f"{type(strategy).__name__} ran without a ledger: call cerebro.addanalyzer(hissbt.Ledger) before the run"
    )


def _gap_note(frame: pd.DataFrame) -> dict[str, str]:
    gaps, missing = int((frame["gap"] > 0).sum()), int(frame["gap"].sum())
    return {"Gaps": f"{gaps} ({missing} bars missing)"} if gaps else {}


def _cost_note(ledger: Ledger) -> dict[str, str]:
    """Name what was paid and received beside the trades' own profits, as fractions of the start value."""
    frame, liquidations = ledger.frame, int((ledger.fills["reason"] == "liquidation").sum())
    names = {"fees": "fees", "impact": "spread and impact", "funding": "funding"}
    if liquidations:
        names["liquidation_fee"] = f"{liquidations} liquidation(s)"
    paid = {name: frame[column].sum() / frame.attrs["start_value"] for column, name in names.items()}
    parts = [f"{name} {share:.2%}" for name, share in paid.items() if share]
    return {"Costs": f"{', '.join(parts)} of the start value"} if parts else {}


def _periods_per_year(strategy: bt.Strategy, frame: pd.DataFrame, benchmark: Bars | pd.Series | None) -> int:
    bars = benchmark if isinstance(benchmark, Bars) else getattr(strategy.data, "bars", None)
    if bars is not None:
        return bars.market.periods_per_year
    closes = pd.DatetimeIndex(frame["close_time"]) - pd.Timedelta(microseconds=1)
    return 365 if (closes.dayofweek >= 5).any() else 252


# --- QuantStats


def _quantstats_page(path, title, returns, benchmark, days, notes) -> str:
    """Write QuantStats' page; return "", or why it could not be made."""
    with quiet_quantstats() as quantstats:
        try:
            quantstats.reports.html(
                returns,
                None if benchmark is None else _naive(benchmark),
                output=str(path),
                title=title,
                periods_per_year=days,
                strategy_title=returns.name,
                match_dates=False,  # it would drop the days before the first trade
                parameters={name: html.escape(str(text)) for name, text in notes.items()},
            )
        except (ValueError, np.linalg.LinAlgError) as error:  # regressions and densities of degenerate returns
            return f"QuantStats could not chart these returns: {error}."
    page = path.read_text(encoding="utf-8")
    page = page.replace('<link rel="shortcut icon" href="https://qtpylib.io/favicon.ico" type="image/x-icon">', "")
    page = page.replace('<body onload="save()">', "<body>")  # there is no such function
    path.write_text(page, encoding="utf-8")
    return ""


def _naive(returns: pd.Series) -> pd.Series:
    """Return a copy on naive UTC dates."""
    index = pd.DatetimeIndex(returns.index)
    if index.tz is not None:
        index = index.tz_convert("UTC").tz_localize(None)
    return returns.set_axis(index)


# --- our own page


def _nothing_to_chart(strategy: bt.Strategy, ledger: Ledger, returns: pd.Series) -> str:
    """Return why a tearsheet would be empty, or "" where it would not."""
    if ledger.trades.empty:
        return _why_no_trade(strategy, ledger)
    if len(returns) < _FEWEST_DAYS:
        return f"The run spans {len(returns)} day(s): a tearsheet needs at least {_FEWEST_DAYS}."
    if returns.min() >= 0 and returns.max() > 1:
        return "No day lost and one more than doubled the account: QuantStats would take such returns for prices."
    return ""


def _why_no_trade(strategy: bt.Strategy, ledger: Ledger) -> str:
    frame, rules = ledger.frame, strategy.p
    if len(ledger.orders):
        fates = ", ".join(f"{n} {status}" for status, n in ledger.orders["status"].value_counts().items())
        return f"No trade: {len(ledger.orders)} orders were placed and none was filled ({fates})."
    if "prob_up" not in frame or frame["prob_up"].notna().sum() == 0:
        return "No trade: the strategy placed no order."
    text = f"No trade: prob_up ranged {_span(frame['prob_up'])}, expected_return {_span(frame['expected_return'])}"
    if not all(hasattr(rules, name) for name in ("prob_long", "prob_short", "threshold")):
        return f"{text}, and the strategy placed no order."
    needed = f"a long needs prob_up > {rules.prob_long} and expected_return > {rules.threshold}"
    mirrored = f"a short prob_up < {rules.prob_short} and -expected_return > {rules.threshold}"
    return f"{text}; {needed}, {mirrored}, and either a size above 0. Choose thresholds that the model reaches."


def _span(values: pd.Series) -> str:
    return f"{values.min():.4g} … {values.max():.4g}"


def _own_page(title, why, strategy, ledger, days, notes) -> str:
    scheme = strategy.broker.getcommissioninfo(strategy.data)
    commission = getattr(scheme.p, "taker", scheme.p.commission)
    held = buy_and_hold(ledger.frame, commission, getattr(scheme, "inverse", False))
    columns = {
        type(strategy).__name__: trading_metrics(ledger.frame, ledger.trades, ledger.fills, days),
        "Buy and hold": trading_metrics(*held, days),
    }
    rows = "".join(
        _row(name, [metrics[name] for metrics in columns.values()]) for name in next(iter(columns.values()))
    )
    header = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *columns))
    facts = " &bull; ".join(html.escape(f"{name}: {text}") for name, text in notes.items())
    first, last = ledger.frame["close_time"].iloc[[0, -1]]
    return _PAGE.format(
        title=html.escape(title),
        span=f"{first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC, {len(ledger.frame)} bars",
        facts=facts,
        why=html.escape(why),
        header=header,
        rows=rows,
        charts=_histograms(ledger.frame, strategy.p),
    )


def _row(name: str, values: list[float]) -> str:
    cells = "".join(f"<td>{_number(name, value)}</td>" for value in values)
    return f"<tr><td>{name.replace('_', ' ')}</td>{cells}</tr>"


def _number(name: str, value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{value:.2%}" if name in _FRACTIONS else f"{value:,.4g}"


def _histograms(frame: pd.DataFrame, rules) -> str:
    """Return one SVG: the distribution of each signal and the thresholds it had to pass; "" without signals."""
    if "prob_up" not in frame or frame["prob_up"].notna().sum() == 0:
        return ""
    from matplotlib import style
    from matplotlib.figure import Figure  # without pyplot there is no window and no state shared with the user

    threshold = getattr(rules, "threshold", None)
    limits = {
        "prob_up": [getattr(rules, "prob_short", None), getattr(rules, "prob_long", None)],
        "expected_return": [] if threshold is None else [-threshold, threshold],
    }
    text = io.StringIO()
    with style.context("default"):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        for axes, (name, marks) in zip(figure.subplots(1, 2), limits.items(), strict=True):
            axes.hist(frame[name].dropna(), bins=50, color="#348dc1")
            for mark in marks:
                if mark is not None:
                    axes.axvline(mark, color="#af4b64", linestyle="--")
            axes.locator_params(axis="x", nbins=5)
            axes.set_xlabel(name)
            axes.set_ylabel("bars")
        figure.savefig(text, format="svg")
    return text.getvalue()[text.getvalue().index("<svg") :]


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font: 14px/1.5 Arial, sans-serif; max-width: 900px; margin: 30px auto; color: #000; background: #fff }}
h1, h4 {{ font-weight: 400; margin: 0 }} h4 {{ color: grey }}
.why {{ font-size: 16px; border-left: 4px solid #af4b64; padding: 8px 14px; margin: 24px 0; background: #f7f1f2 }}
svg {{ width: 100%; height: auto }}
table {{ border-spacing: 0; min-width: 420px; margin-top: 20px }}
td, th {{ text-align: right; padding: 4px 8px }} th {{ background: #eee }}
td:first-child {{ text-align: left }}
</style>
</head>
<body>
<h1>{title}</h1>
<h4>{span}</h4>
<h4>{facts}</h4>
<p class="why">{why}</p>
{charts}
<table><thead><tr>{header}</tr></thead><tbody>{rows}</tbody></table>
</body>
</html>
"""
