"""Faults: what goes wrong between an exchange and its clients, on a seeded schedule, and counted."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from hissbt.bars import Time, parse_time
from hissbt.errors import ConfigError
from hissbt.feeds.replay.exchange import KLINES, Market, Page

ROW_FAULTS = ("missing", "duplicate", "revised", "out_of_order", "empty")
REPLY_FAULTS = (
    "code_10002",  # the client's clock
    "code_10006",  # too many requests of a user
    "code_10018",  # too many requests of an address
    "http_429",
    "http_5xx",
    "malformed",
    "cut",
    "hang",
    "dropped",
)
SOCKET_FAULTS = ("socket_dropped", "socket_silent", "socket_duplicate")
KINDS = (*ROW_FAULTS, *REPLY_FAULTS, "jitter", *SOCKET_FAULTS)

JITTER_MS = 1000
REVISION_MS = 1000
_IN_A_ROW = 2
_FEW_ROWS = 3

Span = tuple[Time, Time]


class Faults:
    """A schedule of faults that are transient by construction, and of holes that are not.

    - A request (a route, a market, an interval and a start) goes wrong with probability ``rate``, but at most
      twice in a row; and no candle is hidden more than twice in a row, whatever is asked. Who asks four times has
      had the truth. "missing", "duplicate", "revised", "out_of_order" and "empty" pages look like any other; a
      "revised" page has one candle twice, once with the values that it had before its close. Funding is never
      missing, as nobody could tell, nor revised.
    - Near its close, a candle that is to be revised shows such values for up to a second more, and is confirmed on
      the websocket only then. This counts as "revised" too.
    - "jitter": what the exchange says the time is, is up to a second off, either way. So nothing is settled before
      the time that it says is two seconds after a close.
    - Before it confirms a candle, a websocket is dropped or falls silent for good with probability
      ``socket_rate``, or it confirms the candle twice.
    - ``holes`` are pairs of the open of the first missing candle and that of the first one after them.

    ``kinds`` restricts it to some of ``KINDS``. The same seed gives the same faults for the same requests in the
    same order. ``counts`` has the faults injected so far, by kind. A schedule belongs to one server. Raises
    ConfigError for unknown kinds and for what is no probability or no span.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        rate: float = 0.25,
        socket_rate: float = 0.02,
        kinds: Collection[str] = KINDS,
        holes: Iterable[Span] = (),
    ):
        unknown = set(kinds) - set(KINDS)
        if unknown:
            raise ConfigError(f"unknown faults {', '.join(sorted(unknown))}: choose of {', '.join(KINDS)}")
        if not (0 <= rate <= 1 and 0 <= socket_rate <= 1):
            raise ConfigError(f"rates of {rate} and {socket_rate} are no probabilities: write 0 to 1")
        self.counts: Counter[str] = Counter()
        self.holes_ms = tuple(_span_ms(*span) for span in holes)
        self._seed, self._rate, self._socket_rate = seed, rate, socket_rate
        self._kinds = frozenset(kinds)
        self._attempts: Counter[tuple] = Counter()
        self._in_a_row: Counter[tuple] = Counter()
        self._hidden: dict[tuple, np.ndarray] = {}
        self._replies = 0

    def choose(self, route: str, query: Mapping[str, str]) -> tuple[str, random.Random]:
        """Return which fault this request meets, none being an empty text, and the chance that shapes it."""
        request = (route, *(query.get(name) for name in ("category", "symbol", "interval", "start", "startTime")))
        chance = self._chance(*request, self._attempts[request])
        self._attempts[request] += 1
        kinds = [kind for kind in (*_row_faults(route), *REPLY_FAULTS) if kind in self._kinds]
        if not kinds or self._in_a_row[request] == _IN_A_ROW or chance.random() >= self._rate:
            del self._in_a_row[request]
            return "", chance
        self._in_a_row[request] += 1
        return chance.choice(kinds), chance

    def spoil_page(self, kind: str, page: Page, now_ms: int, chance: random.Random) -> Page:
        """Return a page of candles with one of the faults of rows, or as it is where that has no room."""
        hidden = self._hidden.setdefault(page.market, np.zeros(len(page.candles), dtype=np.int8))
        hides = hidden[page.rows] < _IN_A_ROW  # [N]
        if kind == "revised":
            told = self._with_revised(page, now_ms, chance)
        elif kind == "missing":
            told = page.at(np.flatnonzero(~(_some(len(hides), chance) & hides)))
        elif kind == "empty" and hides.all():
            told = page.at(np.empty(0, dtype=int))
        else:
            told = page.at(np.array(_order(kind, len(page.rows), chance), dtype=int))
        hidden[page.rows] += 1
        hidden[told.rows] = 0
        if not np.array_equal(told.rows, page.rows):
            self.counts[kind] += 1
        return told

    def spoil_funding(self, kind: str, result: dict[str, Any], chance: random.Random) -> dict[str, Any]:
        """Return the result of a funding history with one of the faults of rows."""
        events = result["list"]
        order = [] if kind == "empty" else _order(kind, len(events), chance)
        told = [events[position] for position in order]
        if told != events:
            self.counts[kind] += 1
        return result | {"list": told}

    def late_values(self, page: Page, now_ms: int) -> Page:
        """Return a page in which the candle that closed last still has other values, if it is revised late."""
        closes_ms = page.candles.closes_ms[page.rows]  # [N]
        last = int(closes_ms.searchsorted(now_ms, side="right")) - 1
        if last < 0 or self.settled_ms(page.market, int(closes_ms[last])) <= now_ms:
            return page
        values = page.values.copy()
        values[last] = page.chart.provisional(page.interval, int(page.rows[last]))
        if not np.array_equal(values, page.values):
            self.counts["revised"] += 1
        return replace(page, values=values)

    def settled_ms(self, market: Market, close_ms: int) -> int:
        """Return when a candle has its final values: at its close, or up to a second later if it is revised."""
        if "revised" not in self._kinds:
            return close_ms
        chance = self._chance("settles", *market, close_ms)
        return close_ms + (chance.randrange(1, REVISION_MS) if chance.random() < self._rate else 0)

    def jitter_ms(self) -> int:
        """Return how far the time in the next reply is off."""
        if "jitter" not in self._kinds:
            return 0
        self._replies += 1
        self.counts["jitter"] += 1
        return self._chance("jitter", self._replies).randint(-JITTER_MS, JITTER_MS)

    def choose_socket(self, topic: str, open_ms: int, connection: int) -> str:
        """Return which fault a websocket meets before it confirms a candle, none being an empty text."""
        kinds = [kind for kind in SOCKET_FAULTS if kind in self._kinds]
        chance = self._chance("socket", topic, open_ms, connection)
        return chance.choice(kinds) if kinds and chance.random() < self._socket_rate else ""

    def _chance(self, *what: object) -> random.Random:
        return random.Random(repr((self._seed, *what)))

    def _with_revised(self, page: Page, now_ms: int, chance: random.Random) -> Page:
        """Return the page with one of its closed candles twice, once as it was just before its close."""
        closed = range(int(page.candles.closes_ms[page.rows].searchsorted(now_ms, side="right")))
        for position in chance.sample(closed, min(_FEW_ROWS, len(closed))):
            earlier = page.chart.provisional(page.interval, int(page.rows[position]))
            if not np.array_equal(earlier, page.values[position]):
                twice = page.at(np.insert(np.arange(len(page.rows)), position, position))
                twice.values[position + chance.randrange(2)] = earlier
                return twice
        return page


