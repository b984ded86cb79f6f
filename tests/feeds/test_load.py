import subprocess
import sys

import pandas as pd
import pytest

import hissbt.feeds
from hissbt.errors import BarsError
from hissbt.feeds import load_bars
from hissbt.market import Market


@pytest.fixture(scope="module")
def sp500():
    return load_bars("sp500")


def test_the_sample_has_a_name(sp500):
    assert (len(sp500), sp500.market.symbol, sp500.market.calendar) == (5_031, "SP500", "XNYS")


def test_bars_pass_through(sp500):
    assert load_bars(sp500) is sp500


def test_the_same_bars_come_from_a_frame_and_from_files(sp500, tmp_path):
    sp500.frame.to_csv(tmp_path / "SP500.csv.gz")
    sp500.frame.to_parquet(tmp_path / "SP500.parquet")
    for spec in (sp500.frame, tmp_path / "SP500.csv.gz", str(tmp_path / "SP500.parquet")):
        assert load_bars(spec, market=sp500.market).sha256 == sp500.sha256


def test_a_market_that_is_given_replaces_the_known_one(sp500):
    market = Market("ES", tick=0.25, calendar="XNYS")
    assert load_bars("sp500", market=market).market == market
    assert load_bars(sp500, market=market).market == market
    assert load_bars(sp500.frame, market=market).market == market


def test_a_part_is_selected_by_when_bars_open(sp500):
    year = load_bars("sp500", since="2008-01-01", until="2009-01-01")
    assert year.frame.equals(sp500["2008-01-01":"2009-01-01"].frame)
    assert (year.open_times[0], year.open_times[-1]) == (
        pd.Timestamp("2008-01-02", tz="UTC"),
        pd.Timestamp("2008-12-31", tz="UTC"),
    )
    assert len(load_bars(sp500, until="2008-01-01")) + len(load_bars(sp500, since="2008-01-01")) == len(sp500)


def test_a_timeframe_that_is_stated_must_be_right(sp500):
    assert load_bars("sp500", timeframe="1d").sha256 == sp500.sha256
    for spec in ("sp500", sp500, sp500.frame):
        with pytest.raises(BarsError, match=r"wrong timeframe 1h: .* 1d"):
            load_bars(spec, timeframe="1h")


@pytest.mark.parametrize(
    ("spec", "message"),
    [("sp501", "must end in .csv"), ("absent.csv", "there is no file"), (5, "from int"), (None, "from NoneType")],
)
def test_what_names_no_bars_is_refused(spec, message):
    with pytest.raises(BarsError, match=message):
        load_bars(spec)


def test_an_empty_selection_says_what_there_is(sp500):
    with pytest.raises(
        BarsError, match="no bars between 2030-01-01 and the end: these of SP500 open at 1999-01-04"
    ):
        load_bars(sp500, since="2030-01-01")


def test_loading_bars_does_not_import_backtrader():
    code = "import sys; from hissbt.feeds import load_bars; assert 'backtrader' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_only_public_names_are_there():
    assert hissbt.feeds.BarsFeed.__name__ == "BarsFeed"
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = hissbt.feeds.Nothing
