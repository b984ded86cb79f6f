"""Networks of equal size: how wide one has to be to have as many parameters as another."""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hissbt.errors import ConfigError

TOLERANCE = 0.05  # of the number of parameters that is wanted
WIDEST = 1024


def parameters_of(kind: str, network: Mapping[str, Any], n_features: int) -> int:
    """Return how many trained numbers a network of a kind has with these settings."""
    from hissbt.models import build_network
    from hissbt.models.size import parameter_count

    return parameter_count(lambda: build_network(kind, {**network, "n_features": n_features}))


def width_for(kind: str, base: Mapping[str, Any], n_features: int, parameters: int) -> dict[str, Any]:
    """Return the network settings ``base`` with the width that comes nearest to ``parameters`` trained numbers.

    The width is ``d_model``. A Transformer's has to be a multiple of its heads, so the hidden units of its
    feed-forward part, about twice as many, do the rest. Raises ConfigError where none comes within 5 %.
    """

    def nearest(candidates: Sequence[dict[str, int]]) -> dict[str, Any]:
        def count(width: dict[str, int]) -> int:
            return parameters_of(kind, {**base, **width}, n_features)

        return {**base, **_nearest(candidates, parameters, count)}

    if kind == "transformer":
        heads = base.get("n_heads", 4)
        found = nearest([{"d_model": width, "d_ff": 2 * width} for width in range(heads, WIDEST, heads)])
        found = nearest([{"d_model": found["d_model"], "d_ff": hidden} for hidden in range(1, WIDEST)])
    else:
        found = nearest([{"d_model": width} for width in range(1, WIDEST)])
    size = parameters_of(kind, found, n_features)
    if abs(size - parameters) > TOLERANCE * parameters:
        raise ConfigError(
            f"no width gives a {kind} network {parameters:,} parameters, the nearest has {size:,}: set d_model"
        )
    return found


def _nearest(candidates: Sequence[dict[str, int]], wanted: int, count: Callable[[dict[str, int]], int]) -> dict:
    """Return the candidate whose count is nearest to ``wanted``; counts ascend."""
    above = bisect_left(candidates, wanted, hi=len(candidates) - 1, key=count)
    return min(candidates[max(above - 1, 0) : above + 1], key=lambda candidate: abs(count(candidate) - wanted))
