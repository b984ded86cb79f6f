"""Scenarios of a trained hierarchical VAE, each level of which can be drawn, or fixed by real bars."""

from collections.abc import Mapping, Sequence

import numpy as np

from hissbt.bars import Bars
from hissbt.bundle import ModelBundle
from hissbt.candles import CANDLE, LOG_RETURN, VOLUME_SURPRISE
from hissbt.errors import BarsError, BundleError, ConfigError
from hissbt.features import FeatureSet
from hissbt.models.hvae_arrays import HVAEArrays
from hissbt.research.generators.source import random_streams
from hissbt.research.generators.volume import pulled_back
from hissbt.timeframe import format_timeframe

Latents = list[np.ndarray]  # [blocks,d] a level, finest first


class HVAEGenerator:
    """Draws from the prior of an ``HVAENet`` bundle, top-down: weeks, then days, then hours, then bars.

    The top latents of the scenario's windows follow each other by the bundle's persistence, from the posterior of
    the last window of history. What is below is drawn from its prior, bars from the observation model, as far as
    the normalizer lets real ones through; their volumes are pulled towards what is usual.

    Args:
        bundle: of kind ``hvae``, with ``log_return`` among its features; features that no candle row has are
            drawn and left out.
        fix: names of levels, ``z1`` the finest, that are the same in all scenarios. All of them: only the noise of
            the bars differs.
        anchor: what they are fixed to: bars of at least one window, whose posterior means are repeated as often as
            needed; or the top latent itself, as the number of a cluster or a vector [d], with the means of the
            priors below. Without one, the last bars of history. A top latent that is not fixed sets out from it.
        shift: standard deviations of its prior that each unit of a level is moved by, as {"z3": 0.5}. Draws are
            the same with and without.

    Raises:
        BundleError: another kind of bundle, or one that knows no return.
        ConfigError: a level or cluster that the model does not have.
        BarsError: an anchor that is shorter than a window, or whose bars are not as long as the model's.
    """

    name = "hvae"

    def __init__(
        self,
        bundle: ModelBundle,
        fix: Sequence[str] = (),
        anchor: Bars | int | np.ndarray | None = None,
        shift: Mapping[str, float] | None = None,
    ):
        if bundle.kind != "hvae" or CANDLE[LOG_RETURN] not in bundle.features:
            raise BundleError(
                f"a {bundle.kind!r} model of {' '.join(bundle.features)} makes no scenarios: "
                "train one of kind 'hvae' with log_return among its features"
            )
        self.bundle, self._features = bundle, FeatureSet(bundle.features)
        self._model = HVAEArrays(bundle.config, bundle.weights)
        self._fixed = {self._level(name) for name in fix}
        self._shift = {self._level(name): amount for name, amount in (shift or {}).items()}
        self._anchor = self._anchored(anchor)

    def generate(self, n: int, bars: int, seed: int, history: Bars) -> np.ndarray:
        """Return candle rows [n, bars, 5] of ``n`` scenarios that go on from ``history``.

        Scenario i is the same, bit for bit, for every n. Raises BarsError for a history shorter than a window and
        what the features need, or of bars of another length, ConfigError for less than one scenario or bar.
        """
        streams = random_streams(n, bars, seed)
        begin = self._beginning(history, self._windows(bars))
        levels = len(self._model.strides)
        paths = np.stack([self._drawn(stream.spawn(levels + 1), bars, begin) for stream in streams])
        return self._steady(paths, history)

    def refine(self, bars: int, seed: int, history: Bars) -> np.ndarray:
        """Return one scenario as it takes shape [L + 1, bars, 5]: with the top alone, with each level, with noise.

        Levels that are not yet drawn are at the means of their priors, bars at their expected values. The last is
        the first scenario that ``generate`` draws.
        """
        levels = len(self._model.strides)
        (stream,) = random_streams(1, bars, seed)
        begin = self._beginning(history, self._windows(bars))
        rngs = stream.spawn(levels + 1)
        latents = self._latents(rngs, bars, begin)
        coarse = [self._model.decode(self._filled(latents[level:]))[0] for level in reversed(range(levels))]
        stages = np.stack([self._rows(x, bars) for x in (*coarse, self._noisy(rngs[0], latents))])
        stages[-1:] = self._steady(stages[-1:], history)
        return stages

    # --- what scenarios begin with

    def _level(self, name: str) -> int:
        names = [f"z{level + 1}" for level in range(len(self._model.strides))]
        if name not in names:
            raise ConfigError(f"the model has no level {name!r}: choose from {', '.join(names)}")
        return names.index(name)

    def _anchored(self, anchor: Bars | int | np.ndarray | None) -> Latents | None:
        if anchor is None:
            return None
        if isinstance(anchor, Bars):
            self._check_timeframe(anchor)
            return self._means(anchor, len(anchor) // self._model.window)
        centers = self._model.centers
        if isinstance(anchor, int):
            if not 0 <= anchor < len(centers):
                raise ConfigError(f"the model has no cluster {anchor}: choose from 0 to {len(centers) - 1}")
            anchor = centers[anchor]
        latents = [np.asarray(anchor, dtype=np.float64).reshape(1, self._model.sizes[-1])]
        for level in reversed(range(len(self._model.strides) - 1)):
            latents.insert(0, self._model.prior(level, latents[0])[0])
        return latents

    def _check_timeframe(self, bars: Bars) -> None:
        given, own = format_timeframe(bars.timeframe), self.bundle.timeframe
        if given != own:
            raise BarsError(
                f"wrong timeframe: the model makes bars of {own}, those of {bars.market.symbol} are of {given}: "
                f"load or resample to {own}"
            )

    def _means(self, bars: Bars, windows: int) -> Latents:
        """Return the posterior means of the last ``windows`` windows of bars."""
        return [mean for mean, _ in self._model.posterior(self._inputs(bars, max(windows, 1)))]

    def _inputs(self, bars: Bars, windows: int) -> np.ndarray:
        """Return the normalized features [T,F] of the last ``windows`` windows of bars."""
        count = windows * self._model.window
        if len(bars) < count:
            raise BarsError(
                f"{len(bars)} bars do not fill a window of the model: give at least {count}, with "
                f"{self._features.warmup} before them for its features"
            )
        rows = bars[-min(count + self._features.warmup, len(bars)) :].arrays(self._features.columns)
        return self.bundle.normalizer(self._features.scan(rows))[-count:]

    def _windows(self, bars: int) -> int:
        return -(-bars // self._model.window)

    def _beginning(self, history: Bars, windows: int) -> tuple[Latents, tuple[np.ndarray, np.ndarray]]:
        """Return what levels are fixed to, and mean and deviation [d] of the top latent before the scenario."""
        self._check_timeframe(history)
        fixed = self._fixed_latents(history, windows) if self._fixed else []
        if self._anchor is not None:
            top = self._anchor[-1][-1]
            return fixed, (top, np.zeros_like(top))
        mean, deviation = self._model.posterior(self._inputs(history, 1))[-1]
        return fixed, (mean[0], deviation[0])

    def _fixed_latents(self, history: Bars, windows: int) -> Latents:
        known = self._anchor or self._means(history, min(windows, len(history) // self._model.window))
        repeats = -(-windows // len(known[-1]))
        return [
            np.tile(z, (repeats, 1))[: windows * self._model.window // stride]
            for z, stride in zip(known, self._model.strides, strict=True)
        ]

    # --- one scenario; there is a source of randomness a level, so what is fixed or shifted changes no other draw

    def _drawn(self, rngs: list[np.random.Generator], bars: int, begin) -> np.ndarray:
        """Return the candle rows [bars,5] of one scenario; ``rngs`` are those of the bars and of each level."""
        return self._rows(self._noisy(rngs[0], self._latents(rngs, bars, begin)), bars)

    def _latents(self, rngs: list[np.random.Generator], bars: int, begin) -> Latents:
        fixed, start = begin
        top = len(self._model.strides) - 1
        z = fixed[top] if top in self._fixed else self._top(rngs[-1], self._windows(bars), start)
        latents = [z + self._shift.get(top, 0.0)]
        for level in reversed(range(top)):
            mean, deviation = self._model.prior(level, latents[0])
            z = (
                fixed[level]
                if level in self._fixed
                else mean + deviation * rngs[level + 1].standard_normal(mean.shape)
            )
            latents.insert(0, z + self._shift.get(level, 0.0) * deviation)
        return latents

    def _top(self, rng: np.random.Generator, windows: int, start) -> np.ndarray:
        """Return the path [windows,d] of the top latent: z' = A z + e, cov e = I - A Aᵀ."""
        matrix = self._model.persistence
        spread = np.linalg.cholesky(np.eye(len(matrix)) - matrix @ matrix.T)
        mean, deviation = start
        z, path = mean + deviation * rng.standard_normal(len(mean)), []
        for _ in range(windows):
            z = matrix @ z + spread @ rng.standard_normal(len(z))
            path.append(z)
        return np.array(path)

    def _filled(self, latents: Latents) -> Latents:
        """Return the latents with the levels below at the means of their priors."""
        filled = list(latents)
        for level in reversed(range(len(self._model.strides) - len(latents))):
            filled.insert(0, self._model.prior(level, filled[0])[0])
        return filled

    def _noisy(self, rng: np.random.Generator, latents: Latents) -> np.ndarray:
        """Return normalized bars [T,F] drawn from the observation model."""
        location, scale = self._model.decode(latents)
        df = self._model.degrees_of_freedom
        gaussian = np.isinf(df).all()
        noise = rng.standard_normal(location.shape) if gaussian else rng.standard_t(df, location.shape)
        return location + scale * noise

    def _rows(self, x: np.ndarray, bars: int) -> np.ndarray:
        """Return normalized bars [T,F] as candle rows [bars,5]: in natural units, what is unknown 0."""
        normalizer = self.bundle.normalizer
        natural = np.clip(x[:bars], -normalizer.clip, normalizer.clip) * normalizer.std + normalizer.mean
        rows = np.zeros((bars, len(CANDLE)))
        for column, name in enumerate(self._features.names):
            if name in CANDLE:
                rows[:, CANDLE.index(name)] = natural[:, column]
        return rows

    def _steady(self, paths: np.ndarray, history: Bars) -> np.ndarray:
        """Return candle rows [n,bars,5] whose volume, if the model knows any, does not wander off."""
        return pulled_back(paths, history) if CANDLE[VOLUME_SURPRISE] in self._features.names else paths
