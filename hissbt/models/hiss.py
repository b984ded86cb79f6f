"""HiSS: a hierarchy of state-space models, each level running at a coarser rate than the one below.

After Bhirangi, Wang, Pattabiraman, Majidi, Gupta, Hellebrekers, Pinto, "Hierarchical State Space Models for
Continuous Sequence-to-Sequence Modeling", ICML 2024 (arXiv 2402.10211). The paper has two levels, restarts the
lower one at every chunk and predicts at the coarse rate. Here there is any number of levels, state runs on
across blocks, and all levels are fused at the rate of the bars (factors of [4, 4] as in SaShiMi, Goel et al.
2022, arXiv 2202.09729).

    bars        x x x x x x x x x x x x x x x x
    level 0     o o o o o o o o o o o o o o o o     every bar
    level 1           o       o       o       o     when its block of 4 bars has closed
    level 2                                   o     when its block of 16 bars has closed
    fused       o o o o o o o o o o o o o o o o     each level's newest value, held until the next

The one rule of causality: with bars counted from 0 and a level's stride s, ``held[t] = coarse[(t+1)//s - 1]``,
a learned value before the first. Blocks are counted from bar 0, so another first bar gives other blocks; the
count of bars is part of the state.
"""

from itertools import accumulate
from operator import mul
from typing import Literal

import torch
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from hissbt.errors import ConfigError
from hissbt.models.base import Heads, NetworkConfig, SequenceNet
from hissbt.models.ssm import S4D, Mamba, ResidualBlock

BlockKind = Literal["s4d", "mamba"]


class HiSSConfig(NetworkConfig):
    """Settings of a HiSSNet. Those "per level" take one value for all levels or a tuple, finest level first."""

    n_features: PositiveInt  # inputs per bar
    strides: tuple[int, ...] = (4, 4)  # blocks joined by each level above the finest; () is a flat network
    blocks: BlockKind | tuple[BlockKind, ...] | None = None  # per level; None is S4D finest, Mamba above
    d_model: PositiveInt | tuple[PositiveInt, ...] = 32  # channels, per level
    d_state: PositiveInt | tuple[PositiveInt, ...] = 16  # state size of each channel, per level
    n_layers: PositiveInt | tuple[PositiveInt, ...] = 1  # residual blocks, per level
    downsample: Literal["mean", "last", "conv"] = "mean"  # how a closed block becomes one input of the next level
    fuse: Literal["concat", "sum"] = "concat"  # how the levels are joined for the heads
    dropout: float = Field(0.0, ge=0, lt=1)
    s4d_init: Literal["lin", "inv", "legs", "real"] = "lin"
    discretization: Literal["zoh", "bilinear"] = "zoh"

    @property
    def levels(self) -> int:
        """Number of levels: one more than there are strides."""
        return len(self.strides) + 1

    def per_level(self, name: str) -> tuple:
        """Return a per-level setting as a tuple, finest level first."""
        value = getattr(self, name)
        if name == "blocks" and value is None:
            return ("s4d",) + ("mamba",) * len(self.strides)
        return value if isinstance(value, tuple) else (value,) * self.levels

    def complete(self) -> dict:
        """Return all settings, defaults included, as plain JSON values, one per level where they are per level."""
        per_level = {name: list(self.per_level(name)) for name in ("blocks", "d_model", "d_state", "n_layers")}
        return super().complete() | per_level

    @model_validator(mode="after")
    def _check_levels(self):
        if any(factor < 2 for factor in self.strides):
            raise ConfigError(f"network setting 'strides' cannot be {self.strides}: each must be at least 2")
        for name in ("blocks", "d_model", "d_state", "n_layers"):
            if len(values := self.per_level(name)) != self.levels:
                raise ConfigError(
                    f"network setting {name!r} cannot be {values}: give one value or {self.levels}, one a level"
                )
        if self.fuse == "sum" and len(set(self.per_level("d_model"))) > 1:
            raise ConfigError(
                f"network setting 'd_model' cannot be {self.d_model}: levels that are summed need equal widths"
            )
        for kind, d_state in zip(self.per_level("blocks"), self.per_level("d_state"), strict=True):
            if kind == "s4d" and d_state % 2:
                raise ConfigError(
                    f"network setting 'd_state' cannot be {d_state}: an S4D level needs an even number"
                )
        return self


