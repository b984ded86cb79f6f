"""How probable the cheap rivals call returns: the density that an autoencoder's bound is compared with.

Each is fitted once, to the returns of the training span. A window is judged in two ways: alone, as an autoencoder
sees it, its first bar at what is usual; and after all bars before it, which is how these models are used.
Densities are exact, where an autoencoder has a bound that lies below its own.
"""

import numpy as np
from scipy.stats import t as student

from hissbt.econometrics import Garch, MarkovSwitching

STARTS = 3  # of the optimizer of the switching model, as in hissbt.research.generators.markov
ALONE, AFTER = "alone", "after"


def rival_densities(train: np.ndarray, series: np.ndarray, first: np.ndarray, window: int) -> dict:
    """Return the log density a return [N] of windows of ``series`` [T], in nats, by name and then by way.

    ``train`` are the returns to fit to, ``first`` [N] where the windows begin.
    """
    rivals = {"Student's t": _student, "GARCH-t": _garch, "Markov switching": _markov}
    rows = first[:, None] + np.arange(window)  # [N,W]
    found = {}
    for name, rival in rivals.items():
        density = rival(train)
        found[name] = {
            ALONE: np.array([density(each).mean() for each in series[rows]]),
            AFTER: density(series)[rows].mean(axis=1),
        }
    return found


def _student(train: np.ndarray):
    df, mean, scale = student.fit(train)
    return lambda returns: student.logpdf(returns, df, mean, scale)


def _garch(train: np.ndarray):
    fit = Garch(asymmetric=True, student=True).fit(train, errors=False)
    unit = np.sqrt((fit["nu"] - 2) / fit["nu"])  # Student's t with a variance of 1

    def density(returns: np.ndarray) -> np.ndarray:
        ahead = fit.filter(returns[:-1], np.array([train.var()]))
        volatility = np.append(train.std(), ahead)
        return student.logpdf(returns, fit["nu"], fit["mu"], unit * volatility)

    return density


def _markov(train: np.ndarray):
    fit = MarkovSwitching(regimes=2).fit(train, starts=STARTS, errors=False)
    return lambda returns: fit.filter(returns).log_density
