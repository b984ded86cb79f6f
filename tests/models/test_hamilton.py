"""The Hamilton filter against statsmodels, all paths written out, and log-likelihoods that have been published."""

from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.tsa.regime_switching import markov_switching
from statsmodels.tsa.regime_switching import tests as published_cases
from statsmodels.tsa.regime_switching.markov_autoregression import MarkovAutoregression
from statsmodels.tsa.regime_switching.markov_regression import MarkovRegression
from statsmodels.tsa.regime_switching.tests.test_markov_autoregression import rec, rgnp
from statsmodels.tsa.regime_switching.tests.test_markov_regression import areturns, fedfunds

from hissbt.errors import ConfigError
from hissbt.models.switching import HamiltonFilter, hamilton_filter


def random_case(k, length, seed, batch=(), scale=2.0):
    """Return loglik, transition and initial of a chain whose matrix changes at every bar."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*batch, *shape, generator=generator, dtype=torch.float64)

    return scale * normal(length, k), (scale * normal(length, k, k)).softmax(-1), normal(k).softmax(-1)


cases = st.builds(random_case, st.integers(2, 4), st.integers(1, 60), st.integers(0, 2**32))


def assert_close(ours, theirs):
    """In float64, to 1e-10."""
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours, torch.as_tensor(theirs).double(), atol=1e-10, rtol=0)


# -------------------------------------------------------------------------------------------- statsmodels


@settings(max_examples=40, deadline=None)
@given(cases)
def test_it_is_the_filter_of_statsmodels(case):
    loglik, transition, initial = case
    columns = transition.permute(2, 1, 0).contiguous().numpy()  # theirs: [to, from, t]
    theirs = markov_switching.cy_hamilton_filter_log(initial.numpy(), columns, loglik.T.contiguous().numpy(), 0)
    filtered, predicted, log_likelihood = hamilton_filter(*case)
    assert_close(filtered, theirs[0].T)
    assert_close(predicted, theirs[1].T)
    assert_close(log_likelihood, theirs[2].sum())


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 3), st.integers(0, 2**32))
def test_it_is_the_filter_of_a_markov_regression(k, seed):
    """With probabilities that covariates drive, at any parameters; its smoother starts from a filter."""
    rng = np.random.default_rng(seed)
    covariates = np.column_stack([np.ones(80), rng.normal(size=80)])
    model = MarkovRegression(rng.normal(size=80), k, exog_tvtp=covariates, switching_variance=True)
    params = rng.normal(size=len(model.start_params))
    params[model.parameters["variance"]] = rng.uniform(0.2, 3.0, size=k)
    theirs = model.smooth(params)
    filtered, _, log_likelihood = hamilton_filter(*expanded(model, params))
    now = filtered.unflatten(-1, (k, -1)).sum(-1)  # whatever the bar before
    assert_close(now, theirs.filtered_marginal_probabilities)
    assert_close(log_likelihood, theirs.llf)


def expanded(model, params):
    """Return loglik, transition and initial of a model of theirs; a state is the regimes of ``order`` + 1 bars.

    Newest first, as in their arrays: a step goes from (a0 .. ap) to (b, a0 .. a(p-1)) with P(b after a0).
    """
    loglik = model._conditional_loglikelihoods(params)  # [K, .., K, T], newest first
    k, order, length = model.k_regimes, loglik.ndim - 2, loglik.shape[-1]
    columns = np.broadcast_to(model.regime_transition_matrix(params), (k, k, length + model.order))
    initial = model.initial_probabilities(params)
    for t in range(order):
        initial = columns[..., t].reshape(k, k, *[1] * (initial.ndim - 1)) * initial
    states = list(product(range(k), repeat=order + 1))
    transition = np.zeros((length, len(states), len(states)))
    for i, before in enumerate(states):
        for j, after in enumerate(states):
            if after[1:] == before[:-1]:
                transition[:, i, j] = columns[after[0], before[0], model.order :]
    tensors = loglik.reshape(-1, length).T, transition, initial.reshape(-1)
    return [torch.tensor(np.ascontiguousarray(z)) for z in tensors]


def fedfunds_constant():
    return MarkovRegression(fedfunds, 2), [0.9820939, 0.0503587, 3.70877, 9.556793, 2.107562**2]


def fedfunds_lagged():
    params = [0.6378175, 0.1306295, 0.724457, -0.0988764, 0.7631424, 1.061174, 0.6915759**2]
    return MarkovRegression(fedfunds[1:], 2, exog=fedfunds[:-1]), params


def stock_returns():
    params = [0.7530865, 0.6825357, 0.7641424, 1.972771, 0.0790744, 0.527953, 0.5895792**2, 1.605333**2]
    return MarkovRegression(areturns[1:], 2, exog=areturns[:-1], switching_variance=True), params


def gnp_given_recessions():
    params = [6.564923, 7.846371, -8.064123, -15.37636, 1.027190, -0.719760, np.exp(-0.217003) ** 2]
    covariates = np.column_stack([np.ones(len(rgnp)), rec])
    return MarkovAutoregression(rgnp, 2, order=1, exog_tvtp=covariates), [*params, 0.161489, 0.022536]


def gnp_of_hamilton():
    params = [0.754673, 0.095915, -0.358811, 1.163516, np.exp(-0.262658) ** 2]
    lags = [0.013486, -0.057521, -0.246983, -0.212923]
    return MarkovAutoregression(rgnp, 2, order=4, switching_ar=False), params + lags


def production_of_filardo():
    params = [4.35941747, -1.6493936, 1.7702123, 0.9945672, 0.517298, -0.865888, np.exp(-0.362469) ** 2]
    table = pd.read_csv(Path(published_cases.__file__).parent / "results" / "mar_filardo.csv")
    leading = table["dmdlleading"].to_numpy()[:-1]  # known one bar before
    covariates = np.column_stack([np.ones(len(leading)), leading])
    model = MarkovAutoregression(
        table["dlip"].to_numpy()[1:], 2, order=4, switching_ar=False, exog_tvtp=covariates
    )  # fmt: skip
    return model, [*params, 0.189474, 0.079344, 0.110944, 0.122251]


@pytest.mark.parametrize(
    ("case", "log_likelihood", "digits"),
    [
        (fedfunds_constant, -508.63592, 5),
        (fedfunds_lagged, -264.71069, 5),
        (stock_returns, -745.7977, 4),
        (gnp_given_recessions, -163.914049, 5),
        (gnp_of_hamilton, -181.26339, 5),
        (production_of_filardo, -586.5718, 4),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_published_log_likelihoods_come_out(case, log_likelihood, digits):
    """From Stata's and EViews' manuals, as statsmodels' own tests have them."""
    model, params = case()
    _, _, ours = hamilton_filter(*expanded(model, np.array(params)))
    assert round(ours.item(), digits) == round(log_likelihood, digits)


