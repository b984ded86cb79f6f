"""An indicator over something that is stepped once a bar, in every run mode of Backtrader."""

import numpy as np

from hissbt.errors import BarsError, FeatureError, StreamError
from hissbt.lean import LeanIndicator

_EPOCH_DAYS = 719163  # Backtrader counts days from 0001-01-01 as day 1; 1970-01-01 is this day


class SteppedIndicator(LeanIndicator):
    """Shows each closed bar to a stepper once, and a bar that is shown again (replay, or a call because another
    feed moved) as another version of the same bar.

    A stepper has ``step(bar)`` and ``revise(bar)``, which compute from the state before the bar and return the
    values of the lines; a bar is a float64 row ``close_time_s`` and the lines it was attached for.

    Raises BarsError for too few bars, FeatureError when the data lacks a line, StreamError for bars that were
    skipped or shown too early.
    """

    def _attach(self, stepper, names, warmup: int) -> None:
        """Let ``stepper`` read the data's lines ``names``; the indicator's lines hold from ``warmup`` bars on."""
        self._stepper, self._warmup = stepper, warmup
        self._sources = [self._source(name) for name in names]
        self._seen = 0
        self._bar = self._outputs = None
        self.addminperiod(warmup)

    def prenext(self):
        """Warm the state; the lines stay NaN."""
        self._advance()

    def next(self):
        """Write what is known at the close of the bar at [0]."""
        outputs = self._advance()
        for line, value in zip(self.lines, outputs, strict=True):
            line[0] = value

    def _advance(self):
        bar = self._read()
        length = len(self.data)
        if length == self._seen + 1:
            self._outputs = self._stepper.step(bar)
        elif length != self._seen:
            raise StreamError(
                f"{length - self._seen - 1} bars were not shown to the model before the one that closes at "
                f"{self.data.datetime.datetime(0)}: attach the indicator before the first bar"
            )
        elif not np.array_equal(bar, self._bar):
            self._check_same_bar(bar)
            self._outputs = self._stepper.revise(bar)
        self._seen, self._bar = length, bar
        return self._outputs

    def _read(self) -> np.ndarray:
        try:
            close_time = close_time_s(self.data.datetime[0])
        except IndexError as error:  # with runonce, Backtrader goes through all of the warm-up, bars or not
            raise BarsError(
                f"too few bars: the model needs {self._warmup} to warm up, and there are {self._seen}"
            ) from error
        return np.array([close_time, *(line[0] for line in self._sources)])  # [1+N]

    def _check_same_bar(self, bar: np.ndarray) -> None:
        """Only a replayed bar moves its time while it forms; any other would be a bar of the future."""
        if bar[0] != self._bar[0] and not getattr(self.data, "replaying", True):
            raise StreamError(
                f"Backtrader shows the bar that closes at {self.data.datetime.datetime(0)} before its time, as "
                "exactbars=1 does to feeds out of step: use exactbars=0, or hissbt.BarsFeed for all feeds"
            )

    def _source(self, name: str):
        if name not in self.data.lines.getlinealiases():
            raise FeatureError(
                f"the model reads {name!r}, which the data has no line for: add that column to the bars and feed "
                "them through hissbt.BarsFeed"
            )
        return getattr(self.data.lines, name)


def close_time_s(days):
    """Return unix seconds of Backtrader's day numbers, which are exact to some microseconds only."""
    return np.rint((days - _EPOCH_DAYS) * 86_400_000) / 1000
