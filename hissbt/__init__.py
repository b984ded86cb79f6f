"""hissbt plugs trained sequence models into Backtrader, bar by bar, with carried state and honest results."""

from hissbt.version import __version__

__all__ = ["__version__"]
