"""Whether the tests of significance err as often as they say, over real bars, and find an edge that is there.

``python -m tests.soak.calibration [--bars sp500] [--timeframe 1h] [--since DATE] [--hold 2] [--repeats 20]`` lets
200 strategies without skill, gross, trade real returns, again and again with other seeds: each is long half of the
bars and short the other half, in runs of the same lengths in another order, so that none has drift and all have
the same turnover. Reported is how many pass each test at 5 %: strategy by strategy, and family by family (20
strategies for SPA, over sums of returns, as it takes long; all 200 for the deflated ratio and the probability of
overfitting); and what the same tests say of a strategy that knows the next sign on some of the bars.

Exit 1 if, by a binomial test at 1 %, the first 200 strategies do not pass as often as they should, or all of them
pass more often, or if the mean probability of overfitting is not 0.5, or what was planted is not found. All of
them may pass less often: real returns turn back a little, which makes a signal that lasts safer than independent
bars would, and verdicts take no credit for that. At ``--hold 2`` the sides of neighboring bars are uncorrelated.
The deflated ratio of the best of 200 passes hardly ever without skill, and finds nothing that ends less than about
4.4 standard errors above zero: on hourly bars of five years give ``--knows 0.05``.
"""

import argparse
import json
import sys

import numpy as np
from scipy.stats import binomtest
from scipy.stats import t as student

from hissbt.feeds import load_bars
from hissbt.research.performance import strategy_returns
from hissbt.research.significance import Moments, dsr, pbo, pesaran_timmermann, psr, superior_ability, weigh

STRATEGIES, FAMILY = 200, 20
LEVEL, DOUBT = 0.05, 0.01
SPA_REPEATS, SPA_ROWS, SPA_BLOCK = 300, 1000, 5


def positions(bars: int, hold: float, rng: np.random.Generator) -> np.ndarray:
    """Return [N,bars] of ±1 by turns; runs last ``hold`` bars on average, and are the same ones for all N.

    An odd bar at the end is spent flat.
    """
    half = bars // 2
    runs = max(int(half / hold), 1)
    cuts = [np.sort(rng.choice(np.arange(1, half), runs - 1, replace=False)) for _ in range(2)]
    lengths = [np.diff([0, *cut, half]) for cut in cuts]  # of what is held on either side, half of the bars each
    found = np.zeros((STRATEGIES, bars), dtype=np.int8)
    for row in found:
        order = np.stack([rng.permutation(side) for side in lengths], axis=1).ravel()
        sides = np.tile([1, -1], runs) * rng.choice([1, -1])
        row[: 2 * half] = np.repeat(sides, order)
    return found


def best_of(returns: np.ndarray, seed: int) -> float:
    """Return the p-value by SPA that no strategy of ``returns`` [N,T] earns anything."""
    width = returns.shape[1] // SPA_ROWS
    sums = returns[:, : width * SPA_ROWS].reshape(len(returns), SPA_ROWS, width).sum(axis=2)
    nothing = np.zeros(SPA_ROWS)
    return superior_ability(nothing, -sums.T, SPA_BLOCK, seed=seed, repeats=SPA_REPEATS).consistent


def without_skill(asset: np.ndarray, hold: float, seed: int) -> dict[str, list]:
    """Put 200 strategies through every test: True where one, or a family, passes at 5 %; and their pbo."""
    held = positions(len(asset), hold, np.random.default_rng(seed))
    returns = strategy_returns(held, asset)
    moments = [Moments.of(row) for row in returns]
    best = max(moments, key=lambda found: found.sharpe)
    families = [returns[at : at + FAMILY] for at in range(0, STRATEGIES, FAMILY)]
    return {
        "psr": [psr(found) >= 1 - LEVEL for found in moments],
        "psr_of_verdict": [weigh(row, 1).psr >= 1 - LEVEL for row in returns],
        "pesaran_timmermann": [pesaran_timmermann(asset, row).pvalue < LEVEL for row in held],
        "dsr_of_best": [dsr(best, [found.sharpe for found in moments]).dsr >= 1 - LEVEL],
        "spa": [best_of(family, seed) < LEVEL for family in families],
        "pbo": [pbo(returns.T).pbo],
    }


