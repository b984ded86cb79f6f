"""``hissbt analyze``: what each level of a trained hierarchical VAE knows, forecasts and finds unusual."""

from __future__ import annotations

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.errors import BarsError, BundleError
from hissbt.reports.run_folder import provenance
from hissbt.research.hvae_report.analysis_page import write_analysis
from hissbt.research.hvae_report.analysis_verdicts import analysis_verdicts
from hissbt.research.hvae_report.anomalies import anomalies
from hissbt.research.hvae_report.clusters import clusters
from hissbt.research.hvae_report.forecasts import forecasts
from hissbt.research.hvae_report.readings import read, spans
from hissbt.research.results import check_out, write_results
from hissbt.timeframe import parse_timeframe

_LEAST_WINDOWS = 10  # out of sample
_PACKAGES = ("arch", "scipy", "plotly", "scikit-learn")


def analyze_hvae(bars: Bars, model: str | Path | ModelBundle, *, out: str | Path = "runs") -> tuple[Path, dict]:
    """Analyze a bundle over ``bars``, which reach beyond its training span; write a folder with a page.

    Returns the folder with report.html and results.json, and the results. Raises BundleError for a bundle of
    another kind, BarsError for bars of another length, or with too few of them unseen, ConfigError for an ``out``
    that is a file.
    """
    check_out(out)
    bundle = model if isinstance(model, ModelBundle) else ModelBundle.load(model)
    results = measure(bars, bundle)
    return write_results(out, "analyze-hvae", bars.market.symbol, results, write_analysis), results


def measure(bars: Bars, bundle: ModelBundle) -> dict[str, Any]:
    """Work out all figures of the analysis, as plain data."""
    from hissbt.training.vae_trials import bundle_levels

    begun = time.perf_counter()
    _check(bars, bundle)
    online = read(bundle, bars)
    of = spans(bars, bundle, online.warm)
    window = bundle.config["strides"][-1]
    if len(of.unseen) < _LEAST_WINDOWS * window or len(of.seen) < _LEAST_WINDOWS * window:
        raise BarsError(
            f"{len(of.unseen)} bars after the training span and {len(of.seen)} within it are too few to judge "
            f"windows of {window}: give at least {_LEAST_WINDOWS * window} of each"
        )
    parts = {"in_sample": of.seen, "out_of_sample": of.unseen}
    closes = bars.frame.index
    results = {
        "kind": "hvae",
        "bundle": {
            "sha256": bundle.sha256,
            "symbol": bundle.symbol,
            "strides": list(bundle.config["strides"]),
            "d_latent": list(bundle.config["d_latent"]),
            "training_span": bundle.training_span,
            "metrics": bundle.metrics,
        },
        "data": {
            "symbol": bars.market.symbol,
            "sha256": bars.sha256,
            "bars_given": len(bars),
            "horizons": {"day": of.day, "week": of.week, "month": of.month},
            "spans": {
                name: {
                    "first": closes[rows.start].isoformat(),
                    "last": closes[rows.stop - 1].isoformat(),
                    "bars": len(rows),
                }
                for name, rows in parts.items()
            },
        },
        "levels": {
            name: bundle_levels(bundle, bars[max(rows.start - online.warm, 0) : rows.stop])
            for name, rows in parts.items()
        },
        "clusters": {
            name: clusters(bars, online, rows, window, bundle.config["n_clusters"]) for name, rows in parts.items()
        },
        "forecasts": forecasts(bars, online, of),
        "anomalies": anomalies(closes, online, of, window),
    }
    found = provenance()
    found["versions"] |= {name: version(name) for name in _PACKAGES}
    results["verdicts"] = analysis_verdicts(results)
    return results | {"provenance": found, "seconds": time.perf_counter() - begun}


def _check(bars: Bars, bundle: ModelBundle) -> None:
    if bundle.kind != "hvae":
        raise BundleError(f"this is a {bundle.kind} bundle, which has no levels of latents: name one of kind hvae")
    if parse_timeframe(bundle.timeframe) != bars.timeframe:
        raise BarsError(
            f"the bundle was trained on bars of {bundle.timeframe}, these of {bars.market.symbol} have another "
            "length: give bars of that one"
        )
