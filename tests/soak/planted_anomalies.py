"""Does each level of the hierarchical VAE call unusual what is unusual on its scale, and nothing else?

``python -m tests.soak.planted_anomalies [--seeds N] [--json]`` trains on made-up returns, and shows the model
others of the same kind: as they are, which gives the false alarms of every level beside the p-value that was asked
for; with spikes of one bar; and with a change of variance. Of the false alarms an error is told that knows of both
samples, that of the calibration and that of the test, in blocks of two windows. Exit 1 where false alarms are off
by more than three errors, where the finest level misses a spike, where the top calls the windows that hold one
unusual more often than it did without, or where it takes longer than its window to call a change of variance so.
"""

import argparse
import json
import math
import sys
import tempfile

import numpy as np
import pandas as pd

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.indicators.latent import readings
from hissbt.market import Market
from hissbt.stream import Stream
from hissbt.training import train

SEEDS = tuple(range(5))
STRIDES = (4, 16, 64)
SETTINGS = {
    "features": ["log_return"],
    "network": {"strides": STRIDES, "d_latent": (2, 2, 2), "d_hidden": 32},
    "validation_fraction": 0.5,
    "epoch_steps": 50,
    "max_epochs": 16,
}
BARS = 24_000  # a quarter of them calibrates
ALARM = 0.05
SPIKE, VARIANCE = 12.0, 16.0
"""A spike in standard deviations; how many times the variance after a change."""
MISSED, RAISED = 0.05, 0.05
"""Share of plants that may be missed; by how much the top's share of alarms may grow in windows with a spike."""


def simulate(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return [T] returns of 1 % a bar whose volatility wanders about its mean, with a memory of ten bars."""
    noise = rng.normal(size=count)
    level = np.empty(count)
    level[0] = noise[0]
    for t in range(1, count):
        level[t] = 0.9 * level[t - 1] + math.sqrt(1 - 0.9**2) * noise[t]
    return 0.01 * np.exp(0.3 * level - 0.09) * rng.standard_t(8, size=count) / math.sqrt(8 / 6)


def bars_of(returns: np.ndarray) -> Bars:
    """Return hourly bars with these log returns from close to close."""
    close = 100 * np.exp(np.cumsum(returns - returns.mean()))
    opens = np.append(100.0, close[:-1])
    frame = pd.DataFrame({"open": opens, "high": np.maximum(opens, close), "low": np.minimum(opens, close)})
    frame["close"], frame["volume"] = close, 1.0
    frame.index = pd.date_range("2000-01-01", periods=len(frame), freq="h", tz="UTC")
    return Bars.from_frame(frame, market=Market("MADE-UP"), timeframe="1h", stamp="open")


def p_values(bundle: ModelBundle, returns: np.ndarray) -> np.ndarray:
    """Return [T,L], finest level first."""
    weights = bundle.weights
    outputs = Stream(bundle).scan(bars_of(returns).arrays())
    lines = readings(outputs, weights["calibration"].astype(float), weights["centers"].astype(float))
    return lines[:, : len(STRIDES)]


def false_alarms(p: np.ndarray, calibration: int) -> tuple[float, float]:
    """Return the share of alarms among p-values [T] of usual bars, and its error, the calibration's in it."""
    block = 2 * STRIDES[-1]
    shares = (p[: len(p) // block * block] <= ALARM).reshape(-1, block).mean(axis=1)
    error = shares.std(ddof=1) / math.sqrt(len(shares))
    return float(shares.mean()), float(error * math.sqrt(1 + len(p) / calibration))


def judge(seed: int, bars: int = BARS, **settings) -> dict:
    """Train on one series and look at others; return what was found, finest level first."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory() as folder:
        made_up = bars_of(simulate(rng, bars))
        settings = SETTINGS | {"seed": seed} | settings
        bundle = train(made_up, f"{folder}/hvae", kind="hvae", settings=settings, progress=False, runs=folder)
    usual = simulate(rng, bars)
    before = p_values(bundle, usual)
    window = STRIDES[-1]
    places = np.arange(10 * window, bars - window, 5 * window)
    spiked = usual.copy()
    spiked[places] += SPIKE * 0.01 * rng.choice([-1, 1], size=len(places))
    after = p_values(bundle, spiked)
    with_spike = places[:, None] + np.arange(window)  # [N,W] the bars whose window holds it
    delays = [_delay(bundle, usual, t) for t in places[:: max(len(places) // 20, 1)]]
    return {
        "seed": seed,
        "false_alarms": [false_alarms(level, bars // 4) for level in before[10 * window :].T],
        "spikes": len(places),
        "spikes_missed_below": float((after[places, 0] > ALARM).mean()),
        "top_alarms": [float((p[with_spike, -1] <= ALARM).mean()) for p in (before, after)],
        "changes": len(delays),
        "changes_missed_by_the_top": float(np.isinf(delays).mean()),
        "median_delay_bars": float(np.median(delays)),
        "collapsed": bundle.metrics.get("collapsed"),
    }


def _delay(bundle: ModelBundle, usual: np.ndarray, t: int) -> float:
    """Return how many bars after a change of variance at ``t`` the top alarms; inf for longer than its window."""
    changed = usual[: t + STRIDES[-1]].copy()
    changed[t:] *= math.sqrt(VARIANCE)
    alarms = np.flatnonzero(p_values(bundle, changed)[t:, -1] <= ALARM)
    return float(alarms[0]) if len(alarms) else math.inf


def is_sound(row: dict) -> bool:
    """Tell whether one series shows what is asked."""
    return (
        all(abs(share - ALARM) <= 3 * error for share, error in row["false_alarms"])
        and row["spikes_missed_below"] <= MISSED
        and row["top_alarms"][1] - row["top_alarms"][0] <= RAISED
        and row["changes_missed_by_the_top"] <= MISSED
    )


def main() -> None:
    """Judge all seeds and print every one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=len(SEEDS), help="how many of the series")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    rows = []
    for seed in SEEDS[: arguments.seeds]:
        rows.append(row := judge(seed))
        if not arguments.json:
            shares = ", ".join(f"{share:.1%} ± {error:.1%}" for share, error in row["false_alarms"])
            print(
                f"seed {seed}: false alarms at {ALARM:.0%}, finest level first: {shares}; of {row['spikes']} "
                f"spikes the finest level missed {row['spikes_missed_below']:.1%}, and the top alarmed in "
                f"{row['top_alarms'][1]:.1%} of the windows that hold one, {row['top_alarms'][0]:.1%} without it; "
                f"of {row['changes']} changes of variance the top missed "
                f"{row['changes_missed_by_the_top']:.1%}, after {row['median_delay_bars']:.0f} bars in the median",
                flush=True,
            )
    if arguments.json:
        print(json.dumps({"seeds": rows}, indent=2))
    sys.exit(not all(is_sound(row) for row in rows))


if __name__ == "__main__":
    main()
