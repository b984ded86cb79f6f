"""The one function behind every backtest."""

import json
import sqlite3
from contextlib import closing
from dataclasses import replace

import backtrader as bt
import numpy as np
import pandas as pd
import pytest
from bundles import random_bundle

from hissbt.backtest import Setup, run_backtest
from hissbt.bars import Bars
from hissbt.errors import BarsError, ConfigError, StrategyError
from hissbt.evidence.sharpe import Moments, dsr
from hissbt.feeds import load_bars
from hissbt.plugins import load_strategy
from hissbt.reports.page.text import chance
from hissbt.reports.returns import daily_returns
from hissbt.strategies.buy_and_hold import BuyAndHold
from hissbt.strategies.hiss import HiSSStrategy
from hissbt.trading.guards import DrawdownGuard
from hissbt.trials import FILE as TRIALS
from hissbt.trials import Trials

FREE = {"taker": 0, "maker": 0, "half_spread": 0, "impact": 0}
EAGER = {"prob_long": 0.5, "prob_short": 0.5}
WARMUP = 20


@pytest.fixture(scope="module")
def bars(hourly_bars):
    return hourly_bars[:190]


@pytest.fixture(scope="module")
def bundle(bars):
    return random_bundle(bars[:100], warmup=WARMUP)


@pytest.fixture(scope="module")
def run(bars, bundle, tmp_path_factory):
    """A run with trades over less than five days, so without QuantStats' slow charts."""
    out = tmp_path_factory.mktemp("runs")
    return run_backtest(bars, HiSSStrategy, model=bundle, params=EAGER, since=bars.open_times[110], out=out)


class Watcher(bt.Strategy):
    """Notes the closes at which it decides; buys one unit at the first."""

    params = (("model", None),)

    def __init__(self):
        from hissbt.indicators import Forecast

        self.decided = []
        if self.p.model is not None:
            self.forecast = Forecast(self.data, model=self.p.model)

    def next(self):
        self.decided.append(self.data.datetime.datetime(0))
        if len(self.decided) == 1:
            self.buy(size=1)


def test_the_first_decision_falls_on_the_close_at_since(bars, bundle, tmp_path):
    since = pd.Timestamp("2024-01-03 12:00", tz="UTC")
    run = run_backtest(bars, Watcher, model=bundle, since=since, until="2024-01-04", costs=FREE, out=tmp_path)
    assert run.strategy.decided[0] == since.tz_localize(None)
    assert len(run.strategy) == WARMUP + 12
    assert run.ledger["close_time"].tolist() == pd.date_range(since, freq="h", periods=13)[1:].tolist()
    assert run.trades["entry_time"].iloc[0] == since + bars.timeframe
    assert run.trades["entry_price"].iloc[0] == bars.frame["open"][since + bars.timeframe]
    assert run.ledger["expected_return"].notna().all()
    assert run.ledger.attrs["start_price"] == bars.frame["close"][since]


def test_without_since_it_starts_as_early_as_the_model_allows(bars, bundle, tmp_path):
    run = run_backtest(bars[:50], Watcher, model=bundle, out=tmp_path)
    assert run.ledger["close_time"].iloc[0] == bars.frame.index[WARMUP]
    assert len(run_backtest(bars[:50], Watcher, out=tmp_path).ledger) == 50


def test_without_since_a_model_is_traded_after_its_training_span(bars, bundle, tmp_path):
    run = run_backtest(bars, Watcher, model=bundle, out=tmp_path)
    assert run.ledger["close_time"].iloc[0] == bars.frame.index[100]
    assert not run.metrics["in_sample"]


def test_the_forecasts_do_not_depend_on_bars_outside_the_run(bars, bundle, run, tmp_path):
    shorter = run_backtest(
        bars[60:150], HiSSStrategy, model=bundle, params=EAGER, since=bars.open_times[110], out=tmp_path
    )
    pd.testing.assert_frame_equal(shorter.ledger, run.ledger.iloc[: len(shorter.ledger)], check_exact=True)


def test_the_same_inputs_give_the_same_bytes(bars, bundle, run, tmp_path):
    bundle.save(tmp_path / "bundle")
    again = run_backtest(
        bars,
        HiSSStrategy,
        model=str(tmp_path / "bundle"),
        params=EAGER,
        since=bars.open_times[110],
        out=run.folder.parent,
    )
    assert again.folder != run.folder
    assert len(run.trades) > 3
    for name in ("ledger.parquet", "trades.csv", "fills.csv", "orders.csv", "metrics.json", "report.html"):
        assert (again.folder / name).read_bytes() == (run.folder / name).read_bytes()


