"""A trained hierarchical VAE for rooms without torch: arrays in, arrays out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from hissbt.models.gaussian import Gaussian
from hissbt.models.hvae import HVAEConfig, HVAENet


class HVAEArrays:
    """The distributions of a trained ``HVAENet``, levels from 0, the finest; all arrays float64.

    ``config`` and ``weights`` are those of its bundle. Attributes: ``strides``, ``sizes`` of the latents,
    ``centers`` [K,d] and ``persistence`` [d,d] of the top level, ``degrees_of_freedom`` [F] of the bars, infinite
    where they are Gaussian. Computed in double precision, and one scenario at a time where the same digits are
    wanted for any number of them.
    """

    def __init__(self, config: dict[str, Any], weights: dict[str, np.ndarray]):
        self._net = HVAENet(HVAEConfig(**config))
        self._net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
        self._net.double().eval().requires_grad_(False)
        self.strides, self.sizes = self._net.config.strides, self._net.config.d_latent
        self.centers, self.persistence = self._net.centers.numpy(), self._net.persistence.numpy()
        gaussian = self._net.config.observation == "gaussian"
        features = self._net.config.n_features
        self.degrees_of_freedom = (
            np.full(features, np.inf) if gaussian else self._net.degrees_of_freedom.detach().numpy()
        )

    @property
    def window(self) -> int:
        """Bars of a window: that of one top latent."""
        return self.strides[-1]

    def posterior(self, x: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return means and standard deviations [blocks,d] of each level's latents, finest first.

        ``x`` [T,F] are normalized inputs, windows in a row; each level is told the means of those above.
        """
        found = self._net.infer(torch.from_numpy(x)[None], lambda posterior: posterior.mean)
        return [_arrays(posterior) for posterior in found.posteriors]

    def prior(self, level: int, parents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return means and standard deviations [blocks,d] of ``level``, given the latents [..,d] of that above."""
        return _arrays(self._net.prior_of(level, torch.from_numpy(parents)[None]))

    def decode(self, latents: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Return location and scale [T,F] of the normalized bars, given the latents [blocks,d] of each level."""
        mean, log_scale = self._net.decode(tuple(torch.from_numpy(z)[None] for z in latents))
        return mean[0].numpy(), torch.exp(log_scale[0]).numpy()


def _arrays(gaussian: Gaussian) -> tuple[np.ndarray, np.ndarray]:
    return gaussian.mean[0].numpy(), torch.exp(gaussian.log_std[0]).numpy()
