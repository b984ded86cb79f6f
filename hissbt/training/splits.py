"""Splits of a series in time order, with no label reaching from one part into the next."""

from dataclasses import dataclass

from hissbt.errors import BarsError, ConfigError


@dataclass(frozen=True)
class Fold:
    """Positions of the bars that one of several models may see, and of those it is judged or traded on.

    Training sees nothing of ``train``'s outside: labels that would end after it are left out by ``split_in_time``.
    """

    train: range
    test: range


def walk_forward(
    count: int, first_test: int, test_bars: int, embargo: int, train_bars: int | None = None
) -> list[Fold]:
    """Return folds whose tests follow each other without a gap from ``first_test`` to the last of ``count`` bars.

    Each model is trained on all bars that end ``embargo`` bars before its test, or, rolling, on the newest
    ``train_bars`` of them. The last test may be shorter than ``test_bars``.
    Raises ConfigError for numbers that are none, BarsError if there are no bars to train on, or none to test.
    """
    if test_bars < 1 or embargo < 0 or (train_bars is not None and train_bars < 1):
        raise ConfigError(
            f"a test of {test_bars} bars, an embargo of {embargo} and a training span of {train_bars} make no "
            "folds: give at least 1, 0 and 1 bars"
        )
    if not embargo + (train_bars or 1) <= first_test < count:
        raise BarsError(
            f"{count} bars with the first test at bar {first_test} leave too few to train on or to test: begin "
            f"after bar {embargo + (train_bars or 1)} and before the last"
        )
    starts = range(first_test, count, test_bars)
    stops = [start - embargo for start in starts]
    return [
        Fold(range(stop - train_bars if train_bars else 0, stop), range(start, min(start + test_bars, count)))
        for start, stop in zip(starts, stops, strict=True)
    ]


@dataclass(frozen=True)
class Split:
    """Positions of the bars that a model is fitted on and of those that decide when to stop."""

    train: range
    validation: range


def split_in_time(count: int, validation_fraction: float, overlap: int, minimum: int) -> Split:
    """Split ``count`` bars into an earlier training and a later validation part.

    ``overlap`` is how many bars a label reaches ahead: that many bars are left out before the validation part, so
    that no training label is computed from a validation bar, and at the end, where labels are not complete.
    Raises BarsError if either part would hold fewer than ``minimum`` and 2 bars.
    """
    labelled = count - overlap
    start = labelled - round(labelled * validation_fraction)
    split = Split(range(start - overlap), range(start, labelled))
    if len(split.train) < minimum or len(split.validation) < 2:
        raise BarsError(
            f"{count} bars are too few to train on: with these settings "
            f"{_bars_needed(validation_fraction, overlap, minimum)} are needed; give more or set a smaller window"
        )
    return split


def _bars_needed(validation_fraction: float, overlap: int, minimum: int) -> int:
    return max(int((minimum + overlap) / (1 - validation_fraction)), int(2 / validation_fraction)) + overlap + 1
