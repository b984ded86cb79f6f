"""A live feed against a server on loopback: its bars are those of a backtest, whatever happens on the way."""

import gc
import logging
import threading
import weakref
from datetime import UTC, datetime, timedelta

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from bundles import random_bundle
from soak.live import HURRY, SERIES, SYMBOL, Recorder, compare, record

import hissbt
from hissbt.errors import BarsError, ConfigError, FetchError
from hissbt.feeds.bulk import BarsFeed
from hissbt.feeds.replay import Clock, Faults, Series
from hissbt.feeds.store import BarStore

HOUR = pd.Timedelta(hours=1)
GRACE = pd.Timedelta(seconds=3)  # and a bit
PATIENT = {"silence_s": 30.0}  # where the clock stands still, so does the websocket
FAST = 72_000.0  # twenty bars of an hour in a second


@pytest.fixture(autouse=True)
def ends_clean():
    """After every test, no thread of a feed is left."""
    yield
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("live ")]


@pytest.fixture
def store(tmp_path):
    return BarStore(tmp_path / "store")


@pytest.fixture
def market(replay, hourly_bars, store):
    """Make a running exchange and a function that makes live feeds of it: bars from ``first`` on are live."""

    def start(first=40, *, speed=FAST, bars=hourly_bars, **settings):
        clock = Clock(bars.open_times[first], speed=speed)
        server = replay(bars, clock=clock, **settings)

        def feed(**changes):
            known = {"since": bars.open_times[0], "until": bars.open_times[first + 40], "live": True}
            return hissbt.BybitFeed(
                SYMBOL, "1h", **known | HURRY | {"store": store, "endpoint": server.url} | changes
            )

        return server, feed

    return start


def values(strategy):
    return np.array(strategy.rows)


def backtest(bars, bundle=None):
    return values(record(BarsFeed(bars), bundle))


# --- history


def test_without_live_it_is_a_feed_in_bulk_that_the_fast_loop_takes(market, hourly_bars):
    _, feed = market(100)
    history = feed(live=False, until=hourly_bars.open_times[90], **HURRY)
    assert type(history) is BarsFeed
    assert not history.islive()
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(history)
    cerebro.addstrategy(Recorder)
    hissbt.accelerate(cerebro)
    rows = values(cerebro.run()[0])
    assert cerebro.loop["path"] == "fast"
    np.testing.assert_array_equal(rows, backtest(hourly_bars[:90]))


def test_a_complete_store_needs_no_exchange(market, hourly_bars):
    server, feed = market(100)
    history = {"live": False, "until": hourly_bars.open_times[50]}
    first = feed(**history).bars
    server.stop()
    assert feed(**history).bars.sha256 == first.sha256


# --- the whole way


def test_live_over_sockets_that_break_while_bars_close_is_the_backtest(hourly_bars, tmp_path):
    faults = Faults(3, socket_rate=0.1, kinds=("socket_dropped", "socket_silent", "socket_duplicate"))
    bundle = random_bundle(hourly_bars[:400])
    met = compare(hourly_bars, 300, faults, bundle=bundle, speed=FAST, folder=tmp_path)
    assert met.is_none, met
    assert met.bars == 360
    broken = met.faults["socket_dropped"] + met.faults["socket_silent"]
    assert broken >= 10
    # What a broken socket would have told of the bar that closed, nobody but REST did.
    assert met.requests["kline"] > broken
    assert met.requests["websocket"] >= broken
    # One that breaks before it spoke, or in the end, is no news.
    assert broken // 2 <= met.statuses["CONNBROKEN"] <= broken


def test_live_under_all_faults_together_is_the_backtest(hourly_bars, tmp_path):
    faults = Faults(5, rate=0.4, socket_rate=0.5)
    met = compare(hourly_bars, 60, faults, speed=FAST / 4, folder=tmp_path)
    assert met.is_none, met
    assert len([kind for kind in met.faults if not kind.startswith(("socket", "jitter"))]) >= 5
    assert met.faults["jitter"] > 60


def test_without_a_websocket_rest_gives_every_bar(market, hourly_bars):
    server, feed = market(faults=Faults(socket_rate=1.0, kinds=("socket_dropped",)))
    rows = values(record(feed(), clock=server.clock))
    np.testing.assert_array_equal(rows, backtest(hourly_bars[:80]))
    assert server.counts.faults["socket_dropped"] >= 1  # of each socket, before it could confirm any bar


