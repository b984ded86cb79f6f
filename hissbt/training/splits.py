"""Splits of a series in time order, with no label reaching from one part into the next."""

from dataclasses import dataclass

from hissbt.errors import BarsError


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
