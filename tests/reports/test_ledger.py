"""The ledger accounts for every cent, whatever the orders."""

import math
import pickle

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted_forecast import ScriptedForecast

from hissbt.bars import Bars
from hissbt.errors import StrategyError
from hissbt.feeds import BarsFeed, load_bars
from hissbt.market import Market
from hissbt.reports.ledger import Ledger
from hissbt.timeframe import parse_timeframe
from hissbt.trading.guards import Guard, Guards, Moment

COMMISSION = 0.00055


class EveryThird(Guard):
    """In force at every third bar."""

    name = "third"

    def __init__(self):
        self.bars = 0

    def limit(self, moment):
        self.bars += 1
        return math.inf if self.bars % 3 else 0.0


class Scripted(bt.Strategy):
    """Places the market orders of ``orders``: (bar, data, size), sizes signed."""

    params = (("orders", ()), ("rows", None), ("reason", None))

    def __init__(self):
        self.guards = Guards([EveryThird()])
        if self.p.rows is not None:
            self.unrelated = bt.indicators.SMA(self.data, period=2)
            self.forecast = ScriptedForecast(self.data, rows=self.p.rows)

    def prenext(self):
        self.next()

    def next(self):
        self.guards.check(Moment(self.data.datetime[0], self.broker.getvalue(), 0.0))
        for bar, data, size in self.p.orders:
            if bar == len(self) and size:
                info = {"reason": self.p.reason} if self.p.reason else {}
                (self.buy if size > 0 else self.sell)(data=self.datas[data], size=abs(size), **info)


def feed(closes, start="2024-01-01 01:00", freq="h", name="A"):
    """Bars that open at the close before, stamped at their close."""
    closes = np.asarray(closes, dtype=float)
    opens = np.r_[closes[:1], closes[:-1]]
    frame = pd.DataFrame({"open": opens, "high": np.maximum(opens, closes), "low": np.minimum(opens, closes)})
    frame["close"], frame["volume"] = closes, 1.0
    frame.index = pd.date_range(start, periods=len(closes), freq=freq)
    return bt.feeds.PandasData(dataname=frame, name=name)


def run(*feeds, cash=1e6, cerebro=None, commission=None, ledger=None, **params):
    cerebro = bt.Cerebro(stdstats=False, **(cerebro or {}))
    for each in feeds:
        cerebro.adddata(each)
    cerebro.addstrategy(Scripted, **params)
    cerebro.addanalyzer(Ledger, _name="ledger", **(ledger or {}))
    cerebro.broker.setcash(cash)
    cerebro.broker.setcommission(**(commission or {"commission": COMMISSION}))
    return cerebro.run()[0]


def ledger_of(*args, **kwargs):
    return run(*args, **kwargs).analyzers.ledger


