"""What HiSSStrategy promises on any price path, whatever the forecasts."""

import math
from itertools import pairwise

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from bundles import random_bundle
from hypothesis import given, settings
from hypothesis import strategies as st
from observed_strategy import DOWN, NONE, UP, flat, run, sizes

from hissbt.errors import StrategyError
from hissbt.feeds import BarsFeed, load_bars
from hissbt.loop import accelerate
from hissbt.reports.ledger import Ledger
from hissbt.strategies.buy_and_hold import BuyAndHold
from hissbt.strategies.hiss import HiSSStrategy
from hissbt.trading.sizing import FLAT

CLOSING = {"signal", "drawdown", "unprotected", "model_fault"}


@st.composite
def markets(draw):
    """Bars that range, jump or stand still, at any price level, with a forecast at each."""
    n = draw(st.integers(5, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    scale = draw(st.sampled_from([0.0, 0.002, 0.02, 0.15]))
    jumps = draw(st.sampled_from([0.0, 0.1])) > rng.random(n)
    moves = scale * rng.standard_normal(n) + np.where(jumps, rng.choice([-2.0, -0.7, 0.7, 2.0], n), 0)
    close = draw(st.sampled_from([100.0, 1e-6, 1e8])) * np.exp(np.cumsum(moves))
    opens = np.r_[close[0], close[:-1]] * np.exp(0.3 * scale * rng.standard_normal(n))
    opens[jumps] = close[jumps]  # a gap: nothing trades in between
    spread = np.exp(np.abs(scale * rng.standard_normal((2, n))))
    high, low = np.maximum(opens, close) * spread[0], np.minimum(opens, close) / spread[1]
    senseless = rng.choice([0.0, 1e-160, 1e7, 1e150, np.inf, np.nan], n)
    volatility = np.where(rng.random(n) < 0.1, senseless, rng.uniform(0.005, 0.1, n))
    rows = np.column_stack([rng.normal(0, 0.02, n), rng.uniform(0, 1, n), volatility])
    if draw(st.booleans()):  # a persistent forecast, so that stops and targets are reached
        rows[:, :2] = UP[:2] if draw(st.booleans()) else DOWN[:2]
    rows[rng.random(n) < 0.05, 0] = np.nan
    return np.column_stack([opens, high, low, close]).tolist(), rows.tolist()


MODES = [
    {},
    {"mode": {"runonce": False, "preload": False}},
    {"mode": {"exactbars": 1}},
    {"second": True},
    {"second": True, "mode": {"runonce": False}},
]
any_run = {
    "market": markets(),
    "mode": st.sampled_from(MODES),
    "max_drawdown": st.sampled_from([0.01, 0.15]),
    "max_fraction": st.sampled_from([0.2, 1.0]),
    "quantity_step": st.sampled_from([0.0, 0.3]),
}


@settings(max_examples=150, deadline=None)
@given(**any_run)
def test_risk_limits_hold_on_any_path(market, mode, max_drawdown, max_fraction, quantity_step):
    limits = {"max_drawdown": max_drawdown, "max_fraction": max_fraction, "quantity_step": quantity_step}
    strategy = run(*market, **mode, **limits)
    peak, halted_at = 0.0, math.inf
    for note in strategy.notes:
        peak = max(peak, note["value"])
        if not note["value"] > peak * (1 - max_drawdown):
            halted_at = min(halted_at, note["bar"])
        assert note["tripped"] == (halted_at < math.inf)
        entries = [o for o in note["new"] if o.info["reason"] == "entry"]
        assert len(entries) <= 1
        for entry in entries:
            assert note["size"] == 0
            assert abs(entry.created.size) * note["price"] <= max_fraction * note["value"] * (1 + 1e-9)
            stop = next(o for o in note["new"] if o.info["reason"] == "stop")
            assert (note["price"] - stop.created.price) * entry.created.size > 0
        live, live_after = dict(note["live"]), dict(note["live_after"])
        assert len(live_after) == len(note["live_after"])  # at most one order of a kind
        if note["size"]:
            exits = {"stop": -note["size"], "target": -note["size"]}
            assert live == exits or live in [{reason: -note["size"]} for reason in CLOSING]
        else:
            assert not live or "entry" in live
        if note["bar"] > halted_at:
            assert note["size"] == 0
        if note["tripped"]:
            assert {o.info["reason"] for o in note["new"]} <= {"drawdown"}
            assert set(live_after) <= CLOSING
    assert all(a * b >= 0 for a, b in pairwise(sizes(strategy)))  # no close goes through flat to the other side


@settings(max_examples=40, deadline=None)
@given(markets())
def test_every_run_mode_of_backtrader_trades_alike(market):
    once = run(*market)
    for mode in MODES[1:3]:
        other = run(*market, **mode)
        assert sizes(once) == sizes(other)
        assert [n["value"] for n in once.notes] == [n["value"] for n in other.notes]


@settings(max_examples=30, deadline=None)
@given(markets(), st.sampled_from([0.0, 0.3, 1.0]))
def test_partly_filled_orders_never_leave_a_position_without_a_way_out(market, volume_share):
    strategy = run(*market, filler=lambda order, price, ago: min(abs(order.executed.remsize), 100 * volume_share))
    for note in strategy.notes:
        live = dict(note["live_after"])
        assert len(live) == len(note["live_after"])  # at most one order of a kind, so at most one entry
        assert len(CLOSING & live.keys()) <= 1
        if abs(note["size"]) > FLAT and not CLOSING & live.keys() and "entry" not in live:
            assert live == {"stop": pytest.approx(-note["size"]), "target": pytest.approx(-note["size"])}


def test_a_position_whose_stop_filled_in_part_is_closed():
    def fifty_of_a_stop(order, price, ago):
        return min(abs(order.executed.remsize), 50 if order.info["reason"] == "stop" else 200)

    strategy = run([*flat(100, 3), *flat(90, 2)], [UP] * 5, filler=fifty_of_a_stop)
    assert sizes(strategy) == pytest.approx([0, 200, 200, 150, 0])
    assert [o.info["reason"] for o in strategy.notes[3]["new"]] == ["unprotected"]


def test_the_decision_is_filled_at_the_next_open_with_exits_around_the_close():
    strategy = run([(100, 101, 99, 100), (102, 103, 101, 102), (102, 103, 101, 102)], [UP, UP, UP])
    entry, stop, target = strategy.notes[0]["new"]
    assert entry.executed.price == 102
    assert entry.created.size == pytest.approx(0.2 * 100_000 / 100)
    assert stop.created.price == pytest.approx(100 * math.exp(-0.04))
    assert target.created.price == pytest.approx(100 * math.exp(0.06))


def test_a_short_has_its_stop_above_and_its_target_below():
    strategy = run(flat(100, 3), [DOWN, DOWN, DOWN])
    _, stop, target = strategy.notes[0]["new"]
    assert strategy.notes[-1]["size"] == pytest.approx(-200)
    assert stop.created.price == pytest.approx(100 * math.exp(0.04))
    assert target.created.price == pytest.approx(100 * math.exp(-0.06))


def test_a_bar_that_reaches_stop_and_target_counts_as_stopped():
    strategy = run([*flat(100, 2), (100, 150, 50, 100), *flat(100)], [UP, UP, NONE, NONE])
    assert strategy.notes[2]["size"] == 0
    assert strategy.status["stop"][-1] == (3, "Completed")
    assert strategy.status["target"][-1] == (3, "Canceled")


def test_the_exits_are_cancelled_and_the_position_closed_when_the_signal_leaves():
    strategy = run([*flat(100, 3), (100, 150, 50, 100), *flat(100)], [UP, UP, NONE, NONE, NONE])
    assert strategy.status["stop"][-1] == (4, "Canceled")
    assert strategy.status["signal"][-1] == (4, "Completed")
    assert sizes(strategy)[2:] == [pytest.approx(200), 0, 0]


def test_a_reversal_closes_first_and_enters_from_flat():
    strategy = run(flat(100, 6), [UP, UP, DOWN, DOWN, DOWN, DOWN])
    assert np.sign(sizes(strategy)).tolist() == [0, 1, 1, 0, -1, -1]


def test_after_a_drawdown_everything_is_closed_and_nothing_entered_again():
    prices = [*flat(100, 2), *flat(90), *flat(80, 4)]
    strategy = run(prices, [UP] * 7, max_fraction=0.9, stop_volatility=20.0)
    tripped = [note["tripped"] for note in strategy.notes]
    assert tripped == [False] * 3 + [True] * 4
    assert sizes(strategy)[4:] == [0, 0, 0]
    assert strategy.status["stop"][-1] == (5, "Canceled")
    assert [o.info["reason"] for n in strategy.notes[3:] for o in n["new"]] == ["drawdown"]


def test_a_refused_entry_takes_its_exits_along_and_is_tried_again():
    strategy = run([*flat(100), *flat(200), *flat(200, 3)], [UP] * 5, max_fraction=0.9)
    assert strategy.status["entry"][2] == (2, "Margin")
    assert strategy.status["stop"][-1][0] < 6
    assert [np.sign(s) for s in sizes(strategy)] == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("volatility", [math.nan, 0.0, 1e-160, 1e7, math.inf])
def test_no_order_is_placed_on_a_volatility_that_makes_no_sense(volatility):
    assert run(flat(100, 3), [(0.02, 0.9, volatility)] * 3).placed == []


def test_no_order_is_placed_for_less_than_a_step():
    assert run(flat(100, 3), [UP] * 3, quantity_step=1e6).placed == []


def test_a_position_is_closed_even_when_the_account_owes_money():
    strategy = run([*flat(100), (100, 900, 100, 900), *flat(900, 2)], [DOWN] * 4)
    assert strategy.notes[1]["value"] < 0
    assert [np.sign(size) for size in sizes(strategy)] == [0, -1, 0, 0]


COLD = (math.nan, math.nan, math.nan)


@pytest.mark.parametrize("gap", ["4h", "session"])
def test_a_forecast_that_is_cold_after_a_gap_closes_the_position_at_the_next_open_and_waits(gap):
    prices = [*flat(100, 3), (103, 103, 103, 103), *flat(103, 4)]
    strategy = run(prices, [UP, UP, COLD, COLD, COLD, UP, UP, UP], on_gap="flatten", gap=gap)
    assert [np.sign(size) for size in sizes(strategy)] == [0, 1, 1, 0, 0, 0, 1, 1]
    assert [o.info["reason"] for n in strategy.notes[2:5] for o in n["new"]] == ["gap"]
    (close,) = (o for o in strategy.placed if o.info["reason"] == "gap")
    assert close.executed.price == 103
    assert (4, "Canceled") in strategy.status["stop"]


def test_an_entry_on_its_way_is_cancelled_when_the_forecast_is_cold():
    strategy = run(flat(100, 4), [UP, COLD, COLD, COLD], on_gap="flatten", gap="4h", filler=lambda *_: 0)
    assert strategy.status["entry"][-1] == (3, "Canceled")
    assert sizes(strategy) == [0] * 4


@pytest.mark.parametrize(
    ("forecast", "answer", "reason"),
    [(NONE, {"on_gap": "flatten", "gap": "4h"}, "signal"), (COLD, {"on_gap": "bridge"}, "model_fault")],
)
def test_a_forecast_that_leaves_its_side_for_another_reason_is_no_gap(forecast, answer, reason):
    strategy = run(flat(100, 5), [UP, UP, forecast, COLD, COLD], **answer)
    assert [o.info["reason"] for n in strategy.notes[2:] for o in n["new"]] == [reason]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"on_gap": "ignore"}, "on_gap of Observed is 'ignore': write bridge, reset or flatten"),
        ({"on_gap": "flatten"}, "on_gap=flatten needs a gap"),
        ({"gap": "4h"}, "gap='4h' means nothing to on_gap=bridge"),
    ],
)
def test_an_answer_to_gaps_that_is_only_half_given_is_refused(params, message):
    with pytest.raises(StrategyError, match=message):
        run(flat(100, 3), [UP] * 3, **params)