# ------------------------------------------------------------------------------------------- first principles


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 3), st.integers(1, 8), st.integers(0, 2**32))
def test_it_is_the_sum_over_all_paths(k, length, seed):
    loglik, transition, initial = random_case(k, length, seed)
    paths = torch.tensor(list(product(range(k), repeat=length + 1)))  # from the regime before the first step on
    weight, filtered = initial[paths[:, 0]], []
    for t, (before, after) in enumerate(pairwise(paths.T)):
        weight = weight * transition[t, before, after] * loglik[t, after].exp()
        filtered.append(torch.stack([weight[after == regime].sum() for regime in range(k)]))
    total, filtered = weight.sum(), torch.stack(filtered)  # paths that differ later count often, but all equally
    ours, _, log_likelihood = hamilton_filter(loglik, transition, initial)
    assert_close(ours, filtered / filtered.sum(-1, keepdim=True))
    assert_close(log_likelihood, total.log())


@settings(max_examples=40, deadline=None)
@given(cases, st.randoms(use_true_random=False))
def test_regimes_have_no_order(case, random):
    loglik, transition, initial = case
    order = list(range(len(initial)))
    random.shuffle(order)
    filtered, predicted, log_likelihood = hamilton_filter(*case)
    again = hamilton_filter(loglik[:, order], transition[:, order][..., order], initial[order])
    for ours, theirs in zip((filtered[:, order], predicted[:, order], log_likelihood), again, strict=True):
        assert_close(ours, theirs)


@settings(max_examples=40, deadline=None)
@given(cases)
def test_the_first_prediction_is_the_first_step_from_the_initial_probabilities(case):
    _, transition, initial = case
    _, predicted, _ = hamilton_filter(*case)
    assert_close(predicted[0], initial @ transition[0])


@pytest.mark.parametrize("k", [2, 3])
def test_its_gradients_are_right(k):
    loglik, logits, start = random_case(k, 6, seed=1, batch=(2,))

    def run(loglik, logits, start):
        return hamilton_filter(loglik, logits.softmax(-1), start.softmax(-1))

    assert torch.autograd.gradcheck(run, [z.requires_grad_() for z in (loglik, logits, start)])


