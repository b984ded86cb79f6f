"""Bybit's candles over ccxt's websocket, with what ccxt leaves out: the exchange's time, and which are final."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ccxt.async_support import Exchange

Heard = Callable[[list[list[float]], int, bool], None]
"""Takes candles (open in ms since 1970, open, high, low, close, volume), the exchange's time, and "are final"."""


async def listen(stream: Exchange, symbol: str, timeframe: str, heard: Heard, silence_s: float) -> None:
    """Have ``heard`` called with every candle that the websocket tells of, until it breaks.

    ``stream`` is a ccxt.pro client of Bybit with its markets. Raises TimeoutError after ``silence_s`` without a
    word, for a socket may be open at this end only, and what ccxt raises.
    """
    parse = stream.handle_ohlcv

    def handle_ohlcv(connection: object, message: dict) -> None:
        parse(connection, message)
        for candle in message["data"]:
            row = stream.parse_ws_ohlcv(candle, stream.markets[symbol])
            heard([row], int(message["ts"]), bool(candle["confirm"]))

    stream.handle_ohlcv = handle_ohlcv
    while True:
        try:
            async with asyncio.timeout(silence_s):
                await stream.watch_ohlcv(symbol, timeframe)
        except asyncio.CancelledError:
            if asyncio.current_task().cancelling():
                raise
            # ccxt cancels what waits for a socket that it closes, which must not look as if we were canceled.
            raise ConnectionError("the websocket was closed") from None
