"""Guards in a chart: shades where one was in force, and its name where it first tripped."""

from __future__ import annotations

import html
import itertools
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hissbt.reports.page.panels import AMBER, BLUE, RED, VIOLET, milliseconds
from hissbt.reports.page.spans import guard_spans, joined
from hissbt.reports.page.text import words

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_LABEL = 24  # pixels from one guard's name to the next
_OVERLAY = 100  # added to the number of a panel's axis: that of the axis from 0 to 1 over it
_PIXEL = 1 / 2000  # of the whole time: what is closer together looks like one


def mark_guards(figure: Figure, ledger: pd.DataFrame, panels: int) -> None:
    """Shade in every panel when a guard was in force, and name the bar at which each tripped first."""
    spans = guard_spans(ledger)
    if spans.empty:
        return
    room = _LABEL * spans["name"].nunique()  # above the first panel, where the names hide nothing
    figure.layout.annotations[0].yshift += room
    figure.update_layout(height=figure.layout.height + room, margin_t=figure.layout.margin.t + room)
    others = itertools.cycle((AMBER, VIOLET, BLUE))
    for level, (name, part) in enumerate(spans.groupby("name", sort=False)):
        hue = RED if part["halted"].any() else next(others)
        _shade(figure, part, panels, f"{words(name)} guard in force", hue)
        _name_first(figure, part.sort_values("halted", ascending=False, kind="stable").iloc[0], hue, level)
    for panel in range(1, panels + 1):
        overlay = {"overlaying": f"y{panel}", "range": [0, 1], "visible": False, "fixedrange": True}
        figure.update_layout({f"yaxis{_OVERLAY + panel}": overlay})


def _shade(figure: Figure, spans: pd.DataFrame, panels: int, name: str, hue: str) -> None:
    """Add the spans to each panel, from its bottom to its top: one trace each, which the legend can hide."""
    from plotly.graph_objects import Scatter

    first, last = figure.layout.xaxis.range
    since, until = joined(milliseconds(spans["since"]), milliseconds(spans["until"]), _PIXEL * (last - first))
    for panel in range(1, panels + 1):
        figure.add_trace(
            Scatter(
                x=np.column_stack([since, since, until, until, np.full(len(since), np.nan)]).ravel(),
                y=np.tile([0.0, 1.0, 1.0, 0.0, np.nan], len(since)),
                xaxis=f"x{panel}",
                yaxis=f"y{_OVERLAY + panel}",
                mode="lines",
                line={"width": 0},
                fill="toself",
                fillcolor=_faint(hue),
                name=html.escape(name),
                legendgroup=html.escape(name),
                showlegend=panel == 1,
                hoverinfo="skip",
            )
        )


def _name_first(figure: Figure, span: pd.Series, hue: str, level: int) -> None:
    """Draw a line through all panels where a guard first tripped, and its name beside it."""
    x = milliseconds(pd.Series([span["since"]]))[0]
    figure.add_shape(type="line", x0=x, x1=x, y0=0, y1=1, yref="paper", line={"color": hue, "width": 1.5})
    first, last = figure.layout.xaxis.range
    figure.add_annotation(
        x=x,
        y=1,
        yref="paper",
        xanchor="left" if x < (first + last) / 2 else "right",
        yanchor="bottom",
        yshift=2 + _LABEL * level,
        text=html.escape(f"{'Halted by' if span['halted'] else 'First'} {words(span['name'])} guard"),
        showarrow=False,
        font={"color": "#fff", "size": 12},
        bgcolor=hue,
        borderpad=3,
    )


def _faint(hue: str) -> str:
    red, green, blue = (int(hue[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},0.11)"
