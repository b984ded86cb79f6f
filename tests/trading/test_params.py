"""Parameters of a strategy are numbers inside their limits, or are named before the first bar."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from hissbt.errors import StrategyError
from hissbt.trading.params import (
    AMOUNT,
    COUNT,
    FRACTION,
    LOSS,
    NUMBER,
    POSITIVE,
    PROBABILITY,
    SOME,
    check_choice,
    check_params,
    or_none,
)


class Holder:
    """All that check_params looks at in a strategy: its class and its ``p``."""

    def __init__(self, value):
        self.p = SimpleNamespace(size=value)


@pytest.mark.parametrize(
    ("limit", "inside", "outside"),
    [
        (PROBABILITY, [0, 0.5, 1], [-0.01, 1.01]),
        (FRACTION, [0.01, 1], [0, 1.01, -0.5]),
        (AMOUNT, [0, 7.5, np.float32(2)], [-1, math.inf]),
        (POSITIVE, [0.1, np.int64(3)], [0, -1, math.inf]),
        (NUMBER, [-7.5, 0, 1e300], [math.inf, -math.inf]),
        (LOSS, [0.05, 0.999], [0, 1, 5]),
        (COUNT, [0, 3, np.int64(3), 2.0], [-1, 2.5, math.inf]),
        (SOME, [1, 24], [0, 0.5, -1, math.inf]),
    ],
)
def test_numbers_inside_pass_and_others_are_refused(limit, inside, outside):
    for value in inside:
        check_params(Holder(value), size=limit)
    for value in (*outside, math.nan, "abc", "0.5", None, True, [1]):
        with pytest.raises(StrategyError, match=f"parameter size of Holder is .*: write a number {limit.text}"):
            check_params(Holder(value), size=limit)


def test_none_passes_only_where_it_means_something():
    check_params(Holder(None), size=or_none(POSITIVE))
    check_params(Holder(1), size=or_none(POSITIVE))
    with pytest.raises(StrategyError, match="is 0: write a number above 0"):
        check_params(Holder(0), size=or_none(POSITIVE))


def test_a_word_that_is_no_choice_is_refused():
    check_choice(Holder("a"), "size", ("a", "b", "c"))
    for value in ("d", None, "A", 1):
        with pytest.raises(StrategyError, match=r"parameter size of Holder is .*: write a, b or c"):
            check_choice(Holder(value), "size", ("a", "b", "c"))
