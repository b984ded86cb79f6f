"""What is known of one exchange beyond what ccxt tells: Bybit's pages, fees and passing errors."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

CATEGORIES = ("spot", "linear", "inverse")
KINDS = ("trade", "mark", "index", "premium", "funding")


@dataclass(frozen=True)
class Venue:
    """One exchange.

    ``bars_a_page`` and ``funding_a_page`` are the most rows of one reply; 0 asks ccxt. ``fees`` holds taker and
    maker by category, fractions of notional; a category that is missing has Market's. ``passing`` maps error codes
    that go away by themselves, and that ccxt takes for lasting ones, to the names of better ccxt classes.
    """

    exchange: str
    bars_a_page: int = 0
    funding_a_page: int = 0
    fees: dict[str, tuple[float, float]] = field(default_factory=dict)
    passing: dict[str, str] = field(default_factory=dict)

    def options(self, categories: tuple[str, ...]) -> dict[str, Any]:
        """Return ccxt's options by which only the markets of these categories are loaded."""
        return {"fetchMarkets": {"types": list(categories)}} if self is BYBIT else {}


# Pages: Bybit v5, "Get Kline" and "Get Funding Rate History". Fees: without VIP level, October 2026; ccxt's own
# are older. Codes: Bybit v5, "Error Codes": server time-out, server error, system-level frequency protection.
BYBIT = Venue(
    "bybit",
    bars_a_page=1000,
    funding_a_page=200,
    fees={"spot": (0.001, 0.001), "linear": (0.00055, 0.0002), "inverse": (0.00055, 0.0002)},
    passing={"10000": "ExchangeNotAvailable", "10016": "ExchangeNotAvailable", "10429": "RateLimitExceeded"},
)


def venue(exchange: str) -> Venue:
    """Return what is known of an exchange; of most, nothing."""
    return BYBIT if exchange == BYBIT.exchange else Venue(exchange)


def category(symbol: str) -> str:
    """Return spot, linear or inverse for a unified symbol such as BTC/USDT:USDT.

    A contract that is settled in its base currency is inverse, any other one linear.
    """
    pair, _, settle = symbol.partition(":")
    if not settle:
        return "spot"
    return "inverse" if settle.split("-")[0] == pair.split("/")[0] else "linear"
