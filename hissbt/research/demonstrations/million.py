"""Many small models on a market and on noise: the best in sample, and what became of it out of sample."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hissbt.bars import Bars
from hissbt.candles import CANDLE, to_bars
from hissbt.errors import BarsError, ConfigError
from hissbt.reports.run_folder import provenance
from hissbt.research.demonstrations.million_page import write_million
from hissbt.research.demonstrations.models import WARMUP, Model, bank, draw, name_of, positions
from hissbt.research.demonstrations.page import demonstrate
from hissbt.research.demonstrations.verdicts import MARKET, million_verdicts
from hissbt.research.generators.null import Driftless
from hissbt.research.progress import Progress
from hissbt.research.significance import pbo, sentence, superior_ability, weigh

MODELS = 1000
NOISES = 4
_BLOCK = 21  # days, of the bootstrap
_REPEATS = 300  # of it: a thousand take a minute
_LEAST = 250  # days of a third
_NORMAL_95 = 1.645  # a t-value that luck exceeds once in twenty trials
_PACKAGES = ("scikit-learn", "arch", "plotly")


class Spans(NamedTuple):
    """The rows at which decisions are made: to fit, to choose, and those unseen."""

    fitted: slice
    chosen: slice
    unseen: slice


def demonstrate_million(
    bars: Bars,
    *,
    models: int = MODELS,
    noises: int = NOISES,
    seed: int = 0,
    out: str | Path = "runs",
    progress: Progress | None = None,
) -> tuple[Path, dict]:
    """Try ``models`` on ``bars`` and on as many series of noise; write a folder with report.html.

    Returns the folder and the results, which are in its results.json; the same seed gives the same. ``progress``
    is told the series, how many models have run on it, and of how many. Raises ConfigError for less than two
    models, no noise, or an ``out`` that is a file; BarsError for too few bars.
    """

    def measured() -> dict:
        return measure(bars, models, noises, seed, progress or (lambda *_: None))

    return demonstrate("demo-million", bars.market.symbol, out, measured, write_million)


def measure(bars: Bars, models: int, noises: int, seed: int, progress: Progress) -> dict[str, Any]:
    """Work out all figures of the demonstration, as plain data."""
    begun = time.perf_counter()
    if models < 2 or noises < 1:
        raise ConfigError(f"{models} models on {noises} series of noise show nothing: give at least 2 on 1")
    spans, drawn = _spans(bars), draw(models, seed)
    series = {MARKET: bars} | {f"noise {n}": noise for n, noise in enumerate(_noise(bars, noises, seed), start=1)}
    worlds = {name: _world(name, each, drawn, spans, seed, progress) for name, each in series.items()}
    stamps = bars.frame.index
    found = provenance()
    found["versions"] |= {name: version(name) for name in _PACKAGES}
    results = {
        "kind": "million",
        "models": models,
        "seed": seed,
        "data": {
            "symbol": bars.market.symbol,
            "sha256": bars.sha256,
            "spans": {
                name: {
                    "first": stamps[rows.start + 1].isoformat(),
                    "last": stamps[rows.stop].isoformat(),
                    "bars": rows.stop - rows.start,
                }
                for name, rows in spans._asdict().items()
            },
        },
        "closes": [stamp.isoformat() for stamp in stamps[spans.chosen.start + 1 : spans.unseen.stop + 1]],
        "worlds": worlds,
    }
    results["verdicts"] = million_verdicts(results)
    return results | {"provenance": found, "seconds": time.perf_counter() - begun}


def _spans(bars: Bars) -> Spans:
    edges = np.linspace(WARMUP, len(bars) - 1, 4).astype(int)
    if edges[1] - edges[0] < _LEAST:
        raise BarsError(f"{len(bars)} bars are too few for three spans: give at least {3 * _LEAST + WARMUP + 2}")
    return Spans(*(slice(int(start), int(end)) for start, end in pairwise(edges)))


def _noise(bars: Bars, count: int, seed: int) -> list[Bars]:
    """Return series of noise as long and as wild as the bars, at their times."""
    rows = Driftless().generate(count, len(bars), seed, bars)
    return [to_bars(each, CANDLE, bars, bars.frame.index) for each in rows]


def _world(
    name: str, bars: Bars, models: Sequence[Model], spans: Spans, seed: int, progress: Progress
) -> dict[str, Any]:
    """Run the models on one series, and judge them and the choice of the best."""
    earned = _timing(name, bars, models, spans, progress)
    year = math.sqrt(bars.market.periods_per_year)
    sharpes = {span: _sharpes(returns) * year for span, returns in earned.items()}
    best = {span: int(sharpes[span].argmax()) for span in ("fitted", "chosen")}
    winner = best["chosen"]
    chosen, unseen = earned["chosen"], earned["unseen"]
    weighed = weigh(chosen[:, winner], bars.market.periods_per_year, (sharpes["chosen"] / year).tolist())
    after = weigh(unseen[:, winner], bars.market.periods_per_year)
    overfitting = pbo(np.concatenate([chosen, unseen]))
    alone = sharpes["chosen"] / year * math.sqrt(len(chosen))
    tested = superior_ability(np.zeros(len(chosen)), -chosen, _BLOCK, seed=seed, repeats=_REPEATS)
    return {
        "best": {
            span: {"model": name_of(models[row]), **{key: float(each[row]) for key, each in sharpes.items()}}
            for span, row in best.items()
        },
        "significant_alone": int((alone > _NORMAL_95).sum()),
        "rank_correlation": _rank_correlation(sharpes["chosen"], sharpes["unseen"]),
        "psr": weighed.psr,
        "luck": weighed.luck,
        "dsr": weighed.deflated.dsr,
        "sentence": sentence(weighed),
        "unseen_psr": after.psr,
        "unseen_sentence": sentence(after),
        "overfitting": {
            "pbo": overfitting.pbo,
            "degradation": overfitting.degradation,
            "probability_of_loss": overfitting.probability_of_loss,
        },
        "superior_ability": tested.consistent,
        "sharpes": {span: values.tolist() for span, values in sharpes.items()},
        "curve": np.concatenate([chosen[:, winner], unseen[:, winner]]).cumsum().tolist(),
    }


def _timing(
    name: str, bars: Bars, models: Sequence[Model], spans: Spans, progress: Progress
) -> dict[str, np.ndarray]:
    """Return by span what each model earned beyond its mean position of that span, [T,N]."""
    closes = bars.frame["close"].to_numpy()
    ahead = np.append(closes[1:] / closes[:-1] - 1, 0.0)  # nothing is decided at the last close
    rows = bank(bars, spans.fitted)
    earned = {span: np.empty((each.stop - each.start, len(models))) for span, each in spans._asdict().items()}
    for number, model in enumerate(models):
        held = positions(model, rows, ahead, spans.fitted)
        for span, each in spans._asdict().items():
            earned[span][:, number] = (held[each] - held[each].mean()) * ahead[each]
        progress(name, number + 1, len(models))
    return earned


def _sharpes(returns: np.ndarray) -> np.ndarray:
    """Return the Sharpe ratios [N] per observation of returns [T,N]; 0 for a model that never moves."""
    deviation = returns.std(axis=0, ddof=1)
    return np.where(deviation > 0, returns.mean(axis=0) / np.where(deviation > 0, deviation, 1.0), 0.0)


def _rank_correlation(first: np.ndarray, second: np.ndarray) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(first, second).statistic)
