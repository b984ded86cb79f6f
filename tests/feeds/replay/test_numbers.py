"""Numbers are written as Bybit writes them, and read back as they were."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.feeds.replay.numbers import number_text, row_texts

finite = st.floats(allow_nan=False, allow_infinity=False)


@given(finite)
def test_a_text_reads_back_as_the_same_number_and_is_plain(value):
    text = number_text(value)
    assert float(text) == value
    assert re.fullmatch(r"-?\d+(\.\d*[1-9])?", text)


@pytest.mark.parametrize(
    ("value", "text"),
    [(43057.0, "43057"), (0.00004403, "0.00004403"), (102692.021, "102692.021"), (1e16, "1" + "0" * 16)],
)
def test_texts_are_those_of_bybit(value, text):
    assert number_text(value) == text


@given(st.lists(st.tuples(finite, finite, finite), max_size=5))
def test_a_table_is_written_as_its_numbers_are(rows):
    table = np.array(rows, dtype=float).reshape(-1, 3)
    assert row_texts(table) == [[number_text(value) for value in row] for row in rows]
