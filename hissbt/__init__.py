"""hissbt plugs trained sequence models into Backtrader, bar by bar, with carried state and honest results.

The public names below are imported when they are first used, so that ``import hissbt`` costs nothing.
"""

import importlib

from hissbt.version import __version__

_HOMES = {
    "Bars": "hissbt.bars",
    "BarsFeed": "hissbt.feeds",
    "BybitFeed": "hissbt.feeds",
    "DailyLossGuard": "hissbt.trading",
    "DrawdownGuard": "hissbt.trading",
    "ExchangeFeed": "hissbt.feeds",
    "ExposureGuard": "hissbt.trading",
    "Forecast": "hissbt.indicators",
    "FractionSizer": "hissbt.trading",
    "HiSS": "hissbt.indicators",
    "KellySizer": "hissbt.trading",
    "Latent": "hissbt.indicators",
    "Ledger": "hissbt.reports",
    "Market": "hissbt.market",
    "ModelBundle": "hissbt.bundle",
    "ModelFaultGuard": "hissbt.trading",
    "ModelWatch": "hissbt.trading",
    "PerpBroker": "hissbt.trading",
    "PerpCommission": "hissbt.trading",
    "Regime": "hissbt.indicators",
    "StaleDataGuard": "hissbt.trading",
    "Stream": "hissbt.stream",
    "VolatilitySizer": "hissbt.trading",
    "accelerate": "hissbt.loop",
    "audit": "hissbt.research.audit",
    "load_bars": "hissbt.feeds",
    "load_funding": "hissbt.feeds",
    "run_backtest": "hissbt.backtest",
    "tearsheet": "hissbt.reports",
}

__all__ = ["__version__", *_HOMES]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'hissbt' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
