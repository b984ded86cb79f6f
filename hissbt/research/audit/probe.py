"""Runs of a target, and what it said at each bar.

A probe has ``name``, ``bundles`` (the models that the target uses) and ``record(bars, mode, beside)``.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import backtrader as bt
import numpy as np

from hissbt.backtest import Setup
from hissbt.bars import Bars
from hissbt.errors import AuditError, HissbtError
from hissbt.feeds.bulk import BarsFeed
from hissbt.loop import accelerate
from hissbt.relay import Model, load_model
from hissbt.research.audit.records import ORDER, POSITION, Record

# What Cerebro is told. In the first all of history is in memory from the first bar on, which a leak needs most.
AT_ONCE: dict = {}
BAR_BY_BAR = {"runonce": False}
BLIND = {"runonce": False, "preload": False}
FORGETFUL = {"exactbars": 1}


def probe_of(
    target: type, bars: Bars, model: str | Path | Model | None, params: Mapping
) -> IndicatorProbe | StrategyProbe:
    """Return what runs ``target``, a Backtrader indicator or strategy, over bars of this market.

    Raises AuditError for another target or a param that it does not have, and what ``Setup.of`` raises.
    """
    if isinstance(target, type) and issubclass(target, bt.Strategy):
        return StrategyProbe(Setup.of(bars, target, model=model, params=dict(params)))
    if isinstance(target, type) and issubclass(target, bt.Indicator):
        return IndicatorProbe(target, _given(target, model, params))
    raise AuditError(f"{target!r} is no Backtrader indicator or strategy: pass a class of one of them")


def _given(indicator: type[bt.Indicator], model: str | Path | Model | None, params: Mapping) -> dict:
    """Return the params of an indicator, its model loaded once for all runs."""
    given = {**params, **({} if model is None else {"model": model})}
    known = indicator.params._getkeys()
    if unknown := [name for name in given if name not in known]:
        raise AuditError(
            f"{indicator.__name__} has no parameter {unknown[0]!r}: it has {', '.join(known) or 'none'}"
        )
    if isinstance(given.get("model"), str | Path):
        given["model"] = load_model(given["model"])
    return given


class IndicatorProbe:
    """Runs an indicator."""

    def __init__(self, indicator: type[bt.Indicator], params: dict):
        self.name = indicator.__name__
        used = {**indicator.params._getpairs(), **params}.values()
        self.bundles = tuple(value for value in used if isinstance(value, Model))
        self._make = partial(indicator, **params)

    def record(self, bars: Bars, mode: Mapping = AT_ONCE, beside: Bars | None = None) -> Record:
        """Return the lines over ``bars``, with another instance ``beside`` it on other bars if there are any.

        Raises AuditError where the target fails, errors of hissbt as they are.
        """
        feeds = [BarsFeed(each) for each in (bars, beside) if each is not None]
        cerebro = _NoWalk(stdstats=False, **mode)
        for feed in feeds:
            cerebro.adddata(feed)
        cerebro.addstrategy(_Host, make=self._make)
        with _explained(self.name, feeds[0]):
            host = cerebro.run()[0]
        indicator = host.indicators[0]
        names = indicator.lines.getlinealiases()
        if host.rows:
            return Record(dict(zip(names, np.array(host.rows).T, strict=True)), len(host.rows))
        columns = (np.array(line.array[: len(bars)]) for line in indicator.lines)
        return Record(dict(zip(names, columns, strict=True)), len(bars))


class _NoWalk(bt.Cerebro):
    """Leaves out the walk from bar to bar where indicators were computed at once: nobody would do anything."""

    def _runonce(self, runstrats):
        for strategy in runstrats:
            strategy._once()


class _Host(bt.Strategy):
    """Holds an instance of the indicator on each data, and notes what the first one shows at each bar."""

    params = (("make", None),)

    def __init__(self):
        self.indicators = [self.p.make(data) for data in self.datas]
        self.rows = []

    def next(self):
        """Note the lines as they stand at this close."""
        self.rows.append([line[0] for line in self.indicators[0].lines])

    prenext = nextstart = next


class StrategyProbe:
    """Runs a strategy under the costs of a backtest; its lines are its decisions and those of its indicators."""

    def __init__(self, setup: Setup):
        self.name = setup.strategy.__name__
        self.bundles = setup.bundles
        self._setup = setup

    def record(self, bars: Bars, mode: Mapping = AT_ONCE, beside: Bars | None = None) -> Record:
        """Return the decisions over ``bars``, after a run over the bars ``beside`` it if there are any.

        These are ``position`` in units; for each order of a bar its size (below 0 if it sells), price, limit and
        kind (Backtrader's number, -1 if it cancels); and ``name.line`` of all indicators. Raises as IndicatorProbe
        does.
        """
        if beside is not None:
            self.record(beside, mode)
        setup, feed = self._setup, BarsFeed(bars)
        cerebro = bt.Cerebro(stdstats=False, **mode)
        cerebro.adddata(feed)
        cerebro.addstrategy(setup.strategy, **setup.params)
        cerebro.addanalyzer(_Decisions, _name="decisions")
        cerebro.broker = setup.costs.broker(setup.market, cash=setup.cash)
        accelerate(cerebro)
        with _explained(self.name, feed):
            strategy = cerebro.run()[0]
        return strategy.analyzers.decisions.record()


class _Decisions(bt.Analyzer):
    """Notes at each bar what a strategy holds, has ordered and sees."""

    def start(self):
        broker = self.strategy.broker
        self._broker, self._submit, self._cancel = broker, broker.submit, broker.cancel
        broker.submit, broker.cancel = self._watch_submit, self._watch_cancel
        self._lines = {
            f"{_name_of(self.strategy, indicator, number)}.{alias}": getattr(indicator.lines, alias)
            for number, indicator in enumerate(self.strategy.getindicators())
            if isinstance(indicator, bt.Indicator)
            for alias in indicator.lines.getlinealiases()
        }
        self._rows, self._orders, self._sent = [], [], []

    def next(self):
        held = self._broker.getposition(self.strategy.data).size
        self._rows.append([held, *(line[0] for line in self._lines.values())])
        self._orders.append(self._sent)
        self._sent = []

    prenext = nextstart = next

    def record(self) -> Record:
        columns = np.array(self._rows).T
        lines = dict(zip((POSITION, *self._lines), columns, strict=True))
        most = max(map(len, self._orders), default=0)
        for i in range(most):
            for field, name in enumerate(("size", "price", "limit", "kind")):
                values = [sent[i][field] if i < len(sent) else np.nan for sent in self._orders]
                lines[f"{ORDER}{i + 1} {name}"] = np.array(values, dtype=np.float64)
        return Record(lines, len(self._rows))

    def _watch_submit(self, order, *args, **kwargs):
        created = order.created
        numbers = (created.size, created.price, created.pricelimit, order.exectype)
        self._sent.append([np.nan if number is None else number for number in numbers])
        return self._submit(order, *args, **kwargs)

    def _watch_cancel(self, order, *args, **kwargs):
        self._sent.append([order.created.size, np.nan, np.nan, -1])
        return self._cancel(order, *args, **kwargs)


def _name_of(strategy: bt.Strategy, indicator: bt.Indicator, number: int) -> str:
    known = (name for name, value in vars(strategy).items() if value is indicator)
    return next(known, f"{type(indicator).__name__}{number}")


@contextmanager
def _explained(name: str, feed: BarsFeed) -> Iterator[None]:
    """Seed the global random numbers, and say of an error what raised it and where."""
    random.seed(0)
    np.random.seed(0)
    try:
        yield
    except HissbtError:
        raise
    except (Exception, SystemExit) as error:
        message = f"{name} cannot run over these bars: after {len(feed)} it raises {type(error).__name__}: {error}"
        raise AuditError(message, shown=len(feed) if isinstance(error, IndexError) else None) from error
