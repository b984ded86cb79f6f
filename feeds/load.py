"""``load_bars``: one way to name bars, whatever they come from."""

from pathlib import Path

import pandas as pd

from hissbt.bars import Bars, Time
from hissbt.errors import BarsError
from hissbt.feeds.files import load_file
from hissbt.feeds.named import is_name, named_bars
from hissbt.feeds.samples import sp500
from hissbt.market import Market
from hissbt.timeframe import format_timeframe, parse_timeframe


def load_bars(
    spec: str | Path | pd.DataFrame | Bars,
    *,
    timeframe: str | pd.Timedelta | None = None,
    stamp: str = "open",
    since: Time | None = None,
    until: Time | None = None,
    market: Market | None = None,
) -> Bars:
    """Return bars: the sample ``"sp500"``, a CSV (also .gz) or Parquet file, a DataFrame, or Bars as they are.

    ``"bybit:BTC/USDT:USDT:1h"`` and other names of ccxt's exchanges are read from the store (see
    ``hissbt.feeds.store``). With ``since``, what the store lacks of the span is downloaded first; without it,
    the whole history is downloaded if the store has nothing. No network is used when nothing is missing.
    ``"yahoo:SPY:1d"`` is always downloaded, see ``hissbt.feeds.yahoo``.

    ``timeframe`` states how long a bar is, where the rows should not be asked; ``stamp`` whether their times are
    those of the bar's open or close. ``since`` (inclusive) and ``until`` (exclusive) select by the bar's open.
    ``market`` replaces the market that is known or assumed. Raises BarsError; StoreError and FetchError for a
    store or a download that fails.
    """
    if is_name(spec):
        bars = _agreeing(_of_market(named_bars(str(spec), since, until), market), timeframe)
    else:
        bars = _load(spec, timeframe, stamp, market)
    return bars if since is None and until is None else bars.between(since, until)


def _load(
    spec: str | Path | pd.DataFrame | Bars,
    timeframe: str | pd.Timedelta | None,
    stamp: str,
    market: Market | None,
) -> Bars:
    if isinstance(spec, pd.DataFrame):
        return Bars.from_frame(spec, market=market, timeframe=timeframe, stamp=stamp)
    if isinstance(spec, Bars):
        return _agreeing(_of_market(spec, market), timeframe)
    if not isinstance(spec, str | Path):
        raise BarsError(f"bars cannot be loaded from {type(spec).__name__}: pass a name, a path or a DataFrame")
    if spec == "sp500":
        return _agreeing(sp500(market), timeframe)
    return load_file(spec, market=market, timeframe=timeframe, stamp=stamp)


def _of_market(bars: Bars, market: Market | None) -> Bars:
    return bars if market is None else Bars(bars.frame, market, bars.timeframe)


def _agreeing(bars: Bars, timeframe: str | pd.Timedelta | None) -> Bars:
    """Return bars whose timeframe is known already, unless another one was stated."""
    stated = parse_timeframe(timeframe) if isinstance(timeframe, str) else timeframe
    if stated is not None and stated != bars.timeframe:
        raise BarsError(
            f"wrong timeframe {format_timeframe(stated)}: the bars are of {format_timeframe(bars.timeframe)}, "
            "so leave it out and resample afterwards"
        )
    return bars
