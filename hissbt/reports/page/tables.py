"""The tables of the run page, as HTML; every text that comes from outside is escaped here."""

from __future__ import annotations

import calendar
import math
from collections.abc import Mapping, Sequence

import pandas as pd

from hissbt.bars import parse_time
from hissbt.reports.page.markup import row, table
from hissbt.reports.page.spans import guard_spans
from hissbt.reports.page.text import NOTHING, bp, chance, escape, fixed, known, money, number, percent, time, words

_FRACTIONS = {"total_return", "max_drawdown", "win_rate", "exposure", "accuracy", "f1"}
_TITLES = {"mse": "Mean squared error", "mae": "Mean absolute error"}
_COST_LINES = {
    "gross": "Gross, before all costs",
    "fees": "Fees",
    "impact": "Spread and impact",
    "spread": "of which half spread",
    "square_root_impact": "of which square-root impact",
    "funding": "Funding",
    "liquidation_fees": "Liquidation fees",
    "net": "Net",
}
_TRADE_COLUMNS = {
    "entry_time": ("Entry (UTC)", time),
    "exit_time": ("Exit (UTC)", time),
    "symbol": ("Symbol", escape),
    "side": ("Side", escape),
    "size": ("Size", number),
    "entry_price": ("In at", number),
    "exit_price": ("Out at", number),
    "pnl_gross": ("Gross", money),
    "fees": ("Fees", money),
    "impact": ("Impact", money),
    "funding": ("Funding", money),
    "liquidation_fee": ("Liquidation", money),
    "pnl_net": ("Net", money),
    "exit_reason": ("Exit by", escape),
}
_TEXTS = frozenset(("symbol", "side", "exit_reason"))


def monthly_table(returns: pd.Series) -> str:
    """Return a table of years by months, and the year's total, of daily simple ``returns`` on UTC dates."""
    growth = 1 + returns
    months = growth.groupby([returns.index.year, returns.index.month]).prod() - 1
    years = growth.groupby(returns.index.year).prod() - 1
    # Colored against the largest month; a year against the largest year.
    largest, best = months.abs().max(), years.abs().max()
    rows = []
    for year, total in years.items():
        cells = [_return(months.get((year, month)), largest) for month in range(1, 13)]
        rows.append(row([escape(year), *cells, _return(total, best)]))
    return table(["Year", *calendar.month_abbr[1:], "Total"], rows, "heat")


def metrics_table(trading: Mapping, held: Mapping) -> str:
    """Return the metrics of the strategy and, beside them, of buy-and-hold."""
    rows = [
        row([_title(name), *(_metric(name, column.get(name)) for column in (trading, held))]) for name in trading
    ]
    return table(["", "Strategy", "Buy and hold"], rows)


def significance_table(weighed: Mapping) -> str:
    """Return what a Sharpe ratio is set against, see ``hissbt.reports.metrics.significance``."""
    needed, without = weighed["needed_days"], weighed["trials"] - weighed["trials_with_sharpe"]
    needed = f"{math.ceil(needed):,}" if known(needed) else "no number would do" if needed == math.inf else NOTHING
    found = {
        "Sharpe ratio": fixed(weighed["sharpe"], 2),
        "Probability that the true one is above 0 (PSR)": chance(weighed["psr"]),
        "Trials on this symbol and timeframe": f"{weighed['trials']:,}",
        "of which without a Sharpe ratio of 30 days": f"{without:,}",
        "Sharpe ratio that luck gives the best of them": fixed(weighed["luck"], 2),
        "Probability that the true one is above that (DSR)": chance(weighed["dsr"]),
        "Days": f"{weighed['days']:,}",
        "Independent days that they are worth": fixed(weighed["effective_days"], 0),
        "Days that a DSR of 95% would need": needed,
    }
    return table(["", ""], [row([name, text]) for name, text in found.items()], "plain")


def forecast_table(forecast: Mapping) -> str:
    """Return the scores of the forecasts beside those of a rule that needs no model."""
    rules = (("majority_class", "majority class"), ("zero_forecast", "always 0"))
    rows = [
        row([_title(name), _metric(name, forecast.get(name)), _metric(name, score), rule])
        for key, rule in rules
        for name, score in (forecast.get(key) or {}).items()
    ]
    return table(["", "Forecast", "Without a model", "Rule"], rows)


def trades_table(trades: pd.DataFrame) -> str:
    """Return one row a trade, in order; a click on a head sorts."""
    columns = [name for name in _TRADE_COLUMNS if name in trades]
    if trades["symbol"].nunique() < 2:
        columns.remove("symbol")
    cells = [[_TRADE_COLUMNS[name][1](value) for value in trades[name]] for name in columns]
    keys = [_sort_keys(trades[name]) for name in columns]
    rows = [
        "".join(_cell(text, key, name) for text, key, name in zip(texts, row_keys, columns, strict=True))
        for texts, row_keys in zip(zip(*cells, strict=True), zip(*keys, strict=True), strict=True)
    ]
    heads = [f'<th scope="col"{_kind(name)}>{_TRADE_COLUMNS[name][0]}</th>' for name in columns]
    return table(heads, rows, "trades sortable")


