"""The whole road once, on data that comes with the installation: train, backtest out of sample, tearsheet."""

from pathlib import Path

from hissbt.backtest import Run, run_backtest
from hissbt.feeds import load_bars
from hissbt.strategies.hiss import HiSSStrategy
from hissbt.training import train

TRAIN_UNTIL = "2013-01-01"

SETTINGS = {
    "horizon": 5,
    "network": {"d_model": 16, "d_state": 16, "dropout": 0.1},
    "window": 256,
    "burn_in": 64,
    "max_epochs": 20,
    "loss_weights": [1.0, 1.0, 1.0],
}

# Calibrated probabilities rarely leave 0.45 … 0.55, so the strategy's own 0.6 and 0.4 would hardly ever trade.
RULES = {"prob_long": 0.55, "prob_short": 0.45, "scale": 0.25}


def run_demo(out: str | Path = "runs", progress: bool = True) -> Run:
    """Train a small HiSS on the S&P 500 from 1999 to 2012 and trade it from 2013 to 2018; return the run.

    The bundle stays in ``<out>/demo-bundle``, for the reader's own backtests.
    """
    bars = load_bars("sp500")
    target = Path(out) / "demo-bundle"
    bundle = train(bars, target, until=TRAIN_UNTIL, settings=SETTINGS, progress=progress, runs=out)
    return run_backtest(bars, HiSSStrategy, model=bundle, params=RULES, since=TRAIN_UNTIL, out=out)
