"""The probability of overfitting: by hand, a half for noise, none for true skill."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from hissbt.errors import ConfigError
from hissbt.research.significance import pbo


def noise(seed: int, rows: int = 320, strategies: int = 20) -> np.ndarray:
    """Returns [T,N] of strategies without skill."""
    return np.random.default_rng(seed).normal(scale=0.01, size=(rows, strategies))


def sharpes(returns: np.ndarray) -> np.ndarray:
    """Sharpe ratios of the columns."""
    return returns.mean(axis=0) / returns.std(axis=0, ddof=1)


def test_every_way_is_scored_as_the_article_has_it():
    returns = noise(0, rows=66, strategies=7)  # two rows too many for eight blocks
    parts = returns[2:].reshape(8, 8, 7)
    logits, inside, outside = [], [], []
    for chosen in combinations(range(8), 4):
        rest = [block for block in range(8) if block not in chosen]
        first, second = sharpes(parts[list(chosen)].reshape(-1, 7)), sharpes(parts[rest].reshape(-1, 7))
        best = first.argmax()
        share = rankdata(second)[best] / 8
        logits.append(np.log(share / (1 - share)))
        inside.append(first[best])
        outside.append(second[best])
    found = pbo(returns, blocks=8)
    np.testing.assert_allclose(found.logits, logits, atol=1e-12)
    np.testing.assert_allclose(found.in_sample, inside, rtol=1e-10)
    np.testing.assert_allclose(found.out_of_sample, outside, rtol=1e-10)
    below, middle = np.mean(np.array(logits) < -1e-12), np.mean(np.abs(logits) < 1e-12)
    assert found.pbo == pytest.approx(below + middle / 2)
    assert found.probability_of_loss == np.mean(np.array(outside) < 0)
    assert found.degradation == pytest.approx(np.polyfit(inside, outside, 1)[0])


@pytest.mark.parametrize("strategies", [5, 20])
def test_noise_has_one_half_on_average(strategies):
    found = [pbo(noise(seed, strategies=strategies), blocks=8).pbo for seed in range(300)]
    error = np.std(found) / np.sqrt(len(found))
    assert np.mean(found) == pytest.approx(0.5, abs=3 * error)


def test_a_truly_good_strategy_is_no_accident():
    returns = noise(1)
    returns[:, 3] += 0.01
    found = pbo(returns)
    assert found.pbo < 0.001
    assert found.probability_of_loss < 0.001


def test_what_was_the_best_because_it_was_lucky_degrades():
    assert pbo(noise(2)).degradation < 0


def test_sixteen_blocks_can_be_halved_in_12870_ways():
    assert len(pbo(noise(3)).logits) == 12_870


@given(st.integers(0, 10_000), st.floats(1e-6, 1e3))
def test_it_knows_no_unit_of_returns_nor_an_order_of_strategies(seed, unit):
    returns, order = noise(seed, 64, 6), np.random.default_rng(seed).permutation(6)
    assert pbo(returns * unit, 4).pbo == pbo(returns, 4).pbo == pbo(returns[:, order], 4).pbo


def test_strategies_that_are_all_alike_are_all_at_the_median():
    assert pbo(np.repeat(noise(4, strategies=1), 6, axis=1)).pbo == 0.5


def test_a_strategy_that_never_trades_does_no_harm():
    returns = noise(5)
    returns[:, 0] = 0
    assert np.isfinite(pbo(returns).logits).all()


@pytest.mark.parametrize(
    ("shape", "blocks", "said"),
    [((100, 5), 7, "even"), ((100, 5), 0, "even"), ((30, 5), 16, "32 returns"), ((100, 1), 8, "2 strategies")],
)
def test_what_cannot_be_halved_is_refused(shape, blocks, said):
    with pytest.raises(ConfigError, match=said):
        pbo(np.zeros(shape), blocks)
