"""The charts of costs: from gross to net, and what was paid so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hissbt.reports.page.panels import AMBER, BLUE, GRAY, GREEN, RED, VIOLET, add_line, panels
from hissbt.reports.page.text import money

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

COSTS = {"fees": "Fees", "impact": "Spread and impact", "funding": "Funding", "liquidation_fee": "Liquidation"}
"""The ledger's cost columns, and what the page calls them."""


def cost_chart(ledger: pd.DataFrame) -> Figure:
    """Return each cost summed up over time; one that was never charged is left out."""
    figure = panels(["Costs paid so far"], [260], ledger["close_time"])
    for (column, name), hue in zip(COSTS.items(), (BLUE, VIOLET, AMBER, RED), strict=True):
        if column in ledger and ledger[column].any():
            add_line(figure, 1, ledger["close_time"], ledger[column].cumsum(), name, hue)
    return figure


def waterfall_chart(steps: dict[str, float]) -> Figure:
    """Return the way from the first of ``steps`` (gross) over the signed ones between to the last (net)."""
    from plotly.graph_objects import Waterfall

    figure = panels(["From gross to net"], [300])
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
    figure.update_xaxes(automargin=True)
    return figure
