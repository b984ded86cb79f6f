"""Held-out likelihood of a network with two regimes against its one-regime twin, on series that have two.

``python -m tests.soak.two_regimes [--kind m-gru] [--json]`` fits both on each of ten series, seeds fixed, and
lists all ten; exit 1 if the switching network has the higher likelihood on fewer than nine. In one regime of the
series a return tends to be repeated, in the other to be undone; nothing but the returns tells which one holds. A
covariate drives how long a regime lasts. Both networks see the same, have layers of the same width, and are
trained alike.
"""

import argparse
import json
import sys

import numpy as np
import torch

from hissbt.models import SequenceNet, build_network
from hissbt.models.switching import LikelihoodLoss, return_log_likelihood

SEEDS = tuple(range(10))
WANTED = 9
TRAIN, TEST = 2000, 2000
MOMENTUM = np.array([0.6, -0.6])
DEVIATION = np.array([0.7, 1.1])
WINDOW, BURN_IN, STRIDE = 250, 30, 125
EPOCHS, LR = 60, 0.01


def simulate(seed: int) -> np.ndarray:
    """Return [T,2]: the return of each bar and a covariate that drives the next switch."""
    rng = np.random.default_rng(seed)
    series, regime, last, driver = np.empty((TRAIN + TEST, 2)), 0, 0.0, 0.0
    for t in range(len(series)):
        if rng.random() < 0.005 + 0.045 / (1 + np.exp(-2 * driver)):  # driver of the bar before
            regime = 1 - regime
        last = MOMENTUM[regime] * last + DEVIATION[regime] * rng.normal()
        driver = 0.9 * driver + np.sqrt(1 - 0.9**2) * rng.normal()
        series[t] = last, driver
    return series


def fit(kind: str, x: torch.Tensor, seed: int) -> SequenceNet:
    """Fit a network on the training span of x [1,T,2], by the likelihood of the return after each bar."""
    torch.manual_seed(seed)
    network = build_network(kind, {"n_features": 2, "d_model": 8})
    optimizer = torch.optim.Adam(network.parameters(), LR)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    windows = x[0, :TRAIN].unfold(0, WINDOW + 1, STRIDE).transpose(1, 2)  # [N,WINDOW+1,2]
    mask = torch.ones(len(windows), WINDOW, 1)
    mask[:, :BURN_IN] = 0
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        loss = LikelihoodLoss()(network(windows[:, :-1]), {"return": windows[:, 1:, :1]}, mask)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return network.eval()


@torch.no_grad()
def held_out(network: SequenceNet, x: torch.Tensor) -> float:
    """Return the mean log-likelihood, in nats a bar, of the test span's returns, run from the first bar on."""
    outputs = network(x[:, :-1])
    return return_log_likelihood(outputs, x[:, 1:, :1])[0, TRAIN:].mean().item()


def compare(kind: str, seed: int) -> dict:
    """Fit a switching network and its twin on one series; return both likelihoods and the difference."""
    x = torch.from_numpy(simulate(seed).astype(np.float32))[None]
    two, one = (held_out(fit(name, x, seed), x) for name in (kind, kind.removeprefix("m-")))
    return {"seed": seed, "two_regimes": two, "one_regime": one, "gain": two - one}


def main() -> None:
    """Compare on all seeds and print every one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", default="m-gru", choices=("m-gru", "m-lstm", "m-tkan"))
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [compare(arguments.kind, seed) for seed in SEEDS]
    won = sum(row["gain"] > 0 for row in rows)
    if arguments.json:
        print(json.dumps({"kind": arguments.kind, "won": won, "wanted": WANTED, "seeds": rows}, indent=2))
    else:
        print("seed  two regimes  one regime     gain   (nats a bar, held out)")
        for row in rows:
            print("{seed:4d}  {two_regimes:11.4f}  {one_regime:10.4f}  {gain:+7.4f}".format(**row))
        print(f"{arguments.kind} wins {won} of {len(rows)}; {WANTED} wanted")
    sys.exit(won < WANTED)


if __name__ == "__main__":
    main()
