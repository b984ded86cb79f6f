"""What Bybit v5 answers to a question at a moment: no network here, only questions and answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from hissbt.errors import ConfigError
from hissbt.feeds.replay.chart import INTERVALS_MS, Candles, Chart, floor_ms
from hissbt.feeds.replay.descriptions import contract, spot_instrument, ticker
from hissbt.feeds.replay.numbers import number_text, row_texts
from hissbt.feeds.replay.series import CATEGORIES, Series

MARKET = "/v5/market/"
KLINES = {
    "kline": "trade",
    "mark-price-kline": "mark",
    "index-price-kline": "index",
    "premium-index-price-kline": "premium",
}
ROUTES = ("time", "instruments-info", "tickers", "funding/history", *KLINES)
TRUNCATIONS = ("start", "end")
BAD_PARAMETERS = 10001


class Refusal(Exception):
    """A question that Bybit answers with a return code."""

    def __init__(self, message: str, code: int = BAD_PARAMETERS):
        super().__init__(message)
        self.code = code


Market = tuple[str, str, str, str]
"""Kind, category, symbol and interval of candles."""


@dataclass(frozen=True)
class Page:
    """Some candles of a market in order of time, before they become texts."""

    market: Market
    chart: Chart
    rows: np.ndarray  # int64 [N], positions among all candles of the interval
    values: np.ndarray  # float64 [N, 6]

    @property
    def interval(self) -> str:
        """Bybit's name of the length of the candles."""
        return self.market[-1]

    @property
    def candles(self) -> Candles:
        """All candles of the interval."""
        return self.chart.candles(self.interval)

    @property
    def opens_ms(self) -> np.ndarray:
        """Opens of these candles, int64 [N]."""
        return self.candles.opens_ms[self.rows]

    def at(self, positions: np.ndarray) -> Page:
        """Return the page of the candles at some of its positions, in their order."""
        return replace(self, rows=self.rows[positions], values=self.values[positions])


