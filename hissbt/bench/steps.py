"""Latency of a step, for each network and engine."""

import importlib.util
from functools import partial

import numpy as np

from hissbt.bars import Bars
from hissbt.bench.engines import Compiled, Engine, Numpy, StreamStep, TorchBar, TorchStep, TorchWindow
from hissbt.bench.floor import Floor
from hissbt.bench.measure import Row, Sample, Tick, compare, seconds, time_calls
from hissbt.bench.onnx_engine import OnnxRuntime, missing_operations
from hissbt.bench.subjects import Tape, random_bundle

STEP, SCAN, FLOOR = "hissbt step", "hissbt in a scan", "BLAS floor"
NUMPY, ORT, TORCH, WINDOW = "numpy step", "ONNX Runtime step", "torch eager step", "torch, last 512 bars again"
BAR, BAR_SCAN, TORCH_BAR = (
    "bar to forecast, Stream.step",
    "bars to forecasts, Stream.scan",
    "bar to forecast, torch",
)
PERIOD = 16  # bars after which each level of the HiSS networks has run
SLOW = {WINDOW: 4}  # calls, of an engine whose calls all cost the same: its least is then less than a period


def measure_steps(network: str, bars: Bars, budget_s: float, rounds: int, tick: Tick) -> tuple[list[Row], float]:
    """Return the rows of a network, and the largest difference between the outputs of any two engines.

    Each engine gets about ``budget_s`` of a round. Units are microseconds a bar.
    """
    import torch

    bundle = random_bundle(network, bars)
    tape, floor = Tape(bars, bundle), Floor(bundle)
    engines: dict[str, Engine] = {STEP: Compiled(bundle), NUMPY: Numpy(bundle)}
    notes = {FLOOR: f"{floor.multiply_adds:,.0f} multiply-adds a bar"}
    if problem := onnx_problem(engines[STEP]):
        notes[ORT] = problem
    else:
        engines[ORT] = OnnxRuntime(bundle)
    engines |= {TORCH: TorchStep(bundle), WINDOW: TorchWindow(bundle)}
    whole = {BAR: StreamStep(bundle), TORCH_BAR: TorchBar(bundle)}
    with torch.inference_mode():
        difference = max(_difference(group, tape) for group in (engines, whole))
        subjects = {
            STEP: _stepping(engines.pop(STEP), tape, budget_s),
            SCAN: _scanning(Compiled(bundle), tape.x, budget_s),
            FLOOR: partial(_run_floor, floor, budget_s),
        }
        subjects |= {
            name: _stepping(engine, tape, budget_s, SLOW.get(name, PERIOD))
            for name, engine in (engines | whole).items()
        }
        subjects[BAR_SCAN] = _scanning(StreamStep(bundle), tape.rows, budget_s)
        against = dict.fromkeys(subjects, (STEP,)) | {SCAN: (FLOOR,), BAR: (), TORCH_BAR: (BAR,), BAR_SCAN: (BAR,)}
        rows = compare("µs/bar", subjects, against | {STEP: (), FLOOR: ()}, rounds, tick, notes)
    if ORT not in engines:
        rows.append(Row(ORT, "µs/bar", note=notes[ORT]))
    return rows, difference


def onnx_problem(engine: Compiled) -> str:
    """Say why there is no ONNX Runtime engine for this network, or nothing."""
    if not all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime")):
        return "not installed: pip install onnx onnxruntime"
    missing = missing_operations(engine._plan)
    return f"no ONNX graph for {', '.join(missing)}" if missing else ""


def _difference(engines: dict[str, Engine], tape: Tape) -> float:
    """Prime the engines with the same bars; return how far their outputs lie apart, relative to 1 or more."""
    outputs = np.array([engine.prime(tape) for engine in engines.values()])  # [engines,O]
    return float(np.max(np.ptp(outputs, axis=0) / np.maximum(1.0, np.abs(outputs).max(axis=0))))


def _stepping(engine: Engine, tape: Tape, budget_s: float, period: int = PERIOD):
    def each(count: int) -> float:
        return time_calls(engine.step, engine.inputs(tape, count)).value / 1e6

    calls = _calls(each, budget_s, period)
    return lambda: time_calls(engine.step, engine.inputs(tape, calls))


def _scanning(engine: Compiled | StreamStep, take, budget_s: float):
    def run(count: int) -> float:
        x = take(engine.at, count)
        engine.at += count
        return seconds(lambda: engine.scan(x)) / count

    bars = _calls(run, budget_s)
    return lambda: Sample(run(bars) * 1e6)


def _run_floor(floor: Floor, budget_s: float) -> Sample:
    floor.run(PERIOD)
    bars = _calls(lambda count: seconds(lambda: floor.run(count)) / count, budget_s)
    return Sample(seconds(lambda: floor.run(bars)) / bars * 1e6)


def _calls(seconds_each, budget_s: float, period: int = PERIOD) -> int:
    """Return how many calls fill the budget, in whole periods; the first ones, which warm up, do not count."""
    seconds_each(period)
    return max(1, int(budget_s / seconds_each(period)) // period) * period
