"""The econometric models that a network must beat: Markov switching, GARCH, HAR; fitted, then stepped.

A model is a plain description (``MarkovSwitching``, ``Garch``, ``Har``); its ``fit`` returns a frozen result with
``filter`` for a whole series and ``initial_state`` and ``step`` for one bar after another, in the same arithmetic.
statsmodels and arch, which do the estimation, are imported when something is fitted.
"""

from hissbt.econometrics.covariates import covariates
from hissbt.econometrics.markov import MarkovFit, MarkovSwitching
from hissbt.econometrics.schedule import Refitted, Schedule
from hissbt.econometrics.volatility import Garch, GarchFit, Har, HarFit

__all__ = [
    "Garch",
    "GarchFit",
    "Har",
    "HarFit",
    "MarkovFit",
    "MarkovSwitching",
    "Refitted",
    "Schedule",
    "covariates",
]
