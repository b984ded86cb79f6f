"""Bars of Yahoo Finance: a thin adapter over yfinance."""

from __future__ import annotations

import warnings

import pandas as pd

from hissbt.bars import Bars, Time, parse_time
from hissbt.errors import BarsError, FetchError
from hissbt.market import Market
from hissbt.timeframe import format_timeframe, is_intraday, parse_timeframe

# Yahoo's own names, where they are not ours.
_INTERVALS = {name: name for name in ("1m", "2m", "5m", "15m", "30m", "90m", "1h", "1d")} | {"1w": "1wk"}
_INTERVAL_OF = {parse_timeframe(name): interval for name, interval in _INTERVALS.items()}
_PRICES = ["Open", "High", "Low", "Close", "Volume"]
_STOCK_FEE = 0.0001
_DAY = pd.Timedelta(days=1)
# What yfinance raises on a reply in which it does not find what it looks for.
_STRANGE_REPLY = (ValueError, LookupError, TypeError, AttributeError)


def yahoo_market(ticker: str) -> Market:
    """Return what is assumed of a ticker: New York's calendar, or for one that ends in -USD a market never closed.

    Yahoo tells no fees: a stock's are taken for 1 bp, a coin's for Market's own. Pass your own Market otherwise.
    """
    if ticker.upper().endswith("-USD"):
        return Market(ticker, contract="spot")
    return Market(ticker, taker=_STOCK_FEE, maker=_STOCK_FEE, calendar="XNYS", contract="spot")


def yahoo_bars(ticker: str, timeframe: pd.Timedelta, since: Time | None = None, until: Time | None = None) -> Bars:
    """Download the bars of a ticker that open at or after ``since`` and close at or before ``until``.

    Prices are adjusted for splits, as Yahoo gives them, and not for dividends: those would change every past price
    each time one is paid. Nothing is stored. Yahoo has no more than 730 days of hours and 8 days of minutes.
    Raises BarsError for a timeframe that Yahoo does not have and for bad bars; FetchError when it sends none.
    """
    if timeframe not in _INTERVAL_OF:
        known = ", ".join(_INTERVALS)
        raise BarsError(f"Yahoo has no bars of {format_timeframe(timeframe)}: choose one of {known}")
    frame = _history(ticker, _INTERVAL_OF[timeframe], since, until)
    bars = parse_frame(frame, ticker, timeframe, pd.Timestamp.now("UTC"))
    return bars if since is None and until is None else bars.between(since, until)


def parse_frame(frame: pd.DataFrame, ticker: str, timeframe: pd.Timedelta, now: pd.Timestamp) -> Bars:
    """Return the bars that are over by ``now`` in a frame as yfinance's history or download returns it.

    Its index holds opens in the exchange's time zone, of days and weeks the midnight before; its columns are
    Open, High, Low, Close, Volume and others, which are left out, or pairs of these and tickers. A day is over at
    the next midnight UTC. Raises FetchError where there is no such bar, BarsError for bad ones.
    """
    if frame.columns.nlevels > 1:
        level = next(number for number, names in enumerate(frame.columns.levels) if ticker in names)
        frame = frame.xs(ticker, axis=1, level=level)
    frame = frame[_PRICES]
    if is_intraday(timeframe):
        opens = frame.index.tz_convert("UTC")
    else:
        opens = frame.index.tz_localize(None).normalize().tz_localize("UTC")  # sessions are named by local dates
    frame = frame.set_axis(opens + timeframe, axis=0)
    frame = frame[frame.index <= now]
    if frame.empty:
        raise FetchError(f"Yahoo sent no bar of {ticker} that is over: check the ticker and the span")
    return Bars(frame, yahoo_market(ticker), timeframe)


def _history(ticker: str, interval: str, since: Time | None, until: Time | None) -> pd.DataFrame:
    import yfinance

    span = {"period": "max"}
    if since is not None:
        # A day more on either side: Yahoo counts dates in the exchange's time zone.
        span = {"start": _date(parse_time(since) - _DAY)} | (
            {} if until is None else {"end": _date(parse_time(until) + _DAY)}
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore", DeprecationWarning
            )  # of raise_errors; the other way is a global switch
            frame = yfinance.Ticker(ticker).history(
                interval=interval, auto_adjust=False, actions=False, raise_errors=True, **span
            )
    except (yfinance.exceptions.YFException, OSError, *_STRANGE_REPLY) as error:
        raise FetchError(
            f"Yahoo sent no bars of {ticker} ({error}): check the ticker, the span and the connection"
        ) from error
    if frame.empty:
        raise FetchError(f"Yahoo has no bars of {ticker} in this span: check the ticker and the span")
    return frame


def _date(time: pd.Timestamp) -> str:
    return f"{time:%Y-%m-%d}"
