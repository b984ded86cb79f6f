"""Econometric indicators: what users see of them; run modes and causality are in tests/contracts."""

import backtrader as bt
import numpy as np
import pytest
from indicator_contract import Case, run_lines

from hissbt.econometrics import Garch, MarkovSwitching
from hissbt.errors import BarsError, ConfigError
from hissbt.feeds import BarsFeed
from hissbt.indicators import GarchVolatility, HarVolatility, MarkovRegime

SCHEDULE = {"min_bars": 200, "refit_every": 100}


def lines(indicator, bars, **params) -> np.ndarray:
    return run_lines(Case(indicator, {**SCHEDULE, **params}, None), bars)


class Holder(bt.Strategy):
    params = (("indicator", None), ("fields", {}))

    def __init__(self):
        self.indicator = self.p.indicator(self.data, **self.p.fields)


def run(bars, indicator, **params) -> Holder:
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars))
    cerebro.addstrategy(Holder, indicator=indicator, fields=params)
    return cerebro.run()[0]


@pytest.fixture(scope="module")
def bars(hourly_bars):
    return hourly_bars[:320]


def test_regime_lines_begin_after_the_first_fit_and_are_probabilities(bars):
    values = lines(MarkovRegime, bars, starts=2)
    assert np.isnan(values[:200]).all()
    low, high, mean, volatility = values[200:].T
    np.testing.assert_allclose(low + high, 1.0)
    assert ((low >= 0) & (high >= 0)).all()
    assert (np.abs(mean) < volatility).all()


def test_regimes_by_a_range_differ_from_those_with_constant_transitions(bars):
    plain, driven = (
        lines(MarkovRegime, bars, starts=1, model=MarkovSwitching(covariates=names)) for names in ((), ("hml",))
    )
    assert np.nanmax(np.abs(plain - driven)) > 0.01


def test_three_kinds_of_volatility_are_of_one_size(bars):
    returns = np.diff(np.log(bars.frame["close"].to_numpy()))
    for indicator, params in (
        (GarchVolatility, {}),
        (GarchVolatility, {"model": Garch(asymmetric=True, student=True)}),
        (HarVolatility, {}),
    ):
        values = lines(indicator, bars, **params)[200:, 0]
        assert 0.3 < values.mean() / returns.std() < 2


def test_the_latest_fit_can_be_looked_at(bars):
    fit = run(bars, GarchVolatility, **SCHEDULE).indicator.fit
    assert fit.n_obs == 299
    assert fit.converged


def test_too_few_bars_are_refused(bars):
    with pytest.raises(BarsError, match="needs 201 to warm up"):
        run(bars[:150], GarchVolatility, **SCHEDULE)


def test_a_model_that_reads_the_bar_it_explains_is_refused(bars):
    with pytest.raises(ConfigError, match="lag=1"):
        run(bars, MarkovRegime, model=MarkovSwitching(covariates=("hml",), lag=0))
