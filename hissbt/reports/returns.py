"""Daily returns of a run and of the asset it traded: simple returns on naive UTC dates."""

import pandas as pd

from hissbt.bars import Bars

_INSTANT = pd.Timedelta(microseconds=1)


def daily_returns(ledger: pd.DataFrame) -> pd.Series:
    """Return the simple return of each UTC day of ``Ledger.frame``, the first from its start value.

    A bar that closes at midnight belongs to the day it ends. The product of ``1 + return`` is the total return.
    """
    values = pd.Series(ledger["value"].to_numpy(), index=pd.DatetimeIndex(ledger["close_time"]))
    return _by_day(values, ledger.attrs["start_value"]).rename("strategy")


def benchmark_returns(bars: Bars, ledger: pd.DataFrame) -> pd.Series:
    """Return the simple return of ``bars``, close to close, on the days of ``ledger``.

    The first one counts from the last close before the ledger begins, or from the first close in it if the bars
    begin later. A day of the ledger without a bar has a return of 0.
    """
    closes = bars.frame["close"]
    times = pd.DatetimeIndex(ledger["close_time"])
    inside = closes[times[0] : times[-1]]
    before = closes[closes.index < times[0]]
    start = before.iloc[-1] if len(before) else inside.iloc[0]
    daily = inside.groupby(_days(inside.index)).last().reindex(_days(times).unique(), method="ffill").fillna(start)
    return _changes(daily, start).rename(bars.market.symbol)


def _by_day(values: pd.Series, start: float) -> pd.Series:
    return _changes(values.groupby(_days(values.index)).last(), start)


def _changes(levels: pd.Series, start: float) -> pd.Series:
    return levels / levels.shift(fill_value=start) - 1


def _days(close_times: pd.DatetimeIndex) -> pd.DatetimeIndex:
    return (close_times - _INSTANT).tz_localize(None).normalize().rename("date")
