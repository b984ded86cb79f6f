"""accelerate lets PerpBroker rest, and every table of the run stays the same, byte for byte."""

import backtrader as bt
import pytest
from accounts import bars_of, hourly_funding
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import WildTrader, broker_of, case

from hissbt.feeds import BarsFeed
from hissbt.loop import accelerate
from hissbt.reports.ledger import Ledger
from hissbt.trading.broker import PerpBroker
from hissbt.trading.guards import DrawdownGuard, ExposureGuard

GUARDS = ((), (), (DrawdownGuard(0.1),), (ExposureGuard(0.8),))


def story(datas, broker, strategy, fast, **params):
    """Return all that a run leaves behind, as text, and how its loop ran."""
    cerebro = bt.Cerebro(stdstats=False)
    for bars in datas:
        cerebro.adddata(BarsFeed(bars))
    cerebro.broker = broker
    cerebro.addstrategy(strategy, **params)
    cerebro.addanalyzer(Ledger, _name="ledger")
    if fast:
        accelerate(cerebro)
    (ran,) = cerebro.run()
    assert type(broker) is PerpBroker
    ledger = ran.analyzers.ledger
    own = {name: value for name, value in vars(broker).items() if isinstance(value, int | float)}
    told = {
        "frame": ledger.frame.to_csv() + str(ledger.frame.select_dtypes(float).to_numpy().tobytes()),
        "trades": ledger.trades.to_csv(),
        "orders": ledger.orders.to_csv(),
        "journal": [fields(row) for row in broker.journal],
        "statuses": [(o.status, o.executed.dt, o.executed.size, o.executed.price) for o in broker.orders],
        "account": (own, broker.getcash(), broker.getvalue(), dict(broker.counts), str(broker.coverage)),
        "guards": broker.guards and broker.guards.record,
    }
    return {name: repr(value) for name, value in told.items()}, ledger.loop


def fields(row):
    names = [name for name in type(row).__slots__ if name not in ("owner", "data")]
    return row.data._name, [getattr(row, name) for name in names]


def check(datas, make_broker, strategy, **params):
    """The accelerated run tells the same story; return how it ran."""
    fast, loop = story(datas, make_broker(), strategy, True, **params)
    stock, _ = story(datas, make_broker(), strategy, False, **params)
    for part in stock:
        assert fast[part] == stock[part], part
    assert loop["path"] == "fast"
    return loop


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.03, 0.1, 0.4]), st.sampled_from(GUARDS))
def test_any_account_ends_the_same(seed, activity, guards):
    drawn = case(seed)
    rules = drawn.settings | {"guards": guards}
    params = {"seed": seed, "activity": activity, "leverage": rules["leverage"]}
    check(drawn.datas, lambda: broker_of(rules), WildTrader, **params)


class Holder(bt.Strategy):
    """Buys at the third bar, with a stop and a target where wanted, and looks at the account at each bar."""

    params = (("stop", None), ("target", None))

    def next(self):
        self.broker.getvalue(), self.broker.getcash()
        if len(self) == 3 and self.p.stop:
            self.buy_bracket(size=10, exectype=bt.Order.Market, stopprice=self.p.stop, limitprice=self.p.target)
        elif len(self) == 3:
            self.buy(size=10)


CALM = [(100, 101, 99, 100)] * 200
FALLS = [*[(100, 101, 99, 100)] * 150, (100, 100, 60, 61), *[(61, 62, 60, 61)] * 49]
HOURLY = hourly_funding(dict.fromkeys(range(0, 200, 8), 0.0001))
RUNS = {
    "flat again": (CALM, {}, {"stop": 1.0, "target": 0.5}),
    "a position": (CALM, {}, {}),
    "a bracket that waits": (CALM, {}, {"stop": 50.0, "target": 200.0}),
    "impact": (CALM, {"half_spread": 0.001, "impact": 1.0}, {"stop": 50.0, "target": 200.0}),
    "a stop after long": (FALLS, {"impact": 1.0}, {"stop": 90.0, "target": 200.0}),
    "a liquidation after long": (FALLS, {"leverage": 5.0}, {}),
    "inverse": (CALM, {"contract": "inverse"}, {}),
}


@pytest.mark.parametrize(("rows", "rules", "params"), RUNS.values(), ids=RUNS)
def test_the_broker_works_only_where_something_happens(rows, rules, params):
    loop = check([bars_of(rows)], lambda: PerpBroker(cash=10_000.0, **rules), Holder, **params)
    assert loop["broker_bars"] <= 10


def test_it_works_at_each_funding_event_while_something_is_held():
    eight_hourly = HOURLY.times.hour % 8 == 0
    funding = type(HOURLY)("X", HOURLY.times[eight_hourly], HOURLY.rates[eight_hourly])
    loop = check([bars_of(CALM)], lambda: PerpBroker(cash=10_000.0, funding=funding), Holder)
    assert 25 <= loop["broker_bars"] <= 35


@pytest.mark.parametrize("rules", [{"guards": [DrawdownGuard()]}, {"mark": bars_of(CALM)}], ids=["guards", "mark"])
def test_it_works_at_each_bar_that_must_be_looked_at(rules):
    loop = check([bars_of(CALM)], lambda: PerpBroker(cash=10_000.0, **rules), Holder)
    assert loop["broker_bars"] >= 195
