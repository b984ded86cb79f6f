"""Random accounts: price paths with everything that hurts, rules and costs of all kinds, and a wild trader.

A path has gaps of 30 %, runs without volume and runs of limit-down bars (open = high = low = close, each 10 %
below the last, next to no volume); now and then bars are missing. Everything follows from one seed.
"""

from dataclasses import dataclass, field

import backtrader as bt
import numpy as np
import pandas as pd

from hissbt.bars import Bars
from hissbt.feeds import BarsFeed
from hissbt.feeds.funding import Funding
from hissbt.market import Market
from hissbt.reports.ledger import Ledger
from hissbt.trading.broker import PerpBroker
from hissbt.trading.commission import PerpCommission

START = pd.Timestamp("2024-01-01", tz="UTC")
BARS = 60
LENGTHS = ("1h", "4h", "24h")
TERMS = ("taker", "maker", "leverage", "contract", "maintenance", "liquidation_fee")
KINDS = (
    *("market", "market", "limit", "stop", "stop_limit", "trail", "trail_limit", "at_close"),
    *("bracket", "oco", "close", "flip", "cancel", "target"),
)


def path(rng: np.random.Generator, length: pd.Timedelta, symbol: str = "X", bars: int = BARS) -> Bars:
    """Return a path of some bars that would ruin most traders."""
    scale = rng.choice([0.003, 0.01, 0.03])
    opens, closes = np.empty(bars), np.empty(bars)
    volume = rng.lognormal(6, 1, bars)
    last, limit_down = 100.0 * 10.0 ** rng.integers(-2, 4), 0
    pinned = np.zeros(bars, dtype=bool)
    for bar in range(bars):
        if limit_down == 0 and rng.random() < 0.02:
            limit_down = int(rng.integers(2, 6))
        if limit_down:
            opens[bar] = closes[bar] = last * 0.9
            pinned[bar], volume[bar], limit_down = True, rng.choice([0.0, 1.0]), limit_down - 1
        else:
            gap = rng.choice([-0.3, 0.3]) if rng.random() < 0.04 else 0.2 * scale * rng.standard_normal()
            opens[bar] = last * (1 + gap)
            closes[bar] = opens[bar] * np.exp(scale * rng.standard_normal())
        last = closes[bar]
    for first in rng.integers(0, bars, rng.integers(0, 3)):
        volume[first : first + rng.integers(2, 8)] = 0.0
    reach = np.where(pinned, 0.0, np.abs(scale * rng.standard_normal((2, bars))))
    high, low = np.maximum(opens, closes) * np.exp(reach[0]), np.minimum(opens, closes) * np.exp(-reach[1])
    table = pd.DataFrame({"open": opens, "high": high, "low": low, "close": closes, "volume": volume})
    table.insert(0, "timestamp", pd.date_range(START, periods=bars, freq=length))
    if rng.random() < 0.3:
        hole = int(rng.integers(5, bars - 10))
        table = table.drop(index=range(hole, hole + int(rng.integers(1, 5))))
    return Bars.from_frame(table, market=Market(symbol), timeframe=length)


def mark_of(rng: np.random.Generator, bars: Bars) -> Bars:
    """Return the mark price of a path: close to it, and calmer."""
    frame = bars.frame.copy()
    near = 1 + 0.002 * rng.standard_normal(len(frame))
    for name in ("open", "close"):
        frame[name] *= near
    frame["high"] = np.maximum(frame[["open", "close"]].max(axis=1), bars.frame["high"] * near / 1.001)
    frame["low"] = np.minimum(frame[["open", "close"]].min(axis=1), bars.frame["low"] * near * 1.001)
    return Bars(frame, bars.market, bars.timeframe)


def funding_of(rng: np.random.Generator, bars: Bars) -> Funding:
    """Return events every one, four or eight hours around the bars, some of them dear."""
    every = pd.Timedelta(hours=int(rng.choice([1, 4, 8])))
    times = pd.date_range(bars.open_times[0] - 4 * every, bars.frame.index[-1] + 4 * every, freq=every)
    rates = rng.choice([0.0001, 0.0004, 0.003, -0.0002, -0.003], len(times)) * rng.uniform(0.5, 1.5, len(times))
    return Funding(bars.market.symbol, times, rates)


def rules(rng: np.random.Generator, datas: list[Bars]) -> dict:
    """Return settings of PerpBroker, guards left out; money is scaled to what the first path costs."""
    inverse = rng.random() < 0.3
    names = [bars.market.symbol for bars in datas]
    funding = {name: funding_of(rng, bars) for name, bars in zip(names, datas, strict=True)}
    settings = {
        "cash": 10.0 if inverse else 100_000.0,
        "taker": rng.choice([0.0, 0.00055, 0.003]),
        "maker": rng.choice([-0.0001, 0.0002]),
        "leverage": float(rng.choice([1, 2, 5, 10, 25, 50])),
        "contract": "inverse" if inverse else "linear",
        "maintenance": 0.005 if rng.random() < 0.7 else ((0, 0.004), (1.0 if inverse else 50_000.0, 0.01)),
        "liquidation_fee": rng.choice([None, 0.005]),
        "half_spread": rng.choice([0.0, 0.0002, 0.005]),
        "impact": rng.choice([0.0, 0.7]),
        "volume_limit": rng.choice([None, 0.1, 1.0]),
        "latency_bars": int(rng.choice([0, 0, 1, 2])),
    }
    if rng.random() < 0.7:
        settings["funding"] = funding[names[0]] if len(datas) == 1 else funding
    if len(datas) == 1 and rng.random() < 0.3:
        settings["mark"] = mark_of(rng, datas[0])
    if len(datas) == 1 and rng.random() < 0.3:
        settings["market"] = market_of(rng, datas[0], inverse)
    return settings


