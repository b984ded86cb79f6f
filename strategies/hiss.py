"""Trade the forecasts of a HiSS model, or of any other forecaster, with entry, size and exit rules behind
guards."""

import backtrader as bt

from hissbt.errors import StrategyError
from hissbt.trading.bracket import Bracket
from hissbt.trading.entry import Levels, covers_cost, round_trip_cost
from hissbt.trading.exits import exit_prices, says_leave, trail_fraction
from hissbt.trading.guards import (
    BELOW_CAP,
    DailyLossGuard,
    DrawdownGuard,
    ExposureGuard,
    Guard,
    Guards,
    ModelFaultGuard,
    Moment,
    StaleDataGuard,
    exposure_of,
)
from hissbt.trading.holes import Holes
from hissbt.trading.pace import Pace
from hissbt.trading.params import (
    AMOUNT,
    COUNT,
    FRACTION,
    LOSS,
    NUMBER,
    POSITIVE,
    PROBABILITY,
    SOME,
    check_choice,
    check_params,
    or_none,
)
from hissbt.trading.sizing import FLAT, kelly_fraction, position_size, unit_value, volatility_fraction


class HiSSStrategy(bt.Strategy):
    """Long or short while the forecast says so, behind a stop and a target, as far as its guards allow.

    At each close: long when ``prob_up > prob_long`` and ``expected_return > threshold``, short when
    ``prob_up < prob_short`` and ``expected_return < -threshold``, flat otherwise. An entry is a market order for
    the next open, sized at this close, with a stop and a target at multiples of the predicted volatility. The
    position is closed when the signal leaves its side; a reversal therefore takes two steps, the close and then
    the entry. Further rules, each off by default, are params below.

    Guards look first (``guards``, with a record of when each was in force). ``max_drawdown`` below the peak of
    equity everything is canceled and closed, and nothing is entered again; ``max_daily_loss`` does that until the
    next UTC day, ``max_missing_bars`` until ``resume_after`` bars came without a hole, and an output of the
    model that is NaN or infinite (model_fault) until it is sane again. A position of more than ``max_exposure``
    times equity is trimmed at the next open. Where a broker has guards of its own, as PerpBroker may, both are
    heeded.

    Probabilities of a calibrated next-bar model rarely leave 0.45 to 0.55: with the defaults it may never trade.

    ``on_gap`` says what becomes of the model and the position where bars are missing or a session begins, ``gap``
    which: a length such as "4h", and any pause that long or longer counts, or "session" (see
    ``hissbt.stream.Stream``). "bridge" goes on as if nothing had happened; "reset" starts the model afresh and
    trades on what it says at once; "flatten" starts it afresh, closes the position at the next open after the
    first bar that follows, and enters nothing until the model's warm-up has passed again: never, where that is
    longer than a session.

    Every order says why in its info: reason entry, stop, trailing (a stop that has moved), target, signal, regime,
    time, gap, trim, unprotected, or the guard: drawdown, daily_loss, exposure, stale_data, model_fault.

    Raises StrategyError for a parameter that is not a number or out of range, for another ``on_gap`` or
    ``sizing``, where only one of ``on_gap`` and ``gap`` is given, and for a ``regime_exit`` that the forecast
    has no line for.
    """

    params = (
        ("model", None),  # a bundle or its folder
        ("prob_long", 0.6),  # long above this probability of a rise
        ("prob_short", 0.4),  # short below this probability of a rise
        ("threshold", 0.0),  # least absolute expected log return over the bundle's horizon
        ("hysteresis", 0.0),  # share of the way back to undecided at which a position is still kept
        ("min_edge", 0.0),  # an entry's expected return, in multiples of the round trip's fees and spread
        ("sizing", "kelly"),  # kelly, volatility or fixed
        ("scale", 0.5),  # kelly: share of the full Kelly fraction
        ("horizon_volatility", 0.01),  # volatility: wanted standard deviation of equity over the bundle's horizon
        ("max_fraction", 0.20),  # largest position, as a fraction of equity at the decision's close; fixed: each
        ("quantity_step", 0.0),  # smallest step of the size, 0 for none
        ("min_holding_bars", 0),  # bars before the signal can close a position
        ("max_holding_bars", None),  # bars after which it is closed
        ("cooldown_bars", 0),  # whole bars between the end of a position and the next entry
        ("stop_volatility", 2.0),  # stop distance in predicted standard deviations
        ("target_volatility", 3.0),  # target distance in predicted standard deviations
        ("trailing_volatility", None),  # how far behind each close the stop follows, in the same
        ("regime_exit", None),  # line of the forecast that says leave: no position where it is above ...
        ("regime_level", 0.5),  # ... this level
        ("max_drawdown", 0.15),  # fraction below peak equity at which trading ends
        ("max_daily_loss", None),  # fraction of a UTC day's first equity at which trading ends for the day
        ("max_exposure", None),  # largest position at any close, as a multiple of equity
        ("max_missing_bars", None),  # missing bars in a row that are put up with
        ("resume_after", 1),  # bars without such a hole before trading goes on
        ("on_gap", "bridge"),  # bridge, reset or flatten
        ("gap", None),  # what reset and flatten answer to: "session", or a length such as "4h"
    )
    probability = "prob_up"
    """Line of the forecast that the levels are about."""

    def __init__(self):
        self._check_params()
        self.forecast = self.make_forecast()
        # The lines and levels themselves: to go through forecast and params for them takes longer than to decide.
        lines, params = self.forecast.lines, self.p
        self._expected_return, self._prob_up = lines.expected_return, getattr(lines, self.probability)
        self._volatility, self._price, self._time = lines.volatility, self.data.close, self.data.lines.datetime
        self._regime = None if params.regime_exit is None else self._line(params.regime_exit)
        self._entry_levels = Levels(params.prob_long, params.prob_short, params.threshold)
        self._levels = self._entry_levels.eased(params.hysteresis)  # of a position that is held
        self._pace = Pace(params.min_holding_bars, params.max_holding_bars, params.cooldown_bars)
        self.guards = Guards(self.make_guards())
        self._account = getattr(self.broker, "guards", None)  # those of the broker, if it has any
        self._rewarms = params.on_gap == "flatten"
        self._holes = None if params.max_missing_bars is None else Holes(self.data)
        self._bracket = Bracket(self, self.data)

    def make_forecast(self) -> bt.Indicator:
        """Return the indicator to trade on: any with lines expected_return, prob_up and volatility.

        One of your own waits for its warm-up with ``addminperiod``: what is NaN or infinite after that is a
        model_fault. It has to answer to ``on_gap`` and ``gap`` itself; where it shows NaN and ``on_gap`` is
        flatten, the position is closed for the reason gap.
        """
        given = self._given_model()
        # Imported here because it brings torch, which a subclass with its own indicator does not need.
        from hissbt.indicators import Forecast

        return Forecast(self.data, **given)

    def _given_model(self) -> dict:
        """Return the model and what to do at gaps, as the indicators over a model take them."""
        if self.p.model is None:
            raise StrategyError(
                f"{type(self).__name__} has no model: pass --model, the folder of a trained bundle"
            )
        return {"model": self.p.model, "reset_after": self.p.gap, "rewarm": self.p.on_gap == "flatten"}

    def make_guards(self) -> list[Guard]:
        """Return the guards to obey, in the order in which they speak for what several of them forbid."""
        params = self.p
        guards = [
            (params.max_drawdown, DrawdownGuard),
            (params.max_daily_loss, DailyLossGuard),
            (params.max_exposure, ExposureGuard),
        ]
        chosen = [guard(limit) for limit, guard in guards if limit is not None]
        if params.max_missing_bars is not None:
            chosen.append(StaleDataGuard(params.max_missing_bars, params.resume_after))
        return [*chosen, ModelFaultGuard()]

    def _line(self, name: str) -> bt.LineBuffer:
        names = self.forecast.lines.getlinealiases()
        if name not in names:
            raise StrategyError(
                f"parameter regime_exit of {type(self).__name__} is {name!r}, which the forecast has no line for: "
                f"write one of {', '.join(names)}"
            )
        return getattr(self.forecast.lines, name)

    def _check_params(self) -> None:
        check_params(
            self,
            prob_long=PROBABILITY,
            prob_short=PROBABILITY,
            threshold=AMOUNT,
            hysteresis=PROBABILITY,
            min_edge=AMOUNT,
            scale=POSITIVE,
            horizon_volatility=POSITIVE,
            max_fraction=FRACTION,
            quantity_step=AMOUNT,
            min_holding_bars=COUNT,
            max_holding_bars=or_none(SOME),
            cooldown_bars=COUNT,
            stop_volatility=POSITIVE,
            target_volatility=POSITIVE,
            trailing_volatility=or_none(POSITIVE),
            regime_level=NUMBER,
            max_drawdown=or_none(LOSS),
            max_daily_loss=or_none(LOSS),
            max_exposure=or_none(POSITIVE),
            max_missing_bars=or_none(COUNT),
            resume_after=SOME,
        )
        check_choice(self, "sizing", ("kelly", "volatility", "fixed"))
        self._check_gap()

    def _check_gap(self) -> None:
        on_gap, gap = self.p.on_gap, self.p.gap
        check_choice(self, "on_gap", ("bridge", "reset", "flatten"))
        if on_gap == "bridge" and gap is not None:
            raise StrategyError(f"gap={gap!r} means nothing to on_gap=bridge: set on_gap to reset or flatten too")
        if on_gap != "bridge" and gap is None:
            raise StrategyError(f"on_gap={on_gap} needs a gap: set gap to session, or to a length such as 4h")

    def next(self):
        """Decide at the close of the bar at [0]."""
        expected_return, prob_up = self._expected_return[0], self._prob_up[0]
        is_cold = self._rewarms and prob_up != prob_up
        size = self.broker.getposition(self.data).size
        side, ended = self._bracket.look(size)
        self._pace.update(len(self.data), side if abs(size) > FLAT else 0, ended)
        limit = self._check_guards(size, None if is_cold else (expected_return, prob_up, self._volatility[0]))
        if self._account is not None:
            if self._account.limit == 0.0:
                return  # the broker closes what is held, and takes no orders
            limit = min(limit, self._account.limit)
        if limit == 0.0:
            self._bracket.leave(self.guards.reason)
            return
        wanted = self._wanted(self._levels if side else self._entry_levels, expected_return, prob_up)
        if side == 0:
            if wanted != 0 and self._may_enter(expected_return):
                self._enter(wanted, limit)
            return
        reason = "gap" if is_cold else self._reason_to_leave(side, wanted)
        if reason:
            self._bracket.leave(reason)
            return
        if not self._bracket.protects(size):
            self._bracket.restore(size)
        if self.guards.reason and self._bracket.protects(size):
            self._trim(size, limit)

    def _wanted(self, levels: Levels, expected_return: float, prob_up: float) -> int:
        """Return the side that the forecast speaks for."""
        return levels.side(expected_return, prob_up)

    def _check_guards(self, size: float, outputs: tuple[float, ...] | None) -> float:
        """Return the largest exposure that our guards allow."""
        equity = self.broker.getvalue()
        exposure = exposure_of(abs(size) * self._unit_value(), equity) if size else 0.0
        missing = 0 if self._holes is None else self._holes.missing_bars()
        return self.guards.check(Moment(self._time[0], equity, exposure, missing, outputs)).limit

    def _unit_value(self) -> float:
        return unit_value(self.broker.getcommissioninfo(self.data), self._price[0])

    def _may_enter(self, expected_return: float) -> bool:
        if not self._pace.may_enter or self._is_regime_bad():
            return False
        if not self.p.min_edge:
            return True
        # What a broker without such a param takes as a spread is not to be known.
        half_spread = getattr(self.broker.p, "half_spread", 0.0)
        cost = round_trip_cost(self.broker.getcommissioninfo(self.data), self._price[0], half_spread)
        return covers_cost(expected_return, cost, self.p.min_edge)

    def _is_regime_bad(self) -> bool:
        return self._regime is not None and says_leave(self._regime[0], self.p.regime_level)

    def _reason_to_leave(self, side: int, wanted: int) -> str:
        """Return why the position, or the entry on its way, should go; empty if it should not."""
        if self._is_regime_bad():
            return "regime"
        if self._pace.is_overdue:
            return "time"
        return "signal" if wanted != side and self._pace.may_leave else ""

    def _fraction(self, side: int) -> float:
        """Return the fraction of equity to hold by the rule of ``sizing``; below 0 means the other side."""
        params, volatility = self.p, self._volatility[0]
        if params.sizing == "kelly":
            return side * kelly_fraction(
                self._expected_return[0], volatility, scale=params.scale, max_fraction=params.max_fraction
            )
        if params.sizing == "volatility":
            return volatility_fraction(
                volatility, horizon_volatility=params.horizon_volatility, max_fraction=params.max_fraction
            )
        return params.max_fraction

    def _enter(self, side: int, limit: float) -> None:
        price, volatility, params = self._price[0], self._volatility[0], self.p
        fraction = min(BELOW_CAP * limit, self._fraction(side))
        size = position_size(fraction, 1, self.broker.getvalue(), self._unit_value(), params.quantity_step)
        stop, target = exit_prices(
            price, side, volatility, stop=params.stop_volatility, target=params.target_volatility
        )
        # A size that would count as flat, or a stop at the very price: the forecast's volatility makes no sense.
        if size <= FLAT or not (price - stop) * side > 0:
            return
        trailing = params.trailing_volatility
        trail = None if trailing is None else trail_fraction(side, volatility, trailing)
        self._bracket.enter(side, size, stop=stop, target=target, trail=trail)

    def _trim(self, size: float, limit: float) -> None:
        """Reduce the position to what is allowed."""
        equity, step = self.broker.getvalue(), self.p.quantity_step
        keep = position_size(BELOW_CAP * limit, 1, equity, self._unit_value(), step)
        self._bracket.trim(size, keep, self.guards.reason)


if __name__ == "__main__":
    from hissbt.cli import run_strategy_script

    run_strategy_script(HiSSStrategy)
