"""Backtrader indicators over a stream."""

from hissbt.indicators.forecast import Forecast, HiSS

__all__ = ["Forecast", "HiSS"]
