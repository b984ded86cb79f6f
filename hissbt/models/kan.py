"""KAN layers and TKAN, the recurrent network whose output gate is read from small recurrent KAN layers.

KAN: Liu et al., "KAN: Kolmogorov-Arnold Networks", 2024 (arXiv 2404.19756), B-splines on a fixed grid beside a
base function. TKAN: Genet, Inzirillo, "TKAN: Temporal Kolmogorov-Arnold Networks", 2024 (arXiv 2405.07344).
Where their package ``tkan`` (0.4.3) does otherwise than the paper, this does what the package does, to 1e-6:

- the candidate is ``tanh(sigmoid(W_c x + U_c h + b_c))``, where the paper has no tanh;
- a KAN layer normalizes its inputs first (layer norm, eps 1e-3), and its base function is relu;
- ``W_hh`` and ``W_hz``, which carry a sublayer's memory, are vectors that multiply elementwise;
- all sublayers have the same grid and order, where the paper has orders 0 to 4. The package's default is one
  sublayer of order 3 on a grid of 3; three of order 3 on a grid of 5, the defaults here, are those of
  arXiv 2407.15236.

The layer norm makes the sublayers' memories unstable for some weights: then two runs that differ by rounding drift
apart, as in the package. At its starting values a TKAN forgets such differences where its inputs have about unit
deviation; where they are much smaller, the norm sees mostly memory, and they grow.

Every module here holds ``copies`` equal layers, each with weights of its own, that run side by side: a loop over
time in Python costs the same for one as for many.
"""

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor, nn

from hissbt.models.base import Heads, NetworkConfig, SequenceNet
from hissbt.models.rnn import RNNConfig
from hissbt.models.tkan_scan import Splines, Sublayers, kan, run_gates, run_sublayers


class KANLinear(nn.Module):
    """``relu(n) W_b + b + B(n) W_s`` of the normalized input n: x [copies,B,in] to [copies,B,out].

    B are the B-splines of ``order`` on ``grid_size`` equal intervals of [-1, 1], 0 outside their support.

    Args:
        n_in: inputs.
        n_out: outputs.
        grid_size: intervals of the grid.
        order: degree of the splines; from 0, where they are steps, 1 in [left knot, right knot).
        copies: independent layers side by side.
    """

    def __init__(self, n_in: int, n_out: int, grid_size: int = 5, order: int = 3, copies: int = 1):
        super().__init__()
        self.splines = Splines(grid_size, order)
        self.norm_gain = nn.Parameter(torch.ones(copies, n_in))
        self.norm_bias = nn.Parameter(torch.zeros(copies, n_in))
        self.base = nn.Parameter(_glorot(copies, n_in, n_out))
        self.bias = nn.Parameter(torch.zeros(copies, n_out))
        spline = _glorot(copies, n_in * self.splines.count, n_out)
        self.spline = nn.Parameter(spline.unflatten(1, (n_in, self.splines.count)))

    def forward(self, x: Tensor) -> Tensor:
        """Map x [copies,B,in] to [copies,B,out]."""
        return kan(x, self.weights(None, None, None), self.splines)

    def weights(self, states: Tensor | None, new: Tensor | None, old: Tensor | None) -> Sublayers:
        """Return the weights of this layer together with those that make it recurrent."""
        return Sublayers(states, self.norm_gain, self.norm_bias, self.base, self.bias, self.spline, new, old)


class TKANCell(nn.Module):
    """One layer of TKAN. Its state is ``(h, c, memory)``: [copies,B,units] twice, [copies*sublayers,B,sub_output].

    With sublayers l, o_l = KAN_l(x W_lx + m_l W_lh) and m_l' = new_l o_l + old_l m_l; gates i, f and candidate g
    sigmoid(x K + h R + b), and o = sigmoid([o_1..o_L] A + a): c' = f c + i tanh(g), h' = o tanh(c').
    Memories and output gate do not depend on h, so those of a whole sequence are made before the first h.

    Args:
        n_in: inputs. Of one alone the layer norm leaves 0, of two their order: the sublayers want more.
        units: width of h and c.
        n_sublayers: recurrent KAN layers.
        sub_output: outputs of each of them.
        grid_size: intervals of their grid.
        order: degree of their splines.
        copies: independent cells side by side.
    """

    def __init__(
        self,
        n_in: int,
        units: int,
        n_sublayers: int = 3,
        sub_output: int = 10,
        grid_size: int = 5,
        order: int = 3,
        copies: int = 1,
    ):
        super().__init__()
        self.units, self.n_sublayers, self.sub_output, self.copies = units, n_sublayers, sub_output, copies
        every = copies * n_sublayers
        self.kernel = nn.Parameter(_glorot(copies, n_in, 3 * units))  # i, f, g
        self.recurrent = nn.Parameter(_orthogonal(copies, units, 3 * units))
        self.bias = nn.Parameter(torch.zeros(copies, 3 * units))
        with torch.no_grad():
            self.bias[:, units : 2 * units] = 1  # remember, at first
        self.sub_inputs = nn.Parameter(_orthogonal(copies, n_sublayers * n_in, n_in).reshape(every, n_in, n_in))
        sub_states = _orthogonal(copies, n_sublayers * sub_output, n_in)
        self.sub_states = nn.Parameter(sub_states.reshape(every, sub_output, n_in))
        memory = _orthogonal(copies, n_sublayers, 2 * sub_output).reshape(every, 2 * sub_output)
        self.new, self.old = (nn.Parameter(part.clone()) for part in memory.chunk(2, dim=-1))
        self.kan = KANLinear(n_in, sub_output, grid_size, order, every)
        self.gate = nn.Parameter(_glorot(copies, n_sublayers * sub_output, units))
        self.gate_bias = nn.Parameter(torch.zeros(copies, units))

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the zero state."""
        zeros = self.kernel.new_zeros
        h = zeros(self.copies, batch, self.units)
        return h, h, zeros(self.copies * self.n_sublayers, batch, self.sub_output)

    def forward(self, x: Tensor, state: tuple) -> tuple[Tensor, tuple]:
        """Run x [copies or 1,B,T,in], T > 0, from a state; return h [copies,B,T,units] and the new state."""
        h, c, memory = state
        outputs, memory = self._sublayers(x, memory)  # [copies,B,T,sublayers*sub_output]
        opened = torch.sigmoid(outputs @ self.gate[:, None] + self.gate_bias[:, None, None])
        hidden, h, c = run_gates(x @ self.kernel[:, None] + self.bias[:, None, None], opened, self.recurrent, h, c)
        return hidden, (h, c, memory)

    def _sublayers(self, x: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Run the recurrent KAN layers and put the outputs of each copy side by side."""
        x = x.expand(self.copies, -1, -1, -1).repeat_interleave(self.n_sublayers, dim=0)
        weights = self.kan.weights(self.sub_states, self.new, self.old)
        outputs, memory = run_sublayers(x @ self.sub_inputs[:, None], memory, weights, self.kan.splines)
        outputs = outputs.unflatten(0, (self.copies, self.n_sublayers))  # [copies,L,B,T,O]
        return outputs.movedim(1, 3).flatten(3), memory


