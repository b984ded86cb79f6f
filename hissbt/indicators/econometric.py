"""The econometric models as Backtrader lines: filtered and forecast bar by bar, refitted on a schedule."""

from hissbt.econometrics import Garch, Har, MarkovSwitching, Refitted, Schedule
from hissbt.errors import ConfigError
from hissbt.indicators.stepped import SteppedIndicator


class EconometricIndicator(SteppedIndicator):
    """A model of hissbt.econometrics over the bars of its data.

    Params ``min_bars refit_every window``: the first fit is made when ``min_bars`` bars have closed, then one
    every ``refit_every`` bars, on the newest ``window`` rows or on all (None). The lines are NaN up to the first
    fit. The bar at [0] never takes part in the fit that judges it: a fit knows the bars before it only. Between
    fits a bar takes one step of constant cost. ``fit`` is the latest fit, with its parameters and whether it
    converged.

    The values of a bar that forms (replay) come from the state before it, so all run modes agree.
    Raises ConfigError for a schedule or a model that cannot be, BarsError for too few bars.
    """

    params = (
        ("model", None),
        ("min_bars", 500),
        ("refit_every", 20),
        ("window", None),
    )
    plotinfo = {"subplot": True}

    def __init__(self):
        schedule = Schedule(self.p.min_bars, self.p.refit_every, self.p.window)
        self._refitted = Refitted(self.p.model, schedule, *self._fit_options())
        names = ("open", "high", "low", "close", "volume", *self._refitted.columns)
        self._attach(self._refitted, names, schedule.min_bars + 1)

    @property
    def fit(self):
        """The latest fit, None before the first."""
        return self._refitted.fit

    def _fit_options(self) -> tuple[dict, dict]:
        """Return options for the first fit, and for those after it."""
        return {"errors": False}, {"errors": False}

    def next(self):
        """Write what is known at the close of the bar at [0]."""
        for line, value in zip(self.lines, self._values(self._advance()), strict=True):
            line[0] = value

    def _values(self, out) -> tuple:
        """Return the values of the lines from what the model's step returned."""
        return (out,)


class MarkovRegime(EconometricIndicator):
    """Regimes of returns, filtered: what was known of them at each close, never smoothed by later bars.

    Lines, known when the bar at [0] has closed:

    - ``prob_low prob_high``: probability that the bar was in the regime of least, of greatest variance
    - ``expected_return volatility``: mean and standard deviation of the next bar's log return, over all regimes

    Params ``model``: a MarkovSwitching, by default two regimes with constant transition probabilities; covariates
    ``hml``, ``iv`` or any feature by its name. ``starts seed``: starting points of the first fit; each later one
    starts at the fit before it and at statsmodels' own point. A model with ``lag=0`` is refused: what drives its
    transition into the next bar is not known yet.
    """

    lines = ("prob_low", "prob_high", "expected_return", "volatility")
    params = (("model", MarkovSwitching()), ("starts", 10), ("seed", 0))
    plotlines = {"expected_return": {"_plotskip": True}, "volatility": {"_plotskip": True}}

    def __init__(self):
        if self.p.model.lag == 0:
            raise ConfigError("a model with lag=0 explains a bar by its own range: give lag=1 to forecast with it")
        super().__init__()

    def _fit_options(self) -> tuple[dict, dict]:
        first = {"starts": self.p.starts, "seed": self.p.seed, "errors": False}
        return first, {**first, "starts": 1}

    def _values(self, out) -> tuple:
        return out.filtered[0], out.filtered[-1], out.expected_return, out.volatility


class GarchVolatility(EconometricIndicator):
    """Line ``volatility``: standard deviation of the next bar's log return, by GARCH(1,1) or GJR-t.

    Param ``model``: a Garch; ``Garch(asymmetric=True, student=True)`` is GJR-t.
    """

    lines = ("volatility",)
    params = (("model", Garch()),)


class HarVolatility(EconometricIndicator):
    """Line ``volatility``: that of the next bar from its open to its close, by HAR over Garman-Klass.

    Param ``model``: a Har. Moves from one bar's close to the next one's open are not in it: a market that never
    closes has none, another does.
    """

    lines = ("volatility",)
    params = (("model", Har()),)
