"""Causal features: each is defined once, as a recurrence over closed bars.

A feature is a function of the bar that has just closed and of a small state that it carries from bar to
bar. It sees no table, so it cannot look ahead. The same compiled functions run bar by bar (``step``) and over
a whole table (``scan``), hence both give the same bits. A state of zeros means "no history yet", and every
feature is finite from the first bar on: short history is used as far as it reaches.

A feature is a name, or a name and an argument: a number of bars, a harmonic or an extra column of the bars.

===========================  ==========================================================================
``log_return``               ln(c_t / c_{t-1}), 0 at the first bar
``abs_return``               its magnitude
``range``                    ln(high / low)
``garman_klass``             variance within the bar, ½ ln(H/L)² − (2 ln 2 − 1) ln(C/O)²
``return:n``                 ln(c_t / c_{t-n})
``ewm_volatility:n``         root of the exponentially weighted mean of squared log returns, span n
``log_volatility:n``         its log
``log_range_volatility:n``   log of the volatility a bar that Parkinson's range estimator gives, span n
``log_garman_klass:n``       log of the volatility a bar that Garman and Klass's estimator gives, span n
``volume_ratio:n``           ln(1 + volume / mean) − ln 2, mean exponentially weighted with span n
``rsi:n``                    Wilder's relative strength index, 0 … 100, 50 when nothing moved
``hour_sin hour_cos``        time of day of the close (UTC) as an angle
``weekday_sin weekday_cos``  time of week of the close, from Monday 00:00 UTC, as an angle
``week_sin:n week_cos:n``    n times that angle: harmonics, of which the seventh turns once a day
``column:NAME``              an extra column of the bars, as it is
``gap``                      ln(open_t / c_{t-1}), 0 at the first bar
``upper_wick``               root of ln(high / max(open, close))
``lower_wick``               root of ln(min(open, close) / low)
``volume_surprise:n``        ln(1 + volume / mean) − ln 2, mean of the bars before with span n, 0 where it is 0
===========================  ==========================================================================

Weights are bias-corrected: a mean of span n weighs the bar k bars ago by (1 − 2/(n+1))^k and divides by the
sum of the weights so far. With the log return the last four say all that there is in a bar: hissbt.candles makes
bars of them again. To add a feature, write its function, give it a branch in ``_feature`` and a row in
``FEATURES``.

Sources: Parkinson, "The extreme value method for estimating the variance of the rate of return", Journal of
Business 53 (1980); Garman and Klass, "On the estimation of security price volatilities from historical data",
same volume, their practical estimator without cross terms; Wilder, "New concepts in technical trading
systems" (1978).
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numba import njit

from hissbt.errors import FeatureError
from hissbt.timeframe import is_intraday

# A bar is a row of float64: these six, then the extra columns (the order of hissbt.bars.BAR_FIELDS).
CLOSE_TIME, OPEN, HIGH, LOW, CLOSE, VOLUME = range(6)
N_BAR_FIELDS = 6

DAY = 86400.0  # seconds
WEEK = 7 * DAY
MONDAY = 4 * DAY  # the Unix epoch was a Thursday
LN2 = math.log(2.0)
LOWEST_VARIANCE = 1e-12  # per bar, a millionth of a price: keeps the log of a flat market finite


# --- the recurrences: one function each, over its own slice of the state ------------------------------------


@njit(cache=True)
def ewm_mean(value: float, span: int, state: np.ndarray) -> float:
    """Bias-corrected exponentially weighted mean; state: weighted sum, sum of the weights."""
    decay = 1.0 - 2.0 / (span + 1.0)
    state[0] = decay * state[0] + value
    state[1] = decay * state[1] + 1.0
    return state[0] / state[1]


@njit(cache=True)
def _log_return(bar: np.ndarray, state: np.ndarray) -> float:
    """State: whether there was a bar, its log close. A difference of logs cannot overflow, whatever the jump."""
    log_close = math.log(bar[CLOSE])
    value = log_close - state[1] if state[0] > 0.0 else 0.0
    state[0] = 1.0
    state[1] = log_close
    return value


@njit(cache=True)
def _range(bar: np.ndarray) -> float:
    return math.log(bar[HIGH]) - math.log(bar[LOW])


@njit(cache=True)
def _garman_klass(bar: np.ndarray) -> float:
    move = math.log(bar[CLOSE]) - math.log(bar[OPEN])
    return 0.5 * _range(bar) ** 2 - (2.0 * LN2 - 1.0) * move**2


@njit(cache=True)
def _return(n: int, bar: np.ndarray, state: np.ndarray) -> float:
    """State: how many bars there were, then a ring of the last n log closes."""
    seen = int(state[0])
    slot = 1 + seen % n
    log_close = math.log(bar[CLOSE])
    earliest = state[1] if seen > 0 else log_close
    oldest = state[slot] if seen >= n else earliest
    state[slot] = log_close
    state[0] = seen + 1
    return log_close - oldest


@njit(cache=True)
def _ewm_volatility(span: int, bar: np.ndarray, state: np.ndarray) -> float:
    """State: that of the log return, then that of the mean. The first bar has no return, so it weighs nothing."""
    first = state[0] == 0.0
    log_return = _log_return(bar, state)
    return 0.0 if first else math.sqrt(ewm_mean(log_return**2, span, state[2:]))


@njit(cache=True)
def _log_root(variance: float) -> float:
    return 0.5 * math.log(max(variance, LOWEST_VARIANCE))


@njit(cache=True)
def _log_range_volatility(span: int, bar: np.ndarray, state: np.ndarray) -> float:
    return _log_root(ewm_mean(_range(bar) ** 2, span, state) / (4.0 * LN2))


@njit(cache=True)
def _log_garman_klass(span: int, bar: np.ndarray, state: np.ndarray) -> float:
    return _log_root(ewm_mean(_garman_klass(bar), span, state))


@njit(cache=True)
def _log_volatility(span: int, bar: np.ndarray, state: np.ndarray) -> float:
    return _log_root(_ewm_volatility(span, bar, state) ** 2)


@njit(cache=True)
def _volume_ratio(span: int, bar: np.ndarray, state: np.ndarray) -> float:
    mean = ewm_mean(bar[VOLUME], span, state)
    return math.log1p(bar[VOLUME] / mean) - LN2 if mean > 0.0 else 0.0


@njit(cache=True)
def _rsi(n: int, bar: np.ndarray, state: np.ndarray) -> float:
    """State: the previous close, smoothed gains, smoothed losses.

    Wilder's smoothing weighs the bar k bars ago by (1 − 1/n)^k. The bias correction would divide gains and
    losses by the same sum of weights, which cancels in their ratio.
    """
    change = bar[CLOSE] - state[0] if state[0] > 0.0 else 0.0
    state[0] = bar[CLOSE]
    decay = 1.0 - 1.0 / n
    state[1] = decay * state[1] + max(change, 0.0)
    state[2] = decay * state[2] + max(-change, 0.0)
    moved = state[1] + state[2]
    return 100.0 * (state[1] / moved) if moved > 0.0 else 50.0


@njit(cache=True)
def _day_angle(bar: np.ndarray) -> float:
    return 2.0 * math.pi * (bar[CLOSE_TIME] % DAY) / DAY


@njit(cache=True)
def _week_angle(bar: np.ndarray) -> float:
    return 2.0 * math.pi * ((bar[CLOSE_TIME] - MONDAY) % WEEK) / WEEK


@njit(cache=True)
def _gap(bar: np.ndarray, state: np.ndarray) -> float:
    """State: that of the log return."""
    value = math.log(bar[OPEN]) - state[1] if state[0] > 0.0 else 0.0
    _log_return(bar, state)
    return value


@njit(cache=True)
def _upper_wick(bar: np.ndarray) -> float:
    return math.sqrt(max(math.log(bar[HIGH]) - math.log(max(bar[OPEN], bar[CLOSE])), 0.0))


@njit(cache=True)
def _lower_wick(bar: np.ndarray) -> float:
    return math.sqrt(max(math.log(min(bar[OPEN], bar[CLOSE])) - math.log(bar[LOW]), 0.0))


@njit(cache=True)
def _volume_surprise(span: int, bar: np.ndarray, state: np.ndarray) -> float:
    """State: that of the mean, which this bar joins after it was compared."""
    mean = state[0] / state[1] if state[1] > 0.0 else 0.0
    ewm_mean(bar[VOLUME], span, state)
    if mean <= 0.0:
        return 0.0
    ratio = bar[VOLUME] / mean
    if ratio == math.inf:
        return math.log(bar[VOLUME]) - math.log(mean) - LN2
    return math.log1p(ratio) - LN2


# --- dispatch -----------------------------------------------------------------------------------------------

(
    LOG_RETURN,
    ABS_RETURN,
    RANGE,
    GARMAN_KLASS,
    RETURN,
    EWM_VOLATILITY,
    LOG_RANGE_VOLATILITY,
    VOLUME_RATIO,
    RSI,
    HOUR_SIN,
    HOUR_COS,
    WEEKDAY_SIN,
    WEEKDAY_COS,
    COLUMN,
    GAP,
    UPPER_WICK,
    LOWER_WICK,
    VOLUME_SURPRISE,
    LOG_VOLATILITY,
    LOG_GARMAN_KLASS,
    WEEK_SIN,
    WEEK_COS,
) = range(22)


@njit(cache=True)
def _feature(kind: int, argument: int, bar: np.ndarray, state: np.ndarray) -> float:
    if kind == LOG_RETURN:
        return _log_return(bar, state)
    if kind == ABS_RETURN:
        return abs(_log_return(bar, state))
    if kind == RANGE:
        return _range(bar)
    if kind == GARMAN_KLASS:
        return _garman_klass(bar)
    if kind == RETURN:
        return _return(argument, bar, state)
    if kind == EWM_VOLATILITY:
        return _ewm_volatility(argument, bar, state)
    if kind == LOG_RANGE_VOLATILITY:
        return _log_range_volatility(argument, bar, state)
    if kind == VOLUME_RATIO:
        return _volume_ratio(argument, bar, state)
    if kind == RSI:
        return _rsi(argument, bar, state)
    if kind == HOUR_SIN:
        return math.sin(_day_angle(bar))
    if kind == HOUR_COS:
        return math.cos(_day_angle(bar))
    if kind == WEEKDAY_SIN:
        return math.sin(_week_angle(bar))
    if kind == WEEKDAY_COS:
        return math.cos(_week_angle(bar))
    if kind == GAP:
        return _gap(bar, state)
    if kind == UPPER_WICK:
        return _upper_wick(bar)
    if kind == LOWER_WICK:
        return _lower_wick(bar)
    if kind == VOLUME_SURPRISE:
        return _volume_surprise(argument, bar, state)
    if kind == LOG_VOLATILITY:
        return _log_volatility(argument, bar, state)
    if kind == LOG_GARMAN_KLASS:
        return _log_garman_klass(argument, bar, state)
    if kind == WEEK_SIN:
        return math.sin(argument * _week_angle(bar))
    if kind == WEEK_COS:
        return math.cos(argument * _week_angle(bar))
    return bar[argument]  # COLUMN: the argument is its place in the bar


@njit(cache=True)
def step_all(plan: np.ndarray, bar: np.ndarray, state: np.ndarray, out: np.ndarray) -> None:
    """Write the features of one closed bar to ``out`` [F] and advance ``state``.

    ``plan`` is ``FeatureSet.plan``. Other compiled code may call this: no Python objects, no allocation, and no
    checks.
    """
    for i in range(plan.shape[0]):
        out[i] = _feature(plan[i, 0], plan[i, 1], bar, state[plan[i, 2] : plan[i, 3]])


@njit(cache=True)
def scan_all(plan: np.ndarray, rows: np.ndarray, state: np.ndarray, out: np.ndarray) -> None:
    """``step_all`` over ``rows`` [T, 6+C] into ``out`` [T, F]."""
    for t in range(rows.shape[0]):
        step_all(plan, rows[t], state, out[t])


# --- names --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Feature:
    """What ``FeatureSet`` has to know about a kind of feature."""

    kind: int
    argument: str = ""
    """What follows the colon: nothing, ``bars``, ``times`` or ``column``."""
    slots: Callable[[int], int] = lambda n: 0
    """Slots of state, from the argument."""
    history: Callable[[int], int] = lambda n: 0
    """Bars before the first that has its full history, from the argument. For weighted means it is three spans:
    what is older weighs less than 0.3 %."""


FEATURES: Mapping[str, Feature] = {
    "log_return": Feature(LOG_RETURN, slots=lambda n: 2, history=lambda n: 1),
    "abs_return": Feature(ABS_RETURN, slots=lambda n: 2, history=lambda n: 1),
    "range": Feature(RANGE),
    "garman_klass": Feature(GARMAN_KLASS),
    "return": Feature(RETURN, "bars", slots=lambda n: 1 + n, history=lambda n: n),
    "ewm_volatility": Feature(EWM_VOLATILITY, "bars", slots=lambda n: 4, history=lambda n: 3 * n),
    "log_range_volatility": Feature(LOG_RANGE_VOLATILITY, "bars", slots=lambda n: 2, history=lambda n: 3 * n),
    "volume_ratio": Feature(VOLUME_RATIO, "bars", slots=lambda n: 2, history=lambda n: 3 * n),
    "rsi": Feature(RSI, "bars", slots=lambda n: 3, history=lambda n: 6 * n),  # 1/n weighs as span 2n − 1
    "hour_sin": Feature(HOUR_SIN),
    "hour_cos": Feature(HOUR_COS),
    "weekday_sin": Feature(WEEKDAY_SIN),
    "weekday_cos": Feature(WEEKDAY_COS),
    "column": Feature(COLUMN, "column"),
    "gap": Feature(GAP, slots=lambda n: 2, history=lambda n: 1),
    "upper_wick": Feature(UPPER_WICK),
    "lower_wick": Feature(LOWER_WICK),
    "volume_surprise": Feature(VOLUME_SURPRISE, "bars", slots=lambda n: 2, history=lambda n: 3 * n),
    "log_volatility": Feature(LOG_VOLATILITY, "bars", slots=lambda n: 4, history=lambda n: 3 * n),
    "log_garman_klass": Feature(LOG_GARMAN_KLASS, "bars", slots=lambda n: 2, history=lambda n: 3 * n),
    "week_sin": Feature(WEEK_SIN, "times"),
    "week_cos": Feature(WEEK_COS, "times"),
}

_SUFFIX = {"": "", "bars": ":BARS", "times": ":TIMES", "column": ":NAME"}
KNOWN = " ".join(name + _SUFFIX[feature.argument] for name, feature in FEATURES.items())


def _columns(names: Sequence[str]) -> tuple[str, ...]:
    """Return the extra columns that features read, in the order of the features."""
    return tuple(name.removeprefix("column:") for name in names if name.startswith("column:"))


def _parse(name: str, columns: Sequence[str]) -> tuple[Feature, int]:
    """Return a feature's definition and its argument as a number: bars, or the column's place in a bar."""
    base, colon, argument = name.partition(":")
    feature = FEATURES.get(base)
    if feature is None:
        raise FeatureError(f"unknown feature {name!r}: use one of {KNOWN}")
    if feature.argument == "" and not colon:
        return feature, 0
    if feature.argument in ("bars", "times") and re.fullmatch(r"[1-9][0-9]{0,5}", argument):
        return feature, int(argument)
    if feature.argument == "column" and argument:
        return feature, N_BAR_FIELDS + columns.index(argument)
    spellings = {
        "": " alone",
        "bars": ":BARS with 1 to 999999 bars",
        "times": ":TIMES with 1 to 999999 times",
        "column": ":NAME of an extra column",
    }
    spelling = base + spellings[feature.argument]
    raise FeatureError(f"feature {name!r} must be written {spelling}: use one of {KNOWN}")


class FeatureSet:
    """An ordered choice of features over bars of one layout.

    The object holds no history: the caller owns the state, so that one set serves many streams. A bar is a
    float64 row ``close_time_s open high low close volume *columns``, as ``Bars.arrays(columns)`` returns them;
    ``columns`` are the extra columns that the features read, and no others.
    """

    def __init__(self, names: Sequence[str]):
        """Take feature names in order; raises FeatureError for a bad one."""
        self.names = tuple(names)
        self.columns = _columns(self.names)
        if not self.names:
            raise FeatureError(f"no features were chosen: use at least one of {KNOWN}")
        if len(set(self.names)) < len(self.names):
            raise FeatureError(f"a feature is named twice in {' '.join(self.names)}: name each once")
        parsed = [_parse(name, self.columns) for name in self.names]
        sizes = [feature.slots(argument) for feature, argument in parsed]
        ends = np.cumsum(sizes)
        kinds = [feature.kind for feature, _ in parsed]
        arguments = [argument for _, argument in parsed]
        self.plan = np.column_stack((kinds, arguments, ends - sizes, ends)).astype(np.int64)  # [F,4]
        """int64 [F, 4] for ``step_all`` and ``scan_all``: kind, argument, start and end of the state."""
        self.warmup = max(feature.history(argument) for feature, argument in parsed)
        """Bars until every feature has its full history: row ``warmup`` is the first that has it."""
        self.size = len(self.names)
        self._width = N_BAR_FIELDS + len(self.columns)
        self._state_size = int(ends[-1])

    def initial_state(self) -> np.ndarray:
        """Return the state before the first bar: float64, flat, to be copied or saved as it is."""
        return np.zeros(self._state_size)

    def step(self, bar: np.ndarray, state: np.ndarray) -> np.ndarray:
        """Return the features [F] of the bar [6+C] that has just closed, and advance ``state`` in place."""
        bar = self._checked(bar, 1, state)
        out = np.empty(self.size)
        step_all(self.plan, bar, state, out)
        return out

    def scan(self, rows: np.ndarray, state: np.ndarray | None = None) -> np.ndarray:
        """Return the features [T, F] of consecutive bars [T, 6+C].

        Starts without history, or from ``state``, which it then advances in place.
        """
        state = self.initial_state() if state is None else state
        rows = self._checked(rows, 2, state)
        out = np.empty((len(rows), self.size))
        scan_all(self.plan, rows, state, out)
        return out

    def _checked(self, bars: np.ndarray, ndim: int, state: np.ndarray) -> np.ndarray:
        """Return bars that the compiled code, which checks no bounds, can take."""
        if state.shape != (self._state_size,):
            raise FeatureError(f"a state of shape {state.shape} is not one of these features: use initial_state()")
        bars = np.ascontiguousarray(bars, dtype=np.float64)
        if bars.ndim != ndim or bars.shape[-1] != self._width:
            expected = " ".join(("close_time_s open high low close volume", *self.columns))
            raise FeatureError(f"bars of shape {bars.shape} do not fit: give {expected} for these features")
        return bars


def default_features(timeframe: pd.Timedelta) -> tuple[str, ...]:
    """Return a sound set of feature names for bars of this length."""
    horizons = _horizons(timeframe)
    short, long = horizons[-2:]
    clock = ("hour_sin", "hour_cos", "weekday_sin", "weekday_cos") if is_intraday(timeframe) else ()
    return (
        "log_return",
        "range",
        "garman_klass",
        *(f"return:{n}" for n in horizons),
        f"ewm_volatility:{short}",
        f"ewm_volatility:{long}",
        f"log_range_volatility:{short}",
        f"volume_ratio:{long}",
        "rsi:14",
        *clock,
    )


def _horizons(timeframe: pd.Timedelta) -> tuple[int, ...]:
    """Return two or three spans of time that matter to bars of this length, in bars, shortest first."""
    if timeframe >= pd.Timedelta(weeks=1):
        return 4, 13  # a month, a quarter
    if timeframe >= pd.Timedelta(days=1):
        return 5, 21  # a week and a month of trading days
    day = round(pd.Timedelta(days=1) / timeframe)
    if timeframe >= pd.Timedelta(hours=4):
        return day, 7 * day
    if timeframe >= pd.Timedelta(hours=1):
        return day // 4, day, 7 * day
    return day // 24, day


# --- scale --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Normalizer:
    """Standardizes features by the mean and standard deviation of the training span, and clips them.

    One row [F] and a whole matrix [T, F] go through the same arithmetic, elementwise: same bits.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    clip: float = 8.0
    """Largest magnitude let through, in standard deviations."""

    @classmethod
    def fit(cls, matrix: np.ndarray, clip: float = 8.0) -> "Normalizer":
        """Measure the training matrix [T, F], and nothing else; a feature that never varies gets std 1."""
        matrix = np.asarray(matrix, dtype=np.float64)
        if matrix.ndim != 2 or len(matrix) == 0 or not np.isfinite(matrix).all():
            raise FeatureError(f"cannot fit a normalizer to shape {matrix.shape}: give finite rows [T, F]")
        constant = matrix.min(axis=0) == matrix.max(axis=0)
        mean = np.where(constant, matrix[0], matrix.mean(axis=0))  # exact where a mean would be rounded
        std = matrix.std(axis=0)
        std = np.where(constant | (std == 0.0), 1.0, std)
        return cls(tuple(mean.tolist()), tuple(std.tolist()), float(clip))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return ``x`` [F] or [T, F] in standard deviations from the mean, clipped, float64."""
        return np.clip((x - self._mean) / self._std, -self.clip, self.clip)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers as plain lists, ready for JSON."""
        return {"mean": list(self.mean), "std": list(self.std), "clip": self.clip}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Normalizer":
        """Return the normalizer that ``to_dict`` described."""
        return cls(tuple(values["mean"]), tuple(values["std"]), values["clip"])

    @cached_property
    def _mean(self) -> np.ndarray:
        return np.array(self.mean)

    @cached_property
    def _std(self) -> np.ndarray:
        return np.array(self.std)
