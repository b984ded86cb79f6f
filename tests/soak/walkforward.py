"""A walk-forward that is killed again and again ends as one that was left alone, whatever the number of workers.

``python -m tests.soak.walkforward [--kills 2] [--workers 1] [--json]`` trains five models on random walks; exit 1
if the models or the joined equity differ. Nothing is trained twice but what was going on when the kill came.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from hissbt.bars import Bars
from hissbt.market import Market
from hissbt.relay import load_model
from hissbt.research.walkforward import MODELS, walk_forward
from hissbt.strategies.hiss import HiSSStrategy

BARS, FIRST, EVERY = 2500, 1000, 300
SETTINGS = {"network": {"d_model": 8, "d_state": 8}, "max_epochs": 1, "epoch_steps": 5, "horizon": 3}
PARAMS = {"prob_long": 0.5, "prob_short": 0.5, "sizing": "fixed"}


def walk(seed: int = 0) -> Bars:
    """Return the hourly bars of a random walk."""
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.005, BARS)))
    opened = np.concatenate([[100.0], close[:-1]])
    spread = np.exp(np.abs(rng.normal(0, 0.002, BARS)))
    columns = {
        "open": opened,
        "high": np.maximum(opened, close) * spread,
        "low": np.minimum(opened, close) / spread,
    }
    index = pd.date_range("2024-01-01 01:00", periods=BARS, freq="h", tz="UTC")
    frame = pd.DataFrame(columns | {"close": close, "volume": rng.lognormal(5, 1, BARS)}, index=index)
    return Bars(frame, Market("WALK"), "1h")


def run(out: Path, workers: int) -> tuple[str, bytes]:
    """Return the sha256 of the relay and the bytes of the joined equity."""
    bars = walk()
    given = {"since": bars.open_times[FIRST], "retrain_every": EVERY, "settings": SETTINGS, "params": PARAMS}
    done = walk_forward(bars, HiSSStrategy, **given, out=out, workers=workers)
    return load_model(done.folder / "relay").sha256, done.ledger["value"].to_numpy().tobytes()


def models(out: Path) -> int:
    """Return how many models are whole."""
    return len(list((out / MODELS).glob("[!.]*/bundle.json")))


def kill_when_one_more_is_there(out: Path, workers: int) -> None:
    """Start the walk-forward in another process and kill it with its workers, when it has trained a model."""
    before = models(out)
    command = [sys.executable, "-m", "tests.soak.walkforward", "--out", str(out), "--workers", str(workers)]
    process = subprocess.Popen(command, start_new_session=True)
    while process.poll() is None:
        if models(out) > before:
            os.killpg(process.pid, signal.SIGKILL)
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue


def main() -> int:
    """Kill, go on, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.out:
        run(options.out, options.workers)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        alone, killed = Path(folder, "alone"), Path(folder, "killed")
        left = []
        for _ in range(options.kills):
            kill_when_one_more_is_there(killed, options.workers)
            left.append(models(killed))
        same = run(killed, options.workers) == run(alone, 1)
    result = {"same": same, "models_after_each_kill": left, "workers": options.workers}
    print(json.dumps(result) if options.json else result)
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