prices = st.lists(st.floats(50, 200), min_size=3, max_size=25)
amounts = st.sampled_from([0.1, 0.2, 0.3, -0.1, -0.2, -0.3, 7.0, -7.0, 1 / 3, -1 / 3])
modes = st.sampled_from([{}, {"runonce": False, "preload": False}, {"exactbars": 1}])


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(prices, prices),
    st.lists(st.tuples(st.integers(1, 25), st.integers(0, 1), amounts), max_size=25),
    modes,
    st.sampled_from([{"commission": COMMISSION}, {"commission": 2.0, "margin": 1000.0, "mult": 5.0}]),
)
def test_the_end_value_is_the_start_plus_gross_profits_minus_fees(closes, orders, mode, commission):
    if "exactbars" in mode:  # Backtrader itself cannot read an ended feed there
        closes = zip(*zip(*closes, strict=False), strict=True)
    strategy = run(*(feed(list(each)) for each in closes), orders=orders, cerebro=mode, commission=commission)
    ledger = strategy.analyzers.ledger
    end = ledger.frame["value"].iloc[-1]
    assert end == strategy.broker.getvalue()
    assert end == pytest.approx(1e6 + ledger.trades["pnl_gross"].sum() - ledger.trades["fees"].sum(), rel=1e-9)
    assert end == pytest.approx(1e6 + ledger.trades["pnl_net"].sum(), rel=1e-9)
    assert ledger.frame["fees"].sum() == pytest.approx(ledger.trades["fees"].sum(), rel=1e-9, abs=1e-9)
    assert ledger.orders["commission"].sum() == pytest.approx(ledger.frame["fees"].sum(), rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(prices, st.lists(st.tuples(st.integers(1, 25), st.just(0), amounts), max_size=25))
def test_every_trade_runs_from_flat_to_flat(closes, orders):
    ledger = ledger_of(feed(closes), orders=orders)
    trades, frame = ledger.trades, ledger.frame
    sign = trades["side"].map({"long": 1.0, "short": -1.0}).astype(float)
    by_price = sign * trades["size"] * (trades["exit_price"] - trades["entry_price"])
    assert by_price.to_numpy() == pytest.approx(trades["pnl_gross"].to_numpy(), rel=1e-6, abs=1e-6)
    assert trades["exit_time"].isna().sum() == int(abs(frame["position"].iloc[-1]) > 1e-9)
    assert (trades["exit_time"].iloc[:-1] <= trades["entry_time"].iloc[1:].to_numpy()).all()
    assert set(trades["exit_reason"]) <= {"market", "open"}


@settings(max_examples=40, deadline=None)
@given(prices, st.lists(st.tuples(st.integers(1, 25), st.just(0), st.integers(-9, 9)), max_size=25))
def test_trades_are_those_of_backtraders_own_analyzer(closes, orders):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feed(closes))
    cerebro.addstrategy(Scripted, orders=orders)
    cerebro.addanalyzer(Ledger, _name="ledger")
    cerebro.addanalyzer(bt.analyzers.TradeAnalyzer, _name="trades")
    cerebro.broker.setcash(1e6)
    cerebro.broker.setcommission(commission=COMMISSION)
    analyzers = cerebro.run()[0].analyzers
    trades, theirs = analyzers.ledger.trades, analyzers.trades.get_analysis()
    closed = trades[trades["exit_time"].notna()]
    assert len(trades) == theirs.total.total
    if len(closed):
        assert len(closed) == theirs.total.closed
        assert (closed["pnl_net"] > 0).sum() == theirs.won.total
        assert closed["pnl_gross"].sum() == pytest.approx(theirs.pnl.gross.total, abs=1e-6)
        assert closed["pnl_net"].sum() == pytest.approx(theirs.pnl.net.total, abs=1e-6)
        assert (closed["side"] == "long").sum() == theirs.long.total


def test_a_hand_computed_run_agrees():
    ledger = ledger_of(feed([100, 110, 120, 90, 80]), orders=[(1, 0, 10), (3, 0, -15)], reason="because")
    frame, (first, second) = ledger.frame, ledger.trades.to_dict("records")
    assert frame["position"].tolist() == [0, 10, 10, -5, -5]
    assert frame["price"].tolist() == [100, 110, 120, 90, 80]
    fees = [0, 1000 * COMMISSION, 0, 1800 * COMMISSION, 0]
    assert frame["fees"].tolist() == pytest.approx(fees)
    profits = np.cumsum([0, 10 * 10, 10 * 10, -5 * -30, -5 * -10])
    assert frame["value"].tolist() == pytest.approx((1e6 + profits - np.cumsum(fees)).tolist())
    assert (first["side"], first["size"], first["entry_price"], first["exit_price"]) == ("long", 10, 100, 120)
    assert first["pnl_gross"] == pytest.approx(200)
    assert first["fees"] == pytest.approx((1000 + 1200) * COMMISSION)
    assert first["pnl_net"] == pytest.approx(first["pnl_gross"] - first["fees"])
    assert first["entry_time"] == pd.Timestamp("2024-01-01 02:00", tz="UTC")
    assert first["exit_time"] == second["entry_time"] == pd.Timestamp("2024-01-01 04:00", tz="UTC")
    assert first["exit_reason"] == "because"
    assert (second["side"], second["size"], second["entry_price"], second["exit_price"]) == ("short", 5, 120, 80)
    assert second["exit_time"] is pd.NaT
    assert second["exit_reason"] == "open"


