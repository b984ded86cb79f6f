"""Bybit v5's public websocket: topics are subscribed to, and candles are pushed while and when they close."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from aiohttp import WSMsgType, web

from hissbt.feeds.replay.chart import INTERVALS_MS, Candles, Chart
from hissbt.feeds.replay.clock import Clock
from hissbt.feeds.replay.exchange import Exchange, Market
from hissbt.feeds.replay.faults import Faults
from hissbt.feeds.replay.numbers import number_text

_PUSH_MS = 1000  # simulated time between two pushes of a forming candle
_LEAST_PUSH_S = 0.005  # real time that a fast clock leaves between them
_LONGEST_WAIT_S = 3600.0
_GOODBYE_S = 1.0  # how long a client may take to answer that a connection closes


@dataclass
class Subscription:
    """One topic of a connection, and the row of the first candle that has not been confirmed."""

    topic: str
    market: Market
    chart: Chart
    row: int

    @property
    def candles(self) -> Candles:
        """All candles of the topic."""
        return self.chart.candles(self.market[-1])

    def settles_ms(self, faults: Faults) -> float:
        """Return when the candle in turn will have to be confirmed."""
        if self.row == len(self.candles):
            return math.inf
        return faults.settled_ms(self.market, int(self.candles.closes_ms[self.row]))

    def due(self, exchange: Exchange, faults: Faults, now_ms: int) -> Iterator[dict[str, Any]]:
        """Yield what is to be told at a moment: all candles that have settled since, then the one in turn."""
        candles, interval = self.candles, self.market[-1]
        while self.row < len(candles) and candles.begins_ms[self.row] <= now_ms:
            row, settled = self.row, self.settles_ms(faults) <= now_ms
            self.row += settled
            if not exchange.in_hole(int(candles.opens_ms[row])):
                as_of_ms = min(now_ms, int(candles.closes_ms[row]) - 1)
                values = candles.values[row] if settled else self.chart.forming(interval, row, as_of_ms)
                yield self._message(row, values, settled, now_ms + faults.jitter_ms())
            if not settled:
                return

    def _message(self, row: int, values: np.ndarray, settled: bool, now_ms: int) -> dict[str, Any]:
        first, high, low, close, volume, turnover = map(number_text, values.tolist())
        candle = {
            "start": int(self.candles.opens_ms[row]),
            "end": int(self.candles.closes_ms[row]) - 1,
            "interval": self.market[-1],
            "open": first,
            "close": close,
            "high": high,
            "low": low,
            "volume": volume,
            "turnover": turnover,
            "confirm": settled,
            "timestamp": now_ms,
        }
        return {"topic": self.topic, "data": [candle], "ts": now_ms, "type": "snapshot"}


class Socket:
    """One websocket connection to a category of markets."""

    def __init__(self, category: str, exchange: Exchange, clock: Clock, faults: Faults, number: int):
        self._silent = False  # half-open: nothing is sent or answered any more
        self._category, self._exchange, self._clock = category, exchange, clock
        self._faults, self._number = faults, number
        self._socket = web.WebSocketResponse(autoping=False, timeout=_GOODBYE_S)
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
        self._silent = True
        if self._request is not None and self._request.transport is not None:
            self._request.transport.abort()

    async def close(self) -> None:
        """Close the connection as a server does that goes away; a half-open one just ends."""
        if self._silent:
            self.drop()
        else:
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
        return Subscription(topic, ("trade", self._category, symbol, interval), chart, row)

    async def _push(self) -> None:
        """Tell of every subscription what is due, whenever something is."""
        while True:
            self._changed.clear()
            for subscription in list(self._subscriptions.values()):
                for message in subscription.due(self._exchange, self._faults, self._clock.now_ms()):
                    await self._tell_candle(message)
            with contextlib.suppress(TimeoutError):
                # Not wait_for: of Python 3.11, it would lose a cancellation that comes with the event.
                async with asyncio.timeout(self._wait_s()):
                    await self._changed.wait()

    async def _tell_candle(self, message: dict[str, Any]) -> None:
        """Tell of a candle; before one is confirmed, something may go wrong."""
        candle = message["data"][0]
        fault = ""
        if candle["confirm"] and not self._silent:
            fault = self._faults.choose_socket(message["topic"], candle["start"], self._number)
        if fault:
            self._faults.counts[fault] += 1
        if fault == "socket_dropped":
            self.drop()
        elif fault == "socket_silent":
            self.silence()
        else:
            for _ in range(2 if fault == "socket_duplicate" else 1):
                await self._tell(message)

    def _wait_s(self) -> float:
        if not self._subscriptions:
            return _LONGEST_WAIT_S
        ends_ms = min(subscription.settles_ms(self._faults) for subscription in self._subscriptions.values())
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
