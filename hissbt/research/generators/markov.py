"""Markov switching: a calm and a wild regime, each with its mean and variance, and chances to change."""

import numpy as np
from threadpoolctl import threadpool_limits

from hissbt.bars import Bars
from hissbt.candles import LOG_RETURN
from hissbt.econometrics import MarkovFit, MarkovSwitching
from hissbt.research.generators.dress import dressed
from hissbt.research.generators.source import random_streams, source_rows

LATEST = 5_000  # bars that it is fitted on: some seconds, and more hardly move six parameters
STARTS = 3  # of the optimizer: its own and two random ones


class MarkovSwitch:
    """Two regimes fitted on the latest bars of history, going on from what is known of the regime at its end."""

    name = "markov"

    def generate(self, n: int, bars: int, seed: int, history: Bars) -> np.ndarray:
        """Return candle rows [n, bars, 5]; see ``Generator``."""
        streams, rows = random_streams(n, bars, seed), source_rows(history)
        latest = rows[-LATEST:, LOG_RETURN]
        with threadpool_limits(limits=1):  # more threads add in another order, and the optimizer stops elsewhere
            fit = MarkovSwitching(regimes=2).fit(latest, starts=STARTS, errors=False)
        chances = np.stack([rng.random(bars) for rng in streams])  # [n,N]
        shocks = np.stack([rng.standard_normal(bars) for rng in streams])  # [n,N]
        regimes = _regimes(fit, fit.filter(latest).ahead[-1], chances)
        returns = fit.parts.intercepts[regimes] + np.sqrt(fit.parts.variances)[regimes] * shocks
        return dressed(returns, rows, history, streams)


def _regimes(fit: MarkovFit, first: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """Return regimes [n,N] by uniform chances [n,N]; the first bar's have the probabilities ``first`` [K]."""
    onward = np.cumsum(fit.transition(), axis=1)[:, :-1]  # [K,K-1]
    bounds = np.broadcast_to(np.cumsum(first)[:-1], (len(chances), len(first) - 1))
    regimes = np.empty(chances.shape, dtype=np.int64)
    for t in range(chances.shape[1]):
        regimes[:, t] = (chances[:, t, None] >= bounds).sum(axis=1)
        bounds = onward[regimes[:, t]]
    return regimes