@pytest.mark.parametrize("sizes", [(0.1, 0.2, -0.3), (0.3, -0.1, -0.2)])  # falls short of flat, and overshoots
def test_float_dust_ends_a_trade(sizes):
    ledger = ledger_of(feed([100] * 6), orders=[(i, 0, size) for i, size in enumerate((*sizes, 1.0), start=1)])
    assert 0 < abs(ledger.frame["position"].iloc[3]) < 1e-15  # Backtrader itself is left with dust
    assert ledger.trades["size"].tolist() == pytest.approx([0.3, 1.0])


def test_orders_are_listed_with_their_fate():
    ledger = ledger_of(feed([100, 110, 120]), orders=[(1, 0, 10), (1, 0, 1e9), (2, 0, 1)])
    table = ledger.orders
    assert table["status"].tolist() == ["completed", "margin", "completed"]
    assert table["size"].tolist() == [10, 1e9, 1]
    assert table["created_time"].tolist()[0] == pd.Timestamp("2024-01-01 01:00", tz="UTC")
    assert table["executed_time"].tolist()[0] == pd.Timestamp("2024-01-01 02:00", tz="UTC")
    assert table["executed_price"].tolist()[0] == 100
    assert table["executed_price"].isna().tolist() == [False, True, False]


@pytest.mark.parametrize("cerebro", [{}, {"runonce": False, "preload": False}, {"exactbars": 1}])
def test_the_forecast_is_found_and_recorded_once_the_strategy_is_warm(cerebro):
    rows = [(0.1 * i, 0.5, 1.0 + i) for i in range(4)]
    frame = ledger_of(feed([100, 101, 102, 103]), rows=rows, cerebro=cerebro).frame
    assert frame.columns.tolist()[11:] == ["expected_return", "prob_up", "volatility"]
    assert frame["volatility"].tolist() == pytest.approx([np.nan, 2, 3, 4], nan_ok=True)


def test_the_lines_of_a_named_indicator_are_recorded_instead():
    rows = [(0.0, 0.5, 1.0)] * 4
    frame = ledger_of(feed([1, 3, 5, 7]), rows=rows, ledger={"forecast": "unrelated"}).frame
    assert frame["sma"].tolist() == pytest.approx([np.nan, 2, 4, 6], nan_ok=True)
    with pytest.raises(StrategyError, match=r"self\.nothing in Scripted"):
        ledger_of(feed([1, 3]), ledger={"forecast": "nothing"})


def test_bars_before_since_are_left_out_and_give_the_starting_point():
    orders = [(1, 0, 10)]
    frame = ledger_of(feed([100, 110, 120, 130]), orders=orders, ledger={"since": "2024-01-01 02:00"}).frame
    assert frame["close_time"].tolist()[0] == pd.Timestamp("2024-01-01 03:00", tz="UTC")
    assert frame["fees"].sum() == 0
    assert frame.attrs == {"start_value": pytest.approx(1e6 + 100 - 1000 * COMMISSION), "start_price": 110}
    assert ledger_of(feed([100, 110])).frame.attrs == {"start_value": 1e6, "start_price": 100}


WAYS = {
    "read at the end": {},
    "bar by bar": {"runonce": False, "preload": False},
    "recorded with exactbars": {"exactbars": 1},
}


