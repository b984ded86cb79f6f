"""The bench measures everything it promises, and what it compares computes the same thing. No time is asserted."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from hissbt.bench import QUICK, run_bench
from hissbt.bench.backtests import (
    FULL,
    RULE,
    STOCK,
    STOCK_TORCH,
    Rule,
    Signal,
    TorchRule,
    measure_backtests,
    run_backtesting_py,
    run_backtrader,
)
from hissbt.bench.engines import Compiled, Numpy, StreamStep, TorchBar, TorchStep, TorchWindow
from hissbt.bench.floor import Floor, multiply_adds
from hissbt.bench.measure import Sample, compare, one_thread
from hissbt.bench.scaling import measure_scaling
from hissbt.bench.startup import PYTHON
from hissbt.bench.steps import onnx_problem
from hissbt.bench.subjects import Tape, networks, random_bundle, synthetic_bars
from hissbt.bench.table import show_bench
from hissbt.bench.training import OURS, PEER, training_layers
from hissbt.cli import main
from hissbt.feeds.bulk import BarsFeed

TINY = replace(
    QUICK,
    rounds=1,
    backtest_rounds=1,
    step_budget_s=0.0,
    backtest_bars=300,
    torch_bars=100,
    scan_lengths=(100, 200, 400),
    scan_rounds=2,
    live_steps=(100, 200),
    decision_bars=200,
    cold_bars=40,
    training_shape=(1, 16, 16),
    starts=1,
    commands=(PYTHON, "import hissbt"),
)
SECTIONS = {
    *(f"step of {network}" for network in networks()),
    *("backtests", "cost over the length of a run", "a decision in next mode", "training of a layer", "start-up"),
}


@pytest.fixture(scope="module")
def bars():
    return synthetic_bars(1_000)


@pytest.fixture(scope="module")
def results():
    return run_bench(TINY)


def figures(row: dict) -> list[float]:
    """All numbers of a row: its figure, quantiles and ratios."""
    spreads = [row["value"], row["p50"], row["p99"], *row["ratios"].values()]
    return [number for spread in spreads if spread for number in spread.values()]


def test_every_section_has_finite_positive_figures(results):
    assert set(results["sections"]) == SECTIONS
    for rows in results["sections"].values():
        assert any(row["ratios"] for row in rows)
        for row in rows:
            assert (row["value"] is not None) or row["note"]
            assert all(math.isfinite(number) for number in figures(row))
            if row["unit"] not in ("%", "KiB"):  # a slope, or what a process has grown by, may be 0 or less
                assert all(number > 0 for number in figures(row))


def test_no_engine_is_fast_because_it_is_wrong(results):
    assert set(results["agreement"]) == set(networks())
    assert max(results["agreement"].values()) < 1e-4


def test_results_are_json_and_a_table(results, capsys):
    assert json.loads(json.dumps(results))["sections"] == results["sections"]
    show_bench(results)
    shown = capsys.readouterr().out
    assert results["machine"]["cpu"] in shown
    assert all(title in shown for title in SECTIONS)


def test_the_command_prints_one_object(results, capsys, monkeypatch):
    monkeypatch.setattr("hissbt.bench.run_bench", lambda sizes, bars, progress: results)
    with pytest.raises(SystemExit) as end:
        main(["bench", "--quick", "--json"])
    assert not end.value.code
    assert json.loads(capsys.readouterr().out)["sections"] == results["sections"]


def test_threads_of_torch_are_as_before(results):
    assert results["threads"]["torch"] == 1
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("network", networks())
def test_engines_agree_bar_by_bar(network, bars):
    bundle = random_bundle(network, bars)
    tape = Tape(bars, bundle)
    engines = [Compiled(bundle), Numpy(bundle), TorchStep(bundle)]
    if not onnx_problem(engines[0]):
        from hissbt.bench.onnx_engine import OnnxRuntime

        engines.append(OnnxRuntime(bundle))
    outputs = [
        np.array([engine.values(engine.step(x)) for x in engine.inputs(tape, 70)]) for engine in engines
    ]  # [70,3] each; 70 bars reach every level of the hierarchy, and other phases of it
    for others in outputs[1:]:
        np.testing.assert_allclose(others, outputs[0], rtol=1e-4, atol=1e-4)
    with torch.inference_mode():
        np.testing.assert_allclose(
            TorchWindow(bundle).prime(tape), Compiled(bundle).prime(tape), rtol=1e-4, atol=1e-4
        )
    whole = [
        np.array([engine.values(engine.step(x)) for x in engine.inputs(tape, 70)])
        for engine in (StreamStep(bundle), TorchBar(bundle))
    ]
    np.testing.assert_allclose(*whole, rtol=1e-4, atol=1e-7)


def test_a_scan_of_the_compiled_engine_is_its_steps(bars):
    bundle = random_bundle("HiSS-Mamba", bars)
    x = Tape(bars, bundle).x(0, 50)
    engine = Compiled(bundle)
    np.testing.assert_array_equal(Compiled(bundle).scan(x), [engine.step(row).copy() for row in x])


def test_a_tape_repeats_its_bars_at_later_times(bars):
    tape = Tape(bars, random_bundle("HiSS-S4D", bars))
    rows = tape.rows(len(bars) - 2, 5)
    assert (np.diff(rows[:, 0]) == 60).all()
    np.testing.assert_array_equal(rows[2:, 1:], tape.rows(0, 3)[:, 1:])


def test_the_floor_counts_the_multiply_adds_of_s4d(bars):
    # of each level, at 1, 1/4 and 1/16 of the bars: embedding, 8 pairs at 8 multiply-adds and the skip, gate
    level = 64 * (8 * 8 + 1) + 64 * 128
    expected = 64 * 8 + (1 / 4 + 1 / 16) * 64 * 64 + (1 + 1 / 4 + 1 / 16) * level + 3 * (192 + 8)
    assert Floor(random_bundle("HiSS-S4D", bars)).multiply_adds == pytest.approx(expected)


def test_the_floor_refuses_an_operation_it_cannot_count():
    with pytest.raises(ValueError, match="no count of multiply-adds for the operation 'new'"):
        multiply_adds("new", 1, [])


def test_subjects_take_turns_and_ratios_are_within_rounds():
    order, speeds = [], {"a": iter((1.0, 10.0)), "b": iter((2.0, 40.0))}

    def subject(name):
        order.append(name)
        return Sample(next(speeds[name]))

    subjects = {name: (lambda name=name: subject(name)) for name in speeds}
    a, b = compare("µs", subjects, {"b": ("a",)}, 2, lambda: None)
    assert order == ["a", "b", "b", "a"]
    assert (a.value.low, a.value.high, a.ratios) == (1.0, 10.0, {})
    assert (b.ratios["a"].low, b.ratios["a"].high) == (2.0, 4.0)


def test_the_rule_trades_alike_in_every_engine(bars):
    bundle = random_bundle("HiSS-S4D", bars)
    signal = Signal.of(bundle, bars, 1 / 42)
    params = {"model": bundle, "low": signal.low, "high": signal.high}
    ours = run_backtrader(BarsFeed(bars), Rule, params)
    assert ours.trades > 5
    torchs = run_backtrader(BarsFeed(bars), TorchRule, params)
    assert (torchs.bars, torchs.trades) == (ours.bars, ours.trades)
    assert torchs.value == pytest.approx(ours.value, rel=1e-6)
    pytest.importorskip("backtesting")
    other = run_backtesting_py(bars.frame.tz_localize(None), signal)
    assert other.value == pytest.approx(ours.value, rel=1e-4)


def test_backtests_say_what_they_did(bars):
    rows = {row.name: row for row in measure_backtests(bars[:400], 100, 1, lambda: None)}
    assert {STOCK, STOCK_TORCH, FULL, RULE} <= set(rows)
    assert "trades" in rows[RULE].note


def test_the_slope_of_equal_costs_is_nothing(bars, monkeypatch):
    monkeypatch.setattr("hissbt.bench.scaling._scan_us", lambda stream, rows: 2.0)
    slope = measure_scaling("HiSS-S4D", bars, [10, 100], 3, lambda: None)[-1]
    assert slope.value.median == pytest.approx(0, abs=1e-9)


def test_both_mamba_layers_compute_the_same():
    pytest.importorskip("mambapy")
    layers = training_layers(16)
    x = torch.randn(2, 40, 16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(layers[OURS](x), layers[PEER](x), rtol=1e-4, atol=1e-4)
