"""A hierarchical VAE that is linear and Gaussian, and all that follows from it in closed form."""

import math

import torch
from torch import nn
from torch.distributions import MultivariateNormal

from hissbt.limits import BOUND
from hissbt.models.hvae import HVAEConfig, HVAENet


class LinearGaussian:
    """A hierarchy whose parts are linear and whose scales are constant, and all that follows in closed form.

    Feature i hears of variable i of each level and of nothing else, so that the exact posterior of a block given
    its parents factorizes over its variables: the family that the network has. ``net`` has that posterior plugged
    in, as linear maps.
    """

    def __init__(self, strides, decoder, seed, size=2):
        generator = torch.Generator().manual_seed(seed)

        def uniform(*shape, low=0.3, high=1.2):
            sign = torch.randint(0, 2, shape, generator=generator) * 2 - 1
            return sign * (low + (high - low) * torch.rand(*shape, generator=generator, dtype=torch.float64))

        self.strides, self.size, self.count = strides, size, len(strides)
        self.net = HVAENet(
            HVAEConfig(
                n_features=size,
                strides=strides,
                d_latent=(size,) * self.count,
                d_hidden=strides[0] * size,
                decoder=decoder,
                observation="gaussian",
            )
        ).double()
        self.transition = uniform(self.count - 1, size)  # z_l = transition * parent + deviation * noise
        self.deviation = torch.cat([uniform(self.count - 1, size).abs(), torch.ones(1, size, dtype=torch.float64)])
        self.pattern = uniform(strides[0], size)  # of a variable of level 1 on the bars of its patch
        self.loading = uniform(self.count - 1, size) * (decoder == "paths")  # of those of the levels above
        self.noise = uniform(size).abs()
        self.intercept = uniform(size)
        with torch.no_grad():
            self._plug_in()

    def covariance(self, i):
        """Return the covariance [n,n] of variable i of all blocks, coarsest level first, and of feature i."""
        window = self.strides[-1]
        rows = []  # of the linear map from independent noises: its own, and those of what it hears of
        for level in reversed(range(self.count)):
            for block in range(window // self.strides[level]):
                row = torch.zeros(self._total, dtype=torch.float64)
                if level < self.count - 1:
                    parent = self._place(level + 1, block * self.strides[level])
                    row = row + self.transition[level, i] * rows[parent]
                row[len(rows)] = self.deviation[level, i]
                rows.append(row)
        for bar in range(window):
            row = self.pattern[bar % self.strides[0], i] * rows[self._place(0, bar)]
            for level in range(1, self.count):
                row = row + self.loading[level - 1, i] * rows[self._place(level, bar)]
            row[len(rows)] = self.noise[i]
            rows.append(row)
        mixing = torch.stack(rows)
        return mixing @ mixing.T

    @property
    def _total(self):
        return sum(self.strides[-1] // stride for stride in self.strides) + self.strides[-1]

    def _place(self, level, bar):
        """Return where the block of ``level`` that holds ``bar`` stands among all rows."""
        before = sum(self.strides[-1] // stride for stride in self.strides[level + 1 :])
        return before + bar // self.strides[level]

    def log_evidence(self, x):
        """Return ln p(x) [B]: features are independent normal vectors."""
        window = self.strides[-1]
        features = [
            MultivariateNormal(self.intercept[i].expand(window), self.covariance(i)[-window:, -window:])
            for i in range(self.size)
        ]
        return sum(feature.log_prob(x[..., i]) for i, feature in enumerate(features))

    def _plug_in(self):
        self.net.reach = nn.Identity()  # else nothing about it is linear
        net = self.net
        for level in range(self.count):
            net.bottom_up[level], net.norms[level] = nn.Identity(), nn.Identity()
            net.evidence[level] = self._evidence(level)
            if level < self.count - 1:
                net.prior[level] = gaussian_layer(torch.diag(self.transition[level]), 0, self.deviation[level])
            if level < len(net.path):
                net.path[level] = self._path(level)

    def _path(self, level):
        """Return the linear path: means by bar and feature, and once the intercept and the log scale."""
        bars, size = (1, self.size) if level else (self.strides[0], self.size)
        weight = torch.zeros(bars, 2 * size, size, dtype=torch.float64)
        pattern = self.loading[level - 1][None] if level else self.pattern
        for bar in range(bars):
            weight[bar, :size] = torch.diag(pattern[bar])
        bias = torch.zeros(bars, 2 * size, dtype=torch.float64)
        if level == 0:
            bias[:, :size], bias[:, size:] = self.intercept, unbent(self.noise.log())
        return layer(weight.flatten(0, 1), bias.flatten())

    def _evidence(self, level):
        """Return the layer from the mean patch of a block and the latents above to posterior over prior.

        The merge puts the prior back. All patches of a block weigh the same, so that their mean says it all.
        """
        above, stride, patch, size = self.count - 1 - level, self.strides[level], self.strides[0], self.size
        weight = torch.zeros(size, patch * size + above * size, dtype=torch.float64)
        bias, deviation = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
        for i in range(size):
            covariance = self.covariance(i)
            own = self._place(level, 0)
            parents = [self._place(k, 0) for k in range(level + 1, self.count)]
            bars = list(range(self._total - self.strides[-1], self._total - self.strides[-1] + stride))
            known = parents + bars
            gain = torch.linalg.solve(covariance[known][:, known], covariance[known, own])
            variance = covariance[own, own] - gain @ covariance[known, own]
            precision, of_prior = 1 / variance, 1 / self.deviation[level, i] ** 2
            # Posterior = evidence x prior: precisions add up, and so do means times precisions.
            for_parents = precision * gain[:above]
            for_patches = precision * gain[above:].view(-1, patch).sum(dim=0)
            if above:
                for_parents[0] -= of_prior * self.transition[level, i]
                precision = precision - of_prior
            weight[i, i : patch * size : size] = for_patches / precision
            weight[i, patch * size + i :: size] = for_parents / precision
            bias[i] = -for_patches.sum() * self.intercept[i] / precision
            deviation[i] = precision**-0.5
        return gaussian_layer(weight, bias, deviation)


def unbent(log_std):
    """Return what ``gaussian.bent`` makes ``log_std`` of."""
    return BOUND * torch.atanh(log_std / BOUND)


def layer(weight, bias):
    linear = nn.Linear(weight.shape[1], weight.shape[0]).double()
    linear.weight.copy_(weight)
    linear.bias.copy_(bias)
    return linear


def gaussian_layer(weight, bias, deviation):
    """Return the layer that ``Gaussian.of`` reads as mean weight @ input + bias and a constant deviation."""
    bias = torch.as_tensor(bias, dtype=torch.float64).expand(len(weight))
    return layer(torch.cat([weight, torch.zeros_like(weight)]), torch.cat([bias, unbent(deviation.log())]))


def expected_elbo(net, x):
    """Return E[terms.elbo] [B] over the draws in closed form.

    With linear means and constant scales the bound is a quadratic function of the standard normal draws, whose
    mean is its value at 0 and half the sum of its second differences.
    """
    shapes = [
        q.mean.shape[1:] for q in reversed(net.infer(x, lambda q: q.mean).posteriors)
    ]  # in the order of the draws
    sizes = [math.prod(shape) for shape in shapes]

    def at(noise):
        parts = (part.view(shape) for part, shape in zip(noise.split(sizes), shapes, strict=True))
        return net.terms(x, lambda q: q.mean + torch.exp(q.log_std) * next(parts)).elbo

    center = at(torch.zeros(sum(sizes), dtype=torch.float64))
    units = torch.eye(sum(sizes), dtype=torch.float64)
    return center + sum((at(unit) + at(-unit)) / 2 - center for unit in units)
