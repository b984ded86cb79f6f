"""All rivals, each with the settings that it is tried with: three, for all that have anything to choose."""

from functools import partial

import pandas as pd

from hissbt.econometrics import Garch
from hissbt.research.rivals import rules, tabular
from hissbt.research.rivals.econometric import ewma, garch, har
from hissbt.research.rivals.networks import HISS, network_forecast
from hissbt.research.rivals.task import Rival
from hissbt.timeframe import is_intraday

TRAINING = {"window": 256, "burn_in": 64, "batch_size": 16, "epoch_steps": 20, "max_epochs": 12, "patience": 4}
QUICK_TRAINING = {"window": 64, "burn_in": 16, "batch_size": 4, "epoch_steps": 4, "max_epochs": 2}
NETWORK_SETTINGS = (
    {"lr": 2e-3},
    {"lr": 1e-3, "network": {"dropout": 0.1}},
    {"lr": 4e-4, "network": {"dropout": 0.1}},
)
NETWORKS = {
    "HiSS": ("hiss", HISS),
    "flat S4D": ("hiss", {"strides": (), "blocks": "s4d", "n_layers": 2}),
    "flat Mamba": ("hiss", {"strides": (), "blocks": "mamba"}),
    "LSTM": ("lstm", {}),
    "GRU": ("gru", {}),
    "Transformer": ("transformer", {"window_bars": 128}),
    "m-GRU": ("m-gru", {}),
    "m-LSTM": ("m-lstm", {}),
    "m-TKAN": ("m-tkan", {"n_sublayers": 1, "sub_output": 4, "grid_size": 3}),
}
TABULAR = {
    "ridge": ("linear", tabular.ridge, None, [{"alpha": alpha} for alpha in (1.0, 100.0, 10_000.0)]),
    "random forest": ("tree", tabular.forest, None, [{"leaf": leaf} for leaf in (50, 200, 800)]),
    "boosted trees": (
        "tree",
        tabular.boosting,
        None,
        [{"rounds": rounds, "rate": 0.03} for rounds in (50, 150, 400)],
    ),
    "support vectors": (
        "kernel",
        tabular.support,
        None,
        [{"gamma": gamma, "cost": 0.01} for gamma in (0.003, 0.01, 0.03)],
    ),
    "nearest neighbors": (
        "neighbors",
        tabular.neighbors,
        tabular.SAMPLE,
        [{"k": k} for k in (50, 200, 800)],
    ),
}
RANDOM = ("random forest", "support vectors")


def rivals(timeframe: pd.Timedelta, quick: bool = False) -> tuple[Rival, ...]:
    """Return everyone who competes on bars of this length, HiSS first.

    ``quick`` makes the networks learn for a moment only: to see whether everything works.
    """
    short, middle, long = spans(timeframe)
    windows = {"windows": (1, middle, long)}
    training = QUICK_TRAINING if quick else TRAINING
    return (
        *(
            Rival(
                name,
                "hiss" if name == "HiSS" else "network",
                partial(network_forecast, kind, network, training),
                NETWORK_SETTINGS,
                is_random=True,
            )
            for name, (kind, network) in NETWORKS.items()
        ),
        *(
            Rival(
                name,
                family,
                partial(tabular.tabular_forecast, learner, most_rows),
                tuple(settings),
                is_random=name in RANDOM,
            )
            for name, (family, learner, most_rows, settings) in TABULAR.items()
        ),
        Rival("EWMA", "econometric", ewma, tuple({"bars": bars} for bars in (short, middle, long))),
        Rival("GARCH", "econometric", partial(garch, Garch())),
        Rival("GJR-t", "econometric", partial(garch, Garch(asymmetric=True, student=True))),
        Rival("HAR", "econometric", partial(har, ("returns",)), (windows,)),
        Rival("HAR + range", "econometric", partial(har, ("returns", "range")), (windows,)),
        Rival("HAR + range + season", "econometric", partial(har, ("returns", "range", "season")), (windows,)),
        Rival("momentum", "rule", rules.momentum, tuple({"bars": bars} for bars in (short, middle, long))),
        Rival("buy and hold", "rule", rules.buy_and_hold),
        Rival("random walk", "rule", rules.random_walk),
    )


def spans(timeframe: pd.Timedelta) -> tuple[int, int, int]:
    """Return three spans in bars: a quarter day, a day and a week; for days a week, a month and a quarter."""
    if not is_intraday(timeframe):
        return 5, 22, 66
    day = max(round(pd.Timedelta(days=1) / timeframe), 4)
    return day // 4, day, 7 * day
