"""Fixtures for what talks to an exchange: a server on loopback that speaks Bybit v5."""

from contextlib import ExitStack

import pytest

from hissbt.bars import Bars
from hissbt.feeds.replay import ReplayServer, Series


@pytest.fixture
def replay():
    """Make running replay servers: ``replay(bars)``, or ``replay(series, other_series, clock=…)``."""
    with ExitStack() as running:

        def start(
            *served: Bars | Series, symbol: str = "BTCUSDT", category: str = "linear", **settings
        ) -> ReplayServer:
            series = [Series(category, symbol, one) if isinstance(one, Bars) else one for one in served]
            return running.enter_context(ReplayServer(series, **settings))

        yield start
