import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.errors import ConfigError
from hissbt.trading.guards import DrawdownGuard


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 0.99))
def test_it_trips_at_the_first_drawdown_of_the_limit_and_stays_tripped(equities, limit):
    guard = DrawdownGuard(limit)
    states = [guard.update(equity) for equity in equities]
    breaches = [equity <= max(equities[: i + 1]) * (1 - limit) for i, equity in enumerate(equities)]
    assert states == [any(breaches[: i + 1]) for i in range(len(equities))]
    assert guard.tripped == states[-1]


def test_an_unknown_equity_trips_it():
    guard = DrawdownGuard(0.15)
    guard.update(100)
    assert guard.update(math.nan)
    assert guard.update(200)


@pytest.mark.parametrize("limit", [0, 1, -0.1, 15, math.nan])
def test_a_limit_that_is_no_fraction_is_refused(limit):
    with pytest.raises(ConfigError, match="fraction between 0 and 1"):
        DrawdownGuard(limit)
