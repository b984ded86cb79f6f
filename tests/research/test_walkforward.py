"""A walk-forward is one backtest in which no bar is traded by a model that has seen it."""

import json

import numpy as np
import pandas as pd
import pytest
from indicator_contract import altered_future

from hissbt.backtest import Run, Setup
from hissbt.bars import Bars
from hissbt.errors import BarsError, ConfigError, StrategyError
from hissbt.relay import RelayBundle, load_model
from hissbt.research.walkforward import MODELS, bars_in, walk_forward
from hissbt.strategies.buy_and_hold import BuyAndHold
from hissbt.strategies.hiss import HiSSStrategy
from hissbt.stream import Stream
from hissbt.training import train
from hissbt.trials import Trials

HORIZON, EMBARGO, EVERY, FIRST = 3, 5, 100, 400
SMALL = {
    "features": ["log_return", "range"],
    "network": {"d_model": 4, "d_state": 4},
    "horizon": HORIZON,
    "window": 32,
    "burn_in": 8,
    "batch_size": 4,
    "epoch_steps": 2,
    "max_epochs": 1,
}
EAGER = {"prob_long": 0.5, "prob_short": 0.5, "sizing": "fixed"}


def walk(bars: Bars, out, **changed) -> Run:
    given = {"since": bars.open_times[FIRST], "retrain_every": EVERY, "embargo": EMBARGO, "settings": SMALL}
    return walk_forward(bars, HiSSStrategy, **given | {"params": EAGER, "out": out, "workers": 1} | changed)


