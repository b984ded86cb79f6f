"""Trade a forecast only while a hierarchical VAE finds the market normal, and less the stranger it finds it."""

from collections.abc import Collection

import backtrader as bt

from hissbt.errors import StrategyError
from hissbt.strategies.hiss import HiSSStrategy
from hissbt.trading.params import PROBABILITY, check_params


class HVAEStrategy(HiSSStrategy):
    """HiSSStrategy, in normal times: the forecast of ``model`` behind the p-values of ``latent``.

    ``latent`` is a bundle of kind hvae. The p-value of its top level says how often, on bars held out from its
    training, a window was as strange as the one that ends now. Below ``least_normal`` nothing is entered and a
    position is closed, for the reason regime; from there up to ``fully_normal`` the size of an entry grows
    linearly, from nothing to that of HiSSStrategy. ``regimes`` are numbers of clusters of the top latent, the
    calmest is 0: in any other nothing is held either. None allows all.

    Everything else is as in ``hissbt.strategies.hiss.HiSSStrategy``: forecasts of any kind, orders, stops and
    targets, pace, guards and errors.
    """

    params = (
        ("latent", None),  # a bundle of kind hvae or its folder
        ("least_normal", 0.05),  # p-value of the top level below which nothing is held
        ("fully_normal", 0.5),  # p-value from which on an entry has its full size
        ("regimes", None),  # numbers of the clusters to trade in, such as [0, 1]; None for all
    )
    model_params = ("latent",)

    def __init__(self):
        super().__init__()
        self.latent = self.make_latent()
        lines = self.latent.lines
        *_, top = (name for name in lines.getlinealiases() if name.startswith("anomaly"))
        self._normality, self._cluster = getattr(lines, top), lines.regime

    def make_latent(self) -> bt.Indicator:
        """Return the indicator of what is normal: any with the lines ``regime`` and ``anomaly1`` to the top."""
        if self.p.latent is None:
            raise StrategyError(
                f"{type(self).__name__} has no hvae model: pass --set latent=FOLDER, a bundle of hissbt train hvae"
            )
        from hissbt.indicators import Latent  # here as in HiSSStrategy

        given = {"reset_after": self.p.gap, "rewarm": self.p.on_gap == "flatten"}
        latent = Latent.of(self.p.latent)(self.data, **given)
        clusters = latent.bundle.config["n_clusters"]
        if unknown := [number for number in self.p.regimes or () if number >= clusters]:
            raise StrategyError(
                f"parameter regimes of {type(self).__name__} has {unknown[0]}, which is no cluster of the "
                f"hvae model: choose from 0 to {clusters - 1}"
            )
        return latent

    def _check_params(self) -> None:
        super()._check_params()
        check_params(self, least_normal=PROBABILITY, fully_normal=PROBABILITY)
        if self.p.least_normal > self.p.fully_normal:
            raise StrategyError(
                f"parameter least_normal of {type(self).__name__} is {self.p.least_normal}, above fully_normal "
                f"{self.p.fully_normal}: a size cannot shrink upwards"
            )
        if not (self.p.regimes is None or _are_clusters(self.p.regimes)):
            raise StrategyError(
                f"parameter regimes of {type(self).__name__} is {self.p.regimes!r}: write a list of whole numbers "
                "from 0, such as [0, 1], or leave it out to trade in all"
            )

    def _is_regime_bad(self) -> bool:
        if super()._is_regime_bad() or not self._normality[0] >= self.p.least_normal:
            return True
        return self.p.regimes is not None and self._cluster[0] not in self.p.regimes

    def _fraction(self, side: int) -> float:
        params = self.p
        room = params.fully_normal - params.least_normal
        share = (self._normality[0] - params.least_normal) / room if room else 1.0
        return min(share, 1.0) * super()._fraction(side)


def _are_clusters(regimes) -> bool:
    some = isinstance(regimes, Collection) and not isinstance(regimes, str) and len(regimes) > 0
    return some and all(isinstance(number, int) and number >= 0 for number in regimes)


if __name__ == "__main__":
    from hissbt.cli import run_strategy_script

    run_strategy_script(HVAEStrategy)
