"""``hissbt compare --preset switching-paper``: the tables of arXiv 2407.15236 beside our own estimates of them.

Everything that decides the outcome is in ``protocol``, what the article prints in ``tables``; ``measure`` works
the figures out, ``verdicts`` says by rule whether each claim holds, ``page`` shows both.
"""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from hissbt.bars import Bars
from hissbt.reports.run_folder import provenance
from hissbt.research.entries import Enter, fits_on
from hissbt.research.progress import Progress
from hissbt.research.results import write_results
from hissbt.research.switching_paper.estimates import ESTIMATES, compared
from hissbt.research.switching_paper.forecasts import baselines, jobs, train_one
from hissbt.research.switching_paper.material import Material, material
from hissbt.research.switching_paper.page import write_page
from hissbt.research.switching_paper.protocol import KINDS, PAPER, QUICK, Protocol
from hissbt.research.switching_paper.scores import backtested, classified
from hissbt.research.switching_paper.verdicts import verdicts

__all__ = ["PAPER", "QUICK", "Protocol", "compare_switching_paper", "measure"]


_PACKAGES = ("statsmodels", "arch", "joblib", "scipy", "plotly")


def compare_switching_paper(
    bars: Bars,
    protocol: Protocol = PAPER,
    *,
    out: str | Path = "runs",
    workers: int = 2,
    progress: Progress | None = None,
) -> tuple[Path, dict]:
    """Repeat the article on ``bars``; return the new folder with report.html and results.json, and the results.

    Raises BarsError for bars that do not reach over the protocol's span.
    """
    results = measure(bars, protocol, workers, progress, out)
    return write_results(out, "compare-switching-paper", bars.market.symbol, results, write_page), results


def measure(
    bars: Bars,
    protocol: Protocol,
    workers: int = 2,
    progress: Progress | None = None,
    ledger: str | Path | None = None,
) -> dict[str, Any]:
    """Estimate, train and score everything; return it as plain data. The number of workers changes no figure.

    Every training is entered in the trial ledger of the folder ``ledger``, see ``hissbt.trials``.
    """
    begun = time.perf_counter()
    data = material(bars, protocol)
    fits, trained = _work(data, protocol, workers, progress, fits_on(bars, ledger))
    said = {
        kind: np.stack([run["probability"] > 0.5 for run in trained if run["kind"] == kind]) for kind in KINDS
    } | {rule: forecast[None] for rule, forecast in baselines(data, protocol).items()}
    results = {
        "preset": "switching-paper",
        "short": len(protocol.seeds) < 10 or replace(protocol, seeds=PAPER.seeds) != PAPER,
        "protocol": asdict(protocol),
        "data": _described(bars, data),
        "markov": [compared(estimate, fits[estimate.name]) for estimate in ESTIMATES],
        "training": [{name: run[name] for name in run if name != "probability"} for run in trained],
        "classification": classified(said, data, protocol),
        "backtest": {
            "in_sample": backtested(said, data.in_sample, data, protocol),
            "out_of_sample": backtested(said, data.test, data, protocol),
        },
        "curves": _curves(said, data),
    }
    found = provenance()
    found["versions"] |= {name: version(name) for name in _PACKAGES}
    results["verdicts"] = verdicts(results)
    return results | {"provenance": found, "seconds": time.perf_counter() - begun}


def _work(
    data: Material, protocol: Protocol, workers: int, progress: Progress | None, enter: Enter
) -> tuple[dict, list[dict]]:
    """Fit every estimate and train every network, side by side; return fits by name, and runs by kind and seed."""
    from joblib import Parallel, delayed, parallel_config

    # The last estimates are the longest piece of work: first, so that the workers end together.
    todo = [delayed(_fit)(number, data, protocol) for number in reversed(range(len(ESTIMATES)))]
    todo += [delayed(_train)(kind, seed, data, protocol, enter) for kind, seed in jobs(protocol)]
    fits, trained = {}, []
    with parallel_config("loky", n_jobs=workers, inner_max_num_threads=1):
        for done, (name, result) in enumerate(Parallel(return_as="generator_unordered")(todo), start=1):
            if isinstance(result, dict):
                trained.append(result)
            else:
                fits[name] = result
            if progress is not None:
                progress(name, done, len(todo))
    return fits, sorted(trained, key=lambda run: (KINDS.index(run["kind"]), run["seed"]))


def _train(kind: str, seed: int, data: Material, protocol: Protocol, enter: Enter) -> tuple[str, dict]:
    with enter({"preset": "switching-paper", "protocol": asdict(protocol), "kind": kind, "seed": seed}):
        return f"{kind}, seed {seed}", train_one(kind, seed, data, protocol)


def _fit(number: int, data: Material, protocol: Protocol) -> tuple[str, Any]:
    return ESTIMATES[number].name, ESTIMATES[number].fit(data, protocol)


def _described(bars: Bars, data: Material) -> dict[str, Any]:
    """Return which bars were used for what; spans are closes, first and last."""

    def span(rows: range) -> dict[str, Any]:
        labels = data.labels[rows.start : rows.stop]
        return {
            "first": data.closes[rows.start].isoformat(),
            "last": data.closes[rows.stop - 1].isoformat(),
            "bars": len(rows),
            "bull": int(np.nansum(labels)),
        }

    def asset(rows: range) -> dict[str, float]:
        returns = data.next_return[rows.start : rows.stop]
        return {
            "mean_return": float(returns.mean() * data.periods),
            "mean_square": float((returns**2).mean() * data.periods),
        }

    spans = {name: getattr(data, name) for name in ("in_sample", "train", "validation", "test")}
    return {
        "symbol": bars.market.symbol,
        "sha256": bars.sha256,
        "bars_given": len(bars),
        "whole": span(range(len(data.price))),
        "spans": {name: span(rows) for name, rows in spans.items()},
        "asset": {name: asset(spans[name]) for name in ("in_sample", "test")},
        "periods": data.periods,
    }


def _curves(said: dict[str, np.ndarray], data: Material) -> dict[str, Any]:
    """Return the sum of returns over the test span, gross, as a mean over the seeds, and of the asset."""
    rows = np.arange(data.test.start, data.test.stop)
    asset = data.next_return[rows]
    curves = {
        kind: np.mean(np.cumsum(np.where(said[kind][:, rows], asset, -asset), axis=1), axis=0) for kind in KINDS
    }
    curves["buy and hold"] = np.cumsum(asset)
    return {
        # What is decided at a close has earned at the next one.
        "close_time": [close.isoformat() for close in data.closes[rows + 1]],
        "sums": {name: curve.round(6).tolist() for name, curve in curves.items()},
    }
