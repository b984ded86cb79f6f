"""The hierarchical VAE: its bound is exact where there is a closed form, and its levels keep to their scales."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from linear_gaussian import LinearGaussian, expected_elbo
from torch.distributions import Independent, Normal, StudentT, kl_divergence

from hissbt.errors import ConfigError
from hissbt.models import build_network
from hissbt.models.hvae import HVAEConfig, parameter_groups

WINDOW = 12


def make(seed=0, **settings):
    """Return a small network in float64, none of whose parameters is at a convenient zero."""
    torch.manual_seed(seed)
    config = {"n_features": 2, "strides": (2, 4, WINDOW), "d_latent": (1, 2, 3), "d_hidden": 8}
    net = build_network("hvae", config | settings).double().eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return net


@pytest.fixture
def x():
    return torch.randn(4, WINDOW, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def mean_of(q):
    return q.mean


def assert_close(ours, theirs, tolerance=1e-10):
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


# ------------------------------------------------------------------------ the linear-Gaussian hierarchy


def spoiled(exact, seed, size):
    """Return the network of ``exact`` after its posteriors' means and deviations were moved at random."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for evidence in exact.net.evidence:
            means = slice(exact.size)
            noise = torch.randn(evidence.weight[means].shape, generator=generator, dtype=torch.float64)
            evidence.weight[means] += size * noise
            evidence.bias += size * torch.randn(evidence.bias.shape, generator=generator, dtype=torch.float64)
    return exact.net


@pytest.fixture(params=[(2, 12), (4, 12), (2, 4, 12), (1, 3, 12), (3, 6, 12)], ids=str)
def strides(request):
    return request.param


@pytest.fixture(params=["paths", "chain"])
def exact(request, strides):
    return LinearGaussian(strides, request.param, seed=sum(strides))


@torch.no_grad()
def test_with_the_exact_posterior_every_draw_weighs_the_evidence(exact, x):
    evidence = exact.log_evidence(x)
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        assert_close(exact.net.log_weights(x, lambda q, of=generator: q.draw(of)), evidence, 1e-8)


@torch.no_grad()
def test_with_the_exact_posterior_the_bound_is_the_evidence(exact, x):
    assert_close(expected_elbo(exact.net, x), exact.log_evidence(x), 1e-8)


