"""What a record says about skill, in a plain sentence; a refusal where it is too short to say anything."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from scipy.special import ndtri

from hissbt.evidence.independence import effective_size
from hissbt.evidence.sharpe import CONFIDENCE, Deflated, Moments, dsr, min_track_record, psr

FEWEST = 30
"""Returns below which no error of a Sharpe ratio is believed: its distribution is that of many returns."""
POWER = 0.80
SUSPICIOUS = 0.60
"""Share of right directions that real markets hardly allow, and leaks do."""

_MOST_TIMES = 100  # what there is: further than that nobody waits

Verdict = Literal["too short", "no edge", "luck", "significant"]


@dataclass(frozen=True)
class Evidence:
    """The statistics of a record of returns that a verdict rests on."""

    count: int
    """Returns."""
    effective: float
    """Independent returns that would say as much about their mean; no more than ``count``."""
    sharpe: float
    """Annual."""
    luck: float
    """Annual Sharpe ratio that the best of the trials would be expected to reach without skill."""
    psr: float
    deflated: Deflated
    needed: float
    """Returns like these that would make the deflated Sharpe ratio 95 %; infinite if no number would."""

    @property
    def verdict(self) -> Verdict:
        """``too short`` to say; ``no edge``; what ``luck`` gives the best of the trials; or ``significant``."""
        if self.count < FEWEST or math.isnan(self.deflated.dsr):
            return "too short"
        if self.sharpe <= 0:
            return "no edge"
        if math.isinf(self.needed):
            return "luck"
        return "significant" if self.deflated.dsr >= CONFIDENCE else "too short"


def weigh(
    returns: np.ndarray, periods: float, trial_sharpes: Sequence[float] = (), trials: int | None = None
) -> Evidence:
    """Weigh ``returns`` [T], ``periods`` of which make a year, against all that was tried to find them.

    ``trial_sharpes`` and ``trials`` are as ``dsr`` has them: per observation of the same length as ``returns``.
    Returns that go on as they were count as the fewer independent ones that they are worth, by lags up to ⌈∛T⌉:
    where neighbors have a correlation of a third, ``psr`` alone passes one in ten that have no skill, not 5 %.
    """
    count = len(returns)
    effective = effective_size(returns, math.ceil(count ** (1 / 3))) if count else 0.0
    moments = replace(Moments.of(returns), count=effective)
    deflated, year = dsr(moments, trial_sharpes, trials), math.sqrt(periods)
    return Evidence(
        count,
        effective,
        moments.sharpe * year,
        deflated.sr0 * year,
        psr(moments),
        deflated,
        min_track_record(moments, deflated.sr0) * count / max(effective, 1),
    )


def sentence(evidence: Evidence, unit: str = "days") -> str:
    """Say what the evidence comes to; ``unit`` is what a return spans, in the plural."""
    count, sharpe, trials = evidence.count, f"{evidence.sharpe:.2f}".replace("-", "−"), evidence.deflated.n
    if count < FEWEST:
        return f"No verdict: {count} {unit} are too few for any Sharpe ratio; at least {FEWEST} are needed."
    if math.isnan(evidence.deflated.dsr):
        return f"No verdict: the returns of these {count:,} {unit} have no Sharpe ratio whose error is known."
    if evidence.verdict == "no edge":
        return f"No edge: the Sharpe ratio over {count:,} {unit} is {sharpe}."
    if evidence.verdict == "luck":
        return (
            f"Not significant: luck alone would give the best of {trials:,} trials a Sharpe ratio of about "
            f"{evidence.luck:.2f}, and this one is {sharpe} over {count:,} {unit}."
        )
    rival = f"the {evidence.luck:.2f} that luck gives the best of {trials:,} trials" if evidence.luck else "zero"
    figures = _figures(evidence)
    if evidence.verdict == "too short":
        return (
            f"No verdict: to tell a Sharpe ratio of {sharpe} from {rival}, {_needed(evidence)} {unit} "
            f"are needed, and there are {count:,} ({figures})."
        )
    return f"Significant: a Sharpe ratio of {sharpe} over {count:,} {unit} is above {rival} ({figures})."


def hits_needed(rate: float) -> float:
    """Return how many independent directions must be called for a true share ``rate`` of right ones to be noticed.

    By a one-sided test against a half at 5 %, in four of five samples; infinite for a half and less.
    """
    if rate <= 0.5:
        return math.inf
    spread = ndtri(CONFIDENCE) / 2 + ndtri(POWER) * math.sqrt(rate * (1 - rate))
    return float(math.ceil((spread / (rate - 0.5)) ** 2))


def hit_sentence(right: int, calls: int) -> str:
    """Say what ``right`` of ``calls`` directions that share no bar come to, with as many rises as falls."""
    rate = right / calls if calls else math.nan
    if not rate > 0.5:
        return f"No edge: {right:,} of {calls:,} directions were right, no more than a coin gets."
    needed, said = hits_needed(rate), f"{rate:.1%} of {calls:,} directions were right"
    if calls < needed:
        return f"No verdict: {said}, and {needed:,.0f} are needed to tell that from a coin."
    if rate > SUSPICIOUS:
        return f"Too good to believe: {said}; look for a leak first, with `hissbt audit`."
    return f"More than a coin: {said}."


def _needed(evidence: Evidence) -> str:
    """Return how many returns would do; beyond any life a number would only look exact."""
    most = _MOST_TIMES * evidence.count
    return f"{math.ceil(evidence.needed):,}" if evidence.needed <= most else f"more than {most:,}"


def _figures(evidence: Evidence) -> str:
    """Return the probabilities in a bracket's words; never 100 %, which no sample gives."""
    shown = {"PSR": evidence.psr} | ({"DSR": evidence.deflated.dsr} if evidence.luck else {})
    return ", ".join(f"{name} {min(math.floor(value * 1000) / 10, 99.9):.1f} %" for name, value in shown.items())
