"""Torch networks, one family a file: forward over a whole sequence, step over one bar."""

from hissbt.errors import ConfigError
from hissbt.models.base import MultiTaskLoss, SequenceNet, parameter_groups
from hissbt.models.hiss import HiSSConfig, HiSSNet
from hissbt.models.hvae import HVAEConfig, HVAENet
from hissbt.models.kan import TKANConfig, TKANNet
from hissbt.models.rnn import GRUNet, LSTMNet, RNNConfig
from hissbt.models.switching import (
    SwitchingConfig,
    SwitchingGRU,
    SwitchingLSTM,
    SwitchingNet,
    SwitchingTKAN,
    SwitchingTKANConfig,
)
from hissbt.models.transformer import TransformerConfig, TransformerNet

__all__ = [
    "GRUNet",
    "HVAEConfig",
    "HVAENet",
    "HiSSConfig",
    "HiSSNet",
    "LSTMNet",
    "MultiTaskLoss",
    "RNNConfig",
    "SequenceNet",
    "SwitchingConfig",
    "SwitchingGRU",
    "SwitchingLSTM",
    "SwitchingNet",
    "SwitchingTKAN",
    "SwitchingTKANConfig",
    "TKANConfig",
    "TKANNet",
    "TransformerConfig",
    "TransformerNet",
    "build_network",
    "parameter_groups",
]

NETWORKS = {
    "hiss": (HiSSNet, HiSSConfig),
    "lstm": (LSTMNet, RNNConfig),
    "gru": (GRUNet, RNNConfig),
    "transformer": (TransformerNet, TransformerConfig),
    "tkan": (TKANNet, TKANConfig),
    "m-gru": (SwitchingGRU, SwitchingConfig),
    "m-lstm": (SwitchingLSTM, SwitchingConfig),
    "m-tkan": (SwitchingTKAN, SwitchingTKANConfig),
    "hvae": (HVAENet, HVAEConfig),
}


def build_network(kind: str, config: dict) -> SequenceNet:
    """Build the network of a kind, a key of ``NETWORKS``, from its settings: the fields of its config class.

    Raises:
        ConfigError: an unknown kind or setting, or a value out of range.
    """
    if kind not in NETWORKS:
        raise ConfigError(f"unknown network {kind!r}: choose one of {', '.join(NETWORKS)}")
    network, settings = NETWORKS[kind]
    return network(settings(**config))
