"""What decides the comparison of volatility forecasts, settled on bars before its test span."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

HISS = "HiSS"
"""The forecaster that all others are compared with."""
HAR = "HAR"
HAR_SEASON = "HAR + range + hour and weekday"
RIDGE, RIDGE_SAME = "ridge", "ridge on the inputs of the networks"
FLAT = ("flat S4D", "flat Mamba", "LSTM")
"""The networks without a hierarchy."""


@dataclass(frozen=True)
class Protocol:
    """Everything that decides the comparison. Counts are in bars unless the name says otherwise."""

    timeframe: str = "1h"
    """Finer bars are resampled to it; it is also how often returns are taken for the realized variance."""
    horizon: int = 24
    """Bars whose realized variance is forecast: a day."""
    spans: tuple[int, ...] = (1, 6, 24, 72, 168)
    """Over which past ranges are measured, for the networks, which have a memory of their own."""
    wide_spans: tuple[int, ...] = (1, 6, 24, 168, 720)
    """Over which past returns and ranges are measured, for ridge, which has none."""
    har: tuple[int, ...] = (1, 24, 168)
    """Over which HAR takes its means: an hour, a day, a week."""
    harmonics: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)
    """Of the week; the seventh turns once a day."""

    since: str | None = "2021-03-01"
    """Bars that open earlier are left out: before, the market was another one."""
    first_test: str | None = "2024-07-01"
    """Close from which on forecasts are judged; the last quarter of the bars if left out."""
    until: str | None = None
    """Bars that close later are left out."""
    refit_bars: int = 2_920
    """After so many bars everything is fitted anew: a third of a year of hours."""
    ridge_refit_bars: int = 720
    """The same of the ridge regression that is fitted more often: a month of hours."""

    alpha: float = 100.0
    """Penalty of the ridge regressions on standardized inputs."""
    hiss: Mapping[str, Any] = field(
        default_factory=lambda: {"strides": (4, 4), "blocks": ("s4d", "s4d", "mamba"), "d_model": 32}
    )
    """The network that is compared; the others are as large."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Settings of ``hissbt.training.regression`` for all networks."""
    seeds: tuple[int, ...] = tuple(range(5))
    """Of which each network's forecast is the mean; fixed before any of them was run."""

    aims: Mapping[str, float] = field(default_factory=dict)
    """How far below these rivals the QLIKE of HiSS is to be, as a share of theirs: written down before any fit."""

    block_horizons: int = 2
    """Horizons in a block of the bootstrap, and in the reach of the standard errors."""
    repeats: int = 1_000

    @property
    def block(self) -> int:
        """Bars in a block."""
        return self.block_horizons * self.horizon

    @property
    def features(self) -> tuple[str, ...]:
        """Inputs of the networks: the last bar, past ranges, the time of week."""
        ranges = (f"log_range_volatility:{span}" for span in self.spans)
        return ("log_return", "abs_return", "log_garman_klass:1", *ranges, *self.season)

    @property
    def wide_features(self) -> tuple[str, ...]:
        """Inputs of ridge, which did better with these than with those of the networks."""
        kinds = ("log_volatility", "log_range_volatility", "log_garman_klass")
        pasts = (f"{kind}:{span}" for kind in kinds for span in self.wide_spans)
        return ("log_return", "abs_return", *pasts, *self.season)

    @property
    def season(self) -> tuple[str, ...]:
        """The time of week as sines and cosines."""
        return tuple(f"week_{wave}:{times}" for times in self.harmonics for wave in ("sin", "cos"))


FULL = Protocol(aims={HAR: 0.15, HAR_SEASON: 0.05})
"""A day of hours, after Corsi's HAR with range and season: the recipe that a feasibility study had found."""

MINUTES = replace(
    FULL,
    timeframe="5m",
    horizon=288,
    spans=(1, 12, 72, 288, 2_016),
    wide_spans=(1, 12, 72, 288, 2_016),
    har=(12, 288, 2_016),
    since=None,
    first_test=None,
    refit_bars=13_248,
    ridge_refit_bars=8_640,
    hiss=FULL.hiss | {"strides": (12, 24)},
    training={"window": 1_536, "burn_in": 384, "batch_size": 8},
    aims={},
)
"""The same day from five-minute returns, fitted anew after 46 days; levels hold five minutes, an hour, a day."""

QUICK = replace(
    FULL,
    horizon=6,
    spans=(1, 6, 24),
    wide_spans=(1, 6, 24),
    har=(1, 6, 24),
    harmonics=(1, 7),
    since=None,
    first_test=None,
    refit_bars=200,
    ridge_refit_bars=100,
    hiss={"strides": (2, 2), "d_model": 16, "d_state": 4},
    training={"window": 64, "burn_in": 16, "batch_size": 4, "epoch_steps": 2, "max_epochs": 2},
    seeds=(0, 1),
    repeats=100,
)
"""Shows in a minute what the page looks like; its figures mean nothing."""

CHOICES = (
    "What is forecast at each close is the log of the realized variance of the bars of the next day: the sum of "
    "their squared log returns. QLIKE is v/f − ln(v/f) − 1 of the realized variance v and its forecast f; it "
    "does not depend on noise in v that is right on average (Patton 2011). Log-MSE is the mean squared error of "
    "the log.",
    "Everything is fitted anew at the same dates, on all bars before them but for a gap as long as the horizon, "
    "so that no label of training reaches into a test. Between two dates nothing changes but what was measured "
    "of the bars. Forecasts at a close know no later bar.",
    "A forecast of a logarithm is not the logarithm of a forecast: for each symbol, that of every rival is "
    "moved so that it is right on average over the training rows, in logs for log-MSE and, by the mean "
    "exponential of what is left (Duan's smearing, 1983), in variances for QLIKE. All rivals are treated so, "
    "GARCH too.",
    "EWMA, GARCH, GJR and HAR are fitted to each symbol alone, as they are defined, to closes and "
    "ranges; the linear ones and the networks to all symbols at once, with one scale. Ridge has the inputs with "
    "which it does best, and again those of the networks. HAR with the harmonics of the week, pooled, shows "
    "what these alone bring.",
    "Networks have the same number of parameters within 5 %, the same loop, the same number of steps and "
    "windows, the exponential average of their weights, and no early stopping; a network's forecast is the mean "
    "of the logs of all its seeds.",
    "Inputs, sizes, rates and steps were chosen on the half year before the test span, with folds of the same "
    "kind. A feasibility study on the same bars had chosen the recipe with the test span in view, so small "
    "differences are no news. Each fit is entered in the ledger of trials.",
    "Diebold–Mariano statistics compare the losses of the seeds' mean forecasts, averaged over the symbols, with "
    "Newey–West errors that reach over two horizons; below 0 HiSS has the smaller loss. Intervals are 95 %, of a "
    "circular block bootstrap with blocks of two horizons. They know of the test span only: not of other years.",
    "A symbol whose bars end before the test span does is learned from and not judged.",
    "Fit seconds are those of one fit on one core of this machine, beside whatever else it was doing.",
)
"""What a reader must know about the comparison, one fact each."""
