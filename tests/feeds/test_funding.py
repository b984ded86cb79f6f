import dataclasses

import numpy as np
import pandas as pd
import pytest

import hissbt
from hissbt.errors import BarsError
from hissbt.feeds.funding import Coverage, Funding, FundingHole, load_funding


def utc(text):
    return pd.Timestamp(text, tz="UTC")


@pytest.fixture
def funding():
    times = pd.date_range("2024-01-01", periods=30, freq="8h", tz="UTC")
    return Funding("BTCUSDT", times, np.linspace(-1e-4, 3e-4, 30))


@pytest.fixture
def real(market_data):
    return load_funding(market_data / "bybit_linear_BTCUSDT_funding_8h.csv")


def without(funding, *rows):
    return Funding(funding.symbol, funding.times.delete(rows), np.delete(funding.rates, rows))


def test_the_hole_of_the_real_series_is_reported_exactly(real):
    coverage = real.coverage()
    hole = FundingHole(utc("2024-01-01 00:00"), utc("2025-06-21 16:00"), 1_614)
    assert coverage == Coverage(3_465 + 1_614, 3_465, (hole,))
    assert coverage.share == 3_465 / 5_079
    assert real.coverage("2021-01-01", "2024-01-01").share == 1
    assert real.coverage("2024-01-01", "2024-02-01") == Coverage(
        93, 0, (FundingHole(utc("2024-01-01 00:00"), utc("2024-01-31 16:00"), 93),)
    )
    year = real.coverage("2025-01-01", "2026-01-01")
    assert (year.expected, year.present) == (365 * 3, 180)
    assert [hole.events for hole in year.missing] == [516, 365 * 3 - 516 - 180]


def test_the_real_rates_are_those_of_the_file(real, market_data):
    table = pd.read_csv(market_data / "bybit_linear_BTCUSDT_funding_8h.csv")
    assert real.rates.tolist() == table["rate"].tolist()
    assert (real.symbol, len(real), real.times[0]) == ("BTCUSDT", 3_465, utc("2021-01-01"))
    assert hissbt.load_funding is load_funding


def test_a_rate_holds_at_its_event_only(funding):
    moments = funding.times[3:5].append(funding.times[3:5] + pd.Timedelta(hours=1))
    assert funding.at(moments)[:2].tolist() == funding.rates[3:5].tolist()
    assert np.isnan(funding.at(moments)[2:]).all()
    assert funding.at(moments.tz_localize(None))[0] == funding.rates[3]


def test_a_part_is_inclusive_at_since_and_exclusive_at_until(funding):
    part = funding.between("2024-01-02", "2024-01-03")
    assert part.times.tolist() == [utc("2024-01-02 00:00"), utc("2024-01-02 08:00"), utc("2024-01-02 16:00")]
    assert part.rates.tolist() == funding.rates[3:6].tolist()
    assert len(funding.between("2030-01-01")) == 0
    assert len(funding.between("2024-01-03", "2024-01-02")) == 0


def test_holes_beside_each_other_are_told_apart(funding):
    coverage = without(funding, 4, 5, 7).coverage()
    assert [(hole.first, hole.events) for hole in coverage.missing] == [
        (funding.times[4], 2),
        (funding.times[7], 1),
    ]
    assert (coverage.expected, coverage.present) == (30, 27)


def test_holes_at_the_edges_count(funding):
    coverage = funding.coverage("2023-12-31", "2024-01-12")
    assert [hole.events for hole in coverage.missing] == [3, 3]
    assert coverage.expected == 36


def test_of_no_events_nothing_is_expected(funding):
    empty = funding.between("2030-01-01")
    assert empty.coverage() == Coverage(0, 0, ())
    assert empty.coverage().share == 1
    assert repr(empty) == "Funding(BTCUSDT, 0 events)"
    assert "30 events, 2024-01-01 00:00 to 2024-01-10 16:00 UTC" in repr(funding)


def test_it_cannot_be_changed(funding):
    with pytest.raises(dataclasses.FrozenInstanceError):
        funding.rates = np.zeros(30)
    with pytest.raises(ValueError, match="read-only"):
        funding.rates[0] = 1.0


def test_the_hash_depends_on_everything_and_nothing_else(funding):
    def same(**changes):
        return dataclasses.replace(funding, **changes).sha256 == funding.sha256

    assert same()
    assert same(times=funding.times.tz_convert("Asia/Tokyo").as_unit("s"))
    assert not same(symbol="ETHUSDT")
    assert not same(times=funding.times + pd.Timedelta("1s"))
    assert not same(rates=-funding.rates)


@pytest.mark.parametrize(
    ("times", "rates", "message"),
    [
        ([0, 0], [0.1, 0.1], "row 1 .* not later"),
        ([1, 0], [0.1, 0.1], "row 1 .* not later"),
        ([0, 1], [0.1, np.nan], "row 1 .* no fraction"),
        ([0, 1], [-1.0, 0.1], "row 0 .* no fraction"),
        ([0, 1], [0.1], "2 times and 1 rates"),
    ],
)
def test_what_is_no_funding_is_refused(times, rates, message):
    with pytest.raises(BarsError, match=message):
        Funding("X", pd.to_datetime(times, unit="h", utc=True), np.array(rates))


def test_the_same_funding_comes_from_csv_and_parquet(funding, tmp_path):
    table = pd.DataFrame({"timestamp": funding.times, "rate": funding.rates})
    table.to_csv(tmp_path / "funding_BTCUSDT.csv.gz", index=False)
    table.to_parquet(tmp_path / "funding_BTCUSDT.parquet")
    table.assign(timestamp=funding.times.asi8 // 10**6).to_csv(tmp_path / "funding_BTCUSDT.csv", index=False)
    for suffix in ("csv.gz", "parquet", "csv"):
        assert load_funding(tmp_path / f"funding_BTCUSDT.{suffix}").sha256 == funding.sha256
    part = load_funding(str(tmp_path / "funding_BTCUSDT.csv"), since="2024-01-02", until="2024-01-03")
    assert part.sha256 == funding.between("2024-01-02", "2024-01-03").sha256


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("timestamp,value\n2024-01-01,1\n", "must name the columns timestamp,rate"),
        ("time,rate\n2024-01-01,1\n", "has no column 'timestamp'"),
        ("2024-01-01,0.0001\n2024-01-02,0.0001\n", "must name the columns timestamp,rate"),
        ("timestamp,rate\n2024-01-01,low\n", "in f.csv, could not convert"),
        ("timestamp,rate\nsoon,0.1\n", "in f.csv, row 0 has the time 'soon'"),
        ("timestamp,rate\n2024-01-01,5.0\n", "in f.csv, funding row 0"),
        ("timestamp,rate\n", "no funding between the start and the end"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, text, message):
    (tmp_path / "f.csv").write_text(text)
    with pytest.raises(BarsError, match=message):
        load_funding(tmp_path / "f.csv")


def test_a_span_without_events_says_what_there_is(funding, tmp_path):
    pd.DataFrame({"timestamp": funding.times, "rate": funding.rates}).to_csv(tmp_path / "f.csv", index=False)
    with pytest.raises(BarsError, match="no funding between 2030-01-01 and the end: there is Funding"):
        load_funding(tmp_path / "f.csv", since="2030-01-01")
    with pytest.raises(BarsError, match="there is no file"):
        load_funding(tmp_path / "absent.csv")
