"""Whether a bar costs more the longer a stream runs, in time and in memory."""

import gc
import os
from pathlib import Path

import numpy as np
from scipy.stats import linregress, t

from hissbt.bars import Bars
from hissbt.bench.measure import Row, Spread, Tick, seconds
from hissbt.bench.subjects import Tape, random_bundle
from hissbt.stream import Stream


def measure_scaling(network: str, bars: Bars, lengths: list[int], rounds: int, tick: Tick) -> list[Row]:
    """Return cost per bar of a scan over each of the lengths, and its slope a decade with a 95 % interval.

    The slope is that of a straight line, fitted by least squares, of cost relative to the mean against log10 of
    the number of bars: 1 % a decade would be 2 % from 10,000 to 1,000,000 bars. It is flat if the interval holds
    0. Of short scans the median of a few counts.
    """
    bundle = random_bundle(network, bars[:5000])
    tape, stream = Tape(bars, bundle), Stream(bundle)
    rows = tape.rows(0, max(lengths))
    costs = np.empty((rounds, len(lengths)))
    rng = np.random.default_rng(1)
    for i in range(rounds):
        for j in rng.permutation(len(lengths)):
            repeats = min(5, max(lengths) // lengths[j])
            gc.collect()
            costs[i, j] = np.median([_scan_us(stream, rows[: lengths[j]]) for _ in range(repeats)])
            tick()
    first = costs[:, 0]
    table = [
        Row(
            f"{network}, scan of {n:,} bars",
            "µs/bar",
            Spread.of(cost),
            ratios=_over_first(cost, first, lengths[0]),
        )
        for n, cost in zip(lengths, costs.T, strict=True)
    ]
    return [*table, Row(f"{network}, slope a decade of bars", "%", _slope(costs, lengths), note="95 % interval")]


def measure_memory(network: str, bars: Bars, lengths: tuple[int, int], tick: Tick) -> list[Row]:
    """Step a live stream; return its snapshot's size and the process's growth after each number of steps."""
    bundle = random_bundle(network, bars[:5000])
    tape, stream = Tape(bars, bundle), Stream(bundle)
    rows, at, table = [], 0, []
    for row in tape.rows(0, 1000):  # what the first calls load is not growth
        stream.step(row)
    stream.reset()
    gc.collect()
    before = _resident_bytes()
    for length in lengths:
        while at < length:
            rows = tape.rows(at, min(10_000, length - at))
            for row in rows:
                stream.step(row)
            at += len(rows)
            del rows, row
        gc.collect()
        size, after = float(len(stream.snapshot())), _resident_bytes()
        table.append(Row(f"{network}, snapshot after {length:,} steps", "bytes", Spread(size, size, size)))
        grown = None if before is None else Spread(*[(after - before) / 1024] * 3)
        note = "resident set is read on Linux only" if grown is None else ""
        table.append(Row(f"{network}, growth of the process after {length:,} steps", "KiB", grown, note=note))
        tick()
    return table


def _scan_us(stream: Stream, rows: np.ndarray) -> float:
    stream.reset()
    return seconds(lambda: stream.scan(rows)) / len(rows) * 1e6


def _over_first(cost: np.ndarray, first: np.ndarray, length: int) -> dict[str, Spread]:
    return {} if cost is first else {f"scan of {length:,} bars": Spread.of(cost / first)}


def _slope(costs: np.ndarray, lengths: list[int]) -> Spread:
    """Fit costs [rounds,lengths] in percent of their mean."""
    x = np.tile(np.log10(lengths), len(costs))
    fit = linregress(x, costs.ravel() / costs.mean() * 100)
    reach = t.ppf(0.975, len(x) - 2) * fit.stderr
    return Spread(float(fit.slope), float(fit.slope - reach), float(fit.slope + reach))


def _resident_bytes() -> int | None:
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else None
