"""Whether the past depends on the future: the same bars up to a cut, other ones or none after it.

A leak that reaches k bars ahead shows only where a cut falls between a bar and the k-th after it, and one in
blocks of s bars only off the blocks' edges: so there is a cut at every bar of a long stretch, and all lines
before it are compared. At each cut the future is turned upside down once, and beside that history ends there or is
altered in one of four further ways, in turn, such that it ends in every phase of the blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from hissbt.bars import Bars
from hissbt.errors import HissbtError
from hissbt.research.audit.futures import ALTERED, Future, mirrored, truncated
from hissbt.research.audit.records import Difference, Record, compare
from hissbt.research.audit.report import Verdict

UNKNOWN_PERIOD = 64  # bars after which blocks of an unknown target are taken to repeat
MOST_PHASES = 1024
RUNS_A_CUT = 2
_OTHER_CUTS = 16


@dataclass
class Tally:
    """What runs with other futures have shown so far."""

    runs: int = 0
    found: list[tuple[int, Difference]] = field(default_factory=list)  # cut, and what differed before it
    kinds: dict[str, None] = field(default_factory=dict)  # futures that showed a difference, in order
    errors: list[str] = field(default_factory=list)
    reacted: bool = False  # whether any line has followed an altered bar, at that bar or later

    def verdict(self, name: str, bars: Bars, tried: str) -> Verdict:
        """Return what it comes to."""
        failed = f"; {len(self.errors)} runs failed, the first as {self.errors[0]}" if self.errors else ""
        if self.errors and len(self.errors) == self.runs:
            return Verdict(name, "could not run", self.errors[0])
        if not self.found:
            return Verdict(name, "pass", f"{tried}: nothing before a cut has changed{failed}")
        first = min((difference for _, difference in self.found), key=lambda difference: difference.row)
        reach = max(cut - difference.row for cut, difference in self.found)
        cuts = len({cut for cut, _ in self.found})
        sizes = [difference.size for _, difference in self.found if difference.size is not None]
        return Verdict(
            name,
            "leak",
            f"what comes later changes what was said before, in {cuts} of {self.runs} runs "
            f"({', '.join(self.kinds)}){failed}",
            bar=bars.frame.index[first.row].isoformat(),
            line=first.line,
            difference=max(sizes, default=None),
            reach=reach,
        )


def phases(strides: Sequence[Sequence[int]]) -> int:
    """Return after how many bars the blocks of models with these strides repeat; of no model, what is assumed."""
    if not strides:
        return UNKNOWN_PERIOD
    return min(max(math.prod(each) for each in strides), MOST_PHASES)


def cuts_of(bars: int, warmup: int, count: int) -> list[int]:
    """Return how many bars to keep each time: ``count`` in a row from the end of the warm-up, and some others."""
    dense = range(max(1, warmup - 1), min(bars, warmup + count))
    rest = [*range(1, dense.start), *range(dense.stop, bars)]
    others = np.random.default_rng(bars).permutation(rest)[: min(_OTHER_CUTS, count // 4)].tolist()
    return sorted({*dense, *map(int, others)})


def causality(
    record: Callable[[Bars], Record],
    base: Record,
    bars: Bars,
    cuts: Sequence[int],
    period: int,
    tick: Callable[[], None],
) -> Iterator[Verdict]:
    """Yield the verdicts on truncation, altered futures, and on whether the target reacts to anything at all."""
    ends, altered = Tally(), Tally()
    rotating = [future for future in ALTERED if future is not mirrored]
    for number, cut in enumerate(cuts):
        _try(mirrored, record, base, bars, cut, altered)
        turn = number + number // period  # so that a phase has another turn each time
        if turn % 2 and cut >= base.warmup:
            _try(truncated, record, base, bars, cut, ends)
        else:
            _try(rotating[turn // 2 % len(rotating)], record, base, bars, cut, altered)
        tick()
    yield ends.verdict("truncation", bars, f"history ended at {ends.runs} bars")
    yield altered.verdict("altered future", bars, f"{altered.runs} other futures after {len(cuts)} bars")
    for future in ALTERED:
        if not altered.reacted:
            _try(future, record, base, bars, 0, altered)
    yield _control(altered)


def _try(
    future: Future,
    record: Callable[[Bars], Record],
    base: Record,
    bars: Bars,
    cut: int,
    tally: Tally,
) -> None:
    tally.runs += 1
    try:
        other = record(future(bars, cut))
    except HissbtError as error:
        if future is not truncated or getattr(error, "shown", None) != cut:
            tally.errors.append(str(error))
            return
        difference = Difference(cut - 1, None, None)  # it asked for the bar behind the last one
    else:
        difference = compare(base, other, cut)
        if not tally.reacted and other.bars == base.bars:
            tally.reacted = difference is None and compare(base, other, base.bars) is not None
    if difference is not None:
        tally.found.append((cut, difference))
        tally.kinds[future.__name__] = None


def _control(altered: Tally) -> Verdict:
    name = "positive control"
    if altered.reacted or altered.found:
        return Verdict(name, "pass", "altered bars change what is said of them")
    return Verdict(name, "fault", "dead: no line follows the bars, however these are altered")
