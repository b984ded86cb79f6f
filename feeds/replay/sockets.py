"""Bybit v5's public websocket: topics are subscribed to, and candles are pushed while and when they close."""

from __future__ import annotations

import asyncio
import json
import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

from hissbt.feeds.replay.chart import INTERVALS_MS
from hissbt.feeds.replay.clock import Clock
from hissbt.feeds.replay.exchange import Exchange
from hissbt.feeds.replay.numbers import number_text
from hissbt.feeds.replay.series import Series

_PUSH_MS = 1000  # simulated time between two pushes of a forming candle
_LEAST_PUSH_S = 0.005  # real time that a fast clock leaves between them
_LONGEST_WAIT_S = 3600.0


@dataclass
class Subscription:
    """One topic of a connection, and the row of the first candle whose end has not been told."""

    topic: str
    series: Series
    interval: str
    row: int

    def wakes_ms(self) -> float:
        """Return when something must be told at the latest: the end of the candle in turn."""
        closes_ms = self.series.charts["trade"].candles(self.interval).closes_ms
        return float(closes_ms[self.row]) if self.row < len(closes_ms) else math.inf

    def due(self, exchange: Exchange, now_ms: int) -> Iterator[dict[str, Any]]:
        """Yield what is to be told at a moment: all candles that have ended since, then the forming one."""
        chart = self.series.charts["trade"]
        candles = chart.candles(self.interval)
        while self.row < len(candles) and candles.opens_ms[self.row] <= now_ms:
            ended = bool(candles.closes_ms[self.row] <= now_ms)
            row, self.row = self.row, self.row + ended
            if not exchange.in_hole(int(candles.opens_ms[row])):
                values = candles.values[row] if ended else chart.forming(self.interval, row, now_ms)
                yield self._message(row, values, ended, now_ms)
            if not ended:
                return

    def _message(self, row: int, values: np.ndarray, ended: bool, now_ms: int) -> dict[str, Any]:
        candles = self.series.charts["trade"].candles(self.interval)
        first, high, low, close, volume, turnover = map(number_text, values.tolist())
        candle = {
            "start": int(candles.opens_ms[row]),
            "end": int(candles.closes_ms[row]) - 1,
            "interval": self.interval,
            "open": first,
            "close": close,
            "high": high,
            "low": low,
            "volume": volume,
            "turnover": turnover,
            "confirm": ended,
            "timestamp": now_ms,
        }
        return {"topic": self.topic, "data": [candle], "ts": now_ms, "type": "snapshot"}


class Socket:
    """One websocket connection to a category of markets."""

    def __init__(self, category: str, exchange: Exchange, clock: Clock):
        self._silent = False  # half-open: nothing is sent or answered any more
        self._category, self._exchange, self._clock = category, exchange, clock
        self._socket = web.WebSocketResponse(autoping=False)
        self._request: web.Request | None = None
        self._subscriptions: dict[str, Subscription] = {}
        self._changed = asyncio.Event()
        self._id = uuid.uuid4().hex

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        """Talk until the client or the server closes."""
        self._request = request
        await self._socket.prepare(request)
        pushing = asyncio.create_task(self._push())
        try:
            async for message in self._socket:
                await self._hear(message)
        finally:
            pushing.cancel()
            await asyncio.gather(pushing, return_exceptions=True)
        return self._socket

    def wake(self) -> None:
        """Look at the clock again."""
        self._changed.set()

    def silence(self) -> None:
        """Leave the connection open, but never send or answer anything again."""
        self._silent = True

    def drop(self) -> None:
        """Break the connection without a word."""
        if self._request is not None and self._request.transport is not None:
            self._request.transport.abort()

    async def close(self) -> None:
        """Close the connection as a server does that goes away."""
        await self._socket.close(code=1001)

    async def _hear(self, message: Any) -> None:
        if self._silent:
            return
        if message.type == WSMsgType.PING:
            await self._socket.pong(message.data)
        elif message.type == WSMsgType.TEXT:
            await self._tell(self._reply(_object(message.data)))
            self.wake()

    def _reply(self, command: dict[str, Any]) -> dict[str, Any]:
        operation = command.get("op")
        answer = {"success": True, "ret_msg": "", "conn_id": self._id}
        answer |= {"req_id": str(command.get("req_id", "")), "op": str(operation)}
        if operation == "ping":
            return answer | {"ret_msg": "pong"}
        topics = [topic for topic in command.get("args") or () if isinstance(topic, str)]
        if operation == "unsubscribe":
            for topic in topics:
                self._subscriptions.pop(topic, None)
            return answer
        if operation != "subscribe" or not topics:
            return answer | {"success": False, "ret_msg": "error:invalid op"}
        found = {topic: self._subscription(topic) for topic in topics}
        for topic, subscription in found.items():
            if subscription is None:
                return answer | {"success": False, "ret_msg": f"error:handler not found,topic:{topic}"}
        self._subscriptions |= found
        return answer

    def _subscription(self, topic: str) -> Subscription | None:
        kind, _, rest = topic.partition(".")
        interval, _, symbol = rest.partition(".")
        series = self._exchange.by_name.get((self._category, symbol))
        if kind != "kline" or series is None or interval not in INTERVALS_MS:
            return None
        chart = series.charts["trade"]
        if not chart.serves(interval):
            return None
        row = int(chart.candles(interval).closes_ms.searchsorted(self._clock.now_ms(), side="right"))
        return Subscription(topic, series, interval, row)

    async def _push(self) -> None:
        """Tell of every subscription what is due, whenever something is."""
        while True:
            self._changed.clear()
            for subscription in list(self._subscriptions.values()):
                for message in subscription.due(self._exchange, self._clock.now_ms()):
                    await self._tell(message)
            try:
                await asyncio.wait_for(self._changed.wait(), self._wait_s())
            except TimeoutError:
                continue

    def _wait_s(self) -> float:
        if not self._subscriptions:
            return _LONGEST_WAIT_S
        ends_ms = min(subscription.wakes_ms() for subscription in self._subscriptions.values())
        push_s = max(_LEAST_PUSH_S, _PUSH_MS / 1000 / self._clock.speed) if self._clock.speed else math.inf
        return min(push_s, self._clock.wait_s(ends_ms), _LONGEST_WAIT_S)

    async def _tell(self, message: dict[str, Any]) -> None:
        if self._silent or self._socket.closed:
            return
        try:
            await self._socket.send_str(json.dumps(message, separators=(",", ":")))
        except ConnectionError:
            self._silent = True  # the client has gone, and the reading side will notice


def _object(text: str) -> dict[str, Any]:
    """Return what a client said, or nothing if it is no JSON object."""
    try:
        command = json.loads(text)
    except ValueError:
        return {}
    return command if isinstance(command, dict) else {}
