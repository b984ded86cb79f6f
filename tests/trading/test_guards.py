"""Guards allow what they promise, for as long as they promise, and the record tells when and by how much."""

import copy
import math
from datetime import datetime, timedelta

import backtrader as bt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.errors import ConfigError
from hissbt.trading.guards import (
    DailyLossGuard,
    DrawdownGuard,
    ExposureGuard,
    Guard,
    Guards,
    ModelFaultGuard,
    Moment,
    StaleDataGuard,
    Verdict,
    exposure_of,
)

FREE = math.inf


def at(hours=0.0, *, equity=100.0, exposure=0.0, missing_bars=0, outputs=None):
    """A moment that many hours after the midnight that begins 2024."""
    close_time = bt.date2num(datetime(2024, 1, 1) + timedelta(hours=hours))
    return Moment(close_time, equity, exposure, missing_bars, outputs)


def limits(guard, *moments):
    return [guard.limit(moment) for moment in moments]


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0.01, 0.99))
def test_a_drawdown_of_the_limit_means_flat_for_good(equities, max_drawdown):
    guard = DrawdownGuard(max_drawdown)
    allowed = limits(guard, *(at(equity=equity) for equity in equities))
    breaches = [equity <= max(equities[: i + 1]) * (1 - max_drawdown) for i, equity in enumerate(equities)]
    assert allowed == [0 if any(breaches[: i + 1]) else FREE for i in range(len(equities))]
    assert guard.tripped == any(breaches)


def test_an_unknown_equity_is_a_drawdown():
    assert limits(DrawdownGuard(0.15), at(equity=100), at(equity=math.nan), at(equity=200)) == [FREE, 0, 0]


def test_a_daily_loss_means_flat_until_the_day_ends():
    guard = DailyLossGuard(0.05)
    day = [at(1, equity=100), at(12, equity=96), at(13, equity=95), at(14, equity=99), at(24, equity=99)]
    assert limits(guard, *day) == [FREE, FREE, 0, 0, 0]
    assert limits(guard, at(25, equity=95), at(26, equity=94.04), at(48, equity=95), at(49, equity=95)) == [
        *(FREE, 0, 0),  # 99 at midnight less 5 % is 94.05
        FREE,
    ]


def test_a_day_begins_with_the_last_equity_before_its_midnight():
    guard = DailyLossGuard(0.05)
    assert limits(guard, at(23, equity=100), at(25, equity=94)) == [FREE, 0]


def test_a_day_bar_that_lost_too_much_asks_for_flat_once():
    guard = DailyLossGuard(0.05)
    assert limits(guard, *(at(24 * i, equity=e) for i, e in enumerate([100, 94, 94, 80, 79]))) == [
        *(FREE, 0, FREE),
        *(0, FREE),
    ]


@pytest.mark.parametrize("equity", [math.nan, 0.0, -5.0])
def test_a_day_without_a_known_equity_above_zero_is_a_loss(equity):
    guard = DailyLossGuard(0.05)
    assert limits(guard, at(1), at(2, equity=equity), at(25, equity=equity)) == [FREE, 0, 0]


