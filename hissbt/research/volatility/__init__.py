"""``hissbt compare --preset volatility``: HiSS beside HAR, GARCH, ridge and flat networks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hissbt.bars import Bars
from hissbt.evidence.independence import disjoint_size
from hissbt.reports.run_folder import provenance
from hissbt.research.progress import Progress
from hissbt.research.results import write_results
from hissbt.research.volatility.engine import Outlook, outlooks
from hissbt.research.volatility.material import Material, material
from hissbt.research.volatility.page import write_page
from hissbt.research.volatility.protocol import FULL, HAR, HAR_SEASON, HISS, MINUTES, QUICK, RIDGE, Protocol
from hissbt.research.volatility.scores import qlike, scored
from hissbt.research.volatility.verdicts import verdicts

__all__ = ["FULL", "MINUTES", "QUICK", "Protocol", "compare_volatility", "measure"]

_PACKAGES = ("statsmodels", "arch", "joblib", "scipy", "plotly", "scikit-learn", "lightning")


def compare_volatility(
    bars: Bars,
    protocol: Protocol = FULL,
    *,
    also: Sequence[Bars] = (),
    out: str | Path = "runs",
    workers: int = 2,
    progress: Progress | None = None,
) -> tuple[Path, dict]:
    """Compare on ``bars``; return the new folder with report.html and results.json, and the results.

    ``also`` are bars of further symbols: learned from, and judged where they reach over the test span.
    Raises BarsError for too few bars, or two of one symbol.
    """
    results = measure(bars, protocol, also=also, out=out, workers=workers, progress=progress)
    return write_results(out, "compare-volatility", bars.market.symbol, results, write_page), results


def measure(
    bars: Bars,
    protocol: Protocol,
    *,
    also: Sequence[Bars] = (),
    out: str | Path = "runs",
    workers: int = 2,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fit and score everybody; return it as plain data. Fits are kept, and entered as trials, in ``out``."""
    begun = time.perf_counter()
    data = material(bars, also, protocol)
    found = outlooks(data, protocol, out, workers, progress)
    rows = scored(found, data, protocol)
    made = provenance()
    made["versions"] |= {name: version(name) for name in _PACKAGES}
    return {
        "preset": "volatility",
        "short": len(protocol.seeds) < len(FULL.seeds) or _steps(protocol) < _steps(FULL),
        "protocol": asdict(protocol) | {"features": list(protocol.features)},
        "data": _described(data, protocol),
        "rows": rows,
        "verdicts": verdicts(rows, protocol.aims),
        "over_time": _over_time(found, data, protocol),
        "provenance": made,
        "seconds": time.perf_counter() - begun,
    }


def _steps(protocol: Protocol) -> int:
    """Return how many batches a network is trained on."""
    from hissbt.training.regression import RegressionConfig

    return RegressionConfig.of(protocol.training).steps


def _over_time(found: Sequence[Outlook], data: Material, protocol: Protocol) -> dict[str, Any]:
    """Return by day (UTC) how far HiSS is ahead of some, and what volatility there was and had been said."""
    named = {one.name: one for one in found}
    was = np.stack(data.log_variance)  # [J,N]
    losses = {
        name: qlike(was, named[name].log_variance.mean(axis=1)).mean(axis=0)
        for name in (HISS, HAR, HAR_SEASON, RIDGE)
    }
    hiss = losses.pop(HISS)
    table = pd.DataFrame({name: np.cumsum(loss - hiss) for name, loss in losses.items()}, index=data.closes)
    said = named[HISS].log_variance[0].mean(axis=0)
    for name, variance in (("realized", was[0]), ("forecast", said)):
        table[name] = 100 * np.exp(variance / 2)
    daily = table.groupby(table.index.floor("D")).last()
    columns = daily.to_dict("list")
    volatility = {name: columns.pop(name) for name in ("realized", "forecast")}
    return {"closes": [close.isoformat() for close in daily.index], "lead": columns, "volatility": volatility}


def _described(data: Material, protocol: Protocol) -> dict[str, Any]:
    """Return which bars were used for what; spans are closes, first and last."""

    def span(closes: pd.DatetimeIndex) -> dict[str, Any]:
        return {"first": closes[0].isoformat(), "last": closes[-1].isoformat(), "bars": len(closes)}

    folds = []
    for tasks in data.folds:
        tested = tasks[0].bars.frame.index[tasks[0].test.start :]
        folds.append(
            {
                "first": tested[0].isoformat(),
                "last": tested[-1].isoformat(),
                "train": [len(task.train) for task in tasks],
            }
        )
    return {
        "symbols": list(data.symbols),
        "judged": [data.symbols[at] for at in data.judged],
        "first": data.closes[0].isoformat(),
        "last": data.closes[-1].isoformat(),
        "n": len(data.closes),
        "disjoint": disjoint_size(len(data.closes), protocol.horizon),
        "spans": {name: span(bars.frame.index) for name, bars in zip(data.symbols, data.bars, strict=True)},
        "sources": {f"sha256 of {name}": bars.sha256 for name, bars in zip(data.symbols, data.bars, strict=True)},
        "folds": folds,
    }
