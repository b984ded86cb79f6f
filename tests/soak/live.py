"""Run live over an exchange that misbehaves and compare with the backtest over the same bars.

``python -m tests.soak.live --bars FILE --count 2000 [--json]`` from the repository's root, with the tests' extra
installed. The exchange is a replay server whose clock is fast, whose websockets break while bars close, and whose
replies over HTTP suffer every transient fault.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import backtrader as bt
import numpy as np

import hissbt
from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.feeds.replay import Clock, Faults, ReplayServer, Series
from hissbt.feeds.store import BarStore

SYMBOL, SERIES = "BTC/USDT:USDT", "BTCUSDT"
HISTORY = 60  # bars before the live part
# Short, as an hour passes in some hundredths of a second.
HURRY = {"timeout_s": 1.0, "pause_s": 0.01, "quiet_s": 0.1, "silence_s": 0.3}


@dataclass(frozen=True)
class Difference:
    """A live run beside its backtest: ``lost``, ``duplicated`` and ``early`` count bars, ``lines`` values."""

    bars: int
    lost: int
    duplicated: int
    early: int
    lines_that_differ: int
    statuses: dict[str, int]
    requests: dict[str, int]
    faults: dict[str, int]
    elapsed_s: float

    @property
    def is_none(self) -> bool:
        """Whether the live run was the backtest, bit for bit, and no bar came before its close."""
        return not (self.lost or self.duplicated or self.early or self.lines_that_differ)


class Recorder(bt.Strategy):
    """Keeps every bar with the lines of a forecast, and what it hears of the feed."""

    params = (("bundle", None), ("clock", None))

    def __init__(self):
        self.forecast = hissbt.Forecast(self.data, model=self.p.bundle) if self.p.bundle else None
        self.rows, self.statuses, self.early = [], [], 0

    def notify_data(self, data, status, *args, **kwargs):
        self.statuses.append(data._getstatusname(status))

    def prenext(self):
        self.next()

    def next(self):
        close = self.data.datetime[0]
        if self.p.clock is not None:
            self.early += self.p.clock.now_ms() < round((close - _EPOCH_DAYS) * 86_400_000)
        lines = [line[0] for line in self.forecast.lines] if self.forecast else []
        self.rows.append([close, *(line[0] for line in self.data.lines), *lines])


_EPOCH_DAYS = 719_163  # Backtrader's number of 1970-01-01


def record(feed: bt.feed.DataBase, bundle: ModelBundle | None = None, clock: Clock | None = None) -> Recorder:
    """Return the strategy that saw all bars of a feed."""
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feed)
    cerebro.addstrategy(Recorder, bundle=bundle, clock=clock)
    return cerebro.run()[0]


def compare(
    bars: Bars, count: int, faults: Faults, *, bundle: ModelBundle | None = None, speed: float, folder: Path
) -> Difference:
    """Run ``count`` bars live after HISTORY ones, at ``speed`` times real time, and compare with the backtest."""
    bars = bars[: HISTORY + count + 50]  # the market goes on after the end of the run
    opens = bars.open_times
    what = {"since": opens[0], "until": opens[HISTORY + count]}
    with ReplayServer([Series("linear", SERIES, bars)]) as server:
        store = BarStore(folder / "history")
        history = record(hissbt.BybitFeed(SYMBOL, "1h", store=store, endpoint=server.url, **what), bundle)
    began_s = time.monotonic()
    clock = Clock(opens[HISTORY], speed=speed)
    with ReplayServer([Series("linear", SERIES, bars)], clock=clock, faults=faults) as server:
        store = BarStore(folder / "live")
        feed = hissbt.BybitFeed(SYMBOL, "1h", store=store, endpoint=server.url, live=True, **what, **HURRY)
        live = record(feed, bundle, clock)
        requests = dict(server.counts.requests)
    return _difference(live, history, requests, faults, time.monotonic() - began_s)


def _difference(live: Recorder, history: Recorder, requests: dict, faults: Faults, elapsed_s: float) -> Difference:
    expected, came = ({row[0]: row for row in run.rows} for run in (history, live))
    both = [close for close in expected if close in came]
    pairs = np.array([[expected[close], came[close]] for close in both])  # [N, 2, L]
    differ = np.sum((pairs[:, 0] != pairs[:, 1]) & ~np.isnan(pairs).all(axis=1)) if both else 0
    in_order = [row[0] for row in live.rows] == sorted(came)
    return Difference(
        bars=len(live.rows),
        lost=len(expected) - len(both),
        duplicated=len(live.rows) - len(both) + (not in_order),
        early=live.early,
        lines_that_differ=int(differ),
        statuses=dict(Counter(live.statuses)),
        requests=requests,
        faults=dict(faults.counts),
        elapsed_s=round(elapsed_s, 1),
    )


def main() -> int:
    """Print what a run met and how it differed; 1 if it did."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.live", description=__doc__)
    parser.add_argument("--bars", required=True, help="hourly bars, as load_bars names them")
    parser.add_argument("--count", type=int, default=2000, help="bars to run live")
    parser.add_argument("--seed", type=int, default=1, help="of the faults")
    parser.add_argument("--speed", type=float, default=36_000.0, help="of the exchange's clock")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    sys.path.append(str(Path(__file__).parents[1] / "contracts"))
    from bundles import random_bundle

    bars = hissbt.load_bars(arguments.bars)
    faults = Faults(arguments.seed, rate=0.4, socket_rate=0.1)
    with tempfile.TemporaryDirectory() as folder:
        met = compare(
            bars,
            arguments.count,
            faults,
            bundle=random_bundle(bars[:500]),
            speed=arguments.speed,
            folder=Path(folder),
        )
    if arguments.json:
        print(json.dumps(asdict(met)))
    else:
        for name, value in asdict(met).items():
            print(f"{name:18} {value}")
    return 0 if met.is_none else 1


if __name__ == "__main__":
    sys.exit(main())
