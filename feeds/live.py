"""ExchangeFeed: bars of an exchange as a Backtrader feed, its history in bulk or its bars as they close."""

from __future__ import annotations

import logging
import weakref
from collections import deque
from datetime import UTC, datetime, timedelta
from queue import Empty
from time import monotonic
from typing import Any

import backtrader as bt
import numpy as np
import pandas as pd

from hissbt.bars import COLUMNS, Bars, Time
from hissbt.errors import ConfigError
from hissbt.feeds.bulk import BarsFeed, backtrader_timeframe, date_numbers
from hissbt.feeds.closed import Hole
from hissbt.feeds.fetch import fetch, timeframe_ms
from hissbt.feeds.live_source import LiveSettings, LiveSource, Over
from hissbt.feeds.named import lacks_bars
from hissbt.feeds.slots import to_utc
from hissbt.feeds.store import BarStore
from hissbt.timeframe import parse_timeframe

_QCHECK_S = 0.5
_LOG = logging.getLogger(__name__)


def ExchangeFeed(
    symbol: str,
    timeframe: str,
    *,
    exchange: str = "bybit",
    since: Time | None = None,
    until: Time | None = None,
    live: bool = False,
    store: BarStore | None = None,
    endpoint: str | None = None,
    testnet: bool = False,
    allow_gaps: bool = False,
    timeout_s: float = 10.0,
    patience_s: float = 120.0,
    pause_s: float = 0.5,
    quiet_s: float = 30.0,
    silence_s: float = 90.0,
    **parameters: Any,
) -> BarsFeed | LiveFeed:
    """Return a Backtrader feed of an exchange's bars: a BarsFeed of its history, or with ``live`` a LiveFeed.

    ``symbol`` is ccxt's, such as BTC/USDT:USDT. Bars open at ``since`` or later and close at ``until`` or before;
    both are opens of bars. What ``store`` lacks of the history is downloaded into it first, and bars that are
    missing raise FetchError, unless ``allow_gaps``. A live run begins with the history since ``since``, or else
    with the bar that is forming, and ends at ``until``, or else when Cerebro stops.

    ``endpoint`` and ``testnet`` are other networks, with datasets of their own. A request may take ``timeout_s``;
    one that fails is repeated after ``pause_s`` and then ever more, and after ``patience_s`` the run ends in a
    FetchError. REST is asked when the exchange has said nothing for ``quiet_s``, or a bar is due; the websocket is
    opened anew after ``silence_s`` without a word. Further ``parameters`` are those of a Backtrader feed.

    Raises ConfigError, FetchError and StoreError; a live feed does so in Cerebro.run.
    """
    settings = LiveSettings(
        exchange,
        symbol,
        timeframe,
        since=since,
        until=until,
        store=store,
        endpoint=endpoint,
        testnet=testnet,
        allow_gaps=allow_gaps,
        timeout_s=timeout_s,
        patience_s=patience_s,
        pause_s=pause_s,
        quiet_s=quiet_s,
        silence_s=silence_s,
    )
    length = pd.Timedelta(milliseconds=timeframe_ms(timeframe))
    if not live:
        return BarsFeed(_stored_bars(settings), **parameters)
    unit, compression = backtrader_timeframe(length)
    known = {"name": symbol, "timeframe": unit, "compression": compression, "qcheck": _QCHECK_S}
    feed = LiveFeed(dataname=settings, **known | parameters)
    if feed.p.qcheck <= 0:
        raise ConfigError(f"qcheck {feed.p.qcheck} would let Cerebro's loop spin: choose a part of a second")
    return feed


def _stored_bars(settings: LiveSettings) -> Bars:
    """Return the bars of a feed's history, downloading first what the store lacks."""
    store, dataset = settings.store or BarStore(), settings.dataset
    if lacks_bars(store, dataset, settings.since, settings.until):
        fetch(
            settings.exchange,
            [settings.symbol],
            settings.timeframe,
            since=settings.since,
            until=settings.until,
            store=store,
            endpoint=settings.endpoint,
            testnet=settings.testnet,
            allow_gaps=settings.allow_gaps,
            timeout_s=settings.timeout_s,
            patience_s=settings.patience_s,
            pause_s=settings.pause_s,
        )
    return store.bars(dataset, settings.since, settings.until)


