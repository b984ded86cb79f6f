"""PerpBroker: Backtrader's broker, with what a perpetual future really charges and what limits really hold."""

from __future__ import annotations

import math

import backtrader as bt
from backtrader.order import Order

from hissbt.errors import ConfigError
from hissbt.market import Market
from hissbt.trading import orders
from hissbt.trading.enforcement import GuardLayer
from hissbt.trading.guards import Guard, ModelFaultGuard
from hissbt.trading.instrument import Instrument
from hissbt.trading.matching import WAITING
from hissbt.trading.sizing import FLAT


class PerpBroker(GuardLayer):
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

    Feeds must stamp bars with their close in UTC, as BarsFeed does, and count the volume of an inverse contract in
    its base coin, as ccxt does for Bybit. Raises ConfigError for params out of range,
    any other commission scheme, one funding series for several datas, and incomplete funding at the first bar.
    """

    def __init__(self):
        self._check_params()
        super().__init__()

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
            self._charge_events(instrument)
            instrument.close_bar()
        self._get_value()
        if self.guards is not None:
            self._ask_guards(moved)

    def _open_books(self) -> None:
        if not self._waits_for_model and any(isinstance(guard, ModelFaultGuard) for guard in self.p.guards):
            raise ConfigError(
                "PerpBroker is done with a bar before any model has seen it, so ModelFaultGuard would allow "
                'everything: add cerebro.addanalyzer(hissbt.ModelWatch, forecast="…") before the Ledger'
            )
        for data in self.cerebro.datas:
            if data._compensate is not None:
                raise ConfigError(
                    f"{data._name} compensates another data: PerpBroker holds a position in each data"
                )
            costs = self.p.half_spread, self.p.impact, self.p.volume_limit
            self._instruments[data] = Instrument(data, self.getcommissioninfo(data), *costs)
            self._cover(self._instruments[data])

    def buy(self, owner, data, size, price=None, plimit=None, exectype=None, **kwargs):
        """Take an order to buy, with the arguments of Backtrader's broker."""
        size, price, plimit = self._rounded(data, size, price, plimit, exectype, is_buy=True)
        return super().buy(owner, data, size, price=price, plimit=plimit, exectype=exectype, **kwargs)

    def sell(self, owner, data, size, price=None, plimit=None, exectype=None, **kwargs):
        """Take an order to sell, with the arguments of Backtrader's broker."""
        size, price, plimit = self._rounded(data, size, price, plimit, exectype, is_buy=False)
        return super().sell(owner, data, size, price=price, plimit=plimit, exectype=exectype, **kwargs)

    def submit(self, order, check=True):
        """Take an order, or refuse it: status Rejected, and counted."""
        reason = self._refusal(order)
        if reason is None:
            return self._take_in(order, check)
        self.counts[reason] += 1
        order.addinfo(refused=reason)
        order.submit(self)
        order.reject(self)
        self.notify(order)
        return order

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
            self._refuse_for_margin(order)

    def _free_after(self, order: Order, free: float, position: bt.Position) -> float:
        """Return the free cash when the order has been filled at its price, and the position with it."""
        scheme, price = self.getcommissioninfo(order.data), order.created.price
        before, size = position.price, order.executed.remsize
        _, _, opened, closed = position.update(size, price)
        if closed:
            free += scheme.notional(closed, before) / scheme.p.leverage
            free += scheme.profitandloss(-closed, before, price) - scheme.fee(closed, price, maker=False)
        # What protects a position may look like a new one here; if it becomes one, its fill is checked.
        waits_as_exit = order.parent is not None or (size < 0 and order.exectype in WAITING)
        if opened and not waits_as_exit:
            free -= scheme.notional(opened, price) / scheme.p.leverage + scheme.fee(opened, price, maker=False)
            return free
        return max(free, 0.0)

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
        held = self.positions[order.data].size
        closes = held * order.size < 0 and abs(order.size) == abs(held)
        if not closes and self._is_too_small(order):
            return "below_minimum"
        return None if self._is_allowed(order) else "refused_by_guard"

    def _is_too_small(self, order: Order) -> bool:
        market = self._market(order.data)
        if market is None:
            return False
        price, size = order.created.price, abs(order.size)
        quote_value = size if self.getcommissioninfo(order.data).inverse else size * price
        return orders.is_too_small(market, size, quote_value)

    def _check_params(self) -> None:
        p = self.p
        for name in ("half_spread", "impact"):
            value = getattr(p, name)
            if not 0 <= value < math.inf or (name == "half_spread" and value >= 1):
                raise ConfigError(
                    f"{name} is {value}: write a number of 0 or more (half_spread: a fraction of price)"
                )
        if p.slip_perc or p.slip_fixed:
            self.set_slippage_perc()
        if p.volume_limit is not None and not 0 < p.volume_limit <= 1:
            raise ConfigError(f"volume_limit is {p.volume_limit}: write a share of the volume above 0, or None")
        if isinstance(p.latency_bars, bool) or not isinstance(p.latency_bars, int) or p.latency_bars < 0:
            raise ConfigError(f"latency_bars is {p.latency_bars}: write a whole number of bars, 0 or more")
        for guard in p.guards:
            if not isinstance(guard, Guard):
                raise ConfigError(f"{guard!r} is no guard: write guards=[hissbt.DrawdownGuard(0.15)]")
