"""A short run of ``python -m tests.soak.fetch``: the command that proves the download on real bars."""

import numpy as np
import pandas as pd
import pytest
from soak.fetch import soak

from hissbt.bars import Bars
from hissbt.market import Market


@pytest.fixture(scope="module")
def many_bars() -> Bars:
    """12,000 bars of a seeded random walk: a dozen pages, seventeen months."""
    chance = np.random.default_rng(4)
    close = 100.0 * np.exp(np.cumsum(chance.normal(0.0, 0.01, 12_000)))
    opens = np.append(100.0, close[:-1])
    spread = 1.0 + chance.uniform(0.0, 0.01, len(close))
    prices = {"open": opens, "high": np.maximum(opens, close) * spread, "low": np.minimum(opens, close) / spread}
    frame = pd.DataFrame(prices | {"close": close, "volume": chance.uniform(0.0, 1e6, len(close))})
    frame.index = pd.date_range("2023-01-01T01:00", periods=len(frame), freq="h", tz="UTC")
    return Bars(frame, Market("WALK"), "1h")


def test_nothing_is_lost_under_faults_and_kills(many_bars):
    result = soak(many_bars, schedules=15, kills=3)
    assert (result.lost, result.duplicated, result.wrong, result.lost_by_kills) == (0, 0, 0, 0)
    assert result.kills == 3
    assert result.zero_faults == []
    assert result.speed["lost"] == 0
    assert result.speed["paginate_lost"] > 0, "what ccxt's own pagination loses is why we do not use it"
