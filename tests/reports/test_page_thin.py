"""A thinned line keeps every extreme."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hissbt.reports.page.thin import thinned

values = arrays(np.float64, st.integers(1, 300), elements=st.floats(allow_nan=True, allow_infinity=True))


@given(values, st.integers(4, 64))
def test_first_last_lowest_and_highest_stay(line, most):
    rows = thinned(line, most)
    assert (np.diff(rows) > 0).all()
    assert len(rows) <= max(most, 4)
    assert rows[0] == 0
    assert rows[-1] == len(line) - 1
    finite = line[np.isfinite(line)]
    if len(finite):
        kept = line[rows][np.isfinite(line[rows])]
        assert kept.min() == finite.min()
        assert kept.max() == finite.max()


@given(values)
def test_a_short_line_is_left_as_it_is(line):
    assert thinned(line, 300).tolist() == list(range(len(line)))


def test_every_stretch_keeps_its_own_extremes():
    line = np.tile([0.0, 5.0, -5.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 100)
    kept = line[thinned(line, 400)]
    assert (kept == 5.0).sum() == (kept == -5.0).sum() == 100
