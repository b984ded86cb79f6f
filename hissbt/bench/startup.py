"""How long the command takes to start."""

import subprocess
import sys
from collections.abc import Sequence

from hissbt.bench.measure import Row, Sample, Tick, compare, seconds

PYTHON = "python -c pass"
COMMANDS = {
    PYTHON: ["-c", "pass"],
    "import hissbt": ["-c", "import hissbt"],
    "hissbt --help": ["-m", "hissbt", "--help"],
    "hissbt backtest --help": ["-m", "hissbt", "backtest", "--help"],
    "import of all that a backtest with a model needs": [
        "-c",
        "import hissbt.backtest, hissbt.feeds, hissbt.indicators, hissbt.strategies.hiss",
    ],
    "import torch, for comparison": ["-c", "import torch"],
}


def measure_startup(rounds: int, tick: Tick, names: Sequence[str] = tuple(COMMANDS)) -> list[Row]:
    """Return seconds from start to end of a process, files already in the system's cache."""
    runs = {name: lambda words=words: _process(words) for name, words in COMMANDS.items() if name in names}
    for run in runs.values():
        run()
    subjects = {name: (lambda run=run: Sample(seconds(run))) for name, run in runs.items()}
    return compare("s", subjects, dict.fromkeys([*runs][1:], (PYTHON,)), rounds, tick)


def _process(words: list[str]) -> None:
    subprocess.run([sys.executable, *words], capture_output=True, check=True)
