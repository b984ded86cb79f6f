"""What the guards of a PerpBroker promise, on paths made to break it: checked at every close, guard by guard.

Each rule is stated here anew, without the guards' code, and is broken on the same paths when its guard is off.
"""

import math
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise

import backtrader as bt
import pandas as pd
import pytest
from accounts import Scripted, bars_of
from paths import case, run
from scripted_forecast import ScriptedForecast

from hissbt.errors import ConfigError
from hissbt.feeds import BarsFeed
from hissbt.reports.ledger import Ledger
from hissbt.strategies.hiss import HiSSStrategy
from hissbt.trading.broker import PerpBroker
from hissbt.trading.guards import DailyLossGuard, DrawdownGuard, ExposureGuard, ModelFaultGuard, StaleDataGuard
from hissbt.trading.journal import Fill

SEEDS = range(0, 1000, 8)
AT_ONCE = {"volume_limit": None, "latency_bars": 0}  # the next open is the next tradable price
CLOSE_ENOUGH = 1e-9


@dataclass(frozen=True)
class Close:
    """The account at the close of a bar, after the strategy's decision; positions by data."""

    time: float
    equity: float
    exposure: float
    positions: dict
    prices: dict
    waiting: list


class Watch(bt.Analyzer):
    """Notes every close."""

    def start(self):
        self.closes = []

    def next(self):
        self.note()

    def prenext(self):
        self.note()

    def note(self):
        broker = self.strategy.broker
        datas = [data for data in self.datas if len(data)]
        positions = {data: broker.getposition(data).size for data in datas}
        prices = {data: abs(broker.getcommissioninfo(data).book_price(data.close[0])) for data in datas}
        notional = sum(abs(positions[data]) * prices[data] for data in datas)
        equity = broker.getvalue()
        exposure = 0.0 if not notional else notional / equity if equity > 0 else math.inf
        waiting = [*broker.pending, *broker.submitted]
        now = max(data.datetime[0] for data in datas)
        self.closes.append(Close(now, equity, exposure, positions, prices, waiting))


def watched(seed, *guards, markets=1, **settings):
    """Return the closes of a case, its fills by the close of their bar, and its broker."""
    tried = case(seed, markets=markets)
    strategy, broker = run(tried, analyzers={"watch": Watch}, guards=guards, **settings)
    fills = defaultdict(list)
    for row in broker.journal:
        if isinstance(row, Fill):
            fills[row.dt].append(row)
    return strategy.analyzers.watch.closes, fills, broker


def held_after_the_open(before, fills):
    """Return what was held of each data when the fills at an open were through, entries not counted."""
    held = dict(before.positions)
    for fill in fills:
        size = held.get(fill.data, 0.0)
        if fill.at == "open" and fill.size * size < 0:
            held[fill.data] = 0.0 if abs(fill.size) >= abs(size) else size + fill.size
    return held


def is_dust(size, before):
    return abs(size) <= 1e-9 * max(1.0, abs(before))


# --- rules, each as the closes at which nothing may be held any more from the next tradable price on


def drawn_down(closes, limit):
    peak, over, out = 0.0, False, []
    for close in closes:
        peak = max(peak, close.equity)
        over = over or close.equity <= peak * (1 - limit)
        out.append(over)
    return out


def lost_today(closes, limit):
    """A day is what closes after its midnight up to the next one."""
    out, day, start, tripped = [], None, closes[0].equity, False
    for number, close in enumerate(closes):
        its_day = math.ceil(round(close.time * 86_400) / 86_400)
        if its_day != day:
            start, tripped, day = closes[max(number - 1, 0)].equity, False, its_day
        tripped = tripped or close.equity <= start * (1 - limit)
        out.append(tripped)
    return out


def stale(closes, most, resume_after):
    length = min(after.time - before.time for before, after in pairwise(closes))
    out, whole = [], resume_after
    for number, close in enumerate(closes):
        step = close.time - closes[number - 1].time if number else length
        whole = 0 if round(step / length) - 1 > most else whole + 1
        out.append(whole < resume_after)
    return out


FLAT_RULES = {
    "drawdown": (DrawdownGuard, (0.2,), drawn_down),
    "daily_loss": (DailyLossGuard, (0.04,), lost_today),
    "stale_data": (StaleDataGuard, (0, 4), stale),
}


