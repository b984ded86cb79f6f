"""The exchange's clock in a replay: it starts at a moment of the bars and runs at any speed."""

import math
import threading
import time
from collections.abc import Callable

import pandas as pd

from hissbt.bars import Time, parse_time
from hissbt.errors import ConfigError


class Clock:
    """Simulated time: ``speed`` seconds pass in a second, 0 stands still until ``advance_to``.

    ``start`` is the moment it shows when it is made; a time without zone is UTC. Safe to use from several threads.
    Raises ConfigError for a speed that is negative or not finite.
    """

    def __init__(self, start: Time, speed: float = 1.0):
        if not (math.isfinite(speed) and speed >= 0):
            raise ConfigError(f"the clock cannot run at speed {speed}: write 0 or a positive number")
        self.speed = speed
        self._lock = threading.Lock()
        self._shown_ms = _milliseconds(parse_time(start))
        self._since_s = time.monotonic()
        self._listeners: list[Callable[[], None]] = []

    def now_ms(self) -> int:
        """Return the simulated unix time in milliseconds."""
        with self._lock:
            return self._now_ms()

    def advance_to(self, moment: Time) -> None:
        """Jump forward to ``moment`` and run on from there. Raises ConfigError for a moment in its past."""
        target_ms = _milliseconds(parse_time(moment))
        with self._lock:
            if target_ms < self._now_ms():
                raise ConfigError(f"the clock cannot go back to {moment}: make another one")
            self._shown_ms, self._since_s = target_ms, time.monotonic()
            listeners = list(self._listeners)
        for listener in listeners:
            listener()

    def wait_s(self, moment_ms: float) -> float:
        """Return how many real seconds are left until ``moment_ms``: 0 when it is over, infinite at speed 0."""
        left_ms = moment_ms - self.now_ms()
        if left_ms <= 0:
            return 0.0
        return left_ms / 1000 / self.speed if self.speed else math.inf

    def listen(self, listener: Callable[[], None]) -> None:
        """Have ``listener`` called after every jump, in the thread that made it."""
        with self._lock:
            self._listeners.append(listener)

    def unlisten(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` no more, if it was called at all."""
        with self._lock:
            self._listeners = [other for other in self._listeners if other != listener]

    def _now_ms(self) -> int:
        return self._shown_ms + int((time.monotonic() - self._since_s) * 1000 * self.speed)


def _milliseconds(moment: pd.Timestamp) -> int:
    return moment.as_unit("ns").value // 1_000_000
