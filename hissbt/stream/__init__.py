"""One-bar inference: a bundle becomes a Stream with step, revise, scan, snapshot and restore."""

from hissbt.stream.cache import cached_scan
from hissbt.stream.stream import OUTPUTS, Stream

__all__ = ["OUTPUTS", "Stream", "cached_scan"]