class TKAN(nn.Module):
    """A stack of TKAN cells. Its state is a tuple of their states.

    Args:
        n_in: inputs.
        units: width of each layer.
        n_layers: cells, each fed with h of the one before.
        dropout: on h between the layers, in training.
        copies: independent stacks side by side.
        **cell: further arguments of ``TKANCell``.
    """

    def __init__(
        self, n_in: int, units: int, n_layers: int = 1, dropout: float = 0.0, copies: int = 1, **cell: int
    ):
        super().__init__()
        self.copies, self.units = copies, units
        widths = [n_in, *[units] * (n_layers - 1)]
        self.cells = nn.ModuleList(TKANCell(width, units, copies=copies, **cell) for width in widths)
        self.dropout = nn.Dropout(dropout)

    def initial_state(self, batch: int) -> tuple:
        """Return the zero state."""
        return tuple(cell.initial_state(batch) for cell in self.cells)

    def forward(self, x: Tensor, state: tuple) -> tuple[Tensor, tuple]:
        """Run x [B,T,in] from a state; return h of the last layer [copies,B,T,units], and the new state."""
        if x.shape[1] == 0:
            return x.new_zeros(self.copies, *x.shape[:2], self.units), state
        hidden, states = x[None], []
        for i, (cell, before) in enumerate(zip(self.cells, state, strict=True)):
            hidden, after = cell(self.dropout(hidden) if i else hidden, before)
            states.append(after)
        return hidden, tuple(states)


class SublayerConfig(NetworkConfig):
    """Settings of the recurrent KAN layers inside a TKAN."""

    n_sublayers: PositiveInt = 3  # of each cell
    sub_output: PositiveInt = 10  # outputs of a sublayer, which are its memory too
    grid_size: PositiveInt = 5  # intervals of the splines' grid
    order: NonNegativeInt = 3  # degree of the splines

    def sublayers(self) -> dict[str, int]:
        """Return these settings alone, as ``TKAN`` takes them."""
        return {name: getattr(self, name) for name in SublayerConfig.model_fields}


class TKANConfig(SublayerConfig, RNNConfig):
    """Settings of a TKANNet."""


class TKANNet(SequenceNet):
    """A TKAN with the heads of every forecaster; the state is that of ``TKAN``."""

    def __init__(self, config: TKANConfig):
        super().__init__()
        self.config = config
        self.rnn = TKAN(
            config.n_features, config.d_model, config.n_layers, config.dropout, **config.sublayers()
        )  # fmt: skip
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
        return self.rnn.initial_state(batch)

    def step(self, x: Tensor, state: tuple) -> tuple[dict[str, Tensor], tuple]:
        """Run one bar x [B,F] and return (each output as [B,1], new state)."""
        outputs, state = self._run(x[:, None], state)
        return {name: value[:, 0] for name, value in outputs.items()}, state

    def _run(self, x: Tensor, state: tuple) -> tuple[dict[str, Tensor], tuple]:
        """Go on from a state over x [B,T,F]."""
        hidden, state = self.rnn(x, state)
        return self.heads(self.dropout(hidden[0]), x), state


def _glorot(copies: int, n_in: int, n_out: int) -> Tensor:
    """Return [copies,in,out], uniform with a variance of 2 / (in + out)."""
    return torch.stack([nn.init.xavier_uniform_(torch.empty(n_in, n_out)) for _ in range(copies)])


def _orthogonal(copies: int, rows: int, columns: int) -> Tensor:
    """Return [copies,rows,columns], each orthonormal along its shorter side."""
    return torch.stack([nn.init.orthogonal_(torch.empty(rows, columns)) for _ in range(copies)])
