"""Switching recurrent networks: m-GRU, m-LSTM and m-TKAN, regimes told apart by a Hamilton filter.

After Inzirillo, "Deep State Space Recurrent Neural Networks for Time Series Forecasting", 2024 (arXiv 2407.15236),
section 4. A hidden Markov chain has K regimes. Each has a recurrent network over all features that gives the
return to expect if it is the next bar's; one more, over covariates only, gives the transition matrix. With r(t)
the return that bar t realized and sigma(k) a learned deviation:

    bar t-1     mean(k, t-1) from features to t-1;  P(t) from covariates to t-1;  filtered(t-1)
    bar t       predicted(t) = filtered(t-1) P(t)                   what was forecast before t ...
                filtered(t) ~ predicted(t) N(r(t); mean(k, t-1), sigma(k))    ... is judged by what t realized
                belief(t) = filtered(t) P(t+1)                      the regimes of the bar to come

so nothing enters that was not known when bar t closed: labels least of all, they are for losses only. The article
leaves sigma, the first belief and the first matrix open: here sigma is a parameter, before the first bar all
regimes are equally probable, expect 0 and stay with the probability ``persistence``.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field, NonNegativeInt, model_validator
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from hissbt.errors import ConfigError
from hissbt.limits import LEAST_DEVIATION
from hissbt.models.base import SequenceNet
from hissbt.models.hamilton import HamiltonFilter, arrays, hamilton_filter, safe_log
from hissbt.models.kan import TKAN, SublayerConfig
from hissbt.models.rnn import RNNConfig

__all__ = [
    "HamiltonFilter",
    "LikelihoodLoss",
    "RegimeLoss",
    "SwitchingConfig",
    "SwitchingGRU",
    "SwitchingLSTM",
    "SwitchingNet",
    "SwitchingTKAN",
    "SwitchingTKANConfig",
    "hamilton_filter",
    "return_log_likelihood",
]

OPEN = 0.5  # where the outputs behind a ReLU start off the diagonal: one that starts shut may never open
STEEPEST = 50.0  # largest exponent of a transition's factor


class SwitchingConfig(RNNConfig):
    """Settings of a SwitchingGRU or a SwitchingLSTM."""

    n_regimes: int = Field(2, ge=2)
    return_column: NonNegativeInt = 0  # of the inputs: the return over the bar that has just closed
    covariate_columns: tuple[NonNegativeInt, ...] | None = Field(None, min_length=1)  # None: all but the return
    transition: Literal["multiplied", "logits"] = "multiplied"  # the article's update, or a plain row softmax
    unit_diagonal: bool = False  # of the article's factors; then no regime can be more likely to stay than to go
    persistence: float = Field(0.95, gt=0.5, lt=1)  # probability of staying, before anything is learned
    zero_return: float = 0.0  # what a return of 0 is in its normalized column

    @property
    def covariates(self) -> tuple[int, ...]:
        """Columns that the transition network sees."""
        if self.covariate_columns is not None:
            return self.covariate_columns
        return tuple(i for i in range(self.n_features) if i != self.return_column)

    @model_validator(mode="after")
    def _columns_exist(self):
        named = {"return_column": (self.return_column,), "covariate_columns": self.covariates}
        for name, columns in named.items():
            if not columns or max(columns) >= self.n_features:
                raise ConfigError(
                    f"network setting {name!r} cannot be {list(columns)} with {self.n_features} features: "
                    "name columns from 0 on that exist, at least one"
                )
        return self


class SwitchingTKANConfig(SublayerConfig, SwitchingConfig):
    """Settings of a SwitchingTKAN."""


class RNNBank(nn.Module):
    """Equal LSTMs or GRUs side by side, as ``TKAN`` has copies. The state is a tuple of their states."""

    def __init__(self, cell: type[nn.RNNBase], n_in: int, units: int, n_layers: int, dropout: float, copies: int):
        super().__init__()
        between_layers = dropout if n_layers > 1 else 0.0
        self.stacks = nn.ModuleList(
            cell(n_in, units, n_layers, batch_first=True, dropout=between_layers) for _ in range(copies)
        )

    def initial_state(self, batch: int) -> tuple:
        """Return the zero state."""
        first = self.stacks[0]
        zeros = first.weight_ih_l0.new_zeros(first.num_layers, batch, first.hidden_size)
        return ((zeros, zeros) if isinstance(first, nn.LSTM) else (zeros,),) * len(self.stacks)

    def forward(self, x: Tensor, state: tuple) -> tuple[Tensor, tuple]:
        """Run x [B,T,in], T > 0, from a state; return the last layer's [copies,B,T,units], and the new state."""
        hidden, states = [], []
        for stack, before in zip(self.stacks, state, strict=True):
            values, after = stack(x, before if len(before) > 1 else before[0])
            hidden.append(values)
            states.append((after,) if isinstance(after, Tensor) else tuple(after))
        return torch.stack(hidden), tuple(states)


