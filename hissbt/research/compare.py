"""Networks compared with publications and with cheaper models: ``compare`` looks a preset up and runs it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from hissbt.bars import Bars
from hissbt.errors import ConfigError
from hissbt.research import switching_paper
from hissbt.research.hvae_report.comparison import compare_hvae
from hissbt.research.hvae_report.protocol import FULL, QUICK
from hissbt.research.results import check_out

PRESETS = {
    "switching-paper": (switching_paper.compare_switching_paper, switching_paper.PAPER, switching_paper.QUICK),
    "hvae": (compare_hvae, FULL, QUICK),
}
"""By name: what runs it, its protocol, and that of a short run."""


def compare(
    bars: Bars,
    preset: str = "switching-paper",
    *,
    seeds: int | None = None,
    quick: bool = False,
    out: str | Path = "runs",
    workers: int = 2,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[Path, dict]:
    """Run a preset's comparison on ``bars``; return the folder with its page and results.json, and the results.

    ``seeds`` are how many times each network is trained, with seeds from 0 on; the preset's number if left out.
    ``quick`` shows what the page looks like, with figures that mean nothing. ``progress`` is told after each piece
    of work what it was, how many are done, and of how many.
    Raises ConfigError for an unknown preset or an ``out`` that is a file, BarsError for bars that do not reach
    over its span or are too few.
    """
    if preset not in PRESETS:
        raise ConfigError(f"unknown preset {preset!r}: choose one of {', '.join(PRESETS)}")
    check_out(out)
    run, whole, short = PRESETS[preset]
    protocol = short if quick else whole
    if seeds is not None:
        protocol = replace(protocol, seeds=tuple(range(seeds)))
    return run(bars, protocol, out=out, workers=workers, progress=progress)
