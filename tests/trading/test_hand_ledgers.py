"""Ledgers computed by hand: the cash expected is arithmetic on numbers, and the broker agrees to 1e-9."""

import math

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from accounts import COSTS, Scripted, bars_of, eight_hourly_funding, hourly_funding, play

from hissbt.bars import Bars
from hissbt.errors import ConfigError
from hissbt.feeds import BarsFeed
from hissbt.market import Market
from hissbt.trading.broker import PerpBroker

LIMIT, STOP, STOP_LIMIT = bt.Order.Limit, bt.Order.Stop, bt.Order.StopLimit
FREE = {"taker": 0.0, "maker": 0.0}


def exactly(number):
    return pytest.approx(number, abs=1e-9, rel=0)


def agree(account, end):
    """The account ends with ``end``, and so do the ledger's rows and trades."""
    assert account.end == exactly(end)
    frame, trades = account.ledger.frame, account.ledger.trades
    start = frame.attrs["start_value"]
    assert frame["value"].iloc[-1] == exactly(end)
    assert start + trades["pnl_net"].sum() == exactly(end)
    assert start + trades["pnl_gross"].sum() - sum(trades[cost].sum() for cost in COSTS) == exactly(end)
    for cost in COSTS:
        assert frame[cost].sum() == exactly(trades[cost].sum())


def buy(size, **kwargs):
    return lambda strategy: strategy.buy(size=size, **kwargs)


def sell(size, **kwargs):
    return lambda strategy: strategy.sell(size=size, **kwargs)


def close(strategy):
    strategy.close()


def wait(rows=3, price=100.0):
    return [(price,) * 4] * rows


# --- fees, margin and funding

WEEK = [
    (100, 101, 99, 100),
    (100, 104, 99, 103),  # entered at 100
    (103, 106, 102, 105),
    (105, 106, 101, 102),
    (102, 103, 100, 101),
    (101, 104, 100, 104),  # left at 101
    (104, 104, 104, 104),
]
RATES = {2: 0.0001, 3: 0.0003, 4: -0.0002}


def test_a_long_across_three_funding_events():
    account = play(WEEK, {1: buy(10), 5: close}, funding=hourly_funding(RATES))
    entry_fee, exit_fee = 10 * 100 * 0.00055, 10 * 101 * 0.00055
    paid = [10 * 103 * 0.0001, 10 * 105 * 0.0003, -10 * 102 * 0.0002]
    assert account.charges == [exactly(amount) for amount in paid]
    assert account.strategy.values == [
        exactly(100_000),
        exactly(100_000 - 0.55 + 30 - 0.103),
        exactly(100_000 - 0.55 + 50 - 0.103 - 0.315),
        exactly(100_000 - 0.55 + 20 - 0.103 - 0.315 + 0.204),
        exactly(100_000 - 0.55 + 10 - 0.103 - 0.315 + 0.204),
        exactly(100_000 - 0.55 + 10 - 0.103 - 0.315 + 0.204 - 0.5555),
        exactly(100_000 - 0.55 + 10 - 0.103 - 0.315 + 0.204 - 0.5555),
    ]
    agree(account, 100_000 + 10 * (101 - 100) - entry_fee - exit_fee - sum(paid))


def test_a_short_across_three_funding_events_receives_what_a_long_pays():
    account = play(WEEK, {1: sell(10), 5: close}, funding=hourly_funding(RATES))
    agree(
        account,
        100_000 - 10 * (101 - 100) - 0.55 - 0.5555 + 10 * 103 * 0.0001 + 10 * 105 * 0.0003 - 10 * 102 * 0.0002,
    )


def test_free_margin_is_equity_less_the_posted_margin_less_what_is_unrealized():
    account = play(WEEK, {1: sell(10)}, leverage=5)
    assert account.strategy.cash == [exactly(100_000)] + [exactly(100_000 - 0.55 - 10 * 100 / 5)] * 6
    assert account.strategy.values[2] == exactly(100_000 - 0.55 - 50)


def test_a_second_entry_a_partial_exit_and_a_flip():
    script = {1: buy(10), 2: buy(10), 3: sell(5), 4: sell(25), 5: close}
    account = play(WEEK, script, leverage=2)
    held = 10 * (105 - 100) + 10 * (105 - 103) - 5 * (105 - 105)
    fees = (10 * 100 + 10 * 103 + 5 * 105 + 25 * 102 + 10 * 101) * 0.00055
    agree(account, 100_000 + held + 15 * (102 - 105) - 10 * (101 - 102) - fees)
    assert len(account.ledger.trades) == 2  # the flip ends one trade and begins another
    assert account.strategy.cash[2] == exactly(100_000 - (10 * 100 + 10 * 103) * (0.00055 + 1 / 2))


@pytest.mark.parametrize("hour", [0, 1])
def test_an_entry_at_an_open_is_after_the_event_of_the_same_time(hour):
    account = play(WEEK, {1: buy(10)}, funding=hourly_funding({hour: 0.01}))
    assert account.charges == []
    agree(account, 100_000 - 10 * 100 * 0.00055 + 10 * (104 - 100))


def test_an_exit_at_an_open_is_after_the_event_of_the_same_time():
    account = play(WEEK, {1: buy(10), 2: close}, funding=hourly_funding({2: 0.01}))
    agree(account, 100_000 + 30 - 0.55 - 10 * 103 * 0.00055 - 10 * 103 * 0.01)
    assert list(account.ledger.trades["funding"]) == [exactly(10.3)]


