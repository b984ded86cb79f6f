"""BybitFeed: bars of Bybit as a Backtrader feed."""

from __future__ import annotations

from typing import Any

from hissbt.feeds.bulk import BarsFeed
from hissbt.feeds.live import ExchangeFeed, LiveFeed
from hissbt.feeds.venues import BYBIT


def BybitFeed(symbol: str, timeframe: str, **settings: Any) -> BarsFeed | LiveFeed:
    """Return ExchangeFeed of Bybit, and take what it takes: ``BybitFeed("BTC/USDT:USDT", "1h", live=True)``."""
    return ExchangeFeed(symbol, timeframe, exchange=BYBIT.exchange, **settings)
