"""Candles: rows make the bars again that they are of, moderate ones sound bars, and stamps go by the calendar."""

import numpy as np
import pandas as pd
import pytest
from arch.data import sp500
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from hissbt.bars import Bars
from hissbt.candles import CANDLE, LOG_RETURN, VOLUME_SURPRISE, candle_rows, next_closes, to_bars
from hissbt.errors import BarsError, FeatureError
from hissbt.features import FeatureSet
from hissbt.feeds import load_bars
from hissbt.market import Market

LOWEST = [-0.1, -0.05, 0.0, 0.0, -0.69]  # of a candle row; ln ½ is no volume at all
HIGHEST = [0.1, 0.05, 0.3, 0.3, 3.0]


def daily() -> Bars:
    """The S&P 500, 5,031 days."""
    frame = sp500.load().drop(columns="Adj Close")
    return Bars.from_frame(frame, market=Market("SP500", calendar="XNYS"), timeframe="1d")


DAILY = daily()


@st.composite
def candles(draw) -> np.ndarray:
    """Candle rows as a rough market may have them [N,5]."""
    count = draw(st.integers(1, 40))
    unit = draw(arrays(float, (count, len(CANDLE)), elements=st.floats(0, 1)))
    return np.array(LOWEST) + unit * (np.array(HIGHEST) - np.array(LOWEST))


def joined(prefix: Bars, scenario: Bars) -> Bars:
    return Bars(pd.concat([prefix.frame, scenario.frame]), prefix.market, prefix.timeframe)


def assert_made_again(bars: Bars, split: int) -> None:
    """The rows of the bars from ``split`` on lead back to these bars."""
    whole = bars.frame.iloc[split:, :5]
    made = to_bars(candle_rows(bars)[split:], CANDLE, bars[:split], whole.index)
    assert_allclose(made.frame, whole, rtol=1e-9)
    assert (made.market, made.timeframe) == (bars.market, bars.timeframe)


@pytest.mark.parametrize("split", [1, 700, 5030])
def test_the_rows_of_an_index_make_its_bars_again(split):
    assert_made_again(DAILY, split)


@pytest.mark.parametrize(
    "name",
    ["bybit_linear_BTCUSDT_1h.csv.gz", "bybit_linear_ETHUSDT_5m.csv.gz", "yahoo_BTC-USD_1d_2014-09_2024-12.csv"],
)
def test_the_rows_of_real_bars_make_them_again(market_data, name):
    assert_made_again(load_bars(market_data / name), 1000)


@given(candles(), st.integers(1, 200))
@settings(max_examples=60, deadline=None)
def test_rows_come_back_from_the_bars_that_they_made(rows, length):
    prefix = DAILY[:length]
    bars = to_bars(rows, CANDLE, prefix, DAILY.frame.index[length : length + len(rows)])
    assert_allclose(candle_rows(joined(prefix, bars))[length:], rows, atol=1e-7)  # the root of a wick of 1e-14
    assert_allclose(bars.frame["close"], prefix.frame["close"].iloc[-1] * np.exp(rows[:, LOG_RETURN].cumsum()))
    first = bars.frame["open"].iloc[0]
    assert first == pytest.approx(prefix.frame["close"].iloc[-1] * np.exp(rows[0, CANDLE.index("gap")]))


@given(arrays(float, st.tuples(st.integers(1, 30), st.just(5)), elements=st.floats(-2, 2)))
@settings(max_examples=100, deadline=None)
def test_any_moderate_row_makes_bars_that_pass_their_validation(rows):
    frame = to_bars(rows, CANDLE, DAILY[:50], DAILY.frame.index[50 : 50 + len(rows)]).frame
    assert (frame["high"] >= frame[["open", "close"]].max(axis=1)).all()
    assert (frame["low"] <= frame[["open", "close"]].min(axis=1)).all()


def test_wicks_and_volumes_below_zero_count_as_none():
    rows = np.array([[0.01, 0.0, -0.2, -0.2, -5.0]])
    bar = to_bars(rows, CANDLE, DAILY[:50]).frame.iloc[0]
    assert bar["high"] == bar["close"]
    assert bar["low"] == bar["open"]
    assert bar["volume"] == 0.0


