"""The chart of the price, with entries and exits, and of the model's lines below it."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hissbt.bars import Bars
from hissbt.reports.page.costs import COSTS
from hissbt.reports.page.panels import (
    AMBER,
    BLUE,
    FAINT_GRAY,
    GRAY,
    GREEN,
    RED,
    VIOLET,
    add_line,
    finite,
    milliseconds,
    panels,
)
from hissbt.reports.page.shading import mark_guards
from hissbt.reports.page.text import money, number, time, words
from hissbt.reports.page.thin import thinned

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_HUES = (BLUE, VIOLET, AMBER, GREEN, RED, GRAY)
MOST_LINES = len(_HUES)
"""The most lines of a model that get a panel of their own."""

_BOOKS = {"close_time", "value", "cash", "position", "price", "guard", "gap", *COSTS}


def model_lines(ledger: pd.DataFrame) -> list[str]:
    """Return the names of the model's lines in a ledger."""
    return [name for name in ledger if name not in _BOOKS]


def price_chart(ledger: pd.DataFrame, trades: pd.DataFrame, bars: Bars, params: dict) -> Figure:
    """Return price with the entries and exits of ``trades`` (all of this market), and below it the model's lines.

    ``params`` are the strategy's; levels called prob_long and prob_short are drawn into the panel of prob_up.
    """
    closes, lines = ledger["close_time"], model_lines(ledger)[:MOST_LINES]
    titles = [f"Price of {bars.market.symbol}", *map(words, lines)]
    figure = panels(titles, [380] + [96] * len(lines), closes)
    _add_price(figure, ledger, bars)
    _add_trades(figure, trades)
    for row, (name, hue) in enumerate(zip(lines, _HUES, strict=False), start=2):
        add_line(figure, row, closes, ledger[name], name, hue, legend=False)
        for level in _levels(name, params):
            figure.add_hline(y=level, row=row, col=1, line={"color": GRAY, "width": 1, "dash": "dot"})
    mark_guards(figure, ledger, panels=1 + len(lines))
    return figure


def _add_price(figure: Figure, ledger: pd.DataFrame, bars: Bars) -> None:
    """Add the closes, and behind them the range from low to high."""
    from plotly.graph_objects import Scatter

    closes = ledger["close_time"]
    inside = bars.frame.loc[closes.iloc[0] : closes.iloc[-1]]
    for column, fill in (("low", None), ("high", "tonexty")):
        values = inside[column].to_numpy()
        rows = thinned(values)
        figure.add_trace(
            Scatter(
                x=milliseconds(inside.index)[rows],
                y=values[rows],
                mode="lines",
                line={"width": 0},
                fill=fill,
                fillcolor=FAINT_GRAY,
                name="Low to high",
                legendgroup="range",
                showlegend=fill is not None,
                hoverinfo="skip",
            ),
            row=1,
            col=1,
        )
    add_line(figure, 1, closes, ledger["price"], "Close", GRAY)
    figure.update_layout(hovermode="closest")


def _levels(name: str, params: dict) -> list[float]:
    if name != "prob_up":
        return []
    levels = (params.get(key) for key in ("prob_long", "prob_short"))
    return [level for level in levels if isinstance(level, int | float)]


# --- trades


def _add_trades(figure: Figure, trades: pd.DataFrame) -> None:
    """Add a marker for each entry by side and for each exit by outcome, and a line between the two."""
    closed = trades[trades["exit_time"].notna()]
    won, ruined = closed["pnl_net"] > 0, closed["exit_reason"] == "liquidation"
    paths = ((closed[won], GREEN), (closed[~won], RED))
    for part, hue in paths:
        _add_paths(figure, part, hue)
    outcomes = (
        ("Exit with a profit", won & ~ruined, "x-thin", GREEN),
        ("Exit with a loss", ~won & ~ruined, "x-thin", RED),
        ("Liquidation", ruined, "star", RED),
    )
    for name, chosen, symbol, hue in outcomes:
        _add_markers(figure, closed[chosen], "exit", name, symbol, hue)
    for side, symbol, hue in (("long", "triangle-up", GREEN), ("short", "triangle-down", RED)):
        part = trades[trades["side"] == side]
        _add_markers(figure, part, "entry", f"{side.capitalize()} entry", symbol, hue)


def _add_paths(figure: Figure, trades: pd.DataFrame, hue: str) -> None:
    from plotly.graph_objects import Scatter

    if trades.empty:
        return
    nothing = np.full(len(trades), np.nan)
    x = np.column_stack([milliseconds(trades["entry_time"]), milliseconds(trades["exit_time"]), nothing]).ravel()
    y = trades[["entry_price", "exit_price"]].assign(end=nothing).to_numpy(dtype=float).ravel()
    line = {"color": hue, "width": 1, "dash": "dot"}
    figure.add_trace(Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False), row=1, col=1)


def _add_markers(figure: Figure, trades: pd.DataFrame, end: str, name: str, symbol: str, hue: str) -> None:
    from plotly.graph_objects import Scatter

    if trades.empty:
        return
    figure.add_trace(
        Scatter(
            x=milliseconds(trades[f"{end}_time"]),
            y=finite(trades[f"{end}_price"]),
            mode="markers",
            name=name,
            marker=_marker(symbol, hue, len(trades)),
            text=[_story(trade, name, end) for trade in trades.itertuples()],
            hoverinfo="text",
        ),
        row=1,
        col=1,
    )


def _marker(symbol: str, hue: str, count: int) -> dict:
    """Return a marker that is smaller where there are many."""
    return {"symbol": symbol, "color": hue, "size": 9 if count < 100 else 7, "line": {"color": hue, "width": 1.6}}


def _story(trade, name: str, end: str) -> str:
    """Return what the pointer shows at a trade's marker."""
    lines = [f"<b>{name}</b>, {trade.side} {number(trade.size)}"]
    lines.append(f"in {time(trade.entry_time)} at {number(trade.entry_price)}")
    out = "still open, valued" if pd.isna(trade.exit_time) else f"out {time(trade.exit_time)}"
    lines.append(f"{out} at {number(trade.exit_price)}: {html.escape(str(trade.exit_reason))}")
    lines.append(f"net {money(trade.pnl_net)}, gross {money(trade.pnl_gross)}")
    return "<br>".join(lines)