def test_a_flip_at_an_open_is_after_the_event_of_the_same_time():
    account = play(WEEK, {1: buy(10), 2: sell(20), 3: close}, funding=hourly_funding({2: 0.01, 3: 0.002}))
    paid, received = 10 * 103 * 0.01, 10 * 105 * 0.002
    fees = (10 * 100 + 20 * 103 + 10 * 105) * 0.00055
    agree(account, 100_000 + 30 - 20 - fees - paid + received)
    assert list(account.ledger.trades["funding"]) == [exactly(10.3), exactly(-2.1)]


# Bars of four hours; in the second, from 4:00 to 8:00, is an event at 6:00, whose notional is that of the open.
FOURS = [(100, 101, 99, 100), (100, 103, 94, 102), (102, 103, 101, 103), (103, 103, 103, 103)]


@pytest.mark.parametrize(("rate", "charged"), [(0.01, 10 * 100 * 0.01), (-0.01, 0.0)])
def test_an_entry_inside_a_bar_with_an_event_is_taken_the_dearer_way(rate, charged):
    script = {1: buy(10, exectype=LIMIT, price=97)}
    account = play(FOURS, script, timeframe="4h", funding=hourly_funding({6: rate}))
    agree(account, 100_000 - 10 * 97 * 0.0002 + 10 * (103 - 97) - charged)


@pytest.mark.parametrize(("rate", "charged"), [(0.01, 10 * 102 * 0.01), (-0.01, 0.0)])
def test_a_fill_inside_a_bar_may_be_at_its_very_end(rate, charged):
    script = {1: buy(10, exectype=LIMIT, price=97)}
    account = play(FOURS, script, timeframe="4h", funding=hourly_funding({8: rate}))
    agree(account, 100_000 - 10 * 97 * 0.0002 + 10 * (103 - 97) - charged)


@pytest.mark.parametrize(("rate", "charged"), [(0.01, 10 * 100 * 0.01), (-0.01, 0.0)])
def test_an_exit_inside_a_bar_with_an_event_is_taken_the_dearer_way(rate, charged):
    rows = [wait()[0], *FOURS]
    script = {1: buy(10), 2: sell(10, exectype=STOP, price=95)}
    account = play(rows, script, timeframe="4h", funding=hourly_funding({10: rate}))
    agree(account, 100_000 + 10 * (95 - 100) - 10 * (100 + 95) * 0.00055 - charged)


@pytest.mark.parametrize(("rate", "charged"), [(0.01, 10 * 100 * 0.01), (-0.01, 10 * 100 * 0.01)])
def test_a_flip_inside_a_bar_with_an_event_is_taken_the_dearer_way(rate, charged):
    rows = [wait()[0], *FOURS]
    script = {1: buy(10), 2: sell(20, exectype=STOP, price=95)}
    account = play(rows, script, timeframe="4h", funding=hourly_funding({10: rate}))
    gross = 10 * (95 - 100) - 10 * (103 - 95)
    agree(account, 100_000 + gross - (10 * 100 + 20 * 95) * 0.00055 - charged)


def test_an_exit_at_the_open_of_a_bar_is_before_the_event_inside_it():
    rows = [wait()[0], *FOURS]
    account = play(rows, {1: buy(10), 2: close}, timeframe="4h", funding=hourly_funding({10: 0.01}))
    agree(account, 100_000 - 10 * (100 + 100) * 0.00055)


DAYS = [(100, 101, 99, 100), (100, 108, 96, 105), (106, 112, 90, 110), (110, 110, 110, 110)]


def test_a_daily_bar_holds_three_events():
    """The first two at the open's price, that of midnight at the close's."""
    funding = eight_hourly_funding([0.01, 0.01, 0.01, 0.0001, 0.0002, 0.0004, 0.0003, -0.0001, 0.0005])
    account = play(DAYS, {1: buy(10), 3: close}, timeframe="1d", funding=funding)
    second_day = 10 * 100 * 0.0001 + 10 * 100 * 0.0002 + 10 * 105 * 0.0004
    third_day = 10 * 106 * 0.0003 - 10 * 106 * 0.0001 + 10 * 110 * 0.0005
    agree(account, 100_000 + 100 - 10 * (100 + 110) * 0.00055 - second_day - third_day)


@pytest.mark.parametrize(
    ("rates", "charged"),
    [
        ((0.0001, 0.0002, 0.0004), 10 * 106 * (0.0001 + 0.0002) + 10 * 110 * 0.0004),  # left after all of them
        ((0.0003, -0.0004, 0.0002), 10 * 106 * 0.0003),  # left after the first, not back for the third
        ((-0.0001, 0.0003, -0.0004), 10 * 106 * (-0.0001 + 0.0003)),  # the first came before the second
        ((-0.0003, 0.0001, -0.0004), 0.0),  # left before all of them
    ],
)
def test_an_exit_inside_a_daily_bar_happens_at_one_time_only(rates, charged):
    funding = eight_hourly_funding([0.0] * 6 + list(rates))
    script = {1: buy(10), 2: sell(10, exectype=STOP, price=95)}
    account = play(DAYS, script, timeframe="1d", funding=funding)
    agree(account, 100_000 + 10 * (95 - 100) - 10 * (100 + 95) * 0.00055 - charged)


