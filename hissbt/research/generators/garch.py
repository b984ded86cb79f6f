"""GARCH: volatility that comes in waves, falls that raise it more than rises, and Student's t around it."""

import numpy as np
from threadpoolctl import threadpool_limits

from hissbt.bars import Bars
from hissbt.candles import LOG_RETURN
from hissbt.econometrics import Garch
from hissbt.research.generators.dress import dressed
from hissbt.research.generators.source import random_streams, source_rows


class GarchT:
    """GJR-GARCH(1,1) with Student errors, fitted on history, going on from the variance at its end."""

    name = "garch"

    def generate(self, n: int, bars: int, seed: int, history: Bars) -> np.ndarray:
        """Return candle rows [n, bars, 5]; see ``Generator``."""
        from arch import arch_model

        streams, rows = random_streams(n, bars, seed), source_rows(history)
        with threadpool_limits(limits=1):  # more threads add in another order, and the optimizer stops elsewhere
            fit = Garch(asymmetric=True, student=True).fit(rows[:, LOG_RETURN], errors=False)
        unit = np.sqrt((fit["nu"] - 2.0) / fit["nu"])  # to a variance of 1
        shocks = unit * np.stack([rng.standard_t(fit["nu"], bars) for rng in streams])  # [n,N]
        model = arch_model(rows[:, LOG_RETURN], p=1, o=1, q=1, dist="t", rescale=False).fix(fit.params)
        paths = model.forecast(horizon=bars, method="simulation", simulations=n, rng=lambda size: shocks)
        return dressed(paths.simulations.values[-1], rows, history, streams)