def market_of(rng: np.random.Generator, bars: Bars, inverse: bool) -> Market:
    """Return rules of a market that trades this path: some of its orders are too small, none is refused whole."""
    price = float(bars.frame["close"].iloc[0])
    least = 0.01 if inverse else 100.0 / price
    return Market(
        bars.market.symbol,
        tick=10.0 ** np.floor(np.log10(price) - 4),
        quantity_step=10.0 ** np.floor(np.log10(least)),
        min_quantity=least,
        min_notional=float(rng.choice([0.0, 1000.0])),
        contract="inverse" if inverse else "linear",
    )


@dataclass(frozen=True)
class Case:
    """One account to be: its paths, its rules, and the seed of its trader."""

    seed: int
    datas: list[Bars]
    settings: dict = field(default_factory=dict)


def case(seed: int, *, markets: int | None = None) -> Case:
    """Return the case of a seed, with one market or two unless told."""
    rng = np.random.default_rng(seed)
    length = pd.Timedelta(rng.choice(LENGTHS))
    count = markets or int(rng.choice([1, 1, 1, 2]))
    datas = [path(rng, length, f"X{number}") for number in range(count)]
    return Case(seed, datas, rules(rng, datas))


class WildTrader(bt.Strategy):
    """Does at random all that a broker can be asked; sizes go up to a little more than the account can carry."""

    params = (("seed", 0), ("activity", 0.4), ("until", 10**9), ("leverage", 1.0))

    def __init__(self):
        self.rng, self.placed = np.random.default_rng([self.p.seed, 1]), []

    def next(self):
        for data in self.datas:
            if len(self) <= self.p.until and len(data) and self.rng.random() < self.p.activity:
                self.act(data, str(self.rng.choice(KINDS)))

    def act(self, data, kind):
        """Place, change or cancel something."""
        rng, price = self.rng, data.close[0]
        unit = abs(self.broker.getcommissioninfo(data).book_price(price))
        most = 1.1 * self.p.leverage * max(self.broker.getvalue(), 0.0) / unit
        size = most * rng.choice([0.01, 0.2, 0.5, 1.0]) * rng.uniform(0.1, 1)
        side = rng.choice([1, -1])
        place = self.buy if side > 0 else self.sell
        away = price * abs(rng.normal(0, 0.02)) + 1e-9 * price
        position = self.getposition(data).size
        if size <= 0:
            return
        if kind == "market":
            order = place(data=data, size=size)
        elif kind == "limit":
            order = place(
                data=data, size=size, exectype=bt.Order.Limit, price=price - side * away * rng.choice([1, 1, -1])
            )
        elif kind == "stop":
            order = place(data=data, size=size, exectype=bt.Order.Stop, price=price + side * away)
        elif kind == "stop_limit":
            order = place(
                data=data,
                size=size,
                exectype=bt.Order.StopLimit,
                price=price + side * away,
                plimit=price + 2 * side * away,
            )
        elif kind == "trail":
            order = place(data=data, size=size, exectype=bt.Order.StopTrail, trailamount=away)
        elif kind == "trail_limit":
            limit = {"exectype": bt.Order.StopTrailLimit, "trailamount": away, "plimit": price + 2 * side * away}
            order = place(data=data, size=size, price=price, **limit)
        elif kind == "at_close":
            order = place(data=data, size=size, exectype=bt.Order.Close)
        elif kind == "bracket":
            bracket = self.buy_bracket if side > 0 else self.sell_bracket
            entry = {"exectype": bt.Order.Market} if rng.random() < 0.5 else {"price": price - side * away / 4}
            order = bracket(
                data=data,
                size=size,
                stopprice=price - side * 2 * away,
                limitprice=price + side * 2 * away,
                **entry,
            )[0]
        elif kind == "oco":
            order = place(data=data, size=size, exectype=bt.Order.Limit, price=price - side * away)
            place(data=data, size=size, exectype=bt.Order.Stop, price=price + side * away, oco=order)
        elif kind == "flip" and position:
            order = (self.sell if position > 0 else self.buy)(data=data, size=2 * abs(position))
        elif kind == "target":
            order = self.order_target_size(data=data, target=side * size)
        elif kind == "cancel" and self.placed:
            self.cancel(self.placed[int(rng.integers(len(self.placed)))])
            return
        else:
            order = self.close(data=data)
        if order is not None:
            self.placed.append(order)


def broker_of(settings: dict) -> PerpBroker:
    """Return the broker of these settings; where funding is by market, each has a commission scheme of its own."""
    funding = settings.get("funding")
    if not isinstance(funding, dict):
        return PerpBroker(**settings)
    broker = PerpBroker(**settings | {"funding": None})
    terms = {name: settings[name] for name in TERMS}
    for name, series in funding.items():
        broker.addcommissioninfo(PerpCommission(**terms, funding=series), name=name)
    return broker


def run(
    case: Case, *, strategy: type[bt.Strategy] = WildTrader, analyzers: dict | None = None, **settings: object
):
    """Run a case, its settings changed by ``settings``; return the strategy and its broker."""
    cerebro = bt.Cerebro(stdstats=False)
    for bars in case.datas:
        cerebro.adddata(BarsFeed(bars))
    settings = case.settings | settings
    cerebro.broker = broker = broker_of(settings)
    cerebro.addstrategy(strategy, seed=case.seed, leverage=settings["leverage"])
    cerebro.addanalyzer(Ledger, _name="ledger")
    for name, analyzer in (analyzers or {}).items():
        cerebro.addanalyzer(analyzer, _name=name)
    (ran,) = cerebro.run()
    return ran, broker
