"""A system with three time scales, specified so exactly that its noise floor is known in closed form.

Three white inputs u_k drive a state each, at every bar t

    s_k(t) = a_k s_k(t−1) + √(1 − a_k²) u_k(t),   a_k = exp(−1/τ_k),   τ = 4, 32 and 512 bars,

from which the label is made: a sum of six terms, each a product of normalized Hermite polynomials of the states,
and noise. Of the inputs only sums are seen, and these noisily: x(t) = Q (u(t) + σ e(t)), Q a rotation.

States are normal with variance 1 and do not depend on each other, so the terms are uncorrelated, each has the
variance that ``TERMS`` gives it, and what is known of a state is its correlation with the best linear filter. With
ρ_k² the share of the variance of s_k that the inputs of the last W bars tell, κ (1 − a_k^(2W)), κ = 1 / (1 + σ²),

    Var E[term | inputs] = (variance of the term) Π_k ρ_k^(2 n_k),   n_k its degree in s_k,

since E[He_n(s) | z] = ρ^n He_n(z) for standard normal s and z of correlation ρ (Mehler's formula).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

SCALES: Mapping[str, int] = {"fast": 4, "middle": 32, "slow": 512}
"""Bars in which the memory of a state falls to 1/e."""

TERMS: Mapping[tuple[int, int, int], float] = {
    (1, 0, 0): 0.15,
    (0, 1, 0): 0.15,
    (0, 0, 1): 0.25,
    (1, 0, 1): 0.15,
    (0, 1, 1): 0.15,
    (0, 0, 2): 0.15,
}
"""Variance of each term of the label, by its degree in the fast, the middle and the slow state; 1 in all."""

LABEL_NOISE = 0.25
"""Variance of what is in the label and in no state."""

INPUT_NOISE = 0.25
"""Variance σ² of what is seen with each input of variance 1."""

KNOWN = 1 / (1 + INPUT_NOISE)
"""Share κ of the variance of a state that the whole past of the inputs tells."""

_DECAY = np.exp(-1 / np.array(list(SCALES.values())))  # [3]


@dataclass(frozen=True)
class Simulated:
    """One draw of the system; at row t everything comes from draws up to t."""

    x: np.ndarray
    """What is seen [T,3]."""
    y: np.ndarray
    """The label [T]."""
    known: np.ndarray
    """What all inputs up to t tell of each term [T,6], in the order of ``TERMS``: the expectation given them."""

    @property
    def bayes(self) -> np.ndarray:
        """The best forecast of the label [T] that there is: its expectation given all inputs up to t."""
        return self.known.sum(axis=1)


def simulate(bars: int, seed: int) -> Simulated:
    """Draw the system over ``bars`` bars, its states 0 before; a longer draw begins with a shorter one."""
    rotation, *streams = np.random.SeedSequence(seed).spawn(4)
    inputs, input_noise, label_noise = (np.random.default_rng(stream) for stream in streams)
    u = inputs.standard_normal((bars, len(SCALES)))
    seen = u + math.sqrt(INPUT_NOISE) * input_noise.standard_normal(u.shape)
    label = _terms(_states(u), 1.0).sum(axis=1)
    return Simulated(
        seen @ _rotation(rotation).T,
        label + math.sqrt(LABEL_NOISE) * label_noise.standard_normal(bars),
        _terms(_states(seen) * math.sqrt(KNOWN), KNOWN),
    )


def explained(window: int | None = None, terms: Sequence[tuple[int, int, int]] = tuple(TERMS)) -> float:
    """Return the variance of the label that the inputs of the last ``window`` bars explain, at the very best.

    None is the whole past; ``terms`` are those that are counted.
    """
    known = KNOWN * (1 if window is None else 1 - _DECAY ** (2 * window))
    return sum(TERMS[degrees] * float(np.prod(known ** np.array(degrees))) for degrees in terms)


def floors(window: int) -> dict[str, float]:
    """Return the least MSE that there is: with the whole past, and linear or not with ``window`` bars."""
    linear = [degrees for degrees in TERMS if sum(degrees) == 1]
    total = sum(TERMS.values()) + LABEL_NOISE
    return {
        "nothing": total,
        f"best linear, {window} bars": total - explained(window, linear),
        "best linear, all bars": total - explained(None, linear),
        f"best of all, {window} bars": total - explained(window),
        "best of all, all bars": total - explained(),
    }


def term_name(degrees: Sequence[int]) -> str:
    """Return a term as it is read: ``fast × slow``, ``slow²``."""
    powers = zip(SCALES, degrees, strict=True)
    return " × ".join(name + ("²" if degree == 2 else "") for name, degree in powers if degree)


def _states(inputs: np.ndarray) -> np.ndarray:
    """Return the states [T,3] that inputs [T,3] drive."""
    from scipy.signal import lfilter

    columns = zip(_DECAY, inputs.T, strict=True)
    return np.stack([lfilter([math.sqrt(1 - a**2)], [1, -a], column) for a, column in columns], axis=1)


def _terms(states: np.ndarray, known: float) -> np.ndarray:
    """Return what standard normal ``states`` [T,3] say of the terms [T,6], where ``known`` is their ρ²."""
    polynomials = (np.ones_like(states), states, (states**2 - 1) / math.sqrt(2))
    return np.stack(
        [
            math.sqrt(variance * known ** sum(degrees))
            * np.prod([polynomials[degree][:, k] for k, degree in enumerate(degrees)], axis=0)
            for degrees, variance in TERMS.items()
        ],
        axis=1,
    )


def _rotation(seed: np.random.SeedSequence) -> np.ndarray:
    """Return a rotation or reflection [3,3], drawn uniformly (Mezzadri, Notices of the AMS 54, 2007)."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((len(SCALES), len(SCALES))))
    return q * np.sign(np.diag(r))
