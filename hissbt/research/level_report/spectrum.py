"""At which periods the levels move."""

from typing import Any

import numpy as np

from hissbt.research.level_report.ablation import level_name

_BINS_AN_OCTAVE = 6
_SEGMENTS = 8
_LONGEST_SEGMENT = 2**14


def spectra(held: tuple[np.ndarray, ...], strides: tuple[int, ...], rows: range) -> dict[str, dict[str, Any]]:
    """Return the spectrum of what each level holds [T,D] over ``rows``, as ``spectrum`` has it."""
    edges = [2 * stride for stride in strides]
    return {
        level_name(level): spectrum(values[rows.start : rows.stop], edges) | {"nyquist_period": edges[level]}
        for level, values in enumerate(held)
    }


def spectrum(values: np.ndarray, edges: list[int]) -> dict[str, Any]:
    """Return at which periods, in bars, the power of ``values`` [T,D] is, all channels added.

    ``shares`` are those of the bands that begin at each of the ``edges``, the first of which is 2 and the last
    without an end; ``median_period`` has half of the power above it. ``power`` is the share an octave around each
    of ``periods``: equal areas over a logarithmic axis are equal shares. Welch's method (1967) with windows after
    Hann. What never moves has no power and no median.
    """
    from scipy.signal import welch

    segment = min(2 ** int(np.log2(2 * len(values) / _SEGMENTS)), _LONGEST_SEGMENT)
    frequencies, density = welch(values.astype(np.float64), nperseg=segment, axis=0)
    periods, power = 1 / frequencies[1:], density[1:].sum(axis=1)  # without the mean; from the longest period
    total = power.sum()
    shares = power / total if total else power
    band = np.searchsorted(edges, periods * (1 + 1e-9), side="right") - 1
    half = int(np.searchsorted(np.cumsum(shares), 0.5))
    shown, curve = _an_octave(periods, shares)
    return {
        "shares": [float(shares[band == number].sum()) for number in range(len(edges))],
        "median_period": float(periods[half]) if total else None,
        "longest_period": segment,
        "deviation": float(np.sqrt(values.var(axis=0).sum())),
        "periods": shown.tolist(),
        "power": curve.tolist(),
    }


def _an_octave(periods: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return periods [P] and the mean share an octave around them, a sixth of an octave wide or one frequency."""
    _, of = np.unique(np.round(_BINS_AN_OCTAVE * np.log2(periods)), return_inverse=True)
    count = np.bincount(of)
    an_octave = shares * periods[0] / periods * np.log(2)  # p(f) df = p(f) f d(ln f), with df = 1 / the longest
    return np.exp(np.bincount(of, np.log(periods)) / count), np.bincount(of, an_octave) / count
