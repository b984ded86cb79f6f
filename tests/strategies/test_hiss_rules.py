"""The rules of HiSSStrategy beyond its signal: each does its part, with Backtrader's broker and with
PerpBroker."""

import math
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from observed_strategy import DOWN, NONE, UP, flat, reasons, run, sizes

from hissbt.errors import StrategyError
from hissbt.market import Market
from hissbt.trading import DrawdownGuard, ExposureGuard, PerpBroker
from hissbt.trading.sizing import FLAT

FEE = {"taker": 0.00055, "maker": 0.00055}
both_brokers = pytest.mark.parametrize("broker", [lambda: None, lambda: PerpBroker(**FEE)], ids=["stock", "perp"])
WIDE = {"stop_volatility": 40.0, "target_volatility": 40.0}  # exits that no path here reaches
WEAK = (0.0005, 0.52, 0.02)  # not worth an entry


def held(strategy):
    """Return the side at each close."""
    return [int(np.sign(size)) for size in sizes(strategy)]


@both_brokers
def test_hysteresis_keeps_a_position_at_a_weaker_forecast(broker):
    rows = [WEAK, UP, WEAK, WEAK, DOWN, NONE]
    assert held(run(flat(100, 6), rows, broker=broker())) == [0, 0, 1, 0, 0, -1]
    assert held(run(flat(100, 6), rows, broker=broker(), hysteresis=1.0)) == [0, 0, 1, 1, 1, 0]


@both_brokers
def test_an_entry_must_expect_more_than_a_multiple_of_its_costs(broker):
    for row in (UP, DOWN):  # 0.02 expected, 2 * 0.00055 paid
        assert any(held(run(flat(100, 3), [row] * 3, broker=broker(), min_edge=18.0)))
        assert not any(held(run(flat(100, 3), [row] * 3, broker=broker(), min_edge=19.0)))


def test_the_spread_is_part_of_the_cost_where_the_broker_has_one():
    def broker():
        return PerpBroker(**FEE, half_spread=0.00045)  # 0.002 for the round trip

    assert any(held(run(flat(100, 3), [UP] * 3, broker=broker(), min_edge=9.9)))
    assert not any(held(run(flat(100, 3), [UP] * 3, broker=broker(), min_edge=10.1)))


@both_brokers
def test_a_signal_cannot_close_a_position_before_its_least_time(broker):
    rows = [UP, NONE, NONE, NONE, NONE, NONE]
    assert held(run(flat(100, 6), rows, broker=broker())) == [0, 1, 0, 0, 0, 0]
    assert held(run(flat(100, 6), rows, broker=broker(), min_holding_bars=3)) == [0, 1, 1, 1, 0, 0]


@both_brokers
def test_a_stop_waits_for_no_least_time(broker):
    prices = [*flat(100, 2), (100, 100, 90, 90), *flat(90, 2)]
    strategy = run(prices, [UP, NONE, NONE, NONE, NONE], broker=broker(), min_holding_bars=4)
    assert reasons(strategy) == ["entry", "stop"]


@both_brokers
def test_whole_bars_pass_after_an_exit(broker):
    rows = [UP, NONE, UP, UP, UP, UP]
    assert held(run(flat(100, 6), rows, broker=broker())) == [0, 1, 0, 1, 1, 1]
    assert held(run(flat(100, 6), rows, broker=broker(), cooldown_bars=2)) == [0, 1, 0, 0, 0, 1]


def test_a_position_that_is_stopped_in_the_bar_of_its_entry_cools_down_too():
    prices = [*flat(100), (100, 100, 95, 100), *flat(100, 4)]
    strategy = run(prices, [UP] * 6, broker=PerpBroker(**FEE), cooldown_bars=2)
    assert reasons(strategy)[:2] == ["entry", "stop"]
    assert held(strategy) == [0, 0, 0, 0, 1, 1]


@both_brokers
def test_a_position_is_closed_after_its_longest_time(broker):
    strategy = run(flat(100, 6), [UP] * 6, broker=broker(), max_holding_bars=2)
    assert held(strategy) == [0, 1, 1, 0, 1, 1]
    assert reasons(strategy) == ["entry", "time", "entry"]


