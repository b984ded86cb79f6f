"""Markov switching: the published likelihoods to their printed digits, and statsmodels' filtered probabilities.

The series are those of statsmodels' own tests, which come with it: the federal funds rate and the returns of
Stata's manual, Hamilton's GNP growth with NBER recessions, Filardo's industrial production. The values are
EViews' and Stata's.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from statsmodels.tsa.regime_switching.tests import test_markov_autoregression as autoregression
from statsmodels.tsa.regime_switching.tests import test_markov_regression as regression

from hissbt.econometrics import MarkovFit, MarkovSwitching
from hissbt.econometrics.estimation import statsmodels_model
from hissbt.errors import ConfigError

COMMON_VARIANCE = {"switching_variance": False}
HAMILTON = {"expanded": True, "switching_ar": False, **COMMON_VARIANCE}
FILARDO = pd.read_csv(Path(regression.__file__).parent / "results" / "mar_filardo.csv")

PUBLISHED = {  # model, returns, covariates, parameters, log-likelihood
    "fed funds": (
        MarkovSwitching(**COMMON_VARIANCE),
        regression.fedfunds,
        None,
        [0.9820939, 0.0503587, 3.70877, 9.556793, 2.107562**2],
        "-508.63592",
    ),
    "fed funds with a lag": (
        MarkovSwitching(lags=1, **COMMON_VARIANCE),
        regression.fedfunds,
        None,
        [0.6378175, 0.1306295, 0.724457, -0.0988764, 0.7631424, 1.061174, 0.6915759**2],
        "-264.71069",
    ),
    "returns with a lag and two variances": (
        MarkovSwitching(lags=1),
        regression.areturns,
        None,
        [0.7530865, 0.6825357, 0.7641424, 1.972771, 0.0790744, 0.527953, 0.5895792**2, 1.605333**2],
        "-745.7977",
    ),
    "GNP, AR(1), transitions by recession": (
        MarkovSwitching(lags=1, expanded=True, covariates=("recession",), lag=0, **COMMON_VARIANCE),
        autoregression.rgnp,
        np.array(autoregression.rec, dtype=float)[:, None],
        [6.564923, 7.846371, -8.064123, -15.37636, 1.02719, -0.71976, np.exp(-0.217003) ** 2, 0.161489, 0.022536],
        "-163.914049",
    ),
    "Hamilton's AR(4)": (
        MarkovSwitching(lags=4, **HAMILTON),
        autoregression.rgnp,
        None,
        [0.754673, 0.095915, -0.358811, 1.163516, np.exp(-0.525316), 0.013486, -0.057521, -0.246983, -0.212923],
        "-181.26339",
    ),
    "Filardo's AR(4), transitions by the leading indicator a month before": (
        MarkovSwitching(lags=4, covariates=("leading",), **HAMILTON),
        FILARDO["dlip"],
        FILARDO[["dmdlleading"]],
        np.r_[4.35941747, -1.6493936, 1.7702123, 0.9945672, 0.517298, -0.865888, np.exp(-0.724938),
              0.189474, 0.079344, 0.110944, 0.122251],
        "-586.5718",
    ),
}  # fmt: skip


@pytest.fixture(params=PUBLISHED.values(), ids=PUBLISHED, scope="module")
def published(request):
    model, returns, covariates, params, printed = request.param
    covariates = None if covariates is None else np.array(covariates)
    return MarkovFit(model, tuple(map(float, params))), np.array(returns), covariates, printed


def test_the_published_log_likelihood_to_its_printed_digits(published):
    fit, returns, covariates, printed = published
    path = fit.filter(returns, covariates)
    half_a_digit = 0.5001 * 10 ** -len(printed.partition(".")[2])
    from_rounded_parameters = 2e-6  # moves only the case that is printed to six decimals
    assert np.nansum(path.log_density) == pytest.approx(
        float(printed), abs=max(half_a_digit, from_rounded_parameters)
    )


def marginal(joint: np.ndarray) -> np.ndarray:
    """Return [T,K] of joint probabilities [K,..,K,T]: the first axis is the newest regime."""
    return joint.reshape(len(joint), -1, joint.shape[-1]).sum(axis=1).T


def assert_equals_statsmodels(fit: MarkovFit, returns, covariates) -> None:
    """Filtered, predicted and densities to 1e-10, and NaN exactly where the lags fill."""
    path, first = fit.filter(returns, covariates), fit.model.first_row
    y, x = fit.model.checked(returns, covariates)
    oracle = statsmodels_model(fit.model, y, x).smooth(np.array(fit.params))
    for ours in (path.filtered, path.predicted, path.ahead, path.log_density[:, None]):
        assert np.isnan(ours[:first]).all()
    assert_allclose(path.filtered[first:], np.asarray(oracle.filtered_marginal_probabilities), atol=1e-10)
    assert_allclose(path.predicted[first:], marginal(oracle.predicted_joint_probabilities), atol=1e-10)
    assert_allclose(path.log_density[first:], oracle.llf_obs, atol=1e-10, rtol=1e-10)


def test_filtered_probabilities_are_those_of_statsmodels(published):
    fit, returns, covariates, _ = published
    assert_equals_statsmodels(fit, returns, covariates)


def test_filtered_is_not_smoothed():
    fit = MarkovFit(*PUBLISHED["fed funds"][0::3][:2])
    returns = np.array(PUBLISHED["fed funds"][1])
    smoothed = statsmodels_model(fit.model, returns, np.empty((len(returns), 0))).smooth(np.array(fit.params))
    smoothed = np.asarray(smoothed.smoothed_marginal_probabilities)
    assert np.abs(fit.filter(returns).filtered - smoothed).max() > 0.1


@st.composite
def random_fits(draw):
    """A model with random parameters, and a series that it can be run over."""
    lags = draw(st.integers(0, 2))
    covariates = ("a", "b")[: draw(st.integers(0, 2))]
    expanded = draw(st.booleans()) if lags else False
    model = MarkovSwitching(
        regimes=draw(st.integers(2, 4 if lags < 2 else 3)),
        covariates=covariates,
        lag=draw(st.integers(0, 1)),
        lags=lags,
        regressors=() if expanded else draw(st.permutations(covariates))[: draw(st.integers(0, 2))],
        expanded=expanded,
        switching_ar=draw(st.booleans()),
        switching_variance=draw(st.booleans()),
    )
    chance = np.random.default_rng(draw(st.integers(0, 2**32)))
    k = model.regimes
    params = chance.normal(0.0, 0.6, len(model.names()))
    if not model.covariates:
        params[: k * (k - 1)] = chance.dirichlet(np.ones(k), k)[:, :-1].T.ravel()
    for place, name in enumerate(model.names()):
        if name.startswith("sigma2"):
            params[place] = np.exp(params[place])
    rows = draw(st.integers(model.first_row + 1, 60))
    fit = MarkovFit(model, tuple(params.tolist()))
    return fit, chance.normal(size=rows), chance.normal(size=(rows, len(model.covariates)))


@settings(max_examples=60, deadline=None)
@given(random_fits())
def test_any_model_filters_as_statsmodels_does(case):
    assert_equals_statsmodels(*case)


@settings(max_examples=30, deadline=None)
@given(random_fits(), st.data())
def test_steps_from_any_bar_on_are_the_whole_series_bit_by_bit(case, data):
    fit, returns, covariates = case
    whole = fit.filter(returns, covariates)
    split = data.draw(st.integers(0, len(returns)))
    rows = np.column_stack([returns, covariates])
    state = fit.initial_state()
    fit.advance(rows[:split], state)
    for t in range(split, len(rows)):
        for stepped, filtered in zip(fit.step(rows[t], state), whole, strict=True):
            assert_array_equal(stepped, filtered[t])


@settings(max_examples=30, deadline=None)
@given(random_fits(), st.data())
def test_nothing_depends_on_rows_that_come_later(case, data):
    fit, returns, covariates = case
    cut = data.draw(st.integers(0, len(returns)))
    altered = np.where(np.arange(len(returns)) < cut, returns, 9.0)
    other = fit.filter(altered, np.where(np.arange(len(returns))[:, None] < cut, covariates, -3.0))
    for ours, theirs in zip(fit.filter(returns, covariates), other, strict=True):
        assert_array_equal(ours[:cut], theirs[:cut])


@settings(max_examples=30, deadline=None)
@given(random_fits())
def test_what_is_ahead_is_what_is_predicted_a_bar_later(case):
    fit, returns, covariates = case
    path, first = fit.filter(returns, covariates), fit.model.first_row
    if fit.model.lag == 1 or not fit.model.covariates:
        assert_allclose(path.ahead[first:-1], path.predicted[first + 1 :], rtol=1e-12)
    assert_allclose(path.filtered[first:].sum(axis=1), 1.0)
    assert_allclose(path.ahead[first:].sum(axis=1), 1.0)


def test_with_lag_zero_the_probabilities_before_a_bar_know_its_covariates():
    """The look-ahead that lag=0 has, and lag=1 has not."""
    params = (0.0, 0.0, 3.0, 3.0, -1.0, 1.0, 1.0, 2.0)
    returns, covariates = np.zeros(10), np.zeros((10, 1))
    covariates[5] = 2.0
    for lag, first_moved in ((0, 5), (1, 6)):
        fit = MarkovFit(MarkovSwitching(covariates=("x",), lag=lag), params)
        plain, driven = (fit.filter(returns, values).predicted[:, 0] for values in (0 * covariates, covariates))
        assert np.flatnonzero(np.nan_to_num(plain) != np.nan_to_num(driven))[0] == first_moved


@settings(max_examples=30, deadline=None)
@given(random_fits())
def test_the_order_of_regimes_changes_no_likelihood(case):
    fit, returns, covariates = case
    ordered = MarkovFit(fit.model, tuple(fit.model.ordered(np.array(fit.params)).tolist()))
    assert (np.diff(ordered.parts.variances) >= 0).all()
    assert sorted(ordered.parts.slopes.ravel()) == sorted(fit.parts.slopes.ravel())
    ours, theirs = (f.filter(returns, covariates) for f in (fit, ordered))
    assert_allclose(theirs.log_density, ours.log_density, rtol=1e-8, atol=1e-10)
    assert_allclose(np.sort(theirs.filtered), np.sort(ours.filtered), atol=1e-8)


def test_moments_ahead_are_those_of_the_mixture():
    params = (0.9, 0.2, 0.001, -0.002, 1e-4, 4e-4)  # p[1->1], p[2->1], constants, variances
    path = MarkovFit(MarkovSwitching(), params).filter(np.array([0.01, -0.03]))
    for weights, mean, deviation in zip(path.ahead, path.expected_return, path.volatility, strict=True):
        assert mean == pytest.approx(weights @ [0.001, -0.002])
        second = weights @ [1e-4 + 0.001**2, 4e-4 + 0.002**2]
        assert deviation == pytest.approx(np.sqrt(second - mean**2))


def test_a_regressor_moves_the_mean_of_the_row_that_its_lag_says_and_what_is_expected_before():
    slopes = np.array([0.5, -2.0])
    params = (0.0, 0.0, 0.0, 0.0, 0.1, 0.2, *slopes, 1.0, 1.0)  # transitions of one half whatever x is
    returns, x = np.zeros(4), np.array([[0.0], [3.0], [0.0], [0.0]])
    for lag, moved in ((1, 2), (0, 1)):
        fit = MarkovFit(MarkovSwitching(covariates=("x",), lag=lag, regressors=("x",)), params)
        path = fit.filter(returns, x)
        means = np.array([0.1, 0.2]) + np.where(np.arange(4)[:, None] == moved, 3.0 * slopes, 0.0)
        densities = np.exp(-0.5 * means**2) / np.sqrt(2 * np.pi)
        assert_allclose(path.log_density[lag:], np.log(path.predicted * densities @ [1, 1])[lag:])
        # At lag 0 the covariates of the next bar are not known: those of this one stand for them.
        assert path.expected_return[1] == pytest.approx(path.ahead[1] @ ([0.1, 0.2] + 3.0 * slopes))


def test_an_expanded_variance_belongs_to_the_regime_of_the_row():
    """statsmodels 0.15.0 gives it to a regime before, at order 2 and above."""
    model = MarkovSwitching(lags=2, expanded=True)
    params = np.array([0.5, 0.5, 0.0, 0.0, 1.0, 100.0, 0.0, 0.0, 0.0, 0.0])
    problem = statsmodels_model(model, np.zeros(6), np.empty((6, 0)))
    densities = problem._conditional_loglikelihoods(params)  # [K,K,K,T]
    assert_allclose(densities[0], -0.5 * np.log(2 * np.pi))
    assert_allclose(densities[1], -0.5 * np.log(2 * np.pi * 100.0))


# --- estimation ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["fed funds", "returns with a lag and two variances"])
def test_a_fit_finds_the_published_maximum_and_standard_errors(case):
    model, returns, _, params, printed = PUBLISHED[case]
    fit = model.fit(np.array(returns), starts=2)
    assert fit.log_likelihood == pytest.approx(float(printed), abs=1e-4)
    assert fit.converged
    assert fit.starts == 2
    assert 1 <= fit.agreeing <= 2
    assert_allclose(np.sort(fit.params), np.sort(params), rtol=2e-3, atol=1e-3)
    stata = {"fed funds": [0.0104002, 0.0268434, 0.1767083, 0.2999889]}.get(
        case, [0.0634387, 0.0662574, 0.0782852, 0.2784204, 0.0301862, 0.0857841]
    )
    assert_allclose(fit.errors_approx[: len(stata)], stata, rtol=2e-3)
    assert np.isfinite(fit.errors_robust).all()
    assert not np.allclose(fit.errors_robust, fit.errors_approx, rtol=0.01)


def two_regimes(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return returns [T] that are calm or wild, and a covariate [T,1] that announces wild ones a bar before."""
    chance = np.random.default_rng(seed)
    covariate, wild = chance.normal(size=rows), np.zeros(rows, dtype=bool)
    for t in range(1, rows):
        wild[t] = chance.random() < 1 / (1 + np.exp((1.5 if not wild[t - 1] else -1.5) - 2.0 * covariate[t - 1]))
    return np.where(wild, 0.04, 0.01) * chance.normal(size=rows), covariate[:, None]


