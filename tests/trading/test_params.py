"""Parameters of a strategy are numbers inside their limits, or are named before the first bar."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from hissbt.errors import StrategyError
from hissbt.trading.params import AMOUNT, FRACTION, POSITIVE, PROBABILITY, check_params


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
    ],
)
def test_numbers_inside_pass_and_others_are_refused(limit, inside, outside):
    for value in inside:
        check_params(Holder(value), size=limit)
    for value in (*outside, math.nan, "abc", "0.5", None, True, [1]):
        with pytest.raises(StrategyError, match=f"parameter size of Holder is .*: write a number {limit.text}"):
            check_params(Holder(value), size=limit)