@both_brokers
@pytest.mark.parametrize("side", [1, -1])
def test_a_trailing_stop_follows_the_closes_and_fills_at_its_price(broker, side):
    row, moves = (UP, DOWN)[side < 0], [0, 0, 0.04, 0.08, 0.08]
    closes = [100 * math.exp(side * move) for move in moves]
    prices = [(close,) * 4 for close in closes]
    low = closes[-1] * math.exp(-side * 0.05)
    prices.append((closes[-1], max(closes[-1], low), min(closes[-1], low), low))
    params = {"trailing_volatility": 2.0, "stop_volatility": 3.0, "target_volatility": 40.0}
    strategy = run(prices, [row] * 6, broker=broker(), **params)
    entry, stop, _ = strategy.notes[0]["new"]
    assert entry.executed.price == 100
    assert stop.executed.price == pytest.approx(closes[-1] * math.exp(-side * 0.04))
    assert reasons(strategy) == ["entry", "trailing"]


@both_brokers
def test_a_trailing_stop_that_has_not_moved_is_a_stop(broker):
    prices = [*flat(100, 2), (100, 100, 90, 90)]
    params = {"trailing_volatility": 40.0, "stop_volatility": 3.0}
    strategy = run(prices, [UP] * 3, broker=broker(), **params)
    stop = strategy.notes[0]["new"][1]
    assert stop.executed.price == pytest.approx(100 * math.exp(-0.06))
    assert reasons(strategy) == ["entry", "stop"]


@both_brokers
def test_a_bad_regime_ends_a_position_and_lets_none_begin(broker):
    rows = [(*UP, bear) for bear in (0.9, 0.1, 0.1, 0.9, math.nan, 0.1, 0.1)]
    strategy = run(flat(100, 7), rows, broker=broker(), regime_exit="prob_bear", regime_level=0.8)
    assert held(strategy) == [0, 0, 1, 1, 0, 0, 1]
    assert reasons(strategy) == ["entry", "regime", "entry"]
    assert held(run(flat(100, 7), rows, broker=broker())) == [0, 1, 1, 1, 1, 1, 1]


def test_a_regime_that_the_forecast_does_not_know_is_named():
    with pytest.raises(StrategyError, match="write one of expected_return, prob_up, volatility"):
        run(flat(100, 3), [UP] * 3, regime_exit="prob_bear")


@both_brokers
def test_each_way_of_sizing_holds_its_fraction_of_equity(broker):
    for sizing, fraction in [
        ({"scale": 0.002}, 0.1),  # 0.002 * 0.02 / 0.02**2
        ({"sizing": "volatility", "horizon_volatility": 0.003}, 0.15),  # 0.003 / 0.02
        ({"sizing": "fixed", "max_fraction": 0.3}, 0.3),
    ]:
        for row, side in ((UP, 1), (DOWN, -1)):
            strategy = run(flat(100, 2), [row] * 2, broker=broker(), **sizing)
            assert sizes(strategy)[-1] == pytest.approx(side * fraction * 1000)


def test_no_way_of_sizing_exceeds_the_largest_fraction_or_the_cap():
    for sizing in ("kelly", "volatility", "fixed"):
        params = {"sizing": sizing, "scale": 1.0, "horizon_volatility": 1.0, "max_fraction": 0.8}
        assert sizes(run(flat(100, 2), [UP] * 2, **params))[-1] == pytest.approx(800)
        assert sizes(run(flat(100, 2), [UP] * 2, **params, max_exposure=0.5))[-1] == pytest.approx(490)


# Guards: what happens with each, and that it does not happen without it.

HOURS = {"length": "1h", **WIDE, "max_fraction": 0.9}


@both_brokers
def test_a_daily_loss_closes_all_until_the_next_day(broker):
    # From 22:00 on, at 90 % of equity: a loss of 9 % is seen at 02:00, and 24 hours later a new day begins.
    times = pd.date_range("2024-01-01 22:00", periods=30, freq="1h")
    prices = [*flat(100, 4), *flat(90, 26)]
    params = {"times": times, "max_drawdown": None, **HOURS}
    guarded = run(prices, [UP] * 30, broker=broker(), **params, max_daily_loss=0.05)
    assert held(guarded) == [0, 1, 1, 1, 1, *[0] * 23, 1, 1]
    assert [note["guard"] for note in guarded.notes] == [*[""] * 4, *["daily_loss"] * 23, *[""] * 3]
    assert reasons(guarded) == ["entry", "daily_loss", "entry"]
    (row,) = guarded.guards.record
    assert row["worst"] == pytest.approx(0.09, rel=0.02)
    assert row["overshoot"] == row["worst"] - 0.05
    assert held(run(prices, [UP] * 30, broker=broker(), **params)) == [0, *[1] * 29]


