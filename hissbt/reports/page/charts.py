"""The charts of the run page, as plotly figures on one time axis (UTC, closes of bars)."""

from __future__ import annotations

import html
import itertools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hissbt.bars import Bars
from hissbt.reports.page.spans import guard_spans
from hissbt.reports.page.text import money, number, time, words
from hissbt.reports.page.thin import thinned

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# One hue a meaning, each readable on white and on black.
BLUE, GRAY, GREEN, RED, AMBER, VIOLET = "#3b82c4", "#8a8f98", "#1f9d6b", "#d9485f", "#d08a1d", "#8b6fd1"
FAINT_GRAY = "rgba(138,143,152,0.25)"
_HUES = (BLUE, VIOLET, AMBER, GREEN, RED, GRAY)

COSTS = {"fees": "Fees", "impact": "Spread and impact", "funding": "Funding", "liquidation_fee": "Liquidation"}
"""The ledger's cost columns, and what the page calls them."""

_BOOKS = {"close_time", "value", "cash", "position", "price", "guard", "gap", *COSTS}
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
"""The fonts of the whole page, the first that is there."""

MOST_LINES = 6
"""The most lines of a model that get a panel of their own."""

_HOUR_MS = 3_600_000
_LABEL = 24  # pixels from one guard's name to the next
_GAP = 34  # pixels between two panels: room for the lower one's title


def model_lines(ledger: pd.DataFrame) -> list[str]:
    """Return the names of the model's lines in a ledger."""
    return [name for name in ledger if name not in _BOOKS]


def price_chart(ledger: pd.DataFrame, trades: pd.DataFrame, bars: Bars, params: dict) -> Figure:
    """Return price with the entries and exits of ``trades`` (all of this market), and below it the model's lines.

    ``params`` are the strategy's; levels called prob_long and prob_short are drawn into the panel of prob_up.
    """
    lines = model_lines(ledger)[:MOST_LINES]
    figure = _panels(
        [f"Price of {bars.market.symbol}", *map(words, lines)], [380] + [96] * len(lines), ledger["close_time"]
    )
    _add_price(figure, ledger, bars)
    _add_trades(figure, trades)
    for row, name in enumerate(lines, start=2):
        _add_line(
            figure, ledger["close_time"], ledger[name], name, _HUES[(row - 2) % len(_HUES)], row, legend=False
        )
        for level in _levels(name, params):
            figure.add_hline(y=level, row=row, col=1, line={"color": GRAY, "width": 1, "dash": "dot"})
    _mark_guards(figure, ledger, panels=1 + len(lines))
    return figure


def account_chart(ledger: pd.DataFrame, held: pd.DataFrame, inverse: bool) -> Figure:
    """Return equity and drawdown beside those of buy-and-hold (``held``), and exposure; guards are shaded.

    Exposure is the signed value of the position over equity. The position of an ``inverse`` contract counts units
    of the quote currency, and its equity is in coins.
    """
    closes, start = ledger["close_time"], ledger.attrs["start_value"]
    figure = _panels(["Equity", "Drawdown", "Exposure (position value over equity)"], [300, 130, 130], closes)
    for table, name, hue in ((held, "Buy and hold", GRAY), (ledger, "Strategy", BLUE)):
        _add_line(figure, closes, table["value"], name, hue, 1)
        _add_line(figure, closes, drawdown(table["value"], start), name, hue, 2, "%{y:.2%}", legend=False)
    _add_line(figure, closes, exposure(ledger, inverse), "Exposure", BLUE, 3, "%{y:.3f}", legend=False, steps=True)
    figure.update_yaxes(tickformat=".0%", row=2)
    _mark_guards(figure, ledger, panels=3)
    return figure


def cost_chart(ledger: pd.DataFrame) -> Figure:
    """Return each cost summed up over time; one that was never charged is left out."""
    figure = _panels(["Costs paid so far"], [260], ledger["close_time"])
    for (column, name), hue in zip(COSTS.items(), (BLUE, VIOLET, AMBER, RED), strict=True):
        if column in ledger and ledger[column].any():
            _add_line(figure, ledger["close_time"], ledger[column].cumsum(), name, hue, 1)
    return figure


