"""How large a network is."""

from collections.abc import Callable

import torch
from torch import nn


def parameter_count(build: Callable[[], nn.Module]) -> int:
    """Return how many trained numbers the network that ``build`` makes has; none is drawn, none takes memory."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build().parameters())
