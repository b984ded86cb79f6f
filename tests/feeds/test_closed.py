"""Candles as an exchange shows them become closed bars: each once, in order, not before its close, as it ended."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.feeds.closed import ClosedBars, Hole

MINUTE = 60_000
START = 1_700_000_040_000  # a whole minute
GRACE = 2_000


def bar(number, close=100.0):
    return (START + number * MINUTE, 100.0, 110.0, 90.0, close, 5.0)


def closes(number, after_ms=0):
    return START + (number + 1) * MINUTE + after_ms


def closed_bars(**settings):
    return ClosedBars(START, MINUTE, **{"grace_ms": GRACE, "answers": 4} | settings)


def test_a_final_candle_comes_out_once_its_grace_is_over():
    bars = closed_bars()
    bars.see([bar(0)], closes(0), final=True)
    assert bars.take() == []
    bars.see([bar(1)], closes(0, GRACE - 1))
    assert bars.take() == []
    bars.see([bar(1)], closes(0, GRACE))
    assert bars.take() == [bar(0)]
    assert bars.take() == []
    assert bars.wanted(1000) is None


def test_what_is_revised_before_the_grace_is_over_is_absorbed_and_later_ignored():
    bars = closed_bars()
    bars.see([bar(0, 101.0)], closes(0, 100), final=True)
    bars.see([bar(0, 102.0)], closes(0, 900), final=True)
    bars.see([bar(0, 103.0)], closes(0, 950))  # not final: older than what the exchange called final
    bars.see([bar(1)], closes(0, GRACE))
    assert bars.take() == [bar(0, 102.0)]
    bars.see([bar(0, 104.0)], closes(0, GRACE + 1), final=True)
    assert bars.take() == []


def test_a_forming_candle_never_comes_out_however_late_it_gets():
    bars = closed_bars()
    bars.see([bar(0)], closes(0, -1))
    bars.see([], closes(5))
    assert bars.take() == []
    assert bars.wanted(1000) == (START, START + 5 * MINUTE)


def test_a_candle_shown_after_the_grace_needs_no_other_word():
    bars = closed_bars()
    bars.see([bar(0)], closes(0, GRACE))
    assert bars.take() == [bar(0)]


def test_bars_wait_for_the_one_before_them():
    bars = closed_bars()
    for number in (1, 2):
        bars.see([bar(number)], closes(number), final=True)
    bars.see([], closes(2, GRACE))
    assert bars.take() == []
    assert bars.wanted(1000) == (START, START + 3 * MINUTE)
    bars.answer(START, START + 3 * MINUTE, [bar(0)], closes(2, GRACE))
    assert bars.take() == [bar(0), bar(1), bar(2)]


def test_what_is_wanted_fits_a_page_and_ends_with_the_run():
    bars = closed_bars(end_ms=START + 10 * MINUTE)
    bars.see([], closes(50))
    assert bars.wanted(4) == (START, START + 4 * MINUTE)
    assert bars.wanted(1000) == (START, START + 10 * MINUTE)


def test_nothing_comes_out_at_the_end_or_after_it():
    bars = closed_bars(end_ms=START + 2 * MINUTE)
    bars.see([bar(number) for number in range(5)], closes(9))
    assert not bars.is_over
    assert bars.take() == [bar(0), bar(1)]
    assert bars.is_over
    assert bars.wanted(1000) is None


def test_a_bar_is_given_up_when_four_answers_lack_it_and_a_later_one_is_there():
    bars = closed_bars()
    late = closes(5)
    for _ in range(3):
        bars.answer(START, START + 4 * MINUTE, [bar(0), bar(3)], late)
    assert bars.take() == [bar(0)]
    bars.answer(START, START + 4 * MINUTE, [bar(3)], late)
    assert bars.take() == [Hole(START + MINUTE, START + 3 * MINUTE), bar(3)]


def test_while_the_exchange_shows_no_later_bar_none_is_given_up():
    bars = closed_bars()
    for _ in range(20):
        bars.answer(START, START + 3 * MINUTE, [], closes(4))
    assert bars.take() == []
    bars.see([bar(4)], closes(4, GRACE))
    assert bars.take() == [Hole(START, START + 3 * MINUTE)]  # nobody asked for bar 3 yet
    assert bars.wanted(1000) == (START + 3 * MINUTE, START + 5 * MINUTE)


def test_answers_from_before_a_bar_was_due_say_nothing_of_it():
    bars = closed_bars()
    for _ in range(9):
        bars.answer(START, START + MINUTE, [], closes(0, GRACE - 1))
    bars.see([bar(1)], closes(1, GRACE))
    assert bars.take() == []


@pytest.mark.parametrize(
    "candle",
    [
        (START + 1, 100.0, 110.0, 90.0, 100.0, 5.0),
        (START - MINUTE, 100.0, 110.0, 90.0, 100.0, 5.0),
        (START, 100.0, 99.0, 90.0, 100.0, 5.0),
        (START, 100.0, 110.0, 101.0, 100.0, 5.0),
        (START, 0.0, 110.0, 0.0, 100.0, 5.0),
        (START, 100.0, 110.0, 90.0, math.nan, 5.0),
        (START, 100.0, 110.0, 90.0, None, 5.0),
        (START, 100.0, 110.0, 90.0, 100.0, -1.0),
        (START, 100.0, 110.0, 90.0, 100.0),
    ],
)
def test_candles_that_cannot_be_are_passed_over(candle):
    bars = closed_bars()
    bars.see([candle], closes(9), final=True)
    assert bars.take() == []


class Exchange:
    """Shows candles of a made-up market, its clock off by up to a second, and corrects bars after their close."""

    def __init__(self, seed, absent):
        self.random, self.absent, self.now = random.Random(seed), absent, START

    def truth(self, number):
        return bar(number, 91.0 + number % 19)

    def said_ms(self):
        return self.now + self.random.randint(-1000, 1000)

    def candles(self, first, end):
        """Return what exists of these bars: closed ones, and the forming one as far as it got."""
        rows = []
        for number in range(first, min(end, (self.now - START) // MINUTE + 1)):
            if number not in self.absent:
                is_corrected = self.now >= closes(number, 999)
                rows.append(self.truth(number) if is_corrected else bar(number, 91.5))
        return rows

    def push(self, bars):
        number = (self.now - START) // MINUTE
        bars.see(self.candles(number, number + 1), self.said_ms())

    def push_final(self, bars):
        number = (self.now - START) // MINUTE - 1
        is_corrected = self.now >= closes(number, 999)
        bars.see(self.candles(number, number + 1), self.said_ms(), final=is_corrected)

    def ask(self, bars):
        wanted = bars.wanted(self.random.choice([1, 3, 1000]))
        if wanted is None:
            return
        first, end = ((edge - START) // MINUTE for edge in wanted)
        rows = self.candles(first, end) * self.random.choice([1, 2])
        self.random.shuffle(rows)
        bars.answer(*wanted, rows, self.said_ms())

    def repeat(self, bars):
        bars.see(self.candles(max(0, (self.now - START) // MINUTE - 5), 10**9), self.said_ms())


@given(
    seed=st.integers(0, 2**32),
    absent=st.sets(st.integers(0, 40)),
    steps=st.lists(
        st.tuples(st.integers(0, 90_000), st.sampled_from(["push", "push_final", "ask", "repeat"])), max_size=120
    ),
)
def test_whatever_is_shown_and_lost_the_bars_are_those_of_the_exchange(seed, absent, steps):
    exchange, bars, out = Exchange(seed, absent), closed_bars(), []
    for passes_ms, what in steps:
        exchange.now += passes_ms
        getattr(exchange, what)(bars)
        for item in bars.take():
            assert isinstance(item, Hole) or item[0] + MINUTE <= exchange.now
            out.append(item)
    expected_ms = START
    for item in out:
        if isinstance(item, Hole):
            assert item.first_ms == expected_ms
            opens = range(item.first_ms, item.end_ms, MINUTE)
            assert {(opened - START) // MINUTE for opened in opens} <= absent
            expected_ms = item.end_ms
        else:
            assert item[0] == expected_ms
            assert item == exchange.truth((item[0] - START) // MINUTE)
            expected_ms += MINUTE
    assert bars.next_ms == expected_ms
