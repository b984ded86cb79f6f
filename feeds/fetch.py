"""Downloads from an exchange into the store, of several datasets over one client, complete or loudly not.

Only bars that had closed when the download began are asked for.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd

from hissbt.bars import Time
from hissbt.errors import ConfigError, FetchError
from hissbt.feeds.exchange import load_markets, network_of, open_client, server_time_ms
from hissbt.feeds.history import Fetched, History, Missing, Session, all_or_none, iso
from hissbt.feeds.pages import bar_length_ms, check_ability
from hissbt.feeds.slots import Span, slot_at_or_before, to_ms
from hissbt.feeds.store import EVENT, BarStore, Dataset
from hissbt.feeds.venues import KINDS, category
from hissbt.timeframe import format_timeframe, parse_timeframe

GRACE_MS = 2_000
"""After its close a bar may still be revised, and the clock that the exchange tells may be off."""
_FUNDING_GRACE_MS = 60_000
_EARLIEST = "2010-01-01"
_SPANS_TOLD = 100

Progress = Callable[[int, int], None]


def fetch(
    exchange: str,
    symbols: Sequence[str],
    timeframe: str,
    *,
    since: Time | None = None,
    until: Time | None = None,
    kinds: Sequence[str] = ("trade",),
    store: BarStore | None = None,
    endpoint: str | None = None,
    testnet: bool = False,
    allow_gaps: bool = False,
    progress: Progress | None = None,
    timeout_s: float = 10.0,
    patience_s: float = 120.0,
    pause_s: float = 0.5,
) -> list[Fetched]:
    """Download what the store lacks of [since, until) and return what was done, one entry a symbol and kind.

    ``since`` and ``until`` are opens of bars; without ``since`` the exchange's whole history is meant, and
    ``until`` is cut to the bars that have closed by the exchange's clock. ``kinds`` are of trade, mark, index,
    premium and funding; funding comes by its events, whatever the timeframe. ``progress`` is called with the slots
    done and their total. One request may take ``timeout_s``, with all its repetitions ``patience_s``; the first
    repetition waits ``pause_s``, later ones longer.

    What has been downloaded stays when this raises: FetchError if the exchange cannot be reached or refuses, and,
    naming them, if bars are missing, unless ``allow_gaps`` accepts them in the store; ConfigError for a market,
    timeframe, kind or time that is not possible; StoreError if the store cannot be used.
    """
    length_ms = timeframe_ms(timeframe)
    timeframe = format_timeframe(pd.Timedelta(milliseconds=length_ms))
    symbols, kinds = list(dict.fromkeys(symbols)), tuple(dict.fromkeys(kinds))
    _check_kinds(symbols, kinds)
    categories = tuple(sorted({category(symbol) for symbol in symbols}))
    client = open_client(exchange, endpoint=endpoint, testnet=testnet, timeout_s=timeout_s, types=categories)
    for kind in kinds:
        check_ability(client, kind, timeframe)
    span = asked_span(since, until, length_ms)
    network = network_of(exchange, endpoint, testnet)
    datasets = [
        Dataset(exchange, network, symbol, kind, EVENT if kind == "funding" else timeframe)
        for symbol in symbols
        for kind in kinds
    ]
    patience = {"patience_s": patience_s, "pause_s": pause_s, "jitter": random.Random(exchange)}
    session = Session(client, store or BarStore(), patience)
    return _run(download(session, datasets, span, allow_gaps, progress))


def _run(work: Coroutine[Any, Any, list[Fetched]]) -> list[Fetched]:
    try:
        asyncio.get_running_loop()
        looping = True
    except RuntimeError:
        looping = False
    if not looping:
        return asyncio.run(work)
    with ThreadPoolExecutor(1) as thread:  # a notebook has a running loop of its own
        return thread.submit(asyncio.run, work).result()


# --- what was asked for


def timeframe_ms(timeframe: str) -> int:
    """Return the length of bars that can be fetched. Raises BarsError and ConfigError for others."""
    if timeframe.strip().endswith("M"):
        raise ConfigError(f"bars of {timeframe} are of months, which differ in length: choose 1w or shorter")
    return parse_timeframe(timeframe) // pd.Timedelta(milliseconds=1)


def asked_span(since: Time | None, until: Time | None, length_ms: int) -> tuple[int, int | None]:
    """Return the first open and the exclusive end of what was asked for. Raises ConfigError for other times."""
    first = slot_at_or_before(to_ms(_EARLIEST), length_ms) if since is None else _open("since", since, length_ms)
    end = None if until is None else _open("until", until, length_ms)
    if end is not None and end <= first:
        raise ConfigError(f"there is nothing between since {since} and until {until}: choose a later until")
    return first, end


def _open(name: str, moment: Time, length_ms: int) -> int:
    time_ms = to_ms(moment)
    slot = slot_at_or_before(time_ms, length_ms)
    if slot != time_ms:
        raise ConfigError(f"{name} {moment} is no bar's open: write {iso(slot)} or {iso(slot + length_ms)}")
    return slot


def _check_kinds(symbols: list[str], kinds: tuple[str, ...]) -> None:
    if not symbols or not kinds:
        raise ConfigError("there is nothing to fetch: name at least one symbol and one kind")
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ConfigError(f"unknown kind {unknown[0]!r}: write one of {', '.join(KINDS)}")
    spot = [symbol for symbol in symbols if category(symbol) == "spot"]
    if spot and set(kinds) != {"trade"}:
        raise ConfigError(
            f"{spot[0]} is a spot market, which has bars of trade only: name a contract, such as BTC/USDT:USDT"
        )


# --- all datasets, over one client


async def download(
    session: Session,
    datasets: list[Dataset],
    span: tuple[int, int | None],
    allow_gaps: bool,
    progress: Progress | None = None,
) -> list[Fetched]:
    """Do what fetch() does, in a running loop; the session's client is closed after it."""
    async with session.client as client:
        await load_markets(client, [dataset.symbol for dataset in datasets], **session.patience)
        now = await server_time_ms(client, **session.patience)
        histories = [History(session, dataset, *_closed(dataset, span, now)) for dataset in datasets]
        _count_together(histories, progress)
        await all_or_none([history.download() for history in histories])
    return _conclude(histories, allow_gaps)