def test_an_exchange_that_only_ccxt_knows_is_polled(replay, hourly_bars, store):
    # ccxt's European Bybit speaks the same language, and here it is an exchange like any other.
    opens = hourly_bars.open_times
    server = replay(hourly_bars, category="spot", clock=Clock(opens[40], speed=FAST))
    what = {"exchange": "bybiteu", "since": opens[0], "until": opens[80], "live": True}
    where = {"store": store, "endpoint": server.url}
    strategy = record(hissbt.ExchangeFeed("BTC/USDT", "1h", **what, **where, **HURRY), clock=server.clock)
    np.testing.assert_array_equal(values(strategy), backtest(hourly_bars[:80]))
    assert strategy.early == 0
    assert server.counts.requests["websocket"] == 0


@pytest.mark.parametrize(
    ("category", "name", "symbol"), [("spot", "BTCUSDT", "BTC/USDT"), ("inverse", "BTCUSD", "BTC/USD:BTC")]
)
def test_live_bars_of_other_categories_are_those_of_their_history(
    replay, hourly_bars, store, category, name, symbol
):
    opens = hourly_bars.open_times
    clock = Clock(opens[30], speed=0.0)
    server = replay(hourly_bars, category=category, symbol=name, clock=clock)
    where = {"store": store, "endpoint": server.url, "since": opens[0], "until": opens[60]}
    live = hissbt.BybitFeed(symbol, "1h", live=True, **where, **HURRY | PATIENT)
    seen = events(live, clock)
    assert seen[-1] == 60
    assert server.counts.requests["websocket"] == 1
    history = hissbt.BybitFeed(symbol, "1h", **where)
    lines = [live.lines.datetime, live.open, live.high, live.low, live.close, live.volume]
    expected = backtest(history.bars)
    rows = np.column_stack([line.array[:60] for line in lines])
    by_name = dict(zip(live.getlinealiases(), expected.T[1:], strict=False))
    columns = [by_name[name] for name in ("datetime", "open", "high", "low", "close", "volume")]
    np.testing.assert_array_equal(rows, np.column_stack(columns))


def test_two_live_feeds_run_side_by_side(replay, hourly_bars, store):
    clock = Clock(hourly_bars.open_times[20], speed=FAST)
    pair = [Series("linear", name, hourly_bars) for name in (SERIES, "ETHUSDT")]
    server = replay(*pair, clock=clock)
    span = {"since": hourly_bars.open_times[0], "until": hourly_bars.open_times[50]}
    cerebro = bt.Cerebro(stdstats=False)
    for symbol in (SYMBOL, "ETH/USDT:USDT"):
        where = {"store": store, "endpoint": server.url}
        cerebro.adddata(hissbt.BybitFeed(symbol, "1h", live=True, **span, **where, **HURRY))
    cerebro.addstrategy(bt.Strategy)
    strategy = cerebro.run()[0]
    assert [len(data) for data in strategy.datas] == [50, 50]


# --- states


class Events(bt.Strategy):
    """Keeps states and lengths of the feed in their order; while live, it lets an hour pass after each of them."""

    params = (("clock", None), ("on_status", None))

    def __init__(self):
        self.events, self.is_live = [], False

    def notify_data(self, data, status, *args, **kwargs):
        self.events.append(data._getstatusname(status))
        self.is_live = status == data.LIVE
        if self.p.on_status is not None:
            self.p.on_status(self, self.events[-1])
        self.let_time_pass()

    def next(self):
        self.events.append(len(self.data))
        self.let_time_pass()

    def let_time_pass(self):
        if self.is_live and self.p.clock is not None:
            now = pd.Timestamp(self.p.clock.now_ms(), unit="ms", tz="UTC")
            self.p.clock.advance_to(now.floor("h") + HOUR + GRACE)


def events(feed, clock=None, on_status=None):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(feed)
    cerebro.addstrategy(Events, clock=clock, on_status=on_status)
    return cerebro.run()[0].events


def test_history_is_delayed_and_what_comes_after_it_live(market):
    server, feed = market(speed=0.0)
    # The last bar of the history has closed just now, and its grace is not over.
    assert events(feed(**PATIENT), server.clock) == ["DELAYED", *range(1, 40), "LIVE", *range(40, 81)]


def test_without_since_the_first_bar_is_the_one_that_is_forming(market, hourly_bars):
    server, feed = market(speed=0.0)
    server.clock.advance_to(hourly_bars.open_times[40] + pd.Timedelta(minutes=5))
    live = feed(since=None, **PATIENT)
    assert events(live, server.clock) == ["DELAYED", "LIVE", *range(1, 41)]
    assert live.num2date(live.lines.datetime.array[0]).replace(tzinfo=UTC) == hourly_bars.frame.index[40]


