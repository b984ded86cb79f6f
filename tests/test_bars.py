import hashlib
import pickle
from datetime import UTC, date, datetime, timedelta, timezone

import numpy as np
import pandas as pd
import pytest
from arch.data import sp500
from hypothesis import given
from hypothesis import strategies as st

from hissbt.bars import BAR_FIELDS, Bars, Gap, parse_time
from hissbt.errors import BarsError
from hissbt.market import Market

HOUR = pd.Timedelta(hours=1)
STOCKS = Market("SP500", calendar="XNYS")


def utc(text):
    return pd.Timestamp(text, tz="UTC")


def hours(count, first="2024-01-01 00:00"):
    """Plain hourly rows, stamped at the open."""
    steps = np.arange(count, dtype=float)
    rows = {"open": 100 + steps, "high": 103 + steps, "low": 99 + steps, "close": 102 + steps, "volume": 1 + steps}
    return pd.DataFrame(rows, index=pd.date_range(first, periods=count, freq="h", tz="UTC", unit="ns"))


def spoiled(row, column, value):
    frame = hours(6)
    frame.iloc[row, frame.columns.get_loc(column)] = value
    return frame


@st.composite
def gappy_bars(draw):
    """Hourly bars that begin at any hour and have holes anywhere."""
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 5]), min_size=1, max_size=40))
    offsets = draw(st.integers(0, 200)) + np.cumsum([0, *steps])
    price = st.floats(0.5, 1e5, allow_subnormal=False)
    rows = [sorted(draw(st.tuples(price, price, price, price))) for _ in offsets]
    frame = pd.DataFrame(rows, columns=["low", "open", "close", "high"])
    frame["volume"] = draw(st.lists(st.integers(0, 1000), min_size=len(rows), max_size=len(rows)))
    frame["rate"] = np.arange(len(rows)) / 7
    frame.index = utc("2024-01-01") + pd.to_timedelta(offsets, unit="h")
    return Bars(frame, Market("TEST"), HOUR)


# --- what comes in


def test_open_stamps_are_shifted_once_to_the_close():
    bars = Bars.from_frame(hours(3))
    assert list(bars.frame.index) == [utc("2024-01-01 01:00"), utc("2024-01-01 02:00"), utc("2024-01-01 03:00")]
    assert bars.open_times[0] == utc("2024-01-01 00:00")
    assert bars.timeframe == HOUR


def test_close_stamps_stay_where_they_are():
    bars = Bars.from_frame(hours(3), stamp="close")
    assert bars.frame.index[0] == utc("2024-01-01 00:00")


def test_the_own_table_is_read_back_as_it_is():
    bars = Bars.from_frame(hours(5).assign(rate=0.5))
    assert Bars.from_frame(bars.frame, market=bars.market).sha256 == bars.sha256
    assert Bars.from_frame(bars.frame.reset_index(), market=bars.market).sha256 == bars.sha256


def test_the_table_is_float64_in_order_and_in_utc():
    frame = hours(3)[["volume", "close", "low", "high", "open"]].astype(int).assign(rate=1)
    bars = Bars.from_frame(frame)
    assert list(bars.frame.columns) == ["open", "high", "low", "close", "volume", "rate"]
    assert set(bars.frame.dtypes) == {np.dtype("float64")}
    assert bars.frame.index.name == "close_time"
    assert str(bars.frame.index.dtype) == "datetime64[ns, UTC]"
    assert bars.extra_columns == ("rate",)


def test_names_may_be_in_any_case():
    frame = hours(3).assign(rate=1.0).rename(columns=lambda name: f" {name.title()}")
    assert Bars.from_frame(frame).frame.equals(Bars.from_frame(hours(3).assign(rate=1.0)).frame)
    assert Bars.from_frame(hours(3).assign(**{"Adj Close": 5.0})).extra_columns == ("adj_close",)


