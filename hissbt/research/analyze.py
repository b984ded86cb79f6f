"""What a trained hierarchy knows, level by level: ``analyze`` finds out by kind."""

from pathlib import Path

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.research.hvae_report.analysis import analyze_hvae
from hissbt.research.level_report.analysis import analyze_hiss
from hissbt.research.progress import Progress


def analyze(
    bars: Bars,
    model: str | Path | ModelBundle,
    *,
    out: str | Path = "runs",
    progress: Progress | None = None,
) -> tuple[Path, dict]:
    """Analyze a bundle of kind hiss or hvae over ``bars`` that reach beyond its training span.

    Returns the new folder with report.html and results.json, and the results. Raises BundleError for a bundle of
    another kind, BarsError for bars of another length, or with too few of them unseen.
    """
    bundle = model if isinstance(model, ModelBundle) else ModelBundle.load(model)
    if bundle.kind == "hvae":
        return analyze_hvae(bars, bundle, out=out)
    return analyze_hiss(bars, bundle, out=out, progress=progress)
