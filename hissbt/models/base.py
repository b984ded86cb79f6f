"""What every network is: the SequenceNet contract, its output heads, its loss and its optimizer groups."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from hissbt.errors import ConfigError

OUTPUTS = ("return", "direction", "volatility")


class NetworkConfig(BaseModel, frozen=True, extra="forbid"):
    """Base of the networks' settings: values are checked when the config is made.

    Raises:
        ConfigError: an unknown setting or a value out of range; the message names the setting.
    """

    def __init__(self, **settings):
        try:
            super().__init__(**settings)
        except ValidationError as error:
            raise ConfigError(_one_sentence(error.errors()[0], type(self))) from None

    def complete(self) -> dict:
        """Return all settings, defaults included, as plain JSON values: what a bundle keeps."""
        return self.model_dump(mode="json")


def _one_sentence(error: dict, config: type[BaseModel]) -> str:
    """Say what a pydantic error says, naming the setting."""
    name = error["loc"][0]
    if error["type"] == "extra_forbidden":
        return f"unknown network setting {name!r}: choose from {', '.join(config.model_fields)}"
    if error["type"] == "missing":
        return f"network setting {name!r} is missing: give it a value"
    return f"network setting {name!r} cannot be {error['input']!r}: {error['msg'].lower()}"


class SequenceNet(nn.Module):
    """A causal network over bars that runs a whole sequence at once or one bar at a time, with equal results.

    A subclass must define the four methods below; one that lacks any is refused when its class is defined.
    Outputs are ``return`` (mean of the label, standardized units), ``direction`` (logit of a rise) and
    ``volatility`` (positive, standardized units). The output at bar t uses bars 0..t and nothing later.

    Attributes:
        outputs: names of the outputs.
        warmup: bars after which every level has been updated at least once.
        strides: bars per update of each level, finest first: (1,) for a flat network.
    """

    outputs: tuple[str, ...] = OUTPUTS
    warmup: int = 1
    strides: tuple[int, ...] = (1,)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        required = ("forward", "prefill", "initial_state", "step")
        missing = [name for name in required if getattr(cls, name) is getattr(SequenceNet, name)]
        if missing:
            raise TypeError(f"{cls.__name__} is no SequenceNet: define {', '.join(missing)}")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Run x [B,T,F] and return each output as [B,T,1]."""
        raise NotImplementedError

    def prefill(self, x: Tensor) -> tuple[dict[str, Tensor], tuple]:
        """Run x [B,T,F] and return (what forward returns, the state after the last bar)."""
        raise NotImplementedError

    def initial_state(self, batch: int) -> tuple:
        """Return the state before the first bar: nested tuples of tensors and Python integers."""
        raise NotImplementedError

    def step(self, x: Tensor, state: tuple) -> tuple[dict[str, Tensor], tuple]:
        """Run one bar x [B,F] and return (each output as [B,1], new state); the given state stays as it was."""
        raise NotImplementedError


class Heads(nn.Module):
    """Linear read-out of the outputs, with a linear skip from the raw inputs; volatility goes through softplus."""

    def __init__(self, d_model: int, n_features: int):
        super().__init__()
        self.readout = nn.Linear(d_model, len(OUTPUTS))
        self.skip = nn.Linear(n_features, len(OUTPUTS), bias=False)
        # Start near a forecast of the mean: returns are nearly noise, and a random read-out adds to it.
        nn.init.zeros_(self.skip.weight)
        with torch.no_grad():
            self.readout.weight.mul_(0.1)

    def forward(self, hidden: Tensor, x: Tensor) -> dict[str, Tensor]:
        """Map hidden [..,d_model] and raw inputs x [..,F] to outputs [..,1] by name."""
        mean, logit, spread = (self.readout(hidden) + self.skip(x)).split(1, dim=-1)
        return {"return": mean, "direction": logit, "volatility": F.softplus(spread)}


