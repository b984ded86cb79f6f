"""Verdicts in plain words, and when there is none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.research.significance import hit_sentence, hits_needed, sentence, weigh


def record(count: int, annual: float, periods: int = 365) -> np.ndarray:
    """Returns [T] with exactly that annual Sharpe ratio."""
    noise = np.random.default_rng(0).normal(size=count)
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    return 0.01 * (noise + annual / math.sqrt(periods))


def trials(count: int, deviation: float = 0.04) -> list[float]:
    """Sharpe ratios per observation of as many trials, with exactly that deviation."""
    noise = np.random.default_rng(1).normal(size=count)
    return list(deviation * noise / noise.std(ddof=1)) if count > 1 else list(noise)


# --- the Sharpe ratio


def test_a_short_record_is_no_record_of_anything():
    weighed = weigh(record(29, 12.0), 365)
    assert weighed.verdict == "too short"
    assert sentence(weighed) == ("No verdict: 29 days are too few for any Sharpe ratio; at least 30 are needed.")


def test_the_article_of_the_preset_is_refused_a_verdict():
    weighed = weigh(record(612, 0.907), 365)
    assert weighed.verdict == "too short"
    assert weighed.psr == pytest.approx(0.88, abs=0.005)
    said = sentence(weighed)
    assert said.startswith("No verdict: to tell a Sharpe ratio of 0.91 from zero, 1,")
    assert "days are needed, and there are 612 (PSR 8" in said


def test_the_record_that_is_asked_for_is_enough():
    needed = weigh(record(612, 0.907), 365).needed
    enough = weigh(record(math.ceil(needed * 1.1), 0.907), 365)
    assert enough.verdict == "significant"
    assert sentence(enough).startswith("Significant: a Sharpe ratio of 0.91 over 1,")
    assert "above zero (PSR 9" in sentence(enough)


def test_trials_take_a_verdict_back():
    alone, among = weigh(record(1250, 2.0), 365), weigh(record(1250, 2.0), 365, trials(20))
    assert alone.verdict == "significant"
    assert among.verdict == "too short"
    assert among.needed > alone.needed
    said = sentence(among)
    assert "that luck gives the best of 20 trials" in said
    assert "DSR" in said


def test_what_luck_gives_the_best_of_many_is_not_significant():
    weighed = weigh(record(1250, 1.0), 365, trials(100))
    assert weighed.verdict == "luck"
    assert sentence(weighed).startswith("Not significant: luck alone would give the best of 100 trials")


def test_trials_that_failed_are_in_the_sentence():
    assert "best of 500 trials" in sentence(weigh(record(1250, 1.0), 365, trials(100), 500))


def test_a_loss_needs_no_longer_record():
    weighed = weigh(record(612, -0.4), 365)
    assert weighed.verdict == "no edge"
    assert sentence(weighed) == "No edge: the Sharpe ratio over 612 days is −0.40."


def test_an_account_that_never_moved_has_no_verdict():
    weighed = weigh(np.zeros(100), 365)
    assert weighed.verdict == "too short"
    assert (
        sentence(weighed) == "No verdict: the returns of these 100 days have no Sharpe ratio whose error is known."
    )


def test_bars_are_called_bars():
    assert "over 5,000 bars" in sentence(weigh(record(5000, -1.0, 8760), 8760), "bars")


@given(st.integers(4, 400), st.floats(-5, 5), st.integers(0, 60))
def test_a_sentence_is_one_sentence_and_says_what_the_verdict_is(count, annual, tried):
    weighed = weigh(record(count, annual), 365, trials(tried))
    begins = {
        "too short": "No verdict",
        "no edge": "No edge",
        "luck": "Not significant",
        "significant": "Significant",
    }
    said = sentence(weighed)
    assert said.startswith(begins[weighed.verdict] + ": ")
    assert said.endswith(".")
    assert "\n" not in said
    assert "nan" not in said
    assert "inf" not in said
    assert "100.0 %" not in said


# --- directions


@pytest.mark.parametrize(
    ("rate", "calls"), [(0.52, 3863), (0.53, 1716), (0.55, 617), (0.60, 153), (0.90, 8), (0.5, math.inf)]
)
def test_how_many_directions_a_share_of_right_ones_needs(rate, calls):
    assert hits_needed(rate) == calls


def test_that_many_are_noticed_in_four_of_five_samples():
    right = np.random.default_rng(2).binomial(617, 0.55, 20_000)
    assert np.mean((right / 617 - 0.5) * 2 * math.sqrt(617) > 1.645) == pytest.approx(0.80, abs=0.02)


@pytest.mark.parametrize(
    ("right", "calls", "said"),
    [
        (330, 612, "No verdict: 53.9% of 612 directions were right, and 1,0"),
        (1100, 2000, "More than a coin: 55.0% of 2,000 directions were right."),
        (700, 1000, "Too good to believe: 70.0% of 1,000"),
        (500, 1000, "No edge: 500 of 1,000 directions were right"),
        (0, 0, "No edge: 0 of 0"),
    ],
)
def test_what_is_said_of_directions(right, calls, said):
    assert hit_sentence(right, calls).startswith(said)
