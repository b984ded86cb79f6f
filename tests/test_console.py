"""What is printed: results beside their baselines, paths in one piece, JSON that every reader accepts."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from bundles import random_bundle

from hissbt.backtest import Run, run_backtest
from hissbt.console import show_bundle, show_run
from hissbt.strategies.buy_and_hold import BuyAndHold

SCORES = {
    "n": 1200,
    "accuracy": 0.52,
    "f1": float("nan"),
    "mse": 1e-4,
    "mae": 1e-2,
    "majority_class": {"accuracy": 0.51, "f1": 0.0},
    "zero_forecast": {"mse": 2e-4, "mae": 2e-2},
}
LONG = Path("a-folder") / "whose-name-is-longer-than-a-narrow-screen" / "20240101T000000Z-hiss-BTCUSDT"


@pytest.fixture(scope="module")
def run(hourly_bars, tmp_path_factory) -> Run:
    return run_backtest(hourly_bars[:48], BuyAndHold, out=tmp_path_factory.mktemp("runs"))


@pytest.fixture
def bundle(hourly_bars):
    return replace(random_bundle(hourly_bars[:100]), metrics={"validation": SCORES})


@pytest.fixture(autouse=True)
def _narrow_screen(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")


def only_json(text: str) -> dict:
    """Parse the one JSON object that ``text`` has to be; NaN and infinities are no JSON."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def row(text: str, name: str) -> list[str]:
    """Return the cells of a table's row."""
    (line,) = [line for line in text.splitlines() if f" {name} " in line]
    return [cell.strip() for cell in line.strip("│┃").split("│")][1:]


def test_a_run_stands_beside_buy_and_hold(run, capsys):
    show_run(run)
    out = capsys.readouterr().out
    trading, held = run.metrics["trading"], run.metrics["buy_and_hold"]
    assert "48 bars" in out
    assert row(out, "total return") == [f"{m['total_return']:+.2%}" for m in (trading, held)]
    assert row(out, "trades") == ["1", "1"]
    assert row(out, "profit factor") == ["-", "-"]  # one trade: profits or losses are missing
    assert "forecasts" not in out


def test_forecasts_stand_beside_their_baselines(run, capsys):
    show_run(replace(run, metrics=run.metrics | {"forecast": SCORES}))
    out = capsys.readouterr().out
    assert "forecasts, 1,200 bars" in out
    assert row(out, "accuracy, beside majority class") == ["52.00%", "51.00%"]
    assert row(out, "f1, beside majority class") == ["-", "0.000"]
    assert row(out, "mse, beside zero forecast") == ["1.000e-04", "2.000e-04"]


def test_what_makes_a_result_worthless_is_said(run, capsys):
    show_run(run)
    assert "IN SAMPLE" not in (out := capsys.readouterr().out)
    assert "No trade" not in out
    idle = run.metrics["trading"] | {"trades": 0}
    show_run(replace(run, metrics=run.metrics | {"in_sample": True, "trading": idle}))
    assert "IN SAMPLE: the model was trained on some of these bars" in (out := capsys.readouterr().out)
    assert "No trade was made" in out


def test_the_sharpe_ratio_is_judged_in_a_sentence_and_a_fault_of_the_ledger_named(run, capsys):
    show_run(run)
    assert "\nNo verdict: 2 days are too few for any Sharpe ratio" in (out := capsys.readouterr().out)
    assert "TRIALS MAY BE MISSING" not in out
    faulty = run.metrics["significance"] | {"ledger_faults": ["Row 2 was deleted.", "Row 9 was altered."]}
    show_run(replace(run, metrics=run.metrics | {"significance": faulty}))
    out = capsys.readouterr().out
    assert "TRIALS MAY BE MISSING: Row 2 was deleted.\nTRIALS MAY BE MISSING: Row 9 was altered." in out


def test_paths_stay_in_one_piece(run, bundle, capsys):
    show_run(replace(run, folder=LONG))
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {LONG / 'report.html'}"
    show_bundle(bundle, LONG)
    assert capsys.readouterr().out.splitlines()[-1] == f"bundle: {LONG}"


def test_a_bundle_tells_what_it_was_trained_on(bundle, capsys):
    show_bundle(replace(bundle, symbol="[red]BTC"), LONG)
    out = capsys.readouterr().out
    assert "hiss on [red]BTC 1h, horizon 1, bars from 2024-01-01 01:00 to 2024-01-05 04:00 UTC, warm-up 20" in out
    assert row(out, "accuracy, beside majority class") == ["52.00%", "51.00%"]


def test_json_is_one_object_and_nothing_else(run, bundle, capsys):
    show_run(run, as_json=True)
    shown = only_json(capsys.readouterr().out)
    assert shown.pop("folder") == str(run.folder)
    assert shown == json.loads((run.folder / "metrics.json").read_text())
    assert shown["trading"]["profit_factor"] is None
    show_bundle(bundle, LONG, as_json=True)
    shown = only_json(capsys.readouterr().out)
    assert shown["sha256"] == bundle.sha256
    assert shown["validation"]["f1"] is None
