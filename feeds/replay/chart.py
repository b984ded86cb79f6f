"""Candles of one market as they look at a moment: closed ones as they are, the forming one as far as it got."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pandas as pd

from hissbt.bars import COLUMNS, Bars

_DAY_MS = 86_400_000
MONTH = "M"
# Bybit's names of the lengths of a candle, in milliseconds; a month has no fixed one.
INTERVALS_MS = {str(minutes): minutes * 60_000 for minutes in (1, 3, 5, 15, 30, 60, 120, 240, 360, 720)}
INTERVALS_MS |= {"D": _DAY_MS, "W": 7 * _DAY_MS, MONTH: 0}
_MONDAY_MS = 4 * _DAY_MS  # 1970-01-05: weeks start on Mondays
_OPEN, _HIGH, _LOW, _CLOSE, _VOLUME, _TURNOVER = range(6)
_STEPS = 64  # moments of a forming candle that differ
_BAND = 0.8  # share of the way from the open to the extremes that a forming candle may go


@dataclass(frozen=True)
class Candles:
    """Candles of one interval: opens, begins and closes int64 [T] in unix ms, values float64 [T, 6].

    The columns of the values are open, high, low, close, volume and turnover. A candle begins when something is
    known of it: at its open, unless what comes first in it is missing. A close is the moment at which it ends,
    which is the open of the next one where none is missing.
    """

    opens_ms: np.ndarray
    begins_ms: np.ndarray
    closes_ms: np.ndarray
    values: np.ndarray

    def __len__(self) -> int:
        return len(self.opens_ms)


class Chart:
    """The candles of one market at every interval that its own ones fit into.

    ``seed`` makes the paths of forming candles repeatable.
    """

    def __init__(self, own: Candles, step_ms: int, *, seed: int = 0):
        self.own = own
        self.step_ms = step_ms
        self.decimals = _decimals(own.values[:, :_VOLUME])
        self._seed = seed
        self._coarser: dict[str, Candles] = {}

    @classmethod
    def of_bars(cls, bars: Bars, *, inverse: bool = False, seed: int = 0) -> Chart:
        """Return the chart of bars; of inverse contracts the turnover is in coins."""
        values = np.column_stack([bars.frame[list(COLUMNS)].to_numpy(), _turnover(bars, inverse)])
        return cls.of_values(bars.open_times, bars.timeframe, values, seed=seed)

    @classmethod
    def of_values(
        cls, opens: pd.DatetimeIndex, timeframe: pd.Timedelta, values: np.ndarray, *, seed: int = 0
    ) -> Chart:
        """Return the chart of candles by their opens, values as those of ``Candles``."""
        opens_ms = opens.as_unit("ns").asi8 // 1_000_000
        step_ms = timeframe.value // 1_000_000
        return cls(Candles(opens_ms, opens_ms, opens_ms + step_ms, values), step_ms, seed=seed)

    @property
    def first_open_ms(self) -> int:
        """Open of the first candle."""
        return int(self.own.opens_ms[0])

    @property
    def last_close_ms(self) -> int:
        """Close of the last candle."""
        return int(self.own.closes_ms[-1])

    def serves(self, interval: str) -> bool:
        """Tell whether candles of this interval can be made of the own ones."""
        if interval == MONTH:
            return _DAY_MS % self.step_ms == 0
        return interval in INTERVALS_MS and INTERVALS_MS[interval] % self.step_ms == 0

    def candles(self, interval: str) -> Candles:
        """Return all candles of an interval with their final values, whatever the time is."""
        if INTERVALS_MS[interval] == self.step_ms:
            return self.own
        if interval not in self._coarser:
            self._coarser[interval] = _merge(self.own, interval)
        return self._coarser[interval]

    def forming(self, interval: str, row: int, now_ms: int) -> np.ndarray:
        """Return the values [6] of a candle as they are at ``now_ms``, after it began and before its close.

        What has closed inside the candle counts as it is. Of what has not, only the open and a seeded walk
        between low and high are shown, which tells nothing of the close and never reaches the extremes.
        """
        candles = self.candles(interval)
        own = self.own
        first = int(own.opens_ms.searchsorted(candles.opens_ms[row]))
        last = int(own.opens_ms.searchsorted(min(now_ms, int(candles.closes_ms[row]) - 1), side="right"))
        parts = own.values[first:last].copy()  # [N, 6]
        if own.closes_ms[last - 1] > now_ms:
            parts[-1] = self.forming_own(last - 1, now_ms)
        return _whole(parts)

    def provisional(self, interval: str, row: int) -> np.ndarray:
        """Return the values [6] that a candle shows just before its close."""
        return self.forming(interval, row, int(self.candles(interval).closes_ms[row]) - 1)

    def forming_own(self, row: int, now_ms: int) -> np.ndarray:
        """Return the values [6] of one of the own candles at a moment inside it."""
        opens_ms = int(self.own.opens_ms[row])
        elapsed = (now_ms - opens_ms) / self.step_ms
        first, high, low, _, volume, turnover = self.own.values[row].tolist()
        chance = random.Random(self._seed * 1_000_003 + opens_ms)
        filled = chance.uniform(0.5, 0.9)  # share of the volume that is there just before the close
        bottom, top = first - _BAND * (first - low), first + _BAND * (high - first)
        price, highest, lowest, share = first, first, first, 0.0
        for _ in range(int(elapsed * _STEPS)):
            price = round(_reflected(price + chance.gauss(0.0, 0.15) * (top - bottom), bottom, top), self.decimals)
            price = min(max(price, low), high)
            highest, lowest = max(highest, price), min(lowest, price)
            share += filled / _STEPS * chance.uniform(0.5, 1.0)
        return np.array([first, highest, lowest, price, round(volume * share, 8), round(turnover * share, 8)])


def floor_ms(moment_ms: int, interval: str) -> int:
    """Return the open of the candle of this interval that holds a moment."""
    return int(_blocks(np.array([moment_ms]), interval)[0])


def _blocks(moments_ms: np.ndarray, interval: str) -> np.ndarray:
    """Return int64 [T]: the open of the candle that each moment lies in."""
    if interval == MONTH:
        return (
            moments_ms.astype("datetime64[ms]").astype("datetime64[M]").astype("datetime64[ms]").astype(np.int64)
        )
    length, start = INTERVALS_MS[interval], _MONDAY_MS if interval == "W" else 0
    return (moments_ms - start) // length * length + start


def _merge(own: Candles, interval: str) -> Candles:
    blocks = _blocks(own.opens_ms, interval)  # [T]
    opens, firsts = np.unique(blocks, return_index=True)  # [N], [N]
    lasts = np.append(firsts[1:], len(blocks)) - 1  # [N]
    values = np.column_stack(
        [
            own.values[firsts, _OPEN],
            np.maximum.reduceat(own.values[:, _HIGH], firsts),
            np.minimum.reduceat(own.values[:, _LOW], firsts),
            own.values[lasts, _CLOSE],
            np.add.reduceat(own.values[:, _VOLUME], firsts),
            np.add.reduceat(own.values[:, _TURNOVER], firsts),
        ]
    )
    # A month and a day later is always in the month after.
    closes = _blocks(opens + 32 * _DAY_MS, MONTH) if interval == MONTH else opens + INTERVALS_MS[interval]
    return Candles(opens, own.opens_ms[firsts], closes, values)


def _whole(parts: np.ndarray) -> np.ndarray:
    """Return one candle [6] of several [N, 6]."""
    extremes = [parts[0, _OPEN], parts[:, _HIGH].max(), parts[:, _LOW].min(), parts[-1, _CLOSE]]
    return np.array([*extremes, parts[:, _VOLUME].sum(), parts[:, _TURNOVER].sum()])


def _reflected(price: float, bottom: float, top: float) -> float:
    if price > top:
        price = 2 * top - price
    if price < bottom:
        price = 2 * bottom - price
    return min(max(price, bottom), top)


def _turnover(bars: Bars, inverse: bool) -> np.ndarray:
    """Return what the bars say of it, or else volume times mean price; of inverse contracts it is in coins."""
    if "turnover" in bars.extra_columns:
        return bars.frame["turnover"].to_numpy()
    mean = bars.frame[["open", "high", "low", "close"]].mean(axis=1).to_numpy()
    volume = bars.frame["volume"].to_numpy()
    return np.round(volume / mean, 8) if inverse else np.round(volume * mean, 4)


def _decimals(prices: np.ndarray) -> int:
    """Return how many decimals the prices have, 8 at most."""
    for decimals in range(8):
        if np.array_equal(np.round(prices, decimals), prices):
            return decimals
    return 8
