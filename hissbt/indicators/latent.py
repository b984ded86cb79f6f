"""The latents of a trained hierarchical VAE as Backtrader lines: how unusual the bars are, level by level."""

from pathlib import Path

import numpy as np
from numba import njit

from hissbt.bundle import ModelBundle
from hissbt.errors import BundleError
from hissbt.indicators.streamed import StreamedIndicator, load_bundle
from hissbt.stream.networks import latent_names


class LatentIndicator(StreamedIndicator):
    """All but the lines of ``Latent`` and of what ``Latent.of`` makes."""

    plotinfo = {"subplot": True, "plothlines": [0.01]}
    kind = "hvae"

    def __init__(self):
        super().__init__()
        weights = self.bundle.weights
        self._calibration, self._centers = weights["calibration"].astype(float), weights["centers"].astype(float)

    @property
    def top_anomaly(self):
        """The line with the p-value of the top level."""
        return self.lines[len(self.bundle.config["strides"]) - 1]

    def _places(self):
        sizes, names = self.bundle.config["d_latent"], self.lines.getlinealiases()
        whole = line_names(sizes)
        if names not in (whole, whole[: -sum(sizes)]):
            raise BundleError(
                f"the levels of this bundle, of {', '.join(map(str, sizes))} latents, are not those of the lines: "
                "use hissbt.Latent.of(model) with this bundle"
            )
        return slice(len(names))

    def _lines_of(self, outputs):
        rows = outputs.reshape(-1, outputs.shape[-1])
        lines = readings(rows, self._calibration, self._centers)[:, self._columns]
        return lines.reshape(*outputs.shape[:-1], -1)

    def _plotlabel(self):
        return [self.bundle.kind, f"{' '.join(map(str, self.bundle.config['strides']))} bars"]


def line_names(sizes: tuple[int, ...]) -> tuple[str, ...]:
    """Return the names of what ``readings`` reads, for levels of these sizes, finest first."""
    levels, outputs = range(1, len(sizes) + 1), latent_names(sizes)
    split = len(sizes) + 1
    return (*(f"anomaly{level}" for level in levels), *outputs[:split], "regime", *outputs[split:])


def unplotted(names: tuple[str, ...]) -> dict[str, dict]:
    """Return Backtrader's ``plotlines`` that show the p-values only: they have a scale of their own."""
    return {name: {"_plotskip": True} for name in names if not name.startswith("anomaly")}


class Latent(LatentIndicator):
    """What a hierarchical VAE (kind hvae) of three levels makes of the window of bars that ends now.

    Level 1 is the finest. Lines, known when the bar at [0] has closed:

    - ``anomaly1 anomaly2 anomaly3``: p-value of the level's score, small where it is unusual: the share of bars,
      of those held out of training for this, that scored as high. The score is the level's divergence, to which
      the finest adds ``recon``
    - ``kl1 kl2 kl3``: divergence, in nats, of what the bars say of the level's newest block from what the level
      above let expect
    - ``recon``: -ln p of this bar given all latents, in nats
    - ``regime``: number of the cluster that the top latent is nearest to; 0 is that of the calmest windows

    ``Latent.of(model)`` is for any number of levels, and shows the latents too. Params and errors are those of
    ``hissbt.indicators.streamed.StreamedIndicator``; a bundle of another kind or of other levels is refused.
    """

    lines = line_names((1, 1, 1))[:-3]  # the latents left out, whose number is the bundle's
    plotlines = unplotted(lines)

    @classmethod
    def of(cls, model: ModelBundle | str | Path) -> type[LatentIndicator]:
        """Return a class with the lines of this bundle: those of ``Latent`` for its levels, then its latents.

        These are ``z1_1 z1_2 …`` of the finest level to those of the top: the means of what the bars say of them.
        The class needs no ``model``. Raises BundleError for a bundle that cannot be used.
        """
        bundle = load_bundle(model, cls.kind)
        names = line_names(bundle.config["d_latent"])

        class LatentOfBundle(LatentIndicator):
            """See ``Latent.of``."""

            params = (("model", bundle),)
            lines = names
            plotlines = unplotted(names)

        return LatentOfBundle


@njit(cache=True)
def readings(outputs: np.ndarray, calibration: np.ndarray, centers: np.ndarray) -> np.ndarray:
    """Return what ``line_names`` names, from the outputs of a stream, row by row; NaN where these are NaN.

    Args:
        outputs: [T,O] as ``hissbt.stream.Stream`` gives them for kind hvae.
        calibration: [L,Q] ascending scores of each level.
        centers: [K,d] clusters of the top latent.
    """
    levels, size = len(calibration), centers.shape[1]
    lines = np.full((len(outputs), outputs.shape[1] + levels + 1), np.nan)
    for t in range(len(outputs)):
        row, line = outputs[t], lines[t]
        if np.isnan(row[0]):
            continue
        for level in range(levels):
            line[level] = p_value(row[level] + (row[levels] if level == 0 else 0.0), calibration[level])
        line[levels : 2 * levels + 1] = row[: levels + 1]
        line[2 * levels + 1] = nearest(row[-size:], centers)
        line[2 * levels + 2 :] = row[levels + 1 :]
    return lines


@njit(cache=True)
def p_value(score: float, calibration: np.ndarray) -> float:
    """Return (1 + how many of the scores [Q], ascending, are at least ``score``) / (Q + 1)."""
    return (1 + len(calibration) - np.searchsorted(calibration, score)) / (len(calibration) + 1)


@njit(cache=True)
def nearest(z: np.ndarray, centers: np.ndarray) -> int:
    """Return the number of the row of centers [K,d] that is nearest to z [d], the first of equals."""
    best, least = 0, np.inf
    for k in range(len(centers)):
        distance = 0.0
        for i in range(len(z)):
            distance += (z[i] - centers[k, i]) ** 2
        if distance < least:
            best, least = k, distance
    return best
