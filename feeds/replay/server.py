"""ReplayServer: Bybit v5 over HTTP and websocket, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass

import pandas as pd
from aiohttp import web

from hissbt.errors import ConfigError
from hissbt.feeds.replay.clock import Clock
from hissbt.feeds.replay.exchange import MARKET, ROUTES, Exchange, Page, Refusal, envelope, kline_result
from hissbt.feeds.replay.faults import REPLY_FAULTS, Faults
from hissbt.feeds.replay.replies import bad_reply, json_reply
from hissbt.feeds.replay.series import CATEGORIES, Series
from hissbt.feeds.replay.sockets import Socket

_LAST_PORT = 65_535
_AFTER_THE_END = pd.Timedelta(minutes=1)


@dataclass(frozen=True)
class Counts:
    """What a server was asked, by route, and which faults it injected, by kind."""

    requests: Counter[str]
    faults: Counter[str]


class ReplayServer:
    """Serves series as Bybit v5 would, on loopback: ``with ReplayServer([series]) as server: server.url``.

    Without a clock, time stands still a minute after the last close. ``port`` 0 lets the system choose one. Raises
    ConfigError for series that contradict each other, and when started on a port that is taken.
    """

    def __init__(
        self,
        series: Iterable[Series],
        *,
        clock: Clock | None = None,
        faults: Faults | None = None,
        truncate: str = "end",
        host: str = "127.0.0.1",
        port: int = 0,
    ):
        if not 0 <= port <= _LAST_PORT:
            raise ConfigError(f"there is no port {port}: choose one up to {_LAST_PORT}, or 0 for any free one")
        self._faults = faults or Faults(kinds=())
        self.exchange = Exchange(tuple(series), truncate, self._faults.holes_ms)
        self.clock = clock or _after_the_end(self.exchange)
        self.counts = Counts(Counter(), self._faults.counts)
        self._host, self._port = host, port
        self._sockets: set[Socket] = set()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopped: asyncio.Event | None = None

    @property
    def url(self) -> str:
        """Where it answers, such as http://127.0.0.1:8080."""
        return f"http://{self._host}:{self._port}"

    @property
    def ws_url(self) -> str:
        """The same for websockets."""
        return f"ws://{self._host}:{self._port}"

    def start(self) -> ReplayServer:
        """Listen in a thread, and return when clients can connect; after a stop, on the same port again."""
        listening: Future[None] = Future()
        self._thread = threading.Thread(target=self._run, args=(listening,), name="replay", daemon=True)
        self._thread.start()
        try:
            listening.result()
        except ConfigError:
            self._thread.join()
            self._thread = None
            raise
        return self

    def stop(self) -> None:
        """Close all connections and the port, and end the thread. Does nothing when it is not running."""
        if self._thread is None:
            return
        self._loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join()
        self._thread = None

    def __enter__(self) -> ReplayServer:
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def drop_sockets(self) -> None:
        """Break every websocket connection without a word; clients may connect again."""
        self._loop.call_soon_threadsafe(self._break_sockets, "socket_dropped", Socket.drop)

    def silence_sockets(self) -> None:
        """Leave every websocket connection half-open: it stays, but nothing is sent or answered on it any more."""
        self._loop.call_soon_threadsafe(self._break_sockets, "socket_silent", Socket.silence)

    def _break_sockets(self, kind: str, how: Callable[[Socket], None]) -> None:
        for socket in list(self._sockets):
            how(socket)
            self.counts.faults[kind] += 1

    def _wake_sockets(self) -> None:
        with contextlib.suppress(RuntimeError):  # a clock may jump while the server stops, with its loop closed
            self._loop.call_soon_threadsafe(lambda: [socket.wake() for socket in self._sockets])

    def _run(self, listening: Future[None]) -> None:
        try:
            asyncio.run(self.serve(lambda: listening.set_result(None)))
        except ConfigError as error:
            listening.set_exception(error)
        finally:
            listening.cancel()  # if anything else went wrong, start() must not wait for ever

    async def serve(self, when_listening: Callable[[], None]) -> None:
        """Serve until ``stop`` or until it is canceled, in the running loop."""
        self._loop, self._stopped = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_get(MARKET + "{route:.+}", self._answer)
        app.router.add_get(f"/v5/public/{{category:{'|'.join(CATEGORIES)}}}", self._connect)
        app.on_shutdown.append(self._close_sockets)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0, access_log=None)
        await runner.setup()
        try:
            await self._listen(runner)
            self.clock.listen(self._wake_sockets)
            when_listening()
            await self._stopped.wait()
        finally:
            self.clock.unlisten(self._wake_sockets)
            await runner.cleanup()

    async def _connect(self, request: web.Request) -> web.WebSocketResponse:
        self.counts.requests["websocket"] += 1
        number = self.counts.requests["websocket"]
        socket = Socket(request.match_info["category"], self.exchange, self.clock, self._faults, number)
        self._sockets.add(socket)
        try:
            return await socket.serve(request)
        finally:
            self._sockets.discard(socket)

    async def _close_sockets(self, app: web.Application) -> None:
        await asyncio.gather(*[socket.close() for socket in self._sockets])

    async def _listen(self, runner: web.AppRunner) -> None:
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            reason = os.strerror(error.errno)
            raise ConfigError(
                f"cannot listen on port {self._port} of {self._host} ({reason}): choose another port"
            ) from error
        self._port = runner.addresses[0][1]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        route = request.match_info["route"]
        if route not in ROUTES:
            raise web.HTTPNotFound
        self.counts.requests[route] += 1
        now_ms = self.clock.now_ms()
        told_ms = now_ms + self._faults.jitter_ms()
        fault, chance = self._faults.choose(route, request.query)
        try:
            result = self.exchange.answer(route, request.query, now_ms)
        except Refusal as refusal:
            return json_reply(envelope({}, told_ms, refusal.code, str(refusal)))
        if fault in REPLY_FAULTS:
            self.counts.faults[fault] += 1
            return await bad_reply(fault, request, told_ms, chance, self._stopped)
        if route == "time":
            result = self.exchange.answer(route, request.query, told_ms)
        elif route == "funding/history":
            result = self._faults.spoil_funding(fault, result, chance)
        elif isinstance(result, Page):
            page = self._faults.late_values(result, now_ms)
            result = kline_result(self._faults.spoil_page(fault, page, now_ms, chance))
        return json_reply(envelope(result, told_ms))


def _after_the_end(exchange: Exchange) -> Clock:
    """Return a clock that stands where every bar has closed, longer ago than any grace."""
    last_ms = max(series.charts["trade"].last_close_ms for series in exchange.by_name.values())
    return Clock(pd.Timestamp(last_ms, unit="ms", tz="UTC") + _AFTER_THE_END, speed=0)
