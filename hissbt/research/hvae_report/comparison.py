"""``hissbt compare --preset hvae``: a hierarchical VAE beside a flat one and the cheap models of returns."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hissbt.bars import Bars
from hissbt.reports.run_folder import provenance
from hissbt.research.entries import Enter, fits_on
from hissbt.research.hvae_report.densities import rival_densities
from hissbt.research.hvae_report.material import Material, material
from hissbt.research.hvae_report.measures import bounds, generated, levels
from hissbt.research.hvae_report.page import write_page
from hissbt.research.hvae_report.protocol import FULL, KINDS, SETS, Protocol
from hissbt.research.hvae_report.verdicts import verdicts
from hissbt.research.progress import Progress
from hissbt.research.results import write_results

_PACKAGES = ("statsmodels", "arch", "joblib", "scipy", "plotly", "scikit-learn")


def compare_hvae(
    bars: Bars,
    protocol: Protocol = FULL,
    *,
    out: str | Path = "runs",
    workers: int = 2,
    progress: Progress | None = None,
) -> tuple[Path, dict]:
    """Compare on ``bars``; return the new folder with report.html and results.json, and the results.

    Raises BarsError for too few bars.
    """
    results = measure(bars, protocol, workers, progress, out)
    return write_results(out, "compare-hvae", bars.market.symbol, results, write_page), results


def measure(
    bars: Bars,
    protocol: Protocol,
    workers: int = 2,
    progress: Progress | None = None,
    ledger: str | Path | None = None,
) -> dict[str, Any]:
    """Train, score and describe everything; return it as plain data. The number of workers changes no figure.

    Every fit is entered in the trial ledger of the folder ``ledger``, see ``hissbt.trials``.
    """
    begun = time.perf_counter()
    data = material(bars, protocol)
    tuned, runs = _train(data, protocol, workers, progress, fits_on(bars, ledger))
    scaled = data.values("returns")[:, 0]
    rivals = rival_densities(scaled[data.train.start : data.validation.stop], scaled, data.test, data.window)
    results = {
        "preset": "hvae",
        "short": len(protocol.seeds) < 5 or replace(protocol, seeds=FULL.seeds) != FULL,
        "protocol": asdict(protocol),
        "data": _described(bars, data),
        "rates": tuned,
        "training": [
            {name: run[name] for name in ("set", "kind", "seed", "rate", "validation", "parameters", "seconds")}
            for run in runs
        ],
        "bounds": bounds(runs, rivals, protocol),
        "levels": levels(runs),
        "generated": generated(runs, data, protocol),
    }
    found = provenance()
    found["versions"] |= {name: version(name) for name in _PACKAGES}
    results["verdicts"] = verdicts(results)
    return results | {"provenance": found, "seconds": time.perf_counter() - begun}


def _train(
    data: Material, protocol: Protocol, workers: int, progress: Progress | None, enter: Enter
) -> tuple[list[dict], list[dict]]:
    """Choose a rate for each kind and set, then train each with every seed; return both lists of runs."""
    pairs = [(name, kind) for name in SETS for kind in KINDS]
    total = len(pairs) * (len(protocol.rates) + len(protocol.seeds))
    trials = [(*pair, protocol.tuning_seed, rate) for pair in pairs for rate in protocol.rates]
    tried = _side_by_side(trials, data, protocol, workers, progress, enter, 0, total)
    best = {
        pair: max((run for run in tried if (run["set"], run["kind"]) == pair), key=lambda run: run["validation"])
        for pair in pairs
    }
    jobs = [(*pair, seed, best[pair]["rate"]) for pair in pairs for seed in protocol.seeds]
    runs = _side_by_side(jobs, data, protocol, workers, progress, enter, len(trials), total)
    tuned = [{name: run[name] for name in ("set", "kind", "rate", "validation")} for run in tried]
    return tuned, runs


def _side_by_side(
    jobs: Sequence[tuple],
    data: Material,
    protocol: Protocol,
    workers: int,
    progress: Progress | None,
    enter: Enter,
    done: int,
    total: int,
) -> list[dict]:
    """Run the jobs, tell ``progress`` from ``done`` on, and return their results in the same order."""
    from joblib import Parallel, delayed, parallel_config

    runs = []
    with parallel_config("loky", n_jobs=workers, inner_max_num_threads=1):
        for run in Parallel(return_as="generator")(delayed(_fit)(*job, data, protocol, enter) for job in jobs):
            runs.append(run)
            if progress is not None:
                progress(f"{run['kind']} on {run['set']}, seed {run['seed']}", done + len(runs), total)
    return runs


def _fit(
    name: str, kind: str, seed: int, rate: float, data: Material, protocol: Protocol, enter: Enter
) -> dict[str, Any]:
    from hissbt.training.vae_trials import vae_trial

    job = {"set": name, "kind": kind, "seed": seed, "rate": rate}
    with enter({"preset": "hvae", "protocol": asdict(protocol), **job}):
        trial = vae_trial(
            kind,
            protocol.network | {"n_features": data.values(name).shape[1], "strides": data.strides},
            data.values(name),
            data.train,
            data.validation,
            data.test,
            protocol.training | {"lr": rate, "seed": seed},
            protocol.samples,
        )
    return job | vars(trial)


def _described(bars: Bars, data: Material) -> dict[str, Any]:
    """Return which bars were used for what; spans are closes, first and last."""

    def span(first: int, stop: int) -> dict[str, Any]:
        closes = data.closes[[first, stop - 1]]
        return {"first": closes[0].isoformat(), "last": closes[1].isoformat(), "bars": stop - first}

    return {
        "symbol": bars.market.symbol,
        "sha256": bars.sha256,
        "bars_given": len(bars),
        "strides": list(data.strides),
        "candles": list(data.names),
        "windows": len(data.test),
        "spans": {
            "train": span(data.train.start, data.train.stop),
            "validation": span(data.validation.start, data.validation.stop),
            "test": span(int(data.test[0]), int(data.test[-1]) + data.window),
        },
    }
