"""How long work tells what it has done."""

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Told after each piece of work what it was, how many are done, and of how many."""
