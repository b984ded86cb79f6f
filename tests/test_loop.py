"""accelerate changes the time that a run takes, and nothing else: byte for byte, in every kind of run."""

import gc
from collections import deque
from datetime import date, time, timedelta, tzinfo
from functools import partial

import backtrader as bt
import numpy as np
import pytest
from backtrader.order import OrderData, OrderExecutionBit
from hypothesis import given, settings
from hypothesis import strategies as st

from hissbt.bars import Bars
from hissbt.errors import ConfigError, StrategyError
from hissbt.feeds import BarsFeed
from hissbt.loop import UNSUPPORTED, accelerate
from hissbt.reports.ledger import Ledger

MINUTES, DAYS = bt.TimeFrame.Minutes, bt.TimeFrame.Days
Order = bt.Order
BARS = 160


@pytest.fixture(scope="module")
def bars(hourly_bars):
    return hourly_bars[:BARS]


# --- strategies that write down all they are told


class Actor(bt.Strategy):
    """Does what ``script`` says, (bar, data, action, size, offset), and keeps a diary of all that it is told."""

    params = (("script", ()), ("valid", None), ("period", 5), ("label", ""))

    def __init__(self):
        self.diary, self.placed = [], []
        self.averages = [bt.indicators.SMA(data.close, period=self.p.period) for data in self.datas]
        self.range = self.data.high - self.data.low  # a line operation
        self.ema = bt.indicators.EMA(self.averages[0], period=3)  # an indicator on an indicator
        self.spread = bt.indicators.SMA(self.range, period=4)  # an indicator on an operation
        self.macd = bt.indicators.MACD(self.data)

    def note(self, what, *values):
        self.diary.append((what, len(self), *values))

    def start(self):
        self.first_ref = next(Order.refbasis)  # orders are numbered through the whole process
        self.note("start", self.broker.getvalue())

    def stop(self):
        kept = {id(order) for order in self.broker.orders}
        self.note("placed", [order is not None and id(order) in kept for order in self.placed])
        self.note("orders", [attributes(order, self.first_ref) for order in self.broker.orders])
        self.note("stop", self.broker.getvalue(), self.broker.getcash(), self.datetime.datetime())

    def prenext(self):
        self.note("prenext", *self.account())
        self.act()

    def nextstart(self):
        self.note("nextstart", *self.account())
        self.act()

    def next(self):
        lines = (*self.averages, self.range, self.ema, self.spread, self.macd, self.macd.signal)
        self.note("next", *self.account(), [line[0] for line in lines], self.averages[0].lines.sma[-1])
        self.act()

    def account(self):
        for data in self.datas:
            if len(data):
                position = self.getposition(data)
                held = position.datetime if position.size else None
                yield len(data), data.close[0], data.datetime.datetime(), data.tick_last, held, str(position)
        broker = self.broker
        yield broker.getcash(), broker.getvalue(), broker.fundvalue, broker.fundshares, self.datetime.datetime()
        yield broker.get_leverage(), broker._unrealized, broker.get_value(mkt=True), broker.get_value(lever=True)

    def act(self):
        for bar, index, action, size, offset in self.p.script:
            data = self.datas[index % len(self.datas)]
            if bar == len(self) and len(data):
                self.placed += getattr(self, action)(data, size, offset) or ()

    def place(self, data, size, **kwargs):
        return [(self.buy if size > 0 else self.sell)(data=data, size=abs(size), valid=self.p.valid, **kwargs)]

    def market(self, data, size, offset):
        return self.place(data, size)

    def at_close(self, data, size, offset):
        return self.place(data, size, exectype=Order.Close)

    def limit(self, data, size, offset):
        return self.place(data, size, exectype=Order.Limit, price=data.close[0] * (1 + offset))

    def touch(self, data, size, offset):
        """Place limits and stops at the very prices that a bar to come will reach, which preloaded lines show."""
        left = data.buflen() - len(data)
        lows, highs = (data.low, data.high) if size > 0 else (data.high, data.low)
        extreme, opposite = lows[min(3, left)], highs[min(2, left)]
        limit = self.place(data, size, exectype=Order.Limit, price=extreme)
        return limit + self.place(data, size, exectype=Order.Stop, price=opposite)

    def stop_order(self, data, size, offset):
        return self.place(data, size, exectype=Order.Stop, price=data.close[0] * (1 + offset), reason="stop")

    def stop_limit(self, data, size, offset):
        price = data.close[0] * (1 + offset)
        return self.place(data, size, exectype=Order.StopLimit, price=price, plimit=price * (1 - 2 * offset))

    def trail(self, data, size, offset):
        return self.place(data, size, exectype=Order.StopTrail, trailamount=abs(offset) * data.close[0])

    def trail_percent(self, data, size, offset):
        return self.place(data, size, exectype=Order.StopTrail, trailpercent=abs(offset))

    def trail_limit(self, data, size, offset):
        close, amount = data.close[0], abs(offset) * data.close[0]
        kind = {"exectype": Order.StopTrailLimit, "trailamount": amount}
        return self.place(data, size, price=close, plimit=close * (1 - offset / 2), **kind)

    def bracket(self, data, size, offset):
        close, side = data.close[0], 1 if size > 0 else -1
        place = self.buy_bracket if size > 0 else self.sell_bracket
        away = side * abs(offset)
        kind = {"exectype": Order.Market} if abs(size) > 2 else {"price": close * (1 - away / 4)}
        orders = {"stopprice": close * (1 - away), "limitprice": close * (1 + away), "valid": self.p.valid}
        return place(data=data, size=abs(size), **kind, **orders)

    def one_cancels_other(self, data, size, offset):
        (first,) = self.limit(data, size, offset)
        return [first, *self.place(data, size, exectype=Order.Stop, price=data.close[0] * (1 - offset), oco=first)]

    def flatten(self, data, size, offset):
        self.close(data=data)

    def cancel_one(self, data, size, offset):
        alive = [order for order in self.placed if order is not None and order.alive()]
        if alive:
            self.cancel(alive[int(abs(offset) * 1000) % len(alive)])

    def reprice(self, data, size, offset):
        """Change a resting order in place, which Backtrader does not forbid."""
        for order in self.broker.pending:
            order.created.price *= 1 + offset

    def expire_soon(self, data, size, offset):
        for order in self.broker.pending:
            order.valid = data.datetime[0] + 0.1

    def revoke(self, data, size, offset):
        """Mark orders as cancelled without telling the broker, which Backtrader does not forbid either."""
        for order in self.placed[-1:]:
            order.cancel()

    def deposit(self, data, size, offset):
        self.broker.add_cash(1000 * size)

    def dearer(self, data, size, offset):
        self.broker.setcommission(commission=abs(offset))

    def revalue(self, data, size, offset):
        self.broker.setcommission(mult=size)

    def charge_interest(self, data, size, offset):
        self.broker.setcommission(interest=1 + abs(offset), interest_long=True)

    def grow(self, data, size, offset):
        self.broker.cash += 5

    def inherit(self, data, size, offset):
        """Begin with a position that was never bought."""
        position = self.broker.getposition(data)
        position.size, position.datetime = size, data.datetime.datetime()
        position.price = position.adjbase = data.close[0]

    def end(self, data, size, offset):
        self.cerebro.runstop()

    def notify_order(self, order):
        self.note("order", attributes(order, self.first_ref), list(map(vars, order.executed.iterpending())))
        kept = [other for other in self.broker.orders if other is not order and other.ref == order.ref]
        for own in map(vars, kept):
            self.note("shared", [own.get(name) is part for name, part in vars(order).items()])

    def notify_trade(self, trade):
        known = {key: value for key, value in vars(trade).items() if key not in ("data", "history", "ref")}
        self.note("trade", trade.data._name, known)

    def notify_timer(self, timer, when, *args, **kwargs):
        self.note("timer", when, args, kwargs)


