"""The bars as the article's protocol uses them: inputs, labels, the asset's next returns, and the spans."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from hissbt.bars import Bars
from hissbt.econometrics import covariates
from hissbt.errors import BarsError
from hissbt.research.switching_paper.protocol import INPUTS, RETURN_COLUMN, Protocol
from hissbt.targets import trend_regime


@dataclass(frozen=True)
class Material:
    """One row a bar of the protocol's span, T in all.

    ``train``, ``validation`` and ``test`` are rows of decisions with a label; ``in_sample`` all rows of decisions
    before the test part. What is normalized was fitted on the rows up to the end of ``train``.
    """

    closes: pd.DatetimeIndex
    raw: np.ndarray
    """[T,3] log return, HML and IV of each bar."""
    x: np.ndarray
    """[T,3] the same, standardized and divided by the largest absolute value."""
    zero_return: float
    """What a log return of 0 is in ``x``."""
    price: np.ndarray
    """[T] closes."""
    labels: np.ndarray
    """[T] 1 bull, 0 bear, NaN where not known."""
    next_return: np.ndarray
    """[T] simple return from this close to the next; NaN in the last row, if no bar follows."""
    in_sample: range
    train: range
    validation: range
    test: range
    periods: int
    """Bars of a year."""


def material(bars: Bars, protocol: Protocol) -> Material:
    """Cut the protocol's span out of ``bars`` and prepare it; BarsError where they do not reach over it."""
    rows = _rows(bars, protocol)
    before = rows.start - 1  # the first return needs it
    raw = covariates(INPUTS, bars[before : rows.stop].arrays())[1:]  # [T,3]
    price = bars.frame["close"].to_numpy()
    count, context = len(rows), protocol.sequence
    cut = int((1 - protocol.test_fraction) * count)
    in_sample = range(context, cut - protocol.purge)
    border = in_sample.stop - round(protocol.validation_fraction * len(in_sample))
    train = range(context, border - protocol.purge)
    test = range(cut + context, count - protocol.span)
    if min(len(train) - protocol.training.window, len(test) - protocol.block) < 1:
        raise BarsError(f"{count} bars are too few for this comparison: give some hundred more")
    mean, deviation = raw[: train.stop].mean(axis=0), raw[: train.stop].std(axis=0)
    standard = (raw - mean) / deviation
    largest = np.abs(standard[: train.stop]).max(axis=0)
    following = np.append(price[1:] / price[:-1] - 1, np.nan)
    return Material(
        bars.frame.index[rows.start : rows.stop],
        raw,
        standard / largest,
        float((-mean / deviation / largest)[RETURN_COLUMN]),
        price[rows.start : rows.stop],
        trend_regime(price[rows.start : rows.stop], protocol.span),
        following[rows.start : rows.stop],
        in_sample,
        train,
        range(border, in_sample.stop),
        test,
        round(bars.market.bars_per_year(bars.timeframe)),
    )


def _rows(bars: Bars, protocol: Protocol) -> range:
    """Return the positions of the protocol's bars: all after the first, where it names no span."""
    opens = bars.open_times
    start = 1 if protocol.since is None else opens.searchsorted(pd.Timestamp(protocol.since, tz="UTC"))
    stop = len(bars) if protocol.until is None else opens.searchsorted(pd.Timestamp(protocol.until, tz="UTC"))
    reached = protocol.until is None or bars.frame.index[-1] >= pd.Timestamp(protocol.until, tz="UTC")
    if start < 1 or not reached or stop <= start:
        raise BarsError(
            f"the comparison needs daily bars of Bitcoin from before {protocol.since} to {protocol.until}, and "
            f"these of {bars.market.symbol} open from {opens[0]:%Y-%m-%d} to {opens[-1]:%Y-%m-%d}: give longer "
            "ones"
        )
    return range(int(start), int(stop))
