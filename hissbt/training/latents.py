"""What is measured on a trained hierarchical VAE: what its levels know, what is usual, what follows on what."""

from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits
from torch import Tensor

from hissbt.models import HVAENet
from hissbt.models.elbo import importance_bound
from hissbt.models.gaussian import Gaussian
from hissbt.training.vae import seeded_draw

ACTIVE_NATS = 0.1  # mean divergence above which a unit says something: Vahdat and Kautz, arXiv 2007.03898
ACTIVE_VARIANCE = 0.01  # of its posterior mean over the data: Burda et al., arXiv 1509.00519, section 5
LONGEST_MEMORY = 0.99  # of the top latent from one window to the next


def top_latents(network: HVAENet, windows: Tensor) -> Gaussian:
    """Return the posterior of the top latent [N,d] of the windows [N,W,F]."""
    top = network.infer(windows, posterior_mean).posteriors[-1]
    return Gaussian(top.mean[:, 0], top.log_std[:, 0])


def posterior_mean(posterior: Gaussian) -> Tensor:
    """Pick the mean: what a level passes on when it is not sampled."""
    return posterior.mean


def score_quantiles(scores: np.ndarray, count: int) -> np.ndarray:
    """Return [L,Q] ascending quantiles of anomaly scores [T,L], at i / (Q + 1).

    So a score of the same distribution has a p-value, (1 + quantiles not below it) / (Q + 1), that is uniform.
    """
    levels = np.arange(1, count + 1) / (count + 1)
    return np.quantile(scores, levels, axis=0, method="weibull").T


def clusters(latents: np.ndarray, unrest: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return [K,d] k-means centers of latents [N,d], by the mean ``unrest`` [N] of their windows, lowest first."""
    with threadpool_limits(limits=1):  # more threads add in any order
        found = KMeans(count, n_init=10, random_state=seed).fit(latents)
    unrest_of = [unrest[found.labels_ == k].mean() for k in range(count)]
    return found.cluster_centers_[np.argsort(unrest_of)]


def persistence(means: np.ndarray, variances: np.ndarray, ahead: int) -> np.ndarray:
    """Return A [d,d] of z' = A z + e, where z' is the latent of the window after that of z, and z has the prior.

    Least squares of the posterior ``means`` [N,d] on those ``ahead`` rows before, with the mean posterior variance
    as ridge: that is what means vary less than the latents they estimate, and what is not known of these counts as
    forgotten. Singular values are capped, so that cov e = I - A Aᵀ stays positive.
    """
    before, after = means[:-ahead], means[ahead:]
    ridge = np.diag(variances.mean(axis=0)) * len(before)
    matrix = np.linalg.solve(before.T @ before + ridge, before.T @ after).T
    left, singular, right = np.linalg.svd(matrix)
    return (left * np.minimum(singular, LONGEST_MEMORY)) @ right


def level_metrics(network: HVAENet, windows: Tensor, seed: int) -> dict[str, Any]:
    """Return what each level says of the windows [N,W,F], which levels collapsed, and the bound, in nats.

    Divergences are as they are, before any free bits. A level none of whose units is active has collapsed.
    """
    found = network.infer(windows, posterior_mean)
    terms = network.terms(windows, seeded_draw(seed))
    levels = []
    for number, (stride, divergence, posterior) in enumerate(
        zip(network.config.strides, terms.divergence, found.posteriors, strict=True), start=1
    ):
        nats = divergence.mean(dim=(0, 1))  # [d]
        variance = posterior.mean.flatten(0, 1).var(dim=0)
        levels.append(
            {
                "level": number,
                "stride": stride,
                "units": len(nats),
                "kl_a_latent": float(nats.sum()),
                "kl_a_bar": float(nats.sum()) / stride,
                "active_units": int((nats > ACTIVE_NATS).sum()),
                "active_units_by_variance": int((variance > ACTIVE_VARIANCE).sum()),
            }
        )
    _, bars, features = windows.shape
    tight = importance_bound(network, windows, 50, torch.Generator().manual_seed(seed))
    return {
        "levels": levels,
        "collapsed": [level["level"] for level in levels if level["active_units"] == 0],
        "bound": {
            "windows": len(windows),
            "elbo_a_bar": float(terms.elbo.mean()) / bars,
            "elbo_a_dimension": float(terms.elbo.mean()) / (bars * features),
            "iwae50_a_dimension": float(tight.mean()) / (bars * features),
        },
    }