class MultiTaskLoss(nn.Module):
    """Weighted sum of the squared error of return and volatility and the cross-entropy of direction.

    With fixed weights: w_ret MSE + w_dir BCE + w_vol MSE. With ``"learned"`` weights each task i has a learned
    log variance s_i and adds exp(-s_i) L_i / 2 + s_i / 2 (regression) or exp(-s_i) L_i + s_i / 2
    (classification): Kendall, Gal, Cipolla, "Multi-Task Learning Using Uncertainty to Weigh Losses", CVPR 2018,
    eq. 7 and 10. Learned weights are parameters of this module: give them to the optimizer too.

    Args:
        weights: (return, direction, volatility), or ``"learned"``.
    """

    def __init__(self, weights: Sequence[float] | Literal["learned"] = (1.0, 1.0, 1.0)):
        super().__init__()
        if weights == "learned":
            self.log_variance = nn.Parameter(torch.zeros(len(OUTPUTS)))
            self.register_buffer("factor", torch.tensor([0.5, 1.0, 0.5]))
        elif isinstance(weights, str) or len(weights) != len(OUTPUTS) or min(weights) < 0:
            raise ConfigError(
                f"loss weights cannot be {weights!r}: give 'learned', or three numbers that are at least 0"
            )
        else:
            self.log_variance = None
            self.register_buffer("factor", torch.tensor(weights, dtype=torch.float32))

    def forward(self, outputs: dict[str, Tensor], targets: dict[str, Tensor], mask: Tensor) -> Tensor:
        """Return the scalar loss; bars where mask [B,T,1] is false count for nothing, even with a NaN target."""
        losses = torch.stack(self.task_losses(outputs, targets, mask))  # [3]
        if self.log_variance is None:
            return (self.factor * losses).sum()
        return (self.factor * torch.exp(-self.log_variance) * losses + self.log_variance / 2).sum()

    @staticmethod
    def task_losses(
        outputs: dict[str, Tensor], targets: dict[str, Tensor], mask: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the masked mean loss of return, direction and volatility."""
        mask = mask.bool()
        known = {name: torch.where(mask, target, 0.0) for name, target in targets.items()}

        def mean(loss: Tensor) -> Tensor:
            return torch.where(mask, loss, 0.0).sum() / mask.sum().clamp(min=1)

        return (
            mean(F.mse_loss(outputs["return"], known["return"], reduction="none")),
            mean(F.binary_cross_entropy_with_logits(outputs["direction"], known["direction"], reduction="none")),
            mean(F.mse_loss(outputs["volatility"], known["volatility"], reduction="none")),
        )


def parameter_groups(net: nn.Module, lr: float, weight_decay: float) -> list[dict]:
    """Return optimizer groups: state-space parameters slowly and undecayed, vectors undecayed, matrices decayed.

    State-space parameters are the poles and step sizes: log_dt, log_A_real, A_imag of S4D, which the official
    code marks with lr = min(lr, 1e-3) and no decay, and their counterparts in Mamba, A_log (officially undecayed)
    and the bias of dt_proj (its log step size). Norms, biases, D skips and learned initial values, all
    one-dimensional, are undecayed.
    """
    groups = {
        "ssm": {"params": [], "lr": min(lr, 1e-3), "weight_decay": 0.0},
        "vectors": {"params": [], "lr": lr, "weight_decay": 0.0},
        "matrices": {"params": [], "lr": lr, "weight_decay": weight_decay},
    }
    for name, parameter in net.named_parameters():
        if name.endswith(("log_dt", "log_A_real", "A_imag", "A_log", "dt_proj.bias")):
            groups["ssm"]["params"].append(parameter)
        else:
            # The biases and gains of several cells side by side are one tensor of two dimensions.
            is_vector = parameter.ndim <= 1 or name.endswith(("bias", "norm_gain"))
            groups["vectors" if is_vector else "matrices"]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]
