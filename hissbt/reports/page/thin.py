"""Long series as a chart can draw them: fewer points, and no extreme lost."""

from itertools import pairwise

import numpy as np

MOST_POINTS = 6000
"""The most points of one line. A screen is some 2,000 pixels wide, and a pixel shows four of them at most."""


def thinned(values: np.ndarray, most: int = MOST_POINTS) -> np.ndarray:
    """Return the rows of ``values`` [T] to draw, in order: all of them, or at most ``most`` (4 or more).

    A longer series is cut into equal stretches, and of each the first, the last, the lowest and the highest value
    are kept (the M4 aggregation of Jugel et al. 2014, VLDB 7(10)): drawn at one stretch a pixel the line is the
    same as with all rows. What is not finite is never an extreme.
    """
    if len(values) <= most:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), most // 4 + 1).astype(np.int64)
    known = np.isfinite(values)
    from_above, from_below = np.where(known, values, np.inf), np.where(known, values, -np.inf)
    lowest = [start + from_above[start:end].argmin() for start, end in pairwise(edges)]
    highest = [start + from_below[start:end].argmax() for start, end in pairwise(edges)]
    return np.unique(np.concatenate([edges[:-1], edges[1:] - 1, lowest, highest]))
