"""The chart of the account: equity and drawdown beside buy-and-hold, and exposure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hissbt.reports.page.panels import BLUE, GRAY, add_line, panels
from hissbt.reports.page.shading import mark_guards

if TYPE_CHECKING:
    from plotly.graph_objects import Figure


def account_chart(ledger: pd.DataFrame, held: pd.DataFrame, inverse: bool) -> Figure:
    """Return equity and drawdown beside those of buy-and-hold (``held``), and exposure; guards are shaded.

    Exposure is the signed value of the position over equity. The position of an ``inverse`` contract counts units
    of the quote currency, and its equity is in coins.
    """
    closes, start = ledger["close_time"], ledger.attrs["start_value"]
    figure = panels(["Equity", "Drawdown", "Exposure (position value over equity)"], [300, 130, 130], closes)
    for table, name, hue in ((held, "Buy and hold", GRAY), (ledger, "Strategy", BLUE)):
        lost = drawdown(table["value"], start)
        add_line(figure, 1, closes, table["value"], name, hue)
        add_line(figure, 2, closes, lost, name, hue, shown="%{y:.2%}", legend=False)
    held_now = exposure(ledger, inverse)
    add_line(figure, 3, closes, held_now, "Exposure", BLUE, shown="%{y:.3f}", legend=False, steps=True)
    figure.update_yaxes(tickformat=".2~%", row=2)
    mark_guards(figure, ledger, panels=3)
    return figure


def drawdown(value: pd.Series, start: float) -> pd.Series:
    """Return how far equity is below its highest close so far, the start included: 0 or less."""
    value = value.where(np.isfinite(value))
    return value / value.cummax().clip(lower=start) - 1


def exposure(ledger: pd.DataFrame, inverse: bool = False) -> pd.Series:
    """Return the signed value of the position over equity at each close; NaN where there is no equity."""
    price, equity = ledger["price"], ledger["value"].where(ledger["value"] > 0)
    return ledger["position"] * (1 / price if inverse else price) / equity
