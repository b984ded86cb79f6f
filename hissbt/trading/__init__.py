"""What a perpetual future charges and what may be held: a broker, entry and exit rules, sizing, risk guards."""

from hissbt.trading.broker import PerpBroker
from hissbt.trading.commission import PerpCommission
from hissbt.trading.guards import (
    DailyLossGuard,
    DrawdownGuard,
    ExposureGuard,
    Guard,
    Guards,
    ModelFaultGuard,
    Moment,
    StaleDataGuard,
    Verdict,
)
from hissbt.trading.sizing import FractionSizer, KellySizer, VolatilitySizer
from hissbt.trading.watch import ModelWatch

__all__ = [
    "DailyLossGuard",
    "DrawdownGuard",
    "ExposureGuard",
    "FractionSizer",
    "Guard",
    "Guards",
    "KellySizer",
    "ModelFaultGuard",
    "ModelWatch",
    "Moment",
    "PerpBroker",
    "PerpCommission",
    "StaleDataGuard",
    "Verdict",
    "VolatilitySizer",
]