def test_funding_with_holes_is_refused_unless_allowed():
    whole = hourly_funding({3: 0.001})
    gone = [53, 54]  # those at 5:00 and 6:00
    holed = type(whole)("X", whole.times.delete(gone), np.delete(whole.rates, gone))
    with pytest.raises(ConfigError, match="5 of 7 of the events"):
        play(WEEK, {1: buy(10)}, funding=holed)
    account = play(WEEK, {1: buy(10)}, funding=holed, allow_missing_funding=True)
    assert account.broker.coverage["X"].share < 0.99
    assert account.broker.coverage["X"].missing
    agree(account, 100_000 + 40 - 0.55 - 10 * 105 * 0.001)


def test_a_run_in_which_no_event_is_due_needs_none():
    account = play(wait(3), {1: buy(10)}, funding=eight_hourly_funding([0.001]))
    agree(account, 100_000 - 10 * 100 * 0.00055)
    nothing = eight_hourly_funding([]).between("2030-01-01", "2030-01-02")
    with pytest.raises(ConfigError, match="none of the events"):
        play(wait(3), {1: buy(10)}, funding=nothing)


def test_an_event_stamped_some_milliseconds_late_is_that_of_the_full_hour():
    whole = hourly_funding({2: 0.01})
    late = type(whole)("X", whole.times + pd.Timedelta("7ms"), whole.rates)
    account = play(WEEK, {1: buy(10), 2: close}, funding=late)
    agree(account, 100_000 + 30 - 0.55 - 10 * 103 * 0.00055 - 10 * 103 * 0.01)


def test_events_while_bars_are_missing_are_charged_on_what_is_held_through_the_hole():
    """Bars three to five are missing: the events at 3:00, 4:00 and 5:00 are at the last price before, 103.

    The one at 5:00 is at the open of the next bar, 104 to 104: the order placed at 2:00 fills after it.
    """
    bars = bars_of(WEEK)
    holed = Bars(bars.frame.drop(bars.frame.index[2:5]), bars.market, bars.timeframe)
    funding = hourly_funding({3: 0.001, 4: 0.002, 5: 0.004, 6: 0.01})
    account = play(holed, {1: buy(10), 2: close}, funding=funding)
    paid = 10 * 103 * (0.001 + 0.002 + 0.004)
    agree(account, 100_000 + 10 * (101 - 100) - 10 * (100 + 101) * 0.00055 - paid)


# --- kinds of orders


def test_an_order_is_filled_in_parts_where_volume_is_limited():
    rows = [(100, 100, 100, 100, 500), (100, 101, 99, 101, 10), (102, 103, 101, 103, 10), (101, 101, 101, 101, 10)]
    account = play([*rows, (104, 104, 104, 104, 0)], {1: buy(2.5)}, volume_limit=0.1)
    assert account.strategy.sizes == [0, 1, 2, 2.5, 2.5]
    assert account.broker.counts["partial_fill"] == 2
    fees = (1 * 100 + 1 * 102 + 0.5 * 101) * 0.00055
    agree(account, 100_000 + 1 * (104 - 100) + 1 * (104 - 102) + 0.5 * (104 - 101) - fees)


def test_all_orders_together_stay_within_the_volume_limit():
    rows = [(100, 100, 100, 100, 500), (100, 101, 97, 101, 10), (102, 103, 101, 103, 10), (104, 104, 104, 104, 10)]
    script = {1: lambda s: [s.buy(size=0.7), s.buy(size=1, exectype=LIMIT, price=98)]}
    account = play(rows, script, volume_limit=0.1)
    assert account.strategy.sizes == [0, 1, 1, 1]
    agree(account, 100_000 + 0.7 * 4 + 0.3 * 6 - 0.7 * 100 * 0.00055 - 0.3 * 98 * 0.0002)


def test_of_a_volume_in_coins_that_is_used_up_floats_leave_nothing_to_other_orders():
    """0.1 * 0.071 less 142 / 20,000 is below 0: one order more would have sold a contract while it buys."""
    rows, market = [(20_000.0,) * 4 + (0.071,)] * 3, Market("X", contract="inverse", quantity_step=1.0)
    script = {1: lambda s: [s.buy(size=10_000), s.buy(size=10_000), s.buy(size=10_000)]}
    settings = {"contract": "inverse", "market": market, "volume_limit": 0.1}
    account = play(bars_of(rows, market=market), script, cash=10.0, **settings)
    assert [fill[0] for fill in account.fills] == [142, 142]


def test_a_maker_entry_with_a_taker_stop():
    rows = [(100, 101, 99, 100), (100, 101, 97, 99), (99, 100, 98, 99), (98, 99, 94, 96), (96, 96, 96, 96)]
    script = {1: buy(10, exectype=LIMIT, price=98), 2: sell(10, exectype=STOP, price=95)}
    account = play(rows, script, taker=0.001, maker=-0.0002, half_spread=0.01)
    assert [fill[:3] for fill in account.fills] == [(10, 98, "inside"), (-10, exactly(94.05), "inside")]
    rebate, fee = 10 * 98 * 0.0002, 10 * 94.05 * 0.001
    agree(account, 100_000 + 10 * (94.05 - 98) + rebate - fee)
    (trade,) = account.ledger.trades.itertuples()
    assert trade.pnl_gross == exactly(10 * (95 - 98))
    assert trade.impact == exactly(10 * 0.95)
    assert trade.fees == exactly(fee - rebate)


