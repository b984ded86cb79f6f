"""When a guard was in force: the ledger's ``guard`` column as spans."""

import pandas as pd

COLUMNS = ("name", "since", "until", "bars", "to_the_end")


def guard_spans(ledger: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each stretch of bars with the same guard in force, in order.

    ``since`` is the close at which it tripped, ``until`` the first close at which it was no longer in force, or
    the last close of the ledger; ``to_the_end`` says that it never ended. A ledger that knows only whether a guard
    had tripped, not which, gives the name "guard".
    """
    reasons = ledger["guard"]
    if reasons.dtype == bool:
        reasons = reasons.map({True: "guard", False: ""})
    reasons = reasons.fillna("").reset_index(drop=True)
    closes, last = ledger["close_time"].reset_index(drop=True), len(ledger) - 1
    stretches = reasons.groupby((reasons != reasons.shift()).cumsum())
    rows = [
        (
            part.iloc[0],
            closes[part.index[0]],
            closes[min(part.index[-1] + 1, last)],
            len(part),
            part.index[-1] == last,
        )
        for _, part in stretches
        if part.iloc[0]
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))
