"""What decides the comparison of the hierarchical VAE with its rivals, settled before any of it was run."""

from dataclasses import dataclass, field, replace
from typing import Any

from hissbt.timeframe import is_intraday

KINDS = ("hvae", "flat")
SETS = ("returns", "candles")
"""What the networks are given: returns alone, so that densities compare with the rivals', and whole bars."""


@dataclass(frozen=True)
class Protocol:
    """Everything that decides the comparison. Counts are in bars unless the name says otherwise."""

    strides_intraday: tuple[int, ...] = (4, 24, 168)
    strides_daily: tuple[int, ...] = (1, 5, 20)
    network: dict[str, Any] = field(default_factory=lambda: {"d_latent": (2, 4, 8), "d_hidden": 64})
    test_fraction: float = 0.3
    validation_fraction: float = 0.1
    """Of the bars before the test span, the last ones."""
    training: dict[str, Any] = field(
        default_factory=lambda: {"epoch_steps": 100, "max_epochs": 24, "patience": 24, "batch_size": 32}
    )
    """Settings of ``hissbt train``; patience is as long as the run, so that all have the same number of steps."""
    rates: tuple[float, ...] = (1e-3, 3e-3)
    """Learning rates, of which each kind keeps the one with the better bound on the validation windows."""
    tuning_seed: int = 1_000
    """Of the fits that choose the rate; they count for nothing else."""
    seeds: tuple[int, ...] = tuple(range(5))
    """Fixed before any of them was run."""

    samples: int = 400
    """Windows that each network makes up."""
    rival_windows: int = 64
    """In a row, in each of the rivals' paths."""
    rival_paths: int = 8
    threshold: float = 0.5
    """A window is bull where its return is above that many deviations of the training returns, times √window."""
    block: int = 4
    """Windows in a block of the bootstrap: a month of weeks."""
    repeats: int = 2_000

    def strides(self, timeframe) -> tuple[int, ...]:
        """Return the bars that a latent of each level spans."""
        return self.strides_intraday if is_intraday(timeframe) else self.strides_daily


FULL = Protocol()
QUICK = replace(
    FULL,
    network={"d_latent": (1, 1, 2), "d_hidden": 8},
    training=FULL.training | {"epoch_steps": 5, "max_epochs": 2},
    rates=(3e-3,),
    seeds=(0, 1),
    samples=40,
    repeats=100,
)
"""Shows in a minute what the page looks like; its figures mean nothing."""

CHOICES = (
    "Bars are split in time: training, then validation, then test. A window's length of bars lies unused before "
    "validation and before test, so that no window that is judged shares a bar with one that was trained on.",
    "Test windows follow each other and share no bar. The networks see each of them alone, as a generator must; "
    "what they are given is standardized by the training span.",
    "The flat VAE has one latent vector a window, as many latents in all as the hierarchy, and its parameters "
    "are within 2 %. Both are trained by the same loop for the same number of steps, on the same windows, and "
    "each keeps the learning rate of the grid that had the better bound on the validation windows with a seed "
    "that counts for nothing else, and of each run the weights with the best bound there.",
    "The bound is that of importance weighting with 50 draws (arXiv 1509.00519), in nats a value: it lies below "
    "the log density, which the rivals have exactly. Values are standardized, so that differences do not "
    "depend on units; a percentage of a log density would.",
    "Rivals for returns are fitted to all bars before the test span: independent Student's t, GJR-GARCH with "
    "Student errors, two regimes of normal returns. Alone, each window starts from what is usual; after all "
    "bars before it, they know the volatility of the moment, which no model of single windows does.",
    "KL is that of the test windows, before any free bits. A unit is active where its mean KL is above 0.1 nat; "
    "a level without any has collapsed.",
    "Made-up windows are drawn from the prior. Those of bootstrap, GARCH and Markov switching are cut from long "
    "paths, so that they do not all begin at the state in which training ended. All statistics use windows of "
    "one length on both sides.",
    "A Wasserstein distance of 1 is that between random halves of the real test windows. Windows of the "
    "training span are shown as a generator, too: what real bars of another time would score.",
    "The judges are gradient-boosted trees on 24 bars at a time, not recurrent networks as in the articles, so "
    "the scores compare with each other only.",
)
"""What a reader must know about the comparison, one fact each."""
