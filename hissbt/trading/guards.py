"""Guards: how much may be held now, whatever the strategy wants, and a record of when that mattered.

A guard looks at the account at a bar's close and names the largest exposure it allows. Who enforces it
(PerpBroker for a whole account, HiSSStrategy for itself) asks ``Guards.check`` once a bar, so that what a gap or
the inside of a bar breached is undone at the next tradable price; ``Guards.record`` has the overshoot.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from hissbt.errors import ConfigError

# Backtrader's date numbers resolve 10 microseconds: what lies this close above a midnight is that midnight.
_DUST_OF_A_DAY = 1e-9


@dataclass(slots=True)
class Moment:
    """What guards see of an account at the close of a bar."""

    close_time: float
    """When the bar closed, UTC, as a Backtrader date number (days)."""
    equity: float
    """What the account is worth at that close, in money."""
    exposure: float
    """Gross notional of all positions as a multiple of equity, see ``exposure_of``."""
    missing_bars: int = 0
    """How many bars are missing just before this one."""
    outputs: tuple[float, ...] | None = None
    """The model's lines at this bar; None where there is no model or it warms up."""


BELOW_CAP = 0.98
"""Who goes up or down to a cap stays this much below it, or its own fee would call for more at the next bar."""


class Verdict(NamedTuple):
    """The tightest limit of several guards."""

    limit: float
    """Largest exposure allowed, a multiple of equity: inf for no limit, 0 for flat."""
    reason: str
    """Name of the guard that sets it; empty where there is no limit."""


def exposure_of(notional: float, equity: float) -> float:
    """Return gross ``notional`` (money, 0 or more) as a multiple of ``equity``: inf where no equity carries it."""
    if not notional:
        return 0.0
    return notional / equity if equity > 0 else math.inf


class Guard:
    """Base of all guards; one of your own needs a ``name`` and ``limit``.

    A guard keeps its own state from bar to bar: use one instance for one run. For the record it may set ``bound``,
    the limit of what it watches, and, at each call of ``limit``, ``watched``, what that was just now.
    """

    name: str
    bound: float = 0.0
    watched: float = 0.0

    def limit(self, moment: Moment) -> float:
        """Return the largest exposure allowed now, a multiple of equity: inf for no limit, 0 for flat.

        Called at each bar, in their order, and sometimes again at the same one.
        """
        raise NotImplementedError


class DrawdownGuard(Guard):
    """Flat for good (``tripped``) once equity at a close is a fraction ``max_drawdown`` or more below its peak."""

    name = "drawdown"

    def __init__(self, max_drawdown: float = 0.15):
        self.bound = _fraction("max_drawdown", max_drawdown, "0.15")
        self.peak = 0.0
        self.tripped = False

    def limit(self, moment: Moment) -> float:
        """Return 0 from the close of the breach on, else inf; an equity of NaN is a breach."""
        equity = moment.equity
        if equity > self.peak:
            self.peak = equity
        # Written so that an equity of NaN trips it too: nobody should trade on an account of unknown size.
        if not equity > self.peak * (1 - self.bound):
            self.tripped = True
        if not self.tripped:
            return math.inf
        self.watched = _loss(self.peak, equity)
        return 0.0


class DailyLossGuard(Guard):
    """Flat until the next UTC day once a day lost ``max_loss``, a fraction, or more of the equity it began with.

    A day begins with the equity at the last close that is not after its midnight (the first day with that of the
    first bar); a bar that closes at midnight belongs to the day that ends then. What a day's last bar breaches is
    therefore closed at the next open, and the new day is free from its first close on.
    """

    name = "daily_loss"

    def __init__(self, max_loss: float = 0.05):
        self.bound = _fraction("max_loss", max_loss, "0.05")
        self.tripped = False
        self._ends = -math.inf  # the midnight that ends the day
        self._start = self._last = math.nan

    def limit(self, moment: Moment) -> float:
        """Return 0 from the close of the breach to the end of its day, else inf; NaN equity is a breach."""
        equity = moment.equity
        if moment.close_time > self._ends + _DUST_OF_A_DAY:
            self._start = equity if self._ends == -math.inf else self._last
            self._ends = math.ceil(moment.close_time - _DUST_OF_A_DAY)
            self.tripped = False
        self._last = equity
        if not equity > self._start * (1 - self.bound):
            self.tripped = True
        if not self.tripped:
            return math.inf
        self.watched = _loss(self._start, equity)
        return 0.0


class ExposureGuard(Guard):
    """Never hold more than ``max_exposure`` times equity, all datas together, longs and shorts added up.

    That is the account's effective leverage, so this is the leverage cap too. In force, for the record, at closes
    where more is held: by a price that ran away, or an entry that filled at a worse one.
    """

    name = "exposure"

    def __init__(self, max_exposure: float = 1.0):
        if not 0 < max_exposure < math.inf:
            raise ConfigError(
                f"max_exposure is {max_exposure}: write a multiple of equity above 0, such as 1 (no leverage)"
            )
        self.bound = max_exposure

    def limit(self, moment: Moment) -> float:
        """Return the cap."""
        self.watched = moment.exposure
        return self.bound


