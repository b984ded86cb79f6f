"""Bars and funding by name, such as ``bybit:BTC/USDT:USDT:1h`` or ``yahoo:SPY:1d``.

The first field is the exchange as ccxt calls it, the last one the timeframe; the symbol between may hold colons.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path

import numpy as np
import pandas as pd

from hissbt.bars import Bars, Time, parse_time
from hissbt.errors import BarsError
from hissbt.feeds.exchange import network_of
from hissbt.feeds.intervals import missing_events
from hissbt.feeds.slots import slot_at_or_before
from hissbt.feeds.store import EVENT, BarStore, Dataset
from hissbt.timeframe import format_timeframe, parse_timeframe

YAHOO = "yahoo"
_EXAMPLE = "bybit:BTC/USDT:USDT:1h"
_FUNDING_EXAMPLE = "bybit:BTC/USDT:USDT"
_HOURLY = "1h"  # no funding interval is shorter; every exchange has it


def is_name(spec: str | Path) -> bool:
    """Tell whether a spec is a name with fields and no file; a Windows path has one letter before its colon."""
    return isinstance(spec, str) and re.match(r"\w{2,}:", spec) is not None and not Path(spec).exists()


def named_bars(name: str, since: Time | None = None, until: Time | None = None) -> Bars:
    """Return the bars of a name that open at or after ``since`` and close at or before ``until``.

    Bars of an exchange come from the store (of the network that HISSBT_<EXCHANGE>_ENDPOINT points to). With
    ``since``, what the store lacks is downloaded first; without it, everything is downloaded if there is
    nothing, and else what a download that broke off has left out. No network is used while the store is complete.
    Raises BarsError for a name that is none, StoreError and FetchError.
    """
    exchange, _, rest = name.partition(":")
    symbol, _, timeframe = rest.rpartition(":")
    if not symbol:
        raise BarsError(f"{name!r} lacks a symbol or a timeframe: write a name such as {_EXAMPLE}")
    try:
        length = parse_timeframe(timeframe)
    except BarsError as error:
        raise BarsError(f"in {name!r}, {error}; a whole name is {_EXAMPLE}") from error
    if exchange == YAHOO:
        from hissbt.feeds.yahoo import yahoo_bars

        return yahoo_bars(symbol, length, since, until)
    _check_exchange(exchange, name, _EXAMPLE)
    dataset = Dataset(exchange, network_of(exchange), symbol, "trade", format_timeframe(length))
    store = BarStore()
    if lacks_bars(store, dataset, since, until):
        _download(store, dataset, dataset.timeframe, since, until)
    return store.bars(dataset, since, until)


def named_funding(name: str, since: Time | None = None, until: Time | None = None) -> tuple[str, pd.Series]:
    """Return the symbol of a name such as ``bybit:BTC/USDT:USDT`` and all of its funding rates by event time.

    They come from the store, and what that lacks of [since, until) is downloaded first, as for ``named_bars``.
    """
    exchange, _, symbol = name.partition(":")
    if not symbol or ":" not in symbol:
        raise BarsError(f"{name!r} names no perpetual future: write a name such as {_FUNDING_EXAMPLE}")
    _check_exchange(exchange, name, _FUNDING_EXAMPLE)
    dataset = Dataset(exchange, network_of(exchange), symbol, "funding", EVENT)
    store = BarStore()
    if _lacks_funding(store, dataset, since, until):
        _download(store, dataset, _HOURLY, since, until)
    return symbol, store.funding(dataset)


def _check_exchange(exchange: str, name: str, example: str) -> None:
    import ccxt

    if exchange not in ccxt.exchanges:
        near = difflib.get_close_matches(exchange, [*ccxt.exchanges, YAHOO], 1)
        hint = f"did you mean {near[0]}? Write" if near else "write"
        raise BarsError(f"{name!r} begins with no exchange that ccxt knows: {hint} a name such as {example}")


# --- what the store lacks


def lacks_bars(store: BarStore, dataset: Dataset, since: Time | None, until: Time | None) -> bool:
    """Tell whether the store lacks bars that have closed by this machine's clock; without ``since``, if it may."""
    if since is None:
        return _is_unfinished(store, dataset)
    step_ms = _ms(parse_timeframe(dataset.timeframe))
    first = _slot_after(_ms(parse_time(since)), step_ms)
    slots = np.arange(first, slot_at_or_before(_end_ms(until), step_ms), step_ms, dtype=np.int64)
    missing = np.setdiff1d(slots, store.opens(dataset, since, until), assume_unique=True)
    return _is_unaccounted(store, dataset, missing)


def _lacks_funding(store: BarStore, dataset: Dataset, since: Time | None, until: Time | None) -> bool:
    events = store.opens(dataset)
    if since is None or len(events) == 0:
        return _is_unfinished(store, dataset)
    missing = missing_events(events, _ms(parse_time(since)), _end_ms(until))
    return _is_unaccounted(store, dataset, missing)


def _is_unfinished(store: BarStore, dataset: Dataset) -> bool:
    return store.opens(dataset).size == 0 or store.unfinished(dataset) is not None


def _is_unaccounted(store: BarStore, dataset: Dataset, missing: np.ndarray) -> bool:
    """Tell whether any of the missing times is neither in an accepted gap nor before the exchange's history."""
    begins = store.begins(dataset)
    unknown = missing >= (-np.inf if begins is None else begins)
    for first, end in store.gaps(dataset):
        unknown &= (missing < first) | (missing >= end)
    return bool(unknown.any())


def _end_ms(until: Time | None) -> int:
    now = pd.Timestamp.now("UTC")
    return _ms(now if until is None else min(now, parse_time(until)))


def _download(store: BarStore, dataset: Dataset, timeframe: str, since: Time | None, until: Time | None) -> None:
    from hissbt.feeds.fetch import fetch

    step_ms = _ms(parse_timeframe(timeframe))
    # Without ``since`` it is what was left unfinished, else all of history.
    if since is None:
        unfinished = store.unfinished(dataset)
        since, until = map(_utc, unfinished) if unfinished else (None, None)
    # The download wants whole slots: those around the span.
    first = None if since is None else _utc(slot_at_or_before(_ms(parse_time(since)), step_ms))
    end = None if until is None else _utc(_slot_after(_ms(parse_time(until)), step_ms))
    fetch(
        dataset.exchange, [dataset.symbol], timeframe, since=first, until=end, kinds=(dataset.kind,), store=store
    )


def _slot_after(time_ms: int, step_ms: int) -> int:
    return slot_at_or_before(time_ms + step_ms - 1, step_ms)


def _ms(time: pd.Timestamp | pd.Timedelta) -> int:
    return time.value // 10**6


def _utc(ms: int) -> pd.Timestamp:
    return pd.Timestamp(ms, unit="ms", tz="UTC")