@pytest.fixture(autouse=True, scope="module")
def no_tearsheet():
    """Leave out the tearsheet, which is tested elsewhere: it takes ten times as long as all the rest."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hissbt.backtest.tearsheet", lambda _run, path, **_: path.touch())
        yield


@pytest.fixture(scope="module")
def bars(hourly_bars) -> Bars:
    return hourly_bars[:730]  # the last turn is shorter than the others


@pytest.fixture(scope="module")
def run(bars, tmp_path_factory) -> Run:
    return walk(bars, tmp_path_factory.mktemp("walk"))


@pytest.fixture(scope="module")
def relay(run) -> RelayBundle:
    return load_model(run.folder / "relay")


def test_no_bar_comes_from_a_model_whose_training_span_overlap_and_embargo_reach_it(bars, run):
    """Bar by bar, from what is in the run folder and the bars alone."""
    folder = run.folder / "relay"
    content = json.loads((folder / "relay.json").read_text())
    parts = [
        (pd.Timestamp(row["since"]), json.loads((folder / row["folder"] / "bundle.json").read_text()))
        for row in content["parts"]
    ]
    ledger = pd.read_parquet(run.folder / "ledger.parquet")
    assert ledger["close_time"].tolist() == bars.frame.index[FIRST:].tolist()
    models = set()
    for close in ledger["close_time"]:
        at = bars.frame.index.get_loc(close)
        decided = bars.frame.index[at - 1]  # the bar was traded by what was known then
        bundle = [bundle for since, bundle in parts if since <= decided][-1]
        end = bars.frame.index.get_loc(pd.Timestamp(bundle["training_span"]["end"]))
        assert end + EMBARGO < at, "the training span and the embargo reach the bar"
        # The training run was given no bar after that, so no label of it can reach further.
        assert bundle["data_sha256"] == bars[: end + 1].sha256
        models.add(bundle["sha256"])
    assert len(models) == 4
    assert EMBARGO >= HORIZON


def test_every_forecast_is_that_of_the_model_in_charge(bars, run, relay):
    rows = bars.arrays()
    for at in range(FIRST, len(bars)):
        part = [part for part in relay.parts if part.since <= bars.frame.index[at]][-1]
        start = bars.frame.index.get_loc(part.since) - part.bundle.warmup + 1
        own = Stream(part.bundle).scan(rows[start : at + 1])[-1]
        assert run.ledger["expected_return"].iloc[at - FIRST] == own[0]


def test_the_joined_equity_is_one_backtest_with_the_relay(run, relay):
    record = json.loads((run.folder / "run.json").read_text())
    assert record["bundle"]["sha256"] == relay.sha256
    assert len(record["bundle"]["parts"]) == 4
    assert record["span"]["bars"] == len(run.ledger) == len(pd.read_parquet(run.folder / "ledger.parquet"))
    assert len(run.trades) > 3
    assert run.metrics["in_sample"] is False
    assert len(Trials(run.folder.parent).tried("SP500", "1h")) == 1, "the fits are inside of the backtest"


def test_only_bars_that_the_first_model_was_trained_on_are_in_sample(bars, relay):
    setup = Setup.of(bars, HiSSStrategy, model=relay)
    assert setup.trained_until == bars.frame.index[FIRST - EMBARGO - 1]


def test_what_comes_after_changes_no_model_and_no_equity_before(bars, run, relay, tmp_path):
    cut = FIRST + 2 * EVERY  # the first bar that the third model trades
    other = walk(altered_future(bars, cut), tmp_path)
    models = [part.bundle.sha256 for part in load_model(other.folder / "relay").parts]
    assert models[:3] == [part.bundle.sha256 for part in relay.parts[:3]]
    assert models[3] != relay.parts[3].bundle.sha256
    pd.testing.assert_frame_equal(other.ledger[: 2 * EVERY], run.ledger[: 2 * EVERY], check_exact=True)
    assert not np.array_equal(other.ledger["value"], run.ledger["value"])


def test_the_metrics_and_the_page_tell_the_models_apart(run, relay):
    turns = json.loads((run.folder / "metrics.json").read_text())["walk_forward"]
    assert [turn["bars"] for turn in turns] == [EVERY, EVERY, EVERY, 30]
    assert [turn["sha256"] for turn in turns] == [part.bundle.sha256 for part in relay.parts]
    growth = np.prod([1 + turn["total_return"] for turn in turns])
    assert growth == pytest.approx(1 + run.metrics["trading"]["total_return"])
    page = (run.folder / "report.html").read_text()
    assert "4 models traded one after the other" in page
    assert "only on bars that had closed before the first bar that it traded" in page


def test_the_same_call_goes_on_with_the_models_that_are_there(bars, run, monkeypatch):
    trained, told = [], []

    def counted(given, *args, **settings):
        trained.append(len(given))
        return train(given, *args, **settings)

    monkeypatch.setattr("hissbt.training.train", counted)
    out = run.folder.parent
    one, other, *_ = sorted((out / MODELS).iterdir())
    (one / "weights.safetensors").write_bytes(b"damaged")
    (other / "bundle.json").unlink()
    again = walk(bars, out, progress=lambda *text: told.append(text))
    assert len(trained) == 2
    pd.testing.assert_frame_equal(again.ledger, run.ledger, check_exact=True)
    assert [done for _, done, _ in told] == [1, 2, 3, 4, 5]
    assert {total for _, _, total in told} == {5}


def test_rolling_models_see_the_newest_bars_and_warm_ones_begin_with_the_one_before(bars, tmp_path):
    short = bars[: FIRST + EVERY + 20]
    rolling = walk(short, tmp_path, train_bars=200, embargo=None, warm_start=True)
    relay = load_model(rolling.folder / "relay")
    assert relay.embargo == HORIZON
    for part in relay.parts:
        span = part.bundle.training_span
        start, end = (bars.frame.index.get_loc(pd.Timestamp(span[name])) for name in ("start", "end"))
        assert end - start + 1 == 200
        assert end + HORIZON == bars.frame.index.get_loc(part.since)
    first, second = (part.bundle for part in relay.parts)
    span = bars.between(until=second.training_span["end"])[-200:]
    how = {"settings": SMALL, "progress": False, "runs": tmp_path}
    assert train(span, tmp_path / "warm", **how, warm_start=first).sha256 == second.sha256
    assert train(span, tmp_path / "cold", **how).sha256 != second.sha256
    record = json.loads((rolling.folder / "walkforward.json").read_text())
    assert record["train_bars"] == 200
    assert record["warm_start"] is True


def test_lengths_of_time_are_bars(bars):
    assert bars_in("90d", bars) == 90 * 24
    assert bars_in(7, bars) == 7
    with pytest.raises(BarsError, match="unknown timeframe"):
        bars_in("3 months", bars)


def test_what_makes_no_sense_is_said_before_anything_is_trained(bars, tmp_path):
    with pytest.raises(StrategyError, match="uses no model"):
        walk_forward(bars, BuyAndHold, since=bars.open_times[FIRST], out=tmp_path)
    with pytest.raises(StrategyError, match="no parameter 'prob'"):
        walk(bars, tmp_path, params={"prob": 1})
    with pytest.raises(ConfigError, match="hvae"):
        walk(bars, tmp_path, kind="hvae")
    with pytest.raises(ConfigError, match="windows"):
        walk(bars, tmp_path, settings={"windows": 3})
    with pytest.raises(BarsError, match="leave too few to train on"):
        walk(bars, tmp_path, since=bars.open_times[0])
    assert not list(tmp_path.iterdir())
