"""A strategy written without us gains every cost and guard by lines in its Cerebro."""

import re
import runpy
from pathlib import Path

import backtrader as bt
import numpy as np
import pandas as pd
import pytest

import hissbt
from hissbt.errors import ConfigError
from hissbt.feeds.funding import Funding
from hissbt.trading.broker import PerpBroker
from hissbt.trading.commission import PerpCommission
from hissbt.trading.guards import DrawdownGuard

README = Path(__file__).parents[2] / "README.md"


class SmaCross(bt.Strategy):
    """As in a thousand tutorials."""

    params = (("fast", 10), ("slow", 30))

    def __init__(self):
        fast, slow = bt.ind.SMA(period=self.p.fast), bt.ind.SMA(period=self.p.slow)
        self.crossover = bt.ind.CrossOver(fast, slow)

    def next(self):
        if not self.position:
            if self.crossover > 0:
                self.buy()
        elif self.crossover < 0:
            self.close()


@pytest.fixture(scope="module")
def bars(hourly_bars):
    return hourly_bars


@pytest.fixture(scope="module")
def funding(bars):
    times = pd.date_range(bars.open_times[0], bars.frame.index[-1], freq="8h")
    return Funding("SP500", times, np.full(len(times), 0.0003))


def cerebro_of(bars, broker=None, **params):
    cerebro = bt.Cerebro()  # theirs: observers and all
    cerebro.adddata(hissbt.BarsFeed(bars))
    cerebro.addstrategy(SmaCross, **params)
    cerebro.addsizer(bt.sizers.PercentSizer, percents=90)
    if broker is not None:
        cerebro.broker = broker
    cerebro.addanalyzer(hissbt.Ledger, _name="ledger")
    return cerebro


def test_it_gains_costs_and_the_drawdown_guard_by_lines_in_its_cerebro(bars, funding):
    plain = cerebro_of(bars)
    plain.broker.setcash(10_000.0)
    plain_ledger = plain.run()[0].analyzers.ledger
    costs = cerebro_of(bars, hissbt.PerpBroker(taker=0.00055, funding=funding, half_spread=0.0001))
    frame = costs.run()[0].analyzers.ledger.frame
    assert len(plain_ledger.trades) > 3
    for cost in ("fees", "funding", "impact"):
        assert plain_ledger.frame[cost].sum() == 0
        assert frame[cost].sum() > 0
    paid = frame["fees"].sum() + frame["funding"].sum() + frame["impact"].sum()
    assert costs.broker.getvalue() == pytest.approx(plain.broker.getvalue() - paid, rel=0.01)

    guarded = cerebro_of(bars, hissbt.PerpBroker(taker=0.00055, guards=[hissbt.DrawdownGuard(max_drawdown=0.02)]))
    ledger = guarded.run()[0].analyzers.ledger
    assert guarded.broker.guards.record[0]["name"] == "drawdown"
    assert "drawdown" in set(ledger.trades["exit_reason"])
    halted = ledger.frame["guard"] == "drawdown"
    assert halted.any()
    assert (ledger.frame["position"][halted][1:] == 0).all()


def test_the_example_of_the_readme_runs_as_it_stands(bars, funding, tmp_path, monkeypatch):
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    (example,) = [block for block in blocks if "class SmaCross" in block]
    monkeypatch.chdir(tmp_path)
    bars.frame.set_axis(bars.open_times.rename("timestamp")).to_csv("BTCUSDT_1h.csv.gz")
    pd.DataFrame({"timestamp": funding.times, "rate": funding.rates}).to_csv("BTCUSDT_funding.csv", index=False)
    Path("example.py").write_text(example, encoding="utf-8")
    ran = runpy.run_path("example.py")
    frame, trades = ran["ledger"].frame, ran["ledger"].trades
    assert len(trades) > 3
    assert min(frame[cost].sum() for cost in ("fees", "funding", "impact")) > 0
    start = frame.attrs["start_value"]
    assert ran["cerebro"].broker.getvalue() == pytest.approx(start + trades["pnl_net"].sum(), rel=1e-12)


