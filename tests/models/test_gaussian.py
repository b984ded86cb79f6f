"""Gaussians and the t distribution against torch.distributions, and against the algebra they stand for."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, StudentT, kl_divergence

from hissbt.limits import BOUND
from hissbt.models.gaussian import Gaussian, bent, divergence, merged, student_log_density

means = st.floats(-20, 20)
log_stds = st.floats(-BOUND, BOUND)
variables = st.tuples(means, log_stds)
at_leisure = settings(deadline=None)  # the first call of a torch function can take a second


def gaussian(variable):
    mean, log_std = torch.tensor(variable, dtype=torch.float64)[:, None]
    return Gaussian(mean, log_std)


def normal(variable: Gaussian):
    return Normal(variable.mean, variable.log_std.exp())


def assert_close(ours, theirs, relative=1e-10, absolute=1e-10):
    torch.testing.assert_close(ours, theirs, rtol=relative, atol=absolute)


@at_leisure
@given(variables, variables)
def test_the_divergence_is_torchs(q, p):
    q, p = gaussian(q), gaussian(p)
    assert_close(divergence(q, p), kl_divergence(normal(q), normal(p)))


@at_leisure
@given(variables)
def test_nothing_diverges_from_itself(q):
    assert divergence(gaussian(q), gaussian(q)) == 0


@at_leisure
@given(variables, st.floats(-1e-7, 1e-7))
def test_the_divergence_from_a_near_twin_is_not_lost_in_rounding(q, apart):
    """KL(N(m, s e^a) || N(m, s)) = a² + O(a³): differences of large terms would leave 1e-16 of it."""
    p = gaussian(q)
    q = Gaussian(p.mean, p.log_std + apart)
    excess = q.log_std - p.log_std  # as rounded
    assert_close(divergence(q, p), excess**2, relative=1e-6, absolute=1e-22)


@at_leisure
@given(variables, means)
def test_the_density_is_torchs(q, z):
    q, z = gaussian(q), torch.tensor([z], dtype=torch.float64)
    assert_close(q.log_density(z), normal(q).log_prob(z))


@at_leisure
@given(variables, variables, st.tuples(means, means))
def test_merging_is_multiplying_densities(a, b, points):
    """ln a(z) + ln b(z) - ln merged(z) does not depend on z."""
    a, b = gaussian(a), gaussian(b)
    z = torch.tensor(points, dtype=torch.float64)[:, None]
    parts = torch.stack([a.log_density(z), b.log_density(z), -merged(a, b).log_density(z)])
    constant = parts.sum(dim=0)
    assert_close(constant[0], constant[1], absolute=1e-10 * (1 + parts.abs().max().item()))


@at_leisure
@given(variables, variables)
def test_merging_does_not_depend_on_the_order(a, b):
    one, other = merged(gaussian(a), gaussian(b)), merged(gaussian(b), gaussian(a))
    assert_close(one.mean, other.mean)
    assert_close(one.log_std, other.log_std)


@at_leisure
@given(variables, variables)
def test_merging_knows_more_than_either(a, b):
    a, b = gaussian(a), gaussian(b)
    both = merged(a, b)
    assert both.log_std <= min(a.log_std, b.log_std)
    assert min(a.mean, b.mean) - 1e-12 <= both.mean <= max(a.mean, b.mean) + 1e-12


@at_leisure
@given(means, means, log_stds, st.floats(2.05, 200))
def test_the_t_density_is_torchs(x, mean, log_scale, df):
    x, mean, log_scale, df = torch.tensor([x, mean, log_scale, df], dtype=torch.float64)[:, None]
    assert_close(student_log_density(x, mean, log_scale, df), StudentT(df, mean, log_scale.exp()).log_prob(x))


@at_leisure
@given(st.floats(-1e6, 1e6))
def test_a_log_deviation_stays_in_its_bounds_and_in_order(value):
    value = torch.tensor(value, dtype=torch.float64)
    assert -BOUND <= bent(value) <= BOUND
    assert bent(value) <= bent(value + 1)


def test_a_small_log_deviation_is_left_alone():
    value = torch.linspace(-0.1, 0.1, 11, dtype=torch.float64)
    assert_close(bent(value), value, absolute=2e-5)


def test_raw_numbers_are_means_and_then_log_deviations():
    raw = torch.tensor([[1.0, 2.0, 0.3, -40.0]])
    found = Gaussian.of(raw)
    assert_close(found.mean, raw[:, :2])
    assert_close(found.log_std, bent(raw[:, 2:]))


def test_draws_repeat_with_their_generator_and_have_mean_and_deviation():
    q = Gaussian(torch.full((100_000,), 3.0), torch.full((100_000,), -1.0))
    one, again = (q.draw(torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(one, again)
    assert abs(one.mean() - 3) < 5 * torch.e**-1 / 100_000**0.5
    assert abs(one.std() / torch.e**-1 - 1) < 5 / 200_000**0.5


def test_a_draw_passes_gradients_on():
    mean, log_std = torch.zeros(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    z = Gaussian(mean, log_std).draw(torch.Generator().manual_seed(0))
    z.sum().backward()
    assert torch.equal(mean.grad, torch.ones(4))
    assert_close(log_std.grad, z.detach())