@pytest.mark.parametrize("name", ["timestamp", "open_time", "datetime", "Date", "time", "TIME"])
def test_times_may_be_in_a_column(name):
    frame = hours(3).rename_axis(name).reset_index()
    assert Bars.from_frame(frame).sha256 == Bars.from_frame(hours(3)).sha256


def test_other_time_columns_are_not_taken_for_prices():
    frame = hours(3).rename_axis("open_time").reset_index()
    frame["close_time"] = frame["open_time"] + timedelta(minutes=59, seconds=59)
    assert Bars.from_frame(frame).sha256 == Bars.from_frame(hours(3)).sha256


@pytest.mark.parametrize(
    "times",
    [
        lambda index: index.strftime("%Y-%m-%dT%H:%M:%SZ"),
        lambda index: index.strftime("%Y-%m-%d %H:%M"),
        lambda index: index.tz_convert("Asia/Tokyo").map(lambda stamp: stamp.isoformat()),
        lambda index: index.tz_convert("America/New_York"),
        lambda index: index.tz_localize(None),
        lambda index: index.as_unit("s").asi8,
        lambda index: index.as_unit("ms").asi8,
        lambda index: index.as_unit("s").asi8.astype(float),
        lambda index: index.to_pydatetime(),
    ],
    ids=["Z", "naive text", "offset", "zone", "naive", "seconds", "milliseconds", "float seconds", "datetime"],
)
def test_times_may_be_written_in_many_ways(times):
    frame = hours(30).reset_index(drop=True).assign(timestamp=times(hours(30).index))
    assert Bars.from_frame(frame).sha256 == Bars.from_frame(hours(30)).sha256


def test_the_timeframe_is_the_most_common_step():
    assert Bars.from_frame(hours(10).drop(hours(10).index[[2, 5, 6]])).timeframe == HOUR
    assert (
        Bars.from_frame(sp500.load()[["Open", "High", "Low", "Close", "Volume"]], market=STOCKS).timeframe.days
        == 1
    )


def test_the_callers_frame_is_never_touched():
    frame = hours(5).rename(columns=str.title).astype(int)
    before = frame.copy(deep=True)
    bars = Bars.from_frame(frame)
    assert frame.equals(before)
    frame.iloc[0, 0] = 7
    assert bars.frame.iloc[0, 0] == 100


# --- what is refused


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (hours(0), "there are no bars"),
        (spoiled(2, "close", np.nan), r"row 2 \(close 2024-01-01 03:00:00 UTC\) has a value that is missing"),
        (spoiled(3, "volume", np.inf), "row 3 .* missing or not finite"),
        (hours(6).assign(rate=[0, 1, 2, np.nan, 4, 5]), "row 3 .* missing or not finite"),
        (spoiled(1, "low", 0.0), "row 1 .* price of zero or less"),
        (spoiled(1, "low", -5.0), "row 1 .* price of zero or less"),
        (spoiled(4, "high", 104.0), "row 4 .* high below its open, close or low"),
        (spoiled(4, "low", 105.0), "row 4 .* low above its open or close"),
        (spoiled(5, "volume", -1.0), "row 5 .* negative volume"),
        (
            hours(6).iloc[[0, 1, 3, 2, 4, 5]],
            r"row 3 \(2024-01-01 02:00:00 UTC\) is earlier than the row before it",
        ),
        (hours(6).iloc[[0, 1, 1, 2, 3, 4]], r"row 2 \(2024-01-01 01:00:00 UTC\) repeats the time"),
        (hours(6).drop(columns="volume"), "no column 'volume'"),
        (hours(6).reset_index(drop=True), "no time column"),
        (hours(6).assign(Close=1.0), "more than one column 'close'"),
        (hours(6).assign(note="fine"), r"row 0 .* 'fine' in column 'note', which is not a number"),
        (hours(6).astype(object).assign(close=[1, 2, "n/a", 4, 5, 6]), "row 2 .* 'n/a' in column 'close'"),
        (hours(6).assign(seen=pd.Timestamp("2024-01-01")), "column 'seen', which is not a number"),
        (hours(1), "timeframe of a single bar"),
    ],
)
def test_bad_rows_are_refused_by_name(frame, message):
    with pytest.raises(BarsError, match=message):
        Bars.from_frame(frame)


