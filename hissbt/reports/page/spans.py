"""When a guard was in force: the ledger's ``guard`` column as spans."""

import numpy as np
import pandas as pd

from hissbt.trading.sizing import FLAT


def guard_spans(ledger: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each stretch of bars with the same guard in force, in order.

    Columns: ``name``; ``since``, the close at which it tripped; ``until``, the first close at which it was no
    longer in force, or the last close of the ledger; ``bars``, at how many closes it was in force; ``to_the_end``,
    whether it never ended; ``halted``, whether then nothing was held at the last close. A ledger that knows only
    whether a guard had tripped, not which, names it "guard".
    """
    reasons = ledger["guard"]
    if reasons.dtype == bool:
        reasons = reasons.map({True: "guard", False: ""})
    reasons = reasons.fillna("").to_numpy(dtype=object)  # [T]
    changes = np.flatnonzero(reasons[1:] != reasons[:-1]) + 1
    first, end = np.append(0, changes), np.append(changes, len(reasons))  # [S], [S] rows of each stretch
    closes = ledger["close_time"].reset_index(drop=True)
    spans = pd.DataFrame(
        {
            "name": reasons[first],
            "since": closes.iloc[first].array,
            "until": closes.iloc[np.minimum(end, len(reasons) - 1)].array,
            "bars": end - first,
            "to_the_end": end == len(reasons),
            "halted": (end == len(reasons)) & (abs(ledger["position"].iloc[-1]) <= FLAT),
        }
    )
    return spans[spans["name"] != ""].reset_index(drop=True)


def joined(since: np.ndarray, until: np.ndarray, room: float) -> tuple[np.ndarray, np.ndarray]:
    """Return spans [S] in order, with those joined that are no more than ``room`` apart."""
    apart = since[1:] - until[:-1] > room
    return since[np.append(True, apart)], until[np.append(apart, True)]
