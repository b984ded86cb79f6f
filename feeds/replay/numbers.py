"""Numbers as Bybit writes them: texts without exponent or idle zeros, that read back as the same float."""

import json

import numpy as np


def number_text(value: float) -> str:
    """Return the shortest text that reads back as exactly ``value``, such as 43057 or 0.00004403."""
    text = repr(value)
    if "e" in text:
        return np.format_float_positional(value, trim="-")
    return text.removesuffix(".0")


def row_texts(table: np.ndarray) -> list[list[str]]:
    """Return ``number_text`` of every number of a table float64 [N, F], all at once where none needs care."""
    text = json.dumps(table.tolist(), separators=(",", ":"))
    if "e" in text:
        return [list(map(number_text, row)) for row in table.tolist()]
    # ".0" stands before a separator only where it is all that follows the point.
    rows = text.replace(".0,", ",").replace(".0]", "]")[2:-2]
    return [row.split(",") for row in rows.split("],[")] if rows else []
