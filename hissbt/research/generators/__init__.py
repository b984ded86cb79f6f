"""Generators of scenarios: what might have followed, by the cheap rivals that a trained model must beat.

Each has ``name`` and ``generate(n, bars, seed, history)``, which returns candle rows (hissbt.candles) that
``to_bars`` makes bars of. They know the bars of ``history`` and nothing later.

==============  ===========================================================================================
``bootstrap``   blocks of real bars put together anew: everything within a block is real
``garch``       GJR-GARCH with Student errors: waves of volatility from where history ends
``markov``      two regimes of normal returns, from what is known of the regime where history ends
``null``        independent Brownian bars without drift: nothing can be earned before costs
==============  ===========================================================================================
"""

from collections.abc import Mapping
from types import MappingProxyType

from hissbt.research.generators.bootstrap import StationaryBootstrap
from hissbt.research.generators.garch import GarchT
from hissbt.research.generators.markov import MarkovSwitch
from hissbt.research.generators.null import Driftless
from hissbt.research.generators.source import Generator

RIVALS: Mapping[str, Generator] = MappingProxyType(
    {generator.name: generator for generator in (StationaryBootstrap(), GarchT(), MarkovSwitch(), Driftless())}
)
"""By name; none of them has settings."""

__all__ = ["RIVALS", "Driftless", "GarchT", "Generator", "MarkovSwitch", "StationaryBootstrap"]
