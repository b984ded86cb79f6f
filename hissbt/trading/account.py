"""What an account of perpetual futures is worth, and how much of it is free."""

from __future__ import annotations

import math
from collections import Counter

import backtrader as bt

from hissbt.errors import ConfigError
from hissbt.trading.commission import PerpCommission
from hissbt.trading.guards import exposure_of
from hissbt.trading.instrument import Instrument
from hissbt.trading.journal import Fill, FundingCharge

TERMS = ("taker", "maker", "leverage", "contract", "maintenance", "liquidation_fee", "funding", "mark", "market")


class AccountLayer(bt.brokers.BackBroker):
    """Money in book prices: a BackBroker that knows margins and takes no scheme but ``PerpCommission``.

    ``self.cash`` is kept as Backtrader keeps it with stocks: each trade pays, or is paid, its size times the book
    price. What is free, ``get_cash``, follows from it and the prices of the entries.
    """

    params = tuple((name, getattr(PerpCommission.params, name)) for name in TERMS)

    def init(self):
        """Backtrader's hook before a run: open the books."""
        if None not in self.comminfo:
            self.comminfo[None] = PerpCommission(**{name: getattr(self.p, name) for name in TERMS})
        super().init()
        self.journal: list[Fill | FundingCharge] = []
        self.counts: Counter[str] = Counter()
        self._instruments: dict[bt.feed.AbstractDataBase, Instrument] = {}
        self._margins, self._margins_of = {}, None

    def get_cash(self) -> float:
        """Return what is left for new positions: equity without unrealized profit and posted margins."""
        margins = self._known_margins()
        if None not in margins:
            margins[None] = self._free_with(None, self.cash, 0.0, 0.0)
        return margins[None]

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

    def set_slippage_perc(self, *args, **kwargs):
        """Refuse: it would move prices before spread and impact are told from them."""
        raise ConfigError("PerpBroker has no slippage settings: make it with half_spread=… and impact=…")

    set_slippage_fixed = set_slippage_perc

    def set_fund_history(self, fund):
        """Refuse: an account that is told its value has no costs to charge."""
        raise ConfigError("PerpBroker takes no fund history: use Backtrader's own broker for it")

    def _known_margins(self) -> dict:
        """Return where to remember what follows from cash and positions, empty whenever one has changed."""
        state = self.cash, len(self.journal)  # no position changes but by what the journal has
        if state != self._margins_of:
            self._margins, self._margins_of = {}, state
        return self._margins

    def _free_with(self, data: bt.feed.AbstractDataBase | None, cash: float, size: float, price: float) -> float:
        """Return the free cash if ``self.cash`` were ``cash``, and the position in ``data`` this."""
        free = cash
        for other, position in self.positions.items():
            if other is not data and position.size:
                free += self._unposted(self.getcommissioninfo(other), position.size, position.price)
        return free + self._unposted(self.getcommissioninfo(data), size, price) if size else free

    def _unposted(self, scheme: PerpCommission, size: float, price: float) -> float:
        """Return what must be added to ``self.cash`` for a position to have cost its margin only.

        At leverage 1 a long's share is exactly 0, so that its cash is Backtrader's to the last bit.
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
