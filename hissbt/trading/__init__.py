"""What a perpetual future charges and what may be held: a broker, entry and exit rules, sizing, risk guards."""

from hissbt.trading.broker import PerpBroker
from hissbt.trading.commission import PerpCommission
from hissbt.trading.guards import DailyLossGuard, DrawdownGuard, ExposureGuard, ModelFaultGuard, StaleDataGuard
from hissbt.trading.sizing import KellySizer

__all__ = [
    "DailyLossGuard",
    "DrawdownGuard",
    "ExposureGuard",
    "KellySizer",
    "ModelFaultGuard",
    "PerpBroker",
    "PerpCommission",
    "StaleDataGuard",
]