def test_the_account_adds_up(run):
    assert run.ledger["value"].iloc[-1] == pytest.approx(100_000 + run.trades["pnl_net"].sum(), rel=1e-9)
    assert run.trades["fees"].sum() > 0


def test_the_folder_tells_what_was_run(bars, bundle, run):
    record = json.loads((run.folder / "run.json").read_text())
    assert record["loop"]["path"] == "fast"
    assert record["source"]["sha256"] == bars.sha256
    assert record["source"]["first_open"] == "2024-01-01T00:00:00+00:00"
    assert record["bundle"]["sha256"] == bundle.sha256
    assert record["params"]["prob_long"] == 0.5
    assert record["costs"]["taker"] == bars.market.taker
    assert record["span"]["bars"] == len(run.ledger)
    assert record["versions"]["hissbt"]
    assert run.folder.name.endswith("-HiSSStrategy-SP500")


def test_the_metrics_judge_trading_and_forecast_beside_their_baselines(run):
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert metrics["in_sample"] is False
    assert metrics["trading"]["trades"] == len(run.trades)
    assert metrics["buy_and_hold"]["trades"] == 1
    assert metrics["forecast"]["n"] == len(run.ledger) - 1
    assert {"accuracy", "f1", "mse", "mae", "majority_class"} <= metrics["forecast"].keys()


def test_a_run_on_training_bars_is_marked(bars, bundle, tmp_path):
    run = run_backtest(
        bars, HiSSStrategy, model=bundle, since=bars.open_times[99], until="2024-01-06", out=tmp_path
    )
    assert run.metrics["in_sample"] is True
    assert "IN SAMPLE" in (run.folder / "tearsheet.html").read_text()
    later = run_backtest(
        bars, HiSSStrategy, model=bundle, since=bars.open_times[100], until="2024-01-06", out=tmp_path
    )
    assert later.metrics["in_sample"] is False


def test_costs_and_steps_come_from_the_market(bars, bundle, tmp_path):
    market = replace(bars.market, taker=0.01, maker=0.01, quantity_step=5.0)
    stepped = type(bars)(bars.frame, market, bars.timeframe)
    run = run_backtest(stepped[:80], HiSSStrategy, model=bundle, params=EAGER, out=tmp_path, cash=1e6)
    assert len(run.trades)
    assert (run.trades["size"] % 5 == 0).all()
    notional = run.trades["size"] * (run.trades["entry_price"] + run.trades["exit_price"])
    closed = run.trades["exit_time"].notna()
    assert run.trades["fees"][closed].to_numpy() == pytest.approx((0.01 * notional)[closed].to_numpy())
    free = run_backtest(bars[:80], Watcher, costs=FREE, out=tmp_path)
    assert free.metrics["trading"]["fees"] == 0


def test_the_account_of_an_inverse_contract_counts_in_its_coin(bars, bundle, tmp_path):
    inverse = Bars(bars.frame, replace(bars.market, contract="inverse"), bars.timeframe)
    run = run_backtest(inverse, HiSSStrategy, model=bundle, params=EAGER, cash=10.0, costs=FREE, out=tmp_path)
    first = run.trades.iloc[0]
    side = 1 if first["side"] == "long" else -1
    earned = side * first["size"] * (1 / first["entry_price"] - 1 / first["exit_price"])
    assert first["pnl_gross"] == pytest.approx(earned, rel=1e-9)
    assert first["size"] / first["entry_price"] == pytest.approx(0.2 * 10, rel=0.05)  # a fifth of the coins
    assert run.metrics["buy_and_hold"]["total_return"] == 0


def test_gaps_are_answered_as_set_and_told_of_on_the_page_and_in_the_files(bars, bundle, tmp_path):
    holed = Bars(bars.frame.drop(bars.frame.index[[110, 111, 112, 113, 150]]), bars.market, bars.timeframe)
    settings = {"model": bundle, "since": bars.open_times[100], "out": tmp_path}
    params = {**EAGER, "stop_volatility": 20, "target_volatility": 20, "on_gap": "flatten", "gap": "4h"}
    run = run_backtest(holed, HiSSStrategy, params=params, **settings)
    saved = pd.read_parquet(run.folder / "ledger.parquet")
    assert saved.loc[saved["gap"] > 0, "gap"].to_dict() == {10: 4, 46: 1}
    assert saved.index[saved["prob_up"].isna()].tolist() == [*range(10, 10 + WARMUP - 1)]
    assert "gap" in pd.read_csv(run.folder / "trades.csv")["exit_reason"].tolist()
    assert "Gaps: 2 (5 bars missing)" in (run.folder / "tearsheet.html").read_text(encoding="utf-8")
    params = json.loads((run.folder / "run.json").read_text())["params"]
    assert (params["on_gap"], params["gap"]) == ("flatten", "4h")


