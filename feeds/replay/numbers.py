"""Numbers as Bybit writes them: texts without exponent or idle zeros, that read back as the same float."""

import numpy as np


def number_text(value: float) -> str:
    """Return the shortest text that reads back as exactly ``value``, such as 43057 or 0.00004403."""
    text = repr(value)
    if "e" in text:
        return np.format_float_positional(value, trim="-")
    return text.removesuffix(".0")
