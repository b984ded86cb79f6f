"""What is traded: its symbol, its steps, its fees, and when its market is open."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from hissbt.errors import BarsError
from hissbt.timeframe import is_intraday

if TYPE_CHECKING:
    from exchange_calendars import ExchangeCalendar

ALWAYS_OPEN = "24/7"
CONTRACTS = ("spot", "linear", "inverse")
_DAY = pd.Timedelta(days=1)
_YEAR = 365 * _DAY
_SESSIONS_PER_YEAR = 252
# A calendar that holds no session at all cannot be made, so a short stretch of bars asks for two weeks more.
_MARGIN = 7 * _DAY


@dataclass(frozen=True)
class Market:
    """One instrument and the rules of its market.

    The defaults are those of a Bybit perpetual future without VIP level. ``taker`` and ``maker`` are fractions
    of notional (a negative maker fee is a rebate). ``tick`` is the smallest price step and ``quantity_step`` the
    smallest quantity step. ``min_quantity`` is the least that an order may ask for and ``min_notional`` the least
    that it may be worth, in the quote currency; ``max_leverage`` is the greatest multiple of the margin that a
    position may be. 0 means none is stated. ``contract`` is "spot", "linear" (margin and profit in the quote
    currency) or "inverse" (in the base currency). ``calendar`` is ``"24/7"`` or a name that exchange_calendars
    knows, such as ``"XNYS"``. Raises BarsError for an unknown contract or calendar.
    """

    symbol: str
    tick: float = 0.0
    quantity_step: float = 0.0
    taker: float = 0.00055
    maker: float = 0.0002
    calendar: str = ALWAYS_OPEN
    min_quantity: float = 0.0
    min_notional: float = 0.0
    max_leverage: float = 0.0
    contract: str = "linear"

    def __post_init__(self) -> None:
        if self.contract not in CONTRACTS:
            raise BarsError(f"unknown contract {self.contract!r}: write one of {', '.join(CONTRACTS)}")
        if self.calendar != ALWAYS_OPEN:
            import exchange_calendars

            if self.calendar not in exchange_calendars.get_calendar_names():
                raise BarsError(
                    f"unknown calendar {self.calendar!r}: write '24/7' or an exchange's code like XNYS"
                )

    @property
    def always_open(self) -> bool:
        """Whether the market never closes."""
        return self.calendar == ALWAYS_OPEN

    @property
    def periods_per_year(self) -> int:
        """Days with trading in a year, to annualize daily returns: 365, or 252 for an exchange with sessions."""
        return 365 if self.always_open else _SESSIONS_PER_YEAR

    def bars_per_year(self, timeframe: pd.Timedelta) -> float:
        """Return how many bars of this length a year of this market holds."""
        round_the_clock = _YEAR / timeframe
        if self.always_open:
            return round_the_clock
        if not is_intraday(timeframe):
            return min(float(_SESSIONS_PER_YEAR), round_the_clock)
        # One past year stands for all, so that the number never depends on the day it is asked.
        year = self._sessions_between(pd.Timestamp("2019-01-01"), pd.Timestamp("2019-12-31"))
        bars = _intervals(year, timeframe)
        return _SESSIONS_PER_YEAR * len(bars) / len(year.sessions)

    def expected_closes(
        self, first_close: pd.Timestamp, last_close: pd.Timestamp, timeframe: pd.Timedelta
    ) -> pd.DatetimeIndex:
        """Return every close time (UTC) that the calendar expects in [first_close, last_close].

        A market that never closes, and bars of a day and more, count in whole timeframes from ``first_close``;
        of the days and weeks of an exchange those with at least one session are expected. Intraday bars of an
        exchange start at each session's open, and the last one of a session may reach beyond its end.
        """
        if self.always_open or not is_intraday(timeframe):
            closes = pd.date_range(first_close, last_close, freq=timeframe).as_unit("ns")
            return closes if self.always_open else self._with_session(closes, timeframe)
        calendar = self._sessions_between(first_close - timeframe, last_close)
        closes = (_intervals(calendar, timeframe).left + timeframe).as_unit("ns")
        return closes[(closes >= first_close) & (closes <= last_close)]

    def missing_before(self, closes: pd.DatetimeIndex, timeframe: pd.Timedelta) -> np.ndarray:
        """Return how many bars the calendar expects between each close and the one before it: int64 [T].

        The closes (UTC) are those of bars in order; before the first one nothing is missing.
        """
        if self.always_open:
            steps = np.diff(closes.as_unit("ns").asi8) // timeframe.value  # [T-1]
            return np.concatenate([[0], np.maximum(steps - 1, 0)])[: len(closes)]
        if closes.empty:
            return np.zeros(0, dtype=np.int64)
        expected = self.expected_closes(closes[0], closes[-1], timeframe)
        missing = expected[~expected.isin(closes)]
        return np.bincount(closes.searchsorted(missing), minlength=len(closes))

    def session_opens(self, since: pd.Timestamp) -> np.ndarray:
        """Return when each session opens that may matter to bars from ``since`` on: unix seconds, float64 [N].

        They reach as far as the calendar does, about a year from today. Empty for a market that never closes.
        """
        if self.always_open:
            return np.zeros(0)
        calendar = self._sessions_between(since, None)
        return calendar.opens.to_numpy(dtype="datetime64[ns]").astype(np.int64) / 1e9

    def _with_session(self, closes: pd.DatetimeIndex, timeframe: pd.Timedelta) -> pd.DatetimeIndex:
        """Keep the closes whose bar [close - timeframe, close) holds the date of a session."""
        if closes.empty:
            return closes
        calendar = self._sessions_between(closes[0] - timeframe, closes[-1])
        dates = calendar.sessions.tz_localize("UTC")
        return closes[dates.searchsorted(closes) > dates.searchsorted(closes - timeframe)]

    def _sessions_between(self, start: pd.Timestamp, end: pd.Timestamp | None) -> ExchangeCalendar:
        # Imported here: the calendars take long to import, and a crypto market has no use for them.
        import exchange_calendars

        first = (start - _MARGIN).tz_localize(None).normalize()
        last = None if end is None else (end + _MARGIN).tz_localize(None).normalize()
        try:
            with warnings.catch_warnings():  # what is outdated in exchange_calendars concerns nobody here
                warnings.simplefilter("ignore", DeprecationWarning)
                return exchange_calendars.get_calendar(self.calendar, start=first, end=last)
        except ValueError as error:
            until = "today" if last is None else last.date()
            raise BarsError(
                f"calendar {self.calendar} does not cover {first.date()} to {until}: choose another calendar"
            ) from error


def _intervals(calendar: ExchangeCalendar, timeframe: pd.Timedelta) -> pd.IntervalIndex:
    """Return the intraday bars of all sessions, each session cut from its own open."""
    first, last = calendar.sessions[0], calendar.sessions[-1]
    return calendar.trading_index(first, last, period=timeframe, force_close=False, curtail_overlaps=True)
