import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.bars import Bars
from hissbt.feeds import BarsFeed
from hissbt.market import Market
from hissbt.reports.ledger import Ledger
from hissbt.reports.returns import benchmark_returns, daily_returns


def ledger(values, start, first="2024-01-01 01:00", freq="h"):
    times = pd.date_range(first, periods=len(values), freq=freq, tz="UTC")
    frame = pd.DataFrame({"close_time": times, "value": np.asarray(values, dtype=float)})
    frame.attrs = {"start_value": start, "start_price": 1.0}
    return frame


def bars(closes, first="2024-01-01 01:00", timeframe="1h"):
    closes = np.asarray(closes, dtype=float)
    index = pd.date_range(first, periods=len(closes), freq=timeframe, tz="UTC")
    frame = pd.DataFrame(dict.fromkeys(("open", "high", "low", "close"), closes), index=index)
    return Bars(frame.assign(volume=1.0), Market("BTC/USDT"), pd.Timedelta(timeframe))


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=120), st.integers(0, 48), st.floats(1, 1e6))
def test_daily_returns_compound_to_the_total_return(values, offset, start):
    returns = daily_returns(ledger(values, start, pd.Timestamp("2024-02-28") + pd.Timedelta(hours=offset)))
    assert (1 + returns).prod() == pytest.approx(values[-1] / start, rel=1e-9)
    assert returns.index.tz is None
    assert (returns.index == returns.index.normalize()).all()
    assert returns.index.is_unique


def test_the_bar_that_closes_at_midnight_belongs_to_the_day_it_ends():
    values = [100.0] * 23 + [110.0] + [110.0] * 24
    returns = daily_returns(ledger(values, 100))
    assert returns.to_dict() == {
        pd.Timestamp("2024-01-01"): pytest.approx(0.10),
        pd.Timestamp("2024-01-02"): pytest.approx(0.0),
    }


def test_daily_bars_lie_on_the_date_of_their_session():
    returns = daily_returns(ledger([100, 110, 99], 100, "2024-01-02", "D"))
    assert returns.index.tolist() == [pd.Timestamp(f"2024-01-0{day}") for day in (1, 2, 3)]
    assert returns.tolist() == pytest.approx([0, 0.1, -0.1])


def test_the_values_are_those_of_backtraders_own_analyzer():
    class Trader(bt.Strategy):
        def next(self):
            (self.buy if len(self) % 7 else self.sell)(size=len(self) % 5)

    rng = np.random.default_rng(3)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars(100 * np.exp(np.cumsum(rng.normal(0, 0.01, 200))), "2024-01-02", "1D")))
    cerebro.addstrategy(Trader)
    cerebro.addanalyzer(Ledger, _name="ledger")
    cerebro.addanalyzer(bt.analyzers.TimeReturn, timeframe=bt.TimeFrame.Days, _name="days")
    cerebro.addanalyzer(bt.analyzers.DrawDown, _name="drawdown")
    analyzers = cerebro.run()[0].analyzers
    theirs = list(analyzers.days.get_analysis().values())
    returns = daily_returns(analyzers.ledger.frame)
    assert returns.tolist() == pytest.approx(theirs, abs=1e-12)
    wealth = np.r_[1, (1 + returns).cumprod()]
    depth = (1 - wealth / np.maximum.accumulate(wealth)).max()
    assert 100 * depth == pytest.approx(analyzers.drawdown.get_analysis()["max"]["drawdown"])


def test_the_benchmark_starts_at_the_last_close_before_the_ledger():
    asset = bars([100, 110, 121, 121 * 1.1], "2024-01-02", "1D")
    returns = benchmark_returns(asset, ledger([1, 1], 1, "2024-01-03", "D"))
    assert returns.to_dict() == {
        pd.Timestamp("2024-01-02"): pytest.approx(0.1),
        pd.Timestamp("2024-01-03"): pytest.approx(0.1),
    }
    assert returns.name == "BTC/USDT"


def test_a_benchmark_without_earlier_bars_starts_at_its_first_close():
    asset = bars([100, 110, 121], "2024-01-02", "1D")
    assert benchmark_returns(asset, ledger([1, 1, 1], 1, "2024-01-02", "D")).tolist() == pytest.approx(
        [0, 0.1, 0.1]
    )


def test_a_benchmark_with_fewer_days_stands_still_on_the_others():
    asset = bars([100, 110, 121], "2024-01-02", "2D")  # no close on the 2nd and the 4th of January
    returns = benchmark_returns(asset, ledger([1] * 5, 1, "2024-01-02", "D"))
    assert returns.tolist() == pytest.approx([0, 0, 0.1, 0, 0.1])