@both_brokers
def test_a_drawdown_closes_all_for_good(broker):
    prices = [*flat(100, 2), *flat(80, 6)]
    guarded = run(prices, [UP] * 8, broker=broker(), **WIDE, max_fraction=0.9, max_drawdown=0.1)
    assert held(guarded) == [0, 1, 1, 0, 0, 0, 0, 0]
    assert reasons(guarded) == ["entry", "drawdown"]
    free = run(prices, [UP] * 8, broker=broker(), **WIDE, max_fraction=0.9, max_drawdown=None)
    assert held(free) == [0, 1, 1, 1, 1, 1, 1, 1]


@both_brokers
def test_missing_bars_close_all_until_enough_bars_have_come(broker):
    times = pd.date_range("2024-01-01", periods=12, freq="1h").delete([4, 5, 6])
    params = {"times": times, **HOURS}
    guarded = run(flat(100, 9), [UP] * 9, broker=broker(), **params, max_missing_bars=2, resume_after=2)
    assert [note["guard"] for note in guarded.notes] == [*[""] * 4, "stale_data", "stale_data", *[""] * 3]
    assert held(guarded) == [0, 1, 1, 1, 1, 0, 0, 1, 1]
    assert reasons(guarded) == ["entry", "stale_data", "entry"]
    for enough in (3, None):
        assert held(run(flat(100, 9), [UP] * 9, broker=broker(), **params, max_missing_bars=enough)) == [
            0,
            *[1] * 8,
        ]


@both_brokers
@pytest.mark.parametrize("fault", [(math.inf, 0.9, 0.02), (0.02, 0.9, math.nan), (0.02, math.inf, 0.02)])
def test_a_fault_of_the_model_closes_all_until_it_is_sane_again(broker, fault, monkeypatch):
    rows = [UP, UP, fault, fault, UP, UP]
    guarded = run(flat(100, 6), rows, broker=broker())
    assert [note["guard"] for note in guarded.notes] == ["", "", "model_fault", "model_fault", "", ""]
    assert held(guarded) == [0, 1, 1, 0, 0, 1]
    assert reasons(guarded) == ["entry", "model_fault", "entry"]
    monkeypatch.setattr("hissbt.trading.guards.ModelFaultGuard.limit", lambda self, moment: math.inf)
    assert held(run(flat(100, 6), rows, broker=broker())) == [0, 1, 1, 1, 1, 1]


@both_brokers
@pytest.mark.parametrize("side", [1, -1])
def test_a_position_that_outgrew_its_cap_is_trimmed_at_the_next_open(broker, side):
    row = (UP, DOWN)[side < 0]
    # A gap between decision and fill makes a long too large; a short grows as it loses.
    prices = [*flat(100), *flat(130, 5)] if side > 0 else [*flat(100, 2), *flat(130, 4)]
    params = {**WIDE, "max_drawdown": None, "max_fraction": 0.5}
    guarded = run(prices, [row] * 6, broker=broker(), **params, max_exposure=0.5)
    exposure = [abs(note["size"]) * note["price"] / note["value"] for note in guarded.notes]
    breach = next(i for i, x in enumerate(exposure) if x > 0.5)
    assert max(exposure) > 0.55
    assert [o.info["reason"] for o in guarded.notes[breach]["new"]] == ["trim", "stop", "target"]
    assert exposure[breach + 1 :] == pytest.approx([0.49] * (5 - breach), abs=0.001)
    assert reasons(guarded) == ["entry", "trim"]
    assert guarded.notes[breach]["guard"] == "exposure"
    free = run(prices, [row] * 6, broker=broker(), **params)
    assert abs(free.notes[-1]["size"]) * 130 / free.notes[-1]["value"] > 0.55


@both_brokers
def test_after_a_trim_stop_and_target_are_where_they_were_for_what_is_left(broker):
    prices = [*flat(100), *flat(130, 2), (130, 150, 60, 60)]
    params = {"max_drawdown": None, "max_fraction": 0.5, "max_exposure": 0.5, "stop_volatility": 20.0}
    strategy = run(prices, [UP] * 4, broker=broker(), target_volatility=20.0, **params)
    first, second = strategy.notes[0]["new"][1:], strategy.notes[1]["new"][1:]
    assert [o.created.price for o in first] == pytest.approx([o.created.price for o in second])
    assert [o.executed.remsize for o in first] == pytest.approx([-490, -490])
    assert second[0].created.size == pytest.approx(-strategy.notes[2]["size"])
    assert strategy.notes[3]["size"] == 0  # the last bar reaches both: stopped, and only once
    assert reasons(strategy) == ["entry", "trim", "stop"]


