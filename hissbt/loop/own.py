"""What a class or an object has of its own, which the loop must leave to it."""

from __future__ import annotations

import sys
from collections.abc import Iterable

MOVES = ("__len__", "advance")
TICKS = ("_tick_fill", "_tick_nullify")


def differs(thing: object, base: type, names: Iterable[str]) -> bool:
    """Tell whether a class, or an object or its class, has one of these attributes of its own."""
    kind, own = (thing, ()) if isinstance(thing, type) else (type(thing), vars(thing))
    return any(name in own or getattr(kind, name, None) is not getattr(base, name, None) for name in names)


def is_untouched(*kinds: type) -> bool:
    """Tell whether the methods of these classes are those that their own modules gave them."""
    return all(
        getattr(value, "__globals__", None) is vars(sys.modules[kind.__module__])
        for kind in kinds
        for value in vars(kind).values()
        if callable(value) and not isinstance(value, type)
    )
