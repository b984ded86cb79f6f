"""Forecasts by level, scored on bars that neither the network nor they have seen.

The top level is asked for the regime of the next month, the level below, given the top, for the return of the
next week, the finest, given the one above it, for the volatility of tomorrow. Beside each stand climatology and
what prices alone say: EWMA, GARCH, and means of past ranges as in HAR.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np

from hissbt.bars import Bars
from hissbt.econometrics import Garch
from hissbt.evidence.independence import effective_size
from hissbt.features import LOWEST_VARIANCE, FeatureSet
from hissbt.research.hvae_report.forecasters import ClassForecast, StudentRegression, chosen
from hissbt.research.hvae_report.readings import Readings, Spans
from hissbt.research.resampling import block_interval
from hissbt.targets import forward_return, market_regime

REGIMES = ("bear", "sideways", "bull")
CLIMATE = "climatology"
TASKS = {
    "regime": "Regime of the next month",
    "return": "Return of the next week",
    "volatility": "Volatility of tomorrow",
}
_BINS = 10
_REPEATS = 1_000
_LEAST_ROWS = 30  # of a span, to fit to or to score on


def forecasts(bars: Bars, read: Readings, spans: Spans) -> dict[str, dict]:
    """Return the scores of each of ``TASKS``; of those without enough bars the reason, under "skipped"."""
    close = bars.frame["close"].to_numpy()
    prices = _Prices(bars, spans)
    top, middle = read.levels - 1, max(read.levels - 2, 0)
    above = min(1, top)
    regimes = market_regime(close, spans.month)
    ahead = np.append(regimes[spans.month :], np.full(min(spans.month, len(regimes)), np.nan))[: len(close)] + 1
    return {
        "regime": _task(
            ahead,
            {
                CLIMATE: prices.nothing,
                "EWMA and the last month": np.column_stack([prices.ewma, prices.trend]),
                f"z{top + 1}": read.latents[top],
            },
            spans.month,
            spans,
            partial(ClassForecast.fit, classes=len(REGIMES)),
        ),
        "return": _task(
            forward_return(close, spans.week),
            {
                CLIMATE: prices.nothing,
                "EWMA": prices.ewma,
                "GARCH": prices.garch(spans.week),
                f"z{top + 1}": read.latents[top],
                _name(middle, top): read.given(middle),
            },
            spans.week,
            spans,
            StudentRegression.fit,
        ),
        "volatility": _task(
            prices.volatility_ahead(spans.day),
            {
                CLIMATE: prices.nothing,
                "EWMA": prices.ewma,
                "GARCH": prices.garch(spans.day),
                "HAR": prices.har,
                f"z{above + 1}": read.latents[above],
                _name(0, top): read.given(0),
                f"HAR and {_name(0, top)}": np.hstack([prices.har, read.given(0)]),
            },
            spans.day,
            spans,
            StudentRegression.fit,
        ),
    }


def _name(level: int, top: int) -> str:
    return f"z{level + 1} | z{level + 2}" if level < top else f"z{level + 1}"


def _task(outcome: np.ndarray, inputs: Mapping[str, np.ndarray], horizon: int, spans: Spans, fit) -> dict:
    """Fit every set of inputs [T,k] for ``outcome`` [T], a decision a day; score them out of sample."""
    step = spans.day
    usable = np.isfinite(outcome) & np.isfinite(np.hstack(list(inputs.values()))).all(axis=1)
    before, after = (
        np.array([row for row in range(first, stop, step) if usable[row]], dtype=np.int64)
        # Outcomes of the training rows end with the training span.
        for first, stop in (
            (spans.seen.start, spans.seen.stop - horizon),
            (spans.unseen.start, spans.unseen.stop),
        )
    )
    gap = -(-horizon // step)
    if len(before) < max(_LEAST_ROWS, 4 * gap) or len(after) < max(_LEAST_ROWS, 4 * gap):
        return {"skipped": f"{len(before)} decisions to fit to and {len(after)} to score are too few"}
    is_class = isinstance(fit, partial)
    y = np.nan_to_num(outcome, nan=-1).astype(np.int64) if is_class else outcome
    models = {name: chosen(fit, x[before], y[before], gap) for name, x in inputs.items()}
    scores = {name: model.score(inputs[name][after], y[after]) for name, model in models.items()}
    calibrated = _reliability if is_class else _coverage
    rows = {
        name: {
            "score": float(score.mean()),
            "interval": _interval(score, gap),
            "calibration": calibrated(models[name], inputs[name][after], y[after]),
        }
        for name, score in scores.items()
    }
    differences = {
        name: {
            other: {
                "difference": float((scores[name] - scores[other]).mean()),
                "interval": _interval(scores[name] - scores[other], gap),
            }
            for other in scores
            if other != name and not _is_latent(other)
        }
        for name in scores
        if _is_latent(name)
    }
    return {
        "horizon": horizon,
        "fitted": len(before),
        "scored": len(after),
        "counts_as": min(effective_size(scores[CLIMATE], 2 * gap), len(after) / gap),
        "rows": rows,
        "differences": differences,
    }


def _is_latent(name: str) -> bool:
    return "z" in name.split()[-1]


def _interval(values: np.ndarray, gap: int) -> list[float]:
    """Return the 95 % interval of the mean, from blocks of twice the horizon."""
    block = min(2 * gap + 5, len(values) // 2)
    return block_interval(lambda at: values[at].mean(keepdims=True), len(values), block, _REPEATS, 0)[
        :, 0
    ].tolist()


def _coverage(model: StudentRegression, x: np.ndarray, y: np.ndarray) -> dict:
    """Return how often outcomes fell into the middle 50 and 90 % of the forecasts, and the share in each tenth."""
    pit = model.pit(x, y)
    return {
        "inside_50": float(np.mean(np.abs(pit - 0.5) <= 0.25)),
        "inside_90": float(np.mean(np.abs(pit - 0.5) <= 0.45)),
        "tenths": (np.histogram(pit, _BINS, (0, 1))[0] / len(pit)).tolist(),
    }


def _reliability(model: ClassForecast, x: np.ndarray, y: np.ndarray) -> dict:
    """Return how probable each class was said to be, how often it came, and how often the likeliest did."""
    said = model.probabilities(x)
    return {
        "said": dict(zip(REGIMES, said.mean(axis=0).tolist(), strict=True)),
        "came": dict(zip(REGIMES, (np.bincount(y, minlength=len(REGIMES)) / len(y)).tolist(), strict=True)),
        "likeliest_came": float(np.mean(said.argmax(axis=1) == y)),
        "likeliest_said": float(said.max(axis=1).mean()),
    }


class _Prices:
    """What prices alone say at each bar [T,k], with parameters of the training span."""

    def __init__(self, bars: Bars, spans: Spans):
        self._close, self._spans = bars.frame["close"].to_numpy(), spans
        rows = bars.arrays()
        ranges = FeatureSet(["range"]).scan(rows)[:, 0]
        self._variance = np.maximum(ranges**2 / (4 * np.log(2)), LOWEST_VARIANCE)  # Parkinson 1980, a bar
        self.nothing = np.empty((len(rows), 0))
        volatility = FeatureSet([f"ewm_volatility:{spans.week}"]).scan(rows)
        self.ewma = np.log(np.maximum(volatility, np.sqrt(LOWEST_VARIANCE)))
        self.trend = FeatureSet([f"return:{spans.month}"]).scan(rows)
        windows = sorted({max(spans.day // 6, 1), spans.day, spans.week, spans.month})
        self.har = np.column_stack([self._log_mean(window) for window in windows])

    def volatility_ahead(self, horizon: int) -> np.ndarray:
        """Return the log [T] of the range-based volatility a bar over the next ``horizon`` bars."""
        past = self._log_mean(horizon)
        return np.append(past[horizon:], np.full(min(horizon, len(past)), np.nan))[: len(past)]

    def garch(self, horizon: int) -> np.ndarray:
        """Return the log [T,1] of the volatility over so many bars by GARCH, fitted on the training span."""
        returns = np.diff(np.log(self._close))
        seen = slice(max(self._spans.seen.start - 1, 0), self._spans.seen.stop - 1)
        fit = Garch(asymmetric=True, student=True).fit(returns[seen], errors=False)
        ahead = fit.over(np.append(np.nan, fit.filter(returns)), horizon)
        return np.log(ahead)[:, None]

    def _log_mean(self, window: int) -> np.ndarray:
        """Return the log [T] of the root of the mean variance of the last ``window`` bars; NaN before."""
        sums = np.cumsum(np.append(0.0, self._variance))
        found = np.full(len(self._variance), np.nan)
        found[window - 1 :] = 0.5 * np.log((sums[window:] - sums[:-window]) / window)
        return found