def test_accelerate_changes_nothing(bars, funding):
    def run(quick):
        guards = [DrawdownGuard(0.1)]
        cerebro = cerebro_of(bars, PerpBroker(funding=funding, half_spread=0.0001, impact=1.0, guards=guards))
        if quick:
            hissbt.accelerate(cerebro)
        ledger = cerebro.run()[0].analyzers.ledger
        assert ledger.loop["path"] == ("fast" if quick else "stock")
        return ledger

    slow, fast = run(False), run(True)
    for table in ("frame", "trades", "orders"):
        pd.testing.assert_frame_equal(getattr(slow, table), getattr(fast, table), check_exact=True)


def test_a_second_run_of_the_same_cerebro_gives_the_same(bars):
    """What a guard saw in one run it does not know in the next."""
    cerebro = cerebro_of(bars, PerpBroker(guards=[DrawdownGuard(0.02)]))
    first, second = (cerebro.run()[0].analyzers.ledger for _ in range(2))
    pd.testing.assert_frame_equal(first.frame, second.frame, check_exact=True)
    pd.testing.assert_frame_equal(first.trades, second.trades, check_exact=True)


@pytest.mark.parametrize("cpus", [1, 2])
def test_optstrategy_runs_it_in_processes(bars, funding, cpus):
    def broker():
        return PerpBroker(funding=funding, impact=1.0, half_spread=0.0001, guards=[DrawdownGuard(0.02)])

    cerebro = bt.Cerebro(stdstats=False, maxcpus=cpus)
    cerebro.adddata(hissbt.BarsFeed(bars))
    cerebro.optstrategy(SmaCross, fast=[5, 10, 15])
    cerebro.broker = broker()
    cerebro.addsizer(bt.sizers.PercentSizer, percents=90)
    cerebro.addanalyzer(hissbt.Ledger, _name="ledger")
    ran = [runs[0] for runs in cerebro.run()]
    assert [run.p.fast for run in ran] == [5, 10, 15]
    for run in ran:
        alone = cerebro_of(bars, broker(), fast=run.p.fast).run()[0].analyzers.ledger
        pd.testing.assert_frame_equal(run.analyzers.ledger.frame, alone.frame, check_exact=True)
        pd.testing.assert_frame_equal(run.analyzers.ledger.trades, alone.trades, check_exact=True)


def test_the_stock_broker_charges_a_perp_commission(bars):
    cerebro = cerebro_of(bars)
    cerebro.broker.setcash(10_000.0)
    cerebro.broker.addcommissioninfo(PerpCommission(taker=0.00055, leverage=3.0))
    ledger = cerebro.run()[0].analyzers.ledger
    orders, trades = ledger.orders, ledger.trades
    turnover = (orders["executed_size"] * orders["executed_price"]).sum()
    assert orders["commission"].sum() == pytest.approx(0.00055 * turnover, rel=1e-12)
    assert cerebro.broker.getvalue() == pytest.approx(10_000 + trades["pnl_net"].sum(), rel=1e-12)


@pytest.mark.parametrize(
    "charge",
    [
        lambda broker: broker.setcommission(commission=0.001),
        lambda broker: broker.addcommissioninfo(bt.CommissionInfo(commission=0.001)),
    ],
)
def test_a_commission_scheme_of_another_kind_is_refused(charge):
    with pytest.raises(ConfigError, match=r"PerpCommission|taker"):
        charge(PerpBroker())


def test_funding_that_is_none_is_named(funding):
    with pytest.raises(ConfigError, match="funding is a dict: write what load_funding returns"):
        PerpBroker(funding={"BTC": funding})


@pytest.mark.parametrize("settings", [{}, {"preload": False}, {"exactbars": 1}])
def test_incomplete_funding_is_refused_for_any_feed_that_has_an_end(bars, funding, settings):
    frame = bars.frame[:200].tz_localize(None)
    holed = Funding("X", funding.times[[0, 1, 2, 30]], funding.rates[:4])
    cerebro = bt.Cerebro(stdstats=False, **settings)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame, timeframe=bt.TimeFrame.Minutes, compression=60))
    cerebro.addstrategy(SmaCross)
    cerebro.broker = PerpBroker(funding=holed)
    with pytest.raises(ConfigError, match="funding of the data is incomplete: 2 of 25 of the events"):
        cerebro.run()


def test_slippage_by_other_names_is_refused():
    for broker_of in (lambda: PerpBroker(slip_perc=0.001), lambda: PerpBroker().set_slippage_fixed(1.0)):
        with pytest.raises(ConfigError, match="half_spread"):
            broker_of()
