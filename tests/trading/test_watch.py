"""A model's faults reach the guards of a broker by lines in a Cerebro."""

import math

import backtrader as bt
import pytest
from accounts import bars_of

import hissbt
from hissbt.errors import ConfigError, StrategyError

ROWS = [(100, 101, 99, 100)] * 12
FAULTS = (5, 6)  # bars, counted from 1


class Faulty(bt.Indicator):
    """Says 0.6, and at some bars nothing."""

    lines = ("prob_up",)
    params = (("bad", math.nan),)

    def next(self):
        self.lines.prob_up[0] = self.p.bad if len(self) in FAULTS else 0.6


class Buyer(bt.Strategy):
    """Whenever it holds nothing, buys, whatever the model says: as careless as anybody's."""

    params = (("bad", math.nan),)

    def __init__(self):
        self.hiss, self.sizes = Faulty(self.data, bad=self.p.bad), []

    def next(self):
        self.sizes.append(self.position.size)
        if not self.position:
            self.buy(size=1)


def cerebro_of(guards=(), watch=True, **params):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(hissbt.BarsFeed(bars_of(ROWS)))
    cerebro.addstrategy(Buyer, **params)
    cerebro.broker = hissbt.PerpBroker(guards=guards)
    if watch:
        cerebro.addanalyzer(hissbt.ModelWatch, forecast="hiss")
    cerebro.addanalyzer(hissbt.Ledger, _name="ledger")
    return cerebro


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("is_quick", [False, True])
def test_a_fault_closes_at_the_next_open_and_nothing_is_bought_until_it_is_over(bad, is_quick):
    cerebro = cerebro_of([hissbt.ModelFaultGuard()], bad=bad)
    if is_quick:
        hissbt.accelerate(cerebro)
    strategy = cerebro.run()[0]
    assert strategy.sizes == [0, 1, 1, 1, 1, 0, 0, 1, 1, 1, 1, 1]
    ledger = strategy.analyzers.ledger
    assert ledger.frame["guard"].tolist() == [""] * 4 + ["model_fault"] * 2 + [""] * 6
    assert ledger.trades["exit_reason"].tolist() == ["model_fault", "open"]
    assert cerebro.broker.guards.record[0]["name"] == "model_fault"


def test_without_the_guard_the_fault_is_held_through():
    strategy = cerebro_of([hissbt.DrawdownGuard(0.5)]).run()[0]
    assert strategy.sizes == [0] + [1] * 11


def test_the_other_guards_go_on_working_with_a_watch():
    cerebro = cerebro_of([hissbt.ExposureGuard(0.0005)])
    assert cerebro.run()[0].sizes == [0] * 12
    assert cerebro.broker.counts["refused_by_guard"] > 0


def test_what_cannot_be_watched_is_named():
    with pytest.raises(ConfigError, match="the broker has none"):
        cerebro_of().run()
    unwatched = cerebro_of([hissbt.ModelFaultGuard()], watch=False)
    with pytest.raises(ConfigError, match=r"add cerebro\.addanalyzer"):
        unwatched.run()
    misnamed = cerebro_of([hissbt.ModelFaultGuard()], watch=False)
    misnamed.addanalyzer(hissbt.ModelWatch, forecast="oracle")
    with pytest.raises(StrategyError, match=r"finds no self\.oracle"):
        misnamed.run()