class Transitions(nn.Module):
    """Transition matrices from the hidden values of the covariates' network, float64, rows summing to 1.

    ``"multiplied"`` (eq. 19-22 of the article): P(t+1) = row softmax of P(t) * exp(ReLU(linear(h(t)))), by
    component; with ``unit_diagonal`` the factors on the diagonal are 1. ``"logits"``: P(t+1) = row softmax of
    linear(h(t)).
    """

    def __init__(self, config: SwitchingConfig):
        super().__init__()
        self.config, self.multiplied = config, config.transition == "multiplied"
        self.linear = nn.Linear(config.d_model, config.n_regimes**2)
        eye, stay, leave = torch.eye(config.n_regimes), *self._odds()
        if self.multiplied:  # solved for the matrix that comes out as it went in
            diagonal = math.log((math.log(stay / leave) + leave * math.exp(OPEN)) / stay)
            start = diagonal * eye + OPEN * (1 - eye)
        else:
            start = math.log(stay / leave) * eye
        with torch.no_grad():
            self.linear.weight.mul_(0.1)  # near the start whatever the covariates
            self.linear.bias.copy_(start.flatten())

    def first(self) -> Tensor:
        """Return the matrix [K,K] of the step to the first bar."""
        eye = torch.eye(self.config.n_regimes, dtype=torch.float64, device=self.linear.weight.device)
        stay, leave = self._odds()
        return stay * eye + leave * (1 - eye)

    def _odds(self) -> tuple[float, float]:
        """Return the probabilities of staying and of each other regime, before anything is learned."""
        stay = self.config.persistence
        return stay, (1 - stay) / (self.config.n_regimes - 1)

    def forward(self, hidden: Tensor, matrix: Tensor) -> Tensor:
        """Return the matrices [B,T,K,K] of the steps after each bar, from hidden [B,T,D] and the matrix before."""
        raw = self.linear(hidden).unflatten(-1, (self.config.n_regimes,) * 2).double()
        if not self.multiplied:
            return raw.softmax(-1)
        exponents = raw.relu().clamp(max=STEEPEST)
        if self.config.unit_diagonal:
            exponents = exponents - exponents.diagonal(dim1=-2, dim2=-1).diag_embed()
        run = CompiledMatrices.apply if raw.device.type == "cpu" else matrices_in_torch
        return run(exponents.exp(), matrix)


def matrices_in_torch(factors: Tensor, matrix: Tensor) -> Tensor:
    """Return the row softmax of each matrix times the next factor, on any device."""
    matrices = []
    for factor in factors.unbind(1):
        matrix = (matrix * factor).softmax(-1)
        matrices.append(matrix)
    return torch.stack(matrices, dim=1)


class CompiledMatrices(torch.autograd.Function):
    """``matrices_in_torch``, compiled. A second derivative is refused."""

    @staticmethod
    def forward(ctx, factors, matrix):
        """Run forward."""
        from hissbt.models import switching_kernels  # here, so that networks load without numba

        factors, matrix = factors.contiguous(), matrix.contiguous()
        matrices = torch.empty_like(factors)
        switching_kernels.matrices_forward(arrays(factors, 3), arrays(matrix, 2), arrays(matrices, 3))
        ctx.save_for_backward(factors, matrix, matrices)
        return matrices

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_matrices):
        """Run backward."""
        from hissbt.models import switching_kernels

        factors, matrix, matrices = ctx.saved_tensors
        grad_factors, grad_matrix = torch.empty_like(factors), torch.zeros_like(matrix)
        kept = arrays(factors, 3), arrays(matrix, 2), arrays(matrices, 3), arrays(grad_matrices.contiguous(), 3)
        switching_kernels.matrices_backward(*kept, arrays(grad_factors, 3), arrays(grad_matrix, 2))
        return grad_factors, grad_matrix


