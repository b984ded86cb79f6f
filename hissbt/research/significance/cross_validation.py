"""Combinatorial purged cross-validation: many out-of-sample paths through one history.

López de Prado, "Advances in Financial Machine Learning", 2018, chapter 12. Letters: T observations in N groups of
neighbors, k of them tested at a time: C = binomial(N, k) splits, and φ = C k / N paths, each of which tests every
observation once.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from hissbt.errors import ConfigError


@dataclass(frozen=True)
class CombinatorialPurgedCV:
    """How a history is split. A model that is fitted later than what it is tested on has seen that past's future:
    this judges a method over many histories, it does not replay how it would have been traded.

    Raises ConfigError for numbers that allow no split.
    """

    groups: int = 6
    test_groups: int = 2
    purge: int = 0
    """Observations that a label reaches ahead; so many are left out of training on each side of a tested group."""
    embargo: int = 0
    """How many more are left out after what is tested, where features look back on it."""

    def __post_init__(self) -> None:
        if not 1 <= self.test_groups < self.groups:
            raise ConfigError(f"test_groups is {self.test_groups}: give 1 to {self.groups - 1}, fewer than groups")
        if min(self.purge, self.embargo) < 0:
            raise ConfigError(f"purge {self.purge} and embargo {self.embargo}: neither can be below 0")

    @property
    def splits(self) -> int:
        """Number of splits C, and so of models to fit."""
        return math.comb(self.groups, self.test_groups)

    @property
    def paths(self) -> int:
        """Number of paths φ through the whole history."""
        return self.splits * self.test_groups // self.groups

    @property
    def tested(self) -> np.ndarray:
        """Which groups each split tests: [C,k], in order."""
        return np.array(list(combinations(range(self.groups), self.test_groups)))

    @property
    def path_ids(self) -> np.ndarray:
        """Which path each tested group of each split belongs to: [C,k], as ``tested``."""
        ids = np.empty_like(self.tested)
        for group in range(self.groups):
            ids[self.tested == group] = np.arange(self.paths)
        return ids

    def split(self, count: int) -> Iterator[tuple[np.ndarray, list[np.ndarray]]]:
        """Yield the positions to train on and those of each tested group, for ``count`` observations.

        The groups are equally long, but for the last, which takes what is left over.
        Raises ConfigError if purge and embargo take all that a group between two tested ones has.
        """
        length = count // self.groups
        if length <= self.purge * 2 + self.embargo:
            raise ConfigError(
                f"{count} observations in {self.groups} groups leave nothing to train on with a purge of "
                f"{self.purge} and an embargo of {self.embargo}: give more of them or fewer groups"
            )
        bounds = [*(length * group for group in range(self.groups)), count]
        for groups in self.tested:
            train = np.ones(count, dtype=bool)
            for group in groups:
                train[max(bounds[group] - self.purge, 0) : bounds[group + 1] + self.purge + self.embargo] = False
            yield np.flatnonzero(train), [np.arange(bounds[group], bounds[group + 1]) for group in groups]

    def assemble(self, predictions: list[list[np.ndarray]]) -> np.ndarray:
        """Put the predictions [C][k][...], made as ``split`` yields them, together as paths [φ,T]."""
        pieces: list[list[np.ndarray]] = [[] for _ in range(self.paths)]
        order = np.argsort(self.tested.ravel(), kind="stable")
        flat, ids = [piece for split in predictions for piece in split], self.path_ids.ravel()
        for place in order:
            pieces[ids[place]].append(flat[place])
        return np.stack([np.concatenate(path) for path in pieces])
