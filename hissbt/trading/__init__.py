"""Entry rules, sizing and risk guards."""

from hissbt.trading.guards import DrawdownGuard
from hissbt.trading.sizing import KellySizer

__all__ = ["DrawdownGuard", "KellySizer"]
