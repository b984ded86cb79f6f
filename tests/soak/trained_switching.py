"""What trained switching networks keep: the same forecasts however they are run, and memories that forget.

``python -m tests.soak.trained_switching [--csv FILE] [--kind KIND ...] [--epochs N ...] [--seed N ...] [--json]``
trains each kind on bitcoin's days before 2020, once for each number of epochs, and runs it over the last 2,000
days of the file in every mode. Exit 1 if a check that has to hold bit for bit does not, or if modes are more than
1e-4 apart. Differences are in deviations of the next return, or in probability, whichever is larger.

``growth`` is the largest Lyapunov exponent of the recurrent networks, in nats a bar: how fast a disturbance of
1e-6 of their states grows while both runs see the same bars (Benettin et al., Meccanica 15, 1980). Below 0 it is
forgotten; above 0 two runs that differ by rounding drift apart until nothing of their memories agrees. ``kept`` is
what such a disturbance, made once, has left in the outputs 900 to 1,000 bars later.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.features import FeatureSet
from hissbt.feeds import load_bars
from hissbt.market import Market
from hissbt.models import SwitchingNet, build_network
from hissbt.stream import Stream
from hissbt.targets import TargetScale
from hissbt.training import train

FILE = "yahoo_BTC-USD_1d_2014-09_2024-12.csv"
KINDS = ("m-gru", "m-lstm", "m-tkan")
UNTIL = "2020-01-01"
BARS = 2000
APART = 1e-4
DISTURBANCE = 1e-6
WARM = 200  # bars before a disturbance, and bars over which it turns into the direction that grows most


def network_of(bundle: ModelBundle, dtype: torch.dtype = torch.float32) -> SwitchingNet:
    """Return the network of a bundle."""
    network = build_network(bundle.kind, bundle.config)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in bundle.weights.items()})
    return network.to(dtype).eval()


def inputs_of(bundle: ModelBundle, rows: np.ndarray) -> torch.Tensor:
    """Return what the network sees of bars: [1,T,F] float32."""
    matrix = bundle.normalizer(FeatureSet(bundle.features).scan(rows))
    return torch.from_numpy(matrix.astype(np.float32))[None]


def units(bundle: ModelBundle) -> np.ndarray:
    """Return by what the columns of ``Stream(regimes=True)`` are divided, so that all are of size 1: [3+K]."""
    deviation = bundle.target_scale["return_std"]
    return np.array([deviation, 1.0, deviation] + [1.0] * bundle.config["n_regimes"])


def said(bundle: ModelBundle, outputs: dict[str, torch.Tensor]) -> np.ndarray:
    """Return the outputs of a network over [1,T] as those of ``Stream(regimes=True)``, of size 1: [T,3+K]."""
    heads = [outputs[name][0, :, 0].double().numpy() for name in SwitchingNet.outputs]
    forecast = TargetScale(**bundle.target_scale).forecast(*heads)
    return np.column_stack([*forecast, outputs["belief"][0].double().numpy()]) / units(bundle)


def stepped(network: SwitchingNet, x: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return what ``forward`` returns, made bar by bar."""
    state, outputs = network.initial_state(1), []
    for bar in x.unbind(1):
        output, state = network.step(bar, state)
        outputs.append(output)
    return {name: torch.stack([output[name] for output in outputs], dim=1) for name in outputs[0]}


# ------------------------------------------------------------------------------------------------- figures


@torch.no_grad()
def differences(bundle: ModelBundle, rows: np.ndarray) -> dict[str, float]:
    """Return the largest differences between the modes, all but the last in float32."""
    network, x = network_of(bundle), inputs_of(bundle, rows)
    whole, stream = said(bundle, network(x)), Stream(bundle, regimes=True).scan(rows) / units(bundle)
    altered, cut = x.clone(), len(rows) // 2
    altered[:, cut:] = 10 - 3 * altered[:, cut:]
    exact = said(bundle, network_of(bundle, torch.float64)(x.double()))
    return {
        "step": largest(said(bundle, stepped(network, x)), whole),
        "stream": largest(stream, whole),
        "prefix": largest(said(bundle, network(x[:, :cut])), whole[:cut]),
        "altered": largest(said(bundle, network(altered))[:cut], whole[:cut]),
        "float64": largest(exact, whole),
    }


