"""Which funding events are missing, though nobody lists the intervals of the past.

They are read from the events themselves, for a market's interval changes in time (8 h, then 4 h, then 1 h). What
is in force at a step between two events is the shortest of the three steps on either side, and of both sides the
longer. A step longer than that is a hole.
"""

import numpy as np

USUAL_MS = 8 * 3_600_000
_NEIGHBORS = 3
_NONE = np.iinfo(np.int64).max


def missing_events(events: np.ndarray, since: int, until: int) -> np.ndarray:
    """Return the times (int64 ms, sorted) in [since, until) at which an event was due that ``events`` lacks.

    ``events`` are sorted int64 ms. A hole between different intervals is counted in the longer one; before the
    first event and after the last, the interval next to it goes on. A single event is taken for one of 8 h;
    without any, nothing is known to be missing.
    """
    if len(events) == 0:
        return np.empty(0, np.int64)
    steps = np.diff(events)
    first, last = _shortest(steps[:_NEIGHBORS]), _shortest(steps[-_NEIGHBORS:])
    before = np.arange(events[0] - first, since - 1, -first)[::-1]
    after = np.arange(events[-1] + last, until, last)
    due = np.concatenate([before, *_holes(events, steps), after]).astype(np.int64)
    return due[(due >= since) & (due < until)]


def _holes(events: np.ndarray, steps: np.ndarray) -> list[np.ndarray]:
    intervals = _in_force(steps)
    # Exchanges stamp a few milliseconds late at times: a step must be half an interval too long.
    rows = np.flatnonzero(2 * steps > 3 * intervals)
    counts = np.rint(steps[rows] / intervals[rows]).astype(np.int64)
    return [events[row] + intervals[row] * np.arange(1, count) for row, count in zip(rows, counts, strict=True)]


def _in_force(steps: np.ndarray) -> np.ndarray:
    """Return the interval in force at each step."""
    if len(steps) < 2:
        return np.full(len(steps), USUAL_MS)
    beyond = np.full(_NEIGHBORS, _NONE)
    shortest = np.lib.stride_tricks.sliding_window_view(np.concatenate([beyond, steps, beyond]), _NEIGHBORS)
    sides = shortest.min(axis=1)
    left, right = sides[: len(steps)], sides[_NEIGHBORS + 1 :]
    return np.where(left == _NONE, right, np.where(right == _NONE, left, np.maximum(left, right)))


def _shortest(steps: np.ndarray) -> int:
    return int(steps.min()) if len(steps) > 1 else min(USUAL_MS, *steps.tolist(), USUAL_MS)
