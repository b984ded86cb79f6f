"""The regimes of a trained switching network as Backtrader lines."""

from hissbt.indicators.streamed import StreamedIndicator
from hissbt.relay import Model
from hissbt.stream.relay import regimes_ascending


class Regime(StreamedIndicator):
    """Bull or bear, by the Hamilton filter of a switching network (kinds m-gru, m-lstm, m-tkan).

    Lines, known when the bar at [0] has closed:

    - ``prob_bull prob_bear``: probability that the next bar is in the bull, in the bear regime, by the filter:
      given the bars to this one, never smoothed by later ones. With two regimes they sum to 1
    - ``expected_return volatility``: mean and standard deviation of the next bar's log return, over all regimes

    Which regime is which is known from training and does not change from bar to bar, see ``bull_and_bear``. Params
    and errors are those of ``hissbt.indicators.streamed.StreamedIndicator``; a bundle without regimes is refused.
    """

    lines = ("prob_bull", "prob_bear", "expected_return", "volatility")
    plotinfo = {"subplot": True, "plothlines": [0.5]}
    plotlines = {"expected_return": {"_plotskip": True}, "volatility": {"_plotskip": True}}
    regimes = True

    def _names(self):
        bull, bear = bull_and_bear(self.bundle)
        return f"regime{bull}", f"regime{bear}", "expected_return", "volatility"


def bull_and_bear(bundle: Model) -> tuple[int, int]:
    """Return the numbers of the bull and of the bear regime of a switching model: the regimes with the highest
    and the lowest expected return, see ``regimes_ascending``. Those of a relay are in that order already."""
    numbers = regimes_ascending(bundle)
    return numbers[-1], numbers[0]
