"""What every generator of scenarios is, and what they share: rows of history to draw on, a seed a scenario."""

from typing import Protocol

import numpy as np

from hissbt.bars import Bars
from hissbt.candles import CANDLE, LOG_RETURN, candle_rows
from hissbt.errors import BarsError, ConfigError
from hissbt.features import FeatureSet

LEAST_ROWS = 250  # about a year of days: with fewer, a tail is a handful of bars


class Generator(Protocol):
    """A maker of scenarios: what might have followed some bars."""

    name: str
    """What it is called in tables and on the command line."""

    def generate(self, n: int, bars: int, seed: int, history: Bars) -> np.ndarray:
        """Return candle rows [n, bars, len(CANDLE)] of ``n`` scenarios that go on from ``history``.

        Nothing later than ``history`` is known to it. Scenario i is the same, bit for bit, for every n.
        Whatever is fitted is fitted in this call, so ask for all scenarios at once. Raises BarsError for a
        history that is too short or never moves, ConfigError for less than one scenario or bar.
        """


def source_rows(history: Bars) -> np.ndarray:
    """Return the candle rows [T,5] of history that have their full history themselves. Raises BarsError."""
    rows = candle_rows(history)[FeatureSet(CANDLE).warmup :]
    if len(rows) < LEAST_ROWS or np.ptp(rows[:, LOG_RETURN]) == 0.0:
        least = LEAST_ROWS + FeatureSet(CANDLE).warmup
        raise BarsError(
            f"{len(history)} bars of {history.market.symbol} are no history to draw scenarios from: give at least "
            f"{least} whose price moves, or begin the scenarios later"
        )
    return rows


def random_streams(n: int, bars: int, seed: int) -> list[np.random.Generator]:
    """Return a source of randomness for each of ``n`` scenarios of ``bars`` bars, that does not depend on n."""
    if n < 1 or bars < 1:
        raise ConfigError(f"{n} scenarios of {bars} bars are none: give at least one of each")
    return [np.random.default_rng(child) for child in np.random.SeedSequence(seed).spawn(n)]