def test_what_the_rows_do_not_say_is_plain():
    prefix = DAILY[:300]
    frame = to_bars(np.full((5, 1), 0.01), ["log_return"], prefix).frame
    assert_allclose(frame["open"], prefix.frame["close"].iloc[-1] * np.exp(0.01 * np.arange(5)))
    assert_array_equal(frame["high"], frame["close"])
    assert_array_equal(frame["low"], frame["open"])
    mean = prefix.frame["volume"].ewm(span=24, adjust=True).mean().iloc[-1]
    assert_allclose(frame["volume"], mean)


def test_columns_are_known_by_their_names_in_any_order():
    rows = candle_rows(DAILY[:320])[300:]
    order = [4, 2, 0, 3, 1]
    shuffled = to_bars(rows[:, order], [CANDLE[place] for place in order], DAILY[:300])
    assert_array_equal(shuffled.frame, to_bars(rows, CANDLE, DAILY[:300]).frame)


def test_the_span_of_the_volume_is_that_of_its_name():
    names = ("log_return", "volume_surprise:5")
    rows = FeatureSet(names).scan(DAILY.arrays())
    assert_allclose(
        to_bars(rows[300:400], names, DAILY[:300]).frame["volume"], DAILY.frame["volume"].iloc[300:400], rtol=1e-9
    )


def test_without_volume_in_the_prefix_there_is_none_after_it():
    frame = DAILY[:50].frame.assign(volume=0.0)
    prefix = Bars(frame, DAILY.market, DAILY.timeframe)
    rows = candle_rows(DAILY)[50:60]
    assert (to_bars(rows, CANDLE, prefix).frame["volume"] == 0).all()


def test_bars_before_the_prefix_do_not_matter_but_for_the_memory_of_the_volume():
    rows = candle_rows(DAILY)[900:950]
    near, far = to_bars(rows, CANDLE, DAILY[400:900]), to_bars(rows, CANDLE, DAILY[:900])
    assert_allclose(near.frame, far.frame, rtol=1e-12)


# --- stamps


def test_stamps_go_on_by_the_sessions_of_an_exchange():
    closes = next_closes(DAILY[:100], 1500)
    assert_array_equal(closes, DAILY.frame.index[100:1600])


def test_stamps_of_a_market_that_never_closes_are_a_timeframe_apart(hourly_bars):
    closes = next_closes(hourly_bars[:100], 500)
    assert_array_equal(closes, hourly_bars.frame.index[100:600])


def test_intraday_stamps_begin_anew_with_each_session():
    market = Market("SPY", calendar="XNYS")
    closes = market.expected_closes(
        pd.Timestamp("2024-03-01 15:30", tz="UTC"), pd.Timestamp("2024-04-20", tz="UTC"), pd.Timedelta("1h")
    )
    prices = pd.DataFrame(1.0, index=closes, columns=["open", "high", "low", "close", "volume"])
    bars = Bars(prices, market, "1h")
    assert_array_equal(next_closes(bars[:10], 200), closes[10:210])  # over the change to summer time
    made = to_bars(np.zeros((200, 5)), CANDLE, bars[:10])
    assert made.missing == 0


# --- refusals


@pytest.mark.parametrize(
    ("place", "value"),
    [(LOG_RETURN, 1e3), (LOG_RETURN, -1e3), (LOG_RETURN, np.nan), (2, np.nan), (3, 40.0), (VOLUME_SURPRISE, 1e3)],
)
def test_a_row_that_leads_to_an_impossible_bar_is_refused_by_its_number(place, value):
    rows = np.zeros((4, 5))
    rows[2, place] = value
    with pytest.raises(BarsError, match="candle row 2 "):
        to_bars(rows, CANDLE, DAILY[:50])


@pytest.mark.parametrize(
    ("names", "complaint"),
    [
        ((*CANDLE[:4], "rsi:14"), "feature 'rsi:14' is not one of a candle"),
        (("return:1", *CANDLE[1:]), "feature 'return:1' is not one of a candle"),
        ((*CANDLE[:4], "volume_surprise:5", "volume_surprise:24"), "is not one of a candle, or its second"),
        (CANDLE[1:], "log_return must be among them"),
        ((*CANDLE[:4], "macd"), "unknown feature"),
    ],
)
def test_names_that_are_not_those_of_candles_are_refused(names, complaint):
    with pytest.raises(FeatureError, match=complaint):
        to_bars(np.zeros((3, len(names))), names, DAILY[:50])


@pytest.mark.parametrize("shape", [(3, 4), (3, 6), (5,), (2, 3, 5)])
def test_rows_of_another_shape_are_refused(shape):
    with pytest.raises(FeatureError, match="do not fit"):
        to_bars(np.zeros(shape), CANDLE, DAILY[:50])
