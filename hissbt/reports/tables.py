"""The tables of a run beside its bars: trades, fills and orders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import backtrader as bt
import numpy as np
import pandas as pd

from hissbt.reports.trades import TRADE_COLUMNS, TradedData
from hissbt.trading.journal import Fill

FILL_COLUMNS = (
    "fill_time",
    "at",
    "side",
    "size",
    "price",
    "raw_price",
    "notional",
    "fee",
    "impact",
    "liquidation_fee",
    "maker",
    "reason",
    "symbol",
)
ORDER_COLUMNS = (
    "created_time",
    "side",
    "type",
    "size",
    "price",
    "status",
    "reason",
    "executed_time",
    "executed_size",
    "executed_price",
    "commission",
    "symbol",
)
_UNIX_EPOCH = 719_163  # Backtrader counts days, with 0001-01-01 as day 1; 1970-01-01 is this one
_NO_TIME = np.iinfo(np.int64).min  # NaT


def times(date_numbers: np.ndarray) -> pd.DatetimeIndex:
    """Turn Backtrader's days into times in UTC; a float of days is good to some 20 us, so round to ms."""
    known = np.isfinite(date_numbers)
    ms = np.round(np.where(known, date_numbers - _UNIX_EPOCH, 0) * 86_400_000).astype(np.int64)
    return pd.DatetimeIndex(np.where(known, ms * 1_000_000, _NO_TIME).view("datetime64[ns]"), tz="UTC")


def trades_table(traded: Iterable[TradedData]) -> pd.DataFrame:
    """Return all trades by their entry, the columns being ``TRADE_COLUMNS``."""
    rows = [row for each in traded for row in each.rows()]
    table = pd.DataFrame(sorted(rows, key=lambda row: row[0]), columns=list(TRADE_COLUMNS))
    for column in ("entry_time", "exit_time"):
        table[column] = times(table[column].to_numpy(dtype=float))
    return table


def fills_table(fills: Sequence[Fill], traded: Mapping[bt.feed.AbstractDataBase, TradedData]) -> pd.DataFrame:
    """Return the fills in their order, the columns being ``FILL_COLUMNS``."""
    columns = (
        times(np.array([fill.dt for fill in fills], dtype=float)),
        [fill.at for fill in fills],
        ["buy" if fill.size > 0 else "sell" for fill in fills],
        _floats(abs(fill.size) for fill in fills),
        _floats(fill.price for fill in fills),
        _floats(fill.raw_price for fill in fills),
        _floats(traded[fill.data].notional(fill) for fill in fills),
        _floats(fill.fee for fill in fills),
        _floats(fill.impact for fill in fills),
        _floats(fill.liquidation_fee for fill in fills),
        np.array([fill.maker for fill in fills], dtype=bool),
        [fill.reason for fill in fills],
        [fill.data._name for fill in fills],
    )
    return pd.DataFrame(dict(zip(FILL_COLUMNS, columns, strict=True)))


def orders_table(orders: Iterable[bt.Order]) -> pd.DataFrame:
    """Return the orders as they were submitted, the columns being ``ORDER_COLUMNS``."""
    # Backtrader numbers orders through the whole process: their order tells something, the numbers do not.
    orders = sorted(orders, key=lambda order: order.ref)
    asked, filled = [order.created for order in orders], [order.executed for order in orders]
    # Column by column: a row for each would be one more object to every order for Python's garbage collector.
    columns = (
        times(np.array([request.dt for request in asked], dtype=float)),
        ["buy" if order.isbuy() else "sell" for order in orders],
        [order.getordername().lower() for order in orders],
        [abs(request.size) for request in asked],
        [request.price for request in asked],
        [order.getstatusname().lower() for order in orders],
        [order.info.get("refused", order.info.get("reason", "")) for order in orders],
        times(np.array([fill.dt if fill.size else np.nan for fill in filled], dtype=float)),
        [abs(fill.size) if fill.size else 0.0 for fill in filled],
        [fill.price if fill.size else np.nan for fill in filled],
        [fill.comm for fill in filled],
        [order.data._name for order in orders],
    )
    return pd.DataFrame(dict(zip(ORDER_COLUMNS, columns, strict=True)))


def _floats(values: Iterable[float]) -> np.ndarray:
    return np.fromiter(values, dtype=np.float64)
