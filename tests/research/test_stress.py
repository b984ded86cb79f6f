"""What becomes of an account in scenarios whose returns are known, and what is said of many."""

import json
import math
import random
from dataclasses import replace
from functools import partial

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from bundles import random_bundle
from hypothesis import given
from hypothesis import strategies as st

from hissbt.backtest import Setup
from hissbt.bars import Bars
from hissbt.candles import CANDLE, LOG_RETURN, VOLUME_SURPRISE
from hissbt.errors import BarsError, BundleError, ConfigError, StrategyError
from hissbt.market import Market
from hissbt.research.anchors import CRISES, parse_anchor
from hissbt.research.generators import Driftless, StationaryBootstrap
from hissbt.research.stress import Stage, run_scenarios, write_stress
from hissbt.research.stress import stress as stress_side_by_side
from hissbt.research.stress.outcomes import (
    LEVELS,
    Outcome,
    leaks,
    mean,
    percentile,
    probability,
    quantile_error,
    summary,
    table_of,
    tail_mean,
)
from hissbt.research.stress.verdicts import verdicts
from hissbt.strategies.buy_and_hold import BuyAndHold
from hissbt.strategies.hiss import HiSSStrategy

LENGTH = 24
stress = partial(stress_side_by_side, length=LENGTH)  # other processes take seconds to start

FREE = {"taker": 0, "maker": 0, "half_spread": 0, "impact": 0}
ALL_IN = {"fraction": 1.0}
START = 900
QUANTILES = {name: {"values": [0.0] * 5, "real": None} for name in ("total_return", "max_drawdown")}


@pytest.fixture(scope="module")
def bars(hourly_bars):
    return hourly_bars


@pytest.fixture(scope="module")
def since(bars):
    return bars.open_times[START]


class Known:
    """Scenarios with log returns that are known beforehand."""

    name = "known"

    def __init__(self, returns):
        self.returns = np.asarray(returns, dtype=float)  # [N,T]

    def generate(self, n, bars, seed, history):
        return rows_of(self.returns)[:n, :bars]


class Noisy(BuyAndHold):
    """Its size depends on both global random numbers."""

    def next(self):
        if not self.position:
            self.buy(size=0.1 * (1 + random.random() + np.random.random()))


class Leveraged(bt.Strategy):
    """Holds four times its equity."""

    def next(self):
        if not self.position:
            self.buy(size=4 * self.broker.getvalue() / self.data.close[0])


class Late(bt.Strategy):
    """Waits for an average of 30 bars, then notes when it may decide, and buys."""

    def __init__(self):
        self.average = bt.ind.SMA(period=30)
        self.decided = []

    def next(self):
        self.decided.append(bt.num2date(self.data.datetime[0]))
        if not self.position:
            self.buy(size=1)


class Fails(bt.Strategy):
    """Cannot stand a fall of a tenth in a bar."""

    def next(self):
        if self.data.close[0] < 0.9 * self.data.open[0]:
            raise ZeroDivisionError("gone")


class Prophet(bt.Strategy):
    """Looks one bar ahead, as no strategy may."""

    def next(self):
        closes, coming = self.data.lines.close.array, len(self)
        want = int(coming < len(closes) and closes[coming] > closes[coming - 1])
        if want != bool(self.position):
            self.order_target_size(target=want)


def rows_of(returns):
    """Return candle rows of log returns [N,T], opens at the close before, without wicks."""
    rows = np.zeros((*returns.shape, len(CANDLE)))
    rows[..., LOG_RETURN] = returns
    rows[..., VOLUME_SURPRISE] = 0
    return rows


def flat(n=3):
    return np.zeros((n, LENGTH))


def outcome(**fields) -> Outcome:
    plain = Outcome(0.0, 0.0, 0.0, 0.0, 1, "", False, np.ones(2))
    return replace(plain, **fields)


# --- one scenario


def test_an_account_that_is_all_in_ends_where_the_scenario_does(bars, since):
    returns = flat()
    returns[0, 5], returns[1, 5], returns[1, 8] = 0.1, -0.3, 0.2
    found = stress(bars, BuyAndHold, [Known(returns)], since=since, n=3, params=ALL_IN, costs=FREE)
    ended = found.outcomes["total_return"].to_numpy()
    np.testing.assert_allclose(ended, np.exp([0.1, -0.1, 0.0]) - 1, atol=1e-9)
    fell = found.outcomes["max_drawdown"].to_numpy()
    np.testing.assert_allclose(fell, [0.0, np.exp(-0.3) - 1, 0.0], atol=1e-9)
    # Of 24 bars the worst one in twenty is one.
    np.testing.assert_allclose(found.outcomes["cvar"], [0.0, np.exp(-0.3) - 1, 0.0], atol=1e-9)
    assert found.outcomes["trades"].tolist() == [1, 1, 1]
    assert found.outcomes["guards"].tolist() == ["", "", ""]