def test_a_limit_that_is_executable_at_its_first_open_is_a_taker_and_never_worse_than_its_limit():
    rows = [(100, 101, 99, 100), (99, 101, 97, 100), (100, 100, 100, 100)]
    within = play(rows, {1: buy(10, exectype=LIMIT, price=100)}, taker=0.001, maker=0.0, half_spread=0.001)
    agree(within, 100_000 + 10 * (100 - 99.099) - 10 * 99.099 * 0.001)
    beyond = play(rows, {1: buy(10, exectype=LIMIT, price=100)}, taker=0.001, maker=0.0, half_spread=0.05)
    agree(beyond, 100_000 - 10 * 100 * 0.001)
    assert list(beyond.ledger.trades["impact"]) == [exactly(10)]


@pytest.mark.parametrize(("opened", "at"), [(100, 103), (104, 104)])
def test_a_stop_limit_that_fills_where_it_is_triggered_is_a_taker(opened, at):
    rows = [*wait(3), (opened, 106, 99, 105), *wait(2, 105)]
    script = {1: buy(10, exectype=STOP_LIMIT, price=103, plimit=104.5)}
    account = play(rows, script, taker=0.001, maker=0.0, half_spread=0.001)
    agree(account, 100_000 + 10 * (105 - at * 1.001) - 10 * at * 1.001 * 0.001)


def test_a_stop_limit_whose_limit_is_reached_later_has_rested():
    rows = [*wait(3), (104, 106, 103, 105), (105, 106, 101, 102), *wait(2, 105)]
    script = {1: buy(10, exectype=STOP_LIMIT, price=103, plimit=102)}
    account = play(rows, script, taker=0.001, maker=0.0002, half_spread=0.001)
    assert account.fills == [(10, 102, "inside", "stoplimit")]
    agree(account, 100_000 + 10 * (105 - 102) - 10 * 102 * 0.0002)


def test_the_limit_of_a_stop_limit_that_was_gapped_through_fills_after_the_fills_at_the_open():
    rows = [*wait(3), (105, 106, 102, 105), *wait(2, 105)]
    script = {2: buy(1, exectype=STOP_LIMIT, price=103, plimit=104), 3: buy(10)}
    account = play(rows, script, funding=hourly_funding({4: 0.001}))
    assert [fill[:3] for fill in account.fills] == [(10, 105, "open"), (1, 104, "inside")]
    assert account.charges == [exactly(11 * 105 * 0.001)]
    agree(account, 100_000 + 1 - 10 * 105 * 0.00055 - 104 * 0.0002 - 11 * 105 * 0.001)


def test_a_resting_limit_that_is_gapped_through_fills_at_the_open_as_maker():
    rows = [(100, 101, 99, 100), (100, 101, 99, 100), (95, 96, 94, 96), (96, 96, 96, 96)]
    account = play(rows, {1: buy(10, exectype=LIMIT, price=98)}, taker=0.001, maker=0.0003, half_spread=0.01)
    assert [fill[:3] for fill in account.fills] == [(10, 95, "open")]
    agree(account, 100_000 + 10 * (96 - 95) - 10 * 95 * 0.0003)


def test_a_gap_through_the_stop_fills_at_the_open_and_slips_beyond_the_bar():
    rows = [(100, 101, 99, 100), (100, 101, 99, 100), (90, 91, 90, 91), (91, 91, 91, 91)]
    script = {1: buy(10), 2: sell(10, exectype=STOP, price=95)}
    account = play(rows, script, half_spread=0.02)
    assert account.fills[1][:3] == (-10, exactly(88.2), "open")  # below the bar's low
    agree(account, 100_000 + 10 * (88.2 - 102) - 10 * (102 + 88.2) * 0.00055)


@pytest.mark.parametrize("side", [1, -1])
def test_a_stop_works_on_the_entry_bar_and_before_the_target(side):
    rows = [wait()[0], (100, 111, 89, 105) if side > 0 else (100, 111, 89, 95), *wait(2, 105)]

    def enter(strategy):
        place = strategy.buy_bracket if side > 0 else strategy.sell_bracket
        place(size=10, exectype=bt.Order.Market, stopprice=100 - side * 5, limitprice=100 + side * 10)

    account = play(rows, {1: enter})
    assert account.strategy.sizes == [0, 0, 0, 0]
    assert account.broker.counts["entry_bar_stop"] == account.broker.counts["stop_before_target"] == 1
    agree(account, 100_000 - 10 * 5 - 10 * (100 + 100 - side * 5) * 0.00055)


def test_a_target_works_on_the_entry_bar_of_an_entry_at_the_open():
    rows = [wait()[0], (100, 111, 99, 105), *wait(2, 105)]
    script = {1: lambda s: s.buy_bracket(size=10, exectype=bt.Order.Market, stopprice=95, limitprice=110)}
    account = play(rows, script)
    agree(account, 100_000 + 10 * 10 - 10 * 100 * 0.00055 - 10 * 110 * 0.0002)


def test_after_an_entry_inside_a_bar_only_its_stop_can_be_reached_in_it():
    def enter(strategy):
        strategy.buy_bracket(size=10, price=98, exectype=LIMIT, stopprice=95, limitprice=110)

    stopped = play([wait()[0], (100, 115, 94, 100), *wait()], {1: enter})
    agree(stopped, 100_000 + 10 * (95 - 98) - 10 * 98 * 0.0002 - 10 * 95 * 0.00055)
    account = play([wait()[0], (100, 115, 97, 100), (100, 111, 99, 100), *wait()], {1: enter})
    assert account.strategy.sizes[:3] == [0, 10, 0]
    agree(account, 100_000 + 10 * (110 - 98) - 10 * (98 + 110) * 0.0002)


