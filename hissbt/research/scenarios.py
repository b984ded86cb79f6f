"""Scenarios by name: generators and anchors looked up, a strategy run through them, a page written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import backtrader as bt
import numpy as np
import pandas as pd

from hissbt.bars import Bars, Time, parse_time
from hissbt.bundle import ModelBundle
from hissbt.errors import BarsError, ConfigError
from hissbt.features import FeatureSet
from hissbt.feeds.funding import Funding
from hissbt.research.anchors import REGIMES, Anchor, parse_anchor
from hissbt.research.generators import RIVALS, Generator
from hissbt.research.progress import Progress
from hissbt.research.results import check_out
from hissbt.research.stress import stress, write_stress
from hissbt.research.stress.risk import risk_by_level
from hissbt.targets import market_regime
from hissbt.trading.costs import Costs

HVAE = "hvae"
GENERATORS = (HVAE, *RIVALS)
"""The names that generators have."""


def scenarios(
    bars: Bars,
    strategy: type[bt.Strategy],
    *,
    model: str | Path | ModelBundle | None = None,
    fix: Sequence[str] | None = None,
    anchor: str | None = None,
    since: Time | None = None,
    generators: Sequence[str] | None = None,
    n: int = 500,
    length: int = 720,
    seed: int = 0,
    risk: int = 0,
    params: Mapping | None = None,
    costs: Costs | Mapping | None = None,
    funding: Funding | None = None,
    workers: int = 2,
    out: str | Path = "runs",
    name: str | None = None,
    progress: Progress | None = None,
) -> tuple[Path, dict]:
    """Run ``strategy`` through scenarios; return the folder with report.html, and the results.

    ``model`` is the hierarchical VAE, and ``generators`` are names of ``GENERATORS``, by default all that there is
    a model for. ``anchor`` is a date or month, a crisis, a regime or a cluster (``hissbt.research.anchors``); in
    the model's scenarios the latents of the levels ``fix``, the top one if left out, are those of the anchor.
    Scenarios begin at ``since``, or else at the moment of the anchor, or else where the model's training ends. The
    rest is as in ``hissbt.research.stress.stress``, and ``name`` is what the folder calls the strategy. With
    ``risk`` so many scenarios are run with each level of the model moved up and down
    (``hissbt.research.stress.risk``).

    Raises ConfigError for an unknown generator or anchor, for a generator, or risk, that lacks its model, where
    nothing says when to begin, or if ``out`` is a file; and what ``stress`` does.
    """
    check_out(out)
    bundle = ModelBundle.load(model, kind=HVAE) if isinstance(model, str | Path) else model
    where = parse_anchor(anchor) if anchor else Anchor()
    names = _names(generators, bundle)
    if fix is None and HVAE in names:
        fix = (f"z{len(bundle.config['strides'])}",)
    if risk and HVAE not in names:
        raise ConfigError(
            f"risk by level is that of generator {HVAE}, which is not run: give it a model, or no risk"
        )
    beginning = _beginning(since, where, bundle)
    stretch = _stretch(bars, where, beginning, length, bundle) if HVAE in names else None
    run = {
        "since": beginning,
        "length": length,
        "seed": seed,
        "params": params,
        "costs": costs,
        "funding": funding,
        "workers": workers,
        "progress": progress,
    }
    found = stress(bars, strategy, [_generator(each, bundle, fix, stretch) for each in names], n=n, **run)
    asked = {"anchor": anchor, "latents": _described(stretch), "fix": list(fix) if HVAE in names else []}
    more = {"asked": asked}
    if risk:
        information = {f"z{level['level']}": level["kl_a_latent"] for level in bundle.metrics["levels"]}
        shifted = partial(_generator, HVAE, bundle, fix, stretch)
        more["risk"] = risk_by_level(bars, strategy, shifted, information, n=risk, **run)
    found = replace(found, results=found.results | more)
    return write_stress(found, out, name), found.results


def _names(generators: Sequence[str] | None, bundle: ModelBundle | None) -> Sequence[str]:
    if generators is None:
        return GENERATORS if bundle is not None else tuple(RIVALS)
    unknown = [name for name in generators if name not in GENERATORS]
    if unknown:
        raise ConfigError(f"unknown generator {unknown[0]!r}: choose from {', '.join(GENERATORS)}")
    if HVAE in generators and bundle is None:
        raise ConfigError(f"generator {HVAE} has no model: name the bundle of one, or leave that generator out")
    return generators


def _generator(
    name: str,
    bundle: ModelBundle,
    fix: Sequence[str],
    anchor: Bars | int | None,
    shift: Mapping[str, float] | None = None,
) -> Generator:
    if name in RIVALS:
        return RIVALS[name]
    # Imported here because it brings torch.
    from hissbt.research.generators.hvae import HVAEGenerator

    return HVAEGenerator(bundle, fix=fix, anchor=anchor, shift=shift)


def _stretch(
    bars: Bars, anchor: Anchor, since: pd.Timestamp, length: int, bundle: ModelBundle
) -> Bars | int | None:
    """Return what the model's latents are taken from: as many windows as scenarios have, or one of a regime."""
    if anchor == Anchor():
        return None
    if anchor.cluster is not None:
        return anchor.cluster
    window = max(bundle.config["strides"])
    if anchor.moment is not None:
        name, first = f"{anchor.moment:%Y-%m-%d}", int(bars.open_times.searchsorted(anchor.moment))
        known = len(bars) - first if anchor.moment >= bars.open_times[0] else 0
        windows = min(-(-length // window), known // window)
    else:
        name, first = anchor.regime, _last_of(anchor.regime, bars[: bars.open_times.searchsorted(since)], window)
        windows = int(first is not None)
    if not windows:
        raise BarsError(
            f"the bars of {bars.market.symbol} have no window of {window} bars of the anchor {name}: load others, "
            "or choose another anchor"
        )
    # What the features need before the first window; a whole one more would count as one of the anchor.
    context = min(FeatureSet(bundle.features).warmup, window - 1)
    return bars[max(first - context, 0) : first + windows * window]


def _last_of(regime: str, history: Bars, window: int) -> int | None:
    """Return where the last window of a regime begins in history, None if there is none."""
    labels = market_regime(history.frame["close"].to_numpy(), window)
    ends = np.flatnonzero(labels == REGIMES[regime])
    return int(ends[-1]) + 1 - window if len(ends) else None


def _beginning(since: Time | None, anchor: Anchor, bundle: ModelBundle | None) -> pd.Timestamp:
    if since is not None:
        return parse_time(since)
    if anchor.moment is not None:
        return anchor.moment
    if bundle is not None:
        return parse_time(bundle.training_span["end"])
    raise ConfigError("nothing says when the scenarios begin: give an anchor with a date, or a beginning")


def _described(stretch: Bars | int | None) -> str | None:
    if isinstance(stretch, Bars):
        return f"bars from {stretch.open_times[0]:%Y-%m-%d %H:%M} to {stretch.frame.index[-1]:%Y-%m-%d %H:%M} UTC"
    return None if stretch is None else f"cluster {stretch}"
