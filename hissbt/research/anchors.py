"""What a scenario is anchored on: a moment of the real bars, a crisis with a name, or a kind of market."""

from __future__ import annotations

import re
from typing import NamedTuple

import pandas as pd

from hissbt.bars import parse_time
from hissbt.errors import ConfigError

CRISES = {"covid": "2020-03-12", "luna": "2022-05-07", "3ac": "2022-06-10", "ftx": "2022-11-06"}
"""The day (UTC) on which each began in the prices of Bitcoin."""
REGIMES = {"bull": 1.0, "bear": -1.0, "sideways": 0.0}
"""With their labels by ``hissbt.targets.market_regime``."""
_CLUSTER = re.compile(r"cluster:(\d+)")
_DATE = re.compile(r"\d{4}-\d{2}\b")  # begins so: pandas would take "now" and "may" for times too


class Anchor(NamedTuple):
    """Where or in what kind of market scenarios begin; one of the three is set."""

    moment: pd.Timestamp | None = None
    """Open of the first bar (UTC)."""
    regime: str | None = None
    """One of ``REGIMES``."""
    cluster: int | None = None
    """Which cluster of a model's top latent, the calmest being 0."""


def parse_anchor(text: str) -> Anchor:
    """Return what ``text`` means: a date as 2022-06-10, a month as 2022-06, a crisis, a regime, or cluster:K.

    Raises ConfigError for anything else, BarsError for a date that there is not.
    """
    name = text.strip().lower()
    if name in REGIMES:
        return Anchor(regime=name)
    if found := _CLUSTER.fullmatch(name):
        return Anchor(cluster=int(found[1]))
    date = CRISES.get(name, name)
    if not _DATE.match(date):
        names = ", ".join((*CRISES, *REGIMES))
        raise ConfigError(
            f"unknown anchor {text!r}: write a date or a month as 2022-06, one of {names}, or cluster:K"
        )
    return Anchor(moment=parse_time(date))
