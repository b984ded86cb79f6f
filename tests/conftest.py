"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pandas as pd
import pytest
from arch.data import sp500

from hissbt.bars import Bars
from hissbt.market import Market

DATA = Path(os.environ.get("HISSBT_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put first what compiles code that the other tests then find on disk."""
    items.sort(key=lambda item: item.get_closest_marker("compiles") is None)


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory):
    """Keep the tests out of the user's cache and ledger of fits; processes that tests start inherit this."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HISSBT_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HISSBT_RUNS", str(tmp_path_factory.mktemp("ledger")))
        yield


@pytest.fixture(scope="session")
def market_data() -> Path:
    """Folder of real market data; tests that need it skip where it is absent."""
    if not DATA.is_dir():
        pytest.skip(f"no market data at {DATA}: set HISSBT_TEST_DATA")
    return DATA


@pytest.fixture(scope="session")
def hourly_bars() -> Bars:
    """Real prices that are always there, on an hourly clock: 1,200 S&P 500 bars stamped as hours."""
    frame = sp500.load().drop(columns="Adj Close").iloc[2000:3200]
    frame.index = pd.date_range("2024-01-01", periods=len(frame), freq="h", tz="UTC")
    return Bars.from_frame(frame, market=Market("SP500"), timeframe="1h", stamp="open")