@pytest.mark.parametrize(
    ("time", "message"),
    [
        ("2024-01-01 02:00 Mars/Base", "row 2 has the time '2024-01-01 02:00 Mars/Base', .* timezone"),
        ("2024-01-01 02:00 EST", "row 2 .* timezone"),
        ("01.02.2024 02:00", "row 2 has the time"),
        ("soon", "row 2 has the time 'soon'"),
        (None, "row 2 has the time"),
    ],
)
def test_times_that_would_need_a_guess_are_refused(time, message):
    frame = hours(4).reset_index(drop=True)
    frame["timestamp"] = hours(4).index.strftime("%Y-%m-%d %H:%M")
    frame.loc[2, "timestamp"] = time
    with pytest.raises(BarsError, match=message):
        Bars.from_frame(frame)


@pytest.mark.parametrize("numbers", [[20240101, 20240102], [1.0, 2.0], [1.7e9, 1.7e12], [1.7e9, np.nan]])
def test_numbers_that_are_no_unix_times_are_refused(numbers):
    frame = hours(2).reset_index(drop=True).assign(timestamp=numbers)
    with pytest.raises(BarsError, match="neither unix seconds nor milliseconds"):
        Bars.from_frame(frame)


def test_a_wrong_timeframe_is_called_so():
    with pytest.raises(BarsError, match="wrong timeframe 4h: the rows are 1h apart"):
        Bars.from_frame(hours(10), timeframe="4h")
    with pytest.raises(BarsError, match="wrong timeframe 5m: the rows are 1h apart"):
        Bars.from_frame(hours(10), timeframe="5m")
    with pytest.raises(BarsError, match="wrong timeframe 4h: the rows are 1h apart"):
        Bars(hours(10), Market("X"), pd.Timedelta(hours=4))


def test_a_row_off_the_grid_is_refused_by_name():
    late = hours(6)
    late.index = [*late.index[:4], *(late.index[4:] + timedelta(minutes=20))]
    with pytest.raises(
        BarsError, match=r"row 4 .* comes 0 days 01:20:00 after .* not a multiple of the timeframe 1h"
    ):
        Bars.from_frame(late)
    early = hours(6)
    early.index = [*early.index[:4], *(early.index[4:] - timedelta(minutes=20))]
    with pytest.raises(BarsError, match=r"row 4 .* comes 0 days 00:40:00 after"):
        Bars.from_frame(early)


def test_daily_bars_of_an_exchange_carry_the_date_of_the_session():
    frame = hours(3).set_axis(pd.date_range("2024-01-02 05:00", periods=3, tz="UTC"))
    with pytest.raises(BarsError, match="not stamped at midnight UTC"):
        Bars.from_frame(frame, market=STOCKS)


def test_a_stamp_is_open_or_close():
    with pytest.raises(BarsError, match="unknown stamp 'middle'"):
        Bars.from_frame(hours(3), stamp="middle")


# --- gaps


def test_gaps_are_listed_and_not_filled():
    bars = Bars.from_frame(hours(10).drop(hours(10).index[[2, 5, 6]]))
    assert len(bars) == 7
    assert bars.gaps == (
        Gap(utc("2024-01-01 02:00"), utc("2024-01-01 04:00"), 1),
        Gap(utc("2024-01-01 05:00"), utc("2024-01-01 08:00"), 2),
    )
    assert bars.missing == 3


@given(bars=gappy_bars())
def test_bars_and_missing_bars_make_up_the_whole_time(bars):
    closes = bars.frame.index
    assert len(bars) + bars.missing == (closes[-1] - closes[0]) // HOUR + 1
    assert all(gap.before - gap.after == (gap.missing + 1) * HOUR for gap in bars.gaps)


