"""GARCH, GJR-t and HAR: arch's estimates on the S&P 500, and arch's recursions bar by bar."""

import json

import numpy as np
import pytest
from arch import arch_model
from arch.data import sp500
from arch.univariate import HARX
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from hissbt.econometrics import Garch, GarchFit, Har, HarFit, covariates
from hissbt.errors import ConfigError

GJR_T = Garch(asymmetric=True, student=True)
PUBLISHED = {  # of percent returns: parameters, log-likelihood
    Garch(): ({"mu": 0.0564, "omega": 0.0175, "alpha": 0.1022, "beta": 0.8852}, -6936.72),
    GJR_T: ({"mu": 0.0373, "omega": 0.0129, "alpha": 0.0, "gamma": 0.1856, "beta": 0.8982, "nu": 7.69}, -6744.43),
}


@pytest.fixture(scope="module")
def frame():
    return sp500.load()


@pytest.fixture(scope="module")
def returns(frame) -> np.ndarray:
    return frame["Adj Close"].pct_change().dropna().to_numpy()


@pytest.fixture(scope="module")
def variances(frame) -> np.ndarray:
    blank = np.zeros(len(frame))
    prices = frame[["Open", "High", "Low", "Close"]].to_numpy(dtype=float)
    return covariates(("iv",), np.column_stack([blank, prices, blank]))[:, 0]


@pytest.fixture(scope="module", params=PUBLISHED, ids=["garch", "gjr-t"])
def garch(request, returns) -> GarchFit:
    return request.param.fit(returns)


def percent(fit: GarchFit) -> np.ndarray:
    """Return what turns the parameters of returns into those of percent returns."""
    return np.array([{"mu": 100.0, "omega": 1e4}.get(name, 1.0) for name in fit.model.names()])


def in_arch(fit: GarchFit, returns):
    model = arch_model(100 * returns, o=int(fit.model.asymmetric), dist="t" if fit.model.student else "normal")
    return model, model.fix(np.array(fit.params) * percent(fit))


def test_parameters_and_likelihood_are_the_known_ones(garch, returns):
    params, log_likelihood = PUBLISHED[garch.model]
    assert_allclose(np.array(garch.params) * percent(garch), list(params.values()), atol=1.1e-4, rtol=1e-3)
    assert garch.log_likelihood - len(returns) * np.log(100) == pytest.approx(log_likelihood, abs=0.005)
    assert garch.converged
    assert garch["gamma"] == (garch.params[3] if garch.model.asymmetric else 0.0)


def test_standard_errors_are_those_of_arch_both_ways(garch, returns):
    model, _ = in_arch(garch, returns)
    params = np.array(garch.params) * percent(garch)
    for errors, robust in ((garch.errors_approx, False), (garch.errors_robust, True)):
        expected = np.sqrt(np.diag(model.compute_param_cov(params, robust=robust)))
        assert_allclose(np.array(errors) * percent(garch), expected, rtol=0.01)


def test_every_forecast_of_the_next_bar_is_that_of_arch(garch, returns):
    _, fixed = in_arch(garch, returns)
    volatility = 100 * garch.filter(returns)
    assert_allclose(volatility[:-1], fixed.conditional_volatility[1:], rtol=1e-10)
    assert_allclose(volatility[-1], np.sqrt(fixed.forecast(horizon=1).variance.to_numpy()[-1, 0]), rtol=1e-10)


def test_forecasts_of_later_bars_are_those_of_arch(garch, returns):
    state = garch.initial_state()
    garch.advance(returns[:, None], state)
    expected = np.sqrt(in_arch(garch, returns)[1].forecast(horizon=12).variance.to_numpy()[-1])
    assert_allclose(100 * garch.forecast(state, 12), expected, rtol=1e-10)


def test_garch_in_other_units_is_the_same_garch(returns):
    fit, scaled = (Garch().fit(scale * returns[:1000], errors=False) for scale in (1.0, 1e4))
    assert_allclose(1e4 * fit.filter(returns), scaled.filter(1e4 * returns), rtol=1e-6)
    assert fit.errors_approx is None


@pytest.fixture(scope="module")
def har(variances) -> HarFit:
    return Har().fit(variances)


def test_har_is_that_of_arch(har, variances):
    result = HARX(np.sqrt(variances), lags=[1, 5, 22], rescale=False).fit(disp="off")
    assert_allclose(har.params, result.params[:-1], rtol=1e-8)
    assert har.residual == pytest.approx(np.sqrt(result.params.iloc[-1]), rel=1e-8)
    forecasts = result.forecast(horizon=1, start=21).mean.to_numpy().ravel()
    assert_allclose(har.filter(variances)[21:], np.maximum(forecasts, har.floor), rtol=1e-9)


def test_har_errors_are_those_of_least_squares_and_of_white(har, variances):
    root = np.sqrt(variances)
    means = [np.convolve(root, np.full(n, 1 / n), "valid")[22 - n : -1] for n in (1, 5, 22)]
    x, y = np.column_stack([np.ones(len(root) - 22), *means]), root[22:]
    inverse = np.linalg.inv(x.T @ x)
    residual = y - x @ (inverse @ x.T @ y)
    white = inverse @ (x.T * residual**2) @ x @ inverse
    assert_allclose(har.errors_approx, np.sqrt(np.diag(inverse) * residual.var()), rtol=1e-3)
    assert_allclose(har.errors_robust, np.sqrt(np.diag(white)), rtol=1e-3)


def test_har_waits_for_its_longest_window_and_never_falls_below_its_floor(har, variances):
    forecasts = har.filter(variances[:40])
    assert_array_equal(np.isnan(forecasts), np.arange(40) < 21)
    falling = HarFit(Har(), (-1.0, 0.0, 0.0, 0.0), floor=0.004)
    assert falling.filter(variances[:30])[-1] == 0.004


@settings(max_examples=20, deadline=None)
@given(split=st.integers(0, 60), kind=st.sampled_from(["garch", "har"]))
def test_steps_from_any_bar_on_are_the_whole_series_bit_by_bit(split, kind):
    chance = np.random.default_rng(split)
    values = chance.normal(size=60) * 0.01 if kind == "garch" else chance.uniform(1e-5, 1e-3, 60)
    fit = {
        "garch": GarchFit(GJR_T, (0.0, 1e-6, 0.05, 0.1, 0.85, 6.0), 1e-4),
        "har": HarFit(Har((1, 4, 9)), (0.001, 0.3, 0.3, 0.3), 1e-9),
    }[kind]
    state = fit.initial_state()
    fit.advance(values[:split, None], state)
    stepped = [fit.step(row, state) for row in values[split:, None]]
    assert_array_equal(stepped, fit.filter(values)[split:])


def test_fits_survive_json(garch, har):
    assert GarchFit.from_dict(json.loads(json.dumps(garch.to_dict()))) == garch
    assert HarFit.from_dict(json.loads(json.dumps(har.to_dict()))) == har


def test_what_is_no_series_is_refused():
    with pytest.raises(ConfigError, match="at least 5"):
        Garch().fit(np.zeros(3))
    with pytest.raises(ConfigError, match="that vary"):
        Garch().fit(np.zeros(100))
    with pytest.raises(ConfigError, match="finite series"):
        Har().fit(np.array([np.nan] * 100))
    with pytest.raises(ConfigError, match="ascending"):
        Har((5, 1))