@given(st.lists(st.floats(1, 200), min_size=2, max_size=60), st.integers(1, 24), st.floats(0.01, 0.5))
def test_the_daily_loss_is_the_fraction_of_what_the_day_began_with(equities, step, max_loss):
    moments = [at(step * (i + 1), equity=equity) for i, equity in enumerate(equities)]
    allowed = limits(DailyLossGuard(max_loss), *moments)
    days = [(step * (i + 1) - 1) // 24 for i in range(len(equities))]
    for i, day in enumerate(days):
        first = days.index(day)
        start = equities[max(first - 1, 0)]
        lost = any(equity <= start * (1 - max_loss) for equity in equities[first : i + 1])
        assert allowed[i] == (0 if lost else FREE)


def test_a_cap_is_the_same_at_every_moment():
    assert limits(ExposureGuard(1.5), at(exposure=0), at(exposure=9)) == [1.5, 1.5]


def test_a_position_that_no_equity_carries_exceeds_any_cap():
    assert exposure_of(0.0, -5.0) == 0
    assert exposure_of(50.0, 100.0) == 0.5
    assert exposure_of(50.0, 0.0) == exposure_of(50.0, -5.0) == exposure_of(50.0, math.nan) == math.inf


def test_missing_bars_mean_flat_until_enough_came_in_a_row():
    holes = [0, 2, 3, 0, 0, 0, 3, 0, 4, 0, 0]
    guard = StaleDataGuard(max_missing_bars=2, resume_after=2)
    allowed = limits(guard, *(at(hour, missing_bars=missing) for hour, missing in enumerate(holes)))
    assert limits(guard, at(10, missing_bars=9)) == [FREE]  # the same bar, told of again
    assert allowed == [FREE, FREE, 0, 0, FREE, FREE, 0, 0, 0, 0, FREE]


def test_a_fault_of_the_model_means_flat_until_it_is_sane_again():
    guard = ModelFaultGuard()
    outputs = [None, (0.1, 0.5), (math.nan, 0.5), None, (0.1, math.inf), (0.1, -math.inf), (0.1, 0.5)]
    assert limits(guard, *(at(outputs=values) for values in outputs)) == [FREE, FREE, 0, 0, 0, 0, FREE]
    assert limits(guard, at(outputs=(math.inf, -math.inf))) == [0]


def all_guards():
    return [DrawdownGuard(0.1), DailyLossGuard(0.05), ExposureGuard(2), StaleDataGuard(), ModelFaultGuard()]


BREACHES = {
    "drawdown": [at(1, equity=110), at(24, equity=106), at(48, equity=102), at(50, equity=98)],
    "daily_loss": [at(1), at(2, equity=94)],
    "exposure": [at(1, exposure=2.5)],
    "stale_data": [at(1, missing_bars=1)],
    "model_fault": [at(1, outputs=(math.nan,))],
}


@pytest.mark.parametrize("name", BREACHES)
def test_each_guard_and_no_other_speaks_for_its_breach(name):
    guards = Guards(all_guards())
    *_, verdict = [guards.check(moment) for moment in BREACHES[name]]
    assert verdict == Verdict(2 if name == "exposure" else 0, name)
    assert guards.reason == name
    assert [row["name"] for row in guards.record] == [name]


@pytest.mark.parametrize("name", BREACHES)
def test_without_its_guard_a_breach_goes_unnoticed(name):
    guards = Guards(guard for guard in all_guards() if guard.name != name)
    for moment in BREACHES[name]:
        guards.check(moment)
    assert guards.reason == ""
    assert guards.record == []


def test_without_guards_there_is_no_limit():
    guards = Guards()
    assert guards.check(at(exposure=100)) == Verdict(math.inf, "")
    assert guards.reason == ""


def test_a_cap_that_is_not_reached_limits_but_is_not_in_force():
    guards = Guards([ExposureGuard(1)])
    assert guards.check(at(1, exposure=1)) == Verdict(1, "exposure")
    assert guards.reason == ""
    assert guards.record == []


def test_the_tightest_guard_decides_and_each_has_its_row():
    guards = Guards([ExposureGuard(1), StaleDataGuard()])
    assert guards.check(at(1, exposure=1.2, missing_bars=1)) == Verdict(0, "stale_data")
    assert [row["name"] for row in guards.record] == ["exposure", "stale_data"]


def test_the_record_tells_since_when_until_when_and_by_how_much():
    guards = Guards([ExposureGuard(1), DrawdownGuard(0.2)])
    moments = [
        *(at(1), at(2, exposure=1.25), at(3, exposure=1.5), at(4, exposure=1)),
        *(at(5, equity=70), at(6, equity=60)),
    ]
    for moment in moments:
        guards.check(moment)
    exposure, drawdown = guards.record
    assert (exposure["since"], exposure["until"]) == (moments[1].close_time, moments[3].close_time)
    assert (exposure["worst"], exposure["overshoot"]) == (1.5, 0.5)
    assert (drawdown["since"], drawdown["until"]) == (moments[4].close_time, None)
    assert (drawdown["worst"], drawdown["overshoot"]) == pytest.approx((0.4, 0.2))


def test_a_guard_that_limits_again_gets_a_second_row():
    guards = Guards([StaleDataGuard()])
    for hour, missing in enumerate([1, 0, 5]):
        guards.check(at(hour, missing_bars=missing))
    assert [row["worst"] for row in guards.record] == [1, 5]
    assert [row["until"] for row in guards.record] == [at(1).close_time, None]


class Undecided(Guard):
    """A guard of somebody else's, which sets nothing but a name."""

    name = "undecided"

    def limit(self, moment):
        return math.nan


def test_a_limit_that_is_unknown_allows_nothing():
    guards = Guards([Undecided()])
    assert guards.check(at()) == Verdict(0, "undecided")
    assert guards.record[0]["overshoot"] == 0


@given(st.lists(st.tuples(st.floats(-10, 200), st.floats(0, 5), st.integers(0, 3)), min_size=1, max_size=30))
def test_the_verdict_is_the_least_of_all_limits_on_any_path(path):
    moments = [at(i, equity=e, exposure=x, missing_bars=m, outputs=(e,)) for i, (e, x, m) in enumerate(path)]
    alone, together = all_guards(), Guards(all_guards())
    for moment in moments:
        least = min(guard.limit(moment) for guard in alone)
        assert together.check(moment).limit == least
        assert (together.reason != "") == (least == 0 or moment.exposure > least)
        open_rows = {row["name"] for row in together.record if row["until"] is None}
        assert together.reason in open_rows or not together.reason


def test_a_copy_of_guards_shares_no_state():
    guards = [DrawdownGuard(0.1)]
    first = Guards(copy.deepcopy(guards))
    first.check(at(equity=100))
    first.check(at(equity=50))
    assert not guards[0].tripped


@pytest.mark.parametrize("limit", [0, 1, -0.1, 15, math.nan])
@pytest.mark.parametrize("guard", [DrawdownGuard, DailyLossGuard])
def test_a_limit_that_is_no_fraction_is_refused(guard, limit):
    with pytest.raises(ConfigError, match="fraction between 0 and 1"):
        guard(limit)


@pytest.mark.parametrize("limit", [0, -1, math.inf, math.nan])
def test_a_cap_that_is_no_multiple_is_refused(limit):
    with pytest.raises(ConfigError, match="multiple of equity"):
        ExposureGuard(limit)


@pytest.mark.parametrize("counts", [(-1, 1), (math.nan, 1), (0, 0), (0, math.inf)])
def test_counts_of_bars_that_make_no_sense_are_refused(counts):
    with pytest.raises(ConfigError, match="write a count"):
        StaleDataGuard(*counts)
