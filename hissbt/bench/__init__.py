"""``hissbt bench``: speed on this machine, every figure beside what it is compared with in the same run.

Engines take turns within rounds, and ratios are taken within a round, so that what slows the whole machine down
slows all alike; figures are medians with the smallest and largest of the rounds. Absolute times are those of this
machine at this hour: quote the ratios.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass

from hissbt.bars import Bars
from hissbt.bench.backtests import measure_backtests
from hissbt.bench.decisions import measure_decisions
from hissbt.bench.machine import describe_machine, describe_threads, describe_versions
from hissbt.bench.measure import Row, Tick, frozen_heap, one_thread
from hissbt.bench.scaling import measure_memory, measure_scaling
from hissbt.bench.startup import COMMANDS, measure_startup
from hissbt.bench.steps import measure_steps
from hissbt.bench.subjects import networks, synthetic_bars
from hissbt.bench.training import measure_training

__all__ = ["FULL", "QUICK", "Sizes", "run_bench"]


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rounds: int
    """Rounds of steps and of training."""
    backtest_rounds: int
    """Rounds of backtests and decisions."""
    step_budget_s: float
    """Seconds for an engine in a round of steps."""
    backtest_bars: int
    torch_bars: int
    """Bars of the backtest with torch."""
    scan_lengths: tuple[int, ...]
    scan_rounds: int
    live_steps: tuple[int, int]
    decision_bars: int
    cold_bars: int
    training_shape: tuple[int, int, int]
    starts: int
    commands: tuple[str, ...] = tuple(COMMANDS)


FULL = Sizes(
    rounds=7,
    backtest_rounds=5,
    step_budget_s=0.4,
    backtest_bars=50_000,
    torch_bars=10_000,
    scan_lengths=(10_000, 30_000, 100_000, 300_000, 1_000_000),
    scan_rounds=5,
    live_steps=(10_000, 1_000_000),
    decision_bars=20_000,
    cold_bars=1_000,
    training_shape=(16, 512, 64),
    starts=7,
)
QUICK = Sizes(
    rounds=3,
    backtest_rounds=3,
    step_budget_s=0.02,
    backtest_bars=5_000,
    torch_bars=1_000,
    scan_lengths=(10_000, 30_000, 100_000),
    scan_rounds=2,
    live_steps=(10_000, 30_000),
    decision_bars=2_000,
    cold_bars=200,
    training_shape=(2, 512, 64),
    starts=1,
)
SLOPES = ("HiSS-S4D", "HiSS-Mamba")
GIVEN_BARS_ROUNDS = 3  # of backtests over the user's bars, which may be many
Progress = Callable[[str, int, int], None]
"""Told after each measurement what is being measured, how many parts are done, and of how many."""


def run_bench(sizes: Sizes = FULL, bars: Bars | None = None, progress: Progress | None = None) -> dict:
    """Measure everything; return machine, versions, threads and the rows of each section as plain data.

    ``bars`` are what the backtests run over; without them it is a synthetic series. ``agreement`` in the result is
    how far the outputs of any two engines of a network lie apart: no engine is fast because it is wrong.
    """
    made = synthetic_bars(max(5_000, sizes.backtest_bars, sizes.decision_bars))
    agreement: dict[str, float] = {}
    parts = _parts(sizes, made, bars, agreement)
    sections = {}
    with one_thread(), frozen_heap():
        threads = describe_threads()
        for done, (title, measure) in enumerate(parts.items()):

            def tick(title=title, done=done) -> None:
                if progress is not None:
                    progress(title, done, len(parts))

            tick()
            sections[title] = [asdict(row) for row in measure(tick)]
    return {
        "machine": describe_machine(),
        "versions": describe_versions(),
        "threads": threads,
        "sizes": asdict(sizes),
        "agreement": agreement,
        "sections": sections,
    }


def _parts(
    sizes: Sizes, made: Bars, given: Bars | None, agreement: dict[str, float]
) -> dict[str, Callable[[Tick], list[Row]]]:
    def steps(network: str) -> Callable[[Tick], list[Row]]:
        def measure(tick: Tick) -> list[Row]:
            rows, agreement[network] = measure_steps(
                network, made[:5_000], sizes.step_budget_s, sizes.rounds, tick
            )
            return rows

        return measure

    def backtests(tick: Tick) -> list[Row]:
        if given is not None:
            return measure_backtests(given, sizes.torch_bars, GIVEN_BARS_ROUNDS, tick)
        return measure_backtests(made[: sizes.backtest_bars], sizes.torch_bars, sizes.backtest_rounds, tick)

    def scaling(tick: Tick) -> list[Row]:
        rows = [
            row
            for network in SLOPES
            for row in measure_scaling(network, made, list(sizes.scan_lengths), sizes.scan_rounds, tick)
        ]
        return rows + [row for network in SLOPES for row in measure_memory(network, made, sizes.live_steps, tick)]

    def decisions(tick: Tick) -> list[Row]:
        some = made[: sizes.decision_bars]
        return measure_decisions("HiSS-S4D", some, sizes.cold_bars, sizes.backtest_rounds, tick)

    return {
        **{f"step of {network}": steps(network) for network in networks()},
        "backtests": backtests,
        "cost over the length of a run": scaling,
        "a decision in next mode": decisions,
        "training of a layer": lambda tick: measure_training(sizes.training_shape, sizes.rounds, tick),
        "start-up": lambda tick: measure_startup(sizes.starts, tick, sizes.commands),
    }