def attributes(item, first_ref):
    """Return every attribute of an order and of its parts, in their order; what they refer to, by name."""

    def told(name, value):
        if isinstance(value, deque):
            return [told("", part) for part in value]
        if isinstance(value, Order):
            return value.ref - first_ref
        if isinstance(value, OrderData | OrderExecutionBit | Order.params):
            return type(value).__name__, [(name, told(name, part)) for name, part in vars(value).items()]
        if isinstance(value, bt.CommInfoBase | bt.Strategy | bt.feed.AbstractDataBase):
            return type(value).__name__
        return value - first_ref if name == "ref" else (type(value).__name__, value)

    return type(item).__name__, [(name, told(name, value)) for name, value in vars(item).items()]


class Listener(Actor):
    """Hears of cash and fund too."""

    def notify_cashvalue(self, cash, value):
        self.note("cash", cash, value)

    def notify_fund(self, cash, value, fundvalue, shares):
        self.note("fund", cash, value, fundvalue, shares)


class Opener(Actor):
    """Trades at the open that it sees."""

    def next_open(self):
        self.note("open", self.data.open[0], self.averages[0][0], self.broker.getvalue())
        if len(self) % 9 == 4:
            self.buy(size=1)
        elif len(self) % 9 == 7:
            self.close()

    def prenext_open(self):
        self.note("preopen", self.data.open[0], self.broker.getvalue())


class EarlyEnd(Opener):
    """Ends the run before the broker's turn."""

    def next_open(self):
        super().next_open()
        if len(self) == 85:  # where it has just bought
            self.cerebro.runstop()


class Curious(Actor):
    """Asks for positions in feeds that have not begun."""

    def prenext(self):
        self.note("positions", [str(self.getposition(data)) for data in self.datas])
        super().prenext()


class QuickEnd(Actor):
    """Ends the run when told of a fill."""

    def notify_order(self, order):
        super().notify_order(order)
        if len(self) > 50 and order.status == Order.Completed:
            self.cerebro.runstop()


class Timed(Actor):
    """Trades at timers, one of them before the broker's turn."""

    def __init__(self):
        super().__init__()
        self.add_timer(when=time(9), repeat=timedelta(hours=5))
        self.add_timer(when=time(3), cheat=True, word="early")

    def notify_timer(self, timer, when, *args, **kwargs):
        self.note("timer", when, kwargs, self.averages[0][0], self.data.close[0], self.broker.getvalue())
        self.buy(size=1) if self.position.size < 2 else self.close()


class Switching(Actor):
    """Puts another method in the place of next while it runs."""

    def next(self):
        super().next()
        if len(self) == 60:
            self.next = self.later

    def later(self):
        self.note("later", *self.account())
        if len(self) % 10 == 0:
            self.buy(size=1)


class WithLine(Actor):
    """Has lines of its own, one of which repeats the time."""

    lines = ("signal", "copy")

    def __init__(self):
        super().__init__()
        self.lines.datetime.addbinding(self.lines.copy)

    def next(self):
        super().next()
        self.lines.signal[0] = self.data.close[0] * 2
        self.note("signal", self.lines.signal[0], self.lines.signal[-1], self.lines.copy[0])


