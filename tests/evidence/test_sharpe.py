"""Sharpe ratios: the articles' own numbers, those of quantstats, and the rules that every sample obeys."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from quantstats.stats import probabilistic_sharpe_ratio

from hissbt.evidence.sharpe import Moments, dsr, expected_max_sharpe, min_track_record, psr

DAILY = 2.5 / math.sqrt(250)  # the example of the DSR article: annual 2.5, annual variance of the trials 1/2
VARIANCE = 0.5 / 250
CROOKED = Moments(DAILY, 1250, skew=-3.0, kurtosis=10.0)
NORMAL = Moments(DAILY, 1250)


@st.composite
def samples(draw) -> Moments:
    """Moments of some returns that real samples can have."""
    skew = draw(st.floats(-3, 3))
    kurtosis = skew**2 + 1 + draw(st.floats(0.5, 15))
    return Moments(draw(st.floats(-0.5, 0.5)), draw(st.integers(5, 10_000)), skew, kurtosis)


def with_variance(variance: float) -> list[float]:
    """Two Sharpe ratios with that variance."""
    return [0.0, math.sqrt(2 * variance)]


# --- published numbers


@pytest.mark.parametrize(
    ("moments", "trials", "sr0", "probability"),
    [(CROOKED, 100, 0.1132, 0.9004), (CROOKED, 46, 0.1004, 0.9505), (NORMAL, 88, 0.1111, 0.9505)],
)
def test_the_deflated_ratio_of_the_article(moments, trials, sr0, probability):
    found = dsr(moments, with_variance(VARIANCE), trials)
    assert found.sr0 == pytest.approx(sr0, abs=5e-5)
    assert found.dsr == pytest.approx(probability, abs=5e-5)
    assert (found.n, found.sr) == (trials, DAILY)
    assert found.variance == pytest.approx(VARIANCE)


@pytest.mark.parametrize(
    ("moments", "probability"),
    [(Moments(0.458, 24, -2.448, 10.164), 0.9134), (Moments(0.458, 24), 0.9817)],
)
def test_the_probabilistic_ratio_of_the_article(moments, probability):
    assert psr(moments) == pytest.approx(probability, abs=5e-5)


@pytest.mark.parametrize("seed", range(5))
def test_the_probability_is_that_of_quantstats(seed):
    rng = np.random.default_rng(seed)
    returns = pd.Series(0.01 * rng.standard_t(5, 200) + 0.0005, pd.date_range("2020", periods=200))
    assert psr(returns.to_numpy()) == pytest.approx(probabilistic_sharpe_ratio(returns), abs=1e-12)


def test_the_expected_maximum_is_that_of_many_draws():
    best = np.random.default_rng(0).normal(scale=0.3, size=(20_000, 50)).max(axis=1)
    assert expected_max_sharpe(0.09, 50) == pytest.approx(best.mean(), rel=0.02)  # the article's is asymptotic


# --- rules


@given(samples(), st.floats(-0.5, 0.5), st.floats(0, 0.5))
def test_the_probability_falls_as_the_benchmark_rises(moments, benchmark, more):
    assert psr(moments, benchmark + more) <= psr(moments, benchmark)


@given(
    samples(), st.lists(st.floats(-0.3, 0.3), min_size=2, max_size=20), st.integers(1, 500), st.integers(0, 500)
)
def test_deflation_never_helps_and_every_trial_counts(moments, sharpes, trials, more):
    few, many = (dsr(moments, sharpes, n) for n in (trials, trials + more))
    assert many.dsr <= few.dsr <= psr(moments)
    assert many.sr0 >= few.sr0 >= 0


def test_twenty_more_trials_lower_it_strictly():
    sharpes = list(np.random.default_rng(1).normal(scale=0.03, size=40))
    assert dsr(NORMAL, sharpes).dsr < dsr(NORMAL, sharpes[:20]).dsr < psr(NORMAL)


@given(samples(), st.floats(-0.5, 0.5))
def test_a_minimum_track_record_is_as_long_as_the_probability_wants_it(moments, benchmark):
    assume(moments.sharpe - benchmark > 1e-3)
    needed = min_track_record(moments, benchmark)
    enough = Moments(moments.sharpe, needed, moments.skew, moments.kurtosis)
    assert psr(enough, benchmark) == pytest.approx(0.95, abs=1e-9)


def test_no_record_is_long_enough_for_what_is_not_ahead():
    assert min_track_record(NORMAL, DAILY) == math.inf
    assert min_track_record(Moments(-0.1, 1000)) == math.inf


@pytest.mark.parametrize("trials", [[], [0.2]], ids=["none", "one"])
def test_what_was_tried_once_is_not_deflated(trials):
    found = dsr(NORMAL, trials)
    assert found.sr0 == 0
    assert found.dsr == psr(NORMAL)


def test_trials_that_failed_count_too():
    sharpes = with_variance(VARIANCE)
    assert dsr(CROOKED, sharpes, 100).dsr < dsr(CROOKED, sharpes).dsr


@pytest.mark.parametrize("returns", [[], [0.01], [0.01, 0.02, 0.01], [0.5] * 50], ids=["0", "1", "3", "constant"])
def test_what_has_no_sharpe_ratio_has_no_probability(returns):
    assert math.isnan(psr(np.array(returns)))
    assert math.isnan(min_track_record(np.array(returns)))
    assert math.isnan(dsr(np.array(returns), [0.1, 0.2]).dsr)


def test_the_moments_of_normal_returns_are_those_that_are_assumed():
    found = Moments.of(np.random.default_rng(2).normal(0.1, 1.0, 200_000))
    assert found.sharpe == pytest.approx(0.1, abs=0.01)
    assert found.skew == pytest.approx(0, abs=0.03)
    assert found.kurtosis == pytest.approx(3, abs=0.06)
