"""One page of an exchange's history: asked for, and given on only if all of its rows can be true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hissbt.bars import COLUMNS, Bars
from hissbt.errors import BarsError, ConfigError
from hissbt.feeds.exchange import BadPage
from hissbt.feeds.store import COLUMNS_OF, Dataset
from hissbt.feeds.venues import venue
from hissbt.market import Market
from hissbt.timeframe import parse_timeframe

if TYPE_CHECKING:
    from ccxt.async_support import Exchange

_FEW = 100  # rows that every exchange gives at once
_CALLS = {  # ccxt's name of the ability, and of the method
    "trade": ("fetchOHLCV", "fetch_ohlcv"),
    "mark": ("fetchMarkOHLCV", "fetch_mark_ohlcv"),
    "index": ("fetchIndexOHLCV", "fetch_index_ohlcv"),
    "premium": ("fetchPremiumIndexOHLCV", "fetch_premium_index_ohlcv"),
    "funding": ("fetchFundingRateHistory", "fetch_funding_rate_history"),
}


def check_ability(client: Exchange, kind: str, timeframe: str) -> None:
    """Raise ConfigError where the exchange has no history of this kind and timeframe."""
    if not client.has.get(_CALLS[kind][0]):
        raise ConfigError(f"ccxt can read no history of {kind} from {client.id}: leave this kind out")
    if kind != "funding" and timeframe not in client.timeframes:
        known = ", ".join(name for name in client.timeframes if not name.endswith("M"))
        raise ConfigError(f"{client.id} has no bars of {timeframe}: choose one of {known}")


def rows_a_page(client: Exchange, dataset: Dataset) -> int:
    """Return the most rows that the exchange gives at once."""
    known = venue(client.id)
    if dataset.kind == "funding":
        return known.funding_a_page or _FEW
    return known.bars_a_page or client.feature_value(dataset.symbol, "fetchOHLCV", "limit", _FEW) or _FEW


async def ask_page(client: Exchange, dataset: Dataset, first: int, end: int) -> np.ndarray:
    """Ask once for the rows of [first, end), ms since 1970, at most a page; return those that came, sorted.

    They are float64 [N, 1 + C] as the store takes them. Raises BadPage for rows that contradict each other or that
    no market could have printed, and what ccxt raises. To be called through ask().
    """
    call = getattr(client, _CALLS[dataset.kind][1])
    limit = rows_a_page(client, dataset)
    within = {"until": end - 1}
    if dataset.kind == "funding":
        events = await call(dataset.symbol, first, limit, within)
        return _inside([(event["timestamp"], event["fundingRate"]) for event in events], 2, first, end)
    length_ms = bar_length_ms(dataset)
    # ccxt asks Bybit from the next whole multiple of the timeframe since 1970, a Thursday: weeks open on Mondays.
    rows = await call(dataset.symbol, dataset.timeframe, first // length_ms * length_ms, limit, within)
    columns = len(COLUMNS_OF[dataset.kind])
    checked = _inside([row[: 1 + columns] for row in rows], 1 + columns, first, end)
    if ((checked[:, 0] - first) % length_ms).any():
        raise BadPage("a page has bars off the timeframe's grid")
    if len(checked) and dataset.kind != "premium":  # a premium is no price: it may be negative
        _check_prices(checked, length_ms)
    return checked


def bar_length_ms(dataset: Dataset) -> int:
    """Return the length of a dataset's bars."""
    return parse_timeframe(dataset.timeframe) // pd.Timedelta(milliseconds=1)


def _inside(rows: Sequence[Sequence], width: int, first: int, end: int) -> np.ndarray:
    """Return the rows of the window, sorted by time, one each."""
    try:
        table = np.array(rows, dtype=np.float64).reshape(len(rows), width)  # None becomes NaN
    except (TypeError, ValueError) as error:
        raise BadPage(f"a page has rows that hold more or less than {width} numbers") from error
    if not np.isfinite(table).all():
        raise BadPage("a page has values that are missing")
    table = table[(table[:, 0] >= first) & (table[:, 0] < end)]
    table = np.unique(table, axis=0)  # sorted by time
    twice = np.diff(table[:, 0]) == 0
    if twice.any():
        raise BadPage(f"a page has two different rows for {_utc_text(table[twice.argmax(), 0])}")
    return table


def _check_prices(rows: np.ndarray, length_ms: int) -> None:
    values = rows[:, 1:]
    if values.shape[1] < len(COLUMNS):
        values = np.column_stack([values, np.zeros(len(values))])
    closes = pd.to_datetime(rows[:, 0] + length_ms, unit="ms", utc=True)
    try:
        Bars(pd.DataFrame(values, closes, list(COLUMNS)), Market("page"), pd.Timedelta(milliseconds=length_ms))
    except BarsError as error:
        raise BadPage(f"in a page, {error}") from error


def _utc_text(time_ms: float) -> str:
    return f"{pd.Timestamp(int(time_ms), unit='ms'):%Y-%m-%d %H:%M} UTC"
