"""A local server that speaks Bybit v5, fed from bars, with a clock of its own. It needs no Backtrader."""

from hissbt.feeds.replay.clock import Clock
from hissbt.feeds.replay.series import Series
from hissbt.feeds.replay.server import ReplayServer

__all__ = ["Clock", "ReplayServer", "Series"]
