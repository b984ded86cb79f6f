"""What a replay knows of one market: its bars, its funding, and the rules that Bybit would state for it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from hissbt.bars import Bars
from hissbt.errors import ConfigError
from hissbt.feeds.replay.chart import Chart

CATEGORIES = ("linear", "spot", "inverse")
KINDS = ("trade", "mark", "index", "premium")
_QUOTES = ("USDT", "USDC", "USD", "EUR", "BTC", "ETH")
_QUANTITY_STEPS = {"linear": 0.001, "spot": 0.000001, "inverse": 1.0}
_MINIMUM_VALUE = 5.0
_MAXIMUM_LEVERAGE = 100.0
_USUAL_FUNDING_MINUTES = 480


@dataclass(frozen=True)
class Series:
    """One market of a replay, ``symbol`` as Bybit writes it, such as BTCUSDT.

    ``funding`` holds rates by the time of their event (index in UTC, fractions of notional). Mark, index and
    premium index candles are those of ``bars`` unless there are such of their own; those of the premium, which is
    no price and may be negative, are a table of open, high, low and close by their opens in UTC, as long as bars.
    Tick, quantity step and limits come from ``bars.market`` where it states them. Raises ConfigError for a
    category or symbol that Bybit could not have.
    """

    category: str
    symbol: str
    bars: Bars
    funding: pd.Series | None = None
    mark: Bars | None = None
    index: Bars | None = None
    premium: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        if self.category not in CATEGORIES:
            raise ConfigError(f"unknown category {self.category!r}: write {', '.join(CATEGORIES[:-1])} or inverse")
        if not (self.symbol.isalnum() and self.symbol.isupper() and self.quote):
            raise ConfigError(
                f"bad symbol {self.symbol!r}: write it as Bybit does, a coin and one of {', '.join(_QUOTES)}, "
                "such as BTCUSDT"
            )

    @property
    def base(self) -> str:
        """The coin that is traded, such as BTC."""
        return self.symbol.removesuffix(self.quote)

    @property
    def quote(self) -> str:
        """The coin that it is priced in, such as USDT; empty if the symbol ends in none that is known."""
        return next((quote for quote in _QUOTES if self.symbol.endswith(quote) and self.symbol != quote), "")

    @cached_property
    def charts(self) -> dict[str, Chart]:
        """The candles of every kind."""
        charts = dict.fromkeys(KINDS, self._chart(self.bars))
        charts |= {
            kind: self._chart(bars)
            for kind, bars in (("mark", self.mark), ("index", self.index))
            if bars is not None
        }
        if self.premium is not None:
            prices = self.premium[["open", "high", "low", "close"]].to_numpy(dtype=float)
            values = np.pad(prices, ((0, 0), (0, 2)))  # [T, 6]
            opens = pd.DatetimeIndex(self.premium.index)
            charts["premium"] = Chart.of_values(opens, self.bars.timeframe, values, seed=self._seed)
        return charts

    @cached_property
    def funding_events(self) -> tuple[np.ndarray, np.ndarray]:
        """Times int64 [N] in unix ms and rates float64 [N] of all funding events, in order."""
        if self.funding is None:
            return np.empty(0, dtype=np.int64), np.empty(0)
        ordered = self.funding.sort_index()
        return pd.DatetimeIndex(ordered.index).as_unit("ns").asi8 // 1_000_000, ordered.to_numpy(dtype=float)

    @property
    def tick(self) -> float:
        """Smallest price step: the market's, or else one of the last decimal that the prices have."""
        return self.bars.market.tick or 10.0 ** -self.charts["trade"].decimals

    @property
    def quantity_step(self) -> float:
        """Smallest quantity step."""
        return self.bars.market.quantity_step or _QUANTITY_STEPS[self.category]

    @property
    def min_quantity(self) -> float:
        """Smallest quantity of an order."""
        return self.bars.market.min_quantity or self.quantity_step

    @property
    def min_notional(self) -> float:
        """Smallest value of an order."""
        return self.bars.market.min_notional or _MINIMUM_VALUE

    @property
    def max_leverage(self) -> float:
        """Highest leverage."""
        return self.bars.market.max_leverage or _MAXIMUM_LEVERAGE

    def funding_minutes(self, now_ms: int) -> int:
        """Return the time between the last two funding events before ``now_ms``."""
        times_ms, _ = self.funding_events
        past = times_ms[: times_ms.searchsorted(now_ms, side="right")]
        return int(past[-1] - past[-2]) // 60_000 if len(past) > 1 else _USUAL_FUNDING_MINUTES

    def _chart(self, bars: Bars) -> Chart:
        return Chart.of_bars(bars, inverse=self.category == "inverse", seed=self._seed)

    @property
    def _seed(self) -> int:
        return zlib.crc32(f"{self.category} {self.symbol}".encode())
