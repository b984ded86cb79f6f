"""The figures of the comparison: bounds and their differences, levels, and how made-up returns look."""

from collections.abc import Mapping, Sequence

import numpy as np

from hissbt.candles import LOG_RETURN
from hissbt.research.generators import RIVALS
from hissbt.research.hvae_report.densities import AFTER, ALONE
from hissbt.research.hvae_report.judges import discriminative_score, predictive_score
from hissbt.research.hvae_report.material import Material
from hissbt.research.hvae_report.paths import described, windows
from hissbt.research.hvae_report.protocol import KINDS, SETS, Protocol
from hissbt.research.resampling import block_interval

GENERATORS = ("bootstrap", "garch", "markov")
"""The rivals whose made-up returns are looked at."""
BEFORE = "real, training span"


def bounds(runs: Sequence[Mapping], rivals: Mapping, protocol: Protocol) -> dict:
    """Return the bounds of the networks by set, the densities of the rivals, and the differences between them.

    ``runs`` hold "set", "kind", "seed" and "test" [N]; ``rivals`` are those of ``rival_densities``.
    """
    found = {}
    for name in SETS:
        by_kind = {kind: _stacked(runs, name, kind) for kind in KINDS}  # [S,N]
        found[name] = {
            "rows": {kind: _row(values, protocol) for kind, values in by_kind.items()},
            "differences": {"hvae less flat": _difference(by_kind["hvae"], by_kind["flat"], protocol)},
        }
    returns, hvae = found["returns"], _stacked(runs, "returns", "hvae")
    for rival, ways in rivals.items():
        memoryless = np.allclose(ways[ALONE], ways[AFTER])
        labels = {rival: ALONE} if memoryless else {f"{rival}, {words}": way for way, words in _WAYS.items()}
        for label, way in labels.items():
            values = ways[way]
            returns["rows"][label] = _row(values[None], protocol)
            returns["differences"][f"hvae less {label}"] = _difference(hvae, values[None], protocol)
    return found


_WAYS = {ALONE: "alone", AFTER: "with the past"}


def _stacked(runs: Sequence[Mapping], name: str, kind: str) -> np.ndarray:
    """Return [S,N] the bounds of every seed."""
    return np.stack([run["test"] for run in runs if (run["set"], run["kind"]) == (name, kind)])


def _row(values: np.ndarray, protocol: Protocol) -> dict:
    return {
        "seeds": values.mean(axis=1).tolist(),
        "mean": float(values.mean()),
        "interval": _ends(values, protocol),
    }


def _difference(ours: np.ndarray, other: np.ndarray, protocol: Protocol) -> dict:
    """Return the mean difference of [S,N] over windows and seeds, of each seed, and its interval over windows."""
    gap = ours - other  # [S,N], of equal seeds
    return {
        "difference": float(gap.mean()),
        "interval": _ends(gap, protocol),
        "seeds": gap.mean(axis=1).tolist(),
        "won": int((gap.mean(axis=1) > 0).sum()),
    }


def _ends(values: np.ndarray, protocol: Protocol) -> list[float]:
    """Return the 95 % interval of the mean over windows of [S,N], of the mean over the seeds."""
    of_window = values.mean(axis=0)
    found = block_interval(
        lambda at: of_window[at].mean(keepdims=True),
        len(of_window),
        min(protocol.block, len(of_window)),
        protocol.repeats,
        protocol.seeds[0],
    )
    return found[:, 0].tolist()


def levels(runs: Sequence[Mapping]) -> dict:
    """Return by set and kind what each level says, mean over the seeds, and how many seeds lost it."""
    found = {}
    for name in SETS:
        for kind in KINDS:
            seeds = [run["levels"] for run in runs if (run["set"], run["kind"]) == (name, kind)]
            found.setdefault(name, {})[kind] = [
                {
                    "level": same[0]["level"],
                    "stride": same[0]["stride"],
                    "units": same[0]["units"],
                    "kl_a_latent": float(np.mean([level["kl_a_latent"] for level in same])),
                    "kl_a_bar": float(np.mean([level["kl_a_bar"] for level in same])),
                    "active_units": [level["active_units"] for level in same],
                    "collapsed": sum(level["active_units"] == 0 for level in same),
                }
                for same in zip(*seeds, strict=True)
            ]
    return found


def generated(runs: Sequence[Mapping], data: Material, protocol: Protocol) -> dict:
    """Return the statistics of real and made-up returns by generator: of networks a list, one entry a seed."""
    real = data.windows(data.test)
    before = windows(data.returns[data.train.start : data.train.stop], data.window)
    threshold = protocol.threshold * data.deviation * np.sqrt(data.window)
    made = {
        f"{kind}, {name}": [
            data.natural(run["samples"][..., LOG_RETURN])
            for run in runs
            if (run["set"], run["kind"]) == (name, kind)
        ]
        for name in SETS
        for kind in KINDS
    }
    made |= {name: [_rival_windows(name, data, protocol)] for name in GENERATORS}
    made[BEFORE] = [before]

    def judged(paths: np.ndarray) -> dict:
        return described(paths, real, threshold) | {
            "discriminative": discriminative_score(real, paths),
            "predictive": predictive_score(paths, real),
        }

    return {
        "real": described(real, real, threshold),
        "generators": {name: [judged(paths) for paths in seeds] for name, seeds in made.items()},
        "threshold": threshold,
    }


def _rival_windows(name: str, data: Material, protocol: Protocol) -> np.ndarray:
    bars = protocol.rival_windows * data.window
    rows = RIVALS[name].generate(protocol.rival_paths, bars, protocol.seeds[0], data.history)
    return windows(rows[..., LOG_RETURN], data.window)