class StaleDataGuard(Guard):
    """Flat after more than ``max_missing_bars`` bars are missing, until ``resume_after`` came without such a hole.

    A hole is seen when the first bar after it closes; this bar is not yet one of the ``resume_after``, 1 or more.
    """

    name = "stale_data"

    def __init__(self, max_missing_bars: int = 0, resume_after: int = 1):
        if not 0 <= max_missing_bars < math.inf:
            raise ConfigError(f"max_missing_bars is {max_missing_bars}: write a count of 0 or more")
        if not 1 <= resume_after < math.inf:
            raise ConfigError(f"resume_after is {resume_after}: write a count of bars of 1 or more")
        self.bound = max_missing_bars
        self._resume_after = self._whole = resume_after
        self._close_time = -math.inf

    def limit(self, moment: Moment) -> float:
        """Return 0 from the first bar after a hole on until enough bars have come, else inf."""
        if moment.close_time != self._close_time:  # a bar is told of again where other feeds move in between
            self._close_time, self.watched = moment.close_time, moment.missing_bars
            self._whole = 0 if self.watched > self.bound else self._whole + 1
        return math.inf if self._whole >= self._resume_after else 0.0


class ModelFaultGuard(Guard):
    """Flat while any output of the model is NaN or infinite after its warm-up; free again when all are finite.

    It looks at ``Moment.outputs``, which somebody has to pass: HiSSStrategy does, and for a PerpBroker
    ``cerebro.addanalyzer(hissbt.ModelWatch, forecast="hiss")``, without which it refuses this guard.
    """

    name = "model_fault"

    def __init__(self):
        self.tripped = False

    def limit(self, moment: Moment) -> float:
        """Return 0 from a faulty output to the next that is sane, else inf; no outputs (None) change nothing."""
        if moment.outputs is not None:
            # A sum is finite just where its terms are: but for an overflow, which no sane model comes near.
            tripped = not math.isfinite(sum(moment.outputs))
            if tripped is not self.tripped:
                self.tripped, self.watched = tripped, float(tripped)
        return 0.0 if self.tripped else math.inf


class Guards:
    """Several guards as one, with a record of when each was in force and by how much its limit was overshot.

    A guard is in force at a close where it allows no position at all, or less than is held.
    """

    def __init__(self, guards: Iterable[Guard] = ()):
        self._guards = [[guard, None] for guard in guards]  # with the open row of the record
        self.reason = ""
        """Name of the tightest guard in force at the last check; empty where there is none."""
        self.limit = math.inf
        """Largest exposure allowed at the last check."""
        self.record: list[dict] = []
        """A row for each time that a guard came into force.

        ``name``; ``since`` and ``until``, close times as Backtrader date numbers (until: the first close at which
        it no longer was, None while it is); ``worst`` of what it watches (a loss as a fraction, an exposure as a
        multiple of equity, missing bars, 1 for a fault); ``overshoot``, by how much that passed the limit.
        """

    def check(self, moment: Moment) -> Verdict:
        """Return the tightest limit at a bar's close; call it at each bar, in their order."""
        tightest = _FREE
        for pair in self._guards:
            guard, row = pair
            limit = guard.limit(moment)
            if limit == math.inf and row is None:
                continue
            limit = max(0.0, limit)  # NaN, too, becomes 0: an unknown limit allows nothing
            if limit < tightest.limit:
                tightest = Verdict(limit, guard.name)
            if _is_in_force(limit, moment.exposure):
                pair[1] = self._note(guard, row, moment.close_time)
            elif row is not None:
                row["until"], pair[1] = moment.close_time, None
        self.limit = tightest.limit
        self.reason = tightest.reason if _is_in_force(tightest.limit, moment.exposure) else ""
        return tightest

    def _note(self, guard: Guard, row: dict | None, close_time: float) -> dict:
        """Bring the guard's row of the record up to date, or begin one; return it."""
        if row is None:
            row = {"name": guard.name, "since": close_time, "until": None, "worst": guard.watched}
            self.record.append(row)
        row["worst"] = max(row["worst"], guard.watched)
        row["overshoot"] = max(0.0, row["worst"] - guard.bound)
        return row


_FREE = Verdict(math.inf, "")


def _is_in_force(limit: float, exposure: float) -> bool:
    return limit == 0.0 or not exposure <= limit


def _loss(before: float, now: float) -> float:
    """Return the fraction of ``before`` that is lost: all of it where either amount means nothing."""
    return 1 - now / before if before > 0 and math.isfinite(now) else 1.0


def _fraction(name: str, value: float, example: str) -> float:
    if not 0 < value < 1:
        raise ConfigError(f"{name} is {value}: write a fraction between 0 and 1, such as {example}")
    return value