def test_the_outages_of_an_exchange_are_found(market_data):
    frame = pd.read_csv(market_data / "binance_spot_BTCUSDT_1h_2017-08_2024-04_GAPS.csv.gz")
    bars = Bars.from_frame(frame)
    longest = max(bars.gaps, key=lambda gap: gap.missing)
    assert (len(bars), len(bars.gaps), bars.missing) == (58_419, 28, 128)
    # The last bar before it opened at 2018-02-08 00:00.
    assert longest == Gap(utc("2018-02-08 01:00"), utc("2018-02-09 11:00"), 33)


def test_twenty_years_of_stocks_have_no_gap_though_weekends_are_empty():
    frame = sp500.load().drop(columns="Adj Close")
    assert Bars.from_frame(frame, market=STOCKS).gaps == ()
    crypto = Bars.from_frame(frame, market=Market("SP500"))
    assert crypto.missing == (frame.index[-1] - frame.index[0]).days + 1 - len(frame)


def test_a_lost_session_is_a_gap():
    frame = sp500.load().drop(columns="Adj Close").loc["2001-09-04":"2001-09-21"]
    bars = Bars.from_frame(frame.drop(pd.Timestamp("2001-09-18")), market=STOCKS)
    assert bars.gaps == (Gap(utc("2001-09-18"), utc("2001-09-20"), 1),)


def test_intraday_bars_of_an_exchange_may_follow_its_summer_time():
    opens = pd.date_range("2018-03-09 14:30", periods=7, freq="h", tz="UTC")
    opens = opens.append(pd.date_range("2018-03-12 13:30", periods=7, freq="h", tz="UTC"))
    bars = Bars.from_frame(hours(14).set_axis(opens), market=STOCKS)
    assert bars.gaps == ()
    assert bars[:10].gaps == ()
    lost = Bars.from_frame(hours(14).set_axis(opens).drop(opens[3]), market=STOCKS)
    assert lost.missing == 1


# --- parts


@given(bars=gappy_bars(), data=st.data())
def test_a_slice_by_position_is_a_slice_of_the_rows(bars, data):
    first = data.draw(st.integers(0, len(bars) - 1))
    last = data.draw(st.integers(first + 1, len(bars)))
    part = bars[first:last]
    assert part.frame.equals(bars.frame.iloc[first:last])
    assert (part.market, part.timeframe) == (bars.market, bars.timeframe)


@given(bars=gappy_bars(), first=st.integers(-100, 20_000), length=st.integers(1, 20_000))
def test_a_bar_is_inside_when_it_opens_not_before_and_closes_not_after(bars, first, length):
    since = utc("2024-01-01") + pd.Timedelta(minutes=first)
    until = since + pd.Timedelta(minutes=length)
    inside = bars.frame[(bars.open_times >= since) & (bars.frame.index <= until)]
    if inside.empty:
        with pytest.raises(BarsError, match="no bars between"):
            bars.between(since, until)
    else:
        assert bars.between(since, until).frame.equals(inside)
        assert bars[since:until].frame.equals(inside)


def test_a_day_begins_with_the_bar_that_opens_at_midnight_and_ends_with_the_one_that_closes_there():
    day = Bars.from_frame(hours(72))["2024-01-02":"2024-01-03"]
    assert len(day) == 24
    assert (day.open_times[0], day.frame.index[-1]) == (utc("2024-01-02"), utc("2024-01-03"))


@pytest.mark.parametrize(
    "since",
    [
        "2024-01-02 06:00",
        "2024-01-02T15:00+09:00",
        datetime(2024, 1, 2, 6),
        datetime(2024, 1, 2, 6, tzinfo=UTC),
        datetime(2024, 1, 2, 8, tzinfo=timezone(timedelta(hours=2))),
        pd.Timestamp("2024-01-02 06:00"),
    ],
)
def test_moments_may_be_texts_and_times_and_are_utc_without_a_zone(since):
    assert Bars.from_frame(hours(72)).between(since).open_times[0] == utc("2024-01-02 06:00")
    assert Bars.from_frame(hours(72))[since:].open_times[0] == utc("2024-01-02 06:00")