def breaches(closes, fills, must_be_flat):
    """Return the closes at which something was held though the close before said flat."""
    return [
        number
        for number, (before, now) in enumerate(pairwise(closes))
        if must_be_flat[number]
        and any(not is_dust(size, before.positions.get(data, 0.0)) for data, size in now.positions.items())
    ]


@pytest.mark.parametrize("name", FLAT_RULES)
def test_flat_from_the_next_open_on_and_no_entry_while_the_guard_is_in_force(name):
    guard, params, rule = FLAT_RULES[name]
    forced = exits = refused = 0
    for seed in SEEDS:
        closes, fills, broker = watched(seed, guard(*params), **AT_ONCE)
        must_be_flat = rule(closes, *params)
        assert breaches(closes, fills, must_be_flat) == [], f"seed {seed}"
        for close, after, flat in zip(closes, closes[1:], must_be_flat, strict=False):
            if not flat:
                continue
            forced += 1
            held = held_after_the_open(close, fills[after.time])
            assert all(is_dust(size, close.positions[data]) for data, size in held.items()), f"seed {seed}"
            assert not [fill for fill in fills[after.time] if fill.at != "open"], f"seed {seed}"
            exits += any(fill.reason == name for fill in fills[after.time])
            grows = [order for order in close.waiting if order.size * close.positions[order.data] >= 0]
            assert grows == [], f"seed {seed}: an order that would enlarge waits"
        assert check_record(name, broker, closes, must_be_flat), f"seed {seed}"
        refused += broker.counts["refused_by_guard"]
    assert forced > 50
    assert exits > 10
    assert refused > 10


def check_record(name, broker, closes, must_be_flat):
    """The guard's record begins and ends where the rule does."""
    starts = [
        c.time
        for c, flat, before in zip(closes, must_be_flat, [False, *must_be_flat], strict=False)
        if flat and not before
    ]
    ends = [
        c.time
        for c, flat, before in zip(closes, must_be_flat, [False, *must_be_flat], strict=False)
        if before and not flat
    ]
    rows = [row for row in broker.guards.record if row["name"] == name]
    # A day that begins as the last one ended may join two rows: what counts is that each second is covered.
    covered = [
        any(row["since"] <= c.time and (row["until"] is None or c.time < row["until"]) for row in rows)
        for c in closes
    ]
    return covered == must_be_flat and len(rows) <= len(starts) and bool(ends) <= bool(rows)


@pytest.mark.parametrize("name", FLAT_RULES)
def test_the_rule_is_broken_where_the_guard_is_off(name):
    _, params, rule = FLAT_RULES[name]
    broken = 0
    for seed in SEEDS[::4]:
        closes, fills, _ = watched(seed, **AT_ONCE)
        broken += bool(breaches(closes, fills, rule(closes, *params)))
    assert broken >= 5


@pytest.mark.parametrize("name", FLAT_RULES)
def test_where_volume_is_scarce_and_orders_late_all_that_can_be_sold_is(name):
    """Nothing grows any more, and from the first bar that an order can reach each bar takes what it can take."""
    guard, params, rule = FLAT_RULES[name]
    waited = sold = 0
    for seed in SEEDS:
        latency = seed % 3
        closes, _, broker = watched(seed, guard(*params), volume_limit=0.1, latency_bars=latency)
        must_be_flat = rule(closes, *params)
        frame = case(seed, markets=1).datas[0].frame
        for number in range(len(closes) - 1):
            before, now = closes[number], closes[number + 1]
            (size,), (left,) = before.positions.values(), now.positions.values()
            if not must_be_flat[number]:
                continue
            assert abs(left) <= abs(size) + 1e-12 * abs(size), f"seed {seed}: a position grew"
            assert left * size >= 0
            # In force for longer than an order is on its way: the closing order has arrived.
            if all(must_be_flat[max(0, number - latency) : number + 1]) and number >= latency:
                can = 0.1 * frame["volume"].iloc[number + 1]
                if broker.p.contract == "inverse":  # whose volume is in coins
                    can *= frame["open"].iloc[number + 1]
                if broker.p.market is not None:
                    can = max(0.0, can - broker.p.market.quantity_step)
                assert abs(left) <= max(0.0, abs(size) - can) + 1e-9 * abs(size), f"seed {seed}, bar {number}"
                waited += can == 0 and size != 0
                sold += abs(left) < abs(size)
    assert waited > 0
    assert sold > 10


