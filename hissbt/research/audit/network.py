"""Whether a network that takes whole batches at once looks along them, or from one series to another."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from hissbt.research.audit.records import Difference, Record, compare
from hissbt.research.audit.report import Report, Verdict


def audit_network(forward: Callable[[np.ndarray], np.ndarray], x: np.ndarray) -> Report:
    """Alter the future, the neighbors in the batch and its size, and compare what the network says.

    Args:
        forward: takes [B,T,F] and returns [B,T,O], for any B and T: a network as it is used, not as it is trained.
        x: a batch of at least two series, longer than the network's blocks. There is a cut at each row of its
            later half. Values may differ by rounding: by 1e-9, or 1e-5 where all are those of float32.
    """
    base, runs = _record(forward(x)), 0

    def difference(altered: np.ndarray, kept: Record, rows: int) -> Difference | None:
        nonlocal runs
        runs += 1
        return compare(kept, _record(forward(altered)), rows)

    length = x.shape[1]
    cuts = range(max(1, length // 2), length)
    futures = [np.concatenate([x[:, :cut], 3.0 - 2.0 * x[:, cut:]], axis=1, dtype=x.dtype) for cut in cuts]
    ends = [difference(x[:, :cut], base, cut) for cut in cuts]
    others = [difference(future, base, cut) for future, cut in zip(futures, cuts, strict=True)]
    first = Record({name: base.of(name) for name in base.lines if name.startswith("series 0 ")}, length)
    stranger = np.concatenate([x[:1], 3.0 - 2.0 * x[1:]], dtype=x.dtype)
    neighbors = [_of_first(first, forward(batch)) for batch in (stranger, x[:1])]
    again = [difference(x, base, length)]
    verdicts = (
        _verdict("truncation", "leak", "what follows changes what was said before", ends, cuts),
        _verdict("altered future", "leak", "what follows changes what was said before", others, cuts),
        _control(difference(3.0 - 2.0 * x, base, length)),
        _verdict("repeatable", "fault", "a second run says otherwise", again),
        _verdict("batch neighbors", "fault", "other series in the batch change what is said of one", neighbors),
    )
    name = getattr(forward, "__name__", type(forward).__name__)
    return Report(name, f"a batch of {len(x)} series of {length} rows", runs + 1 + len(neighbors), verdicts)


def _record(y: np.ndarray) -> Record:
    series, rows, outputs = y.shape
    names = ((b, o) for b in range(series) for o in range(outputs))
    return Record({f"series {b} output {o}": np.array(y[b, :, o], dtype=np.float64) for b, o in names}, rows)


def _of_first(first: Record, y: np.ndarray) -> Difference | None:
    return compare(first, _record(y[:1]), first.bars)


def _verdict(
    name: str, status: str, text: str, found: Iterable[Difference | None], cuts: range | None = None
) -> Verdict:
    found = list(found)
    wrong = [difference for difference in found if difference is not None]
    if not wrong:
        return Verdict(name, "pass", f"nothing has changed in {len(found)} runs")
    first = min(wrong, key=lambda difference: difference.row)
    pairs = zip(cuts or (), found, strict=False)
    reach = max((cut - difference.row for cut, difference in pairs if difference), default=None)
    return Verdict(name, status, text, f"row {first.row}", first.line, first.size, reach)


def _control(difference: Difference | None) -> Verdict:
    if difference is None:
        return Verdict("positive control", "fault", "dead: no output follows the inputs")
    return Verdict("positive control", "pass", "altered inputs change what is said of them")
