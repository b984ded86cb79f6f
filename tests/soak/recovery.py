"""Do estimates find what a series was made with? Simulated from the source's Table 1, fitted, and counted.

``python -m tests.soak.recovery [--seeds 40] [--rows 3060] [--starts 3] [--json]``: two regimes of daily Bitcoin
returns as in arXiv 2407.15236, Table 1. For each seed: how far the estimates are from the truth in standard
errors, both ways of working them out, and how often the filtered and the smoothed regime is the true one. Exit 1
if the share within two standard errors is not 95 % within binomial error (a parameter at a time, at 1 in 1,000),
or the mean filtered hit rate is not 0.83 ± 0.01.
"""

import argparse
import json
import sys
from dataclasses import dataclass

import numpy as np
from scipy.stats import binom, norm

from hissbt.econometrics import MarkovFit, MarkovSwitching
from hissbt.econometrics.estimation import statsmodels_model

MODEL = MarkovSwitching()
TABLE_1 = MarkovFit(MODEL, (0.8643, 0.1479, 0.0014, 0.0015, 0.0002, 0.0024))
HIT_RATE, HIT_TOLERANCE = 0.83, 0.01
NOMINAL = 2 * norm.cdf(2) - 1  # 0.9545
ERROR_LEVEL = 1e-3


@dataclass(frozen=True)
class Recovery:
    """One row a seed; P parameters in the order of ``MODEL.names()``."""

    estimates: np.ndarray
    """[S,P]"""
    approx: np.ndarray
    """[S,P] standard errors from the Hessian."""
    robust: np.ndarray
    """[S,P] standard errors from the sandwich."""
    hits: np.ndarray
    """[S] share of bars whose filtered regime is the true one."""
    smoothed_hits: np.ndarray
    """[S] the same for smoothed regimes, which know the future."""

    def covered(self, errors: np.ndarray) -> np.ndarray:
        """Return how many seeds [P] have the truth within two standard errors."""
        return (np.abs(self.estimates - TABLE_1.params) <= 2 * errors).sum(axis=0)

    def plausible(self) -> tuple[int, int]:
        """Return the fewest and most seeds that binomial error leaves for one parameter."""
        low, high = binom.ppf([ERROR_LEVEL / 2, 1 - ERROR_LEVEL / 2], len(self.hits), NOMINAL)
        return int(low), int(high)

    def passes(self) -> bool:
        """Tell whether coverage and hit rate are what they should be."""
        low, high = self.plausible()
        covered = np.concatenate([self.covered(self.approx), self.covered(self.robust)])
        hit_rate = abs(self.hits.mean() - HIT_RATE) <= HIT_TOLERANCE
        return bool((covered >= low).all() and (covered <= high).all() and hit_rate)

    def summary(self) -> dict:
        """Return the figures for JSON."""
        low, high = self.plausible()
        return {
            "seeds": len(self.hits),
            "parameters": {
                name: {
                    "truth": TABLE_1.params[p],
                    "mean": self.estimates[:, p].mean(),
                    "deviation": self.estimates[:, p].std(ddof=1),
                    "mean_error_approx": self.approx[:, p].mean(),
                    "mean_error_robust": self.robust[:, p].mean(),
                    "covered_approx": int(self.covered(self.approx)[p]),
                    "covered_robust": int(self.covered(self.robust)[p]),
                }
                for p, name in enumerate(MODEL.names())
            },
            "plausible": [low, high],
            "covered_share_approx": float(self.covered(self.approx).mean() / len(self.hits)),
            "covered_share_robust": float(self.covered(self.robust).mean() / len(self.hits)),
            "hit_rate": [float(self.hits.mean()), float(self.hits.std(ddof=1))],
            "hit_rate_smoothed": [float(self.smoothed_hits.mean()), float(self.smoothed_hits.std(ddof=1))],
            "passes": self.passes(),
        }


def simulate(fit: MarkovFit, rows: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return regimes [T] and returns [T] of a fitted model without lags or covariates."""
    transition, chances = fit.transition(), rng.random(rows)
    regimes = np.empty(rows, dtype=int)
    weights = np.linalg.matrix_power(transition, 10_000)[0]  # the steady state
    for t in range(rows):
        regimes[t] = min(np.searchsorted(np.cumsum(weights), chances[t]), fit.regimes - 1)
        weights = transition[regimes[t]]
    parts = fit.parts
    return regimes, parts.intercepts[regimes] + np.sqrt(parts.variances[regimes]) * rng.standard_normal(rows)


def recover(seeds: range, rows: int = 3060, starts: int = 3) -> Recovery:
    """Simulate and fit once a seed."""
    results = []
    for seed in seeds:
        regimes, returns = simulate(TABLE_1, rows, np.random.default_rng(seed))
        fit = MODEL.fit(returns, starts=starts, seed=seed)
        filtered = fit.filter(returns).filtered
        smoothed = statsmodels_model(MODEL, returns, np.empty((rows, 0))).smooth(np.array(fit.params))
        hits = [(p.argmax(axis=1) == regimes).mean() for p in (filtered, smoothed.smoothed_marginal_probabilities)]
        results.append((fit.params, fit.errors_approx, fit.errors_robust, *hits))
    return Recovery(*(np.array(column) for column in zip(*results, strict=True)))


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.recovery", description=__doc__)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--rows", type=int, default=3060)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    recovery = recover(range(options.seeds), options.rows, options.starts)
    summary = recovery.summary()
    if options.json:
        print(json.dumps(summary))
        return 0 if summary["passes"] else 1
    low, high = summary["plausible"]
    print(
        f"{options.seeds} seeds of {options.rows} rows; within 2 standard errors, {low} to {high} would be chance:"
    )
    for name, row in summary["parameters"].items():
        print(
            f"  {name:8} truth {row['truth']:<8g} mean {row['mean']:<10.4g} deviation {row['deviation']:<10.3g} "
            f"error {row['mean_error_approx']:<10.3g} robust {row['mean_error_robust']:<10.3g} "
            f"covered {row['covered_approx']} and {row['covered_robust']}"
        )
    print(f"covered: {summary['covered_share_approx']:.3f} approx, {summary['covered_share_robust']:.3f} robust")
    for name in ("hit_rate", "hit_rate_smoothed"):
        print("{}: {:.4f} ± {:.4f}".format(name, *summary[name]))
    print("passes" if summary["passes"] else "FAILS")
    return 0 if summary["passes"] else 1


if __name__ == "__main__":
    sys.exit(main())
