"""The article's tables agree with themselves and with the spans that we take; the comparison runs to its end."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from hissbt.bars import Bars
from hissbt.econometrics import MarkovFit, MarkovSwitching
from hissbt.errors import BarsError, ConfigError
from hissbt.feeds import load_bars
from hissbt.market import Market
from hissbt.research.compare import compare
from hissbt.research.performance import strategy_returns, turnover
from hissbt.research.switching_paper import QUICK, compare_switching_paper, measure
from hissbt.research.switching_paper.estimates import ESTIMATES, Estimate, compared
from hissbt.research.switching_paper.forecasts import baselines, jobs
from hissbt.research.switching_paper.material import material
from hissbt.research.switching_paper.protocol import KINDS, PAPER
from hissbt.research.switching_paper.tables import (
    BACKTEST_IN_SAMPLE,
    BACKTEST_OUT_OF_SAMPLE,
    CLASSIFICATION,
    MARKOV,
    implied_asset_mean,
)
from hissbt.research.switching_paper.verdicts import judged
from hissbt.trials import Trials

TABLES = {"in sample": BACKTEST_IN_SAMPLE, "out of sample": BACKTEST_OUT_OF_SAMPLE}
COLUMNS = [
    pytest.param(column, id=f"{name} {kind}") for name, table in TABLES.items() for kind, column in table.items()
]
TINY = replace(
    QUICK,
    since=None,
    until=None,
    sequence=25,
    units=3,
    layers=1,
    tkan={"n_sublayers": 1, "order": 1, "grid_size": 2, "sub_output": 2},
    training=replace(QUICK.training, max_epochs=1, batch_size=64),
    repeats=20,
)


@pytest.fixture(scope="module")
def bitcoin(market_data) -> Bars:
    return load_bars(market_data / "yahoo_BTC-USD_1d_2014-09_2024-12.csv", market=Market("BTC-USD"))


@pytest.fixture(scope="module")
def made_up() -> Bars:
    """A random walk of 700 days with ranges."""
    rng = np.random.default_rng(0)
    close = 100 * np.exp(np.cumsum(rng.normal(0, 0.03, 700)))
    opened = np.append(100.0, close[:-1])
    spread = np.exp(np.abs(rng.normal(0, 0.01, (2, 700))))
    frame = pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close) * spread[0],
            "low": np.minimum(opened, close) / spread[1],
            "close": close,
            "volume": 1.0,
        },
        index=pd.date_range("2020-01-01", periods=700, tz="UTC"),
    )
    return Bars.from_frame(frame, market=Market("MADE/UP"))


# --- what the article prints


@pytest.mark.parametrize("column", COLUMNS)
def test_the_backtests_of_the_article_are_annualized_with_365_days(column):
    assert column["sharpe"] == pytest.approx(column["mean_return"] / column["deviation"], abs=2e-5)
    assert column["annual_turnover"] == pytest.approx(365 * column["daily_turnover"], abs=2e-4)
    ratio = column["mean_return"] / column["annual_turnover"]
    assert column["mean_return_on_volume"] == pytest.approx(ratio, abs=1e-6)


@pytest.mark.parametrize("name", TABLES)
def test_all_columns_of_a_backtest_imply_the_same_asset(name):
    means = [implied_asset_mean(column) for column in TABLES[name].values()]
    assert max(means) - min(means) < 1e-4
    squares = [c["deviation"] ** 2 + c["mean_return"] ** 2 / 365 for c in TABLES[name].values()]
    assert max(squares) - min(squares) < 2e-6


@pytest.mark.parametrize(("name", "days"), [("in sample", 2715), ("out of sample", 611)])
def test_the_turnovers_of_the_article_count_whole_turns_over_the_days_that_we_take(name, days):
    for column in TABLES[name].values():
        turns = column["daily_turnover"] * days / 2
        assert turns == pytest.approx(round(turns), abs=2e-3)


def test_a_turnover_is_counted_as_in_the_article():
    positions = np.where(np.arange(612) % 2, 1.0, -1.0)
    positions[107:] = positions[106]  # 106 turns, of which each trades 2
    assert turnover(positions) == pytest.approx(2 * 106 / 611)


def test_the_classification_of_the_article_agrees_with_itself():
    for accuracy, zero, one in CLASSIFICATION.values():
        assert zero.support + one.support == 612
        hits = zero.recall * zero.support + one.recall * one.support
        assert hits / 612 == pytest.approx(accuracy, abs=0.011)


def test_every_published_coefficient_has_a_name_in_our_model():
    for published in MARKOV:
        model = MarkovSwitching(published.regimes, published.covariates, regressors=published.regressors)
        assert set(model.names()) == set(published.coefficients)


# --- the spans


def test_our_span_is_that_of_the_article_by_its_own_figures(bitcoin):
    data = material(bitcoin, PAPER)
    for rows, table in ((data.in_sample, BACKTEST_IN_SAMPLE), (data.test, BACKTEST_OUT_OF_SAMPLE)):
        asset = data.next_return[rows.start : rows.stop]
        column = table["m-tkan"]
        square = column["deviation"] ** 2 + column["mean_return"] ** 2 / 365
        assert 365 * asset.mean() == pytest.approx(implied_asset_mean(column), abs=1e-3)
        assert 365 * np.mean(asset**2) == pytest.approx(square, abs=1e-4)
    assert (len(data.in_sample), len(data.test), len(data.x)) == (2716, 612, 3508)


def test_no_label_reads_a_bar_of_the_next_span(made_up):
    data = material(made_up, TINY)
    for rows, following in ((data.train, data.validation), (data.validation, data.test)):
        assert rows.stop - 1 + TINY.span < following.start
    for rows in (data.train, data.validation, data.test):
        assert np.isfinite(data.labels[rows.start : rows.stop]).all()


def test_inputs_are_scaled_by_the_training_span_alone(made_up):
    data = material(made_up, TINY)
    assert np.abs(data.x[: data.train.stop]).max() == pytest.approx(1.0)
    np.testing.assert_allclose(data.x[: data.train.stop].mean(axis=0), 0, atol=1e-12)
    frame = made_up.frame.copy()
    frame.iloc[1 + data.train.stop :, :4] *= 10
    changed = material(Bars(frame, made_up.market, made_up.timeframe), TINY)
    np.testing.assert_array_equal(changed.x[: data.train.stop], data.x[: data.train.stop])
    assert changed.zero_return == data.zero_return


def test_a_return_of_zero_is_named_in_the_units_of_its_column(made_up):
    data = material(made_up, TINY)
    slope, constant = np.polyfit(data.raw[:, 0], data.x[:, 0], 1)
    assert slope > 0
    assert data.zero_return == pytest.approx(constant)


def test_the_next_return_is_what_a_position_earns(made_up):
    data = material(made_up, TINY)
    held = strategy_returns(np.ones(len(data.test)), data.next_return[data.test.start : data.test.stop])
    assert np.prod(1 + held) == pytest.approx(data.price[data.test.stop] / data.price[data.test.start])


def test_bars_that_do_not_reach_over_the_span_are_refused(made_up):
    with pytest.raises(BarsError, match="2014-11-27"):
        material(made_up, PAPER)
    with pytest.raises(BarsError, match="too few"):
        material(made_up[:150], TINY)


# --- rules and verdicts


def test_rules_without_training_look_at_nothing_later(made_up):
    whole = baselines(material(made_up, TINY), TINY)
    frame = made_up.frame.copy()
    frame.iloc[600:, :4] *= np.linspace(0.2, 1, 100)[:, None]
    changed = baselines(material(Bars(frame, made_up.market, made_up.timeframe), TINY), TINY)
    for name, said in whole.items():
        if "hindsight" not in name:
            np.testing.assert_array_equal(said[:599], changed[name][:599])


def test_the_last_complete_label_is_that_of_a_span_ago(made_up):
    data = material(made_up, TINY)
    said = baselines(data, TINY)["the last label that is complete"]
    np.testing.assert_array_equal(said[100:], data.labels[80:-20] == 1)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [((0.1, 0.2), "holds"), ((-0.1, 0.2), "is not shown"), ((-0.2, -0.1), "is contradicted")],
)
def test_a_claim_about_a_difference_is_judged_by_its_interval(interval, verdict):
    assert judged(interval) == verdict


def test_a_fit_beside_what_was_published():
    estimate = ESTIMATES[0]
    published = estimate.published.coefficients
    names = MarkovSwitching(2).names()
    params = tuple(-published[name][0] if name == "const[1]" else published[name][0] for name in names)
    fit = MarkovFit(MarkovSwitching(2), params, 5.0, 100, errors_approx=(1e-9,) * 6, errors_robust=(1e9,) * 6)
    rows = {row["name"]: row for row in compared(estimate, fit)["rows"]}
    assert rows["const[1]"]["same_sign"] is False
    assert rows["const[2]"]["same_sign"] is True
    assert rows["sigma2[1]"]["same_sign"] is None
    assert not rows["const[1]"]["differs_from_0"]
    assert rows["const[1]"]["within_2_errors"]


def test_every_network_is_trained_with_every_seed():
    assert sorted(jobs(QUICK)) == sorted((kind, seed) for kind in KINDS for seed in QUICK.seeds)


def test_a_coefficient_where_the_likelihood_is_flat_does_not_differ_from_zero():
    """There the robust error vanishes, and that of the Hessian does not."""
    estimate = ESTIMATES[0]
    params = tuple(estimate.published.coefficients[name][0] for name in MarkovSwitching(2).names())
    for approx, robust in ((1e9, 1e-9), (np.nan, 1e-9), (1e-9, np.nan)):
        errors = {"errors_approx": (approx,) * 6, "errors_robust": (robust,) * 6}
        fit = MarkovFit(MarkovSwitching(2), params, 5.0, 100, **errors)
        assert not any(row["differs_from_0"] for row in compared(estimate, fit)["rows"])


# --- from end to end


def published_fit(estimate: Estimate, data, protocol) -> MarkovFit:
    """Stands for an estimation, which takes minutes: the article's coefficients."""
    published = estimate.published
    model = MarkovSwitching(
        published.regimes, published.covariates, lag=estimate.lag, regressors=published.regressors
    )
    params = tuple(published.coefficients[name][0] for name in model.names())
    errors = tuple(published.coefficients[name][1] for name in model.names())
    return MarkovFit(model, params, 5000.0, len(data.x), True, 1, 1, errors, errors)


