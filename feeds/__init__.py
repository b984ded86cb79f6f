"""Where bars come from: files, samples, and the Backtrader feeds."""

from importlib import import_module

_HOMES = {
    "load_bars": "hissbt.feeds.load",
    "load_funding": "hissbt.feeds.funding",
    "BarsFeed": "hissbt.feeds.bulk",
    "BybitFeed": "hissbt.feeds.bybit",
    "ExchangeFeed": "hissbt.feeds.live",
}

__all__ = ["BarsFeed", "BybitFeed", "ExchangeFeed", "load_bars", "load_funding"]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for: loading bars needs no Backtrader."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
