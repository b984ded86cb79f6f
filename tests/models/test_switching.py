"""Switching networks: torch's cells in every regime, the article's transitions, and nothing known too early."""

import math

import numpy as np
import pytest
import torch
from soak.two_regimes import compare
from torch import nn

from hissbt.errors import ConfigError
from hissbt.models import build_network, switching
from hissbt.models.hamilton import CompiledFilter, filter_in_torch
from hissbt.models.switching import (
    LikelihoodLoss,
    RegimeLoss,
    SwitchingConfig,
    Transitions,
    hamilton_filter,
    normal_log_density,
    return_log_likelihood,
)

KINDS = ("m-gru", "m-lstm", "m-tkan")
CELLS = {"m-gru": nn.GRU, "m-lstm": nn.LSTM}
FEATURES = 4


def make(kind, seed=0, **settings):
    """Return a network in float64 whose read-outs matter."""
    torch.manual_seed(seed)
    config = {"n_features": FEATURES, "d_model": 6, "return_column": 1, "covariate_columns": (0, 2, 3)}
    net = build_network(kind, config | settings).double()
    with torch.no_grad():
        for parameter in (net.readout, net.skip, net.readout_bias, net.transitions.linear.weight):
            parameter += 0.3 * torch.randn_like(parameter)
    return net.eval()


