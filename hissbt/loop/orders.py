"""Orders made and copied in fewer steps than Backtrader takes, and equal to its own in every attribute."""

from __future__ import annotations

from contextlib import ExitStack

import backtrader as bt
from backtrader.order import BuyOrder, Order, OrderBase, OrderData, SellOrder
from backtrader.utils import AutoOrderedDict

from hissbt.loop.own import is_untouched
from hissbt.trading.broker import PerpBroker

_SIMPLE_TYPES = (None, Order.Market, Order.Close, Order.Limit, Order.Stop, Order.StopLimit)
_NEARLY = 1e-4  # days; far more than times are rounded by


def quicken_orders(broker: bt.brokers.BackBroker, undo: ExitStack) -> None:
    """Let Backtrader's broker, or PerpBroker, make and copy orders the quick way until the run ends."""
    if is_untouched(Order, OrderBase, OrderData, BuyOrder, SellOrder):
        undo.callback(setattr, broker, "__class__", type(broker))
        undo.callback(vars(broker).pop, "_sessions")
        broker.__class__ = _PerpBroker if isinstance(broker, PerpBroker) else _Broker
        broker._sessions = {}


class _Broker(bt.brokers.BackBroker):
    """Backtrader's broker for the length of a run: a class, so that methods put on the object come first."""

    def notify(self, order: Order) -> None:
        """Note a copy of the order for its owner."""
        self.notifs.append(_clone(order))

    def buy(self, owner, data, size, *args, **kwargs) -> Order:
        """Take an order to buy, with the arguments of Backtrader's broker."""
        if args or not self._is_simple(data, kwargs):
            return self._remember_session(super().buy(owner, data, size, *args, **kwargs))
        return self._place(BuyOrder, owner, data, size, **kwargs)

    def sell(self, owner, data, size, *args, **kwargs) -> Order:
        """Take an order to sell, with the arguments of Backtrader's broker."""
        if args or not self._is_simple(data, kwargs):
            return self._remember_session(super().sell(owner, data, size, *args, **kwargs))
        return self._place(SellOrder, owner, data, size, **kwargs)

    def _is_simple(self, data, wishes: dict) -> bool:
        """Tell whether nothing has to be computed for the order: its end of session is that of another one."""
        if wishes.get("valid") is not None or wishes.get("exectype") not in _SIMPLE_TYPES:
            return False
        first, last, closes, _ = self._sessions.get(data, (0.0, 0.0, None, 0.0))
        return first <= data.datetime[0] < last and data.p.sessionend is closes

    def _remember_session(self, order: Order) -> Order:
        """Note from when until when orders on this data have the same end of session as this one."""
        data, day, end = order.data, float(int(order.created.dt)), order.dteos
        if isinstance(data, bt.feed.AbstractDataBase) and data._tz is None and day == int(end):
            self._sessions[data] = day, end - _NEARLY, data.p.sessionend, end
        return order

    def _place(
        self,
        kind,
        owner,
        data,
        size,
        price=None,
        plimit=None,
        exectype=None,
        valid=None,
        tradeid=0,
        oco=None,
        trailamount=None,
        trailpercent=None,
        parent=None,
        transmit=True,
        histnotify=False,
        _checksubmit=True,
        **info,
    ):
        """Do what BackBroker.buy and OrderBase do, in their order."""
        order, params = object.__new__(kind), object.__new__(kind.params)
        vars(params).update(
            owner=owner,
            data=data,
            size=size,
            price=price,
            pricelimit=plimit,
            exectype=exectype,
            valid=valid,
            tradeid=tradeid,
            oco=None,
            trailamount=trailamount,
            trailpercent=trailpercent,
            parent=parent,
            transmit=transmit,
            simulated=False,
            histnotify=histnotify,
        )
        order.params = order.p = params
        order.ref = next(kind.refbasis)
        order.broker = None
        order.info = AutoOrderedDict()
        order.comminfo = None
        order.triggered = False
        order._active = parent is None
        order.status = Order.Created
        order.plimit = plimit
        if exectype is None:
            order.exectype = Order.Market
        if kind is SellOrder:
            order.size = size = -size
        close = data.close[0]
        order.created = OrderData(
            dt=data.datetime[0],
            size=size,
            price=price if price or plimit else close,
            pricelimit=plimit,
            pclose=close,
            trailamount=trailamount,
            trailpercent=trailpercent,
        )
        order._limitoffset = 0.0
        order.executed = OrderData(remsize=size)
        order.position = 0
        order.dteos = self._sessions[data][3]
        order.addinfo(**info)
        self._ocoize(order, oco)
        return self.submit(order, check=_checksubmit)


class _PerpBroker(PerpBroker, _Broker):
    """PerpBroker for the length of a run: what it leaves to Backtrader's broker is done the quick way."""


def _clone(order: Order) -> Order:
    """Do what Order.clone does for orders of Backtrader's own classes."""
    if type(order) not in (BuyOrder, SellOrder) or type(order.executed) is not OrderData:
        return order.clone()
    clone, executed = object.__new__(type(order)), object.__new__(OrderData)
    order.executed.markpending()
    vars(executed).update(vars(order.executed))
    vars(clone).update(vars(order))
    clone.executed = executed
    return clone