@pytest.mark.parametrize("volume", [50, 0])
def test_a_stop_that_was_reached_sells_all_even_if_there_is_no_volume_and_the_price_comes_back(volume):
    """On an exchange it is a market order from then on."""
    rows = [(100,) * 4, (100,) * 4, (100, 100, 94, 96, volume), (97, 98, 96, 97, 50), (98,) * 4, (90,) * 4]
    account = play(rows, {1: buy(10), 2: sell(10, exectype=STOP, price=95)}, volume_limit=0.1)
    first = account.fills[1][:2]
    assert first == ((-5, 95) if volume else (-5, 97))
    second = 97 if volume else 98
    proceeds = 5 * (95 if volume else 97) + 5 * second
    agree(account, 100_000 - 10 * 100 + proceeds - (10 * 100 + proceeds) * 0.00055)


def test_of_a_volume_that_is_unknown_nothing_can_be_had():
    times = pd.date_range("2024-01-01 01:00", periods=5, freq="h")
    table = pd.DataFrame({"open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": math.nan}, index=times)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(bt.feeds.PandasData(dataname=table, timeframe=bt.TimeFrame.Minutes, compression=60))
    cerebro.broker = PerpBroker(volume_limit=0.1)
    cerebro.addstrategy(Scripted, script={1: buy(10)})
    cerebro.run()
    assert cerebro.broker.journal == []


def test_a_stop_that_fills_in_parts_is_counted_once():
    thin = (100, 110, 90, 100, 10)
    rows = [(100, 101, 99, 100, 100), (100, 101, 99, 100, 100), thin, thin, thin, thin]
    script = {1: lambda s: s.buy_bracket(size=2.5, exectype=bt.Order.Market, stopprice=95, limitprice=105)}
    account = play(rows, script, volume_limit=0.1)
    assert [fill[0] for fill in account.fills] == [2.5, -1, -1, -0.5]
    assert account.broker.counts["stop_before_target"] == 1


def test_a_part_of_an_entry_has_its_stop_and_the_rest_is_not_bought_after_it():
    rows = [(100,) * 4, (100, 101, 99, 100, 50), (97, 98, 94, 97, 20), (97,) * 4, (97,) * 4]
    script = {1: lambda s: s.buy_bracket(size=10, exectype=bt.Order.Market, stopprice=95, limitprice=110)}
    account = play(rows, script, volume_limit=0.1)
    assert account.strategy.sizes == [0, 5, 7, 0, 0]  # the volume of bar three is spent when the stop is reached
    fees = (5 * 100 + 2 * 97 + 7 * 97) * 0.00055
    agree(account, 100_000 + 5 * (97 - 100) - fees)


def test_an_order_that_the_margin_does_not_carry_is_refused():
    for script, leverage in (({1: buy(1001)}, 1), ({1: sell(1001)}, 1), ({1: buy(10_000)}, 10)):
        account = play(wait(), script, leverage=leverage)
        assert [status for _, status in account.strategy.statuses] == ["Submitted", "Margin"]
        assert account.broker.counts["refused_margin"] == 1
        agree(account, 100_000)
    agree(play(wait(), {1: buy(9_900)}, leverage=10), 100_000 - 9_900 * 100 * 0.00055)


def test_half_spread_and_square_root_impact_grow_with_volatility_and_size():
    rows = [
        (100, 110, 100, 100, 400),
        (100, 120, 99, 110, 600),
        (110, 121, 98, 99, 500),
        (120, 120, 120, 120, 9e9),
    ]
    account = play(rows, {3: buy(125)}, timeframe="1d", half_spread=0.001, impact=0.8)
    daily_variance = (math.log(1.1) ** 2 + math.log(0.9) ** 2) / 2  # of the two returns known at the third close
    cost = 0.001 + 0.8 * math.sqrt(daily_variance) * math.sqrt(125 / 500)
    assert account.fills[0][:3] == (125, exactly(120 * (1 + cost)), "open")
    agree(account, 100_000 - 125 * 120 * cost - 125 * 120 * (1 + cost) * 0.00055)
    assert list(account.ledger.trades["pnl_gross"]) == [0]


def test_impact_is_of_a_day_whatever_the_bars():
    rows = [
        (100, 110, 100, 100, 400),
        (100, 120, 99, 110, 600),
        (110, 121, 98, 99, 500),
        (120, 120, 120, 120, 9e9),
    ]
    account = play(rows, {3: sell(125)}, timeframe="4h", impact=0.8)
    daily_variance = 6 * (math.log(1.1) ** 2 + math.log(0.9) ** 2) / 2
    cost = 0.8 * math.sqrt(daily_variance) * math.sqrt(125 / (6 * 500))
    agree(account, 100_000 - 125 * 120 * cost - 125 * 120 * (1 - cost) * 0.00055)


def test_without_history_there_is_no_impact_and_without_volume_it_is_that_of_a_day():
    dead = [(100, 100, 100, 100, 0), (110, 110, 110, 110, 0), (110, 110, 110, 110, 0)]
    agree(play(dead, {1: buy(10)}, half_spread=0.01, impact=1.0), 100_000 - 11 - 10 * 111.1 * 0.00055)
    cost = math.sqrt(24) * math.log(1.1)
    account = play(dead, {2: buy(10)}, impact=1.0)
    agree(account, 100_000 - 10 * 110 * cost - 10 * 110 * (1 + cost) * 0.00055)


