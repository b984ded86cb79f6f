"""Without costs PerpBroker is Backtrader's own broker, fill by fill and value by value, where that one is right.

It is wrong in three things, each shown here: the stop and target of a bracket do nothing on the bar of the
entry; limits and stops on a slow data fill on its last bar, over by then, as soon as a faster data moves; and a
reversal of fractional size leaves an order open for what floats lose. Besides, it fills in the order of
submission what one bar reaches, and PerpBroker first what its open reaches: the same fills at the same prices.
"""

import backtrader as bt
import numpy as np
import pytest

from hissbt.bars import Bars
from hissbt.feeds import BarsFeed, load_bars
from hissbt.loop import accelerate
from hissbt.market import Market
from hissbt.trading.broker import PerpBroker

Order = bt.Order
FREE = {"taker": 0.0, "maker": 0.0, "maintenance": 0.0}
CASH = 1_000_000.0
MODES = {
    "runonce": {},
    "next": {"runonce": False},
    "not preloaded": {"runonce": False, "preload": False},
    "exactbars": {"exactbars": 1},
}


class Diary(bt.Strategy):
    """Notes every fill, and at each bar the account."""

    def __init__(self):
        self.fills, self.account = [], []

    def next(self):
        sizes = [self.getposition(data).size for data in self.datas]
        self.account.append((len(self), self.broker.getvalue(), *sizes))
        self.decide()

    def notify_order(self, order):
        done = order.executed.iterpending()
        self.fills += [(len(self), order.data._name, bit.size, bit.price, bit.dt) for bit in done]


class SmaCross(Diary):
    """Long above, short below, as anyone writes it."""

    params = (("fast", 5), ("slow", 20), ("size", 10))

    def __init__(self):
        super().__init__()
        averages = [bt.indicators.SMA(self.data, period=period) for period in (self.p.fast, self.p.slow)]
        self.cross = bt.indicators.CrossOver(*averages)

    def decide(self):
        if self.cross[0]:
            self.close()
            (self.buy if self.cross[0] > 0 else self.sell)(size=self.p.size)


