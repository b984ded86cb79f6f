"""The far side of a live feed: an exchange's websocket and REST in a thread, closed bars in a queue.

What comes out is decided by ClosedBars; here is how it learns of candles. Bybit's websocket tells of them as they
form and end. REST is asked for every bar that is due and was not told so: after a socket broke, fell silent, or
never could be opened, and of other exchanges for all bars, as ccxt does not tell which of their candles are final.
It is asked as well when the websocket is quiet for a while, so that no bar waits for the next message.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from hissbt.bars import Time
from hissbt.feeds.closed import ClosedBars, Hole
from hissbt.feeds.exchange import ask, load_markets, network_of, open_client, passes, server_time_ms
from hissbt.feeds.fetch import GRACE_MS, asked_span, download
from hissbt.feeds.history import ANSWERS, Session
from hissbt.feeds.pages import ask_page, bar_length_ms, check_ability, rows_a_page
from hissbt.feeds.slots import slot_at_or_before
from hissbt.feeds.store import BarStore, Dataset
from hissbt.feeds.stream import listen
from hissbt.feeds.venues import BYBIT, category
from hissbt.timeframe import format_timeframe, parse_timeframe

if TYPE_CHECKING:
    from ccxt.async_support import Exchange

DELAYED, LIVE, BROKEN = "DELAYED", "LIVE", "CONNBROKEN"
_ROWS_AT_ONCE = 10_000
_LONGEST_PAUSE_S = 30.0
_SHORTEST_QUIET_S = 1.0


@dataclass(frozen=True)
class Over:
    """The end of a live run: because it was over, or because of an error."""

    error: BaseException | None


@dataclass(frozen=True)
class LiveSettings:
    """Which bars a live run is about, and how patient it is; see ExchangeFeed."""

    exchange: str
    symbol: str
    timeframe: str
    since: Time | None
    until: Time | None
    store: BarStore | None
    endpoint: str | None
    testnet: bool
    allow_gaps: bool
    timeout_s: float
    patience_s: float
    pause_s: float
    quiet_s: float
    silence_s: float

    @property
    def dataset(self) -> Dataset:
        """The series in the store."""
        length = format_timeframe(parse_timeframe(self.timeframe))
        network = network_of(self.exchange, self.endpoint, self.testnet)
        return Dataset(self.exchange, network, self.symbol, "trade", length)


class LiveSource:
    """One live run: ``start``, read ``items``, ``stop``.

    The items are float64 [N, 6] (bars: open in ms since 1970, open, high, low, close, volume), Hole, the names
    DELAYED, LIVE and BROKEN where the state changes, and Over as the last one.
    """

    def __init__(self, settings: LiveSettings):
        self.items: SimpleQueue[np.ndarray | Hole | str | Over] = SimpleQueue()
        self._settings, self._dataset = settings, settings.dataset
        self._step_ms = bar_length_ms(self._dataset)
        self._patience = {"patience_s": settings.patience_s, "pause_s": settings.pause_s}
        self._thread = threading.Thread(target=self._run, name=f"live {settings.symbol}", daemon=True)
        self._started = threading.Event()
        self._status = ""
        self._is_streaming = False  # whether the websocket has spoken since it was opened
        self._bars: ClosedBars
        self._loop: asyncio.AbstractEventLoop
        self._task: asyncio.Task
        self._news: asyncio.Event

    def start(self) -> None:
        """Begin, in a thread of its own."""
        self._thread.start()
        self._started.wait()

    def stop(self) -> None:
        """Close all connections and wait for the thread to end. Does no harm when it has ended already."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._task.cancel)
        if threading.current_thread() is not self._thread:  # a finalizer may run anywhere
            self._thread.join()

    def _run(self) -> None:
        asyncio.run(self._supervise())

    async def _supervise(self) -> None:
        self._loop, self._news = asyncio.get_running_loop(), asyncio.Event()
        self._task = asyncio.create_task(self._work())
        self._started.set()
        await asyncio.wait([self._task])
        self.items.put(Over(None if self._task.cancelled() else self._task.exception()))

    async def _work(self) -> None:
        since_ms, end_ms = asked_span(self._settings.since, self._settings.until, self._step_ms)
        async with self._open() as client:
            check_ability(client, "trade", self._dataset.timeframe)
            await load_markets(client, [self._dataset.symbol], **self._patience)
            self._tell(DELAYED)
            first_ms = await self._fill_back(client, since_ms, end_ms)
            self._bars = ClosedBars(first_ms, self._step_ms, grace_ms=GRACE_MS, answers=ANSWERS, end_ms=end_ms)
            tasks = [asyncio.create_task(self._follow(client))]
            if self._settings.exchange == BYBIT.exchange:
                tasks.append(asyncio.create_task(self._watch(client.markets[self._dataset.symbol])))
            try:
                # The second ends with an error only, as the first may.
                ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                await asyncio.gather(*ended)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _open(self, **kind: Any) -> Exchange:
        settings = self._settings
        return open_client(
            settings.exchange,
            endpoint=settings.endpoint,
            testnet=settings.testnet,
            timeout_s=settings.timeout_s,
            types=(category(settings.symbol),),
            **kind,
        )

    # --- history

    async def _fill_back(self, client: Exchange, first_ms: int, end_ms: int | None) -> int:
        """Pass on the bars since the beginning, over the store; return the open of the next one."""
        settings = self._settings
        forming_ms = slot_at_or_before(await self._now_ms(client) - GRACE_MS, self._step_ms)
        if settings.since is None:
            return forming_ms
        if first_ms >= forming_ms:
            return first_ms
        store = settings.store or BarStore()
        session = Session(self._open(), store, self._patience)  # download closes its client
        await download(session, [self._dataset], (first_ms, end_ms), settings.allow_gaps)
        rows = await asyncio.to_thread(store.rows, self._dataset, settings.since, settings.until)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            self.items.put(rows[start : start + _ROWS_AT_ONCE])
        return int(rows[-1, 0]) + self._step_ms if len(rows) else first_ms

    async def _now_ms(self, client: Exchange) -> int:
        return client.server_time_ms or await server_time_ms(client, **self._patience)

    # --- REST

    async def _follow(self, client: Exchange) -> None:
        """Ask for every bar that nobody told of, until the run is over."""
        most, pause_s = rows_a_page(client, self._dataset), 0.0
        while not self._bars.is_over:
            first_ms = self._bars.next_ms
            wanted = self._bars.wanted(most)
            if wanted is None and self._status != BROKEN and await self._hears():
                continue
            await self._ask(client, *(wanted or (first_ms, first_ms + most * self._step_ms)))
            if wanted is None or self._bars.next_ms > first_ms:
                pause_s = 0.0
                continue
            # A hole that fills a page shows no bar behind it.
            await self._ask(client, *self._bars.newest(most))
            pause_s = min(2 * pause_s or self._settings.pause_s, _LONGEST_PAUSE_S)
            await asyncio.sleep(pause_s)

    async def _hears(self) -> bool:
        """Wait for the websocket; return whether it spoke before the next bar is due, as far as can be told."""
        due_s = (self._bars.due_ms - self._bars.now_ms) / 1000 if self._bars.now_ms else 0.0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(max(due_s, _SHORTEST_QUIET_S), self._settings.quiet_s)):
                await self._news.wait()
        spoke = self._news.is_set()
        self._news.clear()
        return spoke

    async def _ask(self, client: Exchange, first_ms: int, end_ms: int) -> None:
        asked_ms = await self._now_ms(client)
        rows = await ask(self._page, client, first_ms, end_ms, **self._patience)
        self._bars.answer(first_ms, end_ms, rows, client.server_time_ms or asked_ms)
        self._pass_on()

    async def _page(self, client: Exchange, first_ms: int, end_ms: int) -> np.ndarray:
        import ccxt

        try:
            return await ask_page(client, self._dataset, first_ms, end_ms)
        except ccxt.BaseError as error:
            if passes(error) and not self._is_streaming:
                self._tell(BROKEN)
            raise

    # --- websocket

    async def _watch(self, market: dict) -> None:
        """Keep Bybit's websocket open, and open another one whenever it breaks."""
        import aiohttp
        import ccxt

        settings, pause_s = self._settings, self._settings.pause_s
        while True:
            async with self._open(pro=True) as stream:
                stream.set_markets([market])
                with contextlib.suppress(ccxt.BaseError, aiohttp.ClientError, OSError):
                    await listen(stream, settings.symbol, self._dataset.timeframe, self._hear, settings.silence_s)
            pause_s = settings.pause_s if self._is_streaming else min(2 * pause_s, _LONGEST_PAUSE_S)
            if self._is_streaming:
                self._is_streaming = False
                self._tell(BROKEN)
                self._news.set()
            await asyncio.sleep(pause_s)

    def _hear(self, candles: Sequence[Sequence[float]], now_ms: int, final: bool) -> None:
        self._is_streaming = True
        self._bars.see(candles, now_ms, final=final)
        self._pass_on()
        self._news.set()

    # --- what comes out

    def _pass_on(self) -> None:
        """Put out what is ready, now that the exchange was heard of."""
        if self._status == BROKEN:
            self._tell(DELAYED)
        for item in self._bars.take():
            self.items.put(item if isinstance(item, Hole) else np.array([item]))
        if self._bars.wanted(1) is None:
            self._tell(LIVE)

    def _tell(self, status: str) -> None:
        if status != self._status:
            self._status = status
            self.items.put(status)
