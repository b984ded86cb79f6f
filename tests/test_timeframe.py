import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.errors import BarsError
from hissbt.timeframe import format_timeframe, is_intraday, parse_timeframe


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("1m", 60), ("15m", 900), ("1h", 3600), ("4h", 14400), ("1d", 86400), ("1w", 604800)],
)
def test_a_timeframe_is_a_count_and_a_unit(text, seconds):
    assert parse_timeframe(text) == pd.Timedelta(seconds=seconds)
    assert format_timeframe(parse_timeframe(text)) == text


def test_case_and_spaces_around_do_not_matter():
    assert parse_timeframe(" 4H ") == pd.Timedelta(hours=4)


def test_the_shortest_spelling_is_written():
    assert format_timeframe(parse_timeframe("60m")) == "1h"
    assert format_timeframe(parse_timeframe("90m")) == "90m"
    assert format_timeframe(parse_timeframe("168h")) == "1w"


@given(count=st.integers(1, 10_000), unit=st.sampled_from("smhdw"))
def test_what_is_written_can_be_read_back(count, unit):
    length = parse_timeframe(f"{count}{unit}")
    assert parse_timeframe(format_timeframe(length)) == length


@pytest.mark.parametrize("text", ["", "h", "1", "0h", "-1h", "1.5h", "1 h", "1y", "1h30m", "hourly", "1M"])
def test_anything_else_is_refused_with_a_hint(text):
    with pytest.raises(BarsError, match=r"unknown timeframe .* such as 5m, 1h or 1d"):
        parse_timeframe(text)


def test_a_day_is_not_intraday():
    assert is_intraday(pd.Timedelta(hours=23))
    assert not is_intraday(pd.Timedelta(days=1))
