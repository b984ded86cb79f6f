"""How everything here is measured: in rounds, engines taking turns, ratios taken within a round."""

import gc
import importlib.util
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

Tick = Callable[[], None]
"""Called after each measurement, for the progress bar."""


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of the rounds, or another stated interval around a figure."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Summarize one figure of each round."""
        values = list(values)
        return cls(float(np.median(values)), float(min(values)), float(max(values)))


@dataclass(frozen=True)
class Sample:
    """What one round gave: a figure and, where single calls were timed, quantiles of the calls."""

    value: float
    p50: float | None = None
    p99: float | None = None


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    unit: str
    value: Spread | None = None
    p50: Spread | None = None
    p99: Spread | None = None
    ratios: Mapping[str, Spread] = field(default_factory=dict)
    """This row's figure over that of the row with the given name, within each round."""
    note: str = ""


def compare(
    unit: str,
    subjects: Mapping[str, Callable[[], Sample]],
    against: Mapping[str, Iterable[str]],
    rounds: int,
    tick: Tick,
    notes: Mapping[str, str] | None = None,
) -> list[Row]:
    """Measure each subject once a round, in turns that change direction; return one row a subject.

    ``against`` names, for each subject, the subjects whose figures its own is divided by.
    """
    samples: dict[str, list[Sample]] = {name: [] for name in subjects}
    for i in range(rounds):
        for name in list(subjects) if i % 2 == 0 else reversed(subjects):
            gc.collect()  # what one subject left behind is not to be cleared away in another's time
            samples[name].append(subjects[name]())
            tick()
    return [
        make_row(
            name,
            unit,
            own,
            {base: samples[base] for base in against.get(name, ()) if base in samples},
            (notes or {}).get(name, ""),
        )
        for name, own in samples.items()
    ]


def make_row(
    name: str, unit: str, samples: list[Sample], against: Mapping[str, list[Sample]], note: str = ""
) -> Row:
    """Summarize the rounds of a subject, beside those of others."""
    return Row(
        name,
        unit,
        Spread.of(sample.value for sample in samples),
        _spread(sample.p50 for sample in samples),
        _spread(sample.p99 for sample in samples),
        {
            base: Spread.of(mine.value / its.value for mine, its in zip(samples, others, strict=True))
            for base, others in against.items()
        },
        note,
    )


def _spread(values: Iterable[float | None]) -> Spread | None:
    values = list(values)
    return None if None in values else Spread.of(values)


def time_calls(step: Callable, inputs: Iterable) -> Sample:
    """Call ``step`` on each input; return mean and quantiles of the times in microseconds."""
    clock, stamps = time.perf_counter_ns, [time.perf_counter_ns()]
    for x in inputs:
        step(x)
        stamps.append(clock())
    return quantiles(np.diff(stamps) / 1e3)


def quantiles(times_us: np.ndarray) -> Sample:
    """Return mean, median and 99th percentile of single times."""
    return Sample(float(np.mean(times_us)), *(float(q) for q in np.quantile(times_us, (0.5, 0.99))))


def seconds(run: Callable[[], object]) -> float:
    """Return how long a call takes."""
    start = time.perf_counter_ns()
    run()
    return (time.perf_counter_ns() - start) / 1e9


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch on one thread, and BLAS too where threadpoolctl is installed."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if importlib.util.find_spec("threadpoolctl"):
            from threadpoolctl import threadpool_limits

            with threadpool_limits(1):
                yield
        else:
            yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def frozen_heap() -> Iterator[None]:
    """Spare the garbage collector what was imported: to go through it takes longer than much of what is timed."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
