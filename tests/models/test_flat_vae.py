"""The flat rival: as many latents and parameters as the hierarchy, and nothing of its structure."""

import pytest
import torch

from hissbt.errors import ConfigError
from hissbt.models.flat_vae import FlatVAE, FlatVAEConfig, matched
from hissbt.models.gaussian import Gaussian
from hissbt.models.hvae import HVAEConfig, HVAENet

CONFIGS = {
    "three-scales": HVAEConfig(n_features=1, strides=(4, 16, 64)),
    "hours": HVAEConfig(n_features=5),
    "days": HVAEConfig(n_features=5, strides=(1, 5, 20)),
    "chain": HVAEConfig(n_features=5, decoder="chain", observation="gaussian"),
    "no-patches": HVAEConfig(n_features=5, strides=(1, 24, 168)),
    "four-levels": HVAEConfig(n_features=3, strides=(2, 8, 24, 168), d_latent=(2, 2, 4, 8), d_hidden=32),
    "one-level": HVAEConfig(n_features=1, strides=(8,), d_latent=(4,)),
}


def size(net):
    return sum(parameter.numel() for parameter in net.parameters())


@pytest.fixture
def net():
    torch.manual_seed(0)
    return FlatVAE(matched(HVAEConfig(n_features=2, strides=(2, 6), d_latent=(1, 2), d_hidden=8))).double()


@pytest.fixture
def x():
    return torch.randn(3, 6, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_match_has_as_many_latents_and_nearly_as_many_parameters(config):
    net, flat = HVAENet(config), FlatVAE(matched(config))
    assert abs(size(flat) / size(net) - 1) < 0.02
    x = torch.zeros(1, config.strides[-1], config.n_features)
    latents = [found.numel() for found in net.infer(x).latents]
    assert [found.numel() for found in flat.infer(x).latents] == [sum(latents)]
    assert flat.config.observation == config.observation


def test_making_a_match_draws_no_random_numbers():
    before = torch.get_rng_state()
    matched(CONFIGS["days"])
    assert torch.equal(torch.get_rng_state(), before)


def test_there_is_one_level_and_its_prior_is_standard(net, x):
    terms, found = net.terms(x), net.infer(x)
    assert [level.shape for level in terms.divergence] == [(3, 1, net.config.d_latent)]
    assert all(torch.equal(ours, torch.zeros_like(ours)) for ours in found.priors[0])
    assert terms.elbo.shape == net.log_weights(x).shape == (3,)


def test_any_latent_can_tell_of_any_bar(net):
    z = torch.zeros(1, 1, net.config.d_latent, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda z: net.decode((z,))[0], z)  # [1,W,F,1,1,D]
    assert (jacobian != 0).all()


def test_gradients_flow_to_every_parameter(net, x):
    net.terms(x).elbo.sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.count_nonzero() == parameter.numel(), name


def test_the_weight_at_a_draw_is_its_joint_over_its_posterior_density(net, x):
    found = net.infer(x, lambda q: q.draw(torch.Generator().manual_seed(2)))
    (z,), (q,) = found.latents, found.posteriors
    joint = net.log_likelihood(x, (z,)).sum(dim=(1, 2)) + Gaussian.standard_like(z).log_density(z).sum(dim=(1, 2))
    ours = net.log_weights(x, lambda q: q.draw(torch.Generator().manual_seed(2)))
    torch.testing.assert_close(ours, joint - q.log_density(z).sum(dim=(1, 2)), atol=1e-12, rtol=0)


def test_a_patch_that_does_not_divide_the_window_is_refused():
    with pytest.raises(ConfigError, match="'patch' cannot be 4: it must divide the window 6"):
        FlatVAEConfig(n_features=1, window=6, patch=4, d_latent=2, d_hidden=4, d_joint=4)
