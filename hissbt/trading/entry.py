"""When to be long, short or flat: pure rules over one forecast."""

from typing import NamedTuple

import backtrader as bt

from hissbt.trading.sizing import unit_value


class Levels(NamedTuple):
    """What a forecast must pass to be worth a position."""

    prob_long: float
    """Long above this probability of a rise."""
    prob_short: float
    """Short below this probability of a rise."""
    threshold: float = 0.0
    """Least expected log return, without its sign, 0 or more."""

    def side(self, expected_return: float, prob_up: float) -> int:
        """Return the side to be on: 1 long, -1 short, 0 flat.

        Long when ``prob_up > prob_long`` and ``expected_return > threshold``; short when ``prob_up <
        prob_short`` and ``expected_return < -threshold``. A forecast that is NaN means flat.
        """
        if prob_up > self.prob_long and expected_return > self.threshold:
            return 1
        if prob_up < self.prob_short and expected_return < -self.threshold:
            return -1
        return 0

    def eased(self, hysteresis: float) -> "Levels":
        """Return the levels at which a position is kept, so that a forecast near its level does not trade at
        each bar.

        They lie the share ``hysteresis`` of the way back to an undecided forecast, a probability of 0.5 and a
        return of 0: 0 changes nothing, with 1 a position stays until the forecast points the other way. A level
        that is on the far side of undecided stays where it is.
        """
        return Levels(
            min(self.prob_long, self.prob_long + hysteresis * (0.5 - self.prob_long)),
            max(self.prob_short, self.prob_short + hysteresis * (0.5 - self.prob_short)),
            self.threshold * (1 - hysteresis),
        )


def hysteresis_side(value: float, side: int, *, enter: float, leave: float) -> int:
    """Return the side to be on by one signed number, of which ``side`` (1, -1 or 0) is the one until now.

    A long begins above ``enter`` and lasts until the value is at or below ``leave``; a short is its mirror image.
    ``leave`` should be the lower of the two, both 0 or more. NaN means flat.
    """
    if value > (leave if side > 0 else enter):
        return 1
    if value < -(leave if side < 0 else enter):
        return -1
    return 0


def round_trip_cost(scheme: bt.CommInfoBase, price: float, half_spread: float = 0.0) -> float:
    """Return what it costs to enter and leave at ``price``, as a fraction of the notional.

    It is twice the commission of one unit, of PerpCommission the taker fee, and twice ``half_spread``, a
    fraction of price. Impact depends on the size, and funding on the time: neither is in it.
    """
    return 2 * (scheme.getcommission(1.0, price) / unit_value(scheme, price) + half_spread)


def covers_cost(expected_return: float, cost: float, multiple: float) -> bool:
    """Tell whether an expected log return, of either sign, is more than ``multiple`` times the round trip's cost.

    ``cost`` is a fraction of the notional. NaN covers nothing.
    """
    return abs(expected_return) > multiple * cost
