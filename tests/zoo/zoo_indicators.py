"""Indicators that look ahead as people make them look ahead, each beside a clean twin one expression away.

Most compute all of history at once, which is how they come to see too much of it. Bar by bar they compute what
they would have of the bars so far.
"""

from array import array
from collections.abc import Callable

import backtrader as bt
import numpy as np
import pandas as pd
import torch

BLOCK = 4
FIELDS = ("open", "high", "low", "close")


class AtOnce(bt.Indicator):
    """A line of what ``values`` makes of a table of bars."""

    lines = ("value",)
    columns = FIELDS
    warmup = 1

    def __init__(self):
        self.addminperiod(self.warmup)
        self.seen = []

    def next(self):
        self.prenext()
        self.lines.value[0] = self.values(pd.DataFrame(self.seen, columns=["time", *self.columns]))[-1]

    def prenext(self):
        self.seen.append([self.data.datetime[0], *(getattr(self.data, name)[0] for name in self.columns)])

    def preonce(self, start, end):
        pass

    def once(self, start, end):
        lines = {name: getattr(self.data, name).array[:end] for name in self.columns}
        table = pd.DataFrame({"time": self.data.datetime.array[:end], **lines})
        self.lines.value.array[start:end] = array("d", np.array(self.values(table), dtype=float)[start:].tobytes())


def at_once(values: Callable[[pd.DataFrame], np.ndarray], columns=FIELDS, warmup: int = 1) -> type[bt.Indicator]:
    """Return an indicator of ``values``, whose name says nothing about it."""
    return type("Member", (AtOnce,), {"values": staticmethod(values), "columns": columns, "warmup": warmup})


