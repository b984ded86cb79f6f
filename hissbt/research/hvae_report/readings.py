"""What a trained hierarchical VAE said of every bar, and the times a level's forecast is about."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.indicators.latent import line_names, readings
from hissbt.stream import Stream

_MONTHS, _WEEKS, _DAYS = 12, 52, 365


@dataclass(frozen=True)
class Readings:
    """One row a bar, T in all, NaN before the model is warm; levels from the finest."""

    p_values: np.ndarray
    """[T,L] of the anomaly scores: small where a level is unusual."""
    kl: np.ndarray
    """[T,L] nats."""
    cluster: np.ndarray
    """[T] number of the cluster that the top latent is nearest to, 0 being the calmest."""
    latents: tuple[np.ndarray, ...]
    """[T,d] a level: posterior means."""
    warm: int
    """The first row that counts."""

    @property
    def levels(self) -> int:
        """L."""
        return len(self.latents)

    def given(self, level: int) -> np.ndarray:
        """Return the latents of a level, from 0, beside those of the level above, if there is one: [T,d]."""
        return np.hstack(self.latents[level : level + 2])


def read(bundle: ModelBundle, bars: Bars) -> Readings:
    """Run the bundle over ``bars`` as a stream does, so that nothing at a bar knows of a later one."""
    stream = Stream(bundle)
    outputs = stream.scan(bars.arrays(stream.fields[6:]))
    sizes = tuple(bundle.config["d_latent"])
    centers, calibration = (bundle.weights[name].astype(np.float64) for name in ("centers", "calibration"))
    lines = dict(zip(line_names(sizes), readings(outputs, calibration, centers).T, strict=True))
    levels = range(1, len(sizes) + 1)

    def stacked(names: list[str]) -> np.ndarray:
        return np.column_stack([lines[name] for name in names])

    return Readings(
        stacked([f"anomaly{level}" for level in levels]),
        stacked([f"kl{level}" for level in levels]),
        lines["regime"],
        tuple(
            stacked([f"z{level}_{unit}" for unit in range(1, size + 1)])
            for level, size in zip(levels, sizes, strict=True)
        ),
        bundle.warmup - 1,
    )


@dataclass(frozen=True)
class Spans:
    """What was seen in training and what was not, and how many bars a day, a week and a month have."""

    seen: range
    """Rows that the model was trained on, once it is warm."""
    unseen: range
    day: int
    week: int
    month: int


def spans(bars: Bars, bundle: ModelBundle, warm: int) -> Spans:
    """Return the spans of ``bars`` by the bundle's training span."""
    end = int(bars.frame.index.searchsorted(pd.Timestamp(bundle.training_span["end"]), side="right"))
    start = int(bars.frame.index.searchsorted(pd.Timestamp(bundle.training_span["start"])))
    year = bars.market.bars_per_year(bars.timeframe)
    day, week, month = (max(round(year / parts), 1) for parts in (_DAYS, _WEEKS, _MONTHS))
    return Spans(range(max(start, warm), end), range(max(end, warm), len(bars)), day, week, month)