def test_what_is_paid_is_between_the_return_before_and_after_costs(bars, since):
    found = stress(bars, BuyAndHold, [Known(flat())], since=since, n=3, costs=FREE | {"taker": 0.01})
    table = found.outcomes
    np.testing.assert_allclose(table["gross_return"], 0.0, atol=1e-9)
    np.testing.assert_allclose(table["total_return"], -0.0098, atol=1e-6)


def test_a_strategy_decides_first_at_the_last_real_close(bars):
    setup = Setup.of(bars, Late, costs=FREE)
    stage = Stage.of(setup, bars[:START], LENGTH)
    assert stage.warmup == 30
    finished = stage.run(stage.bars_of(rows_of(flat())[0]), 0)
    last = bars.frame.index[START - 1]
    assert finished.decided[0] == last.tz_localize(None)
    assert len(finished) == 30 + LENGTH
    ledger = finished.analyzers.ledger
    assert ledger.frame["close_time"].tolist() == stage.closes.tolist()
    assert ledger.fills["fill_time"].tolist() == [stage.closes[0]]


def test_a_model_is_warm_when_the_scenario_begins(bars):
    bundle = random_bundle(bars[:100], warmup=40)
    setup = Setup.of(bars, HiSSStrategy, params={"model": bundle})
    stage = Stage.of(setup, bars[:START], LENGTH)
    assert stage.warmup == 40
    ledger = stage.run(stage.bars_of(rows_of(flat())[0]), 0).analyzers.ledger.frame
    assert ledger["prob_up"].notna().all()


def test_a_model_that_reads_what_no_scenario_has_is_refused(bars):
    rich = Bars(bars.frame.assign(rate=0.1), bars.market, bars.timeframe)
    model = random_bundle(rich, features=("log_return", "column:rate"), kind="lstm")
    with pytest.raises(BundleError, match="reads the column 'rate', which no scenario has"):
        Stage.of(Setup.of(rich, HiSSStrategy, model=model), rich[:START], LENGTH)


def test_a_leveraged_fall_is_a_liquidation_and_a_fired_guard(bars, since):
    returns = flat(2)
    returns[1, 3:8] = -0.08
    found = stress(
        bars,
        Leveraged,
        [Known(returns)],
        since=since,
        n=2,
        costs=FREE | {"leverage": 5, "maintenance": 0.005},
    )
    assert found.outcomes["liquidated"].tolist() == [False, True]
    assert found.results["generators"]["known"]["probabilities"]["liquidated"]["value"] == 0.5


def test_a_guard_in_force_is_told_by_name(bars):
    bundle = random_bundle(bars[:100])
    params = {"model": bundle, "prob_long": 0.0, "prob_short": 0.0, "threshold": 0.0, "sizing": "fixed"}
    params |= {"max_fraction": 1.0, "max_drawdown": 0.02, "stop_volatility": 100, "target_volatility": 100}
    setup = Setup.of(bars, HiSSStrategy, params=params, costs=FREE)
    stage = Stage.of(setup, bars[:START], LENGTH)
    returns = flat(2)
    returns[:, 4:] = [[-0.02], [0.02]]
    for found in run_scenarios(stage, {"known": rows_of(returns)})["known"]:
        assert ("drawdown" in found.guards) == (found.max_drawdown <= -0.02)


def test_the_real_path_takes_the_same_road(bars, since):
    found = stress(bars, BuyAndHold, [Known(flat())], since=since, n=3, costs=FREE)
    closes, opened = bars.frame["close"].to_numpy(), bars.frame["open"].to_numpy()[START]
    before, last = closes[START - 1], closes[START + LENGTH - 1]
    assert found.results["real"]["total_return"] == pytest.approx(0.98 * (last - opened) / before)
    assert found.results["fans"]["real"]["price"][-1] == pytest.approx(last / before)


# --- many scenarios


def test_figures_of_many_are_those_of_their_table():
    returns = np.arange(-50, 51) / 500
    found = [outcome(total_return=r, gross_return=r + 0.01, max_drawdown=min(r, 0.0), cvar=-0.01) for r in returns]
    said = summary(table_of({"made": found}), outcome(total_return=25 / 500))
    assert said["n"] == 101
    assert said["quantiles"]["total_return"]["values"] == pytest.approx([-0.09, -0.05, 0.0, 0.05, 0.09])
    assert said["quantiles"]["total_return"]["percentile"] == pytest.approx(75.5 / 101)
    chances = said["probabilities"]
    assert chances["drawdown_over_5"]["value"] == pytest.approx(25 / 101, abs=0.011)
    assert chances["drawdown_over_20"]["value"] == 0
    assert chances["guard_in_force"]["value"] == 0
    assert said["means"]["gross_return"]["value"] == pytest.approx(0.01)
    assert said["means"]["total_return"]["error"] == pytest.approx(returns.std(ddof=1) / math.sqrt(101))


