"""Training pipelines, loaders and networks that look ahead, each beside a clean twin one expression away."""

import backtrader as bt
import numpy as np
import torch

from hissbt.bars import Bars

UNTIL = "2024-01-05"


def trained(bars: Bars) -> int:
    """Return how many bars there are to learn from."""
    return len(bars.between(until=UNTIL))


def scaler(rows):
    """Fit the scale of returns on the rows that it is given."""

    def fit(bars):
        returns = np.diff(np.log(bars.frame["close"].to_numpy()))[rows(bars)]
        return {"mean": returns.mean(), "std": returns.std()}

    return fit


def hedge_ratio(rows):
    def fit(bars):
        close, rival = (bars.frame[name].to_numpy()[rows(bars)] for name in ("close", "volume"))
        return np.polyfit(rival, close, 1)

    return fit


def labels(center):
    """Fit a direction to the trend about each training bar, or to the one that led there."""

    def fit(bars):
        close = bars.frame["close"]
        trend = close.rolling(21, center=center, min_periods=1).mean() - close
        features = np.column_stack([np.ones(len(close)), close.pct_change().fillna(0.0)])
        rows = slice(trained(bars))
        return np.linalg.lstsq(features[rows], trend.to_numpy()[rows], rcond=None)[0]

    return fit


def selected(rows):
    """Choose the column that goes best with the next bar's return."""

    def fit(bars):
        ahead = np.diff(np.log(bars.frame["close"].to_numpy()), append=np.log(bars.frame["close"].iloc[-1]))
        table, chosen = bars.frame.to_numpy() + 0.0, rows(bars)
        return {"weights": table[chosen].T @ ahead[chosen]}

    return fit


def everything(bars):
    return slice(None)


def training_span(bars):
    return slice(trained(bars) - 1)


# name: leaky, clean twin, by how many bars the leaky one reaches beyond the training span (None: all)
PIPELINES = {
    "scaler fitted on test": (scaler(everything), scaler(training_span), None),
    "hedge ratio of the whole sample": (hedge_ratio(everything), hedge_ratio(training_span), None),
    "centered label": (labels(True), labels(False), 10),
    "columns chosen on everything": (selected(everything), selected(training_span), None),
}


def bars_stamped(stamp):
    def load(table):
        return Bars.from_frame(table, timeframe="1h", stamp=stamp)

    return load


def pandas_feed(moved):
    """Return a stock feed of the table, its times ``moved`` by so many bars."""

    def load(table):
        frame = table.assign(timestamp=table["timestamp"].dt.tz_localize(None).shift(-moved)).dropna()
        return bt.feeds.PandasData(dataname=frame.set_index("timestamp"))

    return load


LOADERS = {
    "open-stamped bars": (bars_stamped("close"), bars_stamped("open")),
    "open-stamped pandas": (pandas_feed(0), pandas_feed(1)),
}


def network(layer):
    """Return what runs a layer over batches [B,T,F], features last."""

    def forward(x):
        with torch.no_grad():
            return layer(torch.from_numpy(x)).numpy()

    return forward


class OverFeatures(torch.nn.Module):
    """A layer over the axes that it is given, at random but fixed weights."""

    def __init__(self, axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return (x - x.mean(self.axes, keepdim=True)) / (x.std(self.axes, keepdim=True) + 1.0)


class Convolution(torch.nn.Module):
    """Three taps over time, of which ``ahead`` are ahead."""

    def __init__(self, ahead):
        super().__init__()
        self.ahead = ahead

    def forward(self, x):
        padded = torch.nn.functional.pad(x, (0, 0, 2, 2))
        first = self.ahead
        taps = (padded[:, first + k : first + k + x.shape[1]] * weight for k, weight in enumerate((0.2, 0.3, 0.5)))
        return sum(taps)


class BatchNorm(torch.nn.Module):
    def __init__(self, training):
        super().__init__()
        self.training_mode = training

    def forward(self, x):
        torch.manual_seed(0)
        layer = torch.nn.BatchNorm1d(x.shape[2]).to(x.dtype).train(self.training_mode)
        return layer(x.transpose(1, 2)).transpose(1, 2)


# name: leaky, clean twin, the property that is flagged
NETWORKS = {
    "batch normalization in training": (network(BatchNorm(True)), network(BatchNorm(False)), "batch neighbors"),
    "normalization over time": (network(OverFeatures(1)), network(OverFeatures(2)), "altered future"),
    "normalization over the batch": (network(OverFeatures(0)), network(OverFeatures(2)), "batch neighbors"),
    "same convolution": (network(Convolution(1)), network(Convolution(0)), "truncation"),
}
