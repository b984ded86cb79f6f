"""Networks compared with their rivals and with publications: ``compare`` looks a preset up and runs it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from hissbt.bars import Bars
from hissbt.errors import ConfigError
from hissbt.research import contest, switching_paper, volatility
from hissbt.research.hvae_report import protocol as hvae
from hissbt.research.hvae_report.comparison import compare_hvae
from hissbt.research.progress import Progress
from hissbt.research.results import check_out
from hissbt.research.three_scales import protocol as three_scales
from hissbt.research.three_scales.comparison import compare_three_scales


class Preset(NamedTuple):
    """A comparison that has a name."""

    run: Callable[..., tuple[Path, dict]]
    """Given bars, if it has any, and a protocol."""
    whole: Any
    """Its protocol,"""
    short: Any
    """and that of a short run."""
    bars: Literal["none", "one", "several"] = "one"
    """Whether it is run on no bars, on those of one symbol, or learns from further symbols too."""


PRESETS = {
    "rivals": Preset(contest.compare_rivals, contest.FULL, contest.QUICK),
    "volatility": Preset(volatility.compare_volatility, volatility.FULL, volatility.QUICK, "several"),
    "volatility-minutes": Preset(volatility.compare_volatility, volatility.MINUTES, volatility.QUICK, "several"),
    "three-scales": Preset(compare_three_scales, three_scales.FULL, three_scales.QUICK, "none"),
    "switching-paper": Preset(
        switching_paper.compare_switching_paper, switching_paper.PAPER, switching_paper.QUICK
    ),
    "hvae": Preset(compare_hvae, hvae.FULL, hvae.QUICK),
}


def compare(
    bars: Bars | None = None,
    preset: str = "rivals",
    *,
    also: Sequence[Bars] = (),
    seeds: int | None = None,
    quick: bool = False,
    out: str | Path = "runs",
    workers: int = 2,
    progress: Progress | None = None,
) -> tuple[Path, dict]:
    """Run a preset's comparison on ``bars``; return the folder with its page and results.json, and the results.

    ``also`` are the bars of further symbols, for a preset that learns from several. ``seeds`` are how many times
    each network is trained, with seeds from 0 on; the preset's number if left out. ``quick`` shows what the page
    looks like, with figures that mean nothing. ``progress`` is told after each piece of work what it was, how many
    are done, and of how many.
    Raises ConfigError for an unknown preset, bars that it does not take or lacks, or an ``out`` that is a file,
    BarsError for bars that do not reach over its span or are too few.
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}: choose one of {', '.join(PRESETS)}")
    check_out(out)
    chosen = PRESETS[preset]
    given = _given(preset, chosen.bars, bars, also)
    protocol = chosen.short if quick else chosen.whole
    if seeds is not None:
        protocol = replace(protocol, seeds=tuple(range(seeds)))
    further = {"also": also} if also else {}
    return chosen.run(*given, protocol, out=out, workers=workers, progress=progress, **further)


def _given(preset: str, takes: str, bars: Bars | None, also: Sequence[Bars]) -> tuple[Bars, ...]:
    """Return the bars that a preset is run on, if any."""
    if takes == "none":
        if bars is not None or also:
            raise ConfigError(f"preset {preset} makes its own series: leave the bars out")
        return ()
    if bars is None:
        raise ConfigError(f"preset {preset} is run on bars: name them with --bars")
    if also and takes == "one":
        raise ConfigError(f"preset {preset} is run on one symbol: leave the further bars out")
    return (bars,)
