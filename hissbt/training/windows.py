"""Training sequences: windows of bars cut at random places, the same ones for the same seed and epoch."""

from collections.abc import Iterator

import torch
from torch.utils.data import Dataset, Sampler


class Windows(Dataset):
    """All windows of a span, addressed by the position of their first bar; shorter ones by the range of bars.

    An item is ``(x [T,F], targets {name: [T,1]}, mask [T,1])``; the mask is 0 on the burn-in bars, of which a
    shorter window has fewer, in proportion.
    """

    def __init__(self, x: torch.Tensor, targets: dict[str, torch.Tensor], window: int, burn_in: int):
        self._x, self._targets, self._window, self._burn_in = x, targets, window, burn_in

    def __len__(self) -> int:
        return len(self._x) - self._window + 1

    def __getitem__(self, place: int | range):
        bars = place if isinstance(place, range) else range(place, place + self._window)
        span = slice(bars.start, bars.stop)
        mask = torch.ones(len(bars), 1)  # [T,1]
        mask[: self._burn_in * len(bars) // self._window] = 0
        return self._x[span], {name: target[span] for name, target in self._targets.items()}, mask


class RandomStarts(Sampler[int]):
    """Random window starts that depend on seed and epoch only, so that a resumed run sees the same ones."""

    def __init__(self, starts: int, count: int, seed: int):
        self._starts, self._count, self._seed, self._epoch = starts, count, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before every epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[int]:
        return iter(self._below(self._starts))

    def _below(self, limit: int) -> list[int]:
        """Draw the epoch's numbers from 0 to limit - 1."""
        generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        return torch.randint(limit, (self._count,), generator=generator).tolist()
