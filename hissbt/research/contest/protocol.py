"""What decides the contest of the rivals, settled before any of it was run."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from hissbt.timeframe import is_intraday
from hissbt.trading.costs import Costs

HISS = "HiSS"
"""The rival that all others are compared with."""
BUY_AND_HOLD = "buy and hold"
"""The rival that is always long, whatever its probabilities."""

_INTRADAY_SPANS = (4, 12, 24, 72, 168, 720)
_DAILY_SPANS = (2, 5, 10, 20, 60)
_CLOCK = (
    *("hour_sin", "hour_cos", "weekday_sin", "weekday_cos"),
    *(f"week_{wave}:{times}" for times in (2, 14) for wave in ("sin", "cos")),
)


@dataclass(frozen=True)
class Protocol:
    """Everything that decides the contest. Counts are in bars unless the name says otherwise."""

    horizon_intraday: int = 24
    horizon_daily: int = 1
    """How many bars ahead is forecast, by the length of a bar."""
    features: tuple[str, ...] | None = None
    """Inputs of all rivals; those of ``many_horizons`` if left out."""
    test_fraction: float = 0.21
    """The last of the bars, judged: on the shared hours of BTCUSDT those after 2024-07."""
    folds: int = 2
    """How many times everything is fitted anew on the way through the test span, each time on all bars before."""
    validation_fraction: float = 0.15
    """Of the bars before a test, the last ones; they choose settings and end the training of networks."""
    rivals: tuple[str, ...] | None = None
    """By name; the whole roster if left out."""
    tuning_seed: int = 0
    """Of the fits between which the validation rows choose."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of those that are judged, fixed before any was run; a rival without chance in it has one."""
    choices: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {
            "curriculum by length": {"curriculum": "length"},
            "curriculum by volatility": {"curriculum": "volatility"},
            "weight decay 0": {"weight_decay": 0.0},
            "weight decay 0.1": {"weight_decay": 0.1},
            "dropout 0.1": {"network": {"dropout": 0.1}},
            "stochastic weight averaging": {"averaging": "swa"},
            "moving average of weights": {"averaging": "ema"},
        }
    )
    """Ways to train HiSS, each alone against the plain one: what is put over the setting that it won with."""
    half_spread: float = Costs().half_spread
    """A fraction of price, paid with the market's taker fee by everything that is traded."""
    block_horizons: int = 2
    """Forecast horizons in a block of the bootstrap."""
    repeats: int = 1_000
    quick: bool = False
    """Whether the roster is the tiny one."""

    def horizon(self, timeframe: pd.Timedelta) -> int:
        """Return how many bars of this length a forecast reaches ahead."""
        return self.horizon_intraday if is_intraday(timeframe) else self.horizon_daily

    def inputs(self, timeframe: pd.Timedelta) -> tuple[str, ...]:
        """Return the names of the features that all rivals are given."""
        return many_horizons(timeframe) if self.features is None else self.features


def many_horizons(timeframe: pd.Timedelta) -> tuple[str, ...]:
    """Return returns, ranges and volume over several spans, and of bars within the day the clock."""
    intraday = is_intraday(timeframe)
    spans = _INTRADAY_SPANS if intraday else _DAILY_SPANS
    return (
        "log_return",
        "abs_return",
        "range",
        *(f"return:{span}" for span in spans),
        *(f"log_volatility:{span}" for span in spans),
        *(f"log_range_volatility:{span}" for span in (1, *spans)),
        *(f"log_garman_klass:{span}" for span in spans[::2]),
        *(f"volume_ratio:{span}" for span in spans[2:]),
        "rsi:14",
        *(_CLOCK if intraday else ()),
    )


FULL = Protocol()
QUICK = replace(
    FULL,
    seeds=(0, 1),
    choices={name: FULL.choices[name] for name in ("weight decay 0.1", "dropout 0.1")},
    repeats=100,
    quick=True,
)
"""Shows in a minute what the page looks like; its figures mean nothing."""

CHOICES = (
    "Bars are split in time. The test span is cut into folds; for each of them everything is fitted anew on bars "
    "that end before it. The last of these are for validation. Between the parts as many bars as a label "
    "reaches ahead lie unused, twice as many before a test, so that no label is computed from bars of the next "
    "part. A rival is not given the bars after its fold at all.",
    "All rivals have the same bars, the same inputs, the same labels, the same rows and the same closes at which "
    "they decide. Rules, HAR and GARCH read the prices themselves, as they are defined.",
    "Every rival that has a choice is tried with the same number of settings and one seed. The setting with the "
    "best score on the validation rows is kept, in each fold: the Gaussian log density of the return under the "
    "forecast mean and volatility; where a rival forecasts volatility only, its QLIKE; where it forecasts "
    "direction only, its log score. Where it has no opinion, mean and deviation of the training rows stand in.",
    "The kept setting is then fitted with every seed. The seed that chose it is one of them: it was chosen by "
    "validation rows, not by those that are judged. Scores are means over the seeds, not scores of a mean "
    "forecast, which would be better.",
    "QLIKE is v/h − ln(v/h) − 1 of the realized variance v, the sum of squared returns of single bars, and its "
    "forecast h. It does not depend on noise in v that is right on average (Patton 2011).",
    "Intervals are 95 %, of a circular block bootstrap over the test rows of the mean over the seeds. They know "
    "of the test span only: not of other seeds, nor of other years.",
    "A difference is called better or worse where its interval leaves out 0. That is one test for each rival and "
    "score: of twenty differences that are none, one passes. The model confidence set is not so easily "
    "fooled: with 95 % probability it holds the best one.",
    "Diebold–Mariano statistics have Newey–West errors that reach over the horizon and the correction for small "
    "samples; below 0 HiSS has the smaller loss.",
    "Expected calibration error: over ten bins of equal width, the mean distance of the probability from the "
    "share of rises, each bin weighing as many rows as it holds.",
    "Trading: at every horizon-th close of the test span, long where the probability of a rise is above one "
    "half, short below it, flat at exactly one half, held until the next such close, the account rebalanced at "
    "every bar. Buy-and-hold is long throughout. Net is after taker fee and half spread; there is no funding, "
    "no impact and no margin. A strategy that is to be believed runs through hissbt backtest.",
    "The deflated Sharpe ratio counts the rivals on this page as trials, not their settings and seeds, nor what "
    "was tried before.",
    "Fit seconds are those of one fit on one core of this machine, beside whatever else it was doing.",
)
"""What a reader must know about the contest, one fact each."""
