"""The hierarchical VAE: its bound is exact where there is a closed form, and its levels keep to their scales."""

import pytest

from hissbt.models import build_network
from hissbt.models.hvae import parameter_groups


def make(**settings):
    return build_network("hvae", {"n_features": 2, "strides": (2, 4, 12), "d_hidden": 8} | settings).double()


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
