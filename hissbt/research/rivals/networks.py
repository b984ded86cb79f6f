"""Rivals that are networks: HiSS, its flat kin, recurrent ones, a Transformer, and those that switch regimes.

All have as many parameters as HiSS, within 5 %, are trained by the same loop for the same number of steps on the
same rows, and forecast as a ``Stream`` of their bundle does in trading: one bar after another from the first.

The switching networks know the distribution of the next bar only. What that means for a longer horizon is a line
fitted to the training rows, one for the return and one for the log of the variance.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.special import ndtr

from hissbt.features import LOWEST_VARIANCE
from hissbt.research.rivals.measures import smearing, step_us
from hissbt.research.rivals.sizes import parameters_of, width_for
from hissbt.research.rivals.task import Forecasts, Task
from hissbt.stream.stream import Stream
from hissbt.training.splits import Split

HISS = {"d_model": 28, "blocks": ("s4d", "s4d", "mamba"), "strides": (4, 4)}
"""The network whose size all have."""
_STEPS = 256  # bars that are timed


def network_forecast(
    kind: str,
    network: Mapping[str, Any],
    training: Mapping[str, Any],
    task: Task,
    settings: Mapping[str, Any],
    seed: int,
) -> Forecasts:
    """Fit a network of ``kind`` and run it over the bars up to the last that is judged.

    ``training`` and ``network`` are fields of ``TrainingConfig`` and of the network's own config; ``settings`` are
    further ones of the former, and under ``"network"`` of the latter. A network without ``d_model`` is made as
    large as ``HISS``. ``functools.partial`` makes a rival of it.
    """
    from hissbt.training.forecast_trial import forecast_trial
    from hissbt.training.switching import is_switching

    one_bar = is_switching(kind)
    config = {
        **training,
        **settings,
        "features": task.features,
        "horizon": 1 if one_bar else task.horizon,
        "seed": seed,
        "network": _sized(kind, {**network, **settings.get("network", {})}, len(task.features)),
    }
    trial = forecast_trial(kind, task.bars, Split(task.train, task.validation), config)
    stream = Stream(trial.bundle)
    rows = task.bars.arrays(stream.fields[6:])[: task.test.stop]
    mean, prob_up, volatility = stream.scan(rows).T  # each [T]
    log_variance = 2.0 * np.log(np.maximum(volatility, np.sqrt(LOWEST_VARIANCE)))
    is_extended = one_bar and task.horizon > 1
    if is_extended:
        mean, log_variance = _line(task, mean, task.returns), _line(task, log_variance, task.log_variance)
    factor = smearing(log_variance[task.train], task.log_variance[task.train])
    volatility = np.sqrt(factor * np.exp(log_variance))
    if is_extended:
        prob_up = ndtr(mean / volatility)
    stream.reset()
    facts = {
        "parameters": parameters_of(kind, config["network"], len(task.features)),
        "epochs": trial.epochs,
        "fit_seconds": trial.seconds,
        "step_us": step_us(stream.step, rows[:_STEPS]),
    }
    return Forecasts(mean[task.judged], prob_up[task.judged], volatility[task.judged], facts)


def _line(task: Task, said: np.ndarray, came: np.ndarray) -> np.ndarray:
    """Return what came, as far as it is linear in what was said: both [T], fitted to the training rows."""
    slope, intercept = np.polyfit(said[task.train], came[task.train], 1)
    return intercept + slope * said


def _sized(kind: str, network: Mapping[str, Any], n_features: int) -> dict[str, Any]:
    if "d_model" in network:
        return dict(network)
    return width_for(kind, network, n_features, parameters_of("hiss", HISS, n_features))