@pytest.fixture(scope="module")
def driven():
    returns, covariate = two_regimes(500, seed=1)
    fit = MarkovSwitching(covariates=("x",)).fit(returns, covariate, starts=2, seed=3)
    return returns, covariate, fit


def test_a_covariate_that_drives_the_regime_is_found_with_its_sign(driven):
    _, _, fit = driven
    values = dict(zip(fit.model.names(), zip(fit.params, fit.errors_approx, strict=True), strict=True))
    for name in ("p[1->1].x", "p[2->1].x"):  # towards the calm regime
        value, error = values[name]
        assert value < -2 * error
        assert abs(value + 2.0) < 3 * error


def test_units_change_a_fit_by_their_factor_only(driven):
    returns, covariate, fit = driven
    scaled = fit.model.fit(100 * returns, 7.0 + 10 * covariate, starts=2, seed=3)
    n = len(returns) - 1
    assert scaled.log_likelihood + n * np.log(100) == pytest.approx(fit.log_likelihood, abs=1e-6)
    assert_allclose(scaled.parts.variances, 1e4 * fit.parts.variances, rtol=1e-6)
    assert_allclose(scaled.parts.transition[:, 1], fit.parts.transition[:, 1] / 10, rtol=1e-6)
    assert_allclose(scaled.transition([7.0]), fit.transition([0.0]), rtol=1e-6)
    assert_allclose(scaled.errors_robust[-2:], 1e4 * np.array(fit.errors_robust[-2:]), rtol=1e-4)


