"""The terms on which a perpetual future is traded, as a Backtrader commission scheme."""

from __future__ import annotations

import math

import backtrader as bt

from hissbt.errors import ConfigError
from hissbt.trading.clock import to_ms
from hissbt.trading.contract import book_price, maintenance_tiers
from hissbt.trading.events import FundingEvents


class PerpCommission(bt.CommInfoBase):
    """Fees, leverage, contract, margin and funding of one perpetual future.

    ``PerpBroker`` charges all of it, exactly. ``cerebro.broker.addcommissioninfo(PerpCommission(...))`` gives it
    to Backtrader's own broker too, and that does with it what it can:

    - every fill pays ``taker``, as a scheme is not told of the order;
    - the bars between two valuations are charged their funding events at the later close. What was entered in the
      bar before an event is missed, and what was closed in that bar is charged: on eight-hour funding and hourly
      bars about an hour's worth of positions at each edge;
    - ``leverage`` is respected for longs; a short needs no margin there;
    - sizes are fractional; inverse contracts have the right profit from one entry to one exit, while several
      entries get the mean of their prices where the harmonic mean is due, and the notional of a long shows as
      negative, so that order_target_value and order_target_percent do not work;
    - nothing is ever liquidated, and ``maintenance``, ``liquidation_fee``, ``mark`` and ``market`` mean nothing.

    Params: ``taker`` and ``maker``, fractions of notional (a maker fee may be negative); ``leverage``, notional
    over posted margin; ``contract``, "linear" (money in the quote currency) or "inverse" (money in the base coin,
    one contract a unit of the quote currency); ``maintenance``, a rate of notional or ``((floor, rate), ...)``,
    see ``maintenance_tiers``; ``liquidation_fee``, a fraction of notional, by default ``taker``; ``funding``, a
    ``hissbt.feeds.Funding``; ``mark``, Bars of the mark price, by default the traded price is taken; ``market``, a
    ``hissbt.Market`` with the steps and minimums of orders. Raises ConfigError for what is out of range.
    """

    params = (
        ("taker", 0.00055),
        ("maker", 0.0002),
        ("leverage", 1.0),
        ("contract", "linear"),
        ("maintenance", 0.005),
        ("liquidation_fee", None),
        ("funding", None),
        ("mark", None),
        ("market", None),
        ("stocklike", True),
        ("commtype", bt.CommInfoBase.COMM_PERC),
        ("percabs", True),
    )

    def __init__(self):
        super().__init__()
        params = self.p
        self.inverse = params.contract == "inverse"
        self.liquidation_fee = params.taker if params.liquidation_fee is None else params.liquidation_fee
        self._check()
        self._check_funding()
        self.tiers = maintenance_tiers(params.maintenance)
        self._events = None if params.funding is None else FundingEvents(params.funding)

    def book_price(self, price: float) -> float:
        """Return the number in which profit is linear, see ``hissbt.trading.contract``."""
        return book_price(price, self.inverse)

    def notional(self, size: float, price: float) -> float:
        """Return what a position is worth without its sign, in the account's currency."""
        return abs(size * self.book_price(price))

    def getsize(self, price: float, cash: float) -> float:
        """Return the size, fractional, whose notional is ``cash``."""
        return cash / abs(self.book_price(price))

    def getoperationcost(self, size: float, price: float) -> float:
        """Return the notional."""
        return self.notional(size, price)

    def getvaluesize(self, size: float, price: float) -> float:
        """Return the size times the book price: what Backtrader's way of keeping cash needs."""
        return size * price if not self.inverse else size * self.book_price(price)

    def getvalue(self, position: bt.Position, price: float) -> float:
        """Return the same of a position."""
        return self.getvaluesize(position.size, price)

    def profitandloss(self, size: float, price: float, newprice: float) -> float:
        """Return the profit of ``size`` from ``price`` to ``newprice``, in the account's currency."""
        if not self.inverse:
            return size * (newprice - price)
        return size * (book_price(newprice, True) - book_price(price, True)) if size else 0.0

    def fee(self, size: float, price: float, maker: bool) -> float:
        """Return the fee of a fill."""
        rate = self.p.maker if maker else self.p.taker
        return self.notional(size, price) * rate

    def _getcommission(self, size, price, pseudoexec):
        return self.fee(size, price, maker=False)

    def get_credit_interest(self, data, pos, dt):
        """Backtrader's hook at each bar of an open position: the funding since it was last asked."""
        if self._events is None or pos.datetime is None:
            return 0.0
        after, until = (to_ms(bt.date2num(moment)) for moment in (pos.datetime, dt))
        rate = math.fsum(rate for _, rate in self._events.between(after, until))
        return pos.size * abs(self.book_price(data.close[0])) * rate

    def _check_funding(self) -> None:
        funding = self.p.funding
        if funding is not None and not all(hasattr(funding, name) for name in ("times", "rates", "coverage")):
            raise ConfigError(
                f"funding is a {type(funding).__name__}: write what load_funding returns, and where several "
                "datas are traded give each its own, with addcommissioninfo(PerpCommission(funding=…), name=…)"
            )

    def _check(self) -> None:
        params = self.p
        if params.contract not in ("linear", "inverse"):
            raise ConfigError(f"contract is {params.contract!r}: write linear or inverse")
        for name, rate, least in (
            ("taker", params.taker, 0.0),
            ("maker", params.maker, -0.01),
            ("liquidation_fee", self.liquidation_fee, 0.0),
        ):
            if not least <= rate < 1:
                raise ConfigError(f"{name} is {rate}: write a fraction of notional, such as 0.00055 for 5.5 bp")
        most = (params.market.max_leverage if params.market is not None else 0.0) or math.inf
        if not 0 < params.leverage <= most or math.isinf(params.leverage):
            raise ConfigError(
                f"leverage is {params.leverage}: write a multiple of margin above 0, at most {most:g}"
            )
