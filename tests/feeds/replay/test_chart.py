"""Candles of a replay: coarser ones are resampled bars, and a forming one tells nothing of its end."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hissbt.bars import Bars
from hissbt.feeds.replay.chart import Chart, floor_ms

HOUR_MS = 3_600_000
LENGTHS = {"60": "1h", "120": "2h", "240": "4h", "720": "12h", "D": "1d", "W": "1w"}


def with_end(bars: Bars, row: int, **values: float) -> Bars:
    """Return bars that differ in one of them."""
    frame = bars.frame.copy()
    frame.loc[frame.index[row], list(values)] = list(values.values())
    return Bars(frame, bars.market, bars.timeframe)


@pytest.mark.parametrize("interval", LENGTHS)
def test_coarser_candles_are_the_resampled_bars(hourly_bars, interval):
    expected = hourly_bars.resample(LENGTHS[interval])
    candles = Chart.of_bars(hourly_bars).candles(interval)
    whole = candles.closes_ms <= hourly_bars.frame.index.asi8[-1] // 1_000_000
    assert candles.closes_ms[whole].tolist() == (expected.frame.index.asi8 // 1_000_000).tolist()
    np.testing.assert_allclose(candles.values[whole, :5], expected.frame.to_numpy(), rtol=1e-12)
    assert np.array_equal(candles.values[whole, :4], expected.frame.iloc[:, :4].to_numpy())


def test_months_are_those_of_the_calendar(hourly_bars):
    candles = Chart.of_bars(hourly_bars).candles("M")
    opens = pd.to_datetime(candles.opens_ms, unit="ms").strftime("%Y-%m-%d").tolist()
    assert opens == ["2024-01-01", "2024-02-01"]
    assert candles.closes_ms[0] == candles.opens_ms[1]
    january = hourly_bars.between("2024-01-01", "2024-02-01").frame
    assert candles.values[0, :4].tolist() == [
        january["open"].iloc[0],
        january["high"].max(),
        january["low"].min(),
        january["close"].iloc[-1],
    ]


@given(moment=st.integers(0, 4 * 10**12))
def test_a_moment_lies_in_the_candle_that_it_is_floored_to(moment):
    for interval in ("1", "60", "D"):
        assert 0 <= moment - floor_ms(moment, interval) < 86_400_000
    week, month = floor_ms(moment, "W"), floor_ms(moment, "M")
    assert pd.Timestamp(week, unit="ms").day_of_week == 0
    assert 0 <= moment - week < 7 * 86_400_000
    assert pd.Timestamp(month, unit="ms") == pd.Timestamp(moment, unit="ms").to_period("M").start_time


@settings(max_examples=40, deadline=None)
@given(row=st.integers(1, 1100), parts=st.lists(st.floats(0, 0.999), min_size=2, max_size=6))
def test_a_forming_candle_starts_at_its_open_widens_and_stays_inside(hourly_bars, row, parts):
    chart = Chart.of_bars(hourly_bars)
    first, high, low, _, volume, _ = chart.own.values[row]
    opens_ms = int(chart.own.opens_ms[row])
    shown = [chart.forming("60", row, opens_ms + int(part * HOUR_MS)) for part in sorted([0.0, *parts])]
    assert shown[0].tolist() == [first, first, first, first, 0, 0]
    for before, after in pairwise(shown):
        assert after[1] >= before[1]
        assert after[2] <= before[2]
        assert after[4] >= before[4]
    for one in shown:
        assert low <= one[2] <= min(one[0], one[3]) <= max(one[0], one[3]) <= one[1] <= high
        assert one[4] < volume


def test_a_forming_candle_does_not_depend_on_where_it_will_end(hourly_bars):
    row = 50
    low, high = hourly_bars.frame[["low", "high"]].iloc[row]
    paths = []
    for close in (low, high):
        chart = Chart.of_bars(with_end(hourly_bars, row, close=close))
        moments = range(int(chart.own.opens_ms[row]), int(chart.own.closes_ms[row]), HOUR_MS // 100)
        paths.append([chart.forming("60", row, moment).tolist()[:5] for moment in moments])
    assert paths[0] == paths[1]
    assert len({tuple(path) for path in paths[0]}) > 10


def test_a_forming_day_holds_the_hours_that_have_closed_and_no_later_one(hourly_bars):
    now_ms = int(Chart.of_bars(hourly_bars).own.opens_ms[30])  # six hours into the second day
    day = hourly_bars.frame.iloc[24:30]
    shown = Chart.of_bars(hourly_bars).forming("D", 1, now_ms)
    later = with_end(hourly_bars, 40, high=1e6, volume=1e12)
    assert Chart.of_bars(later).forming("D", 1, now_ms).tolist()[:5] == shown.tolist()[:5]
    forming_open = hourly_bars.frame["open"].iloc[30]
    assert shown[:4].tolist() == [
        day["open"].iloc[0],
        max(day["high"].max(), forming_open),
        min(day["low"].min(), forming_open),
        forming_open,
    ]
    assert shown[4] == day["volume"].sum()


@pytest.mark.parametrize("inverse", [False, True])
def test_estimated_turnover_is_the_volume_at_a_price_inside_the_candle(hourly_bars, inverse):
    _, high, low, _, volume, turnover = Chart.of_bars(hourly_bars, inverse=inverse).own.values.T
    price = volume / turnover if inverse else turnover / volume
    assert ((low <= price) & (price <= high)).all()


def test_turnover_that_the_bars_have_is_theirs(hourly_bars):
    frame = hourly_bars.frame.assign(turnover=np.arange(len(hourly_bars)) + 0.5)
    chart = Chart.of_bars(Bars(frame, hourly_bars.market, hourly_bars.timeframe))
    assert chart.own.values[:, 5].tolist() == frame["turnover"].tolist()
