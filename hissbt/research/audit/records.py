"""What a target said, bar by bar, and where two such records differ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TOLERANCE = 1e-9  # relative: what parallel sums leave behind in float64
SINGLE_TOLERANCE = 1e-5  # and in float32


@dataclass(frozen=True)
class Record:
    """The values of each line [T], float64, at each bar as things stood at its close; NaN before the warm-up."""

    lines: dict[str, np.ndarray]
    bars: int

    def of(self, name: str) -> np.ndarray:
        """Return a line [T]; one that never was, as of an order that was never sent, is NaN."""
        return self.lines.get(name, np.full(self.bars, np.nan))

    @property
    def warmup(self) -> int:
        """Bars until all lines that ever hold a number do; those of orders and the position do not count."""
        begins = [int(known.argmax()) for name in self.indicators if (known := np.isfinite(self.of(name))).any()]
        return max(begins, default=0) + 1

    @property
    def indicators(self) -> list[str]:
        """The names of the lines of indicators, without the decisions of a strategy."""
        return [name for name in self.lines if name != POSITION and not name.startswith(ORDER)]


POSITION = "position"
ORDER = "order "


@dataclass(frozen=True)
class Difference:
    """Where two records differ."""

    row: int
    """The first bar."""
    line: str | None
    """The first line that differs there, None if that cannot be told."""
    size: float | None
    """The largest absolute difference at any bar of any line; None where there are numbers in one of them only."""


def compare(record: Record, other: Record, rows: int, tolerance: float | None = None) -> Difference | None:
    """Return how two records differ in their first ``rows`` bars, None if they do not.

    Numbers may differ by ``tolerance`` times the larger of them or the usual size of the line; if left out, by as
    much as rounding may: by what the values of the line show to have been computed in.
    """
    names = [*record.lines, *(name for name in other.lines if name not in record.lines)]
    found, size = None, 0.0
    for name in names:
        a, b = record.of(name)[:rows], other.of(name)[:rows]
        if a.tobytes() == b.tobytes():
            continue
        differs = ~_near(a, b, _tolerance(record.of(name)) if tolerance is None else tolerance)
        if not differs.any():
            continue
        row = int(differs.argmax())
        if found is None or row < found[0]:
            found = row, name
        size = max(size, _largest(a[differs], b[differs]))
    return None if found is None else Difference(*found, size or None)


def _near(a: np.ndarray, b: np.ndarray, tolerance: float) -> np.ndarray:
    finite = np.isfinite(a) & np.isfinite(b)
    usual = np.abs(a[np.isfinite(a)]).mean() if np.isfinite(a).any() else 0.0
    with np.errstate(invalid="ignore"):
        near = np.abs(a - b) <= tolerance * np.maximum(np.maximum(np.abs(a), np.abs(b)), usual)
    return np.where(finite, near, (a == b) | (np.isnan(a) & np.isnan(b)))


def _largest(a: np.ndarray, b: np.ndarray) -> float:
    gaps = np.abs(a - b)
    return float(gaps[np.isfinite(gaps)].max(initial=0.0))


def _tolerance(line: np.ndarray) -> float:
    known = line[np.isfinite(line)]
    with np.errstate(over="ignore"):
        return SINGLE_TOLERANCE if (known.astype(np.float32) == known).all() else TOLERANCE