def test_the_error_of_a_quantile_is_that_of_repeated_sampling():
    rng = np.random.default_rng(1)
    samples = rng.normal(size=(400, 500))
    for level in LEVELS:
        seen = np.quantile(samples, level, axis=1).std()
        said = np.mean([quantile_error(sample, level) for sample in samples])
        assert said == pytest.approx(seen, rel=0.15)


def test_a_twentieth_of_500_is_known_to_one_percent():
    assert probability(np.arange(500) < 25) == {"value": 0.05, "error": pytest.approx(0.0100, abs=2e-4)}


@given(st.integers(1, 300))
def test_what_never_happened_is_not_certain(n):
    found = probability(np.zeros(n, dtype=bool))
    assert found["value"] == 0
    assert 0 < found["error"] < 0.5


@given(st.lists(st.integers(-5, 5), min_size=1), st.integers(-5, 5))
def test_a_percentile_counts_equals_half(values, real):
    values = np.array(values, dtype=float)
    share = percentile(values, float(real))["percentile"]
    assert share == pytest.approx(1 - percentile(-values, -float(real))["percentile"])


@given(st.lists(st.floats(-0.5, 0.5), min_size=1, max_size=200))
def test_the_tail_is_the_mean_of_the_worst_twentieth(returns):
    worst = sorted(returns)[: max(1, round(0.05 * len(returns)))]
    assert tail_mean(np.array(returns)) == pytest.approx(np.mean(worst))


def test_one_scenario_has_no_error():
    assert math.isnan(quantile_error(np.array([0.1]), 0.5))
    assert math.isnan(mean(np.array([0.1]))["error"])
    assert not leaks(mean(np.array([0.1])))


# --- without drift


def test_holding_earns_nothing_without_drift(bars, since):
    found = stress(bars, BuyAndHold, [Driftless()], since=since, n=60).results
    assert found["leak"] is False
    assert "earns nothing beyond chance" in found["verdicts"][-1]


def test_who_looks_ahead_is_caught(bars, since):
    found = stress(bars, Prophet, [Driftless()], since=since, n=40).results
    assert found["leak"] is True
    assert found["verdicts"][-1].startswith("LEAK")


def test_a_loss_without_drift_is_not_chance_either():
    found = {"means": {"gross_return": {"value": -0.006, "error": 0.0003}}, "quantiles": QUANTILES}
    said = verdicts({"generators": {"null": found}, "leak": False})
    assert "−0.60% ± 0.03% before costs on average, less than chance allows" in said[-1]


def test_without_the_null_nothing_is_said_of_leaks(bars, since):
    found = stress(bars, BuyAndHold, [Known(flat())], since=since, n=1).results
    assert found["leak"] is None


# --- the same again


def test_two_workers_change_no_bit(bars, since, tmp_path):
    def run(workers):
        generators = [StationaryBootstrap(), Driftless()]
        return stress(bars, Noisy, generators, since=since, n=12, seed=3, workers=workers)

    one, two = run(1), run(2)
    pd.testing.assert_frame_equal(one.outcomes, two.outcomes, check_exact=True)
    assert one.results["fans"] == two.results["fans"]
    assert one.outcomes["total_return"].nunique() == 24


def test_a_scenario_is_the_same_whatever_comes_before_it(bars, since):
    few = stress(bars, Noisy, [StationaryBootstrap()], since=since, n=3)
    more = stress(bars, Noisy, [StationaryBootstrap()], since=since, n=12)
    pd.testing.assert_frame_equal(few.outcomes, more.outcomes.iloc[:3], check_exact=True)


def test_bars_after_the_beginning_change_no_scenario(bars, since):
    frame = bars.frame.copy()
    frame.iloc[START:, :4] *= 1.5
    altered = type(bars)(frame, bars.market, bars.timeframe)
    runs = [stress(each, BuyAndHold, [StationaryBootstrap()], since=since, n=4) for each in (bars, altered)]
    pd.testing.assert_frame_equal(runs[0].outcomes, runs[1].outcomes, check_exact=True)


def test_progress_ends_at_the_number_of_scenarios(bars, since):
    seen = []
    generators = [Known(flat(12)), Driftless()]
    stress(
        bars,
        BuyAndHold,
        generators,
        since=since,
        n=12,
        workers=1,
        progress=lambda *a: seen.append(a),
    )
    assert seen[0] == ("known generates", 0, 24)
    assert seen[-1] == ("null", 24, 24)


