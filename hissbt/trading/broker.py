"""PerpBroker: Backtrader's broker, with what a perpetual future really charges and what limits really hold."""

from __future__ import annotations

import copy
import math
from collections import Counter
from enum import IntEnum

import backtrader as bt
from backtrader.order import BuyOrder, Order, SellOrder

from hissbt.errors import ConfigError
from hissbt.market import Market
from hissbt.trading import orders
from hissbt.trading.clock import to_date_number
from hissbt.trading.commission import PerpCommission
from hissbt.trading.contract import bankruptcy_price, liquidation_price
from hissbt.trading.events import checked_coverage, dearest_sizes
from hissbt.trading.guards import Guard, Guards, ModelFaultGuard, Moment, exposure_of
from hissbt.trading.instrument import Instrument
from hissbt.trading.journal import Fill, FundingCharge
from hissbt.trading.sizing import FLAT

_TERMS = ("taker", "maker", "leverage", "contract", "maintenance", "liquidation_fee", "funding", "mark", "market")
_STOPS = (Order.Stop, Order.StopLimit, Order.StopTrail, Order.StopTrailLimit)
_WAITING = (*_STOPS, Order.Limit)
_CAP_DUST = 1e-9  # a cap is met by what is this little above it, relatively


class _Phase(IntEnum):
    """The passes through the waiting orders at a bar, in their order."""

    OPEN = 0
    STOPS = 1
    LIMITS = 2
    CLOSE = 3