def waterfall_chart(steps: dict[str, float]) -> Figure:
    """Return the way from the first of ``steps`` (gross) over the signed ones between to the last (net)."""
    from plotly.graph_objects import Waterfall

    figure = _panels(["From gross to net"], [300])
    names = list(steps)
    figure.add_trace(
        Waterfall(
            x=names,
            y=[value if np.isfinite(value) else 0.0 for value in steps.values()],
            measure=["absolute", *["relative"] * (len(names) - 2), "total"],
            text=[money(value) for value in steps.values()],
            textposition="outside",
            cliponaxis=False,
            constraintext="none",
            hoverinfo="text",
            connector={"line": {"color": GRAY, "width": 1}},
            increasing={"marker": {"color": GREEN}},
            decreasing={"marker": {"color": RED}},
            totals={"marker": {"color": BLUE}},
        )
    )
    figure.update_layout(hovermode="closest", showlegend=False)
    return figure


def drawdown(value: pd.Series, start: float) -> pd.Series:
    """Return how far equity is below its highest close so far, the start included: 0 or less."""
    return value / value.cummax().clip(lower=start) - 1


def exposure(ledger: pd.DataFrame, inverse: bool = False) -> pd.Series:
    """Return the signed value of the position over equity at each close; NaN where there is no equity."""
    price, equity = ledger["price"], ledger["value"].where(ledger["value"] > 0)
    return ledger["position"] * (1 / price if inverse else price) / equity


# --- panels and lines


def _panels(titles: list[str], heights: list[int], closes: pd.Series | None = None) -> Figure:
    """Return an empty figure with one panel below the other, of these heights in pixels, all over one time."""
    from plotly.subplots import make_subplots

    inside = sum(heights) + _GAP * (len(heights) - 1)
    figure = make_subplots(
        rows=len(heights),
        cols=1,
        shared_xaxes=True,
        row_heights=heights,
        vertical_spacing=_GAP / inside,
        subplot_titles=[html.escape(title) for title in titles],
    )
    figure.update_annotations(x=0, xanchor="left", font_size=13, yshift=2)
    margin = {"l": 8, "r": 8, "t": 28, "b": 52}
    figure.update_layout(
        template="none",
        height=inside + margin["t"] + margin["b"],
        margin=margin,
        font={"family": FONT, "size": 12},
        hoverlabel={"font": {"family": FONT, "size": 12}},
        modebar={"bgcolor": "rgba(0,0,0,0)", "color": GRAY, "activecolor": BLUE},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        hovermode="x unified",
        legend={"orientation": "h", "x": 0, "y": -30 / inside, "yanchor": "top"},
    )
    grid = {"showgrid": True, "gridcolor": FAINT_GRAY, "zeroline": False, "ticks": ""}
    figure.update_xaxes(**grid)
    if closes is not None:
        figure.update_xaxes(type="date", range=_whole(closes))
    figure.update_yaxes(**grid, automargin=True, nticks=6)
    return figure


def _whole(closes: pd.Series) -> list[float]:
    """Return the first and the last of the closes, and some room beside them."""
    first, last = _ms(closes.iloc[[0, -1]])
    room = 0.01 * (last - first) or _HOUR_MS
    return [first - room, last + room]


def _add_line(figure, closes, values, name, hue, row, shown="%{y:,.6g}", legend=True, steps=False) -> None:
    from plotly.graph_objects import Scatter

    y = _finite(values)
    rows = thinned(y)
    figure.add_trace(
        Scatter(
            x=_ms(closes)[rows],
            y=y[rows],
            name=html.escape(words(name)),
            mode="lines" if len(y) > 1 else "markers",
            line={"color": hue, "width": 1.4, "shape": "hv" if steps else "linear"},
            hovertemplate=f"{shown}",
            showlegend=legend,
        ),
        row=row,
        col=1,
    )


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
                x=_ms(inside.index)[rows],
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
    _add_line(figure, closes, ledger["price"], "Close", GRAY, 1)
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
    x = np.column_stack([_ms(trades["entry_time"]), _ms(trades["exit_time"]), nothing]).ravel()
    y = trades[["entry_price", "exit_price"]].assign(end=nothing).to_numpy(dtype=float).ravel()
    line = {"color": hue, "width": 1, "dash": "dot"}
    figure.add_trace(Scatter(x=x, y=y, mode="lines", line=line, hoverinfo="skip", showlegend=False), row=1, col=1)