def test_an_exchange_that_goes_away_and_comes_back_is_broken_delayed_live(market, hourly_bars):
    server, feed = market(speed=0.0)

    def leave_and_return(strategy, status):
        if status == "LIVE" and "CONNBROKEN" not in strategy.events:
            strategy.is_live = False
            server.stop()
        if status == "CONNBROKEN":
            server.clock.advance_to(hourly_bars.open_times[45] + GRACE)
            server.start()

    assert events(feed(**PATIENT), server.clock, leave_and_return) == [
        *("DELAYED", *range(1, 40), "LIVE"),
        *("CONNBROKEN", "DELAYED", *range(40, 46), "LIVE"),
        *range(46, 81),
    ]


def test_a_socket_that_falls_silent_is_broken_delayed_live(market):
    server, feed = market(speed=0.0)

    def silence(strategy, status):
        if status == "LIVE" and "CONNBROKEN" not in strategy.events:
            strategy.is_live = False
            server.silence_sockets()

    seen = events(feed(), server.clock, silence)
    assert [one for one in seen if isinstance(one, int)] == list(range(1, 81))
    assert seen[:44] == ["DELAYED", *range(1, 40), "LIVE", "CONNBROKEN", "DELAYED", "LIVE"]
    assert server.counts.requests["websocket"] >= 2


def test_a_bar_that_the_exchange_lacks_is_left_out_and_noted(market, hourly_bars, caplog):
    opens = hourly_bars.open_times
    _, feed = market(faults=Faults(kinds=(), holes=[(opens[50], opens[52])]))
    live = feed()
    rows = values(record(live))
    expected = np.delete(backtest(hourly_bars[:80]), [50, 51], axis=0)
    np.testing.assert_array_equal(rows, expected)
    assert [(hole.first_ms, hole.end_ms) for hole in live.holes] == [
        (opens[50].value // 10**6, opens[52].value // 10**6)
    ]
    assert "trade 1h has no bars from 2024-01-03 02:00:00+00:00 to 2024-01-03 04:00:00+00:00" in caplog.text


# --- errors


def test_history_with_a_hole_is_refused_unless_gaps_are_allowed(market, hourly_bars):
    opens = hourly_bars.open_times
    _, feed = market(faults=Faults(kinds=(), holes=[(opens[10], opens[12])]))
    with pytest.raises(FetchError, match=r"2 of bybit .* are missing"):
        record(feed())
    assert len(record(feed(allow_gaps=True)).rows) == 78


def test_an_exchange_that_stays_away_ends_the_run_when_patience_does(market):
    server, feed = market()

    def leave(strategy, status):
        if status == "LIVE":
            server.stop()

    with pytest.raises(FetchError, match="gave no good answer within 1 s"):
        events(feed(until=None, patience_s=1.0), on_status=leave)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"symbol": "BTC/USDX:USDX"}, ConfigError, "has no market 'BTC/USDX:USDX': did you mean"),
        ({"timeframe": "7m"}, ConfigError, "bybit has no bars of 7m: choose one of 1m, "),
        ({"exchange": "bybt"}, ConfigError, "ccxt knows no exchange 'bybt': did you mean bybit"),
        ({"since": "2024-01-01 00:30"}, ConfigError, "is no bar's open: write"),
    ],
)
def test_what_cannot_be_ends_the_run_with_what_to_do(market, changes, error, words):
    server, _ = market()
    known = {"symbol": SYMBOL, "timeframe": "1h", "exchange": "bybit", "endpoint": server.url, "live": True}
    with pytest.raises(error, match=words):
        record(hissbt.ExchangeFeed(**known | changes))


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"timeframe": "1M"}, ConfigError, "differ in length"),
        ({"timeframe": "soon"}, BarsError, "unknown timeframe 'soon'"),
        ({"qcheck": 0.0}, ConfigError, "would let Cerebro's loop spin"),
    ],
)
def test_what_cannot_be_at_all_is_refused_at_once(changes, error, words):
    with pytest.raises(error, match=words):
        hissbt.BybitFeed(**{"symbol": SYMBOL, "timeframe": "1h", "live": True} | changes)


def test_keys_in_the_environment_are_told_to_nobody(market, monkeypatch, caplog, tmp_path, capfd):
    canary = "canary-9f3a7c"
    for name in ("BYBIT_API_KEY", "BYBIT_API_SECRET", "BYBIT_SECRET", "BYBIT_APIKEY"):
        monkeypatch.setenv(name, canary)
    caplog.set_level(logging.DEBUG)
    server, feed = market()
    record(feed())
    with pytest.raises(ConfigError) as caught:
        record(hissbt.BybitFeed("BTC/USDX:USDX", "1h", live=True, endpoint=server.url))
    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    told = [caplog.text, *capfd.readouterr(), *map(repr, chain)]
    told += [path.read_bytes().decode("latin-1") for path in tmp_path.rglob("*") if path.is_file()]
    assert not [text for text in told if canary in text]