@pytest.mark.parametrize("seed", range(4))
def test_it_survives_logits_of_fifty(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = 100.0 * torch.randint(0, 2, (200, 3, 3), generator=generator).double() - 50
    loglik = 100.0 * torch.randint(0, 2, (200, 3), generator=generator).double() - 50
    logits.requires_grad_()
    loglik.requires_grad_()
    filtered, predicted, log_likelihood = hamilton_filter(
        loglik, logits.softmax(-1), torch.ones(3, dtype=torch.float64) / 3
    )
    for probabilities in (filtered, predicted):
        assert_close(probabilities.sum(-1), torch.ones(200))
    log_likelihood.backward()
    assert log_likelihood.isfinite()
    assert logits.grad.isfinite().all()
    assert loglik.grad.isfinite().all()


def test_what_is_impossible_stays_so_and_gradients_stay_numbers():
    loglik = torch.tensor([[0.0, 1000.0]] * 5, dtype=torch.float64, requires_grad=True)
    transition = torch.eye(2, dtype=torch.float64).expand(5, 2, 2).clone().requires_grad_()
    filtered, _, log_likelihood = hamilton_filter(loglik, transition, torch.tensor([1.0, 0.0]))
    assert_close(filtered, torch.tensor([[1.0, 0.0]] * 5))
    assert log_likelihood == 0
    log_likelihood.backward()
    assert transition.grad.isfinite().all()
    assert loglik.grad.isfinite().all()


def test_a_regime_that_evidence_had_ruled_out_comes_back_with_evidence():
    """exp(-2000) is no number in float64; its logarithm is."""
    loglik = torch.tensor([[0.0, -2000.0], [-4000.0, 0.0]])
    filtered, _, _ = hamilton_filter(loglik, torch.eye(2).expand(2, 2, 2), torch.tensor([0.5, 0.5]))
    assert_close(filtered, torch.tensor([[1.0, 0.0], [0.0, 1.0]]))


# ---------------------------------------------------------------------------------------------- the layer


@settings(max_examples=40, deadline=None)
@given(cases)
def test_steps_are_the_whole_sequence(case):
    loglik, transition, initial = case
    layer = HamiltonFilter()
    filtered, predicted, log_density, last = layer(loglik, transition, initial.log())
    state = initial.log()
    for t in range(len(loglik)):
        *now, state = layer.step(loglik[t], transition[t], state)
        for ours, theirs in zip(now, (filtered[t], predicted[t], log_density[t]), strict=True):
            assert_close(ours, theirs.detach())
    assert_close(state, last)


def test_a_batch_is_its_sequences():
    case = random_case(3, 20, seed=5, batch=(2, 4))
    together = hamilton_filter(*case)
    for i, j in product(range(2), range(4)):
        alone = hamilton_filter(*(z[i, j] for z in case))
        for ours, theirs in zip(together, alone, strict=True):
            assert_close(ours[i, j], theirs)


def test_it_computes_in_float64_whatever_is_given():
    case = random_case(2, 500, seed=3)
    rounded = [z.float() for z in case]
    ours = hamilton_filter(*rounded)
    assert all(z.dtype == torch.float64 for z in ours)
    for single, double in zip(ours, hamilton_filter(*(z.double() for z in rounded)), strict=True):
        assert torch.equal(single, double)


def test_nothing_observed_leaves_the_state():
    layer = HamiltonFilter()
    state = layer.initial_state(3, 2)
    filtered, _, log_density, after = layer(torch.zeros(2, 0, 3), torch.zeros(2, 0, 3, 3), state)
    assert filtered.shape == (2, 0, 3)
    assert log_density.shape == (2, 0)
    assert torch.equal(after, state)


@pytest.mark.parametrize("t", [0, 7])
def test_what_comes_later_alters_nothing_before(t):
    loglik, transition, initial = random_case(3, 20, seed=8)
    before = hamilton_filter(loglik, transition, initial)
    loglik, transition = loglik.clone(), transition.clone()
    loglik[t + 1 :], transition[t + 1 :] = -3 * loglik[t + 1 :], transition[t + 1 :].flip(-1)
    after = hamilton_filter(loglik, transition, initial)
    assert torch.equal(before[0][: t + 1], after[0][: t + 1])
    assert torch.equal(before[1][: t + 1], after[1][: t + 1])


def test_columns_in_place_of_rows_are_refused():
    loglik, transition, initial = random_case(2, 5, seed=1)
    with pytest.raises(ConfigError, match="rows of the transition matrices"):
        hamilton_filter(loglik, transition.transpose(1, 2), initial)
