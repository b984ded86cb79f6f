import gzip

import pandas as pd
import pytest
from arch.data import sp500 as sample

from hissbt.bars import Bars
from hissbt.errors import BarsError
from hissbt.feeds.files import load_file, symbol_of
from hissbt.feeds.samples import SP500, sp500
from hissbt.market import Market

HEADER = "timestamp,open,high,low,close,volume\n"
ROWS = "2024-01-01T00:00:00Z,1,3,0.5,2,10\n2024-01-01T01:00:00Z,2,3,1,2,0\n"


def write(path, text):
    path.write_text(text)
    return path


def save_csv(frame, path):
    frame.to_csv(path)


def save_parquet(frame, path):
    frame.to_parquet(path)


@pytest.mark.parametrize(
    ("name", "save"),
    [("a.csv", save_csv), ("a.csv.gz", save_csv), ("A.CSV", save_csv), ("a.parquet", save_parquet)],
)
def test_bars_survive_a_file_to_the_last_bit(tmp_path, name, save):
    bars = sp500()
    bars = Bars(bars.frame.assign(rate=bars.frame["close"] / 3), bars.market, bars.timeframe)
    save(bars.frame, tmp_path / name)
    again = load_file(tmp_path / name, market=bars.market)
    assert again.sha256 == bars.sha256
    assert again.gaps == ()


def test_stamps_are_opens_unless_said_otherwise(tmp_path):
    path = write(tmp_path / "a.csv", HEADER + ROWS)
    assert load_file(path).open_times[0] == pd.Timestamp("2024-01-01", tz="UTC")
    assert load_file(path, stamp="close").frame.index[0] == pd.Timestamp("2024-01-01", tz="UTC")
    named = write(tmp_path / "b.csv", (HEADER + ROWS).replace("timestamp", "close_time"))
    assert load_file(named).sha256 == load_file(path, stamp="close", market=Market("b")).sha256


@pytest.mark.parametrize(
    "text",
    [
        (HEADER + ROWS).replace("timestamp", "Date").replace("volume", "Volume"),
        (HEADER + ROWS)
        .replace("2024-01-01T00:00:00Z", "1704067200")
        .replace("2024-01-01T01:00:00Z", "1704070800"),
        (HEADER + ROWS)
        .replace("2024-01-01T00:00:00Z", "1704067200000")
        .replace("2024-01-01T01:00:00Z", "1704070800000"),
        (HEADER + ROWS).replace("T00:00:00Z", "").replace("T01:00:00Z", " 01:00"),
    ],
    ids=["names", "seconds", "milliseconds", "plain date"],
)
def test_columns_and_times_may_be_written_in_many_ways(tmp_path, text):
    plain = load_file(write(tmp_path / "x_A.csv", HEADER + ROWS))
    assert load_file(write(tmp_path / "y_A.csv", text)).sha256 == plain.sha256


@pytest.mark.parametrize(
    ("name", "timeframe", "rows"),
    [
        ("bybit_linear_BTCUSDT_1d.csv", "1D", 1_975),
        ("bybit_linear_SOLUSDT_1h.csv.gz", "1h", 31_399),
        ("bybit_linear_ETHUSDT_5m.csv.gz", "5min", 40_170),
        ("binance_um_BTCUSDT_1m_crisis_ftx_2022-11-06.csv.gz", "1min", 10_080),
        ("yahoo_BTC-USD_1d_2014-09_2024-12.csv", "1D", 3_758),
    ],
)
def test_recorded_files_load_whole_and_without_gaps(market_data, name, timeframe, rows):
    bars = load_file(market_data / name)
    assert (bars.timeframe, len(bars), bars.missing) == (pd.Timedelta(timeframe), rows, 0)


def test_a_cut_of_a_recorded_file_equals_the_file(market_data):
    year = load_file(market_data / "binance_um_BTCUSDT_1m_2022.parquet")
    cut = load_file(market_data / "binance_um_BTCUSDT_1m_crisis_luna_2022-05-07.csv.gz")
    assert year.between("2022-05-07", "2022-05-14").sha256 == cut.sha256
    assert year.market == Market("BTCUSDT")


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("bybit_linear_BTCUSDT_1h.csv.gz", "BTCUSDT"),
        ("binance_spot_BTCUSDT_1h_2017-08_2024-04_GAPS.csv.gz", "BTCUSDT"),
        ("yahoo_BTC-USD_1d.csv", "BTC-USD"),
        ("BRK.B.parquet", "BRK.B"),
        ("my_prices.csv", "my_prices"),
    ],
)
def test_the_symbol_is_the_word_in_capitals(name, symbol):
    assert symbol_of(f"/data/OLD_X/{name}") == symbol


def test_a_market_that_is_given_is_kept(tmp_path):
    market = Market("SPY", calendar="XNYS")
    daily = "Date,Open,High,Low,Close,Volume\n2024-01-05,1,3,1,2,9\n2024-01-08,1,3,1,2,9\n2024-01-09,1,3,1,2,9\n"
    bars = load_file(write(tmp_path / "a.csv", daily), market=market)
    assert bars.market == market
    assert bars.gaps == ()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "is empty"),
        ("a.csv", b"\n\n", "cannot be read"),
        ("a.csv", HEADER.encode(), "there are no bars"),
        ("a.csv", ROWS.encode(), "has no header: its first line must name the columns timestamp,open"),
        ("a.csv", (HEADER + ROWS).replace("low", "floor").encode(), "in a.csv, the bars have no column 'low'"),
        ("a.csv", (HEADER + ROWS).replace("timestamp", "when").encode(), "no time column"),
        ("a.csv", (HEADER + ROWS).replace("0.5", "").encode(), "row 0 .* missing or not finite"),
        ("a.csv", (HEADER + ROWS).replace("0.5", "half").encode(), "row 0 .* 'half' in column 'low'"),
        (
            "a.csv",
            (HEADER + ROWS).replace("01:00:00Z", "01:00:00 Mars").encode(),
            "row 1 has the time .* timezone",
        ),
        ("a.csv", (HEADER + ROWS + '"unclosed').encode(), "cannot be read"),
        ("a.csv", b"\xff\xfe\x00\x01" * 9, "cannot be read"),
        ("a.csv.gz", b"not compressed", "cannot be read"),
        ("a.csv.gz", gzip.compress((HEADER + ROWS * 99).encode(), mtime=0)[:-20], "cannot be read"),
        ("a.csv.gz", gzip.compress((HEADER + ROWS).encode(), mtime=0)[:10] + b"\xff" * 40, "cannot be read"),
        ("a.parquet", b"not a parquet file", "cannot be read"),
        ("a.xlsx", b"PK", "must end in .csv, .csv.gz, .parquet"),
    ],
)
def test_a_file_that_is_no_good_is_refused_in_one_sentence(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BarsError, match=message) as caught:
        load_file(path)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_path_to_nothing_or_to_a_folder_is_refused(tmp_path):
    with pytest.raises(BarsError, match=r"there is no file .*absent.csv"):
        load_file(tmp_path / "absent.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(BarsError, match="is a folder"):
        load_file(tmp_path / "folder.csv")


def test_the_sample_is_the_index_itself():
    bars = sp500()
    assert bars.market == SP500
    assert (len(bars), bars.extra_columns, bars.gaps) == (5_031, (), ())
    assert bars.frame["close"].to_numpy().tolist() == sample.load()["Close"].to_numpy().tolist()
    assert bars.open_times[0] == pd.Timestamp("1999-01-04", tz="UTC")