# --- Cerebro's loop


def counted(feed, after=lambda calls: None):
    """Have the answers of the feed's _load counted, and a function called with them."""
    answers, load = [], feed._load

    def counting():
        answers.append(load())
        after(answers)
        return answers[-1]

    feed._load = counting
    return answers


def test_the_loop_asks_about_once_a_bar_and_does_not_spin(market):
    _, feed = market()
    live = feed(qcheck=30.0)
    answers = counted(live)
    record(live)
    assert answers.count(True) == 80
    assert len(answers) < 3 * 80


def test_the_loop_is_not_held_up_while_nothing_comes(market):
    _, feed = market(speed=0.0)
    live = feed(until=None, qcheck=0.05)

    def stop_after_many(answers):
        if answers.count(None) == 20:
            live._env.runstop()

    answers = counted(live, stop_after_many)
    record(live)
    assert len(live) == 39  # the last bar has closed only now, and its grace is not over
    assert answers.count(None) == 20


def test_a_run_that_ends_in_an_error_disconnects(market):
    _, feed = market()

    class Fails(bt.Strategy):
        def next(self):
            raise ArithmeticError

    def fail():
        live, cerebro = feed(until=None), bt.Cerebro(stdstats=False)
        cerebro.adddata(live)
        cerebro.addstrategy(Fails)
        with pytest.raises(ArithmeticError):
            cerebro.run()
        return weakref.ref(live)

    live = fail()
    gc.collect()
    assert live() is None


def test_a_feed_can_be_run_again(market, hourly_bars):
    _, feed = market(60)
    live = feed(until=hourly_bars.open_times[50])
    first, second = values(record(live)), values(record(live))
    np.testing.assert_array_equal(first, backtest(hourly_bars[:50]))
    np.testing.assert_array_equal(first, second)


# --- resampling


def resampled(feed, timeframe, compression, *, alone):
    """Return the coarse bars that Cerebro makes of a feed, on their own or beside it."""

    class Coarse(bt.Strategy):
        def __init__(self):
            self.rows = []

        def next(self):
            coarse = self.datas[-1]
            if len(coarse) > len(self.rows):
                lines = (coarse.datetime, coarse.open, coarse.high, coarse.low, coarse.close, coarse.volume)
                self.rows.append([line[0] for line in lines])

    cerebro = bt.Cerebro(stdstats=False)
    if not alone:
        cerebro.adddata(feed)
    cerebro.resampledata(feed, timeframe=timeframe, compression=compression)
    cerebro.addstrategy(Coarse)
    return values(cerebro.run()[0])


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "beside"])
@pytest.mark.parametrize(
    ("timeframe", "compression"),
    [(bt.TimeFrame.Minutes, 240), (bt.TimeFrame.Days, 1)],
    ids=["4h", "1d"],
)
def test_resampling_in_a_live_run_gives_the_bars_of_a_backtest(market, hourly_bars, timeframe, compression, alone):
    opens = hourly_bars.open_times
    holes = [(opens[47], opens[49]), (opens[66], opens[71])]  # over the end of a day and of a block of 4 hours
    _, feed = market(faults=Faults(kinds=(), holes=holes), speed=FAST)
    span = {"until": opens[100], "allow_gaps": True}
    live = resampled(feed(**span), timeframe, compression, alone=alone)
    history = feed(live=False, **span).bars
    expected = resampled(BarsFeed(history), timeframe, compression, alone=alone)
    assert len(history) < 100
    assert len(expected) >= 4
    np.testing.assert_array_equal(live, expected)


def test_backtraders_time_is_the_close_of_the_last_bar_whatever_the_clocks_show(market):
    _, feed = market()
    live, clones, millisecond = feed(), [], timedelta(milliseconds=1)

    class Times(bt.Strategy):
        def next(self):
            close = self.data.datetime.datetime(0).replace(tzinfo=UTC)
            for data in (live, *clones):
                before = datetime.now(UTC)
                offset = data._timeoffset()
                assert close - datetime.now(UTC) - millisecond <= offset <= close - before + millisecond

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(live)
    clones.append(live.clone())
    cerebro.addstrategy(Times)
    assert len(cerebro.run()[0]) == 80
