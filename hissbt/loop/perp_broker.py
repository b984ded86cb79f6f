"""PerpBroker, which rests while no order, funding event or liquidation can be at the bar."""

from __future__ import annotations

import math
from collections.abc import Callable

import backtrader as bt

from hissbt.loop.lines import place_of
from hissbt.loop.waiting import has_plain_prices, waiting_orders


def perp_step(cerebro: bt.Cerebro, work: Callable[[], None]) -> Callable[[], None]:
    """Return what lets PerpBroker ``work`` at a bar, or only value its account where that comes to the same."""
    broker, datas = cerebro._broker, cerebro.datas
    # Guards look at each bar; of several datas nobody would know later which had moved.
    if len(datas) != 1 or broker.guards is not None or broker.p.coo or not has_plain_prices(datas[0]):
        return work
    (data,) = datas
    lines = data.lines
    opens, highs, lows, times = (line.array for line in (lines.open, lines.high, lines.low, lines.datetime))
    place = place_of(lines.open)
    pending, still_wait = broker.pending, waiting_orders(broker.pending, bt.Order.Accepted)
    triggered = broker._triggered
    cash = value = size = None
    floor, ceiling, due = -math.inf, math.inf, -math.inf

    def let_work():
        nonlocal cash, value, size, floor, ceiling, due
        work()
        cash, value, size = broker.cash, broker._value, broker.positions[data].size
        if size:
            floor, ceiling, due = broker.safe_until(data)

    def is_safe():
        index = place.idx
        worst, best, opened = lows[index], highs[index], opens[index]
        return floor < worst and floor < opened < ceiling and best < ceiling and times[index] < due

    def is_quiet():
        events = broker.notifs or broker.submitted or broker._cash_addition or broker._userhist
        if events or broker.cash is not cash or broker._value is not value:
            return False
        return not pending or (still_wait() and triggered.isdisjoint([order.ref for order in pending]))

    def step():
        nonlocal value
        if not is_quiet() or (size and not is_safe()):
            let_work()
        elif size:
            value = broker._get_value()

    return step