def test_latency_puts_every_fill_off():
    rows = [(100, 100, 100, 100), (101, 101, 95, 101), (102, 102, 102, 102), (103, 103, 103, 103), (104,) * 4]
    agree(play(rows, {1: buy(10)}, latency_bars=1), 100_000 + 10 * (104 - 102) - 10 * 102 * 0.00055)
    agree(play(rows, {1: buy(10)}, latency_bars=2), 100_000 + 10 * (104 - 103) - 10 * 103 * 0.00055)
    limit = play(rows, {1: buy(10, exectype=LIMIT, price=96)}, latency_bars=1)
    agree(limit, 100_000)  # the price was there while the order was on its way


# --- liquidation: ten times leverage on 100 units at 100, a margin of 1,000 and a maintenance of half a percent

TENFOLD = {"leverage": 10, "maintenance": 0.005}
ENTERED = [(100, 100, 100, 100), (100, 100, 100, 100)]


def lost(side, at, fee):
    return 100_000 - 100 * 100 * 0.00055 + side * 100 * (at - 100) - fee


def test_a_long_is_liquidated_where_its_margin_is_down_to_the_maintenance():
    """1,000 + 100 * (p - 100) = 0.005 * 100 * p gives p = 90 / 0.995."""
    account = play([*ENTERED, (95, 96, 90.1, 95), *wait()], {1: buy(100)}, **TENFOLD)
    price = 90 / 0.995
    assert account.fills[1][1:] == (exactly(price), "inside", "liquidation")
    assert account.broker.counts["liquidation"] == 1
    agree(account, lost(1, price, 100 * price * 0.00055))
    assert list(account.ledger.trades["liquidation_fee"]) == [exactly(100 * price * 0.00055)]
    assert list(account.ledger.trades["exit_reason"]) == ["liquidation"]


def test_a_short_is_liquidated_where_its_margin_is_down_to_the_maintenance():
    """1,000 - 100 * (p - 100) = 0.005 * 100 * p gives p = 110 / 1.005."""
    account = play([*ENTERED, (105, 109.9, 104, 105), *wait()], {1: sell(100)}, **TENFOLD)
    agree(account, lost(-1, 110 / 1.005, 100 * 110 / 1.005 * 0.00055))


def test_a_price_short_of_liquidation_leaves_the_position():
    account = play([*ENTERED, (95, 96, 90.46, 95), *wait(1, 95)], {1: buy(100)}, **TENFOLD)
    agree(account, lost(1, 95, 0.0))


def test_a_gap_beyond_the_liquidation_price_fills_at_the_open():
    account = play([*ENTERED, (90.2, 96, 80, 95), *wait()], {1: buy(100)}, liquidation_fee=0.001, **TENFOLD)
    assert account.fills[1][1:] == (90.2, "open", "liquidation")
    agree(account, lost(1, 90.2, 100 * 90.2 * 0.001))


def test_the_fee_is_capped_by_what_is_left_of_the_margin():
    account = play([*ENTERED, (90.2, 96, 80, 95), *wait()], {1: buy(100)}, liquidation_fee=0.01, **TENFOLD)
    agree(account, 100_000 - 5.5 - 1000)
    assert list(account.ledger.trades["liquidation_fee"]) == [exactly(20)]


@pytest.mark.parametrize(("side", "opened"), [(1, 60), (-1, 150)])
def test_a_gap_beyond_bankruptcy_costs_the_margin_and_no_more(side, opened):
    account = play([*ENTERED, *wait(3, opened)], {1: buy(100) if side > 0 else sell(100)}, **TENFOLD)
    assert account.fills[1][1:] == (90 if side > 0 else 110, "open", "liquidation")
    agree(account, 100_000 - 5.5 - 1000)


def test_a_stop_before_the_liquidation_price_saves_what_is_left():
    rows = [*ENTERED, (95, 96, 80, 95), *wait()]
    account = play(rows, {1: buy(100), 2: sell(100, exectype=STOP, price=92)}, **TENFOLD)
    assert account.broker.counts["liquidation"] == 0
    agree(account, lost(1, 92, 100 * 92 * 0.00055))


def test_a_liquidation_cancels_the_orders_that_wait():
    rows = [*ENTERED, (95, 96, 90.1, 95), (95, 130, 95, 130), *wait(1, 130)]
    account = play(rows, {1: buy(100), 2: sell(100, exectype=LIMIT, price=120)}, **TENFOLD)
    assert account.strategy.sizes[-1] == 0
    assert (3, "Canceled") in account.strategy.statuses
    agree(account, lost(1, 90 / 0.995, 100 * 90 / 0.995 * 0.00055))


def test_maintenance_in_tiers_is_marginal():
    """5,000 of notional at 0.5 %, the rest at 2 %: 1,000 + 100 (p - 100) = 25 + 0.02 (100 p - 5,000)."""
    tiers = ((0, 0.005), (5_000, 0.02))
    price = (9_000 + 25 - 100) / (100 - 2)
    account = play([*ENTERED, (95, 96, 90.5, 95), *wait()], {1: buy(100)}, leverage=10, maintenance=tiers)
    agree(account, lost(1, price, 100 * price * 0.00055))


def test_an_entry_and_its_liquidation_in_one_bar():
    account = play([ENTERED[0], (100, 101, 85, 95), *wait()], {1: buy(100)}, **TENFOLD)
    agree(account, lost(1, 90 / 0.995, 100 * 90 / 0.995 * 0.00055))


def test_funding_that_is_owed_before_a_liquidation_is_paid():
    account = play(
        [*ENTERED, (95, 96, 90.1, 95), *wait()], {1: buy(100)}, funding=hourly_funding({2: 0.001}), **TENFOLD
    )
    agree(account, lost(1, 90 / 0.995, 100 * 90 / 0.995 * 0.00055) - 100 * 100 * 0.001)