class BlockPool(nn.Module):
    """Turn a closed block of values [..,factor,D] into one [..,D]: its mean, its last value, or a learned map.

    ``conv`` is a convolution whose width and stride are the block: one linear map of the whole block.
    """

    def __init__(self, kind: str, d_model: int, factor: int):
        super().__init__()
        self.kind = kind
        self.conv = nn.Linear(factor * d_model, d_model) if kind == "conv" else None

    def forward(self, block: Tensor) -> Tensor:
        """Pool block [..,factor,D] to [..,D]."""
        if self.kind == "mean":
            return block.mean(-2)
        if self.kind == "last":
            return block[..., -1, :]
        return self.conv(block.flatten(-2))


class Level(nn.Module):
    """One rate of the hierarchy: a linear embedding, then residual blocks. Its state is a tuple of theirs."""

    def __init__(self, n_inputs: int, d_model: int, blocks: list[ResidualBlock]):
        super().__init__()
        self.embed = nn.Linear(n_inputs, d_model)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, x: Tensor) -> Tensor:
        """Run a whole sequence: x [B,T,n_inputs] -> [B,T,D]."""
        h = self.embed(x)
        for block in self.blocks:
            h = block(h)
        return h

    def prefill(self, x: Tensor) -> tuple[Tensor, tuple]:
        """Run a whole sequence and return ([B,T,D], state after its last value)."""
        h, states = self.embed(x), []
        for block in self.blocks:
            h, state = block.prefill(h)
            states.append(state)
        return h, tuple(states)

    def initial_state(self, batch: int) -> tuple:
        """Return the state before the first value."""
        return tuple(block.initial_state(batch) for block in self.blocks)

    def step(self, x: Tensor, state: tuple) -> tuple[Tensor, tuple]:
        """Run one value: x [B,n_inputs], state -> [B,D], new state."""
        h, states = self.embed(x), []
        for block, block_state in zip(self.blocks, state, strict=True):
            h, block_state = block.step(h, block_state)
            states.append(block_state)
        return h, tuple(states)