def test_a_strategy_that_draws_random_numbers_is_repeatable(bars, tmp_path):
    class Random(bt.Strategy):
        def next(self):
            self.buy(size=np.random.random())

    first, second, other = (run_backtest(bars[:20], Random, seed=seed, out=tmp_path) for seed in (1, 1, 2))
    pd.testing.assert_frame_equal(first.ledger, second.ledger)
    assert not first.ledger.equals(other.ledger)


def test_too_few_bars_name_the_number_needed(bars, bundle, tmp_path):
    with pytest.raises(BarsError, match=r"needs 20 .* there are 15"):
        run_backtest(bars[:15], HiSSStrategy, model=bundle, out=tmp_path)
    with pytest.raises(BarsError, match="needs 20 and there are 5, so begin at 2024-01-01 20:00"):
        run_backtest(bars, HiSSStrategy, model=bundle, since="2024-01-01 05:00", out=tmp_path)
    with pytest.raises(BarsError, match="no bars between"):
        run_backtest(bars, HiSSStrategy, model=bundle, since="2030-01-01", out=tmp_path)


@pytest.mark.parametrize(
    ("strategy", "arguments", "error", "message"),
    [
        (
            HiSSStrategy,
            {"params": {"treshold": 1}},
            StrategyError,
            "no parameter 'treshold': it has model, prob_long",
        ),
        (BuyAndHold, {"model": ...}, StrategyError, "BuyAndHold uses no model"),
        (HiSSStrategy, {}, StrategyError, "has no model"),
        (BuyAndHold, {"cash": 0}, ConfigError, "cash is 0"),
        (BuyAndHold, {"costs": {"taker": 5.5}}, ConfigError, "cost 'taker' cannot be 5.5"),
    ],
)
def test_bad_settings_are_refused_and_leave_no_run_behind(
    bars, bundle, tmp_path, strategy, arguments, error, message
):
    if "model" in arguments:
        arguments = arguments | {"model": bundle}
    with pytest.raises(error, match=message):
        run_backtest(bars, strategy, out=tmp_path / "runs", **arguments)
    assert {path.name for path in (tmp_path / "runs").glob("*")} <= {TRIALS}


def test_a_model_of_another_timeframe_is_refused(bars, bundle, tmp_path):
    with pytest.raises(BarsError, match="trained on bars of 1h, these are of 4h"):
        run_backtest(bars.resample("4h"), HiSSStrategy, model=bundle, out=tmp_path)


# --- trials


def tried(folder) -> dict:
    """Return what the ledger in a folder has on the hourly bars."""
    return Trials(folder).tried("SP500", "1h")


def test_a_run_is_entered_with_what_became_of_it(bars, bundle, run):
    ledger = Trials(run.folder.parent)
    named = json.loads((run.folder / "run.json").read_text())["trial"]
    with closing(sqlite3.connect(ledger.path)) as rows:
        begun, sha256 = rows.execute(
            "SELECT record, sha256 FROM trials WHERE number = ?", [named["number"]]
        ).fetchone()
        (ended,) = rows.execute("SELECT record FROM trials WHERE begun = ?", [named["number"]]).fetchone()
    begun, ended = json.loads(begun), json.loads(ended)
    assert sha256 == named["sha256"]
    assert begun["kind"] == "backtest"
    assert begun["source"]["sha256"] == bars.sha256
    assert begun["bundles"] == [bundle.sha256]
    assert begun["config"]["params"]["prob_long"] == 0.5
    assert ended["status"] == "done"
    assert ended["folder"] == run.folder.name
    assert ended["observations"] == run.metrics["trading"]["days"]
    assert ended["sharpe"] * np.sqrt(bars.market.periods_per_year) == pytest.approx(
        run.metrics["trading"]["sharpe"]
    )


def test_a_run_again_is_no_other_trial_and_any_other_seed_param_span_guard_or_cost_is(bars, tmp_path):
    one = {"strategy": BuyAndHold, "out": tmp_path}
    run_backtest(bars[:30], **one)
    run_backtest(bars[:30], **one)
    assert len(tried(tmp_path)) == 1
    others = {"seed": 1}, {"since": bars.open_times[5]}, {"costs": FREE}, {"guards": [DrawdownGuard(0.5)]}
    for count, other in enumerate((*others, {"guards": [DrawdownGuard(0.4)]}, {"cash": 5e4}), start=2):
        run_backtest(bars[:30], **one, **other)
        assert len(tried(tmp_path)) == count


