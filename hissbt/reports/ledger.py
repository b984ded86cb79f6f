"""What happened, bar by bar, trade by trade and order by order: a Backtrader analyzer."""

from __future__ import annotations

from array import array

import backtrader as bt
import numpy as np
import pandas as pd

from hissbt.bars import Time, parse_time
from hissbt.errors import StrategyError
from hissbt.market import ALWAYS_OPEN, Market
from hissbt.reports.tables import fills_table, orders_table, times, trades_table
from hissbt.reports.trades import COSTS, FEES, FUNDING, TradedData, add_costs, costs_of
from hissbt.trading.clock import bar_length
from hissbt.trading.guards import Guards
from hissbt.trading.journal import Fill, FundingCharge

FORECAST_LINES = ("expected_return", "volatility")

_ACCOUNT = (
    "close_time",
    "value",
    "cash",
    "position",
    "price",
)  # then the costs, the guard and the forecast's lines
_COSTS_AT = slice(len(_ACCOUNT), len(_ACCOUNT) + len(COSTS))

# What Ledger.loop says of a run that hissbt.accelerate had no part in.
STOCK_LOOP = {"path": "stock", "reason": "accelerate was not called", "broker_bars": None}


class Ledger(bt.Analyzer):
    """Records a run. When it has ended the tables are in ``frame``, ``trades``, ``fills`` and ``orders``.

    ``frame`` has one row a bar of the first data, as things stood at its close after the strategy's decision:
    ``close_time``, ``value`` and ``cash`` of the account, ``position`` (units) and ``price`` (close) of the first
    data, what was paid since the row before: ``fees`` (commission and interest), ``funding``, ``impact`` (spread
    and impact) and ``liquidation_fee``; ``guard`` (the name of the guard in force, of the broker's or else of the
    strategy's ``guards``; empty if there is none), ``gap`` and the lines of the forecast, NaN until the strategy
    is warm. ``gap`` is how many expected bars are missing between the row before and this one, by the calendar of
    the market where the data is a BarsFeed, else by its timeframe alone; the first row has 0.
    What other feeds bring after the last row's close is in the last row. Its ``attrs`` hold ``start_value`` and
    ``start_price``: the account's value and the close just before the first row (``start_price`` is the first
    row's own close if no bar came before).

    ``trades`` has one row from flat to flat for every data; an order that goes through flat ends one trade and
    begins the next, and its costs are split in proportion. ``size`` is the sum of its entries, ``entry_price`` and
    ``exit_price`` are averages of what was paid and received (by size in book price, see
    ``hissbt.trading.contract``), and ``pnl_gross`` is at the prices before spread and impact:
    ``±size * (exit_price - entry_price)`` where there are none. Times are the close times of the bars in which the
    fills fell. A trade still open at the end has no exit_time, is marked at the last close, and its exit_reason is
    open; otherwise it is the reason of the fill that ended it. Open trades included,

        end value = starting cash + sum of (pnl_gross - fees - funding - impact - liquidation_fee).

    ``fills`` has one row a fill since ``since``: ``fill_time`` (the close of the bar it fell in), ``at`` ("open",
    "inside" or "close" of that bar), ``price`` paid and ``raw_price`` before spread and impact, ``notional`` (at
    the price paid), what it cost, and its ``reason``: that in the info of its order, or else the order's type;
    "liquidation"; or the name of a guard of the broker.

    Fills and charges are those of the broker's ``journal``, which holds the whole account's in their true order. A
    broker without one (Backtrader's) tells them by its notices to this strategy, and does not tell ``at`` (empty),
    prices before its slippage (``raw_price`` is the price) and makers (False).

    ``orders`` has one row for each order that the broker has answered, in the order of submission; one that was
    placed at the last close is not among them. ``reason`` is that in the order's info, or under what PerpBroker
    counted it when it refused it.

    ``loop`` tells which loop ran, Backtrader's (path stock) or that of ``hissbt.accelerate`` (path fast), and why;
    the tables are the same.

    Money is the account's: the quote currency, or the base coin where an inverse contract is traded.

    Params: ``forecast``, the strategy attribute whose lines are recorded (by default those of the first indicator
    that has the lines expected_return and volatility); ``since``, from which on bars are recorded (UTC; a
    bar counts when it closes after it).
    """

    params = (("forecast", None), ("since", None))

    frame: pd.DataFrame
    trades: pd.DataFrame
    fills: pd.DataFrame
    orders: pd.DataFrame
    loop: dict

    def start(self):
        """Backtrader's hook before the first bar."""
        self._lines = self._forecast_lines()
        self._broker = self.strategy.broker
        self._guards = [
            guards
            for guards in (getattr(owner, "guards", None) for owner in (self._broker, self.strategy))
            if isinstance(guards, Guards)
        ]
        # The lines themselves: to go through the data for them takes longer than the rest of a row.
        self._clock, self._price = self.data.lines.datetime, self.data.lines.close
        self._first = _date_number(self.p.since)
        self._reads_later = self._lines_stay()
        self._account = array("d")  # value, cash and position of each bar where the rest is read at the end
        self._charges = []  # (bar, costs) of those bars that had any
        self._changes = []  # (bar, code) of those at which another guard, or none, came into force
        self._cold = 0  # bars before the strategy's first decision
        self._rows = array("d")  # one row after the other, which is far cheaper than a list of rows
        self._width = _COSTS_AT.stop + 1 + len(self._lines)
        self._length = 0  # bars of the first data so far
        self._stamp = np.nan  # of the bar that was shown last
        self._later = None  # the row as it stands after other feeds have moved on, past this bar's close
        self._begin(-np.inf, self._broker.getvalue(), np.nan)
        self._journal = getattr(self._broker, "journal", None)
        self._listens = self._journal is None  # to notices of orders, and keeps a journal of its own
        self._interest, self._accrued = {}, 0.0  # charged already, not yet part of a commission
        if self._listens:
            self._journal, self._interest = [], getattr(self._broker, "d_credit", {})
        self._cursor = 0  # how much of the journal is accounted for
        self._reason, self._codes = "", {"": 0}  # the guard in force, and a number for each name
        self._traded = {}
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
        """Take what was executed since the last notice of this order, unless the broker keeps a journal."""
        self._seen_orders[order.ref] = order
        if self._listens:
            reason = order.info.get("reason", order.getordername().lower())
            for bit in order.executed.iterpending():
                self._journal.append(
                    Fill(
                        owner=self.strategy,
                        data=order.data,
                        dt=bit.dt,
                        at="",
                        size=bit.size,
                        price=bit.price,
                        raw_price=bit.price,
                        fee=bit.comm,
                        impact=0.0,
                        liquidation_fee=0.0,
                        reason=reason,
                        maker=False,
                    )
                )

    def stop(self):
        """Backtrader's hook after the last bar: make the tables, and let go of what cannot be pickled."""
        if self._later and self._length:
            self._write(self._later, again=True)
        for data, traded in self._traded.items():
            traded.accrue(self._interest.get(data, 0.0))
        self.frame = self._frame()
        self.trades = trades_table(self._traded.values())
        seen = (entry for entry in self._journal[: self._cursor] if isinstance(entry, Fill))
        self.fills = fills_table([fill for fill in seen if fill.dt > self._begun], self._traded)
        self.orders = orders_table(self._seen_orders.values())
        self.loop = getattr(self.strategy.cerebro, "loop", STOCK_LOOP)
        self.rets = {"ledger": self.frame, "trades": self.trades, "fills": self.fills, "orders": self.orders}
        self._clock = self._price = self._lines = self._guards = self._broker = self._journal = None
        self._rows = self._account = self._traded = self._seen_orders = self._interest = None
        self._charges = self._changes = None

    def _lines_stay(self) -> bool:
        """Tell whether every bar is shown once, and its lines can still be read when the run has ended."""
        cerebro = self.strategy.cerebro
        return len(cerebro.datas) == 1 and not cerebro._doreplay and cerebro._exactbars == 0

    def _begin(self, stamp: float, value: float, price: float) -> None:
        """Let the first row be that after ``stamp``; nothing is due yet."""
        self._begun, self._start, self._costs = stamp, (value, price), None

    def _note(self) -> None:
        """Record of the bar only what cannot be read at the end."""
        broker = self._broker
        self._account.fromlist([broker.getvalue(), broker.getcash(), broker.getposition(self.data).size])
        if len(self._journal) > self._cursor or self._accrued or self._interest.get(self.data):
            self._settle()
            self._charges.append((len(self._account) // 3 - 1, self._costs))
            self._costs = None
        if self._guards and (reason := self._guard_in_force()) != self._reason:
            self._reason = reason
            self._changes.append((len(self._account) // 3 - 1, self._code(reason)))

    def _read(self) -> list[np.ndarray]:
        """Return the columns of the frame, the rest of them read from the lines."""
        account = np.frombuffer(self._account, dtype=np.float64).reshape(-1, 3)  # [T, 3]
        bars = len(account)
        value, cash, position = account.T.copy()  # [T], [T], [T]
        lines = (self._clock, self._price, *self._lines)
        stamp, price, *forecast = (np.array(line.array[:bars]) for line in lines)  # [T] each
        costs = np.zeros((len(COSTS), bars))
        for bar, paid in self._charges:
            costs[:, bar] = paid
        for line in forecast:
            line[: self._cold] = np.nan
        for traded in self._traded.values():
            traded.last_price = price[-1]
        first = int(np.searchsorted(stamp, self._first, side="right"))
        if first:
            self._begin(stamp[first - 1], value[first - 1], price[first - 1])
        guard = _held(self._changes, bars)
        return [column[first:] for column in (stamp, value, cash, position, price, *costs, guard, *forecast)]

    def _settle(self) -> None:
        """Take what the journal holds beyond its cursor, and interest, into the trades and the costs due."""
        costs = self._costs or [0.0] * len(COSTS)
        for entry in self._journal[self._cursor :]:
            traded = self._traded.get(entry.data)
            if traded is None:
                traded = TradedData.of(entry.data, self._broker.getcommissioninfo(entry.data))
                self._traded[entry.data] = traded
            if isinstance(entry, FundingCharge):
                traded.fund(entry)
                costs[FUNDING] += entry.amount
            else:
                traded.fill(entry)
                add_costs(costs, costs_of(entry))
        self._cursor = len(self._journal)
        accrued = sum(self._interest.values())
        costs[FEES] += accrued - self._accrued
        self._costs, self._accrued = costs, accrued

    def _guard_in_force(self) -> str:
        for guards in self._guards:
            if guards.reason:
                return guards.reason
        return ""

    def _code(self, reason: str) -> int:
        return self._codes.setdefault(reason, len(self._codes))

    def _record(self, forecast: list[float]) -> None:
        clock, broker = self._clock, self._broker
        length = len(clock)
        if not length:
            return
        if len(self._journal) > self._cursor or self._accrued or self._interest:
            self._settle()
        for traded in self._traded.values():
            traded.mark()
        stamp, price, value = clock[0], self._price[0], broker.getvalue()
        row = [stamp, value, broker.getcash(), broker.getposition(self.data).size, price, *[0.0] * len(COSTS)]
        row += [self._code(self._guard_in_force()), *forecast]
        if stamp == self._stamp:
            # Another feed moved: what it brings belongs to the next bar, or to the last one if none follows.
            self._later = row
            return
        self._stamp, self._later = stamp, None
        if stamp > self._first:
            self._write(row, again=length == self._length)
            self._length = length
        else:
            self._begin(stamp, value, price)

    def _write(self, row: list[float], again: bool) -> None:
        """Add a row with the costs since the last one; ``again`` replaces the last one."""
        rows, costs = self._rows, self._costs or [0.0] * len(COSTS)
        if again:
            add_costs(costs, rows[-self._width :][_COSTS_AT])
            del rows[-self._width :]
        row[_COSTS_AT], self._costs = costs, None
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
        return np.frombuffer(self._rows, dtype=np.float64).reshape(-1, self._width).T.copy()  # [width, T]

    def _frame(self) -> pd.DataFrame:
        columns = self._read() if self._reads_later else self._recorded()  # [T] each
        table = dict(zip((*_ACCOUNT, *COSTS, "guard"), columns, strict=False))
        table["close_time"] = times(table["close_time"])
        names = np.array(list(self._codes), dtype=object)
        table["guard"] = pd.Series(names[table["guard"].astype(int)], dtype="str")
        table["gap"] = _missing_before(table["close_time"], self.data)
        lines = columns[_COSTS_AT.stop + 1 :]
        frame = pd.DataFrame(table | dict(zip(self._line_names, lines, strict=True)))
        start_value, start_price = self._start
        if np.isnan(start_price) and len(frame):
            start_price = frame["price"].iloc[0]
        frame.attrs = {"start_value": float(start_value), "start_price": float(start_price)}
        return frame


def _held(changes: list[tuple[int, int]], length: int) -> np.ndarray:
    """Return the codes that hold from each (index, code) to the next, 0 before the first: [length]."""
    starts = [0, *(bar for bar, _ in changes)]
    return np.repeat([0, *(code for _, code in changes)], np.diff([*starts, length]))


def _missing_before(closes: pd.DatetimeIndex, data: bt.feed.AbstractDataBase) -> np.ndarray:
    """Return how many expected bars are missing before each close of a feed: int64 [T]."""
    length = bar_length(data)
    if length is None:
        return np.zeros(len(closes), dtype=np.int64)
    bars = getattr(data, "bars", None)
    # No calendar knows the bars that Backtrader makes of others: it counts them from midnight, not from the open.
    by_calendar = bars is not None and bars.timeframe == length
    market = bars.market if by_calendar else Market("any", calendar=ALWAYS_OPEN)
    return market.missing_before(closes, length)


def _date_number(since: Time | None) -> float:
    """Return the time in Backtrader's days, a little later so that a close at just this time is not after it."""
    if since is None:
        return -np.inf
    return bt.date2num(parse_time(since).tz_localize(None).to_pydatetime()) + 0.5 / 86_400_000
