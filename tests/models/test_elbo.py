"""The loss of the hierarchy: what is summed, what free bits hold back, and what more draws are good for."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_gaussian import LinearGaussian

from hissbt.models import build_network
from hissbt.models.elbo import HierarchicalLoss, Terms, importance_bound
from hissbt.models.flat_vae import FlatVAE, matched
from hissbt.models.hvae import HVAEConfig

FREE = 0.1


def terms_of(*levels):
    """Return terms whose divergences are ``levels``, [B,blocks,d] each, and that leave no surprise."""
    return Terms(torch.zeros(len(levels[0]), dtype=torch.float64), levels)


def nats(batch, blocks, size, each):
    return torch.full((batch, blocks, size), each, dtype=torch.float64, requires_grad=True)


@settings(deadline=None)
@given(st.integers(0, 2**31), st.floats(0, 1))
def test_without_free_bits_the_loss_is_the_bound_a_bar(seed, beta):
    generator = torch.Generator().manual_seed(seed)
    surprise = torch.randn(5, generator=generator, dtype=torch.float64)
    levels = tuple(
        torch.rand(5, blocks, size, generator=generator, dtype=torch.float64) for blocks, size in [(6, 2), (2, 3)]
    )
    terms = Terms(surprise, levels)
    total = sum(level.sum() for level in levels) / 5
    loss = HierarchicalLoss(free_nats=0.0)
    torch.testing.assert_close(terms.elbo.mean(), -surprise.mean() - total, atol=1e-12, rtol=0)
    torch.testing.assert_close(loss(terms, 12, beta), (surprise.mean() + beta * total) / 12, atol=1e-12, rtol=0)


@pytest.mark.parametrize("each_dimension", [False, True])
def test_a_level_under_its_free_bits_feels_no_pull_and_one_above_all_of_it(each_dimension):
    size = 4
    low = 0.9 * FREE / (1 if each_dimension else size)  # of one variable
    under, above = nats(3, 6, size, low), nats(3, 2, size, 5 * FREE)
    loss = HierarchicalLoss(FREE, each_dimension)(terms_of(under, above), bars=12)
    loss.backward()
    assert torch.equal(under.grad, torch.zeros_like(under))
    torch.testing.assert_close(above.grad, torch.full_like(above, 1 / 3 / 12))  # windows, bars
    floor = FREE * (size if each_dimension else 1)
    assert loss.item() == pytest.approx((6 * floor + 2 * size * 5 * FREE) / 12)


def test_free_bits_by_dimension_hold_back_the_idle_variables_of_an_active_level():
    level = torch.tensor([[[5 * FREE, 0.5 * FREE]]], dtype=torch.float64, requires_grad=True)
    HierarchicalLoss(FREE, each_dimension=True)(terms_of(level), bars=1).backward()
    assert level.grad.flatten().tolist() == [1, 0]


def test_free_bits_are_of_the_mean_of_batch_and_blocks():
    """One wild window lifts a level over its threshold for all of them."""
    level = torch.zeros(4, 3, 2, dtype=torch.float64)
    level[0, 0, 0] = 12 * 2 * FREE
    level.requires_grad_()
    HierarchicalLoss(FREE)(terms_of(level), bars=1).backward()
    assert (level.grad > 0).all()


# ---------------------------------------------------------------------------------------- importance bound


@pytest.fixture(params=["hvae", "flat"])
def net(request):
    torch.manual_seed(0)
    settings = {"n_features": 2, "strides": (2, 6), "d_latent": (1, 2), "d_hidden": 8}
    net = build_network("hvae", settings) if request.param == "hvae" else FlatVAE(matched(HVAEConfig(**settings)))
    return net.double().eval()


@pytest.fixture
def x():
    return torch.randn(40, 6, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@torch.no_grad()
def test_one_draw_gives_the_bound_on_average(net, x):
    one = importance_bound(net, x.repeat(200, 1, 1), 1, torch.Generator().manual_seed(2)).view(200, 40)
    elbo = torch.stack([net.terms(x).elbo for _ in range(200)])
    apart = (one - elbo).mean(dim=1).numpy()  # of paired windows, independent draws
    assert abs(apart.mean()) < 5 * apart.std(ddof=1) / np.sqrt(len(apart))


def test_the_bound_rises_with_the_number_of_draws(net, x):
    """In expectation: every step up is above 0 by five standard errors of the paired differences."""
    repeats, draws = 100, (1, 5, 50)
    generator = torch.Generator().manual_seed(3)
    means = np.array([[importance_bound(net, x, k, generator).mean() for k in draws] for _ in range(repeats)])
    steps = np.diff(means, axis=1)
    error = steps.std(axis=0, ddof=1) / np.sqrt(repeats)
    assert (steps.mean(axis=0) > 5 * error).all(), (steps.mean(axis=0), error)


@pytest.mark.parametrize("k", [1, 7])
def test_with_the_exact_posterior_any_number_of_draws_gives_the_evidence(k, x):
    exact = LinearGaussian((2, 6), "paths", seed=0)
    bound = importance_bound(exact.net, x, k, torch.Generator().manual_seed(6), batch=20)
    torch.testing.assert_close(bound, exact.log_evidence(x), atol=1e-8, rtol=0)


def test_the_bound_of_many_windows_repeats_and_has_one_value_a_window(net, x):
    one, again = (importance_bound(net, x, 7, torch.Generator().manual_seed(4), batch=16) for _ in range(2))
    assert one.shape == (40,)
    assert torch.equal(one, again)
    assert not one.requires_grad


def test_weights_are_averaged_within_their_window(net, x):
    """Windows that go through the network together do not mix: an impossible one leaves the others alone."""
    wild = x.clone()
    wild[3] = 1e6
    plain, mixed = (importance_bound(net, data, 3, torch.Generator().manual_seed(5)) for data in (x, wild))
    others = torch.arange(40) != 3
    torch.testing.assert_close(mixed[others], plain[others], atol=1e-10, rtol=0)
    assert mixed[3] < plain[3] - 10
