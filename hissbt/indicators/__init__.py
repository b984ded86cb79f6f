"""Backtrader indicators over a stream, and over the econometric models that it must beat."""

from hissbt.indicators.econometric import GarchVolatility, HarVolatility, MarkovRegime
from hissbt.indicators.forecast import Forecast, HiSS
from hissbt.indicators.latent import Latent
from hissbt.indicators.regime import Regime

__all__ = ["Forecast", "GarchVolatility", "HarVolatility", "HiSS", "Latent", "MarkovRegime", "Regime"]