@pytest.fixture
def x():
    return torch.randn(2, 60, FEATURES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def assert_close(ours, theirs, tolerance=1e-10):
    torch.testing.assert_close(ours, theirs, atol=tolerance, rtol=0)


# ---------------------------------------------------------------------------------------------- the parts


@torch.no_grad()
@pytest.mark.parametrize("n_layers", [1, 2])
@pytest.mark.parametrize("kind", CELLS)
def test_regimes_are_torchs_own_cells(kind, n_layers, x):
    net = make(kind, n_layers=n_layers, n_regimes=3)
    outputs, state = net.prefill(x)
    for regime, stack in enumerate(net.regimes.stacks):
        oracle = CELLS[kind](FEATURES, 6, n_layers, batch_first=True).double()
        oracle.load_state_dict(stack.state_dict())
        hidden, last = oracle(x)
        expected = hidden @ net.readout[regime] + x @ net.skip[regime] + net.readout_bias[regime]
        assert_close(outputs["regime_return"][..., regime], expected, 1e-12)
        for ours, theirs in zip(state[0][regime], last if kind == "m-lstm" else (last,), strict=True):
            assert_close(ours, theirs, 1e-12)


@torch.no_grad()
@pytest.mark.parametrize("transition", ["multiplied", "logits"])
@pytest.mark.parametrize("kind", KINDS)
def test_beliefs_are_the_filters_given_what_was_forecast_one_bar_before(kind, transition, x):
    """Put together from the outputs alone, bar by bar, with the plain filter."""
    net = make(kind, transition=transition, n_regimes=3)
    outputs = net(x)
    hidden, _ = net.covariates(x[..., [0, 2, 3]], net.covariates.initial_state(2))
    first = net.transitions.first().expand(2, 3, 3)
    after = net.transitions(hidden[0], first)
    means, deviation = outputs["regime_return"], outputs["regime_volatility"][0, 0]
    forecast = torch.cat([torch.zeros(2, 1, 3, dtype=torch.float64), means[:, :-1]], dim=1)
    loglik = torch.distributions.Normal(forecast, deviation).log_prob(x[..., 1:2])
    matrices = torch.cat([first[:, None], after[:, :-1]], dim=1)
    filtered, _, _ = hamilton_filter(loglik, matrices, torch.full((3,), 1 / 3, dtype=torch.float64))
    assert_close(outputs["filtered"], filtered)
    assert_close(outputs["belief"], torch.einsum("btk,btkj->btj", filtered, after))


@torch.no_grad()
@pytest.mark.parametrize("unit_diagonal", [False, True])
def test_matrices_are_the_articles_product_and_row_softmax(unit_diagonal):
    config = SwitchingConfig(n_features=3, d_model=5, n_regimes=3, unit_diagonal=unit_diagonal)
    torch.manual_seed(0)
    transitions = Transitions(config).double()
    transitions.linear.weight.mul_(20)
    hidden = torch.randn(1, 30, 5, dtype=torch.float64)
    matrices = transitions(hidden, transitions.first()[None])
    matrix = transitions.first().numpy()
    for t in range(30):
        factor = np.exp(np.maximum(transitions.linear(hidden[0, t]).reshape(3, 3).numpy(), 0))
        if unit_diagonal:
            np.fill_diagonal(factor, 1.0)
        matrix = np.exp(matrix * factor)
        matrix /= matrix.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(matrices[0, t], matrix, atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("transition", ["multiplied", "logits"])
@pytest.mark.parametrize("k", [2, 4])
def test_a_regime_stays_as_long_as_asked_before_anything_is_learned(transition, k):
    config = SwitchingConfig(n_features=3, n_regimes=k, transition=transition, persistence=0.9)
    transitions = Transitions(config).double()
    transitions.linear.weight.zero_()
    matrices = transitions(torch.zeros(1, 50, config.d_model).double(), transitions.first()[None])
    stays = matrices.diagonal(dim1=-2, dim2=-1)
    assert_close(stays, torch.full_like(stays, 0.9), 1e-6)
    assert_close(matrices.sum(-1), torch.ones(1, 50, k, dtype=torch.float64))


@torch.no_grad()
def test_with_a_unit_diagonal_no_regime_can_last():
    """The article allows it; but factors off the diagonal are at least 1, so every row drifts towards leaving."""
    transitions = Transitions(SwitchingConfig(n_features=3, unit_diagonal=True, persistence=0.99)).double()
    matrices = transitions(torch.randn(1, 50, 64).double(), transitions.first()[None])
    assert matrices[0, 10:].diagonal(dim1=-2, dim2=-1).max() <= 0.5


@torch.no_grad()
def test_extreme_covariates_leave_probabilities():
    transitions = Transitions(SwitchingConfig(n_features=3, d_model=2)).double()
    transitions.linear.weight.normal_(generator=torch.Generator().manual_seed(0))
    matrices = transitions(1e6 * torch.randn(1, 200, 2).double(), transitions.first()[None])
    assert matrices.isfinite().all()
    assert_close(matrices.sum(-1), torch.ones(1, 200, 2, dtype=torch.float64))


@pytest.mark.parametrize("k", [2, 3])
def test_the_compiled_loops_are_torchs_operations(k):
    generator = torch.Generator().manual_seed(k)

    def normal(*shape):
        return torch.randn(3, *shape, generator=generator, dtype=torch.float64)

    def results(run, *inputs):
        inputs = [z.requires_grad_() for z in inputs]
        outputs = run(*inputs)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = sum((z * torch.linspace(-1, 1, z.numel()).view_as(z)).sum() for z in outputs)
        return *outputs, *torch.autograd.grad(loss, inputs)

    filtering = normal(40, k), normal(40, k, k).log_softmax(-1), normal(k).log_softmax(-1)
    products = normal(40, k, k).exp(), normal(k, k).softmax(-1)
    for pair, inputs in (
        ((CompiledFilter.apply, filter_in_torch), filtering),
        ((switching.CompiledMatrices.apply, switching.matrices_in_torch), products),
    ):
        for ours, theirs in zip(*(results(run, *inputs) for run in pair), strict=True):
            assert_close(ours, theirs, 1e-12)


# ---------------------------------------------------------------------------------------------- causality


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_covariates_alone_drive_the_transitions(kind, x):
    net = make(kind)
    other = x.clone()
    other[..., 1] = 5 - 2 * other[..., 1]  # the return's column
    (*_, matrix, _, _), (*_, same, _, _) = net.prefill(x)[1], net.prefill(other)[1]
    assert torch.equal(matrix, same)


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_bar_is_judged_by_what_was_forecast_before_it(kind, x):
    """Covariates of a bar may alter its forecast and the next step, never which regime the bar itself was of."""
    net = make(kind)
    t = 30
    altered = x.clone()
    altered[:, t, [0, 2, 3]] = 7.0
    before, after = net(x), net(altered)
    assert torch.equal(before["filtered"][:, : t + 1], after["filtered"][:, : t + 1])
    assert not torch.equal(before["belief"][:, t], after["belief"][:, t])
    assert not torch.equal(before["regime_return"][:, t], after["regime_return"][:, t])
    assert not torch.equal(before["filtered"][:, t + 1], after["filtered"][:, t + 1])


@pytest.mark.parametrize("kind", KINDS)
def test_labels_enter_losses_only(kind, x):
    """Permuting those from t on changes no loss, and so no gradient, of the bars before."""
    net = make(kind)
    labels = torch.randint(0, 2, (2, 60, 1), generator=torch.Generator().manual_seed(2)).double()
    t, gradients = 40, []
    for future in (labels[:, t:], labels[:, t:].flip(1)):
        targets = torch.cat([labels[:, :t], future], dim=1)
        mask = torch.arange(60)[:, None].expand(2, 60, 1) < t
        loss = RegimeLoss()(net(x), {"regime": targets}, mask)
        gradients.append(torch.autograd.grad(loss, list(net.parameters()), allow_unused=True))
    assert not torch.equal(labels[:, t:], labels[:, t:].flip(1))
    for one, other in zip(*gradients, strict=True):
        assert one is other is None or torch.equal(one, other)


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_two_layers_step_as_they_run(kind, dtype, x):
    """At the sources' depth, from any bar on, all outputs of the regimes too."""
    net, x = make(kind, n_layers=2, d_model=20).to(dtype), x.to(dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-10
    whole = net(x)
    for split in (0, 1, 25, 59):
        _, state = net.prefill(x[:, :split])
        for t in range(split, 60):
            outputs, state = net.step(x[:, t], state)
            for name, value in outputs.items():
                assert_close(value, whole[name][:, t], tolerance)


# ---------------------------------------------------------------------------------- outputs and their losses


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_are_those_of_the_mixture(kind, x):
    net = make(kind, n_regimes=3, zero_return=0.3)
    outputs = net(x)
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(outputs["belief"]),
        torch.distributions.Normal(outputs["regime_return"], outputs["regime_volatility"]),
    )
    assert_close(outputs["return"][..., 0], mixture.mean)
    assert_close(outputs["volatility"][..., 0], mixture.variance.sqrt())
    down = mixture.cdf(torch.full((2, 60), 0.3, dtype=torch.float64))
    assert_close(outputs["direction"][..., 0].sigmoid(), 1 - down)
    values = torch.randn(2, 60, 1, dtype=torch.float64)
    assert_close(return_log_likelihood(outputs, values)[..., 0], mixture.log_prob(values[..., 0]))


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_probabilities_sum_to_one_and_deviations_start_apart(kind, x):
    outputs = make(kind, n_regimes=4)(x)
    for name in ("belief", "filtered"):
        assert_close(outputs[name].sum(-1), torch.ones(2, 60, dtype=torch.float64))
    deviations = outputs["regime_volatility"][0, 0]
    assert_close(deviations, torch.linspace(-0.5, 0.5, 4, dtype=torch.float64).exp(), 1e-6)


@torch.no_grad()
def test_the_likelihood_of_next_returns_is_the_filters_own(x):
    """Two ways to the same number: outputs at t with the return of t+1, and the filter's log density at t+1."""
    net = make("m-gru")
    (_, _, _, state, means), rest = net.prefill(x[:, :-1])[1], x[:, -1, 1:2]
    outputs = net(x)
    ours = return_log_likelihood({name: v[:, -2] for name, v in outputs.items()}, rest)
    predicted = outputs["belief"][:, -2]
    deviation = outputs["regime_volatility"][:, -1]
    joint = predicted.log() + normal_log_density(rest, means, deviation)
    assert_close(ours, joint.logsumexp(-1, keepdim=True))
    assert_close(state.exp(), outputs["filtered"][:, -2])
    assert_close(outputs["filtered"][:, -1], (joint - ours).exp())


@torch.no_grad()
@pytest.mark.parametrize("kind", ["m-gru", "gru"])
def test_losses_are_means_over_the_bars_of_the_mask(kind, x):
    net = build_network(kind, {"n_features": FEATURES, "d_model": 4}).double()
    outputs, mask = net(x), torch.zeros(2, 60, 1)
    mask[0, 50:], mask[1, 20:30] = 1, 1
    labels = torch.randint(0, 2, (2, 60, 1)).double()
    returns = torch.randn(2, 60, 1, dtype=torch.float64)
    chosen = mask.bool()
    targets = {"return": returns.masked_fill(~chosen, torch.nan), "regime": labels.masked_fill(~chosen, torch.nan)}
    likelihood = return_log_likelihood(outputs, returns)[chosen].mean()
    assert_close(LikelihoodLoss()(outputs, targets, mask), -likelihood)
    bull = outputs["belief"][..., 1:] if "belief" in outputs else outputs["direction"].sigmoid()
    entropy = torch.where(labels == 1, bull, 1 - bull).log()[chosen].mean()
    assert_close(RegimeLoss()(outputs, targets, mask), -entropy)


@torch.no_grad()
def test_a_twin_forecasts_one_normal_distribution(x):
    outputs = build_network("lstm", {"n_features": FEATURES}).double()(x)
    values = torch.randn(2, 60, 1, dtype=torch.float64)
    expected = torch.distributions.Normal(outputs["return"], outputs["volatility"]).log_prob(values)
    assert_close(return_log_likelihood(outputs, values), expected)


@pytest.mark.parametrize("loss", [LikelihoodLoss(), RegimeLoss()], ids=lambda loss: type(loss).__name__)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_after_an_outlier(kind, loss, x):
    net = make(kind)
    x = x.clone()
    x[0, 30, 1] = 1e3
    targets = {"return": x[..., 1:2].roll(-1, 1), "regime": (x[..., 1:2] > 0).double()}
    loss(net(x), targets, torch.ones(2, 60, 1)).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_two_regimes_are_learned_where_there_are_two():
    """One seed of ten; ``python -m tests.soak.two_regimes`` has them all."""
    row = compare("m-lstm", seed=0)
    assert row["gain"] > 0.02
    assert math.isfinite(row["two_regimes"])


# ----------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("n_regimes", 1),
        ("return_column", 3),
        ("covariate_columns", (0, 3)),
        ("covariate_columns", ()),
        ("transition", "softmax"),
        ("persistence", 1.0),
        ("dropout", 1.0),
    ],
)
def test_a_wrong_setting_is_named(kind, setting, value):
    with pytest.raises(ConfigError, match=setting):
        build_network(kind, {"n_features": 3, setting: value})


def test_a_network_of_returns_alone_has_no_covariates():
    with pytest.raises(ConfigError, match="covariate_columns"):
        build_network("m-gru", {"n_features": 1})


def test_all_columns_but_the_return_are_covariates_by_default():
    assert SwitchingConfig(n_features=4, return_column=1).covariates == (0, 2, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_works_in_training_only(kind, x):
    net = make(kind, dropout=0.5, n_layers=2).train()
    assert not torch.equal(net(x)["return"], net(x)["return"])
    net.eval()
    assert torch.equal(net(x)["return"], net(x)["return"])
