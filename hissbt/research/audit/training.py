"""Whether what a training pipeline fits depends on bars that it was not to see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np

from hissbt.bars import Bars, Time, parse_time
from hissbt.errors import AuditError, BarsError
from hissbt.research.audit.futures import ALTERED, noisy, truncated
from hissbt.research.audit.report import Report, Verdict

CANARY = "canary"
_PLAIN = (str, bytes, int, float, bool, type(None))


def audit_training(fit: Callable[[Bars], Any], bars: Bars, train_until: Time) -> Report:
    """Fit on bars whose rows after ``train_until`` are altered, and compare all that was fitted.

    - fitted on the past: no fitted number changes when the bars that close after ``train_until`` end there, or are
      mirrored, noisy, scaled by 1000, flat or in another order. A label that reaches from the last training bars
      into the test span counts: it has to be purged.
    - canary: an extra column, 0 up to ``train_until`` and the next bar's return after it, changes nothing either.
    - repeatable: two fits of the same bars are equal (with the seed fixed, and on as many threads).
    - positive control: other bars in the training span do change what is fitted.

    Args:
        fit: takes all bars and returns what it has fitted, from no more of them than it should have: a
            ModelBundle, an estimator, arrays, numbers, or any dict, sequence or object made of these.
        bars: the training span and at least 8 bars after it.
        train_until: the last close to learn from.

    Raises BarsError where there are no bars on both sides, AuditError for results that hold anything else, and
    what ``fit`` raises.
    """
    cut = int(bars.frame.index.searchsorted(parse_time(train_until), side="right"))
    if not 0 < cut <= len(bars) - 8:
        raise BarsError(
            f"{train_until} leaves {cut} of {len(bars)} bars to train on: 8 at least must come after it"
        )
    runs = 0

    def fitted(on: Bars) -> dict[str, np.ndarray]:
        nonlocal runs
        runs += 1
        return dict(_numbers(fit(on), ""))

    base = fitted(bars)
    again = _difference(base, fitted(bars))
    shown = {future.__name__: _difference(base, fitted(future(bars, cut))) for future in (truncated, *ALTERED)}
    blind, seeing = (_with_canary(bars, cut, sees) for sees in (False, True))
    verdicts = (
        _past(shown, lambda later: _difference(base, fitted(noisy(bars, cut + later))), len(bars) - cut),
        _canary(_difference(fitted(blind), fitted(seeing))),
        _control(_difference(base, fitted(noisy(bars, 0)))),
        _verdict("repeatable", "fault", "a second fit of the same bars gives other numbers", again),
    )
    name = getattr(fit, "__qualname__", type(fit).__name__)
    return Report(name, f"{cut:,} training bars of {len(bars):,}", runs, verdicts)


def _past(shown: Mapping[str, tuple | None], differs: Callable[[int], Any], count: int) -> Verdict:
    name, kinds = "fitted on the past", [kind for kind, found in shown.items() if found]
    if not kinds:
        return Verdict(name, "pass", f"{len(shown)} other futures change no fitted number")
    low, high = 0, count  # the bars from low on matter, and those from high on do not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if differs(middle) else (low, middle)
    text = f"bars up to {high} after the training span change what is fitted ({', '.join(kinds)})"
    return _verdict(name, "leak", text, shown[kinds[0]], high)


def _canary(found: tuple | None) -> Verdict:
    return _verdict("canary", "leak", "a column that is 0 in the training span changes what is fitted", found)


def _control(found: tuple | None) -> Verdict:
    if found is None:
        return Verdict("positive control", "fault", "dead: other training bars change nothing that is fitted")
    return Verdict("positive control", "pass", "other training bars change what is fitted")


def _verdict(name: str, status: str, text: str, found: tuple | None, reach: int | None = None) -> Verdict:
    if found is None:
        return Verdict(name, "pass", "no fitted number has changed")
    line, size = found
    return Verdict(name, status, text, line=line, difference=size, reach=reach)


def _with_canary(bars: Bars, cut: int, sees: bool) -> Bars:
    """Return the bars with a further column: 0, or in the test span the return that nobody knows yet."""
    close = np.log(bars.frame["close"].to_numpy())
    column = np.zeros(len(bars))
    if sees:
        column[cut:-1] = np.diff(close)[cut:]
    return Bars(bars.frame.assign(**{CANARY: column}), bars.market, bars.timeframe)


def _difference(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> tuple[str, float | None] | None:
    """Return the first fitted number that differs and by how much (None for what is no number)."""
    for name in [*a, *(name for name in b if name not in a)]:
        left, right = a.get(name), b.get(name)
        if left is not None and right is not None and _same(left, right):
            continue
        is_number = (
            left is not None and right is not None and left.shape == right.shape and left.dtype.kind in "fiu"
        )
        return name, float(np.abs(left - right).max()) if is_number and right.dtype.kind in "fiu" else None
    return None


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    both_floats = a.dtype.kind in "fc" and b.dtype.kind in "fc"
    return a.dtype == b.dtype and np.array_equal(a, b, equal_nan=both_floats)


def _numbers(value: Any, name: str):
    """Yield what a fitted object is made of, under names such as ``scaler.mean``."""
    if isinstance(value, _PLAIN) or hasattr(value, "__array__"):
        yield name or "result", np.asarray(value)
    elif isinstance(value, Mapping):
        yield from _parts(((str(key), part) for key, part in value.items()), name)
    elif isinstance(value, Sequence | set | frozenset):
        parts = value if isinstance(value, Sequence) else sorted(value, key=repr)
        yield from _parts(((str(i), part) for i, part in enumerate(parts)), name)
    elif is_dataclass(value):
        yield from _parts(((field.name, getattr(value, field.name)) for field in fields(value)), name)
    elif hasattr(value, "__dict__") and not callable(value):
        yield from _parts(vars(value).items(), name)
    else:
        raise AuditError(
            f"what was fitted holds {type(value).__name__} at {name or 'its top'}, which cannot be compared: "
            "return its numbers"
        )


def _parts(parts, name: str):
    for key, part in parts:
        yield from _numbers(part, f"{name}.{key}" if name else key)
