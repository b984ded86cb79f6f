"""What is measured of every rival in the same way: the mean that a logarithm hides, and the time of a decision."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np


def smearing(log_forecast: np.ndarray, log_realized: np.ndarray) -> float:
    """Return by what the exponential of a forecast of a logarithm has to be multiplied: the mean of exp(residual).

    The rows given are those that the forecaster was fitted to; no factor has a lower QLIKE on them. Duan,
    "Smearing estimate: a nonparametric retransformation method", J. of the American Statistical Association 78
    (1983).
    """
    return float(np.mean(np.exp(log_realized - log_forecast)))


def step_us(step: Callable[[Any], Any], inputs: Sequence[Any]) -> float:
    """Return the median time in microseconds that ``step`` takes for one of the inputs, the first left out."""
    step(inputs[0])  # which may allocate and plan
    times = []
    for one in inputs[1:]:
        begun = time.perf_counter()
        step(one)
        times.append(time.perf_counter() - begun)
    return 1e6 * float(np.median(times))
