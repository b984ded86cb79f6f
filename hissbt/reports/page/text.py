"""Numbers, times and words as the page shows them; what is not defined is a dash."""

import html
import math
from collections.abc import Sequence
from numbers import Real

import pandas as pd

NOTHING = "–"


def percent(value: float | None, sign: bool = False) -> str:
    """Return a fraction as a percentage with two decimals; ``sign`` puts a plus before gains."""
    if not known(value):
        return NOTHING
    rounded = round(value, 4) + 0.0  # what rounds to nothing has no sign
    return f"{rounded:{'+' if sign else ''},.2%}".replace("-", "−")


def chance(value: float | None) -> str:
    """Return a probability as a percentage with one decimal, rounded down; no sample makes it 100 %."""
    return f"{math.floor(min(value, 0.999) * 1000) / 10:.1f}%" if known(value) else NOTHING


def money(value: float | None) -> str:
    """Return an amount with separators: two decimals from 1 on, four significant digits below."""
    if not known(value):
        return NOTHING
    value += 0.0  # there is no debt of nothing: −0.0 becomes 0.0
    small = 0 < abs(value) < 1
    return (f"{value:.4g}" if small else f"{value:,.2f}").replace("-", "−")


def number(value: float | None, digits: int = 6) -> str:
    """Return a price, a size or a ratio with that many significant digits, separators where it has no exponent."""
    return f"{value:,.{digits}g}".replace("-", "−") if known(value) else NOTHING


def fixed(value: float | None, decimals: int, sign: str = "") -> str:
    """Return a number with that many decimals; ``sign`` "+" shows that of gains too."""
    if not known(value):
        return NOTHING
    rounded = round(value, decimals) + 0.0  # what rounds to nothing has no sign
    return f"{rounded:{sign},.{decimals}f}".replace("-", "−")


def spread(value: float | None, interval: Sequence[float], decimals: int = 3, sign: str = "") -> str:
    """Return a number and in brackets the two ends of its interval."""
    low, high = (fixed(end, decimals, sign) for end in interval)
    return f"{fixed(value, decimals, sign)} [{low}, {high}]"


def bp(value: float | None) -> str:
    """Return an amount of basis points with four significant digits."""
    return f"{number(value, 4)} bp" if known(value) else NOTHING


def time(value: pd.Timestamp) -> str:
    """Return a time in UTC to the minute, and to the second where there is one."""
    if pd.isna(value):
        return NOTHING
    return f"{value:%Y-%m-%d %H:%M:%S}" if value.second else f"{value:%Y-%m-%d %H:%M}"


def known(value: object) -> bool:
    """Tell whether ``value`` is a number that can be shown."""
    return isinstance(value, Real) and math.isfinite(value)


def words(name: str) -> str:
    """Return a key as words: ``max_drawdown`` is max drawdown."""
    return str(name).replace("_", " ")


def escape(text: object) -> str:
    """Return a text as HTML shows it; it can be neither markup nor the end of an attribute."""
    return html.escape(str(text))
