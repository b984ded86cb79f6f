"""What follows from the ledger is what Backtrader's own analyzers, which cost far more a bar, find in the run."""

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hissbt.bars import Bars
from hissbt.feeds import BarsFeed
from hissbt.reports.ledger import Ledger
from hissbt.reports.metrics import trading_metrics
from hissbt.reports.returns import daily_returns

ANALYZERS = {
    "days": (bt.analyzers.TimeReturn, {"timeframe": bt.TimeFrame.Days}),
    "hours": (bt.analyzers.TimeReturn, {"timeframe": bt.TimeFrame.Minutes, "compression": 60}),
    "total": (bt.analyzers.TimeReturn, {"timeframe": bt.TimeFrame.NoTimeFrame}),
    "drawdown": (bt.analyzers.DrawDown, {}),
    "trades": (bt.analyzers.TradeAnalyzer, {}),
}


class Scripted(bt.Strategy):
    """Places the orders of ``orders``: (bar, data, size, offset), a limit order where there is an offset."""

    params = (("orders", ()),)

    def next(self):
        for bar, index, size, offset in self.p.orders:
            data = self.datas[index]
            if bar == len(self) and len(data):
                kind = {"exectype": bt.Order.Limit, "price": data.close[0] * (1 + offset)} if offset else {}
                (self.buy if size > 0 else self.sell)(data=data, size=abs(size), **kind)


@pytest.fixture(scope="module")
def bars(hourly_bars):
    """Closes at half past: Backtrader files a bar that closes at midnight under the day that begins."""
    frame = hourly_bars.frame.iloc[:150]
    return Bars(frame.set_axis(frame.index + pd.Timedelta("30min")), hourly_bars.market, hourly_bars.timeframe)


def run(bars, orders):
    """Return the ledger and the results of Backtrader's analyzers."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars, name="A"))
    cerebro.adddata(BarsFeed(bars[20:], name="B"))
    cerebro.addstrategy(Scripted, orders=orders)
    cerebro.broker.setcash(20_000.0)
    cerebro.broker.setcommission(commission=0.001)
    cerebro.addanalyzer(Ledger, _name="ledger")
    for name, (analyzer, params) in ANALYZERS.items():
        cerebro.addanalyzer(analyzer, _name=name, **params)
    analyzers = cerebro.run()[0].analyzers
    return analyzers.ledger, {name: getattr(analyzers, name).get_analysis() for name in ANALYZERS}


orders = st.lists(
    st.tuples(
        st.integers(1, 149),
        st.integers(0, 1),
        st.sampled_from([1, 2, 5, -1, -2, -5, 9]),
        st.sampled_from([0.0, 0.0, 0.003, -0.003]),
    ),
    max_size=40,
)


@settings(max_examples=40, deadline=None)
@given(orders)
def test_returns_and_drawdown_are_those_of_time_return_and_draw_down(bars, orders):
    ledger, theirs = run(bars, orders)
    values = np.r_[ledger.frame.attrs["start_value"], ledger.frame["value"]]  # [1 + T]
    days = daily_returns(ledger.frame)
    assert list(days.index) == list(theirs["days"])
    assert days.tolist() == pytest.approx(list(theirs["days"].values()), abs=1e-12)
    assert (values[1:] / values[:-1] - 1).tolist() == pytest.approx(list(theirs["hours"].values()), abs=1e-12)
    assert values[-1] / values[0] - 1 == pytest.approx(next(iter(theirs["total"].values())), abs=1e-12)

    peaks = np.maximum.accumulate(values)
    assert 100 * (1 - values / peaks).max() == pytest.approx(theirs["drawdown"]["max"]["drawdown"], abs=1e-9)
    assert (peaks - values).max() == pytest.approx(theirs["drawdown"]["max"]["moneydown"], abs=1e-6)
    assert peaks[-1] - values[-1] == pytest.approx(theirs["drawdown"]["moneydown"], abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(orders)
def test_trades_are_those_of_the_trade_analyzer(bars, orders):
    ledger, theirs = run(bars, orders)
    theirs, trades = theirs["trades"], ledger.trades
    closed = trades[trades["exit_time"].notna()]
    assert theirs["total"]["total"] == len(trades)
    if not len(trades):
        return
    assert theirs["total"].get("open", 0) == len(trades) - len(closed)
    assert theirs["total"].get("closed", 0) == len(closed)
    if not len(closed):
        return
    gross, net = closed["pnl_gross"], closed["pnl_net"]
    won = net >= 0  # Backtrader counts a trade of no profit as won
    assert theirs["pnl"]["gross"]["total"] == pytest.approx(gross.sum(), abs=1e-6)
    assert theirs["pnl"]["net"]["total"] == pytest.approx(net.sum(), abs=1e-6)
    assert (theirs["won"]["total"], theirs["lost"]["total"]) == (won.sum(), (~won).sum())
    assert theirs["won"]["pnl"]["total"] == pytest.approx(net[won].sum(), abs=1e-6)
    assert theirs["lost"]["pnl"]["total"] == pytest.approx(net[~won].sum(), abs=1e-6)
    for side in ("long", "short"):
        mine = closed["side"] == side
        assert theirs[side]["total"] == mine.sum()
        assert theirs[side]["pnl"]["total"] == pytest.approx(net[mine].sum(), abs=1e-6)
        assert theirs[side]["won"] == (mine & won).sum()


def test_the_metrics_of_a_run_follow_from_the_same_figures(bars):
    ledger, theirs = run(bars, [(10 + 12 * i, i % 2, (3, -5, 2)[i % 3], 0.0) for i in range(12)])
    metrics = trading_metrics(ledger.frame, ledger.trades, ledger.fills, 365)
    counts = theirs["trades"]
    assert metrics["trades"] == counts["total"]["total"] > 5
    assert metrics["total_return"] == pytest.approx(next(iter(theirs["total"].values())))
    open_won = (ledger.trades["pnl_net"][ledger.trades["exit_time"].isna()] > 0).sum()
    assert metrics["win_rate"] == pytest.approx((counts["won"]["total"] + open_won) / counts["total"]["total"])