@dataclass(frozen=True)
class Exchange:
    """All markets of a replay.

    ``truncate`` says from which end of a window with too many rows they are counted: "end" leaves the newest,
    "start" the oldest. Which of the two Bybit does was never observed. Stretches of ``holes``, pairs of the first
    open and the open after the last one in unix ms, have no candles at all.
    """

    series: Iterable[Series]
    truncate: str = "end"
    holes: tuple[tuple[int, int], ...] = ()
    by_name: dict[tuple[str, str], Series] = field(init=False)

    def __post_init__(self) -> None:
        if self.truncate not in TRUNCATIONS:
            raise ConfigError(f"unknown truncation {self.truncate!r}: write start or end")
        named = [((one.category, one.symbol), one) for one in self.series]
        if not named or len(dict(named)) < len(named):
            raise ConfigError("a replay needs at least one series, and one of each category and symbol at most")
        object.__setattr__(self, "by_name", dict(named))

    def answer(self, route: str, query: Mapping[str, str], now_ms: int) -> dict[str, Any] | Page:
        """Return the ``result`` of a route's envelope, or the page of candles that it is made of.

        Raises Refusal for what Bybit would refuse.
        """
        if route in KLINES:
            return self.candles(KLINES[route], query, now_ms)
        if route == "time":
            return {"timeSecond": str(now_ms // 1000), "timeNano": str(now_ms * 1_000_000)}
        if route == "instruments-info":
            return self._instruments(query, now_ms)
        if route == "tickers":
            return self._tickers(query, now_ms)
        return self._funding(query, now_ms)

    def candles(self, kind: str, query: Mapping[str, str], now_ms: int) -> Page:
        """Return the candles of a window at a moment, the forming one included, in order of time."""
        series = self._one(query, "linear")
        chart = series.charts[kind]
        interval = query.get("interval", "")
        if interval not in INTERVALS_MS or not chart.serves(interval):
            raise Refusal("Invalid period!")
        limit = _limit(query, usual=200, most=1000)
        start, end = _moment(query, "start"), _moment(query, "end")
        candles = chart.candles(interval)
        first = candles.opens_ms.searchsorted(0 if start is None else floor_ms(start, interval))
        stop = candles.begins_ms.searchsorted(now_ms, side="right")
        if end is not None:
            stop = min(stop, candles.opens_ms.searchsorted(end, side="right"))
        rows = np.arange(first, stop)
        rows = self._outside_holes(candles.opens_ms, rows)
        rows = rows[:limit] if self._counts_from_start(start, end) else rows[-limit:]
        values = candles.values[rows]  # a copy
        if len(rows) and candles.closes_ms[rows[-1]] > now_ms:
            values[-1] = chart.forming(interval, int(rows[-1]), now_ms)
        return Page((kind, series.category, series.symbol, interval), chart, rows, values)

    def in_hole(self, open_ms: int) -> bool:
        """Tell whether the candle that opens at a moment is one of those that do not exist."""
        return any(first <= open_ms < end for first, end in self.holes)

    def _counts_from_start(self, start: int | None, end: int | None) -> bool:
        """Tell which end of a window is served: with one bound alone, the one that was given."""
        return start is not None and (end is None or self.truncate == "start")

    def _outside_holes(self, opens_ms: np.ndarray, rows: np.ndarray) -> np.ndarray:
        for first, end in self.holes:
            rows = rows[(opens_ms[rows] < first) | (opens_ms[rows] >= end)]
        return rows

    def _funding(self, query: Mapping[str, str], now_ms: int) -> dict[str, Any]:
        series = self._one(query)
        if series.category == "spot":
            raise Refusal("params error: category only supports linear or inverse")
        limit = _limit(query, usual=200, most=200)
        start, end = _moment(query, "startTime"), _moment(query, "endTime")
        if start is not None and end is None:
            raise Refusal("params error: startTime needs an endTime")
        times_ms, rates = series.funding_events
        first = int(times_ms.searchsorted(start or 0))
        stop = int(times_ms.searchsorted(now_ms if end is None else min(end, now_ms), side="right"))
        if self._counts_from_start(start, end):
            stop = min(stop, first + limit)
        else:
            first = max(first, stop - limit)
        events = [
            {
                "symbol": series.symbol,
                "fundingRate": number_text(float(rates[row])),
                "fundingRateTimestamp": str(times_ms[row]),
            }
            for row in range(stop - 1, first - 1, -1)
        ]
        return {"category": series.category, "list": events}

    def _instruments(self, query: Mapping[str, str], now_ms: int) -> dict[str, Any]:
        category = _category(query)
        _limit(query, usual=500, most=1000)
        listed = self._asked_for(category, query) if query.get("status", "Trading") == "Trading" else []
        describe = spot_instrument if category == "spot" else contract
        result = {"category": category, "list": [describe(series, now_ms) for series in listed]}
        return result if category == "spot" else result | {"nextPageCursor": ""}

    def _tickers(self, query: Mapping[str, str], now_ms: int) -> dict[str, Any]:
        category = _category(query)
        tickers = [ticker(series, now_ms) for series in self._asked_for(category, query)]
        return {"category": category, "list": tickers}

    def _asked_for(self, category: str, query: Mapping[str, str]) -> list[Series]:
        if "symbol" in query:
            return [self._one(query)]
        base = query.get("baseCoin")
        return [one for one in self.by_name.values() if one.category == category and base in (None, one.base)]

    def _one(self, query: Mapping[str, str], usual_category: str | None = None) -> Series:
        category = _category(query, usual_category)
        series = self.by_name.get((category, query.get("symbol", "")))
        if series is None:
            raise Refusal("Not supported symbols")
        return series


def kline_result(page: Page) -> dict[str, Any]:
    """Return the ``result`` of a page of candles: newest first, numbers as texts, volumes for trades only."""
    kind, category, symbol, _ = page.market
    fields = 6 if kind == "trade" else 4
    rows = row_texts(np.column_stack([page.opens_ms, page.values[:, :fields]]))
    return {"symbol": symbol, "category": category, "list": rows[::-1]}


def envelope(result: object, now_ms: int, code: int = 0, message: str = "OK") -> dict[str, Any]:
    """Return what Bybit wraps around every result."""
    return {"retCode": code, "retMsg": message, "result": result, "retExtInfo": {}, "time": now_ms}


def _category(query: Mapping[str, str], usual: str | None = None) -> str:
    category = query.get("category", usual)
    if category not in (*CATEGORIES, "option"):
        raise Refusal("params error: Category is invalid")
    return category


def _limit(query: Mapping[str, str], usual: int, most: int) -> int:
    limit = _integer(query, "limit")
    if limit is None:
        return usual
    if not 1 <= limit <= most:
        raise Refusal(f"params error: limit must be between 1 and {most}")
    return limit


def _moment(query: Mapping[str, str], name: str) -> int | None:
    moment = _integer(query, name)
    # Beyond the years 1970 to 5138 it is surely not milliseconds.
    if moment is not None and not 0 <= moment < 10**14:
        raise Refusal(f"params error: {name} is invalid")
    return moment


def _integer(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    if not text.removeprefix("-").isdecimal():
        raise Refusal(f"params error: {name} is not a number")
    return int(text)