EAGER = {"prob_long": 0.5, "prob_short": 0.5, "max_drawdown": 0.9}


@pytest.fixture(scope="module")
def gapped(market_data):
    """Real hourly bars with 14 gaps, the longest of 33 bars."""
    bars = load_bars(market_data / "binance_spot_BTCUSDT_1h_2017-08_2024-04_GAPS.csv.gz")["2017-09":"2018-12"]
    assert max(gap.missing for gap in bars.gaps) == 33
    return bars


@pytest.fixture(scope="module")
def bundle(gapped):
    return random_bundle(gapped[:500])


def ledger_of(bars, bundle, fast=False, mode=None, **params):
    cerebro = bt.Cerebro(stdstats=False, **(mode or {}))
    cerebro.adddata(BarsFeed(bars))
    cerebro.addstrategy(HiSSStrategy, model=bundle, **EAGER, **params)
    cerebro.addanalyzer(Ledger)
    cerebro.broker.setcash(100_000.0)
    cerebro.broker.setcommission(commission=0.00055)
    if fast:
        accelerate(cerebro)
    ledger = cerebro.run()[0].analyzers[0]
    assert ledger.loop["path"] == ("fast" if fast else "stock")
    return ledger


def test_a_run_is_flat_from_the_second_bar_after_each_gap_until_the_model_is_warm(gapped, bundle):
    ledger = ledger_of(gapped, bundle, on_gap="flatten", gap="1h")
    frame, trades = ledger.frame, ledger.trades
    rows = frame.index[frame["gap"] > 0]
    assert len(rows) == len(gapped.gaps)
    assert (frame["position"] != 0).mean() > 0.3
    for row in rows:
        cold = slice(row, row + bundle.warmup - 2)  # including the end
        assert frame.loc[cold, "prob_up"].isna().all()
        assert (frame.loc[row + 1 : row + bundle.warmup - 1, "position"] == 0).all()
    closed = trades[trades["exit_reason"] == "gap"]
    held = [row + 1 for row in rows if frame["position"][row]]
    assert closed["exit_time"].tolist() == frame["close_time"][held].tolist()
    assert closed["exit_price"].to_numpy() == pytest.approx(gapped.frame["open"].iloc[held].to_numpy(), rel=1e-12)
    assert len(held) > 3