@torch.no_grad()
@settings(deadline=None, max_examples=15)
@given(st.integers(0, 2**31), st.floats(1e-3, 0.5))
def test_with_any_other_posterior_the_bound_is_below_the_evidence(seed, size):
    exact = LinearGaussian((2, 4, 12), ("paths", "chain")[seed % 2], seed)
    x = torch.randn(3, WINDOW, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    assert (expected_elbo(spoiled(exact, seed, size), x) < exact.log_evidence(x)).all()


@torch.no_grad()
def test_importance_weights_average_to_the_evidence_whatever_the_posterior(exact, x):
    """E_q[p(x, z) / q(z | x)] = p(x)."""
    evidence = exact.log_evidence(x)
    net = spoiled(exact, seed=2, size=0.05)
    generator = torch.Generator().manual_seed(3)
    weights = net.log_weights(x.repeat(5000, 1, 1), lambda q: q.draw(generator)).view(5000, len(x))
    ratios = torch.exp(weights - evidence)
    error = ratios.std(dim=0) / 5000**0.5
    assert (error < 0.1).all()
    assert ((ratios.mean(dim=0) - 1).abs() < 5 * error).all()


# ----------------------------------------------------------------------------------------- the bound's terms


@torch.no_grad()
@pytest.mark.parametrize("observation", ["student", "gaussian"])
@pytest.mark.parametrize("decoder", ["paths", "chain"])
def test_terms_and_weights_are_torchs(decoder, observation, x):
    net = make(decoder=decoder, observation=observation)

    def draw(q):
        return q.mean + 0.7 * torch.exp(q.log_std)

    found, terms, weights = net.infer(x, draw), net.terms(x, draw), net.log_weights(x, draw)
    posteriors, priors = (
        [Normal(part.mean, part.log_std.exp()) for part in parts] for parts in (found.posteriors, found.priors)
    )
    mean, log_scale = net.decode(found.latents)
    bars = Normal(mean, log_scale.exp())
    if observation == "student":
        bars = StudentT(net.degrees_of_freedom, mean, log_scale.exp())
    surprise = -Independent(bars, 2).log_prob(x)
    kl = [kl_divergence(Independent(q, 2), Independent(p, 2)) for q, p in zip(posteriors, priors, strict=True)]
    assert_close(terms.surprise, surprise)
    for ours, theirs in zip(terms.divergence, kl, strict=True):
        assert_close(ours.sum(dim=(1, 2)), theirs)
    assert_close(terms.elbo, -surprise - sum(kl))
    ratios = [
        (p.log_prob(z) - q.log_prob(z)).sum(dim=(1, 2))
        for z, q, p in zip(found.latents, posteriors, priors, strict=True)
    ]
    assert_close(weights, -surprise + sum(ratios))


@torch.no_grad()
def test_a_levels_prior_follows_from_the_latents_above_alone(x):
    net = make()
    found = net.infer(x)
    for level in range(net.n_levels - 1):
        prior = net.prior_of(level, found.latents[level + 1])
        assert_close(prior.mean, found.priors[level].mean)
        assert_close(prior.log_std, found.priors[level].log_std)
    assert not found.priors[-1].mean.any()
    assert not found.priors[-1].log_std.any()


@pytest.mark.parametrize("observation", ["student", "gaussian"])
def test_gradients_of_the_bound_are_those_of_differences(observation):
    net = make(n_features=1, strides=(1, 2), d_latent=(1, 1), d_hidden=3, observation=observation)
    x = torch.randn(2, 2, 1, dtype=torch.float64, requires_grad=True)

    def bound(x, *_):
        return net.terms(x, lambda q: q.mean + 0.3 * torch.exp(q.log_std)).elbo

    assert torch.autograd.gradcheck(bound, (x, *net.parameters()))


@torch.no_grad()
def test_the_t_distribution_has_a_variance():
    net = make()
    net.excess_df.fill_(-100)
    assert (net.degrees_of_freedom > 2).all()


# -------------------------------------------------------------------------------- levels keep to their scales


@torch.no_grad()
@pytest.mark.parametrize("level", range(3))
def test_a_latent_moves_the_bars_of_its_block_and_no_other(level, x):
    net = make()
    stride, latents = net.config.strides[level], list(net.infer(x, mean_of).latents)
    before = net.decode(tuple(latents))
    for block in range(WINDOW // stride):
        moved = list(latents)
        moved[level] = latents[level].clone()
        moved[level][:, block] += 1
        inside = torch.arange(WINDOW) // stride == block
        for old, new in zip(before, net.decode(tuple(moved)), strict=True):
            assert ((new != old) == inside[:, None]).all()


@torch.no_grad()
@pytest.mark.parametrize("level", [1, 2])
def test_a_level_above_the_finest_moves_the_bars_of_a_block_alike(level, x):
    net = make()
    latents = list(net.infer(x, mean_of).latents)
    before = net.decode(tuple(latents))[0]
    latents[level] = latents[level] + torch.randn_like(latents[level])
    change = (net.decode(tuple(latents))[0] - before).unflatten(1, (-1, net.config.strides[level]))
    assert_close(change, change[:, :, :1].expand_as(change), 1e-12)


@torch.no_grad()
def test_in_a_chain_only_the_finest_level_reaches_the_bars(x):
    net = make(decoder="chain")
    bottom, *rest = net.infer(x, mean_of).latents
    moved = (bottom, *(level + 1 for level in rest))
    for old, new in zip(net.decode((bottom, *rest)), net.decode(moved), strict=True):
        assert torch.equal(old, new)


@torch.no_grad()
def test_windows_in_a_row_do_not_touch(x):
    net = make()
    together = net.infer(x.flatten(0, 1)[None], mean_of).latents
    alone = net.infer(x, mean_of).latents
    for row, windows in zip(together, alone, strict=True):
        assert_close(row[0], windows.flatten(0, 1))
    for row, windows in zip(net.decode(together), net.decode(alone), strict=True):
        assert_close(row[0], windows.flatten(0, 1))


@torch.no_grad()
def test_the_reach_of_a_wild_bar_is_bounded(x):
    net = make()
    tops = []
    for size in (1e4, 1e8):
        wild = x.clone()
        wild[:, 5] = size
        tops.append(net.infer(wild, mean_of).posteriors[-1])
    assert_close(tops[0].mean, tops[1].mean, 1e-2)
    assert_close(tops[0].log_std, tops[1].log_std, 1e-2)


# ------------------------------------------------------------------------------------------------ bar by bar


def online_by_windows(net, x):
    """Return the outputs of each bar of x [B,T,F] from the whole window that ends there."""
    padded = torch.cat([x.new_zeros(len(x), net.warmup - 1, x.shape[2]), x], dim=1)
    windows = padded.unfold(1, net.warmup, 1).transpose(2, 3).flatten(0, 1)  # [B T,W,F]
    found = net.infer(windows, mean_of)
    kl = [level[:, -1].sum(dim=1) for level in net.terms(windows, mean_of).divergence]
    surprise = -net.log_likelihood(windows, found.latents)[:, -1].sum(dim=1, keepdim=True)
    latent = torch.cat([level[:, -1] for level in found.latents], dim=1)
    outputs = {"kl": torch.stack(kl, dim=1), "recon": surprise, "latent": latent}
    return {name: value.unflatten(0, (len(x), -1)) for name, value in outputs.items()}


@torch.no_grad()
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"decoder": "chain"},
        {"observation": "gaussian"},
        {"strides": (1, 3, 12)},
        {"strides": (6,), "d_latent": (3,)},
        {"strides": (1,), "d_latent": (2,)},
    ],
    ids=str,
)
def test_online_outputs_are_those_of_the_window_that_ends_at_the_bar(settings):
    """In every phase of the blocks; before the first bar the window sees zeros."""
    net = make(**settings)
    x = torch.randn(2, 40, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    online, expected = net(x), online_by_windows(net, x)
    for name in net.outputs:
        assert_close(online[name], expected[name], 1e-12)


# ------------------------------------------------------------------------------------------------ the config


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strides": (4, 18, 36)}, "'strides' cannot be"),
        ({"strides": (4, 4, 12)}, "'strides' cannot be"),
        ({"strides": (1, 1, 12)}, "'strides' cannot be"),
        ({"strides": (0, 4, 12)}, "'strides' cannot be"),
        ({"strides": (4, 24)}, "'d_latent' cannot be .* give 2 sizes above 0"),
        ({"d_latent": (2, 0, 8)}, "'d_latent' cannot be"),
        ({"strides": ()}, "'strides' cannot be"),
        ({"decoder": "ladder"}, "'decoder' cannot be"),
    ],
)
def test_levels_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        HVAEConfig(n_features=2, **settings)


# --------------------------------------------------------------------------------------- optimizer groups


@pytest.mark.parametrize(("decoder", "paths"), [("paths", ("path.2.",)), ("chain", ())])
def test_the_top_level_learns_at_half_the_rate(decoder, paths):
    net = make(decoder=decoder)
    rates = {
        id(parameter): group["lr"] for group in parameter_groups(net, 1e-2, 0.1) for parameter in group["params"]
    }
    top = ("bottom_up.2.", "norms.2.", "evidence.2.", "prior.1.", *paths)
    assert len(rates) == len(list(net.parameters()))
    for name, parameter in net.named_parameters():
        assert rates[id(parameter)] == (5e-3 if name.startswith(top) else 1e-2), name


def test_only_matrices_are_decayed():
    for group in parameter_groups(make(), 1e-2, 0.1):
        assert all(parameter.ndim == (2 if group["weight_decay"] else 1) for parameter in group["params"])
