"""What a class or an object has of its own, which the loop must leave to it."""

from __future__ import annotations

from collections.abc import Iterable

MOVES = ("__len__", "advance")
TICKS = ("_tick_fill", "_tick_nullify")


def differs(thing: object, base: type, names: Iterable[str]) -> bool:
    """Tell whether a class, or an object or its class, has one of these attributes of its own."""
    kind, own = (thing, ()) if isinstance(thing, type) else (type(thing), vars(thing))
    return any(name in own or getattr(kind, name, None) is not getattr(base, name, None) for name in names)