def test_standard_errors_are_those_that_statsmodels_has_at_the_same_point(driven):
    returns, covariate, fit = driven
    model, params = statsmodels_model(fit.model, 100 * returns, covariate), np.array(fit.params)
    params[4:6] *= 100
    params[6:8] *= 1e4
    result = model.smooth(params)
    units = np.array([1, 1, 1, 1, 100, 100, 1e4, 1e4])
    assert_allclose(np.array(fit.errors_approx) * units, np.sqrt(np.diag(result.cov_params_approx)), rtol=1e-3)
    assert_allclose(np.array(fit.errors_robust) * units, np.sqrt(np.diag(result.cov_params_robust)), rtol=1e-3)


@pytest.fixture(scope="module", params=[1, 0], ids=["lag 1", "lag 0"])
def with_regressor(request):
    """A series whose mean follows a covariate too, one way when calm, the other when wild; and a fit to it."""
    returns, covariate = two_regimes(500, seed=2)
    wild = np.abs(returns) > 0.025
    driver = np.append(0.0, covariate[:-1, 0]) if request.param else covariate[:, 0]
    returns = returns + np.where(wild, -0.03, 0.006) * driver
    covariates = np.column_stack([covariate[:, 0], np.sin(np.arange(500.0))])
    model = MarkovSwitching(covariates=("x", "wave"), regressors=("x",), lag=request.param)
    return returns, covariates, model.fit(returns, covariates, starts=2, seed=3)


