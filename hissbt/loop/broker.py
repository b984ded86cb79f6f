"""The broker, which rests while nothing can happen but a new valuation of the account."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from inspect import isfunction

import backtrader as bt
from backtrader.utils import num2date

from hissbt.loop.lines import place_of
from hissbt.loop.orders import quicken_orders
from hissbt.loop.own import differs, is_untouched
from hissbt.loop.perp_broker import perp_step
from hissbt.loop.waiting import waiting_orders
from hissbt.trading.broker import PerpBroker

_VALUATION = (
    *("stocklike", "margin", "get_margin", "get_leverage", "getvaluesize", "profitandloss", "cashadjust"),
    *("get_credit_interest", "_get_credit_interest"),
)


class _Position(bt.Position):
    """A position that notes the time of its valuation as a number, and makes a datetime of it when asked."""

    def follow(self, times: bt.LineBuffer) -> None:
        """Take over from Backtrader's class; ``times`` is the datetime line of the data."""
        self._times, self.valued = times, None

    @property
    def datetime(self):
        if self.valued is not None:
            self.datetime = num2date(self.valued, self._times._tz)
        return vars(self).get("datetime")

    @datetime.setter
    def datetime(self, time) -> None:
        vars(self)["datetime"], self.valued = time, None

    def release(self) -> None:
        """Give back to Backtrader's class."""
        if self.valued is not None:
            vars(self)["datetime"] = self.datetime
        del self._times, self.valued
        self.__class__ = bt.Position


def broker_step(cerebro: bt.Cerebro, undo: ExitStack) -> Callable[[], None]:
    """Return what Cerebro._brokernotify does at a bar, cut short where that comes to the same."""
    broker, loop = cerebro._broker, cerebro.loop
    loop["broker_bars"] = 0

    def work():
        loop["broker_bars"] += 1
        cerebro._brokernotify()

    kind = type(broker)
    has_own = any(isfunction(getattr(kind, name, None)) for name in vars(broker))
    if kind not in (bt.brokers.BackBroker, PerpBroker) or has_own or not is_untouched(*_layers_of(kind)):
        return work
    quicken_orders(broker, undo)
    if kind is PerpBroker:
        return perp_step(cerebro, work)
    notices, submitted, activated = broker.notifs, broker.submitted, broker._toactivate
    pending, deposits, history = broker.pending, broker._cash_addition, broker._userhist
    still_wait, revalue = waiting_orders(pending), _revaluation(broker, undo)

    def step():
        events = notices or submitted or activated or deposits or history or broker._fundhist
        if events or (pending and not still_wait()) or not revalue():
            work()

    return step


def _layers_of(kind: type) -> tuple[type, ...]:
    return kind.__mro__[: kind.__mro__.index(bt.brokers.BackBroker) + 1]


def _revaluation(broker: bt.brokers.BackBroker, undo: ExitStack) -> Callable[[], bool]:
    """Return what BackBroker.next does at a bar without orders; where it cannot, it changes nothing: False."""
    positions, schemes = broker.positions, broker.comminfo
    known_positions, known_schemes, held, has_gaps = {}, {}, [], False
    flat_cash = flat_value = None  # as they were left where nothing was held: any other object means news

    def follow():
        """Note what is held and where its prices are, or None where Backtrader's valuation is not the only one."""
        nonlocal known_positions, known_schemes, held, has_gaps, flat_value
        flat_value, has_gaps = None, False
        known_positions, known_schemes, held = positions.copy(), schemes.copy(), None
        if any(differs(scheme, bt.CommInfoBase, _VALUATION) or scheme._creditrate for scheme in schemes.values()):
            return
        if any(type(position) not in (bt.Position, _Position) for position in positions.values()):
            return
        held = []
        for data, position in positions.items():
            closes, times = data.lines.close, data.lines.datetime
            if type(position) is bt.Position:
                position.__class__ = _Position
                position.follow(times)
                undo.callback(position.release)
            scheme = schemes[data._name] if data._name in schemes else schemes[None]
            held.append((position, scheme, closes.array, times.array, place_of(closes)))
            has_gaps = has_gaps or not math.isfinite(sum(closes.array[: data.buflen()]))

    def revalue():
        nonlocal flat_cash, flat_value
        if positions != known_positions or schemes != known_schemes:
            follow()
        if held is None or not broker.p.shortcash:
            return False
        if broker._value is flat_value and broker.cash is flat_cash:
            for row in held:
                if row[0].size:
                    break
            else:
                return True
        cash = broker.cash - 0.0  # the interest, which makes a float of an int
        value = unlevered = unrealized = 0.0
        is_flat = not has_gaps
        for position, scheme, closes, times, place in held:
            index, size = place.idx, position.size
            price = closes[index]
            if size:
                is_flat = False
                if not scheme._stocklike:
                    cash += scheme.cashadjust(size, position.adjbase, price)
                position.adjbase, position.valued = price, times[index]
            elif price - price == 0.0:
                continue  # nothing times a finite price
            worth = size * price if scheme._stocklike else scheme.getvaluesize(size, price)
            params = scheme.p
            gain = size * (price - position.price) * params.mult
            value += worth
            unrealized += gain
            if worth > 0:
                unlevered += (worth - gain) / params.leverage
                unlevered += gain
            else:
                unlevered += worth
        broker.cash = cash
        broker._value = total = cash + unlevered
        broker._fundval = total / broker._fundshares
        broker._valuemkt, broker._valuemktlever, broker._valuelever = unlevered, value, cash + value
        broker._leverage, broker._unrealized = value / (unlevered or 1.0), unrealized
        if is_flat:
            flat_cash, flat_value = cash, total
        return True

    return revalue
