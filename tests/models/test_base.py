"""The contract of the networks, their heads, loss and optimizer groups."""

import math

import pytest
import torch
from torch import nn

from hissbt.errors import ConfigError
from hissbt.models import build_network
from hissbt.models.base import OUTPUTS, Heads, MultiTaskLoss, SequenceNet, parameter_groups
from hissbt.models.hiss import HiSSConfig, HiSSNet

# ------------------------------------------------------------------------------------------- contract


@pytest.mark.parametrize("missing", ["forward", "prefill", "initial_state", "step"])
def test_a_network_that_lacks_a_method_is_refused_when_it_is_defined(missing):
    methods = {name: lambda self, *args: None for name in ("forward", "prefill", "initial_state", "step")}
    del methods[missing]
    with pytest.raises(TypeError, match=f"Half is no SequenceNet: define {missing}"):
        type("Half", (SequenceNet,), methods)


def test_a_subclass_may_inherit_the_methods():
    assert issubclass(type("Variant", (HiSSNet,), {}), SequenceNet)


def test_heads_are_linear_in_the_hidden_state_and_in_the_inputs():
    torch.manual_seed(0)
    heads, hidden, x = Heads(6, 4).double(), torch.randn(50, 6).double(), torch.randn(50, 4).double()
    for parameter in heads.parameters():
        torch.nn.init.normal_(parameter)
    outputs, nothing = heads(hidden, x), heads(torch.zeros(50, 6).double(), torch.zeros(50, 4).double())
    assert tuple(outputs) == OUTPUTS
    skip = x @ heads.skip.weight[0]
    expected = hidden @ heads.readout.weight[0] + skip + nothing["return"][:, 0]
    torch.testing.assert_close(outputs["return"][:, 0], expected)
    assert (outputs["volatility"] > 0).all()
    assert (outputs["direction"] < 0).any()  # a logit, no probability


# ----------------------------------------------------------------------------------------------- loss


@pytest.fixture
def batch():
    torch.manual_seed(0)
    outputs = {name: torch.randn(2, 5, 1).double().requires_grad_() for name in OUTPUTS}
    targets = {
        "return": torch.randn(2, 5, 1).double(),
        "direction": (torch.rand(2, 5, 1) > 0.5).double(),
        "volatility": torch.rand(2, 5, 1).double(),
    }
    return outputs, targets, torch.ones(2, 5, 1, dtype=torch.bool)


def plain_losses(outputs, targets):
    """Return the three means from their definitions."""
    p = torch.sigmoid(outputs["direction"])
    hit = torch.where(targets["direction"] == 1, p, 1 - p)
    return (
        (outputs["return"] - targets["return"]).pow(2).mean(),
        -hit.log().mean(),
        (outputs["volatility"] - targets["volatility"]).pow(2).mean(),
    )


def test_fixed_weights_weigh_the_three_losses(batch):
    mse, bce, volatility = plain_losses(*batch[:2])
    loss = MultiTaskLoss((2, 3, 0.5))(*batch)
    torch.testing.assert_close(loss, 2 * mse + 3 * bce + 0.5 * volatility)


def test_learned_weights_start_from_equal_noise(batch):
    mse, bce, volatility = plain_losses(*batch[:2])
    torch.testing.assert_close(MultiTaskLoss("learned")(*batch), mse / 2 + bce + volatility / 2)


def test_learned_weights_settle_where_the_likelihood_is_greatest(batch):
    """A Gaussian's best variance is its mean squared error; exp(-s) L + s/2 is least at exp(s) = 2 L."""
    loss = MultiTaskLoss("learned").double()
    mse, bce, volatility = (x.detach() for x in plain_losses(*batch[:2]))
    with torch.no_grad():
        loss.log_variance.copy_(torch.stack([mse, 2 * bce, volatility]).log())
    loss(*batch).backward()
    torch.testing.assert_close(loss.log_variance.grad, torch.zeros(3).double())


@pytest.mark.parametrize("weights", [(1, 1, 1), "learned"])
def test_masked_bars_count_for_nothing_even_when_they_are_nan(batch, weights):
    outputs, targets, mask = batch
    loss = MultiTaskLoss(weights)
    short = loss(*({k: v[:, :3] for k, v in part.items()} for part in (outputs, targets)), mask[:, :3])
    mask[:, 3:] = False
    for target in targets.values():
        target[:, 3:] = math.nan
    full = loss(outputs, targets, mask)
    torch.testing.assert_close(full, short)
    full.backward()
    for output in outputs.values():
        assert output.grad[:, 3:].eq(0).all()
        assert output.grad[:, :3].isfinite().all()


def test_no_bar_at_all_is_no_loss(batch):
    outputs, targets, mask = batch
    assert MultiTaskLoss()(outputs, targets, torch.zeros_like(mask)) == 0


@pytest.mark.parametrize("weights", ["equal", (1, 1), (1, -1, 1)], ids=str)
def test_impossible_weights_are_refused(weights):
    with pytest.raises(ConfigError, match="loss weights"):
        MultiTaskLoss(weights)


# --------------------------------------------------------------------------------------------- groups


def test_state_space_parameters_learn_slowly_and_only_matrices_decay():
    net = HiSSNet(HiSSConfig(n_features=3))
    names = {parameter: name for name, parameter in net.named_parameters()}
    ssm, vectors, matrices = parameter_groups(net, lr=0.01, weight_decay=0.1)

    grouped = [names[p] for group in (ssm, vectors, matrices) for p in group["params"]]
    assert sorted(grouped) == sorted(names.values())
    assert (ssm["lr"], ssm["weight_decay"]) == (1e-3, 0)
    assert (vectors["lr"], vectors["weight_decay"]) == (0.01, 0)
    assert (matrices["lr"], matrices["weight_decay"]) == (0.01, 0.1)
    last = {names[p].split("mixer.")[-1] for p in ssm["params"]}
    assert last == {"kernel.log_dt", "kernel.log_A_real", "kernel.A_imag", "A_log", "dt_proj.bias"}
    assert all(p.ndim == 1 for p in vectors["params"])
    assert all(p.ndim > 1 for p in matrices["params"])


def test_the_biases_and_gains_of_cells_side_by_side_are_not_decayed():
    net = build_network("m-tkan", {"n_features": 3, "d_model": 4})
    names = {parameter: name.split(".")[-1] for name, parameter in net.named_parameters()}
    vectors, matrices = parameter_groups(net, lr=0.01, weight_decay=0.1)
    assert {"bias", "gate_bias", "norm_bias", "norm_gain"} <= {names[p] for p in vectors["params"]}
    assert not {name for name in (names[p] for p in matrices["params"]) if "bias" in name or "gain" in name}


def test_a_slow_learning_rate_is_not_raised():
    assert parameter_groups(HiSSNet(HiSSConfig(n_features=3)), 1e-4, 0)[0]["lr"] == 1e-4


def test_a_network_without_state_space_has_no_such_group():
    assert len(parameter_groups(nn.Linear(2, 2), 0.01, 0.1)) == 2