class Trader(Diary):
    """Places one thing after the other: the kinds in turn, sides and distances by a seeded generator."""

    params = (("kinds", ()), ("every", 3), ("seed", 1), ("most", 30))

    def __init__(self):
        super().__init__()
        self.rng = np.random.default_rng(self.p.seed)

    def decide(self):
        if len(self) % self.p.every:
            return
        for data in self.datas:
            if len(data):
                kind = self.p.kinds[len(self) // self.p.every % len(self.p.kinds)]
                getattr(self, kind)(data, int(self.rng.choice([1, -1])), data.close[0])

    def place(self, data, side, size=None, **kwargs):
        size = size or int(self.rng.integers(1, self.p.most))
        return (self.buy if side > 0 else self.sell)(data=data, size=size, **kwargs)

    def away(self):
        return abs(self.rng.normal(0, 0.01))

    def market(self, data, side, price):
        self.place(data, side)

    def limit(self, data, side, price):
        self.place(data, side, exectype=Order.Limit, price=price * (1 - side * self.away()))

    def marketable_limit(self, data, side, price):
        self.place(data, side, exectype=Order.Limit, price=price * (1 + side * self.away()))

    def stop_order(self, data, side, price):
        self.place(data, side, exectype=Order.Stop, price=price * (1 + side * self.away()))

    def stop_limit(self, data, side, price):
        trigger = price * (1 + side * self.away())
        self.place(data, side, exectype=Order.StopLimit, price=trigger, plimit=trigger * (1 + side * 0.002))

    def trail(self, data, side, price):
        self.place(data, side, exectype=Order.StopTrail, trailamount=price * self.away())

    def trail_percent(self, data, side, price):
        self.place(data, side, exectype=Order.StopTrail, trailpercent=self.away())

    def trail_limit(self, data, side, price):
        amount = price * self.away()
        limit = price + side * 2 * amount
        self.place(data, side, exectype=Order.StopTrailLimit, price=price, plimit=limit, trailamount=amount)

    def at_close(self, data, side, price):
        self.place(data, side, exectype=Order.Close)

    def one_cancels_other(self, data, side, price):
        stop = self.place(data, side, exectype=Order.Stop, price=price * (1 + side * 0.01))
        self.place(data, side, exectype=Order.Limit, price=price * (1 - side * 0.01), oco=stop)

    def expiring(self, data, side, price):
        until = data.datetime.datetime() + 2 * data.bars.timeframe.to_pytimedelta()
        self.place(data, side, exectype=Order.Limit, price=price * (1 - side * 0.01), valid=until)

    def part(self, data, side, price):
        size = self.getposition(data).size
        if size:
            self.place(data, -np.sign(size), size=abs(size) / 3)

    def flip(self, data, side, price):
        size = self.getposition(data).size
        self.place(data, -np.sign(size) or side, size=abs(size) + 5)

    def leave(self, data, side, price):
        self.close(data=data)

    def forget(self, data, side, price):
        for order in list(self.broker.pending):
            self.cancel(order)

    def percent(self, data, side, price):
        self.order_target_percent(data=data, target=side * self.rng.uniform(0, 0.2))

    def percent_long(self, data, side, price):
        self.order_target_percent(data=data, target=self.rng.uniform(0, 0.2))

    def target(self, data, side, price):
        self.order_target_size(data=data, target=side * 2)


class Fractional(bt.CommInfoBase):
    """Backtrader's scheme for stocks, but for sizes that are not cut to whole numbers."""

    params = (("stocklike", True), ("commtype", bt.CommInfoBase.COMM_PERC))

    def getsize(self, price, cash):
        return self.p.leverage * cash / price


def run(broker, datas, strategy, *, quick=False, mode=None, **params):
    cerebro = bt.Cerebro(stdstats=False, **(mode or {}))
    for bars in datas:
        cerebro.adddata(BarsFeed(bars))
    cerebro.broker = broker
    cerebro.addstrategy(strategy, **params)
    if quick:
        accelerate(cerebro)
    (ran,) = cerebro.run()
    assert not quick or mode or cerebro.loop["path"] == "fast"
    return ran


def stock(*, whole=False):
    """Return Backtrader's broker, with sizes by percent that are whole or not."""
    broker = bt.brokers.BackBroker(cash=CASH)
    if not whole:
        broker.addcommissioninfo(Fractional())
    return broker


def ours(*, whole=False):
    market = Market("whole", quantity_step=1) if whole else None
    return PerpBroker(cash=CASH, market=market, **FREE)


def assert_same(datas, strategy, *, least, whole=False, **params):
    """Both brokers agree to the last bit, however the loop runs, on at least so many fills."""
    theirs = run(stock(whole=whole), datas, strategy, **params)
    assert len(theirs.fills) >= least
    for name, mode in MODES.items():
        for quick in (False, True) if name == "runonce" else (False,):
            own = run(ours(whole=whole), datas, strategy, quick=quick, mode=mode, **params)
            assert sorted(own.fills) == sorted(theirs.fills), name
            if own.fills == theirs.fills:
                assert own.account == theirs.account, name
            else:  # what one bar fills is added up in another order
                assert_nearly(own.account, theirs.account)


def assert_nearly(own, theirs):
    for ours_now, theirs_now in zip(own, theirs, strict=True):
        assert ours_now == pytest.approx(theirs_now, rel=1e-13, abs=1e-13)


@pytest.fixture(scope="module")
def index():
    return load_bars("sp500")


@pytest.fixture(scope="module")
def hours(market_data):
    return load_bars(market_data / "bybit_linear_BTCUSDT_1h.csv.gz", since="2022-01-01", until="2022-03-01")


def test_a_moving_average_cross_on_twenty_years_of_days(index):
    assert_same([index[:2500]], SmaCross, least=200)


def test_a_moving_average_cross_on_bitcoin_hours(hours):
    assert_same([hours], SmaCross, size=0.5, least=100)


@pytest.mark.parametrize(
    "kinds",
    [
        "market",
        "limit",
        "marketable_limit",
        "stop_order",
        "stop_limit",
        "trail",
        "trail_percent",
        "trail_limit",
        "at_close",
        "one_cancels_other",
        "expiring",
        "percent_long",
        "target",
        "market part",
        "market flip",
        "market part flip leave",
        "limit leave stop_order leave trail forget",
        "market limit stop_order trail forget part one_cancels_other leave forget target flip stop_limit",
    ],
)
def test_every_kind_of_order(index, kinds):
    assert_same([index[2000:2400]], Trader, kinds=tuple(kinds.split()), least=20)


def test_every_kind_of_order_on_bitcoin_hours(hours):
    kinds = ("market", "limit", "stop_order", "trail", "leave", "forget", "target", "one_cancels_other", "part")
    assert_same([hours[:600]], Trader, kinds=kinds, most=3, least=50)


def test_targets_in_percent_on_both_sides_in_whole_sizes(index):
    assert_same([index[2000:2400]], Trader, kinds=("percent",), least=100, whole=True)


def test_a_fractional_reversal_leaves_nothing_open(index):
    theirs, own = (run(broker, [index[2000:2400]], Trader, kinds=("percent",)) for broker in (stock(), ours()))
    lost = [fill for fill in theirs.fills if abs(fill[2]) < 1e-9]
    assert lost
    assert not [fill for fill in own.fills if abs(fill[2]) < 1e-9]
    assert len(own.fills) == len(theirs.fills) - len(lost)
    values = [[row[1] for row in ran.account] for ran in (own, theirs)]
    assert values[0] == pytest.approx(values[1], rel=1e-12)


def test_several_markets(index):
    days = index[2000:2300]
    other = Bars(days.frame * 0.1, Market("other"), days.timeframe)
    third = Bars(days.frame[40:] * 0.3, Market("third"), days.timeframe)  # begins later
    kinds = ("market", "limit", "stop_order", "leave", "forget", "flip")
    assert_same([days, other, third], Trader, kinds=kinds, least=100)


def test_several_timeframes(index):
    days = index[2000:2300]
    weeks = Bars(days.resample("7d").frame, Market("weeks"), "7d")
    assert_same([days, weeks], Trader, kinds=("market", "leave", "flip", "market"), least=100)


class Reacher(Diary):
    """Places on the slow data, once, a limit at a price that its bar reached before: too late."""

    def decide(self):
        slow = self.datas[1]
        if len(slow) == 2 and not hasattr(self, "placed"):
            self.placed = self.buy(data=slow, size=1, exectype=Order.Limit, price=slow.low[0])


def test_a_bar_that_is_over_fills_nothing(index):
    """Backtrader's own broker buys the past week's low."""
    days = index[2000:2040]
    weeks = Bars(days.resample("7d").frame, Market("weeks"), "7d")
    theirs, own = (run(broker, [days, weeks], Reacher).fills for broker in (stock(), ours()))
    low, over = weeks.frame["low"].iloc[1], weeks.frame.index[1]
    assert theirs[0][3:] == (low, bt.date2num(over.tz_localize(None)))
    assert all(fill[4] > bt.date2num(over.tz_localize(None)) for fill in own)


# --- brackets


class Brackets(Diary):
    """A bracket every twelve bars, all of it cancelled and closed after ten: what one does changes no other."""

    params = (("width", 0.02),)

    def decide(self):
        phase, side = len(self) % 12, 1 if len(self) % 24 < 12 else -1
        price, width = self.data.close[0], side * self.p.width
        if phase == 1:
            place = self.buy_bracket if side > 0 else self.sell_bracket
            place(size=10, exectype=Order.Market, stopprice=price * (1 - width), limitprice=price * (1 + width))
        elif phase == 11:
            for order in list(self.broker.pending):
                self.cancel(order)
            self.close()

    def trades(self):
        """Return by number of the bracket its fills: (bar, size, price)."""
        trades = {}
        for bar, _, size, price, _ in self.fills:
            trades.setdefault((bar - 1) // 12, []).append((bar, size, price))
        return trades


@pytest.mark.parametrize("source", ["index", "hours"])
def test_brackets_differ_only_where_the_entry_bar_reaches_the_stop_or_the_target(source, request):
    bars = request.getfixturevalue(source)[:1400]
    theirs = run(stock(), [bars], Brackets).trades()
    broker = ours()
    own = run(broker, [bars], Brackets).trades()
    opens, highs, lows, closes = bars.frame[["open", "high", "low", "close"]].to_numpy().T
    same = stopped = aimed = 0
    assert own.keys() == theirs.keys()
    for number, trade in own.items():
        bar, size, _ = trade[0]
        assert trade[0] == theirs[number][0]
        side, decided, entry = np.sign(size), closes[bar - 2], bar - 1  # rows of the decision and of the entry bar
        stop, target = decided * (1 - side * 0.02), decided * (1 + side * 0.02)
        worst, best = (lows[entry], highs[entry]) if side > 0 else (highs[entry], lows[entry])
        if side * worst <= side * stop:  # on the entry bar the stop comes first, whatever else is reached
            # An open beyond the stop is a stop gapped through: it fills at once, at that open.
            at = opens[entry] if side * opens[entry] <= side * stop else stop
            assert trade[1] == (bar, -size, pytest.approx(at, rel=1e-12))
            stopped += 1
        elif side * best >= side * target:
            at = opens[entry] if side * opens[entry] >= side * target else target
            assert trade[1] == (bar, -size, pytest.approx(at, rel=1e-12))
            aimed += 1
        else:
            assert trade == theirs[number]
            same += 1
        if side * worst <= side * stop or side * best >= side * target:
            assert theirs[number][1][0] > bar  # Backtrader's own leaves it for a later bar
    assert same > 50
    assert stopped > 0
    assert broker.counts["entry_bar_stop"] == stopped