class HiSSNet(SequenceNet):
    """Hierarchical state-space network; with ``strides=()`` it is the flat S4D or the flat Mamba.

    State: ``(bars, finest, coarse)``; bars is the number of bars seen, finest the state of level 0, and coarse
    holds for each level above it ``(level state, recent, held)``: recent [B,factor-1,D below], the newest values
    of the level below, and held [B,D], the level's newest value.
    """

    def __init__(self, config: HiSSConfig):
        super().__init__()
        self.config = config
        widths, factors = config.per_level("d_model"), config.strides
        below = (config.n_features, *widths[:-1])
        self.levels = nn.ModuleList(
            Level(below[i], widths[i], _residual_blocks(config, i)) for i in range(config.levels)
        )
        self.pools = nn.ModuleList(BlockPool(config.downsample, widths[i], f) for i, f in enumerate(factors))
        self.first_held = nn.ParameterList(nn.Parameter(torch.zeros(width)) for width in widths[1:])
        fused = sum(widths) if config.fuse == "concat" else widths[0]
        self.norm = nn.LayerNorm(fused)
        self.heads = Heads(fused, config.n_features)
        self.strides = tuple(accumulate((1, *factors), mul))
        self.warmup = self.strides[-1]

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Run x [B,T,F] and return each output as [B,T,1]."""
        return self.read(self.held(x), x)

    def held(self, x: Tensor) -> list[Tensor]:
        """Run x [B,T,F] and return what each level holds at every bar, finest level first: [B,T,D] each."""
        values = [self.levels[0](x)]
        for level, pool, factor in zip(self.levels[1:], self.pools, self.config.strides, strict=True):
            values.append(level(pool(_closed_blocks(values[-1], factor))))
        return self._hold(values)

    def read(self, held: list[Tensor], x: Tensor) -> dict[str, Tensor]:
        """Fuse what the levels hold, [..,D] each, and read the outputs off: [..,1] each."""
        fused = torch.cat(held, dim=-1) if self.config.fuse == "concat" else torch.stack(held).sum(0)
        return self.heads(self.norm(fused), x)

    def prefill(self, x: Tensor) -> tuple[dict[str, Tensor], tuple]:
        """Run x [B,T,F] and return (what forward returns, the state after the last bar)."""
        value, finest = self.levels[0].prefill(x)
        values, coarse = [value], []
        for i, (pool, factor) in enumerate(zip(self.pools, self.config.strides, strict=True)):
            below = values[-1]
            value, state = self.levels[i + 1].prefill(pool(_closed_blocks(below, factor)))
            coarse.append((state, _newest(below, factor - 1), self._with_first(i, value)[:, -1]))
            values.append(value)
        return self.read(self._hold(values), x), (x.shape[1], finest, tuple(coarse))

    def initial_state(self, batch: int) -> tuple:
        """Return the state before the first bar."""
        coarse = []
        for i, factor in enumerate(self.config.strides):
            recent = self.first_held[i].new_zeros(batch, factor - 1, self.config.per_level("d_model")[i])
            coarse.append((self.levels[i + 1].initial_state(batch), recent, self.first_held[i].expand(batch, -1)))
        return 0, self.levels[0].initial_state(batch), tuple(coarse)

    def step(self, x: Tensor, state: tuple) -> tuple[dict[str, Tensor], tuple]:
        """Run one bar x [B,F] and return (each output as [B,1], new state)."""
        bars, finest, coarse = state
        bars, coarse = bars + 1, list(coarse)
        value, finest = self.levels[0].step(x, finest)
        held = [value] + [newest for _, _, newest in coarse]
        for i, pool in enumerate(self.pools):
            level_state, recent, _ = coarse[i]
            block = torch.cat([recent, held[i][:, None]], dim=1)  # [B,factor,D below]
            if closed := bars % self.strides[i + 1] == 0:
                held[i + 1], level_state = self.levels[i + 1].step(pool(block), level_state)
            coarse[i] = (level_state, block[:, 1:], held[i + 1])
            if not closed:
                break  # no level above this one can have closed a block
        return self.read(held, x), (bars, finest, tuple(coarse))

    def _hold(self, values: list[Tensor]) -> list[Tensor]:
        """Bring every level to the rate of the bars by the causal hold: [B,T,D] each."""
        finest = values[0]
        held = [finest]
        for i, (coarse, stride) in enumerate(zip(values[1:], self.strides[1:], strict=True)):
            value = self._with_first(i, coarse)[:, :, None]  # [B,blocks+1,1,D]
            repeated = value.expand(-1, -1, stride, -1).flatten(1, 2)
            held.append(repeated[:, 1 : finest.shape[1] + 1])  # at bar t value (t+1)//stride
        return held

    def _with_first(self, i: int, coarse: Tensor) -> Tensor:
        """Put level i+1's value before its first block has closed in front of its others: row j+1 is coarse[j]."""
        return torch.cat([self.first_held[i].expand(len(coarse), 1, -1), coarse], dim=1)


def _residual_blocks(config: HiSSConfig, level: int) -> list[ResidualBlock]:
    """Build the residual blocks of a level."""
    width, d_state = config.per_level("d_model")[level], config.per_level("d_state")[level]

    def mixer() -> S4D | Mamba:
        if config.per_level("blocks")[level] == "mamba":
            return Mamba(width, d_state)
        return S4D(width, d_state, config.s4d_init, config.discretization)

    return [ResidualBlock(width, mixer(), config.dropout) for _ in range(config.per_level("n_layers")[level])]


def _closed_blocks(x: Tensor, factor: int) -> Tensor:
    """Cut x [B,T,D] into its complete blocks [B,T//factor,factor,D]; a block still open is left out."""
    return x[:, : x.shape[1] // factor * factor].unflatten(1, (-1, factor))


def _newest(x: Tensor, count: int) -> Tensor:
    """Return the last count values of x [B,T,D], zeros before the first: [B,count,D]."""
    return nn.functional.pad(x, (0, 0, count, 0))[:, x.shape[1] :]