def largest(one: np.ndarray, other: np.ndarray) -> float:
    """Return the largest difference, infinite where one is not a number."""
    return float(np.max(np.nan_to_num(np.abs(one - other), nan=np.inf)))


def bits(bundle: ModelBundle, rows: np.ndarray) -> dict[str, bool]:
    """Tell what of a stream is the same bit for bit."""
    whole, bar_by_bar = Stream(bundle, regimes=True).scan(rows), Stream(bundle, regimes=True)
    cuts = [1, len(rows) // 3, len(rows) - 1]

    def holds(outputs: Callable[[int], np.ndarray], upto: bool) -> bool:
        return all(np.array_equal(outputs(cut), whole[:cut] if upto else whole[cut:]) for cut in cuts)

    def prefix(cut: int) -> np.ndarray:
        return Stream(bundle, regimes=True).scan(rows[:cut])

    def altered(cut: int) -> np.ndarray:
        other = rows.copy()
        other[cut:, 1:5] *= 1.5
        other[cut:, 5] *= 3.0
        return Stream(bundle, regimes=True).scan(other)[:cut]

    def restored(cut: int) -> np.ndarray:
        first, second = Stream(bundle, regimes=True), Stream(bundle, regimes=True)
        first.scan(rows[:cut])
        second.restore(first.snapshot())
        return second.scan(rows[cut:])

    return {
        "steps": np.array_equal([bar_by_bar.step(row) for row in rows], whole),
        "prefix": holds(prefix, upto=True),
        "altered future": holds(altered, upto=True),
        "snapshot": holds(restored, upto=False),
    }


@torch.no_grad()
def growth(bank: torch.nn.Module, x: torch.Tensor) -> float:
    """Return by how many nats a bar a disturbance of a bank's states grows: x [1,T,F], bank and x in float64."""
    _, state = bank(x[:, :WARM].expand(2, -1, -1), bank.initial_state(2))
    values = flat(state)[0]
    away = torch.randn(len(values), generator=torch.Generator().manual_seed(0), dtype=values.dtype)
    rates = []
    for bar in x[0, WARM:].split(1):
        both = torch.stack([values, values + DISTURBANCE * away / away.norm()])
        _, state = bank(bar.expand(2, 1, -1), shaped(both, state))
        values, other = flat(state)
        away = other - values
        rates.append(torch.log(away.norm() / DISTURBANCE))
    return float(torch.stack(rates[WARM:]).mean())


@torch.no_grad()
def kept(bundle: ModelBundle, rows: np.ndarray) -> float:
    """Return how far apart outputs are 900 to 1,000 bars after all states were moved by 1e-6, in float64."""
    network, x = network_of(bundle, torch.float64), inputs_of(bundle, rows).double()
    _, (regimes, covariates, *rest) = network.prefill(x[:, :WARM])
    banks = regimes, covariates
    moved = shaped(flat(banks) + DISTURBANCE, banks)
    after = x[:, WARM : WARM + 1000]
    one, other = (said(bundle, network._run(after, (*state, *rest))[0])[-100:] for state in (banks, moved))
    return largest(one, other)


def leaves(state) -> list[torch.Tensor]:
    """Return the tensors of a bank's state; the second axis of each is the batch."""
    return [leaf for part in state for leaf in leaves(part)] if isinstance(state, tuple) else [state]


def flat(state) -> torch.Tensor:
    """Return a bank's state as one array [B,N]."""
    return torch.cat([leaf.movedim(1, 0).flatten(1) for leaf in leaves(state)], dim=1)


def shaped(values: torch.Tensor, like) -> tuple:
    """Undo ``flat``: return values [B,N] in the shape of a state."""
    parts = iter(values.split([leaf[:, 0].numel() for leaf in leaves(like)], dim=1))

    def filled(part):
        if isinstance(part, tuple):
            return tuple(map(filled, part))
        return next(parts).unflatten(1, (len(part), part.shape[2])).movedim(0, 1).contiguous()

    return filled(like)


def examine(bundle: ModelBundle, rows: np.ndarray) -> dict:
    """Return all figures of a bundle over bars [T,6]."""
    network, x = network_of(bundle, torch.float64), inputs_of(bundle, rows).double()
    return {
        "differences": differences(bundle, rows),
        "bits": bits(bundle, rows),
        "growth": {
            "regimes": growth(network.regimes, x),
            "covariates": growth(network.covariates, x[..., list(network.config.covariates)]),
        },
        "kept": kept(bundle, rows),
    }


def other_weights(bundle: ModelBundle, noise: float) -> ModelBundle:
    """Return the bundle with weights that nothing has trained, and normal noise on all of them."""
    torch.manual_seed(bundle.seed)
    network = build_network(bundle.kind, bundle.config)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(noise * torch.randn_like(weight))
    return replace(bundle, weights={name: tensor.numpy() for name, tensor in network.state_dict().items()})


def trained(kind: str, bars: Bars, settings: dict) -> ModelBundle:
    """Train a bundle on the bars before ``UNTIL``."""
    with tempfile.TemporaryDirectory() as folder:
        how = {"kind": kind, "until": UNTIL, "settings": settings, "progress": False, "runs": folder}
        return train(bars, Path(folder) / "bundle", **how)


def with_another_future(bars: Bars, until) -> Bars:
    """Return the bars with those after ``until`` in another order, and with them all labels of the future."""
    frame, first = bars.frame.copy(), len(bars.between(until=until))
    order = np.random.default_rng(0).permutation(np.arange(first, len(bars)))
    frame.iloc[first:] = frame.iloc[order].to_numpy()
    return Bars(frame, bars.market, bars.timeframe)


def same_weights(one: ModelBundle, other: ModelBundle) -> bool:
    """Tell whether two bundles have the same weights, bit for bit."""
    return all(np.array_equal(one.weights[name], weight) for name, weight in other.weights.items())


def passes(found: dict) -> bool:
    """Tell whether all that has to hold does, and whether the modes agree."""
    modes = [found["differences"][name] for name in ("step", "stream", "prefix", "altered")]
    return all(found["bits"].values()) and found.get("future_unseen", True) and max(modes) <= APART


def main() -> None:
    """Train, examine and print one line for each bundle."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(os.environ.get("HISSBT_TEST_DATA", "../shared/data"))
    parser.add_argument("--csv", type=Path, default=data / FILE, help="daily bars")
    parser.add_argument("--kind", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--epochs", nargs="+", type=int, default=(3, 20), help="20 is what hissbt train does")
    parser.add_argument("--seed", nargs="+", type=int, default=(0,))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    bars = load_bars(arguments.csv, market=Market("BTC-USD"))
    rows, lines = bars[-BARS:].arrays(), []

    def say(kind: str, seed: int, weights: str, bundle: ModelBundle, **more) -> None:
        found = {"kind": kind, "seed": seed, "weights": weights, **examine(bundle, rows), **more}
        lines.append(found)
        if not arguments.json:
            print(line(found), flush=True)

    if not arguments.json:
        print(HEAD)
    for kind in arguments.kind:
        for seed in arguments.seed:
            for epochs in arguments.epochs:
                settings = {"max_epochs": epochs, "patience": epochs, "seed": seed}
                bundle = trained(kind, bars, settings)
                if epochs == min(arguments.epochs):
                    unseen = same_weights(bundle, trained(kind, with_another_future(bars, UNTIL), settings))
                    say(kind, seed, "at the start", other_weights(bundle, 0.0))
                    say(kind, seed, "at random", other_weights(bundle, 0.1))
                    say(kind, seed, f"{epochs} epochs", bundle, future_unseen=unseen)
                else:
                    say(kind, seed, f"{epochs} epochs", bundle)
    failed = [each for each in lines if "epochs" in each["weights"] and not passes(each)]
    if arguments.json:
        print(json.dumps({"bars": BARS, "apart": APART, "bundles": lines}, indent=2))
    else:
        print(f"{len(failed)} trained bundles fail")
    sys.exit(bool(failed))


HEAD = (
    "kind    seed weights         step   stream   prefix  altered  float64     kept   growth: regimes, covariates"
    "   bit for bit"
)


def line(found: dict) -> str:
    """Return what is printed of a bundle."""
    apart = "".join(f"{value:9.1e}" for value in (*found["differences"].values(), found["kept"]))
    rates = "".join(f"{value:+9.4f}" for value in found["growth"].values())
    held = {**found["bits"], "future unseen": found.get("future_unseen", True)}
    broken = ", ".join(name for name, holds in held.items() if not holds)
    return f"{found['kind']:8}{found['seed']:4d} {found['weights']:12}{apart}   {rates}   {broken or 'all'}"


if __name__ == "__main__":
    main()
