"""Intervals of samples that are not independent."""

import numpy as np

from hissbt.research.resampling import block_interval


def test_blocks_widen_the_interval_of_values_in_long_runs():
    values = np.repeat(np.random.default_rng(2).normal(size=60), 20)

    def mean(rows):
        return np.array([values[rows].mean()])

    low, high = block_interval(mean, len(values), 1, 500, seed=3)
    low_of_blocks, high_of_blocks = block_interval(mean, len(values), 20, 500, seed=3)
    assert low < values.mean() < high
    assert (high_of_blocks - low_of_blocks) > 2.5 * (high - low)


def test_an_interval_is_the_same_for_the_same_seed():
    values = np.random.default_rng(4).normal(size=100)

    def mean(rows):
        return np.array([values[rows].mean()])

    first, second = (block_interval(mean, 100, 20, 50, seed=7) for _ in range(2))
    np.testing.assert_array_equal(first, second)
