"""Transformer baseline: causal attention over a window of the newest bars, with a cache of keys and values.

Pre-norm blocks: Vaswani et al., "Attention Is All You Need", 2017 (arXiv 1706.03762), normalized before each
sublayer as in Xiong et al., 2020 (arXiv 2002.04745). A bar attends to itself and the ``window_bars - 1`` bars
before it; through deeper layers it is reached by bars further back.

Positions enter as a penalty on scores that is linear in the age of a bar (ALiBi: Press, Smith, Lewis, "Train
Short, Test Long", ICLR 2022, arXiv 2108.12409). It depends on the distance of two bars only, so a cached key stays
valid however long the network runs, and the same bars have the same outputs wherever counting began.
"""

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveInt, model_validator
from torch import Tensor, nn

from hissbt.errors import ConfigError
from hissbt.models.base import Heads, NetworkConfig, SequenceNet

QUERY_CHUNK = 256  # bars whose scores are held at once: memory is chunk x (chunk + window), not bars x bars


class TransformerConfig(NetworkConfig):
    """Settings of a TransformerNet."""

    n_features: PositiveInt  # inputs per bar
    d_model: PositiveInt = 32  # channels
    n_heads: PositiveInt = 4  # must divide d_model
    n_layers: PositiveInt = 2
    d_ff: PositiveInt = 128  # hidden units of the feed-forward part
    window_bars: PositiveInt = 256  # bars that a bar attends to, itself included
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_divide(self):
        if self.d_model % self.n_heads:
            raise ConfigError(
                f"network setting 'n_heads' cannot be {self.n_heads}: it must divide d_model {self.d_model}"
            )
        return self


def alibi_slopes(n_heads: int) -> Tensor:
    """Return each head's penalty per bar of age, 2^(-8 i / n_heads) for i = 1.. (arXiv 2108.12409, section 3)."""
    return torch.exp2(-8 * torch.arange(1, n_heads + 1) / n_heads)