@pytest.mark.parametrize("cerebro", WAYS.values(), ids=WAYS)
def test_missing_bars_are_counted_by_the_timeframe_of_a_stock_feed(cerebro):
    frame = feed([100.0] * 9).p.dataname.drop(pd.date_range("2024-01-01 02:00", freq="2h", periods=3))
    frame = frame.drop(frame.index[-2])
    minutes = {"timeframe": bt.TimeFrame.Minutes, "compression": 60}
    ledger = ledger_of(bt.feeds.PandasData(dataname=frame, **minutes), cerebro=cerebro)
    assert ledger.frame["gap"].tolist() == [0, 1, 1, 1, 1]
    assert ledger.frame["gap"].dtype == np.int64
    late = bt.feeds.PandasData(dataname=frame, **minutes)
    ledger = ledger_of(late, cerebro=cerebro, ledger={"since": "2024-01-01 04:00"})
    assert ledger.frame["gap"].tolist() == [0, 1, 1]


@pytest.mark.parametrize("cerebro", WAYS.values(), ids=WAYS)
def test_missing_bars_are_counted_by_the_calendar_of_bars(cerebro):
    def bars(timeframe, absent):
        closes = market.expected_closes(since, until, parse_timeframe(timeframe)).delete(absent)
        values = dict.fromkeys(("open", "high", "low", "close", "volume"), 1.0)
        return Bars(pd.DataFrame(values, index=closes), market, timeframe)

    market = Market("ABC", calendar="XNYS")
    since, until = (pd.Timestamp(day, tz="UTC") for day in ("2024-03-27", "2024-04-03"))  # Good Friday: the 29th
    daily = ledger_of(BarsFeed(bars("1d", [2])), cerebro=cerebro).frame
    assert daily["gap"].tolist() == [0, 0, 1, 0]
    hourly = ledger_of(BarsFeed(bars("1h", [4, 7, 8])), cerebro=cerebro).frame
    assert hourly["gap"].tolist() == [0, 0, 0, 0, 1, 0, 2, *[0] * (len(hourly) - 7)]


@pytest.mark.parametrize("cerebro", [{}, {"runonce": False}, {"exactbars": 1}])
def test_the_gaps_of_real_bars_are_in_the_ledger(market_data, cerebro):
    bars = load_bars(market_data / "binance_spot_BTCUSDT_1h_2017-08_2024-04_GAPS.csv.gz")["2017-09":"2019-06"]
    frame = ledger_of(BarsFeed(bars), cerebro=cerebro).frame
    gaps = frame.loc[frame["gap"] > 0, ["close_time", "gap"]].to_numpy().tolist()
    assert gaps == [[gap.before, gap.missing] for gap in bars.gaps]
    assert max(missing for _, missing in gaps) == 33


def test_all_28_gaps_with_128_bars_are_in_the_ledger(market_data):
    bars = load_bars(market_data / "binance_spot_BTCUSDT_1h_2017-08_2024-04_GAPS.csv.gz")
    gap = ledger_of(BarsFeed(bars)).frame["gap"]
    assert ((gap > 0).sum(), gap.sum()) == (28, 128)


@pytest.mark.parametrize("cerebro", WAYS.values(), ids=WAYS)
def test_the_guard_in_force_is_named(cerebro):
    frame = ledger_of(feed([100.0] * 7), cerebro=cerebro).frame
    assert frame["guard"].tolist() == ["", "", "third", "", "", "third", ""]
    late = ledger_of(feed([100.0] * 7), cerebro=cerebro, ledger={"since": "2024-01-01 03:00"}).frame
    assert late["guard"].tolist() == ["", "", "third", ""]


def test_a_second_slower_feed_adds_no_rows():
    slow = feed([50, 60, 70], start="2024-01-01 02:30", freq="90min", name="B")
    ledger = ledger_of(feed([100, 101, 102, 103, 104, 105]), slow, orders=[(4, 1, 4)])
    times = pd.date_range("2024-01-01 01:00", periods=6, freq="h", tz="UTC")
    assert ledger.frame["close_time"].tolist() == times.tolist()
    assert ledger.trades["symbol"].tolist() == ["B"]
    assert ledger.frame["fees"].sum() == pytest.approx(ledger.trades["fees"].sum())


