"""Training: from bars to a bundle."""

from hissbt.training.fit import train

__all__ = ["train"]