def _order(kind: str, length: int, chance: random.Random) -> list[int]:
    """Return the order in which rows are told with a fault that hides and changes none, or without one."""
    order = list(range(length))
    if kind == "duplicate":
        return sorted(order + chance.sample(order, min(_FEW_ROWS, length)))
    if kind == "out_of_order":
        chance.shuffle(order)
    return order


def _some(length: int, chance: random.Random) -> np.ndarray:
    """Return bool [N]: a few rows apart, or one stretch of them."""
    some = np.zeros(length, dtype=bool)
    if length and chance.random() < 0.5:
        first = chance.randrange(length)
        some[first : first + chance.randint(1, max(1, math.isqrt(length)))] = True
    elif length:
        some[[chance.randrange(length) for _ in range(_FEW_ROWS)]] = True
    return some


def _row_faults(route: str) -> tuple[str, ...]:
    if route in KLINES:
        return ROW_FAULTS
    return ("duplicate", "out_of_order", "empty") if route == "funding/history" else ()


def _span_ms(first: Time, end: Time) -> tuple[int, int]:
    first_ms, end_ms = (parse_time(moment).as_unit("ns").value // 1_000_000 for moment in (first, end))
    if first_ms >= end_ms:
        raise ConfigError(
            f"the hole from {first} to {end} is empty: write the first open and the one after the last"
        )
    return first_ms, end_ms
