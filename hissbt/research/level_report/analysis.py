"""``hissbt analyze`` of a HiSS bundle: what each level contributes, how it moves, what it knows and remembers."""

import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.errors import BarsError, BundleError
from hissbt.reports.run_folder import provenance
from hissbt.research.hvae_report.readings import Spans, spans
from hissbt.research.level_report.ablation import ALL, ablation, level_name
from hissbt.research.level_report.horizons import asked, horizons
from hissbt.research.level_report.memory import memory
from hissbt.research.level_report.page import write_page
from hissbt.research.level_report.spectrum import spectra
from hissbt.research.level_report.verdicts import level_rows, verdicts
from hissbt.research.progress import Progress
from hissbt.research.results import check_out, write_results
from hissbt.timeframe import format_timeframe, parse_timeframe
from hissbt.training.level_probe import LevelProbe

_LEAST_BARS = 200
_LEAST_BLOCKS = 20  # of the coarsest level
_LAGS = 2_048
_LAG_BLOCKS = 16
_SEED = 0
_PACKAGES = ("arch", "scipy", "plotly", "scikit-learn")
_STEPS = ("levels", "ablation", "spectrum", "horizons", "memory")


def analyze_hiss(
    bars: Bars, model: str | Path | ModelBundle, *, out: str | Path = "runs", progress: Progress | None = None
) -> tuple[Path, dict[str, Any]]:
    """Analyze a bundle of kind hiss over ``bars``, which reach beyond its training span, and write a page.

    ``progress`` is told after each step what it was, how many are done and of how many. Returns the folder with
    report.html and results.json, and the results. Raises BundleError for a bundle of another kind, BarsError for
    bars of another length, or with too few of them seen in training or unseen, ConfigError if ``out`` is a file.
    """
    check_out(out)
    bundle = model if isinstance(model, ModelBundle) else ModelBundle.load(model)
    results = measure(bars, bundle, progress)
    return write_results(out, "analyze-hiss", bars.market.symbol, results, write_page), results


def measure(bars: Bars, bundle: ModelBundle, progress: Progress | None = None) -> dict[str, Any]:
    """Work out all figures of the analysis, as plain data."""
    begun, done = time.perf_counter(), iter(range(1, len(_STEPS) + 1))

    def tell(step: str) -> None:
        if progress is not None:
            progress(step, next(done), len(_STEPS))

    _check(bars, bundle)
    of = spans(bars, bundle, bundle.warmup - 1)
    probe = LevelProbe.of(bundle, bars, of.seen)
    _check_spans(of, probe.strides[-1], bundle.horizon)
    tell("levels")
    results = {
        "kind": "hiss",
        "bundle": _about(bundle) | {"strides": list(probe.strides)},
        "data": _data(bars, of),
    }
    results["ablation"] = ablation(bars, bundle, probe, of)
    tell("ablation")
    results["spectrum"] = spectra(probe.held, probe.strides, of.unseen)
    tell("spectrum")
    known = _sources(probe)
    results["horizons"] = horizons(bars.frame["close"].to_numpy(), known, of, asked(of, bundle.horizon))
    tell("horizons")
    lags = min(max(_LAGS, _LAG_BLOCKS * probe.strides[-1]), len(of.unseen) // 2)
    results["memory"] = memory(probe.responses(of.unseen, lags, bundle.warmup, _SEED))
    tell("memory")
    results["levels"] = level_rows(results)
    results["verdicts"] = verdicts(results)
    found = provenance()
    found["versions"] |= {name: version(name) for name in _PACKAGES}
    return results | {"provenance": found, "seconds": time.perf_counter() - begun}


def _sources(probe: LevelProbe) -> dict[str, np.ndarray]:
    """Return what the linear probes are given: each level, all of them if they are several, and the inputs."""
    held = {level_name(level): values for level, values in enumerate(probe.held)}
    together = {ALL: np.hstack(probe.held)} if len(held) > 1 else {}
    return held | together | {"inputs": probe.inputs}


def _about(bundle: ModelBundle) -> dict[str, Any]:
    sizes = {name: bundle.config[name] for name in ("blocks", "d_model", "d_state", "n_layers")}
    facts = ("symbol", "timeframe", "horizon", "warmup", "training_span", "metrics")
    return {"sha256": bundle.sha256} | sizes | {name: getattr(bundle, name) for name in facts}


def _data(bars: Bars, of: Spans) -> dict[str, Any]:
    closes = bars.frame.index
    return {
        "symbol": bars.market.symbol,
        "timeframe": format_timeframe(bars.timeframe),
        "sha256": bars.sha256,
        "bars_given": len(bars),
        "spans": {
            name: {
                "first": closes[rows.start].isoformat(),
                "last": closes[rows.stop - 1].isoformat(),
                "bars": len(rows),
            }
            for name, rows in {"in_sample": of.seen, "out_of_sample": of.unseen}.items()
        },
    }


def _check(bars: Bars, bundle: ModelBundle) -> None:
    if bundle.kind != "hiss":
        raise BundleError(
            f"this is a {bundle.kind} bundle, which has no levels at several rates: name one of kind hiss or hvae"
        )
    if parse_timeframe(bundle.timeframe) != bars.timeframe:
        raise BarsError(
            f"the bundle was trained on bars of {bundle.timeframe}, these of {bars.market.symbol} have another "
            "length: give bars of that one"
        )


def _check_spans(of: Spans, top: int, horizon: int) -> None:
    least = max(_LEAST_BARS, _LEAST_BLOCKS * max(top, horizon))
    if min(len(of.seen), len(of.unseen)) < least:
        raise BarsError(
            f"{len(of.unseen)} bars after the training span and {len(of.seen)} within it are too few to judge "
            f"levels of up to {top} bars and forecasts over {horizon}: give at least {least} of each"
        )