def test_a_breach_by_a_gap_is_recorded_with_its_overshoot():
    """Down 30 % from one bar to the next against a limit of 10 %: out at the next open, 20 % beyond."""
    rows = [(100,) * 4, (100,) * 4, (70,) * 4, (60,) * 4, (80,) * 4]
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars_of(rows)))
    cerebro.broker = PerpBroker(cash=100.0, taker=0.0, guards=[DrawdownGuard(0.1)])
    cerebro.addstrategy(Scripted, script={1: lambda s: s.buy(size=1), 4: lambda s: s.buy(size=1)})
    (strategy,) = cerebro.run()
    assert strategy.sizes == [0, 1, 1, 0, 0]
    assert strategy.values == [100, 100, 70, 60, 60]
    (row,) = cerebro.broker.guards.record
    assert (row["name"], row["until"]) == ("drawdown", None)
    assert row["overshoot"] == pytest.approx(0.4 - 0.1)  # at worst, after the open at which it could get out
    assert cerebro.broker.counts["refused_by_guard"] == 1
    assert (5, "Rejected") in strategy.statuses


# --- a cap


def over_the_cap(closes, fills, cap):
    """Return the closes over the cap after which the next open did not bring the account back under it."""
    out = []
    for number, (before, now) in enumerate(pairwise(closes)):
        if before.exposure <= cap * (1 + CLOSE_ENOUGH):
            continue
        held = held_after_the_open(before, fills[now.time])
        notional = sum(abs(size) * before.prices[data] for data, size in held.items())
        if notional > cap * max(before.equity, 0.0) * (1 + CLOSE_ENOUGH) + 1e-12:
            out.append(number)
    return out


@pytest.mark.parametrize(("cap", "markets"), [(0.5, 1), (3.0, 1), (1.0, 2)])
def test_what_exceeds_the_cap_at_a_close_is_trimmed_at_the_next_open(cap, markets):
    over = trimmed = refused = broken = 0
    for seed in SEEDS if markets == 1 else SEEDS[::3]:
        closes, fills, broker = watched(seed, ExposureGuard(cap), markets=markets, **AT_ONCE)
        if markets == 1 or all(len(bars.gaps) == 0 for bars in case(seed, markets=markets).datas):
            assert over_the_cap(closes, fills, cap) == [], f"seed {seed}"
        over += sum(close.exposure > cap * (1 + CLOSE_ENOUGH) for close in closes)
        trims = [fill for rows in fills.values() for fill in rows if fill.reason in ("exposure", "trim")]
        trimmed += len(trims)
        refused += broker.counts["refused_by_guard"]
        worst = max((row["worst"] for row in broker.guards.record), default=0.0)
        assert worst >= max((c.exposure for c in closes if cap * 1.001 < c.exposure < 1e6), default=0.0) * 0.999999
        if seed % 32 == 0:
            broken += bool(over_the_cap(*watched(seed, markets=markets, **AT_ONCE)[:2], cap))
    assert over > 10
    assert trimmed > 5
    assert refused > 10
    assert broken > 0  # without the guard


def test_a_trim_goes_just_below_the_cap_and_not_to_nothing():
    """Two units at 150 are 300 of an account of 500, and half of that is allowed; 2 % of it is left for fees."""
    rows = [(100,) * 4, (100, 150, 100, 150), (150,) * 4, (150,) * 4]
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars_of(rows)))
    cerebro.broker = PerpBroker(cash=400.0, taker=0.0, guards=[ExposureGuard(0.5)])
    cerebro.addstrategy(Scripted, script={1: lambda s: s.buy(size=2)})
    (strategy,) = cerebro.run()
    assert strategy.sizes == [0, 2, pytest.approx(0.98 * 500 * 0.5 / 150), pytest.approx(0.98 * 500 * 0.5 / 150)]
    (row,) = cerebro.broker.guards.record
    assert row["worst"] == pytest.approx(300 / 500)
    assert row["overshoot"] == pytest.approx(0.1)


