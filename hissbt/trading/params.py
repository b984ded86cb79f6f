"""Limits of a strategy's parameters, so that a slip is named before the first bar."""

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import NamedTuple

import backtrader as bt

from hissbt.errors import StrategyError


class Limit(NamedTuple):
    """Which numbers a parameter may be."""

    text: str
    """Completes the sentence "write a number …"."""
    holds: Callable[[float], bool]
    """Whether a number is inside."""
    may_be_none: bool = False
    """Whether None is inside, too."""


PROBABILITY = Limit("from 0 to 1", lambda value: 0 <= value <= 1)
FRACTION = Limit("above 0 and at most 1", lambda value: 0 < value <= 1)
AMOUNT = Limit("of 0 or more", lambda value: 0 <= value < math.inf)
POSITIVE = Limit("above 0", lambda value: 0 < value < math.inf)
NUMBER = Limit("that is finite", math.isfinite)
LOSS = Limit("between 0 and 1", lambda value: 0 < value < 1)
COUNT = Limit("that is whole and 0 or more", lambda value: 0 <= value < math.inf and value == int(value))
SOME = Limit("that is whole and 1 or more", lambda value: 1 <= value < math.inf and value == int(value))


def or_none(limit: Limit) -> Limit:
    """Return the same limit for a parameter that may also be None, which means "not at all"."""
    return limit._replace(may_be_none=True)


def check_params(strategy: bt.Strategy, **limits: Limit) -> None:
    """Raise StrategyError for the first of the named params that is not a number inside its limit.

    Call it first in a strategy's ``__init__``: ``check_params(self, threshold=AMOUNT, max_fraction=FRACTION)``.
    """
    for name, limit in limits.items():
        value = getattr(strategy.p, name)
        if value is None and limit.may_be_none:
            continue
        if isinstance(value, bool) or not isinstance(value, Real) or not limit.holds(value):
            raise StrategyError(
                f"parameter {name} of {type(strategy).__name__} is {value!r}: write a number {limit.text}"
            )


def check_choice(strategy: bt.Strategy, name: str, choices: Sequence[str]) -> None:
    """Raise StrategyError if the named param is none of these words."""
    value = getattr(strategy.p, name)
    if value not in choices:
        words = f"{', '.join(choices[:-1])} or {choices[-1]}"
        raise StrategyError(f"parameter {name} of {type(strategy).__name__} is {value!r}: write {words}")
