"""A bracket keeps a position between its stop and its target, whatever happens to its orders."""

import backtrader as bt
import pandas as pd
import pytest

from hissbt.trading import PerpBroker
from hissbt.trading.bracket import Bracket

both_brokers = pytest.mark.parametrize("broker", [bt.brokers.BackBroker, PerpBroker])


class Bracketed(bt.Strategy):
    """Does at bar n, counted from 1, what ``script[n]`` says to its bracket in the last data."""

    params = (("script", {}),)

    def __init__(self):
        self.bracket = Bracket(self, self.datas[-1])
        self.sizes, self.looks, self.placed = [], [], []

    def next(self):
        size = self.getposition(self.datas[-1]).size
        self.sizes.append(size)
        self.looks.append(self.bracket.look(size))
        if len(self) in self.p.script:
            self.p.script[len(self)](self.bracket, size)

    def buy(self, *args, **kwargs):
        self.placed.append(super().buy(*args, **kwargs))
        return self.placed[-1]

    def sell(self, *args, **kwargs):
        self.placed.append(super().sell(*args, **kwargs))
        return self.placed[-1]

    @property
    def filled(self):
        return [(o.info["reason"], o.executed.size, o.executed.price) for o in self.placed if o.executed.size]

    @property
    def waiting(self):
        return [(o.info["reason"], o.executed.remsize, o.created.price) for o in self.placed if o.alive()]


def play(prices, script, broker=bt.brokers.BackBroker, datas=1):
    frame = pd.DataFrame(prices, columns=["open", "high", "low", "close"], dtype=float)
    frame["volume"] = 1e6
    frame.index = pd.date_range("2024-01-01", periods=len(frame))
    cerebro = bt.Cerebro(stdstats=False)
    for _ in range(datas):
        cerebro.adddata(bt.feeds.PandasData(dataname=frame))
    cerebro.addstrategy(Bracketed, script=script)
    cerebro.broker = broker()
    cerebro.broker.setcash(100_000)
    return cerebro.run()[0]


def flat(close, n=1):
    return [(close,) * 4] * n


def enter(side, size=10.0, trail=None):
    stop, target = (90.0, 120.0) if side > 0 else (110.0, 80.0)
    return lambda bracket, _: bracket.enter(side, size, stop=stop, target=target, trail=trail)


def trim(keep):
    return lambda bracket, size: bracket.trim(size, keep, "cap")


def leave(bracket, _):
    bracket.leave("enough")


@both_brokers
@pytest.mark.parametrize("side", [1, -1])
def test_an_entry_waits_between_its_stop_and_its_target(broker, side):
    strategy = play(flat(100, 3), {1: enter(side)}, broker)
    prices = (90, 120) if side > 0 else (110, 80)
    assert strategy.filled == [("entry", side * 10, 100)]
    assert strategy.waiting == [("stop", -side * 10, prices[0]), ("target", -side * 10, prices[1])]
    assert strategy.bracket.protects(side * 10)
    assert not strategy.bracket.protects(side * 9)


@both_brokers
def test_a_look_tells_the_side_and_what_came_and_went(broker):
    strategy = play([*flat(100, 3), *flat(85, 2)], {1: enter(1), 2: lambda b, _: None}, broker)
    assert strategy.looks == [(0, False), (1, False), (1, False), (0, True), (0, False)]


def test_a_position_that_came_and_went_within_a_bar_is_told_of():
    strategy = play([*flat(100), (100, 100, 85, 85), *flat(85, 2)], {1: enter(1)}, PerpBroker)
    assert strategy.sizes == [0, 0, 0, 0]
    assert strategy.looks == [(0, False), (0, True), (0, False), (0, False)]


@both_brokers
@pytest.mark.parametrize("side", [1, -1])
def test_a_trim_leaves_the_rest_between_the_same_prices(broker, side):
    strategy = play(flat(100, 5), {1: enter(side), 2: trim(6.0), 3: trim(5.0)}, broker)
    prices = (90, 120) if side > 0 else (110, 80)
    assert strategy.sizes == [0, *(side * size for size in (10, 6, 5, 5))]
    assert strategy.waiting == [("stop", -side * 5, prices[0]), ("target", -side * 5, prices[1])]


@both_brokers
def test_a_bar_that_reaches_both_after_a_trim_is_stopped_once(broker):
    strategy = play([*flat(100, 3), (100, 130, 80, 100), *flat(100)], {1: enter(1), 2: trim(6.0)}, broker)
    assert strategy.filled[-1] == ("stop", -6, 90)
    assert strategy.sizes == [0, 10, 6, 0, 0]
    assert strategy.waiting == []


@both_brokers
def test_a_bar_that_trims_and_stops_ends_flat(broker):
    strategy = play([*flat(100, 2), (100, 100, 80, 80), *flat(80)], {1: enter(1), 2: trim(6.0)}, broker)
    assert strategy.filled[1:] == [("trim", -4, 100), ("stop", -6, 90)]
    assert strategy.sizes == [0, 10, 0, 0]


@both_brokers
def test_a_trim_to_nothing_closes(broker):
    strategy = play(flat(100, 4), {1: enter(1), 2: trim(0.0)}, broker)
    assert strategy.filled[1:] == [("cap", -10, 100)]
    assert strategy.waiting == []


@both_brokers
def test_a_trailing_stop_keeps_its_place_and_trails_on_after_a_trim(broker):
    prices = [*flat(100, 2), *flat(115), *flat(119), (119, 119, 100, 100)]
    strategy = play(prices, {1: enter(1, trail=0.1), 3: trim(6.0)}, broker)
    assert strategy.filled[1][0] == "trim"
    reason, size, price = strategy.filled[2]
    assert (reason, size) == ("trailing", -6)
    assert price == pytest.approx(119 * 0.9)


@both_brokers
def test_leaving_again_and_again_closes_once(broker):
    strategy = play(flat(100, 5), {1: enter(1), 2: leave, 3: leave, 4: leave}, broker)
    assert strategy.filled[1:] == [("enough", -10, 100)]
    assert strategy.sizes == [0, 10, 0, 0, 0]
    assert strategy.waiting == []


def shrink(bracket, size):
    bracket._strategy.sell(data=bracket._data, size=4.0, reason="somebody")


def restore(bracket, size):
    bracket.restore(size)


def test_what_somebody_else_has_made_smaller_gets_a_smaller_stop_and_target():
    strategy = play(flat(100, 4), {1: enter(1), 2: shrink, 3: restore})
    assert strategy.waiting == [("stop", -6, 90), ("target", -6, 120)]
    assert strategy.bracket.protects(6)


def test_what_has_lost_its_stop_is_closed():
    def drop(bracket, size):
        bracket._strategy.cancel(bracket._strategy.placed[1])

    strategy = play(flat(100, 5), {1: enter(1), 2: drop, 3: restore})
    assert strategy.filled[1:] == [("unprotected", -10, 100)]


@both_brokers
def test_a_bracket_acts_in_its_own_data_only(broker):
    strategy = play(flat(100, 5), {1: enter(1), 2: trim(6.0), 3: leave}, broker, datas=2)
    assert strategy.sizes == [0, 10, 6, 0, 0]
    assert {order.data for order in strategy.placed} == {strategy.datas[1]}
