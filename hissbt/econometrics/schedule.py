"""A model on a running series: parameters refitted on a schedule, one constant step a bar in between."""

from collections import deque
from dataclasses import dataclass

import numpy as np

from hissbt.econometrics.covariates import feature_names
from hissbt.errors import ConfigError
from hissbt.features import FeatureSet


@dataclass(frozen=True)
class Schedule:
    """When parameters are fitted, and on which rows: one row a bar, from the second bar on, which has a return."""

    min_bars: int = 500
    """Bars that the first fit has seen; there is no output before."""
    refit_every: int = 20
    """Bars between fits."""
    window: int | None = None
    """Rows that a fit sees, the newest; None: all there were."""

    def __post_init__(self):
        if self.min_bars < 3 or self.refit_every < 1 or (self.window is not None and self.window < 2):
            raise ConfigError(f"{self} is no schedule: give at least 3 bars, 1 bar between fits, a window of 2")

    def is_due(self, closed: int) -> bool:
        """Tell whether parameters are fitted when ``closed`` bars have closed."""
        return closed >= self.min_bars and (closed - self.min_bars) % self.refit_every == 0


class Refitted:
    """Steps a model over bars; each is shown by ``step``, and again by ``revise`` while it still forms.

    A fit that is due is made when the next bar begins, on the bars that have closed before it: a bar that forms
    never moves the parameters that judge it. The state then starts afresh at the first row of the fit's sample.
    Between fits a bar costs the same however many there were.
    """

    def __init__(self, model, schedule: Schedule, first_fit=None, later_fits=None):
        """Take a model of this package, and options for its ``fit``: for the first fit, and for those after it."""
        self.fit = None
        """The latest fit, None before the first."""
        self._model, self._schedule = model, schedule
        self._first, self._later = dict(first_fit or {}), dict(later_fits or {})
        self._features = FeatureSet(feature_names(model.inputs))
        self._history = self._features.initial_state()
        self._rows: deque[np.ndarray] = deque(maxlen=schedule.window)
        self._state: np.ndarray | None = None
        self._bars = 0  # shown, the forming one included
        self._after = None  # what the forming bar would leave: features' state, row, model's state

    @property
    def columns(self) -> tuple[str, ...]:
        """Extra columns of a bar that the model reads."""
        return self._features.columns

    def step(self, bar: np.ndarray):
        """Return what ``model.step`` says after the next bar [6+C], or None before the first fit."""
        self._commit()
        self._bars += 1
        return self.revise(bar)

    def revise(self, bar: np.ndarray):
        """Return the same for another version of the bar that ``step`` was last given."""
        history = self._history.copy()
        row = self._features.step(bar, history)
        if self.fit is None:
            self._after = history, row, None
            return None
        state = self._state.copy()
        out = self.fit.step(row, state)
        self._after = history, row, state
        return out

    def _commit(self) -> None:
        if self._after is None:
            return
        self._history, row, self._state = self._after
        if self._bars > 1:  # the first bar has no return
            self._rows.append(row)
        if self._schedule.is_due(self._bars):
            rows = np.array(self._rows)
            options = self._first if self.fit is None else {"near": self.fit, **self._later}
            self.fit = self._model.fit_rows(rows, **options)
            self._state = self.fit.initial_state()
            self.fit.advance(rows, self._state)
