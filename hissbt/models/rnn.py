"""Recurrent baselines: LSTM and GRU, as ``torch.nn.LSTM`` and ``torch.nn.GRU`` compute them.

LSTM: Hochreiter, Schmidhuber, "Long Short-Term Memory", Neural Computation 9(8), 1997, with the forget gate of
Gers, Schmidhuber, Cummins, 2000. GRU: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder",
2014 (arXiv 1406.1078).
"""

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from hissbt.models.base import Heads, NetworkConfig, SequenceNet


class RNNConfig(NetworkConfig):
    """Settings of an LSTMNet or a GRUNet."""

    n_features: PositiveInt  # inputs per bar
    d_model: PositiveInt = 64  # hidden units of each layer
    n_layers: PositiveInt = 1
    dropout: float = Field(0.0, ge=0, lt=1)  # on the output of every layer


class RNNNet(SequenceNet):
    """What LSTMNet and GRUNet share. The state is torch's: ``(h, c)`` or ``(h,)``, each [layers,B,d_model]."""

    cell: type[nn.RNNBase]
    parts: int
    """Tensors in a state."""

    def __init__(self, config: RNNConfig):
        super().__init__()
        self.config = config
        between_layers = config.dropout if config.n_layers > 1 else 0.0
        self.rnn = self.cell(
            config.n_features, config.d_model, config.n_layers, batch_first=True, dropout=between_layers
        )
        self.dropout = nn.Dropout(config.dropout)
        self.heads = Heads(config.d_model, config.n_features)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Run x [B,T,F] and return each output as [B,T,1]."""
        return self.prefill(x)[0]

    def prefill(self, x: Tensor) -> tuple[dict[str, Tensor], tuple]:
        """Run x [B,T,F] and return (what forward returns, the state after the last bar)."""
        return self._run(x, self.initial_state(len(x)))

    def initial_state(self, batch: int) -> tuple:
        """Return the zero state."""
        shape = self.config.n_layers, batch, self.config.d_model
        return tuple(self.heads.readout.weight.new_zeros(shape) for _ in range(self.parts))

    def step(self, x: Tensor, state: tuple) -> tuple[dict[str, Tensor], tuple]:
        """Run one bar x [B,F] and return (each output as [B,1], new state)."""
        outputs, state = self._run(x[:, None], state)
        return {name: value[:, 0] for name, value in outputs.items()}, state

    def _run(self, x: Tensor, state: tuple) -> tuple[dict[str, Tensor], tuple]:
        """Go on from a state over x [B,T,F]."""
        if x.shape[1] == 0:  # torch refuses to run over nothing
            return self.heads(x.new_zeros(*x.shape[:2], self.config.d_model), x), state
        hidden, last = self.rnn(x, state if self.parts > 1 else state[0])  # [B,T,D]
        return self.heads(self.dropout(hidden), x), (last,) if isinstance(last, torch.Tensor) else tuple(last)


class LSTMNet(RNNNet):
    """Long short-term memory; the state is ``(h, c)``, hidden and cell state [layers,B,d_model]."""

    cell, parts = nn.LSTM, 2


class GRUNet(RNNNet):
    """Gated recurrent units; the state is ``(h,)``, [layers,B,d_model]."""

    cell, parts = nn.GRU, 1
