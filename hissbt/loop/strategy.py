"""A strategy's step at each bar, with its indicators and analyzers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import backtrader as bt
from backtrader.lineiterator import LineIterator
from backtrader.lineseries import LineSeries

from hissbt.feeds.bulk import BarsFeed
from hissbt.lean import LeanIndicator
from hissbt.loop.lines import Cursor, can_follow, place_of
from hissbt.loop.own import MOVES, differs

_CASH = ("_notify_cashvalue", "_notify_fund", "notify_cashvalue", "notify_fund")


def strategy_step(strategy: bt.Strategy, undo: ExitStack) -> Callable[[float], None]:
    """Return what Strategy._oncepost does at a bar, cut short where that comes to the same."""
    groups, others = _indicators(strategy, undo)
    times = strategy.lines.datetime
    own_lines = [line for line in strategy.lines.lines if line is not times]
    is_told = differs(strategy, bt.Strategy, ("_notify", "notify_cashvalue", "notify_fund")) or any(
        _hears_of_cash(analyzer) for analyzer in (*strategy.analyzers, *strategy._slave_analyzers)
    )
    is_observed = bool(strategy.getobservers())
    analyze = [analyzer._next for analyzer in strategy.analyzers if _works_at_bars(analyzer)]
    is_warm = False

    def step(now):
        nonlocal is_warm
        for clock, cursor in groups:
            if clock.lencount > cursor.lencount:
                cursor.idx += 1
                cursor.lencount += 1
        for indicator in others:
            if len(indicator._clock) > len(indicator):
                indicator.advance()

        times._idx += 1
        times.lencount += 1
        times.array.append(now)
        for line in own_lines:
            line.forward()
        for line in times.bindings:
            line[0] = now

        if is_told or strategy._orderspending or strategy._tradespending:
            strategy._notify()
        if is_warm:
            strategy.next()
            for analyze_bar in analyze:
                analyze_bar()
        else:
            status = strategy._getminperstatus()
            is_warm = status < 0
            if is_warm:
                strategy.next()
            elif status == 0:
                strategy.nextstart()
            else:
                strategy.prenext()
            strategy._next_analyzers(status, once=True)
        if is_observed:
            strategy._next_observers(strategy._minperstatus, once=True)
        if strategy._orderspending or strategy._tradespending:
            strategy.clear()

    return step


def _indicators(strategy: bt.Strategy, undo: ExitStack) -> tuple[list[tuple], list]:
    """Return (clock, cursor) of those indicators that can move together, and the others, which move themselves."""
    feeds = {id(line) for feed in strategy.cerebro.datas for line in feed.lines.lines}
    groups, others = {}, []
    for indicator in strategy._lineiterators[LineIterator.IndType]:
        clock_line = indicator._clock.lines[0]
        # Only those on a feed: another indicator, as a clock, must have moved before.
        if id(clock_line) not in feeds or not _is_plain(indicator):
            others.append(indicator)
            continue
        clock = place_of(clock_line)
        if id(clock) not in groups:
            groups[id(clock)] = clock, Cursor()
            undo.callback(groups[id(clock)][1].release)
        groups[id(clock)][1].take(indicator.lines.lines)
        _name_lines(indicator, undo)
    return list(groups.values()), others


def _is_plain(indicator: bt.LineIterator | bt.LineBuffer) -> bool:
    """Tell whether an indicator and its clock count and move as Backtrader's do."""
    return (
        isinstance(indicator, bt.Indicator)
        and not differs(indicator, LeanIndicator if isinstance(indicator, LeanIndicator) else bt.Indicator, MOVES)
        and type(indicator._clock).__len__ in (LineSeries.__len__, BarsFeed.__len__)
        and can_follow(indicator.lines.lines)
    )


def _name_lines(indicator: bt.Indicator, undo: ExitStack) -> None:
    """Make the lines plain attributes, which are found four times faster than through Backtrader's search."""
    for name, line in zip(indicator.lines.getlinealiases(), indicator.lines.lines, strict=False):
        if not hasattr(type(indicator), name) and name not in vars(indicator):
            vars(indicator)[name] = line
            undo.callback(vars(indicator).pop, name, None)


def _hears_of_cash(analyzer: bt.Analyzer) -> bool:
    return differs(analyzer, bt.Analyzer, _CASH) or any(map(_hears_of_cash, analyzer._children))


def _works_at_bars(analyzer: bt.Analyzer) -> bool:
    return bool(analyzer._children) or differs(analyzer, bt.Analyzer, ("_next", "next"))