@pytest.mark.parametrize("on_gap", ["flatten", "reset"])
@pytest.mark.parametrize("gap", ["2h", "session"])
def test_gaps_are_answered_alike_in_both_loops_and_bar_by_bar(gapped, bundle, on_gap, gap):
    bars = gapped["2018-06":"2018-08"]
    stock = ledger_of(bars, bundle, on_gap=on_gap, gap=gap)
    assert ("gap" in stock.trades["exit_reason"].tolist()) == (on_gap == "flatten")
    for other in ({"fast": True}, {"mode": {"runonce": False}}, {"mode": {"exactbars": 1}}):
        ledger = ledger_of(bars, bundle, on_gap=on_gap, gap=gap, **other)
        for table in ("frame", "trades", "orders"):
            pd.testing.assert_frame_equal(getattr(ledger, table), getattr(stock, table), check_exact=True)


def test_a_reset_changes_forecasts_after_a_gap_only_and_a_bridge_none(gapped, bundle):
    bars = gapped["2018-02-01":"2018-02-15"]
    bridged, reset = (ledger_of(bars, bundle, **p).frame for p in ({}, {"on_gap": "reset", "gap": "1d"}))
    (row,) = bridged.index[bridged["gap"] > 0]
    alike = bridged["prob_up"].eq(reset["prob_up"]) | bridged["prob_up"].isna()
    assert alike[:row].all()
    assert not alike[row : row + 10].any()
    assert reset["prob_up"][row:].notna().all()


def test_a_strategy_without_a_model_says_so():
    cerebro = bt.Cerebro()
    cerebro.adddata(bt.feeds.PandasData(dataname=pd.DataFrame(index=pd.date_range("2024", periods=3))))
    cerebro.addstrategy(HiSSStrategy)
    with pytest.raises(StrategyError, match="has no model"):
        cerebro.run()


def test_buy_and_hold_tries_again_after_a_gap_that_it_could_not_pay():
    frame = pd.DataFrame(
        [(100,) * 4, (110,) * 4, (110,) * 4, (120,) * 4], columns=["open", "high", "low", "close"]
    )
    frame.index = pd.date_range("2024-01-01", periods=4)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=frame))
    cerebro.addstrategy(BuyAndHold)
    strategy = cerebro.run()[0]
    assert strategy.position.size == pytest.approx(0.98 * 10_000 / 110)
