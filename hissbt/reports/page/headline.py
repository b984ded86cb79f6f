"""The head of the run page: what was run, how it ended, and what a reader must know before believing it."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from hissbt.bars import Bars, parse_time
from hissbt.reports.page.spans import guard_spans
from hissbt.reports.page.text import bp, chance, escape, known, money, number, percent, time, words
from hissbt.timeframe import format_timeframe

_ENOUGH_FUNDING = 0.99  # of the events that were due


def title(run: Mapping, bars: Bars) -> str:
    """Return the strategy's name, without the file it came from, and what it traded."""
    return f"{str(run['strategy']).rsplit(':', 1)[-1]} on {bars.market.symbol}"


def headline(run: Mapping, metrics: Mapping, ledger: pd.DataFrame, trades: pd.DataFrame, bars: Bars) -> str:
    """Return title, span, verdict, notices and the main figures, as HTML."""
    first, last = ledger["close_time"].iloc[0] - bars.timeframe, ledger["close_time"].iloc[-1]
    span = f"{time(first)} to {time(last)} UTC, {_count(len(ledger), 'bar')} of {format_timeframe(bars.timeframe)}"
    return "\n".join(
        [
            f"<h1>{escape(title(run, bars))}</h1>",
            f'<p class="soft">{escape(span)}</p>',
            f'<p class="verdict">{escape(verdict(metrics))}</p>',
            _significance(metrics),
            _notices([*_grave(run, metrics, ledger, trades), *_slight(run, metrics, ledger, trades)]),
            _tiles(metrics),
        ]
    )


def verdict(metrics: Mapping) -> str:
    """Return how the run ended beside buy-and-hold, in one or two plain sentences."""
    ours, theirs = metrics["trading"]["total_return"], metrics["buy_and_hold"]["total_return"]
    if not metrics["trading"]["trades"]:
        return f"No trade was made. Buy-and-hold {_ended(theirs)}."
    if not (known(ours) and known(theirs)):
        return f"The strategy {_ended(ours)} net of costs; buy-and-hold {_ended(theirs)}."
    judged = "did not beat" if ours <= theirs else "lost less than" if ours < 0 else "beat"
    return f"The strategy {_ended(ours)} net of costs; buy-and-hold {_ended(theirs)}. It {judged} buy-and-hold."


def _significance(metrics: Mapping) -> str:
    weighed = metrics.get("significance")
    return f'<p class="significance">{escape(weighed["sentence"])}</p>' if weighed else ""


def _ended(total_return: float) -> str:
    if not known(total_return):
        return "has no defined return"
    return f"{'lost' if total_return < 0 else 'gained'} {percent(abs(total_return))}"


# --- notices, as (text, whether it is grave)


def _grave(run: Mapping, metrics: Mapping, ledger: pd.DataFrame, trades: pd.DataFrame) -> list[tuple[str, bool]]:
    found = []
    if metrics.get("in_sample"):
        end = time(parse_time(run["trained_until"]))
        found.append(f"IN SAMPLE: the model was trained on bars up to {end} UTC. These results prove nothing.")
    if faults := (metrics.get("significance") or {}).get("ledger_faults"):
        more = f" ({_count(len(faults) - 1, 'more fault')})" if len(faults) > 1 else ""
        found.append(
            f"TRIALS MAY BE MISSING from the count that the Sharpe ratio is set against. {faults[0]}{more}"
        )
    for span in guard_spans(ledger).query("halted").itertuples():
        found.append(
            f"The {words(span.name)} guard tripped at {time(span.since)} UTC and held the account flat to the end."
        )
    if liquidations := int((trades["exit_reason"] == "liquidation").sum()):
        found.append(f"{_count(liquidations, 'trade')} ended in a liquidation.")
    funding = run.get("funding") or {"expected": 0, "present": 0}
    if funding["present"] < _ENOUGH_FUNDING * funding["expected"]:
        found.append(
            f"Funding of {funding['symbol']} is incomplete: of {funding['expected']:,} events "
            f"{funding['expected'] - funding['present']:,} are unknown, and charged nothing."
        )
    return [(text, True) for text in found]


def _slight(run: Mapping, metrics: Mapping, ledger: pd.DataFrame, trades: pd.DataFrame) -> list[tuple[str, bool]]:
    found = []
    forecast = metrics.get("forecast") or {}
    naive = (forecast.get("majority_class") or {}).get("accuracy")
    if known(naive) and known(forecast.get("accuracy")) and forecast["accuracy"] <= naive:
        found.append(
            f"The forecasts name the right direction at {percent(forecast['accuracy'])} of closes; always naming "
            f"the more frequent one does so at {percent(naive)}."
        )
    zero = (forecast.get("zero_forecast") or {}).get("mse")
    if known(zero) and known(forecast.get("mse")) and forecast["mse"] >= zero:
        found.append("The forecasts of the return are no better than always expecting 0 (mean squared error).")
    if missing := int(ledger["gap"].sum()):
        found.append(f"{_count(missing, 'bar')} missing, in {_count(int((ledger['gap'] > 0).sum()), 'gap')}.")
    if still_open := int(trades["exit_time"].isna().sum()):
        found.append(f"{_count(still_open, 'position')} open at the end, valued at the last close.")
    return [(text, False) for text in found]


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _notices(found: list[tuple[str, bool]]) -> str:
    items = "".join(f"<li{' class=bad' if grave else ''}>{_loud(text)}</li>" for text, grave in found)
    return f'<ul class="notices">{items}</ul>' if items else ""


def _loud(text: str) -> str:
    return escape(text).replace("IN SAMPLE", "<b>IN SAMPLE</b>")


# --- the main figures


def _tiles(metrics: Mapping) -> str:
    trading, held, costs = metrics["trading"], metrics["buy_and_hold"], metrics.get("costs") or {}
    found = {
        "Net return": _colored(trading["total_return"]),
        "Buy and hold": _colored(held["total_return"]),
        "Sharpe ratio": _plain(trading.get("sharpe")),
        **_significance_tiles(metrics.get("significance")),
        "Max drawdown": percent(trading.get("max_drawdown")),
        "Trades": f"{trading['trades']:,}",
        "Time in market": percent(trading.get("exposure")),
    }
    if {"gross", "net"} <= costs.keys() and known(costs["gross"]) and known(costs["net"]):
        found["All costs"] = money(costs["gross"] - costs["net"])
    if "break_even_cost_bp" in costs:
        found["Break-even cost"] = bp(costs["break_even_cost_bp"])
    return (
        '<dl class="tiles">' + "".join(f"<div><dt>{k}</dt><dd>{v}</dd></div>" for k, v in found.items()) + "</dl>"
    )


def _significance_tiles(weighed: Mapping | None) -> dict[str, str]:
    if not weighed:
        return {}
    return {"Probabilistic SR": chance(weighed["psr"]), "Deflated SR": chance(weighed["dsr"])}


def _plain(value: float | None) -> str:
    return f"{value:.2f}".replace("-", "−") if known(value) else number(None)


def _colored(value: float) -> str:
    if not known(value) or not value:
        return percent(value)
    return f'<span class="{"up" if value > 0 else "down"}">{percent(value, sign=True)}</span>'