def test_a_trailing_stop_goes_on_trailing_after_a_trim():
    prices = [*flat(100), *flat(130), *flat(130), *flat(150), (150, 150, 100, 100)]
    params = {"max_drawdown": None, "max_fraction": 0.5, "max_exposure": 0.5, "target_volatility": 40.0}
    strategy = run(prices, [UP] * 5, broker=PerpBroker(**FEE), trailing_volatility=5.0, **params)
    trailing = [o for o in strategy.placed if o.info["reason"] == "trailing"]
    filled = [o for o in trailing if o.executed.size]
    assert [o.executed.price for o in filled] == pytest.approx([150 * math.exp(-0.1)])
    assert strategy.notes[-1]["size"] == 0


def test_where_the_cap_leaves_less_than_a_step_the_position_is_closed():
    params = {"max_fraction": 0.5, "max_exposure": 0.5, "quantity_step": 400.0, "max_drawdown": None, **WIDE}
    strategy = run([*flat(100), *flat(130, 4)], [UP, UP, NONE, NONE, NONE], **params)
    assert reasons(strategy) == ["entry", "exposure"]


# All of it at once, on paths that hurt.

RULES = {
    "hysteresis": st.sampled_from([0.0, 0.7]),
    "min_edge": st.sampled_from([0.0, 3.0]),
    "sizing": st.sampled_from(["kelly", "volatility", "fixed"]),
    "max_fraction": st.sampled_from([0.2, 1.0]),
    "min_holding_bars": st.sampled_from([0, 3]),
    "max_holding_bars": st.sampled_from([None, 5]),
    "cooldown_bars": st.sampled_from([0, 2]),
    "trailing_volatility": st.sampled_from([None, 1.5]),
    "max_drawdown": st.sampled_from([None, 0.15]),
    "max_daily_loss": st.sampled_from([None, 0.05]),
    "max_exposure": st.sampled_from([None, 0.15, 0.9]),
    "max_missing_bars": st.sampled_from([None, 0]),
}
COSTS = {
    "half_spread": st.sampled_from([0.0, 0.001]),
    "impact": st.sampled_from([0.0, 1.0]),
    "volume_limit": st.sampled_from([None, 0.1]),
    "latency_bars": st.sampled_from([0, 0, 2]),
    "leverage": st.sampled_from([1.0, 5.0]),
    "market": st.sampled_from(
        [None, Market("X", tick=0.5, quantity_step=0.1, min_quantity=0.5, min_notional=50.0)]
    ),
}
CLOSING = {
    "signal",
    "regime",
    "time",
    "unprotected",
    "drawdown",
    "daily_loss",
    "exposure",
    "stale_data",
    "model_fault",
}


@st.composite
def markets(draw):
    """Hours with gaps of 30 %, missing bars and dry volume, under a forecast that lasts for some bars."""
    rng, n = np.random.default_rng(draw(st.integers(0, 2**32))), draw(st.integers(10, 80))
    scale = draw(st.sampled_from([0.003, 0.02]))
    opens, moves = np.exp(0.2 * scale * rng.standard_normal(n)), np.exp(scale * rng.standard_normal(n))
    opens *= np.where(rng.random(n) < 0.06, rng.choice([0.7, 1.3], n), 1.0)
    close = 100 * np.cumprod(opens * moves)
    opens = close / moves
    spread = np.exp(np.abs(scale * rng.standard_normal((2, n))))
    high, low = np.maximum(opens, close) * spread[0], np.minimum(opens, close) / spread[1]
    volume = np.where(rng.random(n) < 0.1, 0.0, rng.choice([1e3, 1e6]))
    sides = np.repeat(rng.choice([1, 0, -1], n), 4)[:n]
    rows = np.column_stack([0.02 * sides, 0.5 + 0.4 * sides, rng.uniform(0.005, 0.05, n)])
    rows[rng.random(n) < 0.03, rng.integers(0, 3)] = rng.choice([np.nan, np.inf])
    times = pd.date_range("2024-01-01 20:00", periods=2 * n, freq="1h")
    times = times[np.sort(rng.choice(2 * n, n, replace=False))] if draw(st.booleans()) else times[:n]
    return np.column_stack([opens, high, low, close, volume]).tolist(), rows.tolist(), times


