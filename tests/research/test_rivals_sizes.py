"""Networks of equal size."""

import pytest

from hissbt.errors import ConfigError
from hissbt.models import build_network
from hissbt.research.rivals.networks import HISS
from hissbt.research.rivals.roster import NETWORKS
from hissbt.research.rivals.sizes import parameters_of, width_for


@pytest.mark.parametrize("features", [4, 38])
@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "HiSS"])
def test_every_network_can_be_as_large_as_hiss(name, features):
    kind, base = NETWORKS[name]
    wanted = parameters_of("hiss", HISS, features)
    found = width_for(kind, base, features, wanted)
    assert parameters_of(kind, found, features) == pytest.approx(wanted, rel=0.03)
    assert found.items() >= base.items()


def test_what_is_counted_is_what_a_network_has():
    net = build_network("hiss", {**HISS, "n_features": 5})
    assert parameters_of("hiss", HISS, 5) == sum(parameter.numel() for parameter in net.parameters())


def test_a_size_that_no_width_gives_is_refused():
    with pytest.raises(ConfigError, match="nearest has"):
        width_for("lstm", {}, 17, 20)