class PerpBroker(bt.brokers.BackBroker):
    """A BackBroker for perpetual futures: ``cerebro.broker = hissbt.PerpBroker(taker=0.00055, funding=...)``.

    Orders are those of Backtrader and match as there; where nothing is charged, leverage is 1, and no stop or
    target is reached in the bar of its entry, the result is Backtrader's to the last bit. What is different:

    - a bar that opens at o and is stamped with its close c goes: liquidation at the open, if it opens there; fills
      at the open; stops; liquidation at the bar's worst price; limits; orders for the close; funding events in
      (o, c]; then guards look, and then strategies decide. Stops and targets work from their entry's fill on; of
      what is entered inside a bar only the stop does in that bar;
    - a limit order that rested is a maker. All others pay the taker fee, half the spread and impact
      (``hissbt.trading.impact``), which may move a fill beyond the bar's range, but not beyond an order's limit;
    - an event of ``funding`` at T is charged on what was held just before T, at the last price known before it
      (that of the bar that closes at T, else the open of the bar around T). If the position changed inside a bar
      that holds events, its close included, nobody knows when: the dearest possibility is charged. Events while
      bars are missing are charged on what is held through the hole;
    - margin is isolated: a position posts its entry's notional over ``leverage``, and ``getcash`` is what is
      left for others. Where margin and unrealized profit fall to the maintenance margin, at the bar's worst price
      or the mark's, the position is closed at that price (at the open if it opened beyond), never beyond the price
      at which all margin is gone, for ``liquidation_fee``, of which no more is taken than is left. What waits for
      the same data is canceled. Where the account's cash is negative, what it owes counts as missing from margins;
    - with a ``market``, prices are on its tick and sizes on its step; an order that is too small (unless it closes
      a position or belongs to a bracket) is Rejected and counted, never sent;
    - a partly filled entry activates its stop and target for what it has; once one of them fills, the rest of the
      entry is canceled. An order on a bar that was shown already waits for the next one of its data;
    - ``guards`` look at each close. Where they allow nothing, all orders are canceled, positions closed at market,
      and further orders refused; where more is held than they allow, the excess is sold at market; an order that
      would hold more is refused.

    Params beside BackBroker's: those of ``PerpCommission`` (taker, maker, leverage, contract, maintenance,
    liquidation_fee, funding, mark, market), which hold for every data without a PerpCommission of its own
    (``addcommissioninfo(PerpCommission(...), name=...)``); ``allow_missing_funding``, to run over a span of which
    less than 99 % of the funding events are known; ``half_spread``, a fraction of price; ``impact``, the
    coefficient of the square-root law; ``volume_limit``, the share of a bar's volume that all orders together may
    take, the rest of an order waiting for the next bar; ``latency_bars``, how many bars later than in Backtrader
    an order arrives; ``guards``, instances of ``hissbt.trading.guards``, of which each run uses copies.

    For reports: ``journal`` (Fill and FundingCharge, in the order in which they happened), ``counts``,
    ``coverage`` (of funding, by data name), ``guards`` (the ``Guards`` of the run, None without any).

    Feeds must stamp bars with their close in UTC, as BarsFeed does. Raises ConfigError for params out of range,
    any other commission scheme, one funding series for several datas, and incomplete funding at the first bar.
    """

    params = (
        *((name, getattr(PerpCommission.params, name)) for name in _TERMS),
        ("allow_missing_funding", False),
        ("half_spread", 0.0),
        ("impact", 0.0),
        ("volume_limit", None),
        ("latency_bars", 0),
        ("guards", ()),
    )

    def __init__(self):
        self._check_params()
        super().__init__()

    def init(self):
        """Backtrader's hook before a run: forget the last one."""
        if None not in self.comminfo:
            self.comminfo[None] = PerpCommission(**{name: getattr(self.p, name) for name in _TERMS})
        super().init()
        self.journal: list[Fill | FundingCharge] = []
        self.counts: Counter[str] = Counter()
        self.coverage = {}
        self.guards = Guards(copy.deepcopy(self.p.guards)) if self.p.guards else None
        self._allowed = math.inf  # by the guards, as a multiple of equity
        self._instruments: dict[bt.feed.AbstractDataBase, Instrument] = {}
        self._phase = _Phase.OPEN
        self._earliest: dict[int, int] = {}  # by order: the length of its data at which it arrives
        self._tried: set[int] = set()  # orders that had their chance at this bar
        self._triggered: set[int] = set()  # stops whose price was reached: they are market orders from then on
        self._entered_inside: dict[int, float] = {}  # by entry that filled inside this bar: its price
        self._reduce_only: set[int] = set()
        self._guard_orders: dict[bt.feed.AbstractDataBase, Order] = {}
        self._last_orders: dict[bt.feed.AbstractDataBase, Order] = {}
        self._resting: set[int] = set()  # orders that were in the market when the last bar closed
        self._funded: dict[
            int, bt.feed.AbstractDataBase
        ] = {}  # by scheme: the data that its funding is charged on

    # --- the account

    def get_cash(self) -> float:
        """Return what is left for new positions: equity without unrealized profit and posted margins."""
        cash = self.cash
        for data, position in self.positions.items():
            if position.size:
                cash += self._unposted(self.getcommissioninfo(data), position.size, position.price)
        return cash

    getcash = get_cash

    def get_value(self, datas=None, mkt=False, lever=False):
        """Return equity; or, of one data, its signed notional, whatever its contract."""
        if datas is not None and len(datas) == 1:
            position, scheme = self.positions[datas[0]], self.getcommissioninfo(datas[0])
            if not position.size:
                return 0.0
            return math.copysign(scheme.notional(position.size, datas[0].close[0]), position.size)
        return super().get_value(datas, mkt, lever)

    getvalue = get_value

    def addcommissioninfo(self, comminfo, name=None):
        """Set the PerpCommission of the data of this name; of all without their own, if None."""
        if not isinstance(comminfo, PerpCommission):
            raise ConfigError(f"PerpBroker takes no {type(comminfo).__name__}: give it a hissbt.PerpCommission")
        super().addcommissioninfo(comminfo, name)

    def setcommission(self, *args, **kwargs):
        """Refuse: this is not how a perpetual future charges."""
        raise ConfigError("PerpBroker has no setcommission: make it with taker=… and maker=…")

    def set_fund_history(self, fund):
        """Refuse: an account that is told its value has no costs to charge."""
        raise ConfigError("PerpBroker takes no fund history: use Backtrader's own broker for it")

    def _unposted(self, scheme: PerpCommission, size: float, price: float) -> float:
        """Return what must be added to ``self.cash`` for a position to have cost its margin only.

        ``self.cash`` is kept as in Backtrader with stocks: each trade pays, or is paid, size times book price. At
        leverage 1 a long's share is exactly 0, so that its cash is Backtrader's to the last bit.
        """
        paid = scheme.getvaluesize(size, price)
        return paid * (1.0 - math.copysign(1.0, paid) / scheme.p.leverage)

    def _get_value(self, datas=None, lever=False):
        """Value the account, in Backtrader's order of additions, so that the last bit is its, too."""
        if datas is not None:
            return math.fsum(self.get_value([data]) for data in datas)
        while self._cash_addition:
            deposit = self._cash_addition.popleft()
            self._fundshares += deposit / self._fundval
            self.cash += deposit
        worth = notional = unrealized = 0.0
        for data, position in self.positions.items():
            size = position.size
            if not size:
                continue
            scheme, close = self.getcommissioninfo(data), data.close[0]
            valued, gain = scheme.getvaluesize(size, close), scheme.profitandloss(size, position.price, close)
            worth = worth + (valued - gain) + gain if valued > 0 else worth + valued
            notional += abs(valued)
            unrealized += gain
        self._value = value = self.cash + worth
        self._fundval = value / self._fundshares
        self._valuemkt, self._valuemktlever, self._valuelever = worth, notional, value
        self._leverage, self._unrealized = exposure_of(notional, value), unrealized
        return value

    # --- a bar

    def next(self):
        """Backtrader's hook at each bar: see the class for what happens in which order."""
        if not self._instruments:
            self._open_books()
        moved = [instrument for instrument in self._instruments.values() if instrument.look()]
        if self.submitted:
            self.check_submitted()
        for instrument in moved:
            if self.positions[instrument.data].size:
                self._charge_hole(instrument)
                self._liquidate_at_open(instrument)
        if self._userhist:
            self._process_order_history()
        if self.pending:
            self._match(moved)
        else:
            self._liquidate_inside(moved)
        for instrument in moved:
            if instrument.events is not None:
                self._charge_events(instrument)
            instrument.close_bar()
        self._get_value()
        if self.guards is not None and moved:
            self._obey_guards(moved)

    def _open_books(self) -> None:
        for data in self.cerebro.datas:
            if data._compensate is not None:
                raise ConfigError(
                    f"{data._name} compensates another data: PerpBroker holds a position in each data"
                )
            scheme = self.getcommissioninfo(data)
            instrument = Instrument(data, scheme, self.p.half_spread, self.p.impact, self.p.volume_limit)
            self._instruments[data] = instrument
            span = instrument.span_ms()
            if scheme.p.funding is not None and span is not None:
                self.coverage[data._name] = checked_coverage(
                    scheme.p.funding, *span, self.p.allow_missing_funding, data._name
                )

    def _match(self, moved: list[Instrument]) -> None:
        """Give each waiting order its chance, in the order in which prices are reached as far as is known."""
        self._tried.clear()
        self._entered_inside.clear()
        for phase in _Phase:
            self._phase = phase
            self._pass()
            if phase in (_Phase.STOPS, _Phase.LIMITS):
                self._liquidate_inside(moved)
        self._resting = {order.ref for order in self.pending if order.active() and self._has_arrived(order)}

    def _pass(self) -> None:
        """Go once through the waiting orders, as Backtrader's broker does."""
        pending = self.pending
        pending.append(None)
        while True:
            order = pending.popleft()
            if order is None:
                return
            if self._phase is _Phase.OPEN and order.expire():
                self.notify(order)
                self._ococheck(order)
                self._bracketize(order, cancel=True)
                continue
            if self._is_due(order):
                self._tried.add(order.ref)
                self._try_exec(order)
            if order.alive():
                pending.append(order)
                self._follow_parts(order)
            elif order.status == Order.Completed:
                self._bracketize(order)

    def _has_arrived(self, order: Order) -> bool:
        return len(order.data) >= self._earliest.get(order.ref, 0)

    def _is_due(self, order: Order) -> bool:
        """Tell whether this is the pass in which the order can fill."""
        instrument = self._instruments[order.data]
        if not (order.active() and instrument.moved and self._has_arrived(order)) or order.ref in self._tried:
            return False
        if order.exectype == Order.Historical:
            return True
        # A bar that was there already when the order was placed is over, even if another data has moved since.
        if order.data.datetime[0] <= order.created.dt and not self.p.coo:
            return False
        return self._phase is self._phase_of(order, instrument.open)

    def _phase_of(self, order: Order, price_at_open: float) -> _Phase | None:
        """Return the pass that the order belongs to at this bar, None if to none."""
        kind, price = order.exectype, order.created.price
        is_limit = kind == Order.Limit or order.triggered
        if self._entry_inside(order) is not None:
            # Nobody knows what came after an entry inside the bar: assume the worst of it, and nothing good.
            return None if is_limit or self._phase < _Phase.STOPS else self._phase
        if kind == Order.Market or order.ref in self._triggered:
            return _Phase.OPEN
        if kind == Order.Close:
            return _Phase.CLOSE
        if is_limit and kind != Order.Limit:
            price = order.created.pricelimit
        reached_from_above = order.isbuy() == is_limit
        if price_at_open <= price if reached_from_above else price_at_open >= price:
            return _Phase.OPEN
        return _Phase.LIMITS if is_limit else _Phase.STOPS

    def _entry_inside(self, order: Order) -> float | None:
        """Return the price at which the order's entry filled inside this bar, None if it did not."""
        return None if order.parent is None else self._entered_inside.get(order.parent.ref)

    def _try_exec(self, order: Order) -> None:
        """Match the order as Backtrader does, but for what else the same prices reach."""
        if self._phase is not _Phase.OPEN and order.exectype in _STOPS and self._liquidates_first(order):
            return
        if order.ref in self._triggered:
            self._execute(order, ago=0, price=self._instruments[order.data].open)
            return
        entry = self._entry_inside(order)
        if entry is None:
            super()._try_exec(order)
            return
        # For this order the bar begins at its entry.
        data, created = order.data, order.created
        prices = entry, data.high[0], data.low[0]
        if order.exectype in (Order.Stop, Order.StopTrail):
            self._try_exec_stop(order, *prices, created.price, data.close[0])
        else:
            self._try_exec_stoplimit(order, *prices, data.close[0], created.price, created.pricelimit)

    # --- fills

    def check_submitted(self):
        """Accept the orders that the account can carry at the prices they were placed at, Margin to the others."""
        free = self.get_cash()
        positions = {}
        while self.submitted:
            order = self.submitted.popleft()
            if self._take_children(order) is None:
                continue
            position = positions.setdefault(order.data, self.positions[order.data].clone())
            left = self._free_after(order, free, position)
            if left >= 0.0:
                free = left
                self.submit_accept(order)
                continue
            position.update(-order.executed.remsize, position.price)
            self.counts["refused_margin"] += 1
            order.margin()
            self.notify(order)
            self._ococheck(order)
            self._bracketize(order, cancel=True)

    def _free_after(self, order: Order, free: float, position: bt.Position) -> float:
        """Return the free cash when the order has been filled at its price, and the position with it."""
        scheme, price = self.getcommissioninfo(order.data), order.created.price
        before, size = position.price, order.executed.remsize
        _, _, opened, closed = position.update(size, price)
        if closed:
            free += scheme.notional(closed, before) / scheme.p.leverage
            free += scheme.profitandloss(-closed, before, price) - scheme.fee(closed, price, maker=False)
        # What protects a position may look like a new one here; if it becomes one, its fill is checked.
        waits_as_exit = order.parent is not None or (size < 0 and order.exectype in _WAITING)
        if opened and not waits_as_exit:
            free -= scheme.notional(opened, price) / scheme.p.leverage + scheme.fee(opened, price, maker=False)
            return free
        return max(free, 0.0)

    def _execute(self, order, ago=None, price=None, cash=None, position=None, dtcoc=None):
        """Fill what can be filled of an order whose price was reached; ``price`` is the market's."""
        if ago is None or price is None or price != price:
            return
        instrument = self._instruments[order.data]
        if order.exectype in (Order.Stop, Order.StopTrail):
            self._triggered.add(order.ref)
            if order.parent is not None:
                self.cancel(order.parent, bracket=True)  # what is left of the entry must not come after its stop
        size = self._fillable(order, instrument, price, ago)
        if not size:
            return
        maker = order.ref in self._resting or self._phase is _Phase.LIMITS
        maker = maker and (order.exectype == Order.Limit or order.triggered)
        paid = price if maker else self._slipped(order, instrument, size, price)
        if self._phase is _Phase.OPEN:
            at = "open" if price == instrument.open or dtcoc else "inside"
        else:
            at = "close" if self._phase is _Phase.CLOSE else "inside"
        if order.exectype in _STOPS and order.parent is not None:
            self._count_stop(order)
        self._book(order, instrument, size, paid, price, at, maker=maker, dt=dtcoc or order.data.datetime[ago])

    def _fillable(self, order: Order, instrument: Instrument, price: float, ago: int) -> float:
        """Return how much of the order can be filled at this bar, signed."""
        size = abs(order.executed.remsize)
        if self.p.filler is not None:
            size = self.p.filler(order, price, ago)
        held = self.positions[order.data].size
        if order.ref in self._reduce_only:
            size = min(size, max(0.0, -held if order.isbuy() else held))
        if order.parent is not None:
            size = min(size, self._unprotected(order))
        if self.p.volume_limit is not None:
            room = instrument.size_of(instrument.volume_left, price)
            if room < size:
                size = orders.quantity_of(instrument.market, room)
            instrument.volume_left -= instrument.quantity(size, price)
        return size if order.isbuy() else -size

    def _unprotected(self, order: Order) -> float:
        """Return how much of a bracket's entry its exits have not closed yet; inf if the order is none."""
        entry = order.parent
        if entry.isbuy() == order.isbuy() or entry.data is not order.data:
            return math.inf
        exits = [order, *(other for other in self._pchildren.get(entry.ref, ()) if other not in (entry, order))]
        return max(0.0, abs(entry.executed.size) - sum(abs(each.executed.size) for each in exits))

    def _slipped(self, order: Order, instrument: Instrument, size: float, price: float) -> float:
        """Return the price of a taker."""
        cost = instrument.cost(size, price)
        paid = price * (1 + cost) if size > 0 else price * (1 - cost)
        if order.exectype == Order.Limit or order.triggered:
            limit = order.created.price if order.exectype == Order.Limit else order.created.pricelimit
            return min(paid, limit) if size > 0 else max(paid, limit)
        held = self.positions[order.data].size
        if held * size < 0:
            # Whoever sells into his own bankruptcy is liquidated on the way.
            floor = bankruptcy_price(
                held,
                instrument.scheme.book_price(self._entry_price(order.data)),
                self._margin(order.data),
                instrument.scheme.inverse,
            )
            if floor is not None:
                return max(paid, min(price, floor)) if size < 0 else min(paid, max(price, floor))
        return paid

    def _book(self, order, instrument, size, price, raw_price, at, *, maker=False, dt=None, liquidation_fee=None):
        """Do what BackBroker._execute does with cash, position and order, in its order of operations."""
        data, scheme = order.data, instrument.scheme
        position = self.positions[data]
        held, before = position.size, position.price
        if abs(held + size) <= FLAT * max(abs(held), abs(size)):
            size = -held  # float dust would be a position for ever
        psize, pprice, opened, closed = position.pseudoupdate(size, price)
        pnl = scheme.profitandloss(-closed, before, price) if closed else 0
        cash = self.cash
        closedvalue = closedcomm = openedvalue = openedcomm = 0.0
        if closed:
            closedvalue = scheme.getvaluesize(-closed, before)
            cash += closedvalue + pnl
            closedcomm = scheme.fee(closed, price, maker) if liquidation_fee is None else liquidation_fee
            cash -= closedcomm
            self.cash = cash
        popened = opened
        if opened:
            openedvalue, openedcomm = scheme.getvaluesize(opened, price), scheme.fee(opened, price, maker)
            cash -= openedvalue
            cash -= openedcomm
            average = self._average(scheme, held, before, opened, price, pprice)
            is_paid = self._free_with(data, cash, psize, average) >= 0.0
            if not is_paid or self._is_lost(scheme, psize, average, raw_price):
                opened, openedvalue, openedcomm = 0, 0.0, 0.0
            else:
                self.cash = cash
        filled = closed + opened
        if filled:
            position.update(filled, price, data.datetime.datetime())
            position.price = self._average(scheme, held, before, opened, price, position.price)
            self._snap(position, instrument.market)
            fee = closedcomm + openedcomm
            if closed and self.p.int2pnl:
                closedcomm += self.d_credit.pop(data, 0.0)
            values = (closed, closedvalue, closedcomm, opened, openedvalue, openedcomm)
            order.execute(dt or data.datetime[0], filled, price, *values, scheme.margin, pnl, psize, pprice)
            if abs(order.executed.remsize) <= FLAT * abs(order.created.size):
                order.executed.remsize, order.status = 0, Order.Completed
            order.addcomminfo(scheme)
            self._note(order, instrument, filled, price, raw_price, fee, at, maker, dt, liquidation_fee, held)
            self.notify(order)
            self._ococheck(order)
        if popened and not opened:
            self.counts["refused_margin"] += 1
            order.margin()
            self.notify(order)
            self._ococheck(order)
            self._bracketize(order, cancel=True)

    def _note(self, order, instrument, size, price, raw_price, fee, at, maker, dt, liquidation_fee, held) -> None:
        """Write the fill into the journal, and remember what later steps of this bar need."""
        data, scheme = order.data, instrument.scheme
        is_ours = order.info.get("by_broker", False)
        impact = 0.0
        if price != raw_price:
            impact = abs(size * (scheme.book_price(price) - scheme.book_price(raw_price)))
        self.journal.append(
            Fill(
                owner=None if is_ours else order.owner,
                data=data,
                dt=dt or data.datetime[0],
                at=at,
                size=size,
                price=price,
                raw_price=raw_price,
                fee=fee if liquidation_fee is None else 0.0,
                impact=impact,
                liquidation_fee=liquidation_fee or 0.0,
                reason=order.info.get("reason", order.getordername().lower()),
                maker=maker,
            )
        )
        if not is_ours:
            self._last_orders[data] = order
        if order.status == Order.Partial:
            self.counts["partial_fill"] += 1
        if at != "open":
            instrument.sizes = [*(instrument.sizes or [held]), self.positions[data].size]
            self._entered_inside[order.ref] = raw_price

    def _average(self, scheme, held, before, opened, price, arithmetic) -> float:
        """Return the entry price of a position that grew from ``held`` by ``opened``: harmonic if inverse."""
        if not scheme.inverse or not opened or not held or held * opened < 0:
            return arithmetic
        return (held + opened) / (held / before + opened / price)

    def _free_with(self, data, cash: float, size: float, price: float) -> float:
        """Return the free cash if ``self.cash`` were ``cash``, and the position in ``data`` this."""
        free = cash
        for other, position in self.positions.items():
            if other is not data and position.size:
                free += self._unposted(self.getcommissioninfo(other), position.size, position.price)
        return free + self._unposted(self.getcommissioninfo(data), size, price) if size else free

    @staticmethod
    def _is_lost(scheme: PerpCommission, size: float, entry: float, market_price: float) -> bool:
        """Tell whether a position would be liquidated as it is opened: by its own impact, or by its leverage."""
        margin = scheme.notional(size, entry) / scheme.p.leverage
        price = liquidation_price(size, scheme.book_price(entry), margin, scheme.tiers, scheme.inverse)
        return price is not None and _is_beyond(market_price, price, size)

    @staticmethod
    def _snap(position: bt.Position, market: Market) -> None:
        """Put a size that is a multiple of the step but for float dust just there."""
        step = market.quantity_step
        if step and position.size:
            snapped = round(position.size / step) * step
            if abs(snapped - position.size) <= _CAP_DUST * step:
                position.size = snapped

    def _count_stop(self, stop: Order) -> None:
        entry, data = stop.parent, stop.data
        if entry.executed.dt == data.datetime[0]:
            self.counts["entry_bar_stop"] += 1
        targets = [o for o in self._pchildren.get(entry.ref, ()) if o.exectype == Order.Limit and o.active()]
        for target in targets:
            price = target.created.price
            if data.low[0] <= price if target.isbuy() else data.high[0] >= price:
                self.counts["stop_before_target"] += 1

    def _bracketize(self, order, cancel=False):
        """Do what Backtrader's broker does, but let stop and target work from the entry's fill on."""
        super()._bracketize(order, cancel=cancel)
        while self._toactivate:
            self._toactivate.popleft().activate()

    def _follow_parts(self, order: Order) -> None:
        """Keep the orders of a bracket in step where volume lets only parts of them fill."""
        if order.ref in self._reduce_only and not self.positions[order.data].size:
            self.cancel(order)
        elif order.status == Order.Partial and order.parent is None:
            for child in self._pchildren.get(order.ref, ()):
                child.activate()
        elif order.status == Order.Partial:
            self.cancel(order.parent, bracket=True)
            if not self._unprotected(order):
                self.cancel(order)

    # --- funding

    def _charge_hole(self, instrument: Instrument) -> None:
        """Charge the events while bars were missing on what was held through the hole."""
        if instrument.events is None or instrument.previous_ms is None:
            return
        size = self.positions[instrument.data].size
        for time_ms, rate in instrument.events.between(instrument.previous_ms, instrument.opened_ms):
            self._charge(instrument, time_ms, rate, size, instrument.last_close)

    def _charge_events(self, instrument: Instrument) -> None:
        """Charge the events of the bar on what was held just before them, or may have been."""
        held = instrument.sizes or [self.positions[instrument.data].size]
        if not any(held) or instrument.opened_ms is None:
            return
        events = instrument.events.between(instrument.opened_ms, instrument.closed_ms)
        if not events:
            return
        at_open, at_close = instrument.mark_open, instrument.mark_close
        prices = [at_close if time_ms == instrument.closed_ms else at_open for time_ms, _ in events]
        notional = instrument.scheme.notional
        charges = [rate * notional(1.0, price) for (_, rate), price in zip(events, prices, strict=True)]
        sizes = dearest_sizes(held, charges)
        for (time_ms, rate), price, size in zip(events, prices, sizes, strict=True):
            self._charge(instrument, time_ms, rate, size, price)

    def _charge(self, instrument: Instrument, time_ms: int, rate: float, size: float, price: float) -> None:
        if not size:
            return
        data = instrument.data
        first = self._funded.setdefault(id(instrument.scheme), data)
        if first is not data:
            raise ConfigError(
                f"the funding of {first._name} would be charged on {data._name} too: "
                "give each data a PerpCommission of its own, with addcommissioninfo(…, name=…)"
            )
        amount = math.copysign(instrument.scheme.notional(size, price), size) * rate
        self.cash -= amount
        self.d_credit[data] += amount
        self.journal.append(FundingCharge(data, to_date_number(time_ms), rate, amount))

    # --- liquidation

    def _entry_price(self, data) -> float:
        return self.positions[data].price

    def _margin(self, data) -> float:
        """Return what is posted for a position, less its share of what the account owes."""
        posted = {
            each: scheme.notional(position.size, position.price) / scheme.p.leverage
            for each, position in self.positions.items()
            if position.size
            for scheme in [self.getcommissioninfo(each)]
        }
        owed = min(0.0, self.get_cash())
        return posted[data] * (1 + owed / sum(posted.values()))

    def _liquidation_price(self, instrument: Instrument) -> float | None:
        position, scheme = self.positions[instrument.data], instrument.scheme
        entry, margin = scheme.book_price(position.price), self._margin(instrument.data)
        return liquidation_price(position.size, entry, margin, scheme.tiers, scheme.inverse)

    def _liquidate_at_open(self, instrument: Instrument) -> None:
        size, price = self.positions[instrument.data].size, self._liquidation_price(instrument)
        if price is None or not _is_beyond(instrument.mark_open, price, size):
            return
        worse = min if size > 0 else max
        self._liquidate(instrument, worse(price, instrument.open), "open")

    def _liquidate_inside(self, instruments: list[Instrument]) -> None:
        for instrument in instruments:
            size = self.positions[instrument.data].size
            if not size:
                continue
            price = self._liquidation_price(instrument)
            if price is not None and _is_beyond(instrument.worst(size), price, size):
                self._liquidate(instrument, price, "inside")

    def _liquidates_first(self, stop: Order) -> bool:
        """Liquidate, if on its way to the price of a stop the market passes that of the position's liquidation."""
        instrument = self._instruments[stop.data]
        size = self.positions[stop.data].size
        if not size or stop.isbuy() == (size > 0):
            return False
        price = self._liquidation_price(instrument)
        if price is None or not _is_beyond(stop.created.price, price, size):
            return False
        if not _is_beyond(instrument.worst(size), price, size):
            return False
        self._liquidate(instrument, price, "inside")
        self._cancel_popped(stop)
        return True

    def _liquidate(self, instrument: Instrument, price: float, at: str) -> None:
        data, scheme = instrument.data, instrument.scheme
        size, entry, margin = self.positions[data].size, self._entry_price(data), self._margin(data)
        floor = bankruptcy_price(size, scheme.book_price(entry), margin, scheme.inverse)
        if floor is not None:
            price = max(price, floor) if size > 0 else min(price, floor)
        left = max(0.0, margin + scheme.profitandloss(size, entry, price))
        fee = min(left, scheme.notional(size, price) * scheme.liquidation_fee)
        for order in [order for order in self.pending if order is not None and order.data is data]:
            self.cancel(order)
        self.counts["liquidation"] += 1
        order = self._own_order(data, -size, "liquidation")
        self.orders.append(order)
        order.submit(self)
        order.accept(self)
        self._book(order, instrument, -size, price, price, at, liquidation_fee=fee)

    def _cancel_popped(self, order: Order) -> None:
        """Cancel an order that is out of the queue, because it is just being looked at."""
        order.cancel()
        self.notify(order)
        self._ococheck(order)
        self._bracketize(order, cancel=True)

    def _own_order(self, data, size: float, reason: str) -> Order:
        """Return a market order of the broker's own, for whoever opened the position."""
        last = self._last_orders.get(data)
        order = (BuyOrder if size > 0 else SellOrder)(
            owner=None if last is None else last.owner,
            data=data,
            size=abs(size),
            exectype=Order.Market,
            tradeid=0 if last is None else last.tradeid,
        )
        order.addinfo(reason=reason, by_broker=True)
        self._ocoize(order, None)
        return order

    # --- orders as they come in

    def buy(self, owner, data, size, price=None, plimit=None, exectype=None, **kwargs):
        """Take an order to buy, with the arguments of Backtrader's broker."""
        size, price, plimit = self._rounded(data, size, price, plimit, exectype, is_buy=True)
        return super().buy(owner, data, size, price, plimit, exectype, **kwargs)

    def sell(self, owner, data, size, price=None, plimit=None, exectype=None, **kwargs):
        """Take an order to sell, with the arguments of Backtrader's broker."""
        size, price, plimit = self._rounded(data, size, price, plimit, exectype, is_buy=False)
        return super().sell(owner, data, size, price, plimit, exectype, **kwargs)

    def submit(self, order, check=True):
        """Take an order, or refuse it: status Rejected, and counted."""
        reason = self._refusal(order)
        if reason is not None:
            self.counts[reason] += 1
            order.addinfo(refused=reason)
            order.submit(self)
            order.reject(self)
            self.notify(order)
            return order
        if self.p.latency_bars and order.parent is None:
            self._earliest[order.ref] = len(order.data) + 1 + self.p.latency_bars
        return super().submit(order, check=check)

    def _market(self, data) -> Market | None:
        return self.getcommissioninfo(data).p.market

    def _rounded(self, data, size, price, plimit, exectype, is_buy):
        market = self._market(data)
        if market is None:
            return size, price, plimit
        if price:
            is_limit = exectype == Order.Limit
            price = orders.limit_price(market, price, is_buy) if is_limit else orders.trigger_price(market, price)
        if plimit:
            plimit = orders.limit_price(market, plimit, is_buy)
        held = self.positions[data].size
        if abs(size - abs(held)) <= FLAT * size:
            return abs(held), price, plimit
        return orders.quantity_of(market, size), price, plimit

    def _refusal(self, order: Order) -> str | None:
        """Return under what to count an order that is not taken, None if it is."""
        if order.parent is not None:
            return None  # it shares its entry's fate
        data, size = order.data, order.size
        held = self.positions[data].size
        reduces = held * size < 0 and abs(size) <= abs(held)
        if not (reduces and abs(size) == abs(held)) and self._is_too_small(order):
            return "below_minimum"
        if self._allowed == math.inf:
            return None
        if reduces and self._allowed:
            if data in self._guard_orders and self._guard_orders[data].alive():
                self._reduce_only.add(order.ref)  # what both sell together may be more than is held
            return None
        after = abs(held + size) * abs(self.getcommissioninfo(data).book_price(data.close[0]))
        elsewhere = sum(self._notional(other) for other in self.positions if other is not data)
        if self._allowed and exposure_of(after + elsewhere, self._value) <= self._allowed * (1 + _CAP_DUST):
            return None
        return "refused_by_guard"

    def _is_too_small(self, order: Order) -> bool:
        market = self._market(order.data)
        if market is None:
            return False
        price, size = order.created.price, abs(order.size)
        quote_value = size if self.getcommissioninfo(order.data).inverse else size * price
        return orders.is_too_small(market, size, quote_value)

    # --- guards

    def _notional(self, data) -> float:
        size = self.positions[data].size
        return self.getcommissioninfo(data).notional(size, data.close[0]) if size else 0.0

    def _obey_guards(self, moved: list[Instrument]) -> None:
        exposure = exposure_of(sum(map(self._notional, list(self.positions))), self._value)
        moment = Moment(
            close_time=max(instrument.data.datetime[0] for instrument in moved),
            equity=self._value,
            exposure=exposure,
            missing_bars=max(instrument.missing_bars() for instrument in moved),
        )
        verdict = self.guards.check(moment)
        self._allowed = verdict.limit
        if not verdict.limit:
            ours = {order.ref for order in self._guard_orders.values()}
            for order in [order for order in self.pending if order.ref not in ours]:
                self.cancel(order)
        if exposure <= verdict.limit * (1 + _CAP_DUST):
            return
        excess = 1 - verdict.limit / exposure if verdict.limit else 1.0
        for data in [data for data, position in self.positions.items() if position.size]:
            self._reduce(data, excess, verdict.reason)

    def _reduce(self, data, share: float, reason: str) -> None:
        """Order a share of a position to be closed at market; nothing of the data may then grow into a new one."""
        held = self.positions[data].size
        standing = self._guard_orders.get(data)
        if standing is not None and standing.alive():
            return
        step = self._instruments[data].market.quantity_step
        size = abs(held) * share
        if step:
            size = min(abs(held), math.ceil(size / step - _CAP_DUST) * step)
        self._reduce_only.update(o.ref for o in self.pending if o.data is data and o.isbuy() == (held < 0))
        order = self._own_order(data, -math.copysign(size, held), reason)
        self._reduce_only.add(order.ref)
        self._guard_orders[data] = order
        if self.p.latency_bars:
            self._earliest[order.ref] = len(data) + 1 + self.p.latency_bars
        super().submit(order, check=False)

    def _check_params(self) -> None:
        p = self.p
        for name in ("half_spread", "impact"):
            value = getattr(p, name)
            if not 0 <= value < math.inf or (name == "half_spread" and value >= 1):
                raise ConfigError(
                    f"{name} is {value}: write a number of 0 or more (half_spread: a fraction of price)"
                )
        if p.volume_limit is not None and not 0 < p.volume_limit <= 1:
            raise ConfigError(f"volume_limit is {p.volume_limit}: write a share of the volume above 0, or None")
        if isinstance(p.latency_bars, bool) or not isinstance(p.latency_bars, int) or p.latency_bars < 0:
            raise ConfigError(f"latency_bars is {p.latency_bars}: write a whole number of bars, 0 or more")
        for guard in p.guards:
            if not isinstance(guard, Guard):
                raise ConfigError(f"{guard!r} is no guard: write guards=[hissbt.DrawdownGuard(0.15)]")
            if isinstance(guard, ModelFaultGuard):
                raise ConfigError(
                    "PerpBroker is done with a bar before any model has seen it, so ModelFaultGuard would allow "
                    "everything: let the strategy ask it, as HiSSStrategy does"
                )


def _is_beyond(price: float, limit: float, size: float) -> bool:
    """Tell whether a price is at ``limit`` or worse for a position of this sign."""
    return price <= limit if size > 0 else price >= limit