class SwitchingNet(SequenceNet):
    """What the switching networks share.

    Inputs x [B,T,F] are normalized features; ``config`` says which column is the one-bar return and which are
    covariates. Beside the outputs of every forecaster, which are those of the mixture of the regimes for the next
    bar in the units of the return's column (``direction``: logit of a return above 0), forward and step give, per
    regime: ``belief``, the probabilities of the next bar's regime, ``filtered``, those of this bar's,
    ``regime_return`` and ``regime_volatility``, mean and deviation of the next return under each, all [..,K].

    The state is ``(regimes, covariates, matrix, log filtered, means)``: the networks' states, P of the next step
    [B,K,K], and [B,K] twice; matrix and filtered are float64.
    """

    regime_outputs = ("belief", "filtered", "regime_return", "regime_volatility")

    def __init__(self, config: SwitchingConfig):
        super().__init__()
        self.config = config
        k, width, n_features = config.n_regimes, config.d_model, config.n_features
        self.regimes = self._bank(n_features, copies=k)
        self.covariates = self._bank(len(config.covariates), copies=1)
        self.dropout = nn.Dropout(config.dropout)
        self.transitions = Transitions(config)
        self.filter = HamiltonFilter()
        # As the heads of other networks: near a forecast of the mean at first, with a linear skip.
        self.readout = nn.Parameter(0.1 * torch.empty(k, width).uniform_(-1, 1) / math.sqrt(width))
        self.skip = nn.Parameter(torch.zeros(k, n_features))
        self.readout_bias = nn.Parameter(torch.zeros(k))
        spread = torch.linspace(-0.5, 0.5, k).exp()  # a calm regime and a wild one, or all would learn the same
        self.deviation = nn.Parameter((spread - LEAST_DEVIATION).expm1().log())  # before softplus

    def _bank(self, n_in: int, copies: int) -> nn.Module:
        """Return recurrent networks side by side, as ``RNNBank`` and ``TKAN`` are."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Run x [B,T,F] and return each output as [B,T,1], those of the regimes as [B,T,K]."""
        return self.prefill(x)[0]

    def prefill(self, x: Tensor) -> tuple[dict[str, Tensor], tuple]:
        """Run x [B,T,F] and return (what forward returns, the state after the last bar)."""
        state = self.initial_state(len(x))
        if x.shape[1] == 0:
            outputs, _ = self._run(x.new_zeros(len(x), 1, x.shape[2]), state)
            return {name: value[:, :0] for name, value in outputs.items()}, state
        return self._run(x, state)

    def initial_state(self, batch: int) -> tuple:
        """Return the state before the first bar: zeros, the first matrix, all regimes equally probable."""
        k = self.config.n_regimes
        filtered = self.filter.initial_state(k, batch).to(self.readout.device)
        banks = self.regimes.initial_state(batch), self.covariates.initial_state(batch)
        return *banks, self.transitions.first().expand(batch, k, k), filtered, self.readout.new_zeros(batch, k)

    def step(self, x: Tensor, state: tuple) -> tuple[dict[str, Tensor], tuple]:
        """Run one bar x [B,F] and return (each output as [B,1] or [B,K], new state)."""
        outputs, state = self._run(x[:, None], state)
        return {name: value[:, 0] for name, value in outputs.items()}, state

    def _run(self, x: Tensor, state: tuple) -> tuple[dict[str, Tensor], tuple]:
        """Go on from a state over x [B,T,F], T > 0."""
        regimes, covariates, matrix, filtered, before = state
        hidden, regimes = self.regimes(x, regimes)  # [K,B,T,D]
        means = torch.einsum("kbtd,kd->btk", self.dropout(hidden), self.readout)
        means = means + x @ self.skip.T + self.readout_bias
        driver, covariates = self.covariates(x[..., list(self.config.covariates)], covariates)
        after = self.transitions(self.dropout(driver[0]), matrix)  # [B,T,K,K], from each bar to the next
        deviation = F.softplus(self.deviation.double()) + LEAST_DEVIATION

        forecast = torch.cat([before[:, None], means[:, :-1]], dim=1).double()  # [B,T,K], made one bar before
        realized = x[..., self.config.return_column, None].double()
        loglik = normal_log_density(realized, forecast, deviation)
        to_here = torch.cat([matrix[:, None], after[:, :-1]], dim=1)
        now, _, _, filtered = self.filter(loglik, to_here, filtered)
        belief = (now[..., None, :] @ after)[..., 0, :]
        outputs = self._outputs(belief, now, means.double(), deviation)
        outputs = {name: value.to(x.dtype) for name, value in outputs.items()}
        return outputs, (regimes, covariates, after[:, -1], filtered, means[:, -1])

    def _outputs(self, belief: Tensor, filtered: Tensor, means: Tensor, deviation: Tensor) -> dict[str, Tensor]:
        """Read all outputs off the mixture of the regimes, in float64."""
        deviation = deviation.expand_as(means)
        mean = (belief * means).sum(-1, keepdim=True)
        variance = (belief * (deviation**2 + (means - mean) ** 2)).sum(-1, keepdim=True)
        above, log_belief = (means - self.config.zero_return) / deviation, safe_log(belief)
        up = torch.logsumexp(log_belief + torch.special.log_ndtr(above), dim=-1, keepdim=True)
        down = torch.logsumexp(log_belief + torch.special.log_ndtr(-above), dim=-1, keepdim=True)
        mixture = {"return": mean, "direction": up - down, "volatility": variance.sqrt()}
        each = belief, filtered, means, deviation
        return mixture | dict(zip(self.regime_outputs, each, strict=True))