@settings(max_examples=60, deadline=None)
@given(markets(), st.fixed_dictionaries(RULES), st.none() | st.fixed_dictionaries(COSTS))
def test_every_limit_holds_at_every_close_or_is_being_restored(market, rules, costs):
    prices, rows, times = market
    broker = None if costs is None else PerpBroker(**FEE, **costs)
    strategy = run(prices, rows, times=times, length="1h", broker=broker, **rules)
    cap = rules["max_exposure"] or math.inf
    is_filled_at_once = costs is None or (costs["volume_limit"] is None and not costs["latency_bars"])
    for before, note in pairwise(strategy.notes):
        if before["guard"] not in ("", "exposure") and is_filled_at_once:
            assert abs(note["size"]) <= FLAT
        live = dict(note["live_after"])
        new = [order.info["reason"] for order in note["new"]]
        assert len(live) == len(note["live_after"])  # at most one order of a kind
        assert len(CLOSING & live.keys()) <= 1
        if note["guard"] not in ("", "exposure"):
            assert set(live) <= CLOSING
            assert "entry" not in new
        if abs(note["size"]) <= FLAT:
            continue
        if not CLOSING & live.keys() and not {"entry", "trim"} & live.keys():
            exits = [size for reason, size in live.items() if reason in ("stop", "trailing", "target")]
            assert exits == pytest.approx([-note["size"]] * 2)
        exposure = abs(note["size"]) * note["price"] / note["value"] if note["value"] > 0 else math.inf
        if exposure > cap * (1 + 1e-9):
            assert {"trim"} & live.keys() or CLOSING & live.keys()


@settings(max_examples=25, deadline=None)
@given(markets(), st.fixed_dictionaries(RULES), st.booleans())
def test_every_way_to_run_gives_the_same_result(market, rules, perp):
    prices, rows, times = market

    def outcome(**how):
        broker = PerpBroker(**FEE) if perp else None
        strategy = run(prices, rows, times=times, length="1h", broker=broker, **rules, **how)
        return [(note["size"], note["value"], note["guard"]) for note in strategy.notes], reasons(strategy)

    once = outcome()
    assert outcome(fast=True) == once
    assert outcome(mode={"runonce": False, "preload": False}) == once
    assert outcome(mode={"exactbars": 1}) == once


# Guards of the broker, which hold for the whole account.


def test_under_a_guard_of_the_broker_the_strategy_is_still():
    prices = [*flat(100, 2), *flat(80, 6)]
    broker = PerpBroker(**FEE, guards=[DrawdownGuard(0.1)])
    strategy = run(prices, [UP] * 8, broker=broker, **WIDE, max_fraction=0.9, max_drawdown=None)
    assert held(strategy) == [0, 1, 1, 0, 0, 0, 0, 0]
    assert [o.info["reason"] for o in strategy.placed] == ["entry", "stop", "target"]
    assert broker.counts["refused_by_guard"] == 0


def test_stop_and_target_are_fitted_to_what_the_broker_has_left():
    prices = [*flat(100), *flat(130, 5)]
    broker = PerpBroker(**FEE, guards=[ExposureGuard(0.5)])
    strategy = run(prices, [UP] * 6, broker=broker, **WIDE, max_fraction=0.5, max_drawdown=None)
    assert held(strategy) == [0, 1, 1, 1, 1, 1]
    size = sizes(strategy)[-1]
    assert size < 450
    live = dict(strategy.notes[-1]["live_after"])
    assert live == {"stop": pytest.approx(-size), "target": pytest.approx(-size)}


def test_a_position_whose_entry_was_cut_short_by_its_stop_is_closed():
    prices = [(*flat(100)[0], 1e6), (100, 100, 90, 90, 1000), *[(*flat(97)[0], 1e6)] * 3]
    broker = PerpBroker(**FEE, volume_limit=0.1)
    strategy = run(prices, [UP, UP, NONE, NONE, NONE], broker=broker)
    assert sizes(strategy) == [0, 100, 0, 0, 0]  # of 200: 100 were filled, and nothing was left for the stop
    assert reasons(strategy) == ["entry", "unprotected"]


def test_an_entry_that_is_too_small_leaves_nothing_behind():
    broker = PerpBroker(**FEE, market=Market("X", min_notional=1e6))
    strategy = run(flat(100, 5), [UP] * 5, broker=broker)
    assert held(strategy) == [0] * 5
    assert not any(note["live_after"] for note in strategy.notes)
    assert broker.counts["below_minimum"] > 0
