"""What was fitted in a contest, and what it forecast."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from hissbt.research.rivals.task import Forecasts, Task


@dataclass(frozen=True)
class Run:
    """One fit and what it forecast."""

    fold: int
    setting: Mapping[str, Any]
    seed: int
    said: Forecasts | None = None
    """At ``judged`` of its fold's task; None if the fit failed."""
    score: float = -np.inf
    """Of the validation rows, more is better; minus infinity if the fit failed."""
    seconds: float = 0.0
    """Of fit and forecasts together."""
    fault: str | None = None
    """Why it failed."""


class Contest(NamedTuple):
    """All fits of a contest."""

    tasks: list[Task]
    """By fold."""
    tuned: dict[str, list[list[Run]]]
    """By rival, then fold: every setting that was tried."""
    runs: dict[str, list[list[Run]]]
    """By rival, then fold: the chosen setting with every seed. Only rivals none of whose fits failed."""
    choices: dict[str, list[list[Run]]]
    """The same for HiSS trained in other ways, by their names."""
    failed: dict[str, str]
    """By rival or choice that is left out, why it is."""
