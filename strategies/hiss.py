"""Trade the forecasts of a HiSS model, or of any other forecaster, with entry, size, exit and drawdown rules."""

import math

import backtrader as bt

from hissbt.errors import StrategyError
from hissbt.trading.entry import exit_prices, signal
from hissbt.trading.guards import DrawdownGuard, Moment
from hissbt.trading.params import AMOUNT, FRACTION, POSITIVE, PROBABILITY, check_params
from hissbt.trading.sizing import FLAT, kelly_fraction, position_size


class HiSSStrategy(bt.Strategy):
    """Long or short while the forecast says so, behind a stop and a target, until a drawdown ends it all.

    At each close: long when ``prob_up > prob_long`` and ``expected_return > threshold``, short when
    ``prob_up < prob_short`` and ``expected_return < -threshold``, flat otherwise. An entry is a market order for
    the next open, sized by Kelly's rule at this close, with a stop and a target at multiples of the predicted
    volatility. The position is closed when the signal leaves its side; a reversal therefore takes two steps,
    the close and then the entry. Once equity at a close is ``max_drawdown`` below its peak, everything is
    cancelled and closed, and nothing is entered again (``guard.tripped``).

    Probabilities of a calibrated next-bar model rarely leave 0.45 to 0.55: with the defaults it may never trade.

    ``on_gap`` says what becomes of the model and the position where bars are missing or a session begins, ``gap``
    which: a length such as "4h", and any pause that long or longer counts, or "session" (see
    ``hissbt.stream.Stream``). "bridge" goes on as if nothing had happened; "reset" starts the model afresh and
    trades on what it says at once; "flatten" starts it afresh, closes the position at the next open after the
    first bar that follows, and enters nothing until the model's warm-up has passed again: never, where that is
    longer than a session.

    Every order says why in its info: reason entry, stop, target, signal, gap, drawdown or unprotected.

    Raises StrategyError for a parameter that is not a number or out of range, for another ``on_gap``, and where
    only one of ``on_gap`` and ``gap`` is given.
    """

    params = (
        ("model", None),  # a bundle or its folder
        ("prob_long", 0.6),  # long above this probability of a rise
        ("prob_short", 0.4),  # short below this probability of a rise
        ("threshold", 0.0),  # least absolute expected log return over the bundle's horizon
        ("scale", 0.5),  # share of the full Kelly fraction
        ("max_fraction", 0.20),  # largest position, as a fraction of equity at the decision's close
        ("quantity_step", 0.0),  # smallest step of the size, 0 for none
        ("stop_volatility", 2.0),  # stop distance in predicted standard deviations
        ("target_volatility", 3.0),  # target distance in predicted standard deviations
        ("max_drawdown", 0.15),  # fraction below peak equity at which trading ends
        ("on_gap", "bridge"),  # bridge, reset or flatten
        ("gap", None),  # what reset and flatten answer to: "session", or a length such as "4h"
    )

    def __init__(self):
        check_params(
            self,
            prob_long=PROBABILITY,
            prob_short=PROBABILITY,
            threshold=AMOUNT,
            scale=POSITIVE,
            max_fraction=FRACTION,
            quantity_step=AMOUNT,
            stop_volatility=POSITIVE,
            target_volatility=POSITIVE,
            max_drawdown=FRACTION,
        )
        self._check_gap()
        self.forecast = self.make_forecast()
        # The lines and levels themselves: to go through forecast and params for them takes longer than to decide.
        lines, params = self.forecast.lines, self.p
        self._expected_return, self._prob_up = lines.expected_return, lines.prob_up
        self._volatility = lines.volatility
        self._prob_long, self._prob_short, self._threshold = params.prob_long, params.prob_short, params.threshold
        self.guard = DrawdownGuard(self.p.max_drawdown)
        self._bracket = ()  # entry, stop and target of the position that is open or on its way
        self._exit = None  # market order that closes the position

    def make_forecast(self) -> bt.Indicator:
        """Return the indicator to trade on: any with lines expected_return, prob_up and volatility.

        NaN means flat. One of your own has to answer to ``on_gap`` and ``gap`` itself; where it shows NaN and
        ``on_gap`` is flatten, the position is closed for the reason gap.
        """
        if self.p.model is None:
            raise StrategyError(
                f"{type(self).__name__} has no model: pass --model, the folder of a trained bundle"
            )
        # Imported here because it brings torch, which a subclass with its own indicator does not need.
        from hissbt.indicators import Forecast

        return Forecast(self.data, model=self.p.model, reset_after=self.p.gap, rewarm=self.p.on_gap == "flatten")

    def _check_gap(self) -> None:
        on_gap, gap = self.p.on_gap, self.p.gap
        if on_gap not in ("bridge", "reset", "flatten"):
            raise StrategyError(f"parameter on_gap is {on_gap!r}: write bridge, reset or flatten")
        if on_gap == "bridge" and gap is not None:
            raise StrategyError(f"gap={gap!r} means nothing to on_gap=bridge: set on_gap to reset or flatten too")
        if on_gap != "bridge" and gap is None:
            raise StrategyError(f"on_gap={on_gap} needs a gap: set gap to session, or to a length such as 4h")

    # Nothing is remembered between bars but the orders themselves: what to do follows from the position and from
    # which orders are alive, so a refused, cancelled or partly filled order needs no case of its own.

    def next(self):
        """Decide at the close of the bar at [0]."""
        if self.guard.limit(Moment(self.data.datetime[0], self.broker.getvalue(), 0.0)) == 0:
            self._leave("drawdown")
            return
        wanted = signal(
            self._expected_return[0],
            self._prob_up[0],
            prob_long=self._prob_long,
            prob_short=self._prob_short,
            threshold=self._threshold,
        )
        side = self._side()
        if side == 0 and wanted != 0:
            self._enter(wanted)
        elif side != wanted:
            self._leave("gap" if self._is_cold() else "signal")
        elif side != 0 and not self._is_protected():
            self._leave("unprotected")

    def _side(self) -> int:
        """Side of the position, else of the entry on its way, else 0."""
        size = self.broker.getposition(self.data).size
        if size > FLAT:
            return 1
        if size < -FLAT:
            return -1
        if self._bracket and self._bracket[0].alive():
            return 1 if self._bracket[0].isbuy() else -1
        return 0

    def _is_cold(self) -> bool:
        """Whether the model warms up again after a gap."""
        return self.p.on_gap == "flatten" and math.isnan(self._prob_up[0])

    def _is_protected(self) -> bool:
        """Whether the entry is still filling, or stop and target are alive for just the size of the position."""
        if not self._bracket:
            return False
        entry, stop, target = self._bracket
        if entry.alive():
            return True
        size = self.position.size
        dust = FLAT * max(1.0, abs(size))
        return (
            stop.alive()
            and target.alive()
            and abs(stop.executed.remsize + size) <= dust
            and abs(target.executed.remsize + size) <= dust
        )

    def _enter(self, side: int) -> None:
        price, volatility = self.data.close[0], self._volatility[0]
        fraction = kelly_fraction(
            self._expected_return[0], volatility, scale=self.p.scale, max_fraction=self.p.max_fraction
        )
        size = position_size(fraction, side, self.broker.getvalue(), price, self.p.quantity_step)
        stop, target = exit_prices(
            price, side, volatility, stop=self.p.stop_volatility, target=self.p.target_volatility
        )
        # A size that would count as flat, or a stop at the very price: the forecast's volatility makes no sense.
        if size <= FLAT or stop == price:
            return
        place = self.buy_bracket if side > 0 else self.sell_bracket
        self._bracket = place(
            size=size,
            exectype=bt.Order.Market,
            oargs={"reason": "entry"},
            stopprice=stop,
            stopargs={"reason": "stop"},
            limitprice=target,
            limitargs={"reason": "target"},
        )

    def _leave(self, reason: str) -> None:
        """Cancel what is open, then close the position: in this order, so that stop and close never both fill."""
        for order in self._bracket:
            self.cancel(order)
        if abs(self.position.size) > FLAT and not (self._exit is not None and self._exit.alive()):
            # Unchecked: a close needs no margin, yet Backtrader would refuse it to an account that owes money.
            self._exit = self.close(reason=reason, _checksubmit=False)


if __name__ == "__main__":
    from hissbt.cli import run_strategy_script

    run_strategy_script(HiSSStrategy)