def test_a_slope_in_the_mean_is_found_in_each_regime(with_regressor):
    fit = with_regressor[2]
    values = dict(zip(fit.model.names(), zip(fit.params, fit.errors_robust, strict=True), strict=True))
    for name, sign in (("x[1]", 1), ("x[2]", -1)):
        value, error = values[name]
        assert sign * value > 3 * error


def test_a_fit_with_a_regressor_is_that_of_statsmodels_at_the_same_point(with_regressor):
    returns, covariates, fit = with_regressor
    assert_equals_statsmodels(fit, returns, covariates)
    units = np.array([*[1.0] * 6, *[100.0] * 4, *[1e4] * 2])
    result = statsmodels_model(fit.model, 100 * returns, covariates).smooth(units * fit.params)
    assert fit.log_likelihood - fit.n_obs * np.log(100) == pytest.approx(result.llf, abs=1e-6)
    assert_allclose(fit.errors_approx * units, np.sqrt(np.diag(result.cov_params_approx)), rtol=1e-3)
    assert_allclose(fit.errors_robust * units, np.sqrt(np.diag(result.cov_params_robust)), rtol=1e-3)


def test_units_change_a_fit_with_a_regressor_by_their_factor_only(with_regressor):
    returns, covariates, fit = with_regressor
    scaled = fit.model.fit(100 * returns, 7.0 + 10 * covariates, starts=2, seed=3)
    assert scaled.log_likelihood + fit.n_obs * np.log(100) == pytest.approx(fit.log_likelihood, abs=1e-6)
    assert_allclose(scaled.parts.slopes, 10 * fit.parts.slopes, rtol=1e-5)
    moved = 100 * fit.parts.intercepts - 7.0 * scaled.parts.slopes[:, 0]
    assert_allclose(scaled.parts.intercepts, moved, rtol=1e-5, atol=1e-6)
    again = fit.model.fit(returns, covariates, starts=0, near=fit, errors=False)
    assert_allclose(again.params, fit.params, rtol=1e-3, atol=1e-5)