def with_skill(asset: np.ndarray, hold: float, knows: float, seed: int) -> dict:
    """Return what the tests say of a strategy that foresees the sign of a share of the bars, among 199 without."""
    rng = np.random.default_rng(seed)
    held = positions(len(asset), hold, rng).astype(np.float64)
    held[0] = np.where(rng.random(len(asset)) < knows, np.sign(asset), held[0])
    returns = strategy_returns(held, asset)
    sharpes = [Moments.of(row).sharpe for row in returns]
    probabilities = {"psr": psr(returns[0]), "dsr": dsr(returns[0], sharpes).dsr}
    errors = {
        "pesaran_timmermann": pesaran_timmermann(asset, held[0]).pvalue,
        "spa": best_of(returns[:FAMILY], seed),
        "pbo": pbo(returns.T).pbo,
    }
    return {
        "seed": seed,
        "knows": knows,
        "sharpe_per_bar": sharpes[0],
        **probabilities,
        **errors,
        "fine": bool(min(probabilities.values()) >= 1 - LEVEL and max(errors.values()) < LEVEL),
    }


def share(passed: list[bool], alternative: str) -> dict:
    """Return how many passed, with a 95 % interval, and whether a binomial test at 1 % thinks that 5 % would."""
    test = binomtest(sum(passed), len(passed), LEVEL, alternative)
    interval = binomtest(sum(passed), len(passed)).proportion_ci()
    return {
        "passed": int(sum(passed)),
        "of": len(passed),
        "share": sum(passed) / len(passed),
        "interval": [round(float(bound), 4) for bound in interval],
        "fine": bool(test.pvalue >= DOUBT),
    }


def one_half(found: list[float]) -> dict:
    """Return the mean of probabilities of overfitting, its error, and whether it is one half."""
    mean, error = float(np.mean(found)), float(np.std(found, ddof=1) / np.sqrt(len(found)))
    allowed = student.isf(DOUBT / 2, len(found) - 1) * error
    return {"mean": mean, "error": error, "fine": bool(abs(mean - 0.5) <= allowed)}


def calibrate(asset: np.ndarray, hold: float, repeats: int, knows: float) -> dict[str, dict]:
    """Return what passed each test, the mean probability of overfitting, and what became of what was planted."""
    rows = []
    for seed in range(repeats):
        rows.append(without_skill(asset, hold, seed))
        print(f"repeat {seed + 1} of {repeats}", file=sys.stderr)
    every = {name: [value for row in rows for value in row[name]] for name in rows[0]}
    first = {f"{name}_of_first_200": rows[0][name] for name in ("psr", "pesaran_timmermann")}
    fitted = every.pop("pbo")
    return {
        **{name: share(passed, "two-sided") for name, passed in first.items()},
        **{name: share(passed, "greater") for name, passed in every.items()},
        "pbo": one_half(fitted),
        "planted": with_skill(asset, hold, knows, repeats),
    }


def main() -> None:
    """Calibrate over the bars that are asked for, and print every figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bars", default="sp500", help="bars, as load_bars names them")
    parser.add_argument("--timeframe", help="of a file, such as 1h")
    parser.add_argument("--since", help="leave out the bars before")
    parser.add_argument("--hold", type=float, default=2, help="bars that a position lasts, on average")
    parser.add_argument("--repeats", type=int, default=20, help="how often 200 strategies are drawn, seeds from 0")
    parser.add_argument("--knows", type=float, default=0.2, help="share of the bars the planted strategy foresees")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args()
    bars = load_bars(asked.bars, timeframe=asked.timeframe, since=asked.since)
    asset = bars.frame["close"].pct_change().to_numpy()[1:]
    results = calibrate(asset, asked.hold, asked.repeats, asked.knows)
    settings = {
        "bars": asked.bars,
        "sha256": bars.sha256,
        "span": f"{bars.frame.index[0]:%Y-%m-%d} to {bars.frame.index[-1]:%Y-%m-%d}",
        "returns": len(asset),
        "hold": asked.hold,
        "repeats": asked.repeats,
    }
    if asked.json:
        print(json.dumps({**settings, **results}, indent=2))
    else:
        print("\n".join(f"{name}: {value}" for name, value in {**settings, **results}.items()))
    sys.exit(not all(result["fine"] for name, result in results.items() if name != "psr"))


if __name__ == "__main__":
    main()
