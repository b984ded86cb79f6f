"""An account played by hand: a few bars, listed actions at listed bars, and all that the broker made of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import backtrader as bt
import numpy as np
import pandas as pd

from hissbt.bars import Bars
from hissbt.feeds import BarsFeed
from hissbt.feeds.funding import Funding
from hissbt.market import Market
from hissbt.reports.ledger import Ledger
from hissbt.timeframe import parse_timeframe
from hissbt.trading.broker import PerpBroker

START = pd.Timestamp("2024-01-01", tz="UTC")
COSTS = ("fees", "funding", "impact", "liquidation_fee")
Action = Callable[[bt.Strategy], object]


def bars_of(rows: Sequence[Sequence[float]], timeframe: str = "1h", market: Market | None = None) -> Bars:
    """Return bars of (open, high, low, close) or (open, high, low, close, volume) from midnight on."""
    table = pd.DataFrame([(*row, 1000.0)[:5] for row in rows], columns=["open", "high", "low", "close", "volume"])
    table.insert(0, "timestamp", pd.date_range(START, periods=len(table), freq=parse_timeframe(timeframe)))
    return Bars.from_frame(table, market=market or Market("X"), timeframe=timeframe)


def hourly_funding(rates: Mapping[int, float]) -> Funding:
    """Return events at every hour of some weeks around the bars; ``rates`` are by hours since midnight, else 0."""
    times = pd.date_range(START - pd.Timedelta("2D"), periods=648, freq="h")
    return Funding("X", times, np.array([rates.get(hour - 48, 0.0) for hour in range(len(times))]))


def eight_hourly_funding(rates: Sequence[float]) -> Funding:
    """Return events at 08:00, 16:00, 24:00 … after the first midnight, and around them some of rate 0."""
    times = pd.date_range(START - pd.Timedelta("40h"), periods=len(rates) + 65, freq="8h")
    return Funding("X", times, np.r_[np.zeros(6), rates, np.zeros(59)])


class Scripted(bt.Strategy):
    """Does at bar n (counted from 1, at its close) what ``script[n]`` says, and notes what it sees and hears."""

    params = (("script", {}),)

    def __init__(self):
        self.values, self.cash, self.sizes, self.statuses = [], [], [], []

    def next(self):
        self.values.append(self.broker.getvalue())
        self.cash.append(self.broker.getcash())
        self.sizes.append(self.position.size)
        if len(self) in self.p.script:
            self.p.script[len(self)](self)

    def notify_order(self, order):
        self.statuses.append((len(self), order.getstatusname()))


@dataclass(frozen=True)
class Account:
    """What became of an account; ``values``, ``cash`` and ``sizes`` hold one number for each close."""

    broker: PerpBroker
    strategy: Scripted
    ledger: Ledger

    @property
    def end(self) -> float:
        """Equity at the last close."""
        return self.broker.getvalue()

    @property
    def fills(self) -> list[tuple]:
        """Size, price, place in the bar and reason of each fill."""
        rows = [row for row in self.broker.journal if hasattr(row, "size")]
        return [(row.size, row.price, row.at, row.reason) for row in rows]

    @property
    def charges(self) -> list[float]:
        """Amounts of the funding events that cost or brought anything."""
        return [row.amount for row in self.broker.journal if hasattr(row, "rate") and row.amount]


def play(
    rows: Sequence[Sequence[float]] | Bars,
    script: Mapping[int, Action],
    *,
    cash: float = 100_000.0,
    timeframe: str = "1h",
    **settings: object,
) -> Account:
    """Run a script on bars, with PerpBroker under these settings, and return what became of the account."""
    bars = rows if isinstance(rows, Bars) else bars_of(rows, timeframe)
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars))
    cerebro.broker = PerpBroker(cash=cash, **settings)
    cerebro.addstrategy(Scripted, script=script)
    cerebro.addanalyzer(Ledger, _name="ledger")
    (strategy,) = cerebro.run()
    return Account(cerebro.broker, strategy, strategy.analyzers.ledger)