class WindowAttention(nn.Module):
    """Causal multi-head attention over the newest ``window`` bars.

    Letters: B batch, T bars, D channels, H heads, C = D/H channels of a head, W window.

    State: keys and values of the last W-1 bars, oldest first, each [B,H,W-1,C]; zeros where there was no bar yet,
    which ``step`` is told by the number of bars before.
    """

    def __init__(self, d_model: int, n_heads: int, window: int):
        super().__init__()
        self.n_heads, self.window = n_heads, window
        # No bias: one on the keys would cancel in the softmax, one on the values is out_proj's already.
        self.in_proj = nn.Linear(d_model, 3 * d_model, bias=False)  # queries, keys, values
        self.out_proj = nn.Linear(d_model, d_model)
        self.register_buffer("slopes", alibi_slopes(n_heads), persistent=False)  # [H]

    def forward(self, x: Tensor) -> Tensor:
        """Mix a whole sequence x [B,T,D]."""
        return self.prefill(x)[0]

    def prefill(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Mix a whole sequence and return (y [B,T,D], state after its last bar)."""
        length, kept = x.shape[1], self.window - 1
        q, k, v = self._project(x)  # [B,H,T,C]
        mixed = [q[:, :, :0]]
        for start in range(0, length, QUERY_CHUNK):
            first, end = max(start - kept, 0), min(start + QUERY_CHUNK, length)
            bias = self._bias(torch.arange(start, end), torch.arange(first, end))
            mixed.append(
                F.scaled_dot_product_attention(q[:, :, start:end], k[:, :, first:end], v[:, :, first:end], bias)
            )
        cache = tuple(F.pad(z, (0, 0, kept, 0))[:, :, length:] for z in (k, v))  # [B,H,W-1,C]
        return self._merge(torch.cat(mixed, dim=2)), cache

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor]:
        """Return the empty cache."""
        shape = batch, self.n_heads, self.window - 1, self.out_proj.in_features // self.n_heads
        return self.slopes.new_zeros(shape), self.slopes.new_zeros(shape)

    def step(self, x: Tensor, state: tuple[Tensor, Tensor], bars: int) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Mix one bar x [B,D] that ``bars`` bars precede -> y [B,D], new state."""
        q, *new = self._project(x[:, None])  # [B,H,1,C]
        k, v = (torch.cat(pair, dim=2) for pair in zip(state, new, strict=True))  # [B,H,W,C]
        seen = min(bars + 1, self.window)
        positions = torch.arange(self.window - seen, self.window)
        scores = q @ k[:, :, -seen:].mT / q.shape[-1] ** 0.5 + self._bias(positions[-1:], positions)  # [B,H,1,S]
        mixed = scores.softmax(-1) @ v[:, :, -seen:]  # [B,H,1,C]
        return self._merge(mixed)[:, 0], (k[:, :, 1:], v[:, :, 1:])

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return queries, keys and values [B,H,T,C] of x [B,T,D]."""
        return tuple(z.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for z in self.in_proj(x).chunk(3, dim=-1))

    def _merge(self, mixed: Tensor) -> Tensor:
        """Join the heads [B,H,T,C] -> [B,T,D]."""
        return self.out_proj(mixed.transpose(1, 2).flatten(-2))

    def _bias(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return what is added to the scores of bars at positions queries [Q] and keys [K]: [H,Q,K]."""
        age = (queries[:, None] - keys).to(self.slopes.device)  # [Q,K]
        outside = (age < 0) | (age >= self.window)
        return (-self.slopes[:, None, None] * age).masked_fill(outside, -torch.inf)


class TransformerBlock(nn.Module):
    """Pre-norm block: x + dropout(attention(norm1(x))), then x + dropout(linear2(gelu(linear1(norm2(x)))))."""

    def __init__(self, config: TransformerConfig):
        super().__init__()
        width = config.d_model
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = WindowAttention(width, config.n_heads, config.window_bars)
        self.linear1, self.linear2 = nn.Linear(width, config.d_ff), nn.Linear(config.d_ff, width)
        self.dropout = nn.Dropout(config.dropout)

    def prefill(self, x: Tensor) -> tuple[Tensor, tuple]:
        """Run a whole sequence x [B,T,D] and return (y [B,T,D], state after its last bar)."""
        y, state = self.attention.prefill(self.norm1(x))
        return self._feed_forward(x + self.dropout(y)), state

    def step(self, x: Tensor, state: tuple, bars: int) -> tuple[Tensor, tuple]:
        """Run one bar x [B,D] that ``bars`` bars precede -> y [B,D], new state."""
        y, state = self.attention.step(self.norm1(x), state, bars)
        return self._feed_forward(x + self.dropout(y)), state

    def _feed_forward(self, x: Tensor) -> Tensor:
        return x + self.dropout(self.linear2(self.dropout(F.gelu(self.linear1(self.norm2(x))))))


class TransformerNet(SequenceNet):
    """Causal Transformer over a window of bars.

    State: ``(bars, caches)``: the number of bars seen, and each layer's keys and values of the last W-1 bars.
    """

    def __init__(self, config: TransformerConfig):
        super().__init__()
        self.config = config
        self.embed = nn.Linear(config.n_features, config.d_model)
        self.blocks = nn.ModuleList(TransformerBlock(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.d_model)
        self.heads = Heads(config.d_model, config.n_features)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Run x [B,T,F] and return each output as [B,T,1]."""
        return self.prefill(x)[0]

    def prefill(self, x: Tensor) -> tuple[dict[str, Tensor], tuple]:
        """Run x [B,T,F] and return (what forward returns, the state after the last bar)."""
        h, caches = self.embed(x), []
        for block in self.blocks:
            h, cache = block.prefill(h)
            caches.append(cache)
        return self.heads(self.norm(h), x), (x.shape[1], tuple(caches))

    def initial_state(self, batch: int) -> tuple:
        """Return the state before the first bar."""
        return 0, tuple(block.attention.initial_state(batch) for block in self.blocks)

    def step(self, x: Tensor, state: tuple) -> tuple[dict[str, Tensor], tuple]:
        """Run one bar x [B,F] and return (each output as [B,1], new state)."""
        bars, caches = state
        h, new = self.embed(x), []
        for block, cache in zip(self.blocks, caches, strict=True):
            h, cache = block.step(h, cache, bars)
            new.append(cache)
        return self.heads(self.norm(h), x), (bars + 1, tuple(new))