class SwitchingGRU(SwitchingNet):
    """m-GRU: every recurrent network is ``torch.nn.GRU``."""

    def _bank(self, n_in: int, copies: int) -> nn.Module:
        config = self.config
        return RNNBank(nn.GRU, n_in, config.d_model, config.n_layers, config.dropout, copies)


class SwitchingLSTM(SwitchingNet):
    """m-LSTM: every recurrent network is ``torch.nn.LSTM``."""

    def _bank(self, n_in: int, copies: int) -> nn.Module:
        config = self.config
        return RNNBank(nn.LSTM, n_in, config.d_model, config.n_layers, config.dropout, copies)


class SwitchingTKAN(SwitchingNet):
    """m-TKAN: every recurrent network is a ``TKAN``."""

    def _bank(self, n_in: int, copies: int) -> nn.Module:
        config = self.config
        return TKAN(n_in, config.d_model, config.n_layers, config.dropout, copies, **config.sublayers())


# ------------------------------------------------------------------------------------------------- losses


def normal_log_density(value: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """Return the log density of a normal distribution."""
    return -0.5 * ((value - mean) / deviation) ** 2 - deviation.log() - 0.5 * math.log(2 * math.pi)


def return_log_likelihood(outputs: dict[str, Tensor], returns: Tensor) -> Tensor:
    """Return the log density [..,1], float64, of the return [..,1] that followed each forecast.

    Under the mixture of the regimes for a switching network, under one normal distribution with the outputs'
    ``return`` and ``volatility`` for any other: so a switching network and its one-regime twin are comparable.
    """
    returns = returns.double()
    if "belief" not in outputs:
        return normal_log_density(returns, outputs["return"].double(), outputs["volatility"].double())
    each = normal_log_density(returns, outputs["regime_return"].double(), outputs["regime_volatility"].double())
    return torch.logsumexp(safe_log(outputs["belief"]) + each, dim=-1, keepdim=True)


class LikelihoodLoss(nn.Module):
    """Mean negative log-likelihood of the next return, in nats a bar."""

    def forward(self, outputs: dict[str, Tensor], targets: dict[str, Tensor], mask: Tensor) -> Tensor:
        """Return the scalar loss for ``targets["return"]`` [B,T,1] where mask [B,T,1] is true."""
        mask = mask.bool()
        returns = torch.where(mask, targets["return"], 0.0)
        return _mean(-return_log_likelihood(outputs, returns), mask)


class RegimeLoss(nn.Module):
    """Mean cross-entropy of regime labels, in nats a bar: under ``belief``, in a twin two under ``direction``."""

    def forward(self, outputs: dict[str, Tensor], targets: dict[str, Tensor], mask: Tensor) -> Tensor:
        """Return the scalar loss for ``targets["regime"]`` [B,T,1], 0 .. K-1, where mask [B,T,1] is true."""
        mask = mask.bool()
        labels = torch.where(mask, targets["regime"], 0.0)
        if "belief" not in outputs:
            logit = outputs["direction"]
            losses = F.binary_cross_entropy_with_logits(logit, labels.to(logit.dtype), reduction="none")
        else:
            losses = -safe_log(outputs["belief"].clamp(min=1e-30)).gather(-1, labels.long())
        return _mean(losses, mask)


def _mean(losses: Tensor, mask: Tensor) -> Tensor:
    return torch.where(mask, losses, 0.0).sum() / mask.sum().clamp(min=1)
