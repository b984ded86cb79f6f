"""``hissbt compare --preset three-scales``: HiSS beside flat networks of its size, where the truth is known."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from hissbt.errors import ConfigError
from hissbt.reports.run_folder import provenance
from hissbt.research.progress import Progress
from hissbt.research.results import check_out, write_results
from hissbt.research.three_scales.page import write_page
from hissbt.research.three_scales.protocol import FULL, HISS, Protocol
from hissbt.research.three_scales.system import (
    INPUT_NOISE,
    LABEL_NOISE,
    SCALES,
    TERMS,
    Simulated,
    explained,
    floors,
    simulate,
    term_name,
)
from hissbt.research.three_scales.verdicts import verdicts
from hissbt.trials import Trials

PRESET = "three-scales"
LEVEL = 0.95


def compare_three_scales(
    protocol: Protocol = FULL,
    *,
    out: str | Path = "runs",
    workers: int = 2,
    progress: Progress | None = None,
) -> tuple[Path, dict]:
    """Compare on simulated series; return the new folder with report.html and results.json, and the results.

    Raises ConfigError for less than two seeds, which leave no interval, and where ``out`` is a file.
    """
    check_out(out)
    results = measure(protocol, workers, progress, out)
    return write_results(out, f"compare-{PRESET}", "synthetic", results, write_page), results


def measure(
    protocol: Protocol,
    workers: int = 2,
    progress: Progress | None = None,
    ledger: str | Path | None = None,
) -> dict[str, Any]:
    """Choose rates, train, score; return it as plain data. The number of workers changes no figure.

    Every fit is entered in the trial ledger of the folder ``ledger``, see ``hissbt.trials``.
    """
    if len(protocol.seeds) < 2:
        raise ConfigError(f"{len(protocol.seeds)} seeds leave no interval: give two at least")
    begun = time.perf_counter()
    tuned, runs = _train(protocol, workers, progress, ledger)
    results = {
        "preset": PRESET,
        "short": len(protocol.seeds) < len(FULL.seeds) or replace(protocol, seeds=FULL.seeds) != FULL,
        "protocol": asdict(protocol),
        "system": _described(protocol),
        "rates": [{key: run[key] for key in ("network", "rate", "validation")} for run in tuned],
        "training": runs,
        "scores": scores(runs, protocol),
        "differences": differences(runs, protocol),
    }
    return results | {
        "verdicts": verdicts(results),
        "provenance": provenance(),
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": sum(run["cpu_seconds"] for run in (*tuned, *runs)),
    }


def trial(network: str, rate: float, seed: int, data: Simulated, protocol: Protocol) -> dict[str, Any]:
    """Fit one network to one series and judge it; only the rows up to the end of validation decide the weights."""
    from hissbt.training.regression import Series, fit_regression

    begun, cpu = time.perf_counter(), time.process_time()
    kind, settings = protocol.networks[network]
    spans = protocol.spans()
    series = Series(data.x, data.y, spans["train"], spans["validation"])
    fitted = fit_regression(kind, settings, [series], protocol.training | {"lr": rate, "seed": seed})
    seconds = time.perf_counter() - begun
    first = spans["validation"].start - protocol.apart  # only warms the state
    forecast = np.full(len(data.y), np.nan)
    forecast[first:], _ = fitted.predict(data.x[first:])
    validation, test = (slice(spans[name].start, spans[name].stop) for name in ("validation", "test"))
    return {
        "network": network,
        "rate": rate,
        "seed": seed,
        "validation": _mean_square(forecast[validation] - data.y[validation]),
        "mse": _mean_square(forecast[test] - data.y[test]),
        "excess": _mean_square(forecast[test] - data.bayes[test]),
        "learned": learned(forecast[test], data.known[test]),
        "parameters": fitted.parameters,
        "seconds": seconds,
        "cpu_seconds": time.process_time() - cpu,
        "data_sha256": hashlib.sha256(data.x.tobytes() + data.y.tobytes()).hexdigest(),
    }


def learned(forecast: np.ndarray, known: np.ndarray) -> dict[str, float]:
    """Return how much of each term a forecast [T] holds: its coefficients in a regression on what is ``known``.

    ``known`` [T,6] is what can be known of the terms: 1 is all of it, 0 nothing.
    """
    columns = np.column_stack([np.ones(len(known)), known])
    _, *slopes = np.linalg.lstsq(columns, forecast, rcond=None)[0]
    return {term_name(degrees): float(slope) for degrees, slope in zip(TERMS, slopes, strict=True)}


def scores(runs: Sequence[dict], protocol: Protocol) -> dict[str, dict[str, Any]]:
    """Return what became of each network, means over the seeds; ``share`` is of the variance that can be known."""
    found = {}
    for name in protocol.networks:
        own = _by_seed(runs, name, protocol)
        excess = [run["excess"] for run in own]
        found[name] = {
            "mse": float(np.mean([run["mse"] for run in own])),
            "mse_seeds": [run["mse"] for run in own],
            "excess": float(np.mean(excess)),
            "share": 1 - float(np.mean(excess)) / explained(),
            "share_seeds": [1 - value / explained() for value in excess],
            "learned": {term: float(np.mean([run["learned"][term] for run in own])) for term in own[0]["learned"]},
            "rate": own[0]["rate"],
            "parameters": own[0]["parameters"],
            "seconds": float(np.mean([run["seconds"] for run in own])),
        }
    return found


def differences(runs: Sequence[dict], protocol: Protocol) -> dict[str, dict[str, Any]]:
    """Return by how much the MSE of each rival is above that of HiSS, seed by seed; above 0 HiSS is better.

    ``relative`` is of the rival's MSE, the noise floor in it; the interval is Student's over the seeds.
    """
    from scipy.stats import t

    hiss = np.array([run["excess"] for run in _by_seed(runs, HISS, protocol)])
    floor = sum(TERMS.values()) + LABEL_NOISE - explained()
    found = {}
    for name in protocol.networks:
        if name == HISS:
            continue
        rival = np.array([run["excess"] for run in _by_seed(runs, name, protocol)])
        gaps = rival - hiss
        reach = t.ppf((1 + LEVEL) / 2, len(gaps) - 1) * gaps.std(ddof=1) / np.sqrt(len(gaps))
        found[name] = {
            "difference": float(gaps.mean()),
            "interval": [float(gaps.mean() - reach), float(gaps.mean() + reach)],
            "relative": float(gaps.mean() / (floor + rival.mean())),
            "relative_excess": float(gaps.mean() / rival.mean()),
            "seeds": gaps.tolist(),
            "won": int((gaps > 0).sum()),
        }
    return found


def _train(
    protocol: Protocol, workers: int, progress: Progress | None, ledger: str | Path | None
) -> tuple[list[dict], list[dict]]:
    """Choose a rate for each network, then train each with every seed; return both lists of runs."""
    slowest_first = list(reversed(protocol.networks))  # so that no worker waits long at the end
    total = len(slowest_first) * (len(protocol.rates) + len(protocol.seeds))
    jobs = [(name, rate, protocol.tuning_seed) for name in slowest_first for rate in protocol.rates]
    tuned = _side_by_side(jobs, protocol, workers, progress, ledger, 0, total)
    best = {
        name: min((run for run in tuned if run["network"] == name), key=lambda run: run["validation"])["rate"]
        for name in protocol.networks
    }
    jobs = [(name, best[name], seed) for name in slowest_first for seed in protocol.seeds]
    return tuned, _side_by_side(jobs, protocol, workers, progress, ledger, len(tuned), total)


def _side_by_side(
    jobs: Sequence[tuple[str, float, int]],
    protocol: Protocol,
    workers: int,
    progress: Progress | None,
    ledger: str | Path | None,
    done: int,
    total: int,
) -> list[dict]:
    """Run the jobs, tell ``progress`` from ``done`` on, and return their results in the same order."""
    from joblib import Parallel, delayed, parallel_config

    runs = []
    with parallel_config("loky", n_jobs=workers, inner_max_num_threads=1):
        for run in Parallel(return_as="generator")(delayed(_entered)(*job, protocol, ledger) for job in jobs):
            runs.append(run)
            if progress is not None:
                progress(f"{run['network']}, seed {run['seed']}", done + len(runs), total)
    return runs


def _entered(
    network: str, rate: float, seed: int, protocol: Protocol, ledger: str | Path | None
) -> dict[str, Any]:
    data = simulate(protocol.spans()["test"].stop, seed)
    job = {"preset": PRESET, "protocol": asdict(protocol), "network": network, "rate": rate, "seed": seed}
    with Trials(ledger).trial("fit", job, symbol=PRESET, timeframe="bar"):
        return trial(network, rate, seed, data, protocol)


def _by_seed(runs: Sequence[dict], network: str, protocol: Protocol) -> list[dict]:
    """Return the runs of a network in the order of the seeds."""
    own = {run["seed"]: run for run in runs if run["network"] == network}
    return [own[seed] for seed in protocol.seeds]


def _described(protocol: Protocol) -> dict[str, Any]:
    """Return the system in figures: what it is made of, and what no forecast can do better."""
    return {
        "scales": dict(SCALES),
        "terms": [
            {
                "term": term_name(degrees),
                "variance": variance,
                "explained": explained(None, [degrees]),
                "explained_by_window": explained(protocol.window, [degrees]),
            }
            for degrees, variance in TERMS.items()
        ],
        "input_noise": INPUT_NOISE,
        "label_noise": LABEL_NOISE,
        "explained": explained(),
        "window": protocol.window,
        "lost_by_window": 1 - explained(protocol.window) / explained(),
        "floors": floors(protocol.window),
    }


def _mean_square(values: np.ndarray) -> float:
    return float((values**2).mean())
