"""One-bar inference: a bundle becomes a Stream with step, revise, scan, snapshot and restore."""

from hissbt.stream.cache import cached_scan
from hissbt.stream.plan import OUTPUTS
from hissbt.stream.relay import RelayStream, open_stream
from hissbt.stream.stream import Stream

__all__ = ["OUTPUTS", "RelayStream", "Stream", "cached_scan", "open_stream"]
