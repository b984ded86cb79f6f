"""The leak audit: whether what a target says at a bar depends on bars that come after it.

It sees no source, only what a target does over bars whose future it alters. It covers Backtrader indicators and
strategies (``audit``), training pipelines (``audit_training``), networks that take batches (``audit_network``) and
loaders of bars (``audit_loader``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

from hissbt.bars import Bars
from hissbt.errors import AuditError, BarsError
from hissbt.relay import Model
from hissbt.research.audit.causality import RUNS_A_CUT, causality, cuts_of, phases
from hissbt.research.audit.habits import resumes, same_again, same_in_all_modes, warms_up
from hissbt.research.audit.loader import audit_loader
from hissbt.research.audit.network import audit_network
from hissbt.research.audit.probe import probe_of
from hissbt.research.audit.records import Record
from hissbt.research.audit.report import Report, Verdict
from hissbt.research.audit.training import audit_training
from hissbt.research.progress import Progress

__all__ = ["Report", "Verdict", "audit", "audit_loader", "audit_network", "audit_training"]

MOST_CUTS = 256
_LEAST_CUTS = 12
_SECONDS = 40.0  # that the runs with other futures may take, if the user names no number of cuts
_FEWEST = 32  # bars after the warm-up
_ROOM = 64  # bars behind the last of the cuts in a row, for futures to differ in
_FIRST_LOOK = 1024  # bars on which the warm-up of an unknown target is looked for
_ALL_MODES = 2048  # bars on which run modes are compared, which shows leaks that the cuts pass by


def audit(
    target: type,
    bars: Bars,
    *,
    model: str | Path | Model | None = None,
    params: Mapping | None = None,
    cuts: int | None = None,
    progress: Progress | None = None,
) -> Report:
    """Run ``target``, a Backtrader indicator or strategy, over the first of ``bars`` and over altered ones.

    The properties, in the order of the report:

    - truncation, altered future: no value at or before a bar changes when history ends there, or goes on otherwise
      (mirrored, noisy, scaled by 1000, flat, in another order). There is a cut at each of ``cuts`` bars in a row
      from the warm-up on, by default 256, more where a model's blocks repeat only after more bars, and fewer where
      they would take longer than a minute; a leak that acts on one of these bars is found. A strategy's values are
      its position, the orders it sends, and the lines of its indicators.
    - positive control: altered bars do change what is said of them; else nothing was shown at all.
    - repeatable: two runs agree, and another instance on other bars changes nothing.
    - once = next: the lines are the same bar by bar, without the future in memory, and with ``exactbars=1``.
    - state resume: a model's stream goes on, restored at every phase of its blocks, to the last bit.
    - warm-up: how soon lines agree that began 1, 2 and 4 warm-ups before.

    Params ``model`` and ``params`` are those of the target. Lines may differ by rounding: by 1e-9 of a value, or
    1e-5 where all values are those of float32. What the bars are stamped with is believed, see ``audit_loader``.
    ``progress`` is told what is done, how many cuts, and of how many.

    Raises AuditError for a target that cannot run, BarsError for fewer than 32 bars after its warm-up, and what
    its own params raise.
    """
    probe = probe_of(target, bars, model, dict(params or {}))
    runs = 0

    def record(*given) -> Record:
        nonlocal runs
        runs += 1
        return probe.record(*given)

    known = max((bundle.warmup for bundle in probe.bundles), default=0)
    first = bars[: known + _FIRST_LOOK]
    try:
        warmup = max(known, record(first).warmup)
    except AuditError as error:
        if error.shown != len(first):
            raise
        return Report(probe.name, _text(first), runs, (_asks_for_more(error, first),))
    if len(bars) < warmup + _FEWEST:
        raise BarsError(
            f"too few bars to audit {probe.name}: there are {len(bars)}, and it takes a warm-up of {warmup} and "
            f"{_FEWEST} more"
        )
    period = phases([bundle.config["strides"] for bundle in probe.bundles if bundle.config.get("strides")])
    count = max(MOST_CUTS, period) if cuts is None else cuts
    window = bars[: warmup + count + _ROOM]
    start = perf_counter()
    base = record(window)
    seconds = perf_counter() - start
    is_slow = cuts is None and seconds * RUNS_A_CUT * count > _SECONDS
    if is_slow:
        count = max(_LEAST_CUTS, int(_SECONDS / seconds / RUNS_A_CUT))
    chosen = cuts_of(len(window), warmup, count)
    again = same_again(record, base, window)
    if again.status != "pass":
        untold = (Verdict(name, "could not run", again.text) for name in ("truncation", "altered future"))
        return Report(probe.name, _text(window), runs, (*untold, again))
    done = iter(range(1, len(chosen) + 1))
    tick = (lambda: None) if progress is None else lambda: progress(probe.name, next(done), len(chosen))
    verdicts = (
        *causality(record, base, window, chosen, period, tick),
        again,
        same_in_all_modes(record, window if is_slow else bars[: max(len(window), _ALL_MODES)]),
        resumes(probe.bundles, window, period),
        warms_up(record, warmup, bars),
    )
    return Report(probe.name, _text(window), runs, verdicts)


def _asks_for_more(error: AuditError, bars: Bars) -> Verdict:
    text = f"it asks for a bar behind the last one: {error}"
    return Verdict("truncation", "leak", text, bar=bars.frame.index[-1].isoformat(), reach=1)


def _text(bars: Bars) -> str:
    first, last = bars.frame.index[0], bars.frame.index[-1]
    return f"{len(bars):,} bars of {bars.market.symbol}, {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC"
