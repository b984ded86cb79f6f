"""What the indicators over a trained model share: a stream, in every run mode of Backtrader."""

from array import array
from pathlib import Path

import numpy as np
from backtrader.indicator import IndicatorBase

from hissbt.errors import BarsError, BundleError
from hissbt.indicators.stepped import SteppedIndicator, close_time_s
from hissbt.relay import Model, load_model
from hissbt.stream import cached_scan, open_stream
from hissbt.timeframe import is_intraday


class StreamedIndicator(SteppedIndicator):
    """An indicator whose lines are the outputs of a Stream.

    Param ``model``: a bundle, a relay of bundles, or the folder of one. The lines are NaN and the strategy waits
    until the bundle's ``warmup`` bars have been seen. A bar that is shown again (replay, or a call because another
    feed moved) is computed again from the state before it, so every run mode of Backtrader gives the same numbers.

    Params ``reset_after`` and ``rewarm``: after how long a stretch without bars, or with every session, the model
    starts afresh (by default never), and whether the lines are NaN after that until the warm-up has passed again,
    which a strategy should take as flat. ``"session"`` means those of the market of a BarsFeed of intraday bars,
    and UTC days on any other feed.

    Raises BundleError for a model that cannot be used, FeatureError when the data lacks a line that it reads,
    BarsError for too few bars, StreamError for bars that are out of order, skipped, too early or not finite.

    Where Backtrader computes indicators at once (runonce), all bars go through one compiled call, whose result is
    kept on disk for the next run over the same bars. A subclass that overrides ``next`` or ``prenext`` is called
    bar by bar in every mode.
    """

    params = (
        ("model", None),
        ("reset_after", None),  # see hissbt.stream.Stream; sessions are those of a feed's market, if it knows it
        ("rewarm", False),  # whether the lines are NaN again after a reset until the warm-up has passed
    )
    kind: str | None = None
    """What kind of bundle it has to be, if that matters."""
    regimes = False
    """Whether the stream gives the probabilities of regimes too."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if {"next", "prenext", "nextstart"} & vars(cls).keys() and "once" not in vars(cls):
            # Backtrader prefers an inherited once to an overridden next; without one it makes one from next.
            cls.preonce, cls.oncestart, cls.once = (
                IndicatorBase.preonce,
                IndicatorBase.oncestart,
                IndicatorBase.once,
            )

    def __init__(self):
        bundle = load_bundle(self.p.model, self.kind)
        opens = _session_opens(self.data) if self.p.reset_after == "session" else None
        self._stream = open_stream(bundle, self.p.reset_after, self.p.rewarm, opens, self.regimes)
        self._columns = self._places()
        self._attach(self._stream, self._stream.fields[1:], bundle.warmup)

    @property
    def bundle(self) -> Model:
        """The bundle or relay behind the lines."""
        return self._stream.bundle

    def _names(self) -> tuple[str, ...]:
        """Return the names of the stream's outputs that are the lines, in their order."""
        return self.lines.getlinealiases()

    def _places(self) -> slice | list[int]:
        """Return which outputs are the lines; a slice where they all are, since that costs least."""
        names, outputs = self._names(), self._stream.outputs
        if missing := [name for name in names if name not in outputs]:
            raise BundleError(
                f"this is a {self.bundle.kind} bundle, which has no {missing[0]}: name the bundle of a forecaster "
                "or use hissbt.Latent"
            )
        return slice(None) if names == outputs else [outputs.index(name) for name in names]

    def _lines_of(self, outputs: np.ndarray) -> np.ndarray:
        """Return the lines [..,L] from the outputs [..,O] of the stream."""
        return outputs[..., self._columns]

    def _advance(self):
        return self._lines_of(super()._advance())

    def preonce(self, start, end):
        """Leave the warm-up to ``once``."""

    def oncestart(self, start, end):
        """Leave the first warm bar to ``once``."""

    def once(self, start, end):
        """Write the lines of all bars."""
        warmup = self.bundle.warmup
        if end < warmup:
            raise BarsError(f"too few bars: the model needs {warmup} to warm up, and there are {end}")
        sources = [np.array(line.array[:end]) for line in (self.data.lines.datetime, *self._sources)]
        sources[0] = close_time_s(sources[0])
        lines = self._lines_of(cached_scan(self._stream, np.column_stack(sources)))  # [T,L]
        for line, values in zip(self.lines, lines.T, strict=True):
            line.array[warmup - 1 : end] = array("d", values[warmup - 1 :].tobytes())

    def _plotlabel(self):
        return [self.bundle.kind, f"horizon {self.bundle.horizon}"]


def _session_opens(data) -> np.ndarray | None:
    """Return when the sessions of the feed's market open, None for days in UTC: bars of a day or no calendar."""
    bars = getattr(data, "bars", None)
    if bars is None or not is_intraday(bars.timeframe):
        return None
    return bars.market.session_opens(bars.open_times[0])


def load_bundle(model: Model | str | Path | None, kind: str | None) -> Model:
    """Return what a ``model`` param means; ``kind`` states which family it has to be, if that matters."""
    if model is None:
        raise BundleError("no model given: pass model= the folder of a bundle that `hissbt train` wrote")
    if not isinstance(model, Model):
        return load_model(model, kind)
    if kind is not None and model.kind != kind:
        raise BundleError(f"this is a {model.kind} bundle, not {kind}: use hissbt.Forecast for any forecaster")
    return model
