"""Charts as panels below each other over one time axis (UTC, closes of bars): the plotly figures' common part."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hissbt.reports.page.text import words
from hissbt.reports.page.thin import thinned

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

# One hue a meaning, each readable on white and on black.
BLUE, GRAY, GREEN, RED, AMBER, VIOLET = "#3b82c4", "#8a8f98", "#1f9d6b", "#d9485f", "#d08a1d", "#8b6fd1"
FAINT_GRAY = "rgba(138,143,152,0.25)"

FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
"""The fonts of the whole page, the first that is there."""

_HOUR_MS = 3_600_000
_GAP = 34  # pixels between two panels: room for the lower one's title


def panels(titles: list[str], heights: list[int], closes: pd.Series | None = None) -> Figure:
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
    first, last = milliseconds(closes.iloc[[0, -1]])
    room = 0.01 * (last - first) or _HOUR_MS
    return [first - room, last + room]


def add_line(
    figure: Figure,
    row: int,
    closes: pd.Series,
    values: pd.Series,
    name: str,
    hue: str,
    *,
    shown: str = "%{y:,.6g}",
    legend: bool = True,
    steps: bool = False,
) -> None:
    """Add a thinned line to the panel ``row`` (from 1); the pointer shows ``shown``, ``steps`` hold values."""
    from plotly.graph_objects import Scatter

    y = finite(values)
    rows = thinned(y)
    figure.add_trace(
        Scatter(
            x=milliseconds(closes)[rows],
            y=y[rows],
            name=html.escape(words(name)),
            mode="lines" if len(y) > 1 else "markers",
            line={"color": hue, "width": 1.4, "shape": "hv" if steps else "linear"},
            hovertemplate=shown,
            showlegend=legend,
        ),
        row=row,
        col=1,
    )


def milliseconds(times: pd.Series | pd.DatetimeIndex) -> np.ndarray:
    """Return milliseconds since 1970, which a date axis takes at a third of the size of texts; NaN for no time."""
    index = pd.DatetimeIndex(times).as_unit("ms")
    return np.where(index.isna(), np.nan, index.asi8.astype(np.float64))


def finite(values: pd.Series) -> np.ndarray:
    """Return float64 values with NaN, which breaks a line, for what is not finite."""
    values = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)
