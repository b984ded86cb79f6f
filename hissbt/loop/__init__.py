"""Backtrader's loop, less the work of each bar that cannot matter in this run.

At every bar Backtrader asks each part whether there is something to do. In a backtest most answers are known
before the first bar, or from a look at the account: there are no timers, nobody listens for cash, the strategy is
warm, no order can fill at these prices. The loop here takes the steps of Backtrader's ``_runonce`` and
``_oncepost`` in their order and with their arithmetic, and leaves out

- moving lines one by one: those of a BarsFeed, and of the indicators on a feed, follow a shared cursor;
- the broker, while nothing was ordered or notified and no waiting order's price is reached: only the account is
  valued anew, and only while it holds something. PerpBroker rests as well, where one data is traded and no guards
  look at each bar: until a funding event is due for what is held, or its liquidation price is reached;
- Backtrader's way through metaclasses and the copy module for each order that is made or told of;
- most looks for cyclic garbage;
- announcing cash and value where nobody overrides ``notify_cashvalue`` or ``notify_fund``;
- comparing lengths with minimum periods once these are over, and calling analyzers that do nothing at a bar;
- asking for timers, writers, cheat-on-open and observers where there are none. Where there are, they are called as
  Backtrader calls them, and cost what they cost there.

Feeds, brokers and commission schemes of other classes (those with interest, too) do all of their own work at every
bar of the same loop. Backtrader's classes stay as they are: a run works on its own objects, which may be of
classes of this package while it lasts, and puts them back.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import backtrader as bt

from hissbt.errors import ConfigError
from hissbt.loop.broker import broker_step
from hissbt.loop.lines import compute_once, moments, walker_of
from hissbt.loop.own import differs
from hissbt.loop.strategy import strategy_step

# What the loop supports: a run of which none of these is true. Any other goes through Backtrader's own loop from
# its first bar to its last, and the text says why.
UNSUPPORTED: tuple[tuple[str, Callable[[bt.Cerebro, list[bt.Strategy]], bool]], ...] = (
    ("Backtrader is not version 1.9.78.123", lambda cerebro, _: bt.__version__ != "1.9.78.123"),
    ("a feed is live", lambda cerebro, _: cerebro._dolive or cerebro.p.live),
    ("Cerebro resamples or replays a feed", lambda cerebro, _: cerebro._doreplay),
    ("exactbars is set", lambda cerebro, _: cerebro._exactbars != 0),
    ("oldsync is set", lambda cerebro, _: cerebro.p.oldsync),
    ("preload is off", lambda cerebro, _: not cerebro._dopreload),
    ("runonce is off", lambda cerebro, _: not cerebro.p.runonce),
    ("an indicator goes bar by bar only", lambda cerebro, _: not cerebro._dorunonce),
    ("Cerebro has a loop of its own", lambda cerebro, _: _has_own_loop(cerebro)),
    ("a strategy has steps of its own", lambda _, strategies: any(map(_has_own_steps, strategies))),
)

# Methods whose work is done here: those that a class or an object has of its own would not be heard.
_LOOP = ("_brokernotify", "_check_timers", "_next_writers")
_STEPS = ("_oncepost", "_getminperstatus", "_next_analyzers", "clear", "forward")

_COLLECT_AFTER = (100_000, 20, 100)  # as in gc.set_threshold; beyond this nothing is gained


def accelerate(cerebro: bt.Cerebro) -> None:
    """Make ``cerebro.run()`` faster and change no result: one line, anywhere before the run.

    Each run decides for itself, from the feeds, broker, strategies and settings that it has. Afterwards
    ``cerebro.loop`` tells how it ran, ``{"path": "fast" or "stock", "reason": why not fast, or None,
    "broker_bars": at how many bars the broker did all of its work, None if stock}``; ``Ledger.loop`` is the same,
    and also comes back from the processes of an optimization.

    A fast run ends in a StrategyError where a strategy moves a line of a feed itself, as ``self.data.rewind()``.
    Raises ConfigError for anything but a Cerebro.
    """
    if not isinstance(cerebro, bt.Cerebro):
        raise ConfigError(f"accelerate cannot work on {type(cerebro).__name__}: pass it the Cerebro that will run")
    # By name, so that optstrategy can send the Cerebro to its processes; strategies know the one they run in.
    for loop in ("_runonce", "_runnext", "_runonce_old", "_runnext_old"):
        setattr(cerebro, loop, partial(_run, loop))


def _run(loop: str, strategies: list[bt.Strategy]) -> None:
    """Run the bars in the place of Cerebro's method ``loop``."""
    cerebro = strategies[0].cerebro
    reason = next((text for text, is_true in UNSUPPORTED if is_true(cerebro, strategies)), None)
    cerebro.loop = {"path": "fast" if reason is None else "stock", "reason": reason, "broker_bars": None}
    if reason is not None:
        getattr(type(cerebro), loop)(cerebro, strategies)
        return
    with ExitStack() as undo:
        _collect_rarely(undo)
        _run_fast(cerebro, strategies, undo)


def _collect_rarely(undo: ExitStack) -> None:
    """Let Python look for cyclic garbage less often: it would go through ever more orders, and find hardly any."""
    before = gc.get_threshold()
    if not gc.isenabled() or not before[0]:
        return
    rarely = tuple(map(max, before, _COLLECT_AFTER))
    gc.set_threshold(*rarely)

    def put_back():
        if gc.get_threshold() == rarely:  # else the strategy has set others
            gc.set_threshold(*before)

    undo.callback(put_back)


def _run_fast(cerebro: bt.Cerebro, strategies: list[bt.Strategy], undo: ExitStack) -> None:
    """Do what Cerebro._runonce does; ``undo`` gets what has to be put back."""
    for strategy in strategies:
        compute_once(strategy)
        strategy.reset()
    feeds = sorted(cerebro.datas, key=lambda feed: (feed._timeframe, feed._compression))
    walkers = [walker_of(feed, undo) for feed in feeds]
    let_broker_work = broker_step(cerebro, undo)
    steps = [strategy_step(strategy, undo) for strategy in strategies]
    has_cheat_timers, has_timers = bool(cerebro._timerscheat), bool(cerebro._timers)
    has_writers, cheats_on_open = bool(cerebro.runwriters), cerebro.p.cheat_on_open

    for now in moments(walkers):
        if has_cheat_timers:
            cerebro._check_timers(strategies, now, cheat=True)
        if cheats_on_open:
            for strategy in strategies:
                strategy._oncepost_open()
                if cerebro._event_stop:
                    return
        let_broker_work()
        if cerebro._event_stop:
            return
        if has_timers:
            cerebro._check_timers(strategies, now, cheat=False)
        for step in steps:
            step(now)
            if cerebro._event_stop:
                return
            if has_writers:
                cerebro._next_writers(strategies)


def _has_own_loop(cerebro: bt.Cerebro) -> bool:
    return differs(type(cerebro), bt.Cerebro, ("_runonce",)) or differs(cerebro, bt.Cerebro, _LOOP)


def _has_own_steps(strategy: bt.Strategy) -> bool:
    return differs(strategy, bt.Strategy, _STEPS)
