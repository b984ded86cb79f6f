"""Orders that wait: whether a bar reaches their prices."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import backtrader as bt

from hissbt.feeds.bulk import BarsFeed
from hissbt.loop.lines import place_of
from hissbt.loop.own import TICKS, differs


def waiting_orders(pending: deque[bt.Order], last: int = bt.Order.Partial) -> Callable[[], bool]:
    """Return what tells whether all pending orders go on waiting at this bar, their prices not being reached.

    ``last`` is the last status, in Backtrader's order, of an order that waits.
    """
    watched, watches = deque(), []

    def still_wait():
        nonlocal watched, watches
        if pending != watched:
            watched, watches = pending.copy(), [_watch(order) for order in pending]
        if None in watches:
            return False
        for state, created, buys, falls, prices, place, valid in watches:
            opens, lows, highs, times = prices
            index, price = place.idx, created.price
            valid = state.get("valid", valid)  # an order can be changed after it was placed
            if state["status"] > last or (valid and times[index] > valid):
                return False
            if state["triggered"]:  # a stop-limit order that has become a limit order
                price, falls = created.pricelimit, buys
            if not state["_active"]:
                continue
            if falls:
                if opens[index] <= price or lows[index] <= price:
                    return False
            elif opens[index] >= price or highs[index] >= price:
                return False
        return True

    return still_wait


def _watch(order: bt.Order) -> tuple | None:
    """Return what to compare at each bar to see that an order waits; None for one that always needs the broker."""
    if order.exectype not in (bt.Order.Limit, bt.Order.Stop, bt.Order.StopLimit):
        return None
    data = order.data
    if not len(data) or not has_plain_prices(data):
        return None
    lines, buys = data.lines, order.isbuy()
    falls = buys == (order.exectype == bt.Order.Limit)  # its price is reached from above
    prices = [line.array for line in (lines.open, lines.low, lines.high, lines.datetime)]
    return vars(order), order.created, buys, falls, prices, place_of(lines.open), order.valid


def has_plain_prices(data: bt.feed.AbstractDataBase) -> bool:
    """Tell whether the prices that the broker sees are those of the bar."""
    return not differs(data, BarsFeed if isinstance(data, BarsFeed) else bt.feed.DataBase, TICKS)
