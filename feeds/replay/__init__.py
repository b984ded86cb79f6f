"""A local server that speaks Bybit v5, fed from bars, with its own clock and faults. It needs no Backtrader."""

from hissbt.feeds.replay.clock import Clock
from hissbt.feeds.replay.faults import Faults
from hissbt.feeds.replay.series import Series
from hissbt.feeds.replay.server import ReplayServer

__all__ = ["Clock", "Faults", "ReplayServer", "Series"]
