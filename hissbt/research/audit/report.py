"""What an audit found: one verdict a property, and a sentence for all of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Status = Literal["pass", "leak", "fault", "note", "not applicable", "could not run"]
_FLAGGED = ("leak", "fault")
_CAUSAL = ("truncation", "altered future", "fitted on the past")  # without one of these nothing has been shown


@dataclass(frozen=True)
class Verdict:
    """What was found of one property."""

    property: str
    status: Status
    """``leak``: the past depends on the future. ``fault``: another promise is broken, or the target reacts to
    nothing, so that nothing can be said of it. ``note``: a fact that is no fault in itself."""
    text: str
    """What was tried, and what came of it."""
    bar: str | None = None
    """Close time (ISO 8601, UTC) of the first bar that is wrong."""
    line: str | None = None
    """What is wrong there: a line, an order or a fitted number."""
    difference: float | None = None
    """Largest absolute difference anywhere; None where one of the two was no number."""
    reach: int | None = None
    """From how many bars later a value is known to have come."""

    @property
    def is_flagged(self) -> bool:
        """Whether the property does not hold."""
        return self.status in _FLAGGED


@dataclass(frozen=True)
class Report:
    """The verdicts on one target."""

    target: str
    on: str
    """Which bars it ran over."""
    runs: int
    """How often it ran."""
    verdicts: tuple[Verdict, ...]

    @property
    def leaks(self) -> tuple[Verdict, ...]:
        """The verdicts that say leak."""
        return tuple(verdict for verdict in self.verdicts if verdict.status == "leak")

    @property
    def untold(self) -> tuple[Verdict, ...]:
        """The verdicts on what the future changes that could not be reached."""
        return tuple(each for each in self.verdicts if each.property in _CAUSAL and each.status == "could not run")

    @property
    def passed(self) -> bool:
        """Whether no verdict says leak or fault, and those on the future could be reached."""
        return not self.untold and not any(verdict.is_flagged for verdict in self.verdicts)

    @property
    def sentence(self) -> str:
        """What it comes to."""
        flagged = [verdict for verdict in self.verdicts if verdict.is_flagged]
        if not flagged and self.untold:
            return f"Of {self.target} it cannot be told whether it looks ahead: {self.untold[0].text}."
        if not flagged:
            return (
                f"{self.target} knows nothing of the future as far as {self.runs:,} runs over {self.on} can tell."
            )
        first = min(flagged, key=lambda verdict: _FLAGGED.index(verdict.status))
        found = "LOOKS AHEAD" if first.status == "leak" else "is not to be trusted"
        far = "" if first.reach is None else f" by {first.reach} bars" if first.reach > 1 else " by one bar"
        where = " at ".join(part for part in (first.line, first.bar) if part)
        return f"{self.target} {found}{far}: {first.text}" + (f"; first {where}." if where else ".")

    def as_dict(self) -> dict:
        """Return everything as JSON can hold it."""
        return {**asdict(self), "passed": self.passed, "leaks": len(self.leaks), "sentence": self.sentence}
