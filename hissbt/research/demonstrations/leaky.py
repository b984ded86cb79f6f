"""The leak of wavelet and scaler, shown: one model on inputs that saw the whole set, and on their causal twin."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from hissbt.bars import Bars, parse_time
from hissbt.errors import BarsError
from hissbt.reports.run_folder import provenance
from hissbt.research.audit import audit, audit_training
from hissbt.research.demonstrations.haar import (
    BLOCKS,
    WARMUP,
    Seen,
    SoFar,
    WholeSet,
    inputs,
    so_far,
    whole_set,
)
from hissbt.research.demonstrations.leaky_page import write_leaky
from hissbt.research.demonstrations.page import demonstrate
from hissbt.research.demonstrations.verdicts import LEAK, TWIN, leak_verdicts
from hissbt.research.performance import performance, strategy_returns
from hissbt.research.progress import Progress
from hissbt.research.resampling import block_interval
from hissbt.research.significance import hit_sentence, pesaran_timmermann, sentence, weigh

TRAIN_UNTIL = "2013-01-01"
CUTS = 32
_MONTH = 21
_REPEATS = 1000
_LEAST = 250  # bars on either side
_PACKAGES = ("scikit-learn", "arch", "statsmodels", "plotly")


@dataclass(frozen=True)
class Pipeline:
    """A model from bars to directions, by what its inputs may use."""

    denoising: Seen
    scaling: Seen
    train_until: str

    def rows(self, bars: Bars) -> int:
        """Return how many bars there are to learn from."""
        return int(bars.frame.index.searchsorted(parse_time(self.train_until), side="right"))

    def inputs(self, bars: Bars) -> np.ndarray:
        """Return what the model sees at each bar [T,6]."""
        return inputs(bars.frame["close"].to_numpy(), self.denoising, self.scaling)

    def fit(self, bars: Bars) -> dict[str, np.ndarray]:
        """Return ``weights`` [6] and ``intercept``, of directions that end within the training span."""
        from sklearn.linear_model import LogisticRegression

        learned = slice(WARMUP, self.rows(bars) - 1)
        rises = np.diff(bars.frame["close"].to_numpy()) > 0
        model = LogisticRegression(class_weight="balanced").fit(self.inputs(bars)[learned], rises[learned])
        return {"weights": model.coef_[0], "intercept": model.intercept_}

    def calls(self, bars: Bars) -> np.ndarray:
        """Return +1 or −1 for the bar after each bar of the test span but the last [N]."""
        fitted = self.fit(bars)
        seen = self.inputs(bars)[self.rows(bars) - 1 : -1]
        return np.where(seen @ fitted["weights"] + fitted["intercept"] > 0, 1.0, -1.0)


def demonstrate_leak(
    bars: Bars,
    *,
    train_until: str = TRAIN_UNTIL,
    seed: int = 0,
    out: str | Path = "runs",
    progress: Progress | None = None,
) -> tuple[Path, dict]:
    """Train on the bars up to ``train_until``, judge on those after, and write a folder with report.html.

    Returns the folder and the results, which are in its results.json. ``seed`` is that of the intervals;
    ``progress`` is told what is done, how many parts, and of how many. Raises BarsError for less than 250 bars on
    either side, ConfigError if ``out`` is a file.
    """

    def measured() -> dict:
        return measure(bars, train_until, seed, progress or (lambda *_: None))

    return demonstrate("demo-leaky", bars.market.symbol, out, measured, write_leaky)


def measure(bars: Bars, train_until: str, seed: int, progress: Progress) -> dict[str, Any]:
    """Work out all figures of the demonstration, as plain data."""
    begun = time.perf_counter()
    pipelines = {
        LEAK: Pipeline(whole_set, whole_set, train_until),
        "denoising only": Pipeline(whole_set, so_far, train_until),
        "scaling only": Pipeline(so_far, whole_set, train_until),
        TWIN: Pipeline(so_far, so_far, train_until),
    }
    first = pipelines[LEAK].rows(bars)
    if first - WARMUP < _LEAST or len(bars) - first < _LEAST:
        raise BarsError(
            f"{first} bars to learn from and {len(bars) - first} to judge by are too few: give {_LEAST + WARMUP} "
            f"and {_LEAST}"
        )
    closes = bars.frame["close"].to_numpy()
    asset = closes[first:] / closes[first - 1 : -1] - 1
    scores, curves = {}, {"holding": _curve(asset)}
    for done, (name, pipeline) in enumerate(pipelines.items(), start=1):
        calls = pipeline.calls(bars)
        scores[name] = _score(calls, asset, first, bars, seed)
        curves[name] = _curve(strategy_returns(calls, asset, bars.market.taker))
        progress(name, done, len(pipelines))
    held = np.ones_like(asset)
    stamps = bars.frame.index
    found = provenance()
    found["versions"] |= {name: version(name) for name in _PACKAGES}
    results = {
        "kind": "leaky",
        "data": {
            "symbol": bars.market.symbol,
            "sha256": bars.sha256,
            "spans": {
                "training": {"first": stamps[WARMUP], "last": stamps[first - 1], "bars": first - WARMUP},
                "test": {"first": stamps[first], "last": stamps[-1], "bars": len(asset)},
            },
        },
        "seed": seed,
        "cost": bars.market.taker,
        "rises": float((asset > 0).mean()),
        "scores": scores,
        "held": performance(held, asset, bars.market.periods_per_year, bars.market.taker),
        "audits": _audits(bars, pipelines, progress),
    }
    for span in results["data"]["spans"].values():
        span |= {end: span[end].isoformat() for end in ("first", "last")}
    results["verdicts"] = leak_verdicts(results)
    results["curves"] = {"closes": [stamp.isoformat() for stamp in stamps[first:]], **curves}
    return results | {"provenance": found, "seconds": time.perf_counter() - begun}


def _score(calls: np.ndarray, asset: np.ndarray, first: int, bars: Bars, seed: int) -> dict[str, Any]:
    """Judge calls [N] of the next returns of the asset [N], the first of which ends at bar ``first``."""
    right = (calls > 0) == (asset > 0)
    place = np.arange(first - 1, first - 1 + len(asset)) % BLOCKS[-1]  # in its block, of the bar that calls
    tested = pesaran_timmermann(asset, calls)
    periods = bars.market.periods_per_year
    weighed = weigh(strategy_returns(calls, asset, bars.market.taker), periods)
    low, high = block_interval(lambda rows: np.array([right[rows].mean()]), len(right), _MONTH, _REPEATS, seed)
    return {
        "accuracy": float(right.mean()),
        "interval": [float(low[0]), float(high[0])],
        "right": int(right.sum()),
        "calls": len(right),
        "calls_up": float((calls > 0).mean()),
        "by_place": [float(right[place == each].mean()) for each in range(BLOCKS[-1])],
        "pesaran_timmermann": {"statistic": tested.statistic, "pvalue": tested.pvalue},
        "hits": hit_sentence(int(right.sum()), len(right)),
        "trading": performance(calls, asset, periods, bars.market.taker),
        "psr": weighed.psr,
        "sharpe": sentence(weighed, "days"),
    }


def _curve(returns: np.ndarray) -> list[float]:
    return np.cumprod(1 + returns).tolist()


def _audits(bars: Bars, pipelines: Mapping[str, Pipeline], progress: Progress) -> dict:
    """Return what the audit says of the inputs, as indicators, and of the training, by name."""
    found = {}
    for name, indicator in ((LEAK, WholeSet), (TWIN, SoFar)):
        found[f"inputs, {name}"] = audit(indicator, bars, cuts=CUTS, progress=progress)
        fitted = audit_training(pipelines[name].fit, bars, pipelines[name].train_until)
        found[f"training, {name}"] = replace(fitted, target=f"The training on {name}")
    return {name: report.as_dict() for name, report in found.items()}