def test_other_code_is_another_trial(bars, tmp_path):
    file = tmp_path / "mine.py"
    for code in "buy", "sell", "buy":
        file.write_text(
            f"import backtrader as bt\n\n\nclass Mine(bt.Strategy):\n    def next(self):\n        self.{code}()\n"
        )
        run_backtest(bars[:30], load_strategy(f"{file}:Mine"), out=tmp_path / "runs")
    assert len(tried(tmp_path / "runs")) == 2


def test_a_strategy_that_fails_is_counted(bars, tmp_path):
    class Broken(bt.Strategy):
        def next(self):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_backtest(bars[:30], Broken, out=tmp_path)
    assert list(tried(tmp_path).values()) == [None]
    assert run_backtest(bars[:30], BuyAndHold, out=tmp_path).metrics["significance"]["trials"] == 2


def test_what_only_runs_and_writes_nothing_is_no_trial(bars, tmp_path, monkeypatch):
    monkeypatch.setenv("HISSBT_RUNS", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Setup.of(bars, BuyAndHold).run(bars[:30], bars.open_times[0], seed=0)
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_few_days_has_no_verdict(run):
    weighed = run.metrics["significance"]
    assert weighed["verdict"] == "too short"
    assert weighed["sentence"].startswith("No verdict: 4 days are too few")
    assert np.isnan([weighed["psr"], weighed["dsr"], weighed["needed_days"]]).all()
    assert weighed["sentence"] in (run.folder / "report.html").read_text(encoding="utf-8")


def test_a_ledger_with_a_row_less_is_named_on_the_page(bars, tmp_path):
    first = run_backtest(bars[:30], BuyAndHold, out=tmp_path)
    assert first.metrics["significance"]["ledger_faults"] == []
    with closing(sqlite3.connect(Trials(tmp_path).path)) as ledger, ledger:
        ledger.execute("DROP TRIGGER never_deleted")
        ledger.execute("DELETE FROM trials WHERE number = 2")
    second = run_backtest(bars[:30], BuyAndHold, out=tmp_path)
    page = (second.folder / "report.html").read_text(encoding="utf-8")
    assert "TRIALS MAY BE MISSING" in page
    assert "Row 2 of the trial ledger was deleted." in page
    assert "TRIALS MAY BE MISSING" not in (first.folder / "report.html").read_text(encoding="utf-8")


def test_without_a_ledger_that_can_be_written_there_is_a_run_that_says_so(bars, tmp_path):
    (tmp_path / TRIALS).write_text("no ledger")
    with pytest.warns(RuntimeWarning, match="cannot be written"):
        run = run_backtest(bars[:30], BuyAndHold, out=tmp_path)
    assert json.loads((run.folder / "run.json").read_text())["trial"] is None
    assert run.metrics["significance"]["trials"] == 1
    assert run.metrics["significance"]["ledger_faults"][0] == "This run could not be entered in the trial ledger."


def test_twenty_more_trials_make_the_deflated_sharpe_on_the_page_fall(tmp_path):
    bars = load_bars("sp500")[2800:3300]  # a year and more of gains after March 2009
    alone = run_backtest(bars, BuyAndHold, out=tmp_path)
    assert alone.metrics["significance"]["trials"] == alone.metrics["significance"]["trials_with_sharpe"] == 1
    assert alone.metrics["significance"]["dsr"] == alone.metrics["significance"]["psr"]
    luck = np.random.default_rng(0).normal(0, 1 / np.sqrt(500), 20)
    for seed, sharpe in enumerate(luck):
        with Trials(tmp_path).trial("backtest", {"seed": seed}, symbol="SP500", timeframe="1d") as trial:
            trial.result |= {"sharpe": sharpe, "observations": 500}
    among = run_backtest(bars, BuyAndHold, out=tmp_path)
    weighed = among.metrics["significance"]
    assert (weighed["trials"], weighed["trials_with_sharpe"]) == (21, 21)
    assert weighed["psr"] == alone.metrics["significance"]["psr"]
    assert weighed["dsr"] < alone.metrics["significance"]["dsr"] - 0.2
    own = alone.metrics["significance"]["sharpe"] / np.sqrt(252)
    expected = dsr(Moments.of(daily_returns(among.ledger).to_numpy()), [*luck, own])
    assert weighed["luck"] == pytest.approx(expected.sr0 * np.sqrt(252))
    pages = [(run.folder / "report.html").read_text(encoding="utf-8") for run in (alone, among)]
    for page, run in zip(pages, (alone, among), strict=True):
        figures = run.metrics["significance"]
        assert f"<dt>Deflated SR</dt><dd>{chance(figures['dsr'])}</dd>" in page
        assert figures["sentence"] in page
    assert "the best of 21 trials" in pages[1]
    assert "the best of 21 trials" not in pages[0]