def _add_markers(figure: Figure, trades: pd.DataFrame, end: str, name: str, symbol: str, hue: str) -> None:
    from plotly.graph_objects import Scatter

    if trades.empty:
        return
    figure.add_trace(
        Scatter(
            x=_ms(trades[f"{end}_time"]),
            y=_finite(trades[f"{end}_price"]),
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


# --- guards


def _mark_guards(figure: Figure, ledger: pd.DataFrame, panels: int) -> None:
    """Shade in every panel when a guard was in force, and name the bar at which each tripped first."""
    from plotly.graph_objects import Scatter

    spans = guard_spans(ledger)
    if spans.empty:
        return
    room = _LABEL * spans["name"].nunique()  # above the first panel, where the names hide nothing
    figure.layout.annotations[0].yshift += room
    figure.update_layout(height=figure.layout.height + room, margin_t=figure.layout.margin.t + room)
    others = itertools.cycle((AMBER, VIOLET, BLUE))
    for level, (name, part) in enumerate(spans.groupby("name", sort=False)):
        hue = RED if part["to_the_end"].any() else next(others)
        since, until, nothing = _ms(part["since"]), _ms(part["until"]), np.full(len(part), np.nan)
        x = np.column_stack([since, since, until, until, nothing]).ravel()
        y = np.tile([0.0, 1.0, 1.0, 0.0, np.nan], len(part))
        for panel in range(1, panels + 1):
            figure.add_trace(
                Scatter(
                    x=x,
                    y=y,
                    xaxis=f"x{panel if panel > 1 else ''}",
                    yaxis=f"y{100 + panel}",
                    mode="lines",
                    line={"width": 0},
                    fill="toself",
                    fillcolor=_faint(hue),
                    name=html.escape(f"{words(name)} guard in force"),
                    legendgroup=f"guard {level}",
                    showlegend=panel == 1,
                    hoverinfo="skip",
                )
            )
        _name_first(figure, part.sort_values("to_the_end", ascending=False, kind="stable").iloc[0], hue, level)
    for panel in range(1, panels + 1):
        overlay = {"overlaying": f"y{panel if panel > 1 else ''}", "range": [0, 1], "visible": False}
        figure.update_layout({f"yaxis{100 + panel}": overlay | {"fixedrange": True}})


def _name_first(figure: Figure, span: pd.Series, hue: str, level: int) -> None:
    """Draw a line through all panels where a guard first tripped, and its name beside it."""
    x = _ms(pd.Series([span["since"]]))[0]
    figure.add_shape(type="line", x0=x, x1=x, y0=0, y1=1, yref="paper", line={"color": hue, "width": 1.5})
    first, last = figure.layout.xaxis.range
    figure.add_annotation(
        x=x,
        y=1,
        yref="paper",
        xanchor="left" if x < (first + last) / 2 else "right",
        yanchor="bottom",
        yshift=2 + _LABEL * level,
        text=html.escape(f"{'Halted by' if span['to_the_end'] else 'First'} {words(span['name'])} guard"),
        showarrow=False,
        font={"color": "#fff", "size": 12},
        bgcolor=hue,
        borderpad=3,
    )


def _faint(hue: str) -> str:
    red, green, blue = (int(hue[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.16)"


# --- numbers as plotly takes them


def _ms(times: pd.Series | pd.DatetimeIndex) -> np.ndarray:
    """Return milliseconds since 1970, which a date axis takes at a third of the size of texts; NaN for no time."""
    index = pd.DatetimeIndex(times).as_unit("ms")
    return np.where(index.isna(), np.nan, index.asi8.astype(np.float64))


def _finite(values: pd.Series) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)