class LiveFeed(bt.feed.DataBase):
    """Closed bars as they come, for Cerebro: made by ExchangeFeed.

    Notifies DELAYED while it fills back, LIVE when that has been delivered, CONNBROKEN when the exchange is lost,
    then again DELAYED and LIVE. Cerebro's loop waits ``qcheck`` seconds at most for the next bar. An error of the
    exchange's side is raised from Cerebro.run. Bars that the exchange itself lacks while it runs are left out, and
    told to the log and in ``holes``.
    """

    _source: LiveSource | None = None

    def islive(self) -> bool:
        """Tell Cerebro to take bars one by one."""
        return True

    def start(self) -> None:
        """Backtrader's hook before a run: connect."""
        super().start()
        self._waiting: deque[list[float]] = deque()
        self._complete_until: datetime | None = None
        self._is_over = False
        self.holes: list[Hole] = []
        self._source = LiveSource(self.p.dataname)
        self._source.start()
        self._disconnect = weakref.finalize(self, self._source.stop)  # Cerebro stops no feed after an exception

    def stop(self) -> None:
        """Backtrader's hook after a run: disconnect."""
        super().stop()
        self._disconnect()

    def haslivedata(self) -> bool:
        """Tell whether something waits to be delivered."""
        return bool(self._waiting) or not self._source.items.empty()

    def clone(self, **parameters: Any) -> bt.feed.DataClone:
        """Return a feed of the same bars, as Cerebro makes one to resample a feed that was added."""
        return _LiveClone(dataname=self, **parameters)

    def copyas(self, _dataname: str, **parameters: Any) -> bt.feed.DataClone:
        """Return a feed of the same bars under another name."""
        copy = self.clone(**parameters)
        copy._dataname = copy._name = _dataname
        return copy

    def _load(self) -> bool | None:
        """Backtrader's hook for one bar: True with one, None if none came in time, False after the last."""
        end_s = monotonic() + self._qcheck
        while not (self._waiting or self._is_over):
            try:
                self._take(self._source.items.get(timeout=max(0.0, end_s - monotonic())))
            except Empty:
                return None
        if self._is_over:
            return False
        for line, value in zip(self.lines, self._waiting.popleft(), strict=True):
            line[0] = value
        self._complete_until = bt.num2date(self.lines.datetime[0])
        return True

    def _take(self, item: np.ndarray | Hole | str | Over) -> None:
        """Act on what the source says, when all that it said before has been delivered."""
        if isinstance(item, Over):
            self._is_over = True
            self._disconnect()
            if item.error is not None:
                raise item.error
        elif isinstance(item, Hole):
            self.holes.append(item)
            first, end = to_utc(item.first_ms), to_utc(item.end_ms)
            _LOG.warning("%s has no bars from %s to %s: none are delivered", self.p.dataname.dataset, first, end)
        elif isinstance(item, str):
            self.put_notification(getattr(self, item))
        else:
            self._waiting.extend(self._rows(item))

    def _rows(self, bars: np.ndarray) -> list[list[float]]:
        """Return bars as rows in the order of the lines."""
        length = parse_timeframe(self.p.dataname.timeframe)
        closes = pd.to_datetime(bars[:, 0].astype(np.int64), unit="ms", utc=True).as_unit("ns") + length
        columns = dict(zip(COLUMNS, bars[:, 1:].T, strict=True)) | {"datetime": date_numbers(closes)}
        absent = np.full(len(bars), np.nan)
        return np.column_stack([columns.get(name, absent) for name in self.getlinealiases()]).tolist()

    def _timeoffset(self) -> timedelta:
        """Tell Backtrader its time, less this machine's: the time up to which all bars were delivered.

        The exchange's clock may be anywhere and run at any speed, and a later bar may still be on its way.
        """
        if self._complete_until is None:
            return timedelta()
        return self._complete_until - datetime.now(UTC).replace(tzinfo=None)

    def _check(self, forcedata: bt.feed.DataBase | None = None) -> None:
        """Let no resampled bar end by the time, or by another feed's: its last part may still be on its way."""


class _LiveClone(bt.feed.DataClone):
    """The bars of a LiveFeed once more."""

    def _timeoffset(self) -> timedelta:
        return self.data._timeoffset()

    def _check(self, forcedata: bt.feed.DataBase | None = None) -> None:
        """As of the feed itself."""