def test_the_same_seed_gives_the_same_fit_and_a_fit_can_start_at_another(driven):
    returns, covariate, fit = driven
    assert fit.model.fit(returns, covariate, starts=2, seed=3) == fit
    again = fit.model.fit(returns, covariate, starts=0, near=fit, errors=False)
    assert again.log_likelihood == pytest.approx(fit.log_likelihood, abs=1e-6)
    assert again.errors_robust is None


def test_a_fit_survives_json(driven, with_regressor):
    for fit in (driven[2], with_regressor[2]):
        assert MarkovFit.from_dict(json.loads(json.dumps(fit.to_dict()))) == fit


def test_three_regimes_are_ordered_by_variance():
    chance = np.random.default_rng(5)
    blocks = [np.repeat(chance.permutation([0.3, 1.0, 4.0]), 40) for _ in range(5)]
    fit = MarkovSwitching(3).fit(np.concatenate(blocks) * chance.normal(size=600), starts=2, errors=False)
    assert_allclose(np.sqrt(fit.parts.variances), [0.3, 1.0, 4.0], rtol=0.2)
    assert_allclose(fit.transition().sum(axis=1), 1.0)
    assert fit.bic > fit.aic


def test_a_spike_of_the_likelihood_is_not_taken_for_a_maximum():
    chance = np.random.default_rng(0)
    returns = np.concatenate([chance.normal(size=100), np.zeros(3)])
    fit = MarkovSwitching().fit(returns, starts=4, errors=False)
    assert fit.parts.variances.min() > 1e-4 or not fit.converged


def test_what_is_no_model_or_no_series_is_refused():
    with pytest.raises(ConfigError, match="1 regimes"):
        MarkovSwitching(1)
    with pytest.raises(ConfigError, match="lag 0 or 1"):
        MarkovSwitching(covariates=("x",), lag=2)
    with pytest.raises(ConfigError, match="expanded model without lags"):
        MarkovSwitching(expanded=True)
    with pytest.raises(ConfigError, match="not among the covariates"):
        MarkovSwitching(covariates=("x",), regressors=("y",))
    with pytest.raises(ConfigError, match="each once"):
        MarkovSwitching(covariates=("x",), regressors=("x", "x"))
    with pytest.raises(ConfigError, match="no regressors in its mean"):
        MarkovSwitching(covariates=("x",), regressors=("x",), lags=1, expanded=True)
    model = MarkovSwitching(covariates=("x",))
    with pytest.raises(ConfigError, match="do not fit"):
        model.fit(np.zeros(50))
    with pytest.raises(ConfigError, match="not finite"):
        model.fit(np.array([np.nan] * 50), np.zeros((50, 1)))
    with pytest.raises(ConfigError, match="cannot determine 6 parameters"):
        MarkovSwitching().fit(np.arange(6.0))
    with pytest.raises(ConfigError, match="cannot determine"):
        MarkovSwitching().fit(np.zeros(100))
    with pytest.raises(ConfigError, match="which has 6"):
        MarkovSwitching().unpack(np.zeros(5))
