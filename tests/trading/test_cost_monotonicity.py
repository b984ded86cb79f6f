"""On a fixed list of trades a dearer cost never leaves more money."""

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from accounts import Scripted, hourly_funding
from hypothesis import given, settings
from hypothesis import strategies as st

from hissbt.bars import Bars
from hissbt.feeds import BarsFeed
from hissbt.feeds.funding import Funding
from hissbt.trading.broker import PerpBroker

CASH = 1e7
BARS = 30
NOISE = 1e-9 * CASH  # of sums in floating point


@pytest.fixture(scope="module")
def bars(hourly_bars):
    return hourly_bars[:BARS]


orders = st.lists(
    st.tuples(
        st.integers(1, BARS - 2),
        st.sampled_from([1.0, 2.5, 40.0, -1.0, -2.5, -40.0]),
        st.sampled_from([0.0, 0.0, 0.001, -0.001, 0.004, -0.004]),
        st.sampled_from([bt.Order.Limit, bt.Order.Stop]),
    ),
    min_size=1,
    max_size=8,
)
rates = {
    "taker": st.floats(0, 0.01),
    "maker": st.floats(-0.001, 0.01),
    "half_spread": st.floats(0, 0.05),
    "impact": st.floats(0, 3),
}
base = st.fixed_dictionaries(rates | {"contract": st.sampled_from(["linear", "inverse"])})


def play(bars, placed, **costs):
    """Return the end value and what was filled, at which prices before costs."""
    script = {}
    for bar, size, offset, kind in placed:
        script.setdefault(bar, []).append((size, offset, kind))

    def act(strategy):
        for size, offset, kind in script[len(strategy)]:
            place = strategy.buy if size > 0 else strategy.sell
            close = strategy.data.close[0]
            place(size=abs(size), **({"exectype": kind, "price": close * (1 + offset)} if offset else {}))

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars))
    cerebro.broker = PerpBroker(cash=CASH, **costs)
    cerebro.addstrategy(Scripted, script=dict.fromkeys(script, act))
    cerebro.run()
    fills = [(row.dt, row.size, row.raw_price) for row in cerebro.broker.journal if hasattr(row, "size")]
    return cerebro.broker.getvalue(), fills


@pytest.mark.parametrize("name", rates)
@settings(max_examples=40, deadline=None)
@given(placed=orders, costs=base, data=st.data())
def test_a_dearer_trade_never_leaves_more(bars, name, placed, costs, data):
    dearer = costs | {name: data.draw(rates[name].filter(lambda rate: rate >= costs[name]))}
    (cheap_end, cheap_fills), (dear_end, dear_fills) = play(bars, placed, **costs), play(bars, placed, **dearer)
    assert cheap_fills == dear_fills
    assert dear_end <= cheap_end + NOISE


@settings(max_examples=60, deadline=None)
@given(placed=orders, side=st.sampled_from([1, -1]), factor=st.floats(1, 20), data=st.data())
def test_funding_that_costs_more_never_leaves_more(bars, placed, side, factor, data):
    """The orders on one side only, and rates that this side pays."""
    placed = [(bar, side * abs(size), offset, kind) for bar, size, offset, kind in placed]
    paid = data.draw(st.lists(st.floats(0, 0.01), min_size=BARS, max_size=BARS))
    ends = []
    for times in (1, factor):
        funding = hourly_funding({hour: side * times * rate for hour, rate in enumerate(paid)})
        ends.append(play(bars, placed, funding=funding))
    assert ends[0][1] == ends[1][1]
    assert ends[1][0] <= ends[0][0] + NOISE


@settings(max_examples=60, deadline=None)
@given(placed=orders, hour=st.integers(0, BARS), more=st.floats(0, 0.05), data=st.data())
def test_a_rate_never_brings_more_one_way_than_it_costs_the_other_way(bars, placed, hour, more, data):
    """Whatever the position: where it is not known it is taken the dearer way, both ways."""
    drawn = dict(enumerate(data.draw(st.lists(st.floats(-0.01, 0.01), min_size=BARS, max_size=BARS))))
    free, up, down = (
        play(bars, placed, funding=hourly_funding(drawn | {hour: rate}))[0] for rate in (0.0, more, -more)
    )
    assert up + down <= 2 * free + NOISE


FALL = [100.0] * 3 + [100 * 0.93**n for n in range(1, 10)]


@settings(max_examples=60, deadline=None)
@given(
    side=st.sampled_from([1, -1]),
    leverage=st.sampled_from([5.0, 10.0, 25.0]),
    fees=st.tuples(st.floats(0, 0.2), st.floats(0, 0.2)).map(sorted),
    contract=st.sampled_from(["linear", "inverse"]),
)
def test_a_dearer_liquidation_never_leaves_more_and_never_takes_more_than_the_margin(
    side, leverage, fees, contract
):
    closes = np.array(FALL if side > 0 else [10_000 / price for price in FALL])
    opens = np.r_[closes[0], closes[:-1]]
    frame = bars_frame(opens, closes)
    ends = [
        play(frame, [(1, side * 10.0, 0.0, None)], liquidation_fee=fee, leverage=leverage, contract=contract)
        for fee in fees
    ]
    assert ends[0][1] == ends[1][1]
    assert len(ends[0][1]) == 2  # the entry and the liquidation
    assert ends[1][0] <= ends[0][0] + NOISE
    notional = 10 * 100 if contract == "linear" else 10 / 100
    margin, entry_fee = notional / leverage, notional * 0.00055
    assert ends[1][0] >= CASH - margin - entry_fee - 1e-7


def bars_frame(opens, closes):
    table = pd.DataFrame({"open": opens, "high": np.maximum(opens, closes), "low": np.minimum(opens, closes)})
    table["close"], table["volume"] = closes, 1e6
    table.insert(0, "timestamp", pd.date_range("2024-01-01", periods=len(table), freq="h", tz="UTC"))
    return Bars.from_frame(table, timeframe="1h")


def test_the_costs_do_cost(bars):
    """Each of them, on trades that meet it: else the tests above would prove nothing."""
    placed = [(3, 40.0, 0.0, None), (8, -20.0, 0.001, bt.Order.Limit), (20, -20.0, 0.0, None)]
    none = dict.fromkeys(rates, 0.0)
    free, _ = play(bars, placed, **none)
    for name in rates:
        assert play(bars, placed, **none | {name: 0.01})[0] < free - 1e-6, name
    funding = Funding("X", hourly_funding({}).times, np.full(len(hourly_funding({})), 0.001))
    assert play(bars, placed, funding=funding, **none)[0] < free - 1
