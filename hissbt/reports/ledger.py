"""What happened, bar by bar, trade by trade and order by order: a Backtrader analyzer."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

import backtrader as bt
import numpy as np
import pandas as pd

from hissbt.bars import Time, parse_time
from hissbt.errors import StrategyError
from hissbt.market import ALWAYS_OPEN, Market

FORECAST_LINES = ("expected_return", "prob_up", "volatility")
TRADE_COLUMNS = (
    "entry_time",
    "exit_time",
    "side",
    "size",
    "entry_price",
    "exit_price",
    "pnl_gross",
    "fees",
    "funding",
    "impact",
    "pnl_net",
    "exit_reason",
    "symbol",
)

ORDER_COLUMNS = (
    "created_time",
    "side",
    "type",
    "size",
    "price",
    "status",
    "reason",
    "executed_time",
    "executed_size",
    "executed_price",
    "commission",
    "symbol",
)

# A month or a year has no length, and a tick none at all.
_LENGTHS = {
    bt.TimeFrame.Weeks: pd.Timedelta(weeks=1),
    bt.TimeFrame.Days: pd.Timedelta(days=1),
    bt.TimeFrame.Minutes: pd.Timedelta(minutes=1),
    bt.TimeFrame.Seconds: pd.Timedelta(seconds=1),
}
_UNIX_EPOCH = 719_163  # Backtrader counts days, with 0001-01-01 as day 1; 1970-01-01 is this one
_NO_TIME = np.iinfo(np.int64).min  # NaT
_DUST = 1e-12  # a position this small beside the largest one of its trade is what is left of float sums


# What Ledger.loop says of a run that hissbt.accelerate had no part in.
STOCK_LOOP = {"path": "stock", "reason": "accelerate was not called", "broker_bars": None}


class Ledger(bt.Analyzer):
    """Records a run. When it has ended the tables are in ``frame``, ``trades`` and ``orders``.

    ``frame`` has one row a bar of the first data, as things stood at its close after the strategy's decision:
    ``close_time``, ``value`` and ``cash`` of the account, ``position`` (units) and ``price`` (close) of the first
    data, ``fees`` (commission and interest), ``funding`` and ``impact`` paid since the row before, ``guard``
    (whether the strategy's ``guard`` has tripped), ``gap`` and the lines of the forecast, NaN until the strategy
    is warm. ``gap`` is how many expected bars are missing between the row before and this one, by the calendar of
    the market where the data is a BarsFeed, else by its timeframe alone; the first row has 0.
    What other feeds bring after the last row's close is in the last row. Its ``attrs`` hold ``start_value`` and
    ``start_price``: the account's value and the close just before the first row (``start_price`` is the first
    row's own close if no bar came before).

    ``trades`` has one row from flat to flat for every data; an order that goes through flat ends one trade and
    begins the next. ``size`` is the sum of its entries, prices are averages, and
    ``pnl_gross = ±size * (exit_price - entry_price)``. Times are the close times of the bars in which the fills
    fell. A trade still open at the end has no exit_time, is marked at the last close, and its exit_reason is open;
    otherwise it is the ``reason`` in the info of the order that ended it, or else that order's type. The end value
    is the starting cash plus the sum of pnl_gross minus the sum of fees, open trades included.

    ``orders`` has one row for each order that the broker has answered, in the order of submission; one that was
    placed at the last close is not among them.

    ``loop`` tells which loop ran, Backtrader's (path stock) or that of ``hissbt.accelerate`` (path fast), and why;
    the tables are the same.

    Params: ``forecast``, the strategy attribute whose lines are recorded (by default those of the first indicator
    that has the lines expected_return, prob_up and volatility); ``since``, from which on bars are recorded (UTC; a
    bar counts when it closes after it).
    """

    params = (("forecast", None), ("since", None))

    frame: pd.DataFrame
    trades: pd.DataFrame
    orders: pd.DataFrame
    loop: dict

    def start(self):
        """Backtrader's hook before the first bar."""
        self._lines = self._forecast_lines()
        self._guard = getattr(self.strategy, "guard", None)
        self._broker = self.strategy.broker
        # The lines themselves: to go through the data for them takes longer than the rest of a row.
        self._clock, self._price = self.data.lines.datetime, self.data.lines.close
        self._first = _date_number(self.p.since)
        self._reads_later = self._lines_stay()
        self._account = array("d")  # value, cash and position of each bar where the rest is read at the end
        self._events = []  # (bar, fees, guard) of those bars at which either was not nothing
        self._cold = 0  # bars before the strategy's first decision
        self._rows = array("d")  # one row after the other, which is far cheaper than a list of rows
        self._width = 7 + len(self._lines)
        self._length = 0  # bars of the first data so far
        self._stamp = np.nan  # of the bar that was shown last
        self._later = None  # the row as it stands after other feeds have moved on, past this bar's close
        self._fees = 0.0
        self._interest = getattr(self._broker, "d_credit", {})  # charged already, not yet part of a commission
        self._accrued = 0.0
        self._start = (self._broker.getvalue(), np.nan)
        self._positions = {}
        self._seen_orders = {}

    def next(self):
        """Record the bar; one that is replayed replaces its own row."""
        if self._reads_later:
            self._note()
        else:
            self._record([line[0] for line in self._lines])

    def prenext(self):
        """Record the bar before the strategy's first decision."""
        if self._reads_later:
            self._note()
            self._cold += 1
        else:
            # A line that nothing was written to may show a later bar, by Python's negative indices: do not look.
            self._record([np.nan] * len(self._lines))

    def notify_order(self, order):
        """Take fees and fills from what was executed since the last notice of this order."""
        self._seen_orders[order.ref] = order
        data = order.data
        for fill in order.executed.iterpending():
            self._fees += fill.comm
            if data not in self._positions:
                info = order.comminfo
                self._positions[data] = _Position(
                    data._name, 1.0 if info.stocklike else info.p.mult, data.lines.close
                )
            reason = order.info.get("reason", order.getordername().lower())
            self._positions[data].fill(fill.dt, fill.size, fill.price, fill.comm, reason)

    def stop(self):
        """Backtrader's hook after the last bar: make the tables, and let go of what cannot be pickled."""
        if self._later and self._length:
            self._write(self._later, again=True)
        for data, traded in self._positions.items():
            traded.accrue(self._interest.get(data, 0.0))
        self.frame = self._frame()
        self.trades = _trades(self._positions.values())
        self.orders = _orders(self._seen_orders.values())
        self.loop = getattr(self.strategy.cerebro, "loop", STOCK_LOOP)
        self.rets = {"ledger": self.frame, "trades": self.trades, "orders": self.orders}
        self._clock = self._price = self._lines = self._guard = self._broker = None
        self._rows = self._account = self._events = self._positions = self._seen_orders = self._interest = None

    def _lines_stay(self) -> bool:
        """Tell whether every bar is shown once, and its lines can still be read when the run has ended."""
        cerebro = self.strategy.cerebro
        return len(cerebro.datas) == 1 and not cerebro._doreplay and cerebro._exactbars == 0

    def _note(self) -> None:
        """Record of the bar only what cannot be read at the end."""
        broker, guard = self._broker, self._guard
        self._account.fromlist([broker.getvalue(), broker.getcash(), broker.getposition(self.data).size])
        if self._accrued or self._interest.get(self.data):
            self._charge_interest()
        if self._fees or (guard is not None and guard.tripped):
            self._events.append((len(self._account) // 3 - 1, self._fees, guard is not None and guard.tripped))
            self._fees = 0.0

    def _read(self) -> list[np.ndarray]:
        """Return the columns of the frame, the rest of them read from the lines."""
        account = np.frombuffer(self._account, dtype=np.float64).reshape(-1, 3)  # [T, 3]
        bars = len(account)
        value, cash, position = account.T.copy()  # [T], [T], [T]
        lines = (self._clock, self._price, *self._lines)
        stamp, price, *forecast = (np.array(line.array[:bars]) for line in lines)  # [T] each
        fees, guard = np.zeros(bars), np.zeros(bars)
        for bar, paid, tripped in self._events:
            fees[bar], guard[bar] = paid, tripped
        for line in forecast:
            line[: self._cold] = np.nan
        for traded in self._positions.values():
            traded.last_price = price[-1]
        first = int(np.searchsorted(stamp, self._first, side="right"))
        if first:
            self._start = (value[first - 1], price[first - 1])
        return [column[first:] for column in (stamp, value, cash, position, price, fees, guard, *forecast)]

    def _charge_interest(self) -> None:
        accrued = sum(self._interest.values())
        self._fees, self._accrued = self._fees + accrued - self._accrued, accrued

    def _record(self, forecast: list[float]) -> None:
        clock, broker, guard = self._clock, self._broker, self._guard
        length = len(clock)
        if not length:
            return
        for traded in self._positions.values():
            traded.mark()
        if self._interest or self._accrued:
            self._charge_interest()
        stamp, price, value = clock[0], self._price[0], broker.getvalue()
        position = broker.getposition(self.data).size
        tripped = guard is not None and guard.tripped
        row = [stamp, value, broker.getcash(), position, price, 0.0, tripped, *forecast]
        if stamp == self._stamp:
            # Another feed moved: what it brings belongs to the next bar, or to the last one if none follows.
            self._later = row
            return
        self._stamp, self._later = stamp, None
        if stamp > self._first:
            self._write(row, again=length == self._length)
            self._length = length
        else:
            self._start, self._fees = (value, price), 0.0

    def _write(self, row: list[float], again: bool) -> None:
        """Add a row with the fees since the last one; ``again`` replaces the last one."""
        rows = self._rows
        if again:
            self._fees += rows[5 - self._width]
            del rows[-self._width :]
        row[5], self._fees = self._fees, 0.0
        rows.fromlist(row)

    def _forecast_lines(self) -> list[bt.LineBuffer]:
        indicator = self._forecast()
        self._line_names = [] if indicator is None else list(indicator.lines.getlinealiases())
        return [getattr(indicator.lines, name) for name in self._line_names]

    def _forecast(self) -> bt.Indicator | None:
        if self.p.forecast is not None:
            named = getattr(self.strategy, self.p.forecast, None)
            if named is None:
                raise StrategyError(
                    f"Ledger finds no self.{self.p.forecast} in {type(self.strategy).__name__}: "
                    "name the attribute that holds the forecast with forecast=…"
                )
            return named
        indicators = self.strategy.getindicators_lines()
        return next((i for i in indicators if set(FORECAST_LINES) <= set(i.lines.getlinealiases())), None)

    def _recorded(self) -> np.ndarray:
        return np.frombuffer(self._rows, dtype=np.float64).reshape(-1, self._width).T.copy()  # [7 + lines, T]

    def _frame(self) -> pd.DataFrame:
        columns = self._read() if self._reads_later else self._recorded()  # [T] each
        stamp, value, cash, position, price, fees, guard, *lines = columns
        nothing = np.zeros(len(stamp))
        table = {"close_time": _times(stamp), "value": value, "cash": cash, "position": position, "price": price}
        table |= {"fees": fees, "funding": nothing, "impact": nothing, "guard": guard.astype(bool)}
        table["gap"] = _missing_before(table["close_time"], self.data)
        frame = pd.DataFrame(table | dict(zip(self._line_names, lines, strict=True)))
        start_value, start_price = self._start
        if np.isnan(start_price) and len(frame):
            start_price = price[0]
        frame.attrs = {"start_value": float(start_value), "start_price": float(start_price)}
        return frame


@dataclass
class _Trade:
    """Fills from flat to flat; a flow is size times price, signed as the size."""

    entry_dt: float
    side: int
    entered: float = 0.0  # units, without sign
    entry_flow: float = 0.0
    exit_flow: float = 0.0
    peak: float = 0.0
    fees: float = 0.0

    def row(self, exit_dt: float, reason: str, symbol: str, multiplier: float) -> tuple:
        gross = -(self.entry_flow + self.exit_flow) * multiplier
        entry_price = self.side * self.entry_flow / self.entered
        exit_price = -self.side * self.exit_flow / self.entered
        side = "long" if self.side > 0 else "short"
        costs = (self.fees, 0.0, 0.0)
        numbers = (side, self.entered, entry_price, exit_price, gross, *costs, gross - sum(costs))
        return (self.entry_dt, exit_dt, *numbers, reason, symbol)


@dataclass
class _Position:
    """The position in one data, and its finished trades."""

    symbol: str
    multiplier: float
    closes: bt.LineBuffer
    size: float = 0.0
    last_price: float = np.nan
    trade: _Trade | None = None
    rows: list[tuple] = field(default_factory=list)

    def fill(self, dt: float, size: float, price: float, commission: float, reason: str) -> None:
        """Take an execution; one that goes through flat is split there, its commission in proportion."""
        against = size * self.size < 0
        if against and abs(size) <= abs(self.size) * (1 + _DUST):
            closing, opening = size, 0.0
        else:
            closing = -self.size if against else 0.0
            opening = size - closing
        if closing:
            share = closing / size
            self._close(dt, closing, price, commission * share, reason)
            commission -= commission * share
        if opening:
            self._open(dt, opening, price, commission)

    def mark(self) -> None:
        """Note the close, which cannot be read any more after the last bar when Backtrader saves memory."""
        if self.trade is not None:
            self.last_price = self.closes[0]

    def accrue(self, interest: float) -> None:
        """Take interest that was charged on what is still open."""
        if self.trade is not None:
            self.trade.fees += interest

    def _open(self, dt, size, price, commission):
        if self.trade is None:
            self.trade = _Trade(dt, 1 if size > 0 else -1)
        trade = self.trade
        trade.entered += abs(size)
        trade.entry_flow += size * price
        trade.fees += commission
        self.size += size
        trade.peak = max(trade.peak, abs(self.size))

    def _close(self, dt, size, price, commission, reason):
        trade = self.trade
        trade.exit_flow += size * price
        trade.fees += commission
        self.size += size
        if abs(self.size) <= _DUST * trade.peak:
            self.rows.append(trade.row(dt, reason, self.symbol, self.multiplier))
            self.size, self.trade = 0.0, None

    def marked(self) -> list[tuple]:
        """Return all rows, the open trade as if it were closed at the last close for free."""
        if self.trade is None:
            return self.rows
        trade = self.trade
        trade.exit_flow -= self.size * self.last_price
        return [*self.rows, trade.row(np.nan, "open", self.symbol, self.multiplier)]


def _missing_before(closes: pd.DatetimeIndex, data: bt.feed.AbstractDataBase) -> np.ndarray:
    """Return how many expected bars are missing before each close of a feed: int64 [T]."""
    length = _LENGTHS.get(data._timeframe)
    if length is None:
        return np.zeros(len(closes), dtype=np.int64)
    length *= data._compression
    bars = getattr(data, "bars", None)
    # No calendar knows the bars that Backtrader makes of others: it counts them from midnight, not from the open.
    by_calendar = bars is not None and bars.timeframe == length
    market = bars.market if by_calendar else Market("any", calendar=ALWAYS_OPEN)
    return market.missing_before(closes, length)


def _trades(positions: Iterable[_Position]) -> pd.DataFrame:
    rows = [row for position in positions for row in position.marked()]
    table = pd.DataFrame(sorted(rows, key=lambda row: row[0]), columns=list(TRADE_COLUMNS))
    for column in ("entry_time", "exit_time"):
        table[column] = _times(table[column].to_numpy(dtype=float))
    return table


def _orders(orders: Iterable[bt.Order]) -> pd.DataFrame:
    # Backtrader numbers orders through the whole process: their order tells something, the numbers do not.
    orders = sorted(orders, key=lambda order: order.ref)
    asked, filled = [order.created for order in orders], [order.executed for order in orders]
    # Column by column: a row for each would be one more object to every order for Python's garbage collector.
    columns = (
        _times(np.array([request.dt for request in asked], dtype=float)),
        ["buy" if order.isbuy() else "sell" for order in orders],
        [order.getordername().lower() for order in orders],
        [abs(request.size) for request in asked],
        [request.price for request in asked],
        [order.getstatusname().lower() for order in orders],
        [order.info.get("reason", "") for order in orders],
        _times(np.array([fill.dt if fill.size else np.nan for fill in filled], dtype=float)),
        [abs(fill.size) if fill.size else 0.0 for fill in filled],
        [fill.price if fill.size else np.nan for fill in filled],
        [fill.comm for fill in filled],
        [order.data._name for order in orders],
    )
    return pd.DataFrame(dict(zip(ORDER_COLUMNS, columns, strict=True)))


def _times(date_numbers: np.ndarray) -> pd.DatetimeIndex:
    """Turn Backtrader's days into times in UTC; a float of days is good to some 20 us, so round to ms."""
    known = np.isfinite(date_numbers)
    ms = np.round(np.where(known, date_numbers - _UNIX_EPOCH, 0) * 86_400_000).astype(np.int64)
    return pd.DatetimeIndex(np.where(known, ms * 1_000_000, _NO_TIME).view("datetime64[ns]"), tz="UTC")


def _date_number(since: Time | None) -> float:
    """Return the time in Backtrader's days, a little later so that a close at just this time is not after it."""
    if since is None:
        return -np.inf
    return bt.date2num(parse_time(since).tz_localize(None).to_pydatetime()) + 0.5 / 86_400_000
