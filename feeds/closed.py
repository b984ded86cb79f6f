"""ClosedBars: candles of a running market in, each bar out once, in order, and never before it has closed.

No clock, no network: time is what the exchange says of itself. All times are milliseconds since 1970.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Row = tuple[int, float, float, float, float, float]
"""A bar: open time, open, high, low, close, volume."""


@dataclass(frozen=True)
class Hole:
    """Bars that the exchange itself does not have: they open from ``first_ms`` on, and below ``end_ms``."""

    first_ms: int
    end_ms: int


class ClosedBars:
    """Turns what an exchange shows of its candles into closed bars; the first opens at ``first_ms``.

    A bar is due ``grace_ms`` after its close by the exchange's clock, and until then the newest of its candles
    counts. Only settled candles become bars: those that the exchange calls final, and those that it showed when
    the bar was due. A bar that is due and has no such candle is a hole to ask for: ``wanted`` says which stretch.
    It is given up, as a Hole, when ``answers`` of the exchange lacked it and a later closed bar was there. The
    last bar is the one that closes at ``end_ms`` or before.
    """

    def __init__(
        self, first_ms: int, timeframe_ms: int, *, grace_ms: int, answers: int, end_ms: int | None = None
    ):
        self.next_ms = first_ms  # open of the next bar to come out
        self.now_ms = 0
        self._step_ms, self._end_ms = timeframe_ms, end_ms
        self._grace_ms, self._answers = grace_ms, answers
        self._candles: dict[int, tuple[bool, Row]] = {}  # by open: is it settled, and its newest values
        self._absences: Counter[int] = Counter()  # by open: answers that lacked it

    @property
    def due_ms(self) -> int:
        """When the next bar is due, by the exchange's clock."""
        return self._due_ms(self.next_ms)

    @property
    def is_over(self) -> bool:
        """Whether the last bar has come out."""
        return self._end_ms is not None and self.next_ms + self._step_ms > self._end_ms

    def see(self, candles: Iterable[Sequence[float]], now_ms: int, *, final: bool = False) -> None:
        """Note candles as the exchange showed them at ``now_ms`` by its own clock; ``final`` if it calls them so.

        Repeated, older, impossible and foreign ones (off the grid of opens) are passed over.
        """
        self.now_ms = max(self.now_ms, now_ms)
        for candle in candles:
            opened_ms = int(candle[0])
            if opened_ms < self.next_ms or (opened_ms - self.next_ms) % self._step_ms or not _is_possible(candle):
                continue
            settled = final or self._due_ms(opened_ms) <= now_ms
            if settled or not self._is_settled(opened_ms):
                self._candles[opened_ms] = settled, (opened_ms, *map(float, candle[1:6]))

    def answer(self, first_ms: int, end_ms: int, candles: Sequence[Sequence[float]], now_ms: int) -> None:
        """Note the exchange's answer to the question for all bars that open in [first_ms, end_ms)."""
        self.see(candles, now_ms)
        shown = {int(candle[0]) for candle in candles}
        for opened_ms in range(max(first_ms, self.next_ms), end_ms, self._step_ms):
            if opened_ms not in shown and self._due_ms(opened_ms) <= now_ms:
                self._absences[opened_ms] += 1

    def take(self) -> list[Row | Hole]:
        """Return what has come out since the last call, in order."""
        taken: list[Row | Hole] = []
        last_settled_ms = max((opened for opened, (settled, _) in self._candles.items() if settled), default=0)
        while not self.is_over and self.due_ms <= self.now_ms:
            if self._is_settled(self.next_ms):
                taken.append(self._candles[self.next_ms][1])
            elif self._absences[self.next_ms] >= self._answers and self.next_ms < last_settled_ms:
                first_ms = taken.pop().first_ms if taken and isinstance(taken[-1], Hole) else self.next_ms
                taken.append(Hole(first_ms, self.next_ms + self._step_ms))
            else:
                break
            self._candles.pop(self.next_ms, None)
            self._absences.pop(self.next_ms, None)
            self.next_ms += self._step_ms
        return taken

    def wanted(self, most: int) -> tuple[int, int] | None:
        """Return the stretch [first, end) of at most ``most`` opens to ask for; None while nothing is lacking.

        Right after ``take``, that is: it begins with the bar that keeps the others waiting.
        """
        if self.is_over or self.due_ms > self.now_ms:
            return None
        due = (self.now_ms - self._grace_ms - self.next_ms) // self._step_ms
        end_ms = self.next_ms + min(due, most) * self._step_ms
        return self.next_ms, end_ms if self._end_ms is None else min(end_ms, self._end_ms)

    def newest(self, most: int) -> tuple[int, int]:
        """Return the stretch [first, end) of the last ``most`` opens that are due, from the next bar on."""
        due = (self.now_ms - self._grace_ms - self.next_ms) // self._step_ms
        return self.next_ms + max(0, due - most) * self._step_ms, self.next_ms + due * self._step_ms

    def _due_ms(self, opened_ms: int) -> int:
        return opened_ms + self._step_ms + self._grace_ms

    def _is_settled(self, opened_ms: int) -> bool:
        return opened_ms in self._candles and self._candles[opened_ms][0]


def _is_possible(candle: Sequence[float]) -> bool:
    """Tell whether a market could have printed these values."""
    if len(candle) < 6 or any(value is None or not math.isfinite(value) for value in candle[:6]):
        return False
    first, high, low, last, volume = candle[1:6]
    return 0 < low <= min(first, last) and max(first, last) <= high and volume >= 0
