"""The parts of the run page between its head and its foot, as HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from hissbt.bars import Bars, parse_time
from hissbt.reports.page import tables
from hissbt.reports.page.account import account_chart
from hissbt.reports.page.costs import cost_chart, waterfall_chart
from hissbt.reports.page.facts import facts_tables
from hissbt.reports.page.markup import chart, note, pair
from hissbt.reports.page.price import MOST_LINES, model_lines, price_chart
from hissbt.reports.page.spans import guard_spans
from hissbt.reports.page.text import escape
from hissbt.reports.page.thin import MOST_POINTS
from hissbt.reports.returns import daily_returns

MOST_TRADES = 1000
"""The most trades that are marked and listed; of more, those with the largest profit or loss."""

_WATERFALL = {"gross": "Gross", "fees": "Fees", "impact": "Spread, impact", "funding": "Funding"}
_WATERFALL |= {"liquidation_fees": "Liquidation", "net": "Net"}


def price(ledger: pd.DataFrame, trades: pd.DataFrame, bars: Bars, run: Mapping) -> str:
    """Return price with entries and exits and the model's lines."""
    here = trades[trades["symbol"] == bars.market.symbol]
    elsewhere = len(trades) - len(here)
    figure = price_chart(ledger, _largest(here), bars, run.get("params", {}))
    left_out = model_lines(ledger)[MOST_LINES:]
    notes = [
        "Markers stand at the close of the bar in which the fill fell, at the price that was paid.",
        f"{elsewhere:,} trades in other markets are in the table only." if elsewhere else "",
        _shown(here, "marked"),
        _thinned(ledger),
        f"Not drawn, but in ledger.parquet: {', '.join(left_out)}." if left_out else "",
    ]
    return chart("price-chart", figure) + note(notes)


def account(ledger: pd.DataFrame, held: pd.DataFrame, inverse: bool) -> str:
    """Return equity, drawdown and exposure."""
    remark = note(["Values at the close of each bar; the metrics' drawdown is that of UTC days."])
    return chart("account-chart", account_chart(ledger, held, inverse)) + remark


def costs(ledger: pd.DataFrame, report: Mapping, fills: pd.DataFrame) -> str:
    """Return what was paid for what and when; ``report`` is the cost report, or empty."""
    paid = chart("costs-chart", cost_chart(ledger))
    if not {"gross", "net"} <= report.keys():
        return paid
    steps = {name: report.get(key) or 0.0 for key, name in _WATERFALL.items()}
    first, *between, last = steps
    steps = {first: steps[first], **{name: -steps[name] for name in between}, last: steps[last]}
    waterfall = chart("waterfall-chart", waterfall_chart(steps), timed=False)
    return pair(waterfall, tables.costs_table(report, fills)) + paid


def months(ledger: pd.DataFrame) -> str:
    """Return the table of monthly returns."""
    return tables.monthly_table(daily_returns(ledger))


def metrics(found: Mapping) -> str:
    """Return the metrics beside buy-and-hold, the Sharpe ratio beside luck, and the forecasts beside rules."""
    strategy = tables.metrics_table(found["trading"], found["buy_and_hold"])
    beside = []
    if weighed := found.get("significance"):
        beside.append(f"<h3>The Sharpe ratio beside luck</h3>{tables.significance_table(weighed)}")
    if forecast := found.get("forecast"):
        heading = f"Forecasts of the next {forecast['horizon']} bars, at {forecast['n']:,} closes"
        beside.append(f"<h3>{heading}</h3>{tables.forecast_table(forecast)}")
    return pair(strategy, "".join(beside)) if beside else strategy


def models(turns: Sequence[Mapping]) -> str:
    """Return which model of a relay traded from when on, what it was trained on, and how that went."""
    gained = sum(turn["total_return"] > 0 for turn in turns)
    unseen = all(parse_time(turn["trained_until"]) <= parse_time(turn["since"]) for turn in turns)
    remark = note(
        [
            f"{len(turns):,} models traded one after the other; {gained:,} of them gained net of costs.",
            "Each was trained only on bars that had closed before the first bar that it traded."
            if unseen
            else "The first was trained on bars that it traded.",
        ]
    )
    return remark + tables.turns_table(turns)


def guards(ledger: pd.DataFrame, record: Sequence[Mapping]) -> str:
    """Return which guard was in force, and when."""
    if guard_spans(ledger).empty:
        return '<p class="soft">No guard was in force at any close.</p>'
    return tables.guards_table(ledger, record)


def trades(table: pd.DataFrame) -> str:
    """Return what ended the trades, and the trades."""
    if table.empty:
        return '<p class="soft">No trade was made.</p>'
    remark = note([_shown(table, "listed"), "A click on a column's head sorts by it."])
    return tables.reasons_table(table) + remark + tables.trades_table(_largest(table))


def provenance(run: Mapping) -> str:
    """Return everything that is needed to repeat the run."""
    groups = (f"<div><h3>{escape(name)}</h3>{table}</div>" for name, table in facts_tables(run))
    return f'<div class="groups">{"".join(groups)}</div>'


def assumptions(texts: Sequence[str], counts: Mapping) -> str:
    """Return what the engine takes for granted, and how often that decided."""
    items = "".join(f"<li>{escape(text)}</li>" for text in texts)
    counted = f"<h3>How often it mattered</h3>{tables.counts_table(counts)}" if counts else ""
    return f'<ol class="assumptions">{items}</ol>{counted}'


# --- pieces


def _largest(trades: pd.DataFrame) -> pd.DataFrame:
    """Return the trades with the largest profit or loss, in their order."""
    if len(trades) <= MOST_TRADES:
        return trades
    return trades.loc[trades["pnl_net"].abs().nlargest(MOST_TRADES).index].sort_index()


def _shown(trades: pd.DataFrame, how: str) -> str:
    if len(trades) <= MOST_TRADES:
        return ""
    return (
        f"Of {len(trades):,} trades the {MOST_TRADES:,} with the largest profit or loss are {how}; "
        "all are in trades.csv."
    )


def _thinned(ledger: pd.DataFrame) -> str:
    if len(ledger) <= MOST_POINTS:
        return ""
    return (
        f"Lines of {len(ledger):,} bars are drawn with at most {MOST_POINTS:,} points: of each stretch of bars "
        "the first, last, lowest and highest value, so that no extreme is lost; all are in ledger.parquet."
    )