def test_an_order_that_would_exceed_the_cap_is_refused_where_it_is_placed():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars_of([(100,) * 4] * 5)))
    cerebro.broker = PerpBroker(cash=400.0, taker=0.0, guards=[ExposureGuard(0.5)])
    cerebro.addstrategy(Scripted, script={1: lambda s: s.buy(size=2.5), 2: lambda s: s.buy(size=1.5)})
    (strategy,) = cerebro.run()
    assert strategy.sizes == [0, 0, 1.5, 1.5, 1.5]
    assert cerebro.broker.counts["refused_by_guard"] == 1


def capped(script, rows):
    """Run a script on an account of 400 that may hold half of what it is worth."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars_of(rows)))
    cerebro.broker = PerpBroker(cash=400.0, taker=0.0, guards=[ExposureGuard(0.5)])
    cerebro.addstrategy(Scripted, script=script)
    return cerebro.run()[0]


RISE = [(100,) * 4, (100, 150, 100, 150), (150,) * 4, (150,) * 4, (150,) * 4]
TRIMMED = pytest.approx(0.98 * 500 * 0.5 / 150)


def test_orders_that_together_would_exceed_the_cap_are_not_all_taken():
    strategy = capped({1: lambda s: [s.buy(size=1.5), s.buy(size=1.5)]}, [(100,) * 4] * 4)
    assert strategy.sizes == [0, 1.5, 1.5, 1.5]
    assert strategy.broker.counts["refused_by_guard"] == 1


def test_an_exit_that_only_waits_does_not_stand_in_for_the_trim():
    script = {
        1: lambda s: s.buy(size=2),
        2: lambda s: s.sell(size=1, exectype=bt.Order.Limit, price=1000),
        3: lambda s: s.sell(size=1, exectype=bt.Order.Stop, price=10),
    }
    assert capped(script, RISE).sizes == [0, 2, TRIMMED, TRIMMED, TRIMMED]


def test_an_exit_besides_the_trim_never_goes_through_flat():
    script = {1: lambda s: s.buy(size=2), 2: lambda s: s.close()}
    assert capped(script, RISE).sizes == [0, 2, 0, 0, 0]


# --- a model's fault


class Believer(HiSSStrategy):
    """Trades a forecast that is given, on PerpBroker."""

    params = (("rows", None),)

    def make_forecast(self):
        return ScriptedForecast(self.data, rows=self.p.rows, warmup=3)

    def start(self):
        self.sizes = []

    def next(self):
        self.sizes.append(self.position.size)
        super().next()


class Unguarded(Believer):
    """Does not ask whether its model is sane."""

    def make_guards(self):
        return [guard for guard in super().make_guards() if guard.name != "model_fault"]


@pytest.mark.parametrize("fault", [math.nan, math.inf, -math.inf])
def test_a_fault_of_the_model_after_its_warm_up_closes_and_is_said(fault):
    sane, faulty = (0.02, 0.9, 0.1), (0.02, 0.9, fault)
    rows = [faulty, faulty, sane, sane, faulty, faulty, sane, sane, sane]

    def play(strategy):
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(BarsFeed(bars_of([(100,) * 4] * len(rows))))
        cerebro.broker = PerpBroker(cash=1000.0)
        cerebro.addstrategy(strategy, rows=rows)
        cerebro.addanalyzer(Ledger, _name="ledger")
        return cerebro.run()[0]

    strategy = play(Believer)
    held = [size > 0 for size in strategy.sizes]
    assert held == [False, True, True, False, False, True, True]  # from bar three on, the first warm one
    (row,) = strategy.guards.record
    assert row["name"] == "model_fault"
    assert pd.Timedelta(days=row["until"] - row["since"]).round("s") == pd.Timedelta("2h")
    ledger = strategy.analyzers.ledger
    assert ledger.trades["exit_reason"][0] == "model_fault"
    assert list(ledger.frame["guard"]) == [""] * 4 + ["model_fault"] * 2 + [""] * 3
    assert all(play(Unguarded).sizes[1:])


def test_a_broker_that_cannot_see_the_model_says_so():
    cerebro = bt.Cerebro()
    cerebro.adddata(BarsFeed(bars_of([(100, 100, 100, 100)] * 3)))
    cerebro.broker = PerpBroker(guards=[ModelFaultGuard()])
    cerebro.addstrategy(bt.Strategy)
    with pytest.raises(ConfigError, match=r"add cerebro\.addanalyzer"):
        cerebro.run()