def test_what_an_account_owes_counts_as_missing_from_its_margin():
    """0.5 are free when funding takes 10: 1,000 - 9.5 + 100 (p - 100) = 0.5 p gives p = 9,009.5 / 99.5."""
    rows, script = [*ENTERED, (95, 96, 90.5, 95), *wait(1, 95)], {1: buy(100)}
    owing = play(rows, script, cash=1006.0, funding=hourly_funding({2: 0.001}), **TENFOLD)
    price = 9_009.5 / 99.5
    agree(owing, 1006 - 5.5 - 10 + 100 * (price - 100) - 100 * price * 0.00055)
    agree(play(rows, script, cash=1006.0, **TENFOLD), 1006 - 5.5 - 500)  # which owes nothing: 90.45 is not reached


def test_margin_is_isolated_one_market_from_another():
    cerebro = bt.Cerebro(stdstats=False)
    fall = [*ENTERED, (95, 96, 85, 95), *wait(1, 95)]
    for name, rows in (("A", fall), ("B", wait(4))):
        cerebro.adddata(BarsFeed(bars_of(rows), name=name))
    cerebro.broker = PerpBroker(cash=100_000.0, **TENFOLD)
    cerebro.addstrategy(Scripted, script={1: lambda s: [s.buy(data=data, size=100) for data in s.datas]})
    (strategy,) = cerebro.run()
    price = 90 / 0.995
    assert cerebro.broker.getvalue() == exactly(100_000 - 2 * 5.5 + 100 * (price - 100) - 100 * price * 0.00055)
    assert [strategy.getposition(data).size for data in strategy.datas] == [0, 100]


def test_an_entry_that_its_own_slippage_would_liquidate_is_refused():
    """Bought at 120, ten times leverage would be liquidated at 120 * 0.9 / 0.995, above the market's 100."""
    account = play(wait(), {1: buy(100)}, half_spread=0.2, **TENFOLD)
    assert [status for _, status in account.strategy.statuses] == ["Submitted", "Accepted", "Margin"]
    agree(account, 100_000)


@pytest.mark.parametrize("size", [100, 150])
def test_slippage_takes_no_more_than_the_margin_from_who_leaves(size):
    """Bought at 106, bankrupt at 95.4; at 97 less 6 % nobody would be left to sell."""
    rows = [(100,) * 4, (100,) * 4, (97,) * 4]
    account = play(rows, {1: buy(100), 2: sell(size)}, half_spread=0.06, **TENFOLD)
    assert account.fills[1][:2] == (-size, exactly(95.4))
    agree(account, 100_000 - 1_060 - (100 * 106 + size * 95.4) * 0.00055 - (size - 100) * (97 - 95.4))


# --- mark price


def test_funding_is_on_the_mark_price():
    mark = bars_of(
        [(price + 1, high + 2, low + 1, last + 2) for price, high, low, last in [*WEEK[:-1], (104, 106, 104, 104)]]
    )
    account = play(WEEK, {1: buy(10), 5: close}, funding=hourly_funding(RATES), mark=mark)
    paid = 10 * 105 * 0.0001 + 10 * 107 * 0.0003 - 10 * 104 * 0.0002
    agree(account, 100_000 + 10 - 0.55 - 0.5555 - paid)


def test_funding_inside_a_bar_is_on_the_open_of_the_mark():
    mark = bars_of([(price - 1, high, low - 1, last) for price, high, low, last in FOURS], "4h")
    account = play(FOURS, {1: buy(10)}, timeframe="4h", funding=hourly_funding({6: 0.001}), mark=mark)
    agree(account, 100_000 + 30 - 0.55 - 10 * 99 * 0.001)


def test_liquidation_is_triggered_by_the_mark_and_by_nothing_else():
    rows = [*ENTERED, (95, 96, 80, 95), *wait(1, 95)]
    calm = bars_of([*ENTERED, (95, 96, 92, 95), *wait(1, 95)])
    agree(play(rows, {1: buy(100)}, mark=calm, **TENFOLD), lost(1, 95, 0.0))
    wild = bars_of([*ENTERED, (95, 96, 80, 95), *wait(1, 95)])
    rows = [*ENTERED, (95, 96, 92, 95), *wait(1, 95)]
    price = 90 / 0.995
    agree(play(rows, {1: buy(100)}, mark=wild, **TENFOLD), lost(1, price, 100 * price * 0.00055))


# --- inverse contracts: dollars a contract, coins in the account

COINS = [
    (20_000,) * 4,
    (20_000, 25_000, 20_000, 25_000),
    (25_000, 25_000, 21_000, 22_000),
    (22_000,) * 4,
    (22_000,) * 4,
]


def test_an_inverse_long_with_a_second_entry_at_another_price():
    script = {1: buy(10_000), 2: buy(10_000), 3: close}
    account = play(COINS, script, cash=10.0, contract="inverse", funding=hourly_funding({2: 0.001, 3: -0.002}))
    gross = 10_000 * (1 / 20_000 - 1 / 22_000) + 10_000 * (1 / 25_000 - 1 / 22_000)
    fees = 0.00055 * (10_000 / 20_000 + 10_000 / 25_000 + 20_000 / 22_000)
    assert account.strategy.values[2] == exactly(
        10 + gross - 0.00055 * (0.5 + 0.4) - 10_000 / 25_000 * 0.001 + 20_000 / 22_000 * 0.002
    )
    agree(account, 10 + gross - fees - 10_000 / 25_000 * 0.001 + 20_000 / 22_000 * 0.002)
    (trade,) = account.ledger.trades.itertuples()
    assert trade.entry_price == pytest.approx(20_000 / (0.5 + 0.4), rel=1e-12)