class Wrapping(Actor):
    """Puts methods of its own around the broker's, before the run or while it lasts."""

    params = (("wraps_at", 0),)

    def start(self):
        super().start()
        if not self.p.wraps_at:
            self.wrap()

    def next(self):
        super().next()
        if len(self) == self.p.wraps_at:
            self.wrap()

    def wrap(self):
        for name in ("buy", "sell", "notify"):
            setattr(self.broker, name, partial(self.heard, name, getattr(self.broker, name)))

    def heard(self, name, method, *args, **kwargs):
        self.note("heard", name, len(args), sorted(kwargs))
        return method(*args, **kwargs)


class Direct(Actor):
    """Orders from the broker itself, with positional arguments, too."""

    def next(self):
        super().next()
        place = (self.broker.buy, self.broker.sell)[len(self) // 6 % 2]
        if len(self) % 6 == 0:
            self.placed.append(place(self, self.data, 1, self.data.close[0], None, Order.Limit, color="red"))
        elif len(self) % 6 == 3:
            self.placed.append(place(self, self.data, 1, exectype=Order.Market, tradeid=len(self) % 4))


class Quiet(Actor):
    """Looks at nothing but its account."""

    def __init__(self):
        self.diary, self.placed = [], []
        bt.indicators.SMA(self.data, period=self.p.period)

    def next(self):
        self.note("next", *self.account())
        self.act()


class OwnSteps(Actor):
    """Overrides what the loop would do itself."""

    def clear(self):
        self.note("clear")
        super().clear()


class Counting(bt.Indicator):
    """Counts how often it is moved."""

    lines = ("moved",)
    moves = 0

    def advance(self, size=1):
        super().advance(size)
        self.moves += 1


class Counts(Actor):
    def __init__(self):
        super().__init__()
        self.counting = Counting(self.data)

    def next(self):
        super().next()
        self.note("moves", self.counting.moves, len(self.counting))


class Slow(bt.Indicator):
    """Makes Backtrader go bar by bar."""

    lines = ("slow",)
    _nextforce = True

    def next(self):
        self.lines.slow[0] = self.data.close[0]


class NeedsBars(Actor):
    def __init__(self):
        super().__init__()
        self.slow = Slow(self.data)


class OwnLoop(bt.Cerebro):
    def _brokernotify(self):
        super()._brokernotify()


# --- brokers and commissions of their own


class Fees(bt.CommInfoBase):
    """Only the fee is of its own, so the account can be revalued as Backtrader does."""

    params = (("stocklike", True), ("commtype", bt.CommInfoBase.COMM_PERC), ("percabs", True))

    def _getcommission(self, size, price, pseudoexec):
        return 1 + abs(size) * price * 0.001


class Funding(bt.CommInfoBase):
    """Charges a rate on the position at each bar."""

    params = (("stocklike", False), ("automargin", 0.1), ("commission", 0.0005), ("percabs", True))

    def get_credit_interest(self, data, pos, dt):
        return pos.size * data.close[0] * 1e-4


class OwnBroker(bt.brokers.BackBroker):
    """Charges a fee for every bar with a position."""

    def next(self):
        self.cash -= sum(abs(position.size) for position in self.positions.values())
        super().next()


class OwnOrders(bt.brokers.BackBroker):
    """Takes and reports orders in ways of its own."""

    def buy(self, *args, **kwargs):
        return super().buy(*args, color="green", **kwargs)

    def sell(self, *args, **kwargs):
        return super().sell(*args, color="red", **kwargs)

    def notify(self, order):
        order.addinfo(told=order.info.get("told", 0) + 1)
        super().notify(order)


# --- telling one run from another


def story(bars, setup, fast=True, ledger=True, **mode):
    """Run and return everything that can be seen of it, and which loop it was."""
    cerebro = setup if isinstance(setup, bt.Cerebro) else made(bars, setup, ledger)
    if fast:
        accelerate(cerebro)
    strategies = cerebro.run(**mode)
    return tell(cerebro, strategies), getattr(cerebro, "loop", None)


def made(bars, setup, ledger=True):
    cerebro = OwnLoop(stdstats=False) if setup is own_cerebro else bt.Cerebro(stdstats=False)
    cerebro.broker.setcash(20_000.0)
    cerebro.broker.setcommission(commission=0.001)
    setup(cerebro, bars)
    if ledger:
        cerebro.addanalyzer(Ledger, _name="ledger")
    return cerebro


def tell(cerebro, strategies, ended=True):
    """Return all that can be seen of a run, as text; the repr of a float tells its every bit."""
    seen = {"broker": account(cerebro.broker), "writers": [w.out.getvalue() for w in cerebro.runwriters]}
    seen["feeds"] = [lines_of(feed) for feed in cerebro.datas]
    for number, strategy in enumerate(strategies):
        analyses = {name: analyzer.get_analysis() for name, analyzer in strategy.analyzers.getitems()}
        ledger = analyses.pop("ledger") and tables(strategy.analyzers.ledger) if ended else ()
        parts = {
            "diary": strategy.diary,
            "ledger": ledger or {},
            "analyses": analyses.items(),
            "lines": lines_of(strategy, values=True),
            "indicators": [lines_of(indicator) for indicator in strategy.getindicators()],
            "observers": [lines_of(observer, values=True) for observer in strategy.getobservers()],
        }
        seen |= {f"{part} of strategy {number}": value for part, value in parts.items()}
    return {part: "\n".join(map(repr, value)) for part, value in seen.items()}


def tables(ledger):
    frame = ledger.frame
    return (
        frame.to_csv(),
        frame.attrs,
        frame.select_dtypes(float).to_numpy().tobytes(),
        ledger.trades.to_csv(),
        ledger.orders.to_csv(),
    )


def lines_of(item, values=False):
    lines = item.lines if isinstance(item.lines, list) else item.lines.lines
    places = [(type(line).__name__, line._idx, line.lencount, sorted(vars(line))) for line in lines]
    return (
        type(item).__name__,
        sorted(vars(item)),
        places,
        [list(line.array) for line in lines] if values else len(lines[0].array),
    )


def account(broker):
    own = {name: value for name, value in vars(broker).items() if isinstance(value, int | float)}
    positions = [(type(p).__name__, sorted(vars(p).items(), key=str)) for p in broker.positions.values()]
    return own, positions, len(broker.pending), len(broker.orders)


def check(bars, setup, **mode):
    """The accelerated run tells the same story; return how it ran."""
    fast, loop = story(bars, setup, **mode)
    stock, none = story(bars, setup, fast=False, **mode)
    assert none is None
    assert fast.keys() == stock.keys()
    for part in stock:
        assert fast[part] == stock[part], part
    return loop


# --- kinds of runs

TRADES = [(10 + 12 * i, 0, "market", (3, -2, -4, 3)[i % 4], 0.0) for i in range(12)]
MIXED = [
    (6, 0, "limit", 2, -0.005),
    (8, 0, "stop_limit", 1, 0.004),
    (20, 0, "bracket", 3, 0.02),
    (30, 1, "one_cancels_other", -2, 0.01),
    (40, 0, "trail", -2, 0.01),
    (55, 0, "bracket", -2, 0.03),
    (70, 1, "flatten", 0, 0.0),
    (75, 0, "trail_limit", 2, 0.01),
    (80, 0, "stop_order", 2, 0.01),
    (100, 0, "market", -5, 0.0),
    (120, 0, "trail_percent", 5, 0.015),
]


def one(cerebro, bars, strategy=Actor, script=TRADES, **params):
    cerebro.adddata(BarsFeed(bars))
    cerebro.addstrategy(strategy, script=script, **params)


def trading(action, *, offset=0.01, size=2, **params):
    """A run whose orders are of one kind, on both sides."""

    def setup(cerebro, bars):
        script = [(8 + 9 * i, 0, action, size * (-1) ** (i // 2), offset * (-1) ** i) for i in range(16)]
        one(cerebro, bars, script=script, **params)

    return setup


def with_broker(configure, strategy=Actor, script=MIXED):
    """A run under some setting of the broker."""

    def setup(cerebro, bars):
        one(cerebro, bars, strategy, script)
        configure(cerebro.broker)

    return setup


def with_cerebro(configure, strategy=Actor, **params):
    """A run with something added to Cerebro."""

    def setup(cerebro, bars):
        one(cerebro, bars, strategy, MIXED, **params)
        configure(cerebro)

    return setup


def doing(*script, strategy=Actor):
    """A run in which something is done beside orders."""
    return lambda cerebro, bars: one(cerebro, bars, strategy, [*MIXED, *script])


def quiet(cerebro, bars):
    """Orders only: what Backtrader shows of positions and lines under exactbars and others is its own affair."""
    one(cerebro, bars, Quiet)


def two_feeds(cerebro, bars):
    cerebro.adddata(BarsFeed(bars.resample("4h"), name="slow"))
    one(cerebro, bars, script=MIXED)


def three_feeds_out_of_step(cerebro, bars, strategy=Actor):
    cerebro.adddata(BarsFeed(bars[60:130], name="short"))
    cerebro.adddata(BarsFeed(bars.resample("4h")[3:], name="late"))
    script = [*MIXED, *((70 + i, 2 - i % 3, "limit", 1, 0.001 * i) for i in range(20))]
    one(cerebro, bars, strategy, script)


def curious(cerebro, bars):
    three_feeds_out_of_step(cerebro, bars, Curious)


def contradictory_prices(cerebro, bars):
    """Opens beyond high and low, which a feed that is not of Bars may hold."""
    frame = bars.frame.copy()
    frame.iloc[::3, 0] *= 1.02
    frame.iloc[1::3, 0] *= 0.98
    cerebro.adddata(bt.feeds.PandasData(dataname=frame, timeframe=MINUTES, compression=60))
    script = [
        (8 + 5 * i, 0, ("limit", "stop_order")[i % 2], (-1) ** (i // 2), 0.015 * (-1) ** (i // 4))
        for i in range(28)
    ]
    cerebro.addstrategy(Actor, script=script)


def missing_prices(cerebro, bars):
    """Closes that are missing, with and without a position."""
    frame = bars.frame.copy()
    frame.iloc[5::6, 3] = np.nan
    cerebro.adddata(bt.feeds.PandasData(dataname=frame, timeframe=MINUTES, compression=60))
    cerebro.addstrategy(Quiet, script=[(8 + 10 * i, 0, "market", (-1) ** i, 0) for i in range(12)])


def jumping_prices(cerebro, bars):
    """Bars that lie beyond a waiting order's price as a whole."""
    frame = bars.frame.copy()
    frame.iloc[:, :4] = frame.iloc[:, :4].mul(np.resize([1, 1, 1, 1.04, 1.04, 1.04, 1.04], BARS), axis=0)
    cerebro.adddata(BarsFeed(Bars(frame, bars.market, bars.timeframe)))
    kinds = ("limit", "stop_order", "stop_limit")
    script = [(8 + 3 * i, 0, kinds[i % 3], (-1) ** (i // 3), 0.02 * (-1) ** (i // 2)) for i in range(48)]
    cerebro.addstrategy(Actor, script=script)


class LowTicks(BarsFeed):
    """Shows the broker lower lows than the bars have."""

    def _tick_fill(self, force=False):
        super()._tick_fill(force)
        self.tick_low = self.low[0] * 0.99


def ticks_of_its_own(cerebro, bars):
    cerebro.adddata(LowTicks(bars))
    cerebro.addstrategy(Actor, script=[(8 + 5 * i, 0, "limit", 1, -0.011) for i in range(25)])


def two_schemes(cerebro, bars):
    two_feeds(cerebro, bars)
    cerebro.broker.setcommission(commission=2.0, margin=100.0, mult=5.0, name="slow")


class Zone(tzinfo):
    """Three hours ahead, and picklable."""

    def utcoffset(self, moment):
        return timedelta(hours=3)

    def dst(self, moment):
        return timedelta()

    def tzname(self, moment):
        return "ahead"

    def localize(self, moment):
        return moment.replace(tzinfo=self)


def in_another_timezone(cerebro, bars):
    cerebro.adddata(BarsFeed(bars, tz=Zone()))
    cerebro.addstrategy(Actor, script=MIXED)


def resampled(cerebro, bars):
    feed = BarsFeed(bars)
    cerebro.adddata(feed)
    cerebro.resampledata(feed, timeframe=MINUTES, compression=240, name="slow")
    cerebro.addstrategy(Actor, script=MIXED)


def resampled_by_the_feed(cerebro, bars):
    """Resampled while it is loaded, where Cerebro.resampledata would do it while it runs."""
    slow = BarsFeed(bars, name="slow")
    slow.resample(timeframe=MINUTES, compression=240)
    cerebro.adddata(BarsFeed(bars))
    cerebro.adddata(slow)
    cerebro.addstrategy(Actor, script=MIXED)


def replayed(cerebro, bars):
    cerebro.replaydata(BarsFeed(bars), timeframe=MINUTES, compression=240)
    cerebro.addstrategy(Actor, script=MIXED, period=2)


def pandas_feeds(cerebro, bars):
    cerebro.adddata(BarsFeed(bars))
    cerebro.adddata(bt.feeds.PandasData(dataname=bars.resample("4h").frame, timeframe=MINUTES, compression=240))
    cerebro.addstrategy(Actor, script=MIXED)


def pandas_feed(cerebro, bars):
    cerebro.adddata(bt.feeds.PandasData(dataname=bars.frame, timeframe=MINUTES, compression=60))
    cerebro.addstrategy(Actor, script=MIXED)


def filtered(cerebro, bars):
    feed = BarsFeed(bars)
    feed.addfilter_simple(lambda data: data.close[0] < data.open[0])
    cerebro.adddata(feed)
    cerebro.addstrategy(Actor, script=MIXED)


def revoking(cerebro, bars):
    limits = [(10 + 12 * i, 0, "limit", (-1) ** i, -0.006 * (-1) ** i) for i in range(12)]
    one(cerebro, bars, script=[*limits, *((bar + 2, 0, "revoke", 0, 0) for bar, *_ in limits)])


def in_short_sessions(cerebro, bars):
    """Sessions that end before some of the day's orders and after others."""
    cerebro.adddata(BarsFeed(bars, sessionend=time(13)))
    cerebro.addstrategy(Actor, script=[(8 + 2 * i, 0, "market", (-1) ** i, 0) for i in range(70)])


def two_strategies(cerebro, bars):
    one(cerebro, bars, Listener, MIXED)
    cerebro.addstrategy(Actor, script=TRADES, period=9)


def warm_at_the_last_bar(cerebro, bars):
    one(cerebro, bars, period=BARS - 2)


def own_cerebro(cerebro, bars):
    one(cerebro, bars)


def signals(cerebro, bars):
    cerebro.adddata(BarsFeed(bars))
    cerebro.signal_strategy(Signalled)
    cerebro.add_signal(bt.SIGNAL_LONGSHORT, Signal, period=7)


class Signal(bt.Indicator):
    lines = ("signal",)
    params = (("period", 10),)

    def __init__(self):
        self.lines.signal = self.data - bt.indicators.SMA(period=self.p.period)


class Signalled(bt.SignalStrategy):
    def __init__(self):
        self.diary = []

    def notify_order(self, order):
        self.diary.append((len(self), order.getstatusname(), order.executed.price))


def analyzed(cerebro):
    for analyzer in ("TimeReturn", "DrawDown", "TimeDrawDown", "TradeAnalyzer", "SQN", "SharpeRatio", "PyFolio"):
        cerebro.addanalyzer(getattr(bt.analyzers, analyzer))
    cerebro.addanalyzer(bt.analyzers.TimeReturn, timeframe=DAYS, _name="days")


def observed(cerebro):
    observers = bt.observers
    for observer in (observers.Broker, observers.Trades, observers.DrawDown, observers.TimeReturn):
        cerebro.addobserver(observer)
    cerebro.addobservermulti(observers.BuySell)


def futures(broker):
    broker.setcommission(commission=2.0, margin=100.0, mult=5.0)


FAST = {
    "market": trading("market"),
    "close": trading("at_close"),
    "limit": trading("limit"),
    "stop": trading("stop_order"),
    "stop-limit": trading("stop_limit"),
    "stop-limit nearby": trading("stop_limit", offset=0.003),
    "prices just reached": trading("touch"),
    "prices in contradiction": contradictory_prices,
    "prices that are missing": missing_prices,
    "prices that jump": jumping_prices,
    "stop-trail": trading("trail"),
    "stop-trail percent": trading("trail_percent"),
    "stop-trail limit": trading("trail_limit"),
    "bracket": trading("bracket", offset=0.02, size=3),
    "bracket with a limit entry": trading("bracket", offset=0.02, size=1),
    "OCO": trading("one_cancels_other", offset=0.004),
    "valid for a time": trading("limit", offset=0.01, valid=timedelta(hours=5)),
    "valid until a date": trading("stop_order", offset=0.01, valid=date(2024, 1, 4)),
    "valid for the day": trading("bracket", size=1, valid=timedelta()),
    "margin rejections": trading("market", size=40),
    "shorts": lambda cerebro, bars: one(cerebro, bars, script=[(9, 0, "market", -5, 0), (99, 0, "market", 2, 0)]),
    "warm at the last bar": warm_at_the_last_bar,
    "fixed slippage": with_broker(lambda broker: broker.set_slippage_fixed(0.5)),
    "slippage": with_broker(lambda broker: broker.set_slippage_perc(0.002, slip_match=False)),
    "cheat on close": with_broker(lambda broker: broker.set_coc(True)),
    "volume filler": with_broker(lambda broker: broker.set_filler(bt.fillers.FixedSize(size=1))),
    "unchecked": with_broker(lambda broker: broker.set_checksubmit(False)),
    "cash of whole numbers": with_broker(lambda broker: broker.setcash(20_000)),
    "fund": with_broker(lambda broker: broker.set_fundmode(True), strategy=Listener),
    "fees of a class of their own": with_broker(lambda broker: broker.addcommissioninfo(Fees())),
    "futures": with_broker(futures),
    "leverage": with_broker(lambda broker: broker.setcommission(commission=0.001, leverage=5.0)),
    "one scheme for each feed": two_schemes,
    "two feeds": two_feeds,
    "three feeds out of step": three_feeds_out_of_step,
    "resampled by the feed": resampled_by_the_feed,
    "PandasData": pandas_feed,
    "BarsFeed and PandasData": pandas_feeds,
    "filtered": filtered,
    "short sessions": in_short_sessions,
    "another timezone": in_another_timezone,
    "two strategies": two_strategies,
    "timers": with_cerebro(lambda cerebro: None, Timed),
    "Cerebro's timer": with_cerebro(lambda cerebro: cerebro.add_timer(time(5), strats=True, weekdays=[1, 3])),
    "observers": with_cerebro(observed),
    "analyzers": with_cerebro(analyzed),
    "analyzer in an analyzer": with_cerebro(lambda cerebro: cerebro.addanalyzer(bt.analyzers.SharpeRatio_A)),
    "analyzers and a listener": with_cerebro(analyzed, Listener),
    "writer": with_cerebro(lambda cerebro: cerebro.addwriter(bt.WriterStringIO, csv=True)),
    "sizer": with_cerebro(lambda cerebro: cerebro.addsizer(bt.sizers.PercentSizer, percents=10)),
    "signals": signals,
    "listener": doing(strategy=Listener),
    "indicator with a move of its own": doing(strategy=Counts),
    "orders to the broker itself": doing(strategy=Direct),
    "the broker's methods wrapped on the way": lambda cerebro, bars: one(
        cerebro, bars, Wrapping, MIXED, wraps_at=25
    ),
    "another next": doing(strategy=Switching),
    "a line of the strategy": doing(strategy=WithLine),
    "order changed in place": doing((26, 0, "reprice", 0, 0.01), (60, 0, "reprice", 0, -0.02)),
    "order revoked in place": revoking,
    "order expires in place": doing((26, 0, "expire_soon", 0, 0)),
    "cash added": doing((33, 0, "deposit", 1, 0), (90, 0, "deposit", -3, 0)),
    "cash changed in place": doing(*((3 + 10 * i, 0, "grow", 0, 0) for i in range(15))),
    "commission changed": doing((50, 0, "dearer", 0, 0.004)),
    "multiplier changed": doing((52, 0, "revalue", 3, 0), (84, 0, "revalue", 2, 0)),
    "interest begins": doing((62, 0, "charge_interest", 0, 0.5)),
    "position set in place": doing((2, 0, "inherit", 3, 0), (78, 0, "inherit", -2, 0)),
    "stopped": doing((105, 0, "end", 0, 0)),
}
# Here the loop is fast, but the broker or some of its parts do all of their work at every bar.
FULL_BROKER = {
    "broker of its own": with_cerebro(lambda cerebro: setattr(cerebro, "broker", OwnBroker(cash=20_000.0))),
    "orders of its own": with_cerebro(lambda cerebro: setattr(cerebro, "broker", OwnOrders(cash=20_000.0))),
    "the broker's methods wrapped": doing(strategy=Wrapping),
    "funding": with_broker(lambda broker: broker.addcommissioninfo(Funding())),
    "interest": with_broker(lambda broker: broker.setcommission(interest=0.5, interest_long=True)),
    "short cash": with_broker(lambda broker: broker.set_shortcash(False)),
    "ticks of the feed's own": ticks_of_its_own,
    "order history": with_cerebro(lambda c: c.add_order_history([["2024-01-03T05:00:00", 2, 1400.0]], True)),
}
MODES = {
    "runonce off": ({"runonce": False}, "runonce is off"),
    "preload off": ({"preload": False}, "preload is off"),
    "exactbars": ({"exactbars": 1}, "exactbars is set"),
    "exactbars -1": ({"exactbars": -1}, "exactbars is set"),
    "exactbars -2": ({"exactbars": -2}, "exactbars is set"),
    "old sync": ({"oldsync": True}, "oldsync is set"),
    "old sync next": ({"oldsync": True, "runonce": False}, "oldsync is set"),
    "live": ({"live": True}, "a feed is live"),
}
OWN = {
    "replayed": (replayed, "Cerebro resamples or replays a feed"),
    "resampled": (resampled, "Cerebro resamples or replays a feed"),
    "indicator bar by bar": (doing(strategy=NeedsBars), "an indicator goes bar by bar only"),
    "steps": (doing(strategy=OwnSteps), "a strategy has steps of its own"),
    "Cerebro": (own_cerebro, "Cerebro has a loop of its own"),
}


FAST_MODES = {
    "stdstats": (one, {"stdstats": True}),
    "stdstats with two feeds": (two_feeds, {"stdstats": True}),
    "lookahead": (two_feeds, {"lookahead": 3}),
    "quick notifications": (with_cerebro(analyzed, Listener), {"quicknotify": True}),
    "trade history": (one, {"tradehistory": True}),
    "lookahead of feeds that begin late": (curious, {"lookahead": 3}),
    "cheat on open": (with_cerebro(lambda cerebro: None, Opener), {"cheat_on_open": True}),
    "stopped by a quick notification": (with_cerebro(lambda cerebro: None, QuickEnd), {"quicknotify": True}),
    "stopped at an open": (with_cerebro(lambda cerebro: None, EarlyEnd), {"cheat_on_open": True}),
}


@pytest.mark.parametrize("setup", FAST.values(), ids=FAST)
def test_the_fast_loop_tells_the_same_story(bars, setup):
    loop = check(bars, setup)
    assert (loop["path"], loop["reason"]) == ("fast", None)
    assert 0 < loop["broker_bars"] < 0.9 * BARS, "the broker should have rested at some bars, and worked at others"


@pytest.mark.parametrize(("setup", "mode"), FAST_MODES.values(), ids=FAST_MODES)
def test_so_it_does_under_other_settings(bars, setup, mode):
    assert check(bars, setup, **mode)["path"] == "fast"


@pytest.mark.parametrize("setup", FULL_BROKER.values(), ids=FULL_BROKER)
def test_a_broker_that_is_not_understood_does_all_of_its_work(bars, setup):
    loop = check(bars, setup)
    assert loop["path"] == "fast"
    assert loop["broker_bars"] > 0.7 * BARS


@pytest.mark.parametrize(("mode", "reason"), MODES.values(), ids=MODES)
def test_runs_bar_by_bar_take_the_stock_loop_and_say_why(bars, mode, reason):
    loop = check(bars, quiet, **mode)
    assert loop == {"path": "stock", "reason": reason, "broker_bars": None}


@pytest.mark.parametrize(("setup", "reason"), OWN.values(), ids=OWN)
def test_runs_with_a_loop_of_their_own_take_the_stock_loop_and_say_why(bars, setup, reason):
    assert check(bars, setup) == {"path": "stock", "reason": reason, "broker_bars": None}


def test_another_version_of_backtrader_takes_the_stock_loop(bars, monkeypatch):
    monkeypatch.setattr(bt, "__version__", "1.9.99")
    assert check(bars, one)["reason"] == "Backtrader is not version 1.9.78.123"


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (bt.brokers.BackBroker, "notify"),
        (bt.brokers.BackBroker, "next"),
        (bt.order.OrderBase, "clone"),
        (bt.order.OrderBase, "addinfo"),
        (OrderData, "__init__"),
        (OrderData, "markpending"),
    ],
)
def test_methods_put_on_the_classes_of_backtrader_are_heard(bars, monkeypatch, kind, name):
    method, heard = getattr(kind, name), []

    def patched(self, *args, **kwargs):
        heard.append(type(self).__name__)
        return method(self, *args, **kwargs)

    monkeypatch.setattr(kind, name, patched)
    check(bars, one)
    assert heard[: len(heard) // 2] == heard[len(heard) // 2 :], "as often in the fast run as in the stock run"


def test_every_reason_for_the_stock_loop_has_a_run_above():
    seen = {reason for _, reason in (*MODES.values(), *OWN.values())} | {"Backtrader is not version 1.9.78.123"}
    assert seen == {reason for reason, _ in UNSUPPORTED}


# --- any orders

ACTIONS = (
    *("market", "at_close", "limit", "touch", "stop_order", "stop_limit", "trail", "trail_percent", "trail_limit"),
    *("bracket", "one_cancels_other", "flatten", "cancel_one", "reprice", "expire_soon", "revoke", "deposit"),
    *("dearer", "grow", "inherit"),
)
scripts = st.lists(
    st.tuples(
        st.integers(1, 60),
        st.integers(0, 1),
        st.sampled_from(ACTIONS),
        st.sampled_from([1, -1, 2, -2, 0.1, -0.3, 3, -4, 12, -60]),
        st.sampled_from([0.0, 0.001, -0.001, 0.004, -0.004, 0.01, -0.01, 0.03, -0.05]),
    ),
    max_size=60,
)
commissions = st.sampled_from(
    [
        {"commission": 0.001},
        {"commission": 2.0, "margin": 100.0, "mult": 5.0},
        {"leverage": 4.0},
        {"interest": 0.5},
    ]
)
slippages = st.sampled_from(
    [{}, {"perc": 0.002}, {"fixed": 1.0, "slip_match": False}, {"perc": 0.01, "slip_out": True}]
)


@settings(max_examples=80, deadline=None)
@given(
    scripts,
    commissions,
    slippages,
    st.sampled_from([None, timedelta(hours=4), date(2024, 1, 2)]),
    st.sampled_from([Actor, Listener]),
    st.sampled_from([1, 2]),
    st.sampled_from([{}, {"quicknotify": True}, {"cheat_on_open": True}, {"stdstats": True}, {"runonce": False}]),
)
def test_any_orders_end_the_same(bars, script, commission, slippage, valid, strategy, feeds, mode):
    def setup(cerebro, bars):
        one(cerebro, bars, strategy, script, valid=valid)
        if feeds == 2:
            cerebro.adddata(BarsFeed(bars.resample("4h"), name="slow"))
        broker = cerebro.broker
        broker.setcommission(**commission)
        if slippage:
            (broker.set_slippage_fixed if "fixed" in slippage else broker.set_slippage_perc)(**slippage)

    assert check(bars[:70], setup, **mode)["path"] == ("stock" if "runonce" in mode else "fast")


# --- around a run


def test_a_second_run_tells_the_same_story_again(bars):
    cerebro = made(bars, two_feeds)
    first, loop = story(bars, cerebro)
    second, _ = story(bars, cerebro)
    third, slow_loop = story(bars, cerebro, runonce=False)
    fourth, _ = story(bars, cerebro, runonce=True)
    stock, _ = story(bars, made(bars, two_feeds), fast=False)
    stepped, _ = story(bars, made(bars, two_feeds), fast=False, runonce=False)
    assert first == second == stock
    assert fourth | {"feeds": first["feeds"]} == first  # those that were stepped through keep another attribute
    assert third == stepped
    assert (loop["path"], slow_loop["path"]) == ("fast", "stock")


def optimized(bars, fast, **settings):
    cerebro = bt.Cerebro(stdstats=False, **settings)
    cerebro.adddata(BarsFeed(bars))
    cerebro.optstrategy(Actor, script=[TRADES, MIXED], period=[4, 12])
    cerebro.addanalyzer(Ledger, _name="ledger")
    if fast:
        accelerate(cerebro)
    ledgers = [run.analyzers.ledger for (run,) in cerebro.run()]
    return [tables(ledger) for ledger in ledgers], [ledger.loop for ledger in ledgers]


@pytest.mark.parametrize(
    "settings",
    [{"maxcpus": 2}, {"maxcpus": 2, "optdatas": False}, {"maxcpus": 1}],
    ids=["two", "two, no optdatas", "one"],
)
def test_optimizing_in_processes_takes_the_fast_loop(bars, settings):
    fast, loops = optimized(bars, True, **settings)
    stock, no_loops = optimized(bars, False, **settings)
    assert fast == stock
    assert len({str(table) for table in fast}) == 2
    assert [loop["path"] for loop in loops] == ["fast"] * 4
    assert [loop["path"] for loop in no_loops] == ["stock"] * 4
    assert no_loops[0]["reason"] == "accelerate was not called"


class Fails(Actor):
    def next(self):
        super().next()
        if len(self) == 50:
            raise ZeroDivisionError


def test_nothing_is_left_behind_even_by_a_strategy_that_fails(bars):
    kinds = (
        bt.Cerebro,
        bt.Strategy,
        bt.brokers.BackBroker,
        bt.LineBuffer,
        bt.Position,
        bt.Indicator,
        BarsFeed,
        Fails,
    )
    before = [dict(vars(kind)) for kind in kinds]
    seen = []
    for fast in (True, False):
        cerebro = made(bars, doing(strategy=Fails))
        if fast:
            accelerate(cerebro)
        with pytest.raises(ZeroDivisionError):
            cerebro.run()
        seen.append(tell(cerebro, cerebro.runningstrats, ended=False))
    assert seen[0] == seen[1]
    assert [dict(vars(kind)) for kind in kinds] == before


class Collects(bt.Strategy):
    """Sees how often Python looks for garbage, and may ask for something else."""

    params = (("then", None),)

    def next(self):
        if len(self) == 3:
            self.seen = gc.get_threshold()
            if self.p.then:
                gc.set_threshold(*self.p.then)


@pytest.fixture
def collecting():
    before = gc.get_threshold()
    yield gc.set_threshold
    gc.enable()
    gc.set_threshold(*before)


@pytest.mark.parametrize(
    ("before", "during"),
    [
        ((700, 10, 10), (100_000, 20, 100)),
        ((700, 10, 500), (100_000, 20, 500)),
        ((10**6, 30, 200), (10**6, 30, 200)),
        ((0, 10, 10), (0, 10, 10)),
    ],
    ids=["Python's", "one is higher", "all are higher", "off"],
)
def test_garbage_is_looked_for_less_often_never_more_during_a_run(bars, collecting, before, during):
    collecting(*before)
    assert collected(bars) == during
    assert gc.get_threshold() == before


def test_a_strategy_that_sets_how_often_garbage_is_looked_for_is_heard(bars, collecting):
    collecting(700, 10, 10)
    collected(bars, then=(900, 10, 10))
    assert gc.get_threshold() == (900, 10, 10)


def test_who_has_switched_the_look_for_garbage_off_sees_no_change(bars, collecting):
    collecting(700, 10, 10)
    gc.disable()
    assert collected(bars) == (700, 10, 10)
    assert not gc.isenabled()


def collected(bars, **params):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars[:9]))
    cerebro.addstrategy(Collects, **params)
    accelerate(cerebro)
    return cerebro.run()[0].seen


class Rewinds(bt.Strategy):
    def next(self):
        if len(self) == 5:
            self.data.rewind()


def test_a_line_that_is_moved_by_hand_is_refused(bars):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars))
    cerebro.addstrategy(Rewinds)
    accelerate(cerebro)
    with pytest.raises(StrategyError, match="moved by hand, which accelerate does not support"):
        cerebro.run()


def test_only_a_cerebro_is_accelerated():
    with pytest.raises(ConfigError, match="accelerate cannot work on Strategy: pass it the Cerebro"):
        accelerate(object.__new__(bt.Strategy))
