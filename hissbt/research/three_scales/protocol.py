"""What decides the comparison on three time scales, settled before any of it was run."""

from dataclasses import dataclass, field, replace
from typing import Any

HISS = "HiSS"


def _networks() -> dict[str, tuple[str, dict[str, Any]]]:
    flat = {"strides": (), "n_layers": 2}
    return {
        HISS: ("hiss", {"strides": (4, 8), "blocks": ("s4d", "s4d", "mamba"), "d_model": 16, "d_state": 16}),
        "flat S4D": ("hiss", flat | {"blocks": "s4d", "d_model": 31, "d_state": 16}),
        "flat Mamba": ("hiss", flat | {"blocks": "mamba", "d_model": 16, "d_state": 14}),
        "LSTM": ("lstm", {"d_model": 38}),
        "GRU": ("gru", {"d_model": 44}),
        "Transformer": (
            "transformer",
            {"d_model": 16, "n_heads": 2, "n_layers": 2, "d_ff": 64, "window_bars": 512},
        ),
    }


@dataclass(frozen=True)
class Protocol:
    """Everything that decides the comparison beside the system. Counts are in bars unless said otherwise."""

    networks: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=_networks)
    """Kind and settings by name; all are within 3 % of the parameters of the first, which the rest are held to."""
    apart: int = 2_048
    """Unused bars before each part: the slow state has lost all but e^−8 of its variance over them."""
    train: int = 98_304
    validation: int = 16_384
    test: int = 65_536
    training: dict[str, Any] = field(
        default_factory=lambda: {
            "loss": "mse",
            "window": 768,
            "burn_in": 192,
            "batch_size": 4,
            "epoch_steps": 50,
            "max_epochs": 16,
            "patience": 16,
        }
    )
    """Settings of ``fit_regression``; patience is as long as the run, so that all make the same steps."""
    rates: tuple[float, ...] = (3e-3, 1e-2)
    """Learning rates, of which each network keeps the one with the least error on the validation rows."""
    tuning_seed: int = 1_000
    """Of the series and the fits that choose the rate; they count for nothing else."""
    seeds: tuple[int, ...] = tuple(range(5))
    """Each of another series and of another network; fixed before any of them was run."""
    window: int = 256
    """Bars to which the page compares what longer memory is worth."""

    def spans(self) -> dict[str, range]:
        """Return the rows of ``train``, ``validation`` and ``test``, each after ``apart`` unused ones."""
        found, row = {}, 0
        for name in ("train", "validation", "test"):
            row += self.apart
            found[name] = range(row, row + getattr(self, name))
            row = found[name].stop
        return found


FULL = Protocol()
QUICK = replace(
    FULL,
    apart=64,
    train=512,
    validation=128,
    test=512,
    training=FULL.training | {"window": 96, "burn_in": 32, "batch_size": 2, "epoch_steps": 2, "max_epochs": 2},
    rates=(3e-3,),
    seeds=(0, 1),
)
"""Shows in seconds what the page looks like; its figures mean nothing."""

CHOICES = (
    "System, sizes, levels and seeds were fixed before any network was trained on the system, and nothing was "
    "changed after two networks had been compared. A hierarchy had not been shown to win on such systems before.",
    "How long to train and at which rates was set by HiSS alone, on a series of another seed (999): 300 steps of "
    "eight windows of 1,280 bars at a rate of 0.003 left it with 43 % of what can be known, less than a linear "
    "forecast has; 800 of four windows of 768 at 0.01 took it to 72 %. No rival was looked at then; that rates "
    "suit HiSS is an advantage that rivals may not have.",
    "Every state is driven by an input of its own; only rotated, noisy sums of the inputs are seen. Labels are "
    "made of the states and noise, and are never an input.",
    "Series run over {bars:,} bars: {train:,} to train on, {validation:,} to choose the learning rate and the "
    "best epoch by, {test:,} to be judged on, each after {apart:,} unused ones.",
    "The levels of HiSS run every 1, 4 and 32 bars, S4D, S4D and Mamba: a state of 4, 32 or 512 bars lasts 4, 8 "
    "or 16 steps of its level. Flat networks run every bar: S4D and Mamba with two layers of the same blocks, "
    "LSTM and GRU with one; the two layers of the Transformer attend to 512 bars each, 1,023 together.",
    "All have the same number of parameters within 3 %, the same linear skip from inputs to forecast, the same "
    "initializations as everywhere in hissbt, and the same optimizer, steps, windows and averaged weights. Each "
    "keeps the rate of the grid that had the least error on the validation rows of a series that counts for "
    "nothing else.",
    "A seed is of the series and of the network. Differences are taken seed by seed; their 95 % interval is "
    "Student's, which takes them for normal, and is not widened for the number of rivals.",
    "MSE is measured against the label. Differences are measured between squared distances from the best "
    "forecast that there is, known in closed form: their expectation is that of differences of MSE, without the "
    "noise that no forecast can know.",
)
"""What a reader must know about the comparison, one fact each; spans are filled in from the protocol."""