def test_an_inverse_short_with_a_second_entry_at_another_price():
    account = play(COINS, {1: sell(10_000), 2: sell(10_000), 3: close}, cash=10.0, contract="inverse")
    gross = -10_000 * (1 / 20_000 - 1 / 22_000) - 10_000 * (1 / 25_000 - 1 / 22_000)
    agree(account, 10 + gross - 0.00055 * (10_000 / 20_000 + 10_000 / 25_000 + 20_000 / 22_000))


def test_the_margin_of_an_inverse_position_is_that_of_its_entries():
    """0.05 + 0.04 are posted: 0.09 + 0.5 + 0.4 - 20,000/p = 0.005 * 20,000 / p gives p = 20,100 / 0.99."""
    rows = [*COINS[:2], (25_000, 25_000, 20_000, 22_000), *COINS[3:]]
    account = play(rows, {1: buy(10_000), 2: buy(10_000)}, cash=10.0, contract="inverse", **TENFOLD)
    price = 20_100 / 0.99
    assert account.fills[2][1] == pytest.approx(price, rel=1e-12)
    agree(account, 10 + 0.9 - 20_000 / price - 0.00055 * (0.9 + 20_000 / price))
    still = play(COINS, {1: buy(10_000), 2: buy(10_000)}, cash=10.0, contract="inverse", **TENFOLD)
    assert still.strategy.cash[-1] == exactly(10 - 0.00055 * 0.9 - 0.09)


def test_slippage_of_an_inverse_contract_is_in_coins():
    account = play(COINS, {1: buy(10_000)}, cash=10.0, contract="inverse", half_spread=0.01)
    impact = 10_000 * (1 / 20_000 - 1 / 20_200)
    gross = 10_000 * (1 / 20_000 - 1 / 22_000)
    agree(account, 10 + gross - impact - 0.00055 * 10_000 / 20_200)
    assert list(account.ledger.trades["impact"]) == [exactly(impact)]


@pytest.mark.parametrize("side", [1, -1])
def test_an_inverse_position_is_liquidated(side):
    """For a long 0.05 + 10,000 (1/20,000 - 1/p) = 0.005 * 10,000 / p, for a short the same with the other sign."""
    price = 10_050 / 0.55 if side > 0 else 9_950 / 0.45
    rows = [(20_000,) * 4, (20_000,) * 4, (20_000, 23_000, 17_000, 20_000), (20_000,) * 4]
    account = play(rows, {1: buy(10_000) if side > 0 else sell(10_000)}, cash=1.0, contract="inverse", **TENFOLD)
    gross = side * 10_000 * (1 / 20_000 - 1 / price)
    agree(account, 1 + gross - 0.00055 * 10_000 / 20_000 - 0.00055 * 10_000 / price)


# --- the market's rules


def test_sizes_are_rounded_down_to_the_step_and_limit_prices_away_from_the_market():
    market = Market("X", tick=0.5, quantity_step=0.1)
    rows = [(100, 100, 100, 100), (100, 102, 98, 100), (100, 101.6, 99, 100), *wait(1)]
    script = {1: buy(1.29, exectype=LIMIT, price=98.7), 2: sell(1.29, exectype=LIMIT, price=101.2)}
    account = play(rows, script, market=market)
    assert [fill[:2] for fill in account.fills] == [(exactly(1.2), 98.5), (exactly(-1.2), 101.5)]
    agree(account, 100_000 + 1.2 * (101.5 - 98.5) - 1.2 * (98.5 + 101.5) * 0.0002)


@pytest.mark.parametrize(("asked", "tick"), [(95.2, 95.0), (95.3, 95.5)])
def test_stop_prices_are_rounded_to_the_nearest_tick(asked, tick):
    rows = [(100, 100, 100, 100), (100, 100, 100, 100), (100, 100, 90, 100), *wait(1)]
    script = {1: buy(1), 2: sell(1, exectype=STOP, price=asked)}
    account = play(rows, script, market=Market("X", tick=0.5))
    agree(account, 100_000 + (tick - 100) - (100 + tick) * 0.00055)


@pytest.mark.parametrize(
    "rules",
    [{"min_quantity": 0.1}, {"min_notional": 6.0}, {"quantity_step": 0.1}],
    ids=["quantity", "notional", "step"],
)
def test_an_order_below_the_minimum_is_rejected_and_counted(rules):
    account = play(wait(5), {1: buy(0.05), 3: close}, market=Market("X", **rules))
    assert account.broker.counts["below_minimum"] == 1
    assert [status for _, status in account.strategy.statuses] == ["Rejected"]
    assert account.fills == []
    agree(account, 100_000)


def test_the_close_of_a_whole_position_needs_no_minimum():
    script = {1: buy(1), 2: sell(0.95), 3: close}
    account = play(wait(5), script, market=Market("X", min_quantity=0.1))
    assert account.strategy.sizes[-1] == 0
    agree(account, 100_000 - 100 * (1 + 0.95 + 0.05) * 0.00055)


def test_a_leverage_above_that_of_the_market_is_refused():
    with pytest.raises(ConfigError, match="leverage"):
        play(wait(), {}, leverage=50, market=Market("X", max_leverage=25))