@pytest.fixture(scope="module")
def compared_run(made_up, tmp_path_factory):
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Estimate, "fit", published_fit)
        folder, results = compare_switching_paper(
            made_up, TINY, out=tmp_path_factory.mktemp("runs"), workers=1, progress=lambda *now: told.append(now)
        )
        again = measure(made_up, TINY, workers=1)
    return folder, results, again, told


def test_the_folder_holds_the_page_and_every_figure(compared_run):
    folder, results, _, _ = compared_run
    assert folder.name.endswith("-compare-switching-paper-MADEUP")
    assert sorted(file.name for file in folder.iterdir()) == ["report.html", "results.json"]
    kept = json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)
    assert kept["data"]["sha256"] == results["data"]["sha256"]
    assert kept["protocol"]["seeds"] == [0, 1]
    for network in KINDS:
        assert len(kept["classification"]["rows"][network]["seeds"]) == 2
        assert len(kept["backtest"]["out_of_sample"][network]["net"]["seeds"]) == 2
    assert {"statsmodels", "arch", "torch"} <= kept["provenance"]["versions"].keys()


def test_the_page_says_what_holds_and_that_the_run_was_short(compared_run):
    folder, results, _, _ = compared_run
    page = (folder / "report.html").read_text()
    for table in (*(f"Table {number}" for number in range(1, 7)), "Appendix"):
        assert results["verdicts"][table]
        assert results["verdicts"][table].split(":")[0] in page.replace("&#x27;", "'")
    assert "short run" in page


def test_the_same_bars_and_protocol_give_the_same_figures(compared_run):
    _, results, again, _ = compared_run
    for part in ("classification", "backtest", "verdicts", "markov"):
        assert json.dumps(results[part]) == json.dumps(again[part])


def test_progress_counts_every_piece_of_work(compared_run):
    *_, told = compared_run
    total = len(KINDS) * 2 + len(ESTIMATES)
    assert [done for _, done, _ in told] == list(range(1, total + 1))
    assert {parts for _, _, parts in told} == {total}


def test_every_network_is_a_trial_of_these_bars(compared_run, made_up):
    folder, *_ = compared_run
    ledger = Trials(folder.parent)
    assert len(ledger.tried(made_up.market.symbol, "1d")) == len(KINDS) * 2
    assert ledger.verify() == []


def test_costs_only_take(compared_run):
    _, results, _, _ = compared_run
    for sample in results["backtest"].values():
        for found in sample.values():
            assert found["net"]["mean"]["mean_return"] < found["gross"]["mean"]["mean_return"]


def test_an_unknown_preset_is_refused(made_up):
    with pytest.raises(ConfigError, match="switching-paper"):
        compare(made_up, "nonsense")
