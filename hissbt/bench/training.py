"""Tokens a second, forward and backward, of one layer."""

import importlib.util

from hissbt.bench.measure import Row, Sample, Tick, compare, seconds

OURS, PEER, S4D_LAYER, LSTM_LAYER = (
    "Mamba layer of hissbt",
    "Mamba layer of mambapy, parallel scan",
    "S4D layer of hissbt, by FFT",
    "LSTM layer of torch",
)


def measure_training(shape: tuple[int, int, int], rounds: int, tick: Tick) -> list[Row]:
    """Return the rows for inputs [B,T,H] of the given shape."""
    batch, length, _ = shape
    layers = training_layers(shape[-1])
    subjects = {name: _training_step(layer, shape) for name, layer in layers.items()}
    for step in subjects.values():
        step()  # first calls plan and allocate
    subjects = {
        name: (lambda step=step: Sample(batch * length / seconds(step))) for name, step in subjects.items()
    }
    bases = [name for name in (PEER, LSTM_LAYER) if name in layers]
    against = {name: [base for base in bases if base != name] for name in layers}
    note = f"[{', '.join(map(str, shape))}], 1 thread"
    rows = compare("tokens/s", subjects, against, rounds, tick, dict.fromkeys(layers, note))
    if PEER not in layers:
        rows.append(Row(PEER, "tokens/s", note="not installed: pip install mambapy"))
    return rows


def training_layers(width: int) -> dict:
    """Return the layers by name; the two Mamba layers have the same weights and so the same outputs."""
    import torch
    from torch import nn

    from hissbt.models.ssm import S4D, Mamba

    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = {OURS: Mamba(width, 16), S4D_LAYER: S4D(width, 16), LSTM_LAYER: _Lstm(width)}
    if importlib.util.find_spec("mambapy"):
        from mambapy.mamba import MambaBlock, MambaConfig

        peer = MambaBlock(MambaConfig(d_model=width, n_layers=1, d_state=16, pscan=True))
        peer.load_state_dict(layers[OURS].state_dict())
        layers[PEER] = peer
    assert all(isinstance(layer, nn.Module) for layer in layers.values())
    return layers


def _Lstm(width: int):
    from torch import nn

    class Lstm(nn.LSTM):
        def forward(self, x):
            return super().forward(x)[0]

    return Lstm(width, width, batch_first=True)


def _training_step(layer, shape):
    import torch

    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))

    def step() -> None:
        layer.zero_grad(set_to_none=True)
        layer(x).square().mean().backward()

    return step