def test_a_date_is_its_midnight():
    assert parse_time(date(2024, 1, 2)) == utc("2024-01-02")


@pytest.mark.parametrize("moment", ["soon", "", "2024-13-01", 5, None, pd.NaT])
def test_what_is_no_moment_is_refused(moment):
    with pytest.raises(BarsError, match="is not a time"):
        parse_time(moment)


def test_only_ranges_with_bars_can_be_picked():
    bars = Bars.from_frame(hours(10))
    for key in (3, "2024-01-01", slice(0, 10, 2)):
        with pytest.raises(BarsError, match="cannot be picked"):
            bars[key]
    with pytest.raises(BarsError, match="no bars at positions"):
        bars[10:]
    with pytest.raises(BarsError, match=r"no bars between 2025-01-01 and the end: .* 2024-01-01 00:00:00 UTC"):
        bars.between("2025-01-01")


# --- content


def test_the_hash_is_of_the_content_and_not_of_its_form():
    frame = hours(5).assign(rate=0.5)
    sha = Bars.from_frame(frame).sha256
    assert Bars.from_frame(frame.rename(columns=str.upper).tz_convert("Asia/Tokyo")).sha256 == sha
    assert pickle.loads(pickle.dumps(Bars.from_frame(frame))).sha256 == sha


def test_every_part_of_the_content_changes_the_hash():
    frame = hours(5).assign(rate=0.5)
    bars = Bars.from_frame(frame)
    altered = frame.copy()
    altered.iloc[3, 4] = np.nextafter(altered.iloc[3, 4], 99)
    others = [
        Bars.from_frame(altered),
        Bars.from_frame(frame, stamp="close"),
        Bars.from_frame(frame, market=Market("OTHER")),
        Bars.from_frame(frame.rename(columns={"rate": "funding"})),
        Bars(bars.frame, bars.market, pd.Timedelta(minutes=30)),
        bars[:4],
    ]
    assert len({bars.sha256, *(other.sha256 for other in others)}) == 7


def test_the_hash_can_be_made_again_from_its_description():
    bars = Bars.from_frame(hours(2), market=Market("X"))
    stamps = np.array([1704070800, 1704074400], dtype="<i8") * 10**9
    values = np.array([[100, 103, 99, 102, 1], [101, 104, 100, 103, 2]], dtype="<f8")
    head = b"X\n1h\nopen\nhigh\nlow\nclose\nvolume\n"
    assert bars.sha256 == hashlib.sha256(head + stamps.tobytes() + values.tobytes()).hexdigest()


def test_arrays_are_rows_of_seconds_prices_volume_and_extras():
    bars = Bars.from_frame(hours(2).assign(rate=0.5))
    assert BAR_FIELDS == ("close_time_s", "open", "high", "low", "close", "volume")
    rows = [[1704070800, 100, 103, 99, 102, 1, 0.5], [1704074400, 101, 104, 100, 103, 2, 0.5]]
    assert bars.arrays(["rate"]).tolist() == rows
    assert bars.arrays().tolist() == [row[:-1] for row in rows]
    assert bars.arrays().dtype == np.float64
    with pytest.raises(BarsError, match="no extra column 'funding': they have rate"):
        bars.arrays(["funding"])


def test_bars_say_what_they_are():
    bars = Bars.from_frame(hours(2), market=Market("BTCUSDT"))
    assert repr(bars) == "Bars(BTCUSDT 1h, 2 bars, 2024-01-01 00:00:00 UTC to 2024-01-01 02:00:00 UTC)"


# --- resampling


