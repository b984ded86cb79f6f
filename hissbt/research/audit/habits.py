"""Promises beside causality: the same numbers in every run mode, in every run, and after a restart."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from hissbt.bars import Bars
from hissbt.errors import AuditError, HissbtError
from hissbt.relay import Model
from hissbt.research.audit.futures import noisy
from hissbt.research.audit.probe import AT_ONCE, BAR_BY_BAR, BLIND, FORGETFUL
from hissbt.research.audit.records import Difference, Record, compare
from hissbt.research.audit.report import Status, Verdict
from hissbt.stream import open_stream

SETTLED = 1e-4  # relative difference that counts as none when histories of two lengths are compared
_JUDGED = 256  # bars after the warm-up on which they are

Recorder = Callable[..., Record]


def same_again(record: Recorder, base: Record, bars: Bars) -> Verdict:
    """Run again over the same bars: alone, and with another instance at work on other bars."""
    name = "repeatable"
    for beside, how in ((None, "a second run"), (noisy(bars, 0), "a run beside other bars")):
        if difference := compare(base, record(bars, AT_ONCE, beside), base.bars, 0.0):
            return _wrong(name, "fault", f"{how} gives other numbers", difference, bars)
    return Verdict(name, "pass", "runs do not differ, nor does what runs beside them matter")


def same_in_all_modes(record: Recorder, bars: Bars) -> Verdict:
    """Run bar by bar, without the future in memory, and with as little history as possible."""
    name = "once = next"
    base = record(bars)
    try:
        by_bar = record(bars, BAR_BY_BAR)
        if difference := compare(base, by_bar, base.bars):
            return _wrong(name, "fault", "bar by bar (runonce=False) the numbers are others", difference, bars)
        text = "the numbers are others where the future is not in memory yet (preload=False)"
        if difference := compare(by_bar, record(bars, BLIND), base.bars):
            return _wrong(name, "leak", text, difference, bars)
    except AuditError as error:
        if error.shown is None:
            return Verdict(name, "could not run", str(error))
        text = f"what it reads is not there where the future is not in memory yet (preload=False): {error}"
        return Verdict(name, "leak", text, bar=bars.frame.index[max(error.shown - 1, 0)].isoformat())
    told = f"bar by bar and without preloading the {base.bars:,} bars are as with runonce"
    try:
        if difference := compare(base, record(bars, FORGETFUL), base.bars):
            return _wrong(name, "fault", "with exactbars=1 the numbers are others", difference, bars)
    except HissbtError as error:
        return Verdict(name, "pass", f"{told}; exactbars=1 could not run ({error})")
    return Verdict(name, "pass", f"{told}, and with exactbars=1")


def resumes(bundles: Sequence[Model], bars: Bars, period: int) -> Verdict:
    """Save each model's state at every phase of its blocks, and go on from it in a fresh stream."""
    name = "state resume"
    if not bundles:
        return Verdict(name, "not applicable", "there is no model whose state could be saved")
    for bundle in bundles:
        stream = open_stream(bundle)
        rows = bars.arrays(stream.fields[6:])
        whole = open_stream(bundle).scan(rows)
        start = max(1, len(rows) - 2 * period)
        stream.scan(rows[:start])
        for cut in range(start, min(start + period, len(rows))):
            resumed = open_stream(bundle)
            resumed.restore(stream.snapshot())
            if not np.array_equal(resumed.scan(rows[cut:]), whole[cut:], equal_nan=True):
                text = f"a {bundle.kind} restored after {cut} bars goes on otherwise"
                return Verdict(name, "fault", text, bar=bars.frame.index[cut].isoformat())
            stream.step(rows[cut])
    return Verdict(name, "pass", f"restored at {period} bars in a row, to the last bit")


def warms_up(record: Recorder, warmup: int, bars: Bars) -> Verdict:
    """Begin 1, 2 and 4 warm-ups before the same bar, and see from where on the lines agree."""
    name = "warm-up"
    if len(bars) < 4 * warmup + 32:
        return Verdict(name, "could not run", f"it takes {4 * warmup + 32} bars, and there are {len(bars)}")
    judged = min(_JUDGED, len(bars) - 4 * warmup)
    try:
        spans = {n: bars[(4 - n) * warmup : 4 * warmup + judged] for n in (1, 2, 4)}
        records = {n: _last_rows(record(span), judged) for n, span in spans.items()}
    except HissbtError as error:
        return Verdict(name, "could not run", str(error))
    if not records[4].lines:
        return Verdict(name, "not applicable", "a strategy without indicators has no warm-up")
    settled = [_settled(records[4], records[n]) for n in (1, 2)]
    told = ", ".join(
        f"begun {n * warmup} bars before, lines are within {SETTLED:g} of those begun {4 * warmup} before "
        + (f"after {bars_later} bars" if bars_later < judged else f"not even after {judged} bars")
        for n, bars_later in zip((1, 2), settled, strict=True)
    )
    return Verdict(name, "pass" if settled[1] < judged else "note", told)


def _last_rows(record: Record, count: int) -> Record:
    """Return the last bars of the indicators' lines: what a strategy holds depends on all that it did before."""
    return Record({name: record.of(name)[-count:] for name in record.indicators}, count)


def _settled(reference: Record, other: Record) -> int:
    """Return the number of bars after which the two agree for good."""
    for row in range(reference.bars):
        rest = reference.bars - row
        if compare(_last_rows(reference, rest), _last_rows(other, rest), rest, SETTLED) is None:
            return row
    return reference.bars


def _wrong(name: str, status: Status, text: str, difference: Difference, bars: Bars) -> Verdict:
    bar = bars.frame.index[difference.row].isoformat()
    return Verdict(name, status, text, bar=bar, line=difference.line, difference=difference.size)