def _closed(dataset: Dataset, span: tuple[int, int | None], now: int) -> Span:
    """Return the part of a span whose bars have closed, or whose funding has been published."""
    first, end = span
    if dataset.kind == "funding":
        last = now - _FUNDING_GRACE_MS
    else:
        last = slot_at_or_before(now - GRACE_MS, bar_length_ms(dataset))
    if last <= first:
        raise ConfigError(
            f"nothing of {dataset} has closed since {iso(first)}, for the exchange's clock shows {iso(now)}: "
            "choose an earlier since"
        )
    return first, last if end is None else min(end, last)


def _count_together(histories: list[History], progress: Progress | None) -> None:
    """Let all histories advance one count."""
    total = sum(history.slots(history.end - history.first) for history in histories)
    done = 0

    def advance(slots: int) -> None:
        nonlocal done
        done += slots
        if progress is not None:
            progress(done, total)

    for history in histories:
        history.advance = advance


def _conclude(histories: list[History], allow_gaps: bool) -> list[Fetched]:
    """Accept the holes that were found, or raise FetchError with all of them; a span without rows is no hole."""
    for history in histories:
        if history.holes == [(history.first, history.end)]:
            span = f"{iso(history.first)} to {iso(history.end)}"
            raise FetchError(f"nothing of {history.dataset} is to be had, {span} is missing: choose another span")
    holes = {history: history.missing(history.holes) for history in histories if history.holes}
    for history in histories:
        if history not in holes:
            history.finish()
    if holes and not allow_gaps:
        raise FetchError(f"{'; '.join(_sentence(*item) for item in holes.items())}: {_ADVICE}")
    for history in holes:
        history.accept_holes()
        history.finish()
    return [history.fetched() for history in histories]


_ADVICE = (
    "all the rest is stored; fetch again later, or accept what is missing with --allow-gaps (allow_gaps=True)"
)


def _sentence(history: History, missing: tuple[Missing, ...]) -> str:
    count = sum(span.count for span in missing)
    told = ", ".join(str(span) for span in missing[:_SPANS_TOLD])
    more = f" and {len(missing) - _SPANS_TOLD} more" if len(missing) > _SPANS_TOLD else ""
    return f"{count} of {history.dataset} are missing in {len(missing)} spans (UTC, end exclusive): {told}{more}"
