"""Candle rows: a bar as five numbers without a price level, from which bars can be made again.

A candle row is ``CANDLE`` of hissbt.features: log return, gap, wicks and volume against its running mean, in their
natural units. Models and generators of scenarios write such rows; ``to_bars`` continues real bars by them, and is
the inverse of ``candle_rows``. Any finite row of moderate size makes a bar that a market could have printed: the
high encloses open and close because the wick is a square.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numba import njit

from hissbt.bars import COLUMNS, Bars
from hissbt.errors import BarsError, FeatureError
from hissbt.features import LN2, FeatureSet, ewm_mean

CANDLE = ("log_return", "gap", "upper_wick", "lower_wick", "volume_surprise:24")
LOG_RETURN, GAP, UPPER_WICK, LOWER_WICK, VOLUME_SURPRISE = range(len(CANDLE))  # places in a candle row


def candle_rows(bars: Bars) -> np.ndarray:
    """Return the candle rows [T,5] of bars: log return and gap of the first are 0, for want of a bar before."""
    return FeatureSet(CANDLE).scan(bars.arrays())


def to_bars(rows: np.ndarray, names: Sequence[str], prefix: Bars, closes: pd.DatetimeIndex | None = None) -> Bars:
    """Return the bars that go on from ``prefix`` by candle rows [N,C], without the prefix.

    Args:
        rows: candle rows in natural units, one a bar. A wick below 0 counts as 0, and so does a volume.
        names: what the columns are: the names of ``CANDLE`` in any order, the span of the volume's mean free. The
            log return must be among them. Without the others gap and wicks are 0 and volume is its running mean.
        prefix: the real bars up to the first of these: they give the first price, the memory of the volume,
            market and timeframe. Extra columns are not continued.
        closes: the stamps of the bars, from ``next_closes``, where many scenarios share them.

    Raises:
        BarsError: a row that makes a price or volume that is not finite, or a price of zero.
        FeatureError: names that are not those of candles, or not as many as there are columns.
    """
    rows = np.asarray(rows, dtype=np.float64)
    candles, span = _in_order(rows, tuple(names))
    closes = next_closes(prefix, len(rows)) if closes is None else closes
    volume = FeatureSet([f"volume_surprise:{span}"])
    memory = volume.initial_state()
    volume.scan(prefix.arrays(), memory)
    values = np.empty((len(rows), len(COLUMNS)))
    _continue(candles, np.log(prefix.frame["close"].iloc[-1]), span, memory, values)
    bad = ~(np.isfinite(np.hstack([candles, values])).all(axis=1) & (values[:, :4] > 0).all(axis=1))
    if bad.any():
        row = int(bad.argmax())
        raise BarsError(
            f"candle row {row} {rows[row].tolist()} leads to open, high, low, close and volume "
            f"{values[row].tolist()}, which no market prints: generate rows of finite and moderate size"
        )
    return Bars(pd.DataFrame(values, index=closes, columns=list(COLUMNS)), prefix.market, prefix.timeframe)


def next_closes(prefix: Bars, count: int) -> pd.DatetimeIndex:
    """Return when the ``count`` bars after ``prefix`` close (UTC) by the market's calendar.

    Raises BarsError where the calendar does not reach that far.
    """
    market, length, last = prefix.market, prefix.timeframe, prefix.frame.index[-1]
    if market.always_open:
        return pd.date_range(last, periods=count + 1, freq=length)[1:]
    year = pd.Timedelta(days=366)
    # Holidays come in clusters: a tenth and a month more than the average.
    reach = 1.1 * count / market.bars_per_year(length) * year + pd.Timedelta(days=31)
    closes = market.expected_closes(last, last + reach, length)
    return closes[closes > last][:count]


def _in_order(rows: np.ndarray, names: tuple[str, ...]) -> tuple[np.ndarray, int]:
    """Return the rows [N,5] with their columns as in ``CANDLE``, absent ones 0, and the span of the volume."""
    if rows.ndim != 2 or rows.shape[1] != len(names):
        raise FeatureError(f"candle rows of shape {rows.shape} do not fit: give [N,{len(names)}] for {names}")
    places = {name.partition(":")[0]: place for place, name in enumerate(CANDLE)}
    candles = np.zeros((len(rows), len(CANDLE)))
    span = CANDLE[VOLUME_SURPRISE].partition(":")[2]
    for name, values in zip(FeatureSet(names).names, rows.T, strict=True):
        base, _, argument = name.partition(":")
        if base not in places:
            raise FeatureError(f"feature {name!r} is not one of a candle, or its second: use {' '.join(CANDLE)}")
        candles[:, places.pop(base)] = values
        span = argument or span
    if CANDLE[LOG_RETURN] not in names:
        raise FeatureError(f"the candle rows {' '.join(names)} have no price: log_return must be among them")
    return candles, int(span)


@njit(cache=True)
def _continue(candles, log_close, span, memory, out) -> None:
    """Write bars [N,5] of candles [N,5] after a log close; ``memory`` is the state of the volume's mean."""
    mean = memory[0] / memory[1] if memory[1] > 0.0 else 0.0
    for t in range(candles.shape[0]):
        first = np.exp(log_close + candles[t, GAP])
        log_close += candles[t, LOG_RETURN]
        close = np.exp(log_close)
        volume = mean * max(np.expm1(candles[t, VOLUME_SURPRISE] + LN2), 0.0)
        mean = ewm_mean(volume, span, memory)
        out[t, 0] = first
        out[t, 1] = max(first, close) * np.exp(max(candles[t, UPPER_WICK], 0.0) ** 2)
        out[t, 2] = min(first, close) * np.exp(-(max(candles[t, LOWER_WICK], 0.0) ** 2))
        out[t, 3] = close
        out[t, 4] = volume