@given(bars=gappy_bars(), length=st.sampled_from(["2h", "4h", "1d"]))
def test_coarse_bars_are_those_of_pandas_less_an_unfinished_last_one(bars, length):
    how = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum", "rate": "last"}
    size = pd.Timedelta(length.replace("d", "D"))
    oracle = bars.frame.resample(size, closed="right", label="right").agg(how).dropna()
    oracle = oracle[oracle.index <= bars.frame.index[-1]]
    if oracle.empty:
        with pytest.raises(BarsError, match="do not fill one bar"):
            bars.resample(length)
    else:
        coarse = bars.resample(length)
        assert coarse.timeframe == size
        pd.testing.assert_frame_equal(coarse.frame, oracle, check_freq=False)


@given(bars=gappy_bars(), data=st.data())
def test_what_comes_later_never_changes_a_coarse_bar(bars, data):
    count = data.draw(st.integers(1, len(bars)))
    try:
        early = bars[:count].resample("4h")
    except BarsError:
        return
    assert bars.resample("4h").frame.iloc[: len(early)].equals(early.frame)


def test_an_unfinished_block_is_left_out_and_a_started_one_is_not():
    coarse = Bars.from_frame(hours(9, "2024-01-01 02:00")).resample("4h")
    assert list(coarse.frame.index) == [utc("2024-01-01 04:00"), utc("2024-01-01 08:00")]
    assert coarse.frame.iloc[0].tolist() == [100, 104, 99, 103, 3]


def test_weeks_begin_on_mondays():
    weeks = Bars.from_frame(hours(24 * 20, "2024-01-03 00:00")).resample("1w")
    assert list(weeks.open_times) == [utc("2024-01-01"), utc("2024-01-08"), utc("2024-01-15")]


def test_five_minutes_add_up_to_the_hours_that_the_exchange_recorded(market_data):
    fine = Bars.from_frame(pd.read_csv(market_data / "bybit_linear_BTCUSDT_5m.csv.gz"))
    recorded = Bars.from_frame(pd.read_csv(market_data / "bybit_linear_BTCUSDT_1h.csv.gz"))
    hourly = fine.resample("1h").between("2025-04-03 18:00", "2025-05-03 15:00")
    recorded = recorded.between("2025-04-03 18:00", "2025-05-03 15:00")
    assert len(hourly) == 717
    pd.testing.assert_frame_equal(hourly.frame, recorded.frame, rtol=1e-9)


def test_weeks_of_an_exchange_have_no_gaps_where_its_days_have_none():
    bars = Bars.from_frame(sp500.load().drop(columns="Adj Close"), market=STOCKS)
    weeks = bars.resample("1w")
    assert weeks.gaps == ()
    assert weeks.frame["high"].max() == bars.frame["high"].max()


def test_resampling_needs_a_multiple_and_enough_bars():
    bars = Bars.from_frame(hours(3))
    for length in ("90m", "30m"):
        with pytest.raises(BarsError, match=f"cannot be resampled to {length}: choose a multiple of 1h"):
            bars.resample(length)
    with pytest.raises(BarsError, match="3 bars do not fill one bar of 4h"):
        bars.resample("4h")


def test_hours_of_an_exchange_are_not_cut_at_midnight():
    opens = pd.date_range("2018-03-09 14:30", periods=7, freq="h", tz="UTC")
    bars = Bars.from_frame(hours(7).set_axis(opens), market=STOCKS)
    with pytest.raises(BarsError, match="calendar XNYS cannot be resampled to 2h: choose 1d or longer"):
        bars.resample("2h")


def test_other_values_keep_the_times_and_are_checked(hourly_bars):
    bars = hourly_bars[:10]
    doubled = bars.with_values(2 * bars.frame.to_numpy())
    assert doubled.frame.equals(2 * bars.frame)
    assert doubled.timeframe == bars.timeframe
    with pytest.raises(BarsError, match=r"row 0 .* price of zero or less"):
        bars.with_values(0 * bars.frame.to_numpy())
