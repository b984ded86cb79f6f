"""Verdicts in plain words, and when there is none."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.evidence.sharpe import psr
from hissbt.evidence.verdict import hit_sentence, hits_needed, sentence, weigh


def record(count: int, annual: float, periods: int = 365) -> np.ndarray:
    """Returns [T] with exactly that annual Sharpe ratio; each gain is lost at once, so that all count in full."""
    half = np.random.default_rng(0).normal(size=(count + 1) // 2)
    noise = np.stack([half, -half], axis=1).ravel()[:count]
    noise = (noise - noise.mean()) / noise.std(ddof=1)
    return 0.01 * (noise + annual / math.sqrt(periods))


def trials(count: int, deviation: float = 0.04) -> list[float]:
    """Sharpe ratios per observation of as many trials, with exactly that deviation."""
    noise = np.random.default_rng(1).normal(size=count)
    return list(deviation * noise / noise.std(ddof=1)) if count > 1 else list(noise)


# --- the Sharpe ratio


def test_what_would_take_more_than_a_life_is_not_told_to_the_day():
    assert "from zero, more than 61,200 days are needed, and there are 612" in sentence(
        weigh(record(612, 0.05), 365)
    )


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


def test_returns_that_go_on_as_they_were_count_for_less():
    noise = 0.01 * np.random.default_rng(3).normal(0.1, 1.0, size=600)
    slow, quick = np.repeat(noise, 4), np.tile(noise, 4)
    weighed, other = weigh(slow, 365), weigh(quick, 365)
    assert weighed.sharpe == pytest.approx(other.sharpe)
    assert weighed.effective < 0.5 * other.effective
    assert weighed.psr < other.psr
    assert weighed.needed == pytest.approx(other.needed * other.effective / weighed.effective, rel=0.01)


def test_momentum_without_skill_passes_no_more_often_than_it_says():
    shocks = np.random.default_rng(4).normal(size=(2000, 500))
    returns = 0.01 * (shocks[:, 1:] + 0.4 * shocks[:, :-1])  # neighbors have a correlation of 0.34
    alone = np.mean([psr(row) >= 0.95 for row in returns])
    weighed = np.mean([weigh(row, 365).psr >= 0.95 for row in returns])
    assert alone > 0.09
    assert weighed == pytest.approx(0.05, abs=0.018)


def test_an_empty_record_is_too_short():
    assert weigh(np.array([]), 365).verdict == "too short"
    assert sentence(weigh(np.array([]), 365)).startswith("No verdict: 0 days are too few")


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


@given(st.integers(2, 400), st.floats(-5, 5), st.integers(0, 60))
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