# --- what is refused


def test_a_failing_strategy_is_named_with_its_scenario(bars, since):
    returns = flat(14)
    returns[12, 5] = -0.2
    with pytest.raises(StrategyError, match="Fails failed in scenario 12 of known with ZeroDivisionError: gone"):
        stress(bars, Fails, [Known(returns)], since=since, n=14, workers=2)


def test_a_scenario_that_no_market_prints_is_named(bars, since):
    returns = flat()
    returns[2, 5] = 1e6
    with pytest.raises(BarsError, match="scenario 2 of known: candle row 5"):
        stress(bars, BuyAndHold, [Known(returns)], since=since, n=3)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"n": 0}, ConfigError, "n is 0"),
        ({"length": 0}, ConfigError, "length is 0"),
        ({"generators": []}, ConfigError, "generators are none"),
        ({"generators": [Driftless(), Driftless()]}, ConfigError, "null, null: name each one once"),
        ({"since": "2030-01-01"}, BarsError, "cannot begin at 2030-01-01"),
        ({"since": "2024-01-01"}, BarsError, "cannot begin at 2024-01-01"),
        ({"since": "2024-01-01 10:00", "strategy": Late}, BarsError, "needs 30 and there are 10"),
        ({"generators": [Known(flat(2))]}, ConfigError, "gave an array of shape"),
        ({"params": {"fractoin": 1}}, StrategyError, "no parameter 'fractoin'"),
    ],
    ids=["n", "length", "no generator", "twice", "after", "before", "cold", "too few", "param"],
)
def test_what_makes_no_sense_is_refused(bars, since, change, error, message):
    usual = {"strategy": BuyAndHold, "generators": [Known(flat())], "since": since, "n": 3}
    given = usual | change
    with pytest.raises(error, match=message):
        stress(bars, given.pop("strategy"), given.pop("generators"), **given)


# --- the page


def test_the_folder_holds_page_results_and_a_row_a_scenario(bars, since, tmp_path):
    found = stress(bars, BuyAndHold, [Known(flat()), Driftless()], since=since, n=3)
    folder = write_stress(found, tmp_path, "hold")
    assert folder.name.endswith("-scenarios-hold-SP500")
    assert {file.name for file in folder.iterdir()} == {"report.html", "results.json", "scenarios.parquet"}
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "scenarios.parquet"), found.outcomes)
    results = json.loads((folder / "results.json").read_text())
    assert results["provenance"]["source"]["sha256"] == bars.sha256
    page = (folder / "report.html").read_text()
    for text in (*results["verdicts"], "Drawdown above 20 %", "Real path"):
        assert text in page


def test_without_a_real_path_the_page_says_so(bars, tmp_path):
    found = stress(bars, BuyAndHold, [Known(flat())], since=bars.frame.index[-1], n=3)
    assert found.results["real"] is None
    assert "there is no real path" in (write_stress(found, tmp_path) / "report.html").read_text()


def test_a_market_with_a_calendar_goes_on_by_it(bars, since):
    days = bars.frame.set_axis(pd.bdate_range("2010-01-04", periods=len(bars), tz="UTC") + pd.Timedelta(days=1))
    sessions = pd.DatetimeIndex(days.index)
    market = Market("SPX", calendar="XNYS")
    known = market.expected_closes(sessions[0], sessions[-1], pd.Timedelta(days=1))
    daily = type(bars)(days[days.index.isin(known)], market, "1d")
    stage = Stage.of(Setup.of(daily, BuyAndHold), daily[:START], 10)
    assert not set(stage.closes.day_of_week) & {0, 6}  # closes of a Monday's bar are stamped on Tuesday
    assert len(stage.closes) == 10


# --- anchors


@pytest.mark.parametrize(
    ("text", "moment"),
    [("2022-06", "2022-06-01"), ("2022-06-10", "2022-06-10"), ("FTX", CRISES["ftx"]), ("luna", "2022-05-07")],
)
def test_an_anchor_is_a_moment(text, moment):
    assert parse_anchor(text).moment == pd.Timestamp(moment, tz="UTC")


def test_an_anchor_is_a_kind_of_market():
    assert parse_anchor("bear").regime == "bear"
    assert parse_anchor("cluster:2").cluster == 2


@pytest.mark.parametrize("text", ["", "may", "now", "crash", "cluster:", "cluster:-1", "22-06"])
def test_an_unknown_anchor_is_refused(text):
    with pytest.raises(ConfigError, match="unknown anchor"):
        parse_anchor(text)