def blocks(table):
    """Return the mean close of each block of bars, the last one perhaps of fewer."""
    return table.close.groupby(table.index // BLOCK).mean().to_numpy()


def padded(coarse):
    return np.concatenate([[0.0], coarse])


def upsampled(interpolate):
    """Spread block values over bars: each is known at its block's last bar."""

    def values(table):
        coarse, bars = blocks(table), np.arange(len(table))
        ends = BLOCK * np.arange(len(coarse) + 1) - 1
        return interpolate(bars, ends, padded(coarse))

    return values


def repeated(shift):
    def values(table):
        return np.repeat(padded(blocks(table)), BLOCK)[shift : shift + len(table)]

    return values


def convolved(start):
    """Weigh three bars; of the full convolution ``start`` is what the first bar gets."""

    def values(table):
        return np.convolve(table.close, [0.5, 0.3, 0.2])[start : start + len(table)]

    return values


def normalized(axis):
    """Normalize blocks of bars, over their bars or over the fields of each."""

    def values(table):
        parts = np.array_split(table[[*FIELDS]].to_numpy(), np.arange(16, len(table), 16))
        return np.concatenate([(part - part.mean(axis, keepdims=True))[:, 3] for part in parts])

    return values


def z_score(sample):
    def values(table):
        over = sample(table.close)
        return ((table.close - over.mean()) / over.std()).to_numpy()

    return values


def min_max(sample):
    def values(table):
        over = sample(table.close)
        return ((table.close - over.min()) / (over.max() - over.min() + 1.0)).to_numpy()

    return values


def haar(x):
    """Return x less the finest details of its Haar wavelet transform."""
    x = np.asarray(x, dtype=float)
    even = len(x) // 2 * 2
    return np.concatenate([np.repeat(x[:even].reshape(-1, 2).mean(axis=1), 2), x[even:]])


def denoised(transform):
    def values(table):
        return transform(table.close.to_numpy())

    return values


def of_windows(x, length=16):
    return np.array([haar(x[max(0, t + 1 - length) : t + 1])[-1] for t in range(len(x))])


def beta(sample):
    """Return the spread to another asset at the hedge ratio of a sample."""

    def values(table):
        ratio = sample(table.close * table.rival).mean() / sample(table.rival**2).mean()
        return (table.close - ratio * table.rival).to_numpy()

    return values


def regimes(told):
    """Return the probability of the wild one of two regimes of returns, by a Hamilton filter or Kim's smoother."""

    def values(table):
        returns = np.diff(np.log(table.close), prepend=np.log(table.close[0]))
        scale = np.array([0.005, 0.02])
        likelihood = np.exp(-0.5 * (returns[:, None] / scale) ** 2) / scale + 1e-9  # [T,2]
        stay = np.array([[0.95, 0.05], [0.05, 0.95]])
        filtered, after = np.empty_like(likelihood), np.ones_like(likelihood)
        prior = np.array([0.5, 0.5])
        for t, each in enumerate(likelihood):
            filtered[t] = prior * each / (prior * each).sum()
            prior = filtered[t] @ stay
        for t in range(len(returns) - 2, -1, -1):
            after[t] = stay @ (likelihood[t + 1] * after[t + 1])
            after[t] /= after[t].sum()
        joint = told(filtered, after)
        return joint[:, 1] / joint.sum(axis=1)

    return values


def averaged(center):
    def values(table):
        label = np.sign(table.close.rolling(21, center=center, min_periods=1).mean() - table.close)
        return label.to_numpy()

    return values


def batch_normed(training):
    """Return the first feature of each bar after a layer of batch normalization."""

    def values(table):
        torch.manual_seed(0)
        layer = torch.nn.BatchNorm1d(len(FIELDS)).train(training)
        with torch.no_grad():
            return layer(torch.tensor(table[[*FIELDS]].to_numpy(), dtype=torch.float32))[:, 0].numpy()

    return values


def forecast(lag):
    """Return a forecast of the next bar's volatility, driven by the range in the bar ``lag`` before it."""

    def values(table):
        spread = (table.high / table.low).to_numpy()
        rows = np.minimum(np.arange(len(table)) + 1 - lag, len(table) - 1)  # the next bar's, less the lag
        return 0.1 + 0.5 * spread[rows]

    return values


def higher_timeframe(label):
    """Return the last close of the newest bar of a higher timeframe."""

    def values(table):
        times = pd.to_datetime(np.rint((table.time - 719163) * 86400), unit="s")
        coarse = table.close.set_axis(times).resample("4h", label=label, closed="right").last()
        return coarse.reindex(times, method="ffill").fillna(0.0).to_numpy()

    return values


class Momentum(bt.Indicator):
    """The change over five bars; the params say how many bars it waits for."""

    lines = ("value",)
    params = (("waits", 6),)

    def __init__(self):
        self.addminperiod(self.p.waits)

    def next(self):
        self.lines.value[0] = self.data.close[0] - self.data.close[-5]


def momentum(waits):
    return type("Member", (Momentum,), {"params": (("waits", waits),)})


class NowAndThen(bt.Indicator):
    """The body of a candle; at one bar in a hundred with another bar's close."""

    lines = ("steady", "value")
    ahead = 0

    def next(self):
        self.lines.steady[0] = self.data.high[0] - self.data.low[0]
        at = self.ahead if len(self) % 100 == 50 and len(self) < self.data.buflen() else 0
        self.lines.value[0] = self.data.close[at] - self.data.open[0]


def now_and_then(ahead):
    return type("Member", (NowAndThen,), {"ahead": ahead})


def whole(series):
    return series


def so_far(series):
    return series.expanding()


def held(at, ends, coarse):
    return coarse[np.searchsorted(ends, at, side="right") - 1]


PAIR = ("close", "rival")
# name: leaky, clean twin, by how many bars the leaky one reaches ahead (None: all of history)
INDICATORS = {
    "linear interpolation": (at_once(upsampled(np.interp)), at_once(upsampled(held)), BLOCK - 1),
    "unshifted repeat": (at_once(repeated(BLOCK)), at_once(repeated(1)), BLOCK - 1),
    "same convolution": (at_once(convolved(1)), at_once(convolved(0)), 1),
    "normalization over time": (at_once(normalized(0)), at_once(normalized(1)), 15),
    "z-score of the whole sample": (at_once(z_score(whole), warmup=2), at_once(z_score(so_far), warmup=2), None),
    "min-max of the whole sample": (at_once(min_max(whole)), at_once(min_max(so_far)), None),
    "Haar wavelet over everything": (at_once(denoised(haar)), at_once(denoised(of_windows)), 1),
    "hedge ratio of the whole sample": (at_once(beta(np.asarray), PAIR), at_once(beta(so_far), PAIR), None),
    "smoothed regimes": (at_once(regimes(np.multiply)), at_once(regimes(lambda known, _: known)), None),
    "centered label": (at_once(averaged(True)), at_once(averaged(False)), 10),
    "batch normalization in training": (
        at_once(batch_normed(True), warmup=2),
        at_once(batch_normed(False), warmup=2),
        None,
    ),
    "covariates of the same bar": (at_once(forecast(0)), at_once(forecast(1)), 1),
    "unclosed higher timeframe": (at_once(higher_timeframe("left")), at_once(higher_timeframe("right")), BLOCK),
    "before the start of history": (momentum(1), momentum(6), None),
    "one bar in a hundred": (now_and_then(1), now_and_then(0), 1),
}


class Crystal(bt.Strategy):
    """Buys when the close that it looks at is higher than the one before; leaves after three bars."""

    ahead = 0

    def next(self):
        ahead = min(self.ahead, self.data.buflen() - len(self))
        if not self.position and len(self) > 1 and self.data.close[ahead] > self.data.close[ahead - 1]:
            self.buy(size=1.0)
        elif self.position and len(self) % 3 == 0:
            self.close()


def crystal(ahead):
    return type("Member", (Crystal,), {"ahead": ahead})


STRATEGIES = {"tomorrow's close": (crystal(1), crystal(0), 1)}