def reasons_table(trades: pd.DataFrame) -> str:
    """Return how many trades each reason ended, and what they made."""
    groups = trades.groupby("exit_reason", sort=True)["pnl_net"]
    rows = [
        row(
            [
                escape(reason),
                str(len(profits)),
                percent((profits > 0).mean()),
                money(profits.mean()),
                money(profits.sum()),
            ]
        )
        for reason, profits in groups
    ]
    return table(["Exit by", "Trades", "Won", "Mean net", "Net"], rows)


def costs_table(report: Mapping, fills: pd.DataFrame) -> str:
    """Return the way from gross to net of a cost report in money, of the start value, and of what was traded."""
    rows = [
        row(
            [
                label,
                money(report[name]),
                percent(report.get(f"{name}_return")),
                number(report.get(f"{name}_bp"), 4),
            ]
        )
        for name, label in _COST_LINES.items()
        if name in report
    ]
    return table(["", "Money", "% of start", "bp of notional"], rows) + _reach_table(report, fills)


def _reach_table(report: Mapping, fills: pd.DataFrame) -> str:
    """Return how much was traded, and at what cost or size nothing would have been left."""
    maker = fills["notional"][fills["maker"].astype(bool)].sum() / fills["notional"].sum() if len(fills) else None
    capacity = f"{money(report.get('capacity'))} ({number(report.get('capacity_multiple'), 4)} × this run)"
    found = {
        "Break-even cost of notional": bp(report.get("break_even_cost_bp")),
        "Turnover": f"{number(report.get('turnover'), 4)} × equity a year",
        "Notional traded": f"{money(report.get('notional'))} in {len(fills):,} fills",
        "Filled as maker": percent(maker),
        "Capacity": escape(report.get("capacity_reason") or capacity),
    }
    return table(["", ""], [row([name, text]) for name, text in found.items()], "plain")


def guards_table(ledger: pd.DataFrame, record: Sequence[Mapping]) -> str:
    """Return when each guard was in force (the ledger), and how far its limit was overshot (``record``)."""
    rows = []
    for name, spans in guard_spans(ledger).groupby("name", sort=False):
        own = pd.DataFrame([row for row in record if row["name"] == name], columns=["worst", "overshoot"])
        rows.append(
            row(
                [
                    _title(name),
                    str(len(spans)),
                    f"{spans['bars'].sum():,}",
                    time(spans["since"].iloc[0]),
                    "the end" if spans["to_the_end"].iloc[-1] else time(spans["until"].iloc[-1]),
                    number(own["worst"].max(), 4),
                    number(own["overshoot"].max(), 4),
                ]
            )
        )
    return table(["Guard", "Times", "Bars", "First (UTC)", "Last until (UTC)", "Worst", "Largest overshoot"], rows)


def turns_table(turns: Sequence[Mapping]) -> str:
    """Return one row a model of a relay, in the order of their turns."""
    stamps = ("since", "trained_from", "trained_until")
    rows = [
        row(
            [
                *(time(parse_time(turn[name])) for name in stamps),
                f"{turn['bars']:,}",
                percent(turn["total_return"]),
                escape(turn["sha256"][:12]),
            ]
        )
        for turn in turns
    ]
    return table(["Traded from (UTC)", "Trained from", "Trained until", "Bars", "Net return", "Model"], rows)


def counts_table(counts: Mapping) -> str:
    """Return how often each thing happened that an assumption decided."""
    return table(["", ""], [row([_title(name), f"{count:,}"]) for name, count in counts.items()], "plain")


# --- pieces


def _cell(text: str, key: object, name: str) -> str:
    kind = _kind(name)
    if name in ("pnl_net", "pnl_gross") and known(key):
        kind = f' class="{"down" if key < 0 else "up"}"'
    return f'<td{kind} data-key="{escape(key)}">{text}</td>'


def _kind(name: str) -> str:
    return ' class="text"' if name in _TEXTS else ""


def _sort_keys(values: pd.Series) -> list:
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return list(pd.DatetimeIndex(values).as_unit("ms").asi8)
    return list(values)


def _return(value: float | None, largest: float) -> str:
    """Return a cell whose color is as strong as the return is large beside the largest one."""
    if not known(value):
        return "<td></td>"
    strength = 60 * abs(value) / largest if largest else 0.0
    hue = "var(--up)" if value > 0 else "var(--down)"
    return f'<td style="background:color-mix(in srgb,{hue} {strength:.0f}%,transparent)">{percent(value)}</td>'


def _title(name: str) -> str:
    return escape(_TITLES.get(name, words(name).capitalize()))


def _metric(name: str, value: float | None) -> str:
    if name in _FRACTIONS:
        return percent(value)
    return money(value) if name == "fees" else _ratio(value)


def _ratio(value: float | None) -> str:
    whole = known(value) and float(value).is_integer()
    return number(value, 15 if whole else 4)
