"""The charts of the contest: scores with their intervals, accounts, and whether probabilities can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import pandas as pd

from hissbt.reports.page.panels import AMBER, BLUE, FAINT_GRAY, GRAY, GREEN, RED, VIOLET, add_line, panels
from hissbt.reports.page.text import escape
from hissbt.research.contest.protocol import BUY_AND_HOLD, HISS

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

_ROW = 22  # pixels of a rival
_FAMILIES = {"network": VIOLET, "econometric": GREEN, "rule": GRAY, "hiss": BLUE}


def hue(family: str) -> str:
    """Return the color of a family of rivals; those of scikit-learn share one."""
    return _FAMILIES.get(family, AMBER)


def score_chart(title: str, rivals: Mapping, key: str, order: Sequence[str], scale: float) -> Figure:
    """Return the score ``key`` times ``scale`` of the rivals in ``order``, the first on top, with its interval."""
    from plotly.graph_objects import Scatter

    figure = panels([title], [_ROW * max(len(order), 2) + 10])
    for name in reversed(order):
        score, color = rivals[name]["scores"][key], hue(rivals[name]["family"])
        mean, low, high = (scale * value for value in (score["mean"], *score["interval"]))
        ends = {"type": "data", "array": [high - mean], "arrayminus": [mean - low], "symmetric": False}
        label = f"<b>{escape(name)}</b>" if name == HISS else escape(name)
        marker = {"color": color, "size": 9, "symbol": "line-ns", "line": {"width": 3, "color": color}}
        figure.add_trace(
            Scatter(
                x=[mean],
                y=[label],
                error_x=ends,
                mode="markers",
                marker=marker,
                hovertemplate="%{x:.5g}<extra></extra>",
            )
        )
        if len(score["seeds"]) > 1:
            seeds = [scale * value for value in score["seeds"]]
            dots = {"color": color, "size": 6, "opacity": 0.45}
            figure.add_trace(
                Scatter(
                    x=seeds,
                    y=[label] * len(seeds),
                    mode="markers",
                    marker=dots,
                    hovertemplate="%{x:.5g}<extra>a seed</extra>",
                )
            )
    figure.update_layout(showlegend=False, hovermode="closest")
    figure.update_yaxes(showgrid=False, dtick=1)
    return figure


def account_chart(trading: Mapping, families: Mapping[str, str]) -> Figure:
    """Return the net account of each rival at the closes of decisions, HiSS and buy-and-hold in front."""
    curves = trading["curves"]
    closes = pd.Series(pd.to_datetime(curves["at"]))
    figure = panels(["Account after costs, 1 before the first decision"], [360], closes)
    front = {HISS: BLUE, BUY_AND_HOLD: RED}
    for name in sorted(curves["net"], key=lambda name: name in front):
        add_line(figure, 1, closes, pd.Series(curves["net"][name]), name, front.get(name, hue(families[name])))
        if name not in front:
            figure.data[-1].update(opacity=0.45, line_width=1)
    return figure


def reliability_chart(rivals: Mapping) -> Figure:
    """Return the share of rises by what their probability was said to be, and where both would be equal."""
    from plotly.graph_objects import Scatter

    having = {name: found for name, found in rivals.items() if "reliability" in found}
    figure = panels(["Share of rises by their probability"], [320])
    figure.add_trace(
        Scatter(x=[0, 1], y=[0, 1], mode="lines", line={"color": FAINT_GRAY}, showlegend=False, hoverinfo="skip")
    )
    for name in sorted(having, key=lambda name: name == HISS):
        bins = having[name]["reliability"]
        figure.add_trace(
            Scatter(
                x=[each["said"] for each in bins],
                y=[each["came"] for each in bins],
                name=escape(name),
                mode="lines+markers",
                opacity=1 if name == HISS else 0.5,
                line={"color": hue(having[name]["family"]), "width": 2 if name == HISS else 1},
                marker={"size": [4 + 12 * each["weight"] ** 0.5 for each in bins]},
                hovertemplate="said %{x:.2f}, came %{y:.2f}",
            )
        )
    figure.update_layout(hovermode="closest")
    return figure