@pytest.mark.parametrize("mode", [{}, {"runonce": False}])
def test_a_row_holds_what_was_known_at_its_close_though_another_feed_moves_on(mode):
    slow = feed([50, 60, 70], start="2024-01-01 02:00", freq="2h", name="B")
    fast = feed([100, 101, 103, 106, 110, 115, 121])
    ledger = ledger_of(slow, fast, orders=[(1, 1, 10)], cerebro=mode)  # bar 1 is the first hour; filled at 100
    fee = 1000 * COMMISSION
    assert ledger.frame["close_time"].dt.hour.tolist() == [2, 4, 6]
    # At 2 o'clock the price is 101, not the 103 of an hour later; the last row also has the hour after it.
    assert ledger.frame["value"].tolist() == pytest.approx([1e6 + 10 - fee, 1e6 + 60 - fee, 1e6 + 210 - fee])
    assert ledger.frame["fees"].tolist() == pytest.approx([fee, 0, 0])
    since = ledger_of(slow, fast, orders=[(1, 1, 10)], cerebro=mode, ledger={"since": "2024-01-01 02:00"}).frame
    assert since.attrs["start_value"] == pytest.approx(1e6 + 10 - fee)
    assert since["value"].tolist() == pytest.approx(ledger.frame["value"].tolist()[1:])


def test_a_replayed_bar_has_one_row_with_its_last_values_and_all_its_fees():
    cerebro = bt.Cerebro(stdstats=False)
    data = feed([100, 110, 120, 130, 140, 150, 160, 170])
    cerebro.replaydata(data, timeframe=bt.TimeFrame.Minutes, compression=240)
    cerebro.addstrategy(Scripted, orders=[(1, 0, 1), (2, 0, -1)])  # at every call in these bars
    cerebro.addanalyzer(Ledger, _name="ledger")
    cerebro.broker.setcommission(commission=COMMISSION)
    ledger = cerebro.run()[0].analyzers.ledger
    assert ledger.frame["close_time"].dt.hour.tolist() == [4, 8]
    assert ledger.frame["price"].tolist() == [130, 170]
    assert ledger.frame["fees"].sum() == pytest.approx(ledger.orders["commission"].sum())
    assert ledger.frame["value"].iloc[-1] == pytest.approx(10_000 + ledger.trades["pnl_net"].sum())


@pytest.mark.parametrize("orders", [[(1, 0, -10)], [(1, 0, -10), (3, 0, 10)]], ids=["open", "closed"])
def test_interest_is_a_fee_in_the_bar_that_it_is_charged_in(orders):
    days = feed([100, 100, 110, 120, 130], start="2024-01-02", freq="D")
    ledger = ledger_of(days, orders=orders, commission={"commission": 0.0, "interest": 0.365})
    fees = [0, 0, 1, 1, 1 if len(orders) == 1 else 0]  # a thousandth a day of a short of 10 at 100
    assert ledger.frame["fees"].tolist() == pytest.approx(fees)
    assert ledger.trades["fees"].tolist() == pytest.approx([sum(fees)])
    assert ledger.frame["value"].iloc[-1] == pytest.approx(1e6 + ledger.trades["pnl_net"].sum(), rel=1e-12)


def test_it_travels_from_other_processes():
    cerebro = bt.Cerebro(stdstats=False, maxcpus=2)
    cerebro.adddata(feed([100, 110, 120]))
    cerebro.optstrategy(Scripted, orders=[[(1, 0, 1)], [(1, 0, 2)]], rows=[[(0.0, 0.5, 1.0)] * 3])
    cerebro.addanalyzer(Ledger, _name="ledger")
    frames = [runs[0].analyzers.ledger.frame for runs in cerebro.run()]
    assert [frame["position"].iloc[-1] for frame in frames] == [1, 2]
    assert pickle.loads(pickle.dumps(frames[0])).attrs == frames[0].attrs
