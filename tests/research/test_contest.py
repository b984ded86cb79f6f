"""The contest of the rivals: what nothing may look at, what is scored and how, and a run from end to end."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import norm
from sklearn import metrics

from hissbt.bars import Bars
from hissbt.errors import BarsError, ConfigError, TrainingError
from hissbt.research.contest import QUICK, compare_rivals, measure
from hissbt.research.contest.engine import FOLDER, play, tasks
from hissbt.research.contest.protocol import BUY_AND_HOLD, FULL, HISS
from hissbt.research.contest.scores import Board, Opinion, calibration_error, losses, scored, validation_score
from hissbt.research.contest.trading import positions
from hissbt.research.contest.verdicts import standing, suspicion, training
from hissbt.research.performance import strategy_returns
from hissbt.research.rivals.task import Forecasts, Rival
from hissbt.trials import Trials

TINY = replace(
    QUICK,
    horizon_intraday=6,
    features=("log_return",),
    repeats=40,
    choices={"less noise": {"noise": {"size": 0.0}}},
)


def noisy(task, setting, seed):
    """Forecast the volatility of the last bars, with noise that the setting and the seed decide."""
    count = len(task.judged)
    noise = np.random.default_rng(seed).standard_normal(count)
    known = np.sqrt(np.convolve(task.x[:, 0] ** 2, np.ones(24) / 24)[: len(task.bars)])[task.judged]
    volatility = np.sqrt(task.horizon) * known * np.exp(setting["noise"]["size"] * noise)
    return Forecasts(np.zeros(count), 0.5 + 0.01 * noise, volatility, {"parameters": 7})


def only_volatility(task, setting, seed):
    return replace(constant(task, setting, seed), expected_return=nothing(task), prob_up=nothing(task))


def constant(task, setting, seed):
    count = len(task.judged)
    return Forecasts(np.zeros(count), np.full(count, 0.5), np.full(count, np.nanstd(task.returns[task.train])))


def always_up(task, setting, seed):
    return Forecasts(nothing(task), np.full(len(task.judged), 0.4), nothing(task))


def with_gaps(task, setting, seed):
    said = constant(task, setting, seed)
    said.volatility[3] = np.nan
    return said


def last_close(task, setting, seed):
    """Forecast by the last bar that it is given at all."""
    return replace(
        constant(task, setting, seed), volatility=np.full(len(task.judged), task.bars.frame["close"].iloc[-1])
    )


def nothing(task):
    return np.full(len(task.judged), np.nan)


LOUD, QUIET = {"noise": {"size": 2.0}}, {"noise": {"size": 0.5}}
NOISY = Rival(HISS, "hiss", noisy, (LOUD, QUIET), is_random=True)
CONSTANT = Rival("constant", "rule", constant)
ROSTER = (NOISY, CONSTANT, Rival("quiet", "econometric", only_volatility), Rival(BUY_AND_HOLD, "rule", always_up))


@pytest.fixture(scope="module")
def measured(hourly_bars, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs")
    told = []
    results = measure(hourly_bars, TINY, ROSTER, out=out, workers=1, progress=lambda *now: told.append(now))
    return out, results, told


# --- folds


def test_no_label_reaches_into_the_next_part_and_no_bar_after_the_test_is_given(hourly_bars):
    folds = tasks(hourly_bars, TINY)
    assert len(folds) == TINY.folds
    for task in folds:
        assert task.train[-1] + task.horizon < task.validation.start
        assert task.validation[-1] + task.horizon < task.test.start
        assert len(task.bars) == task.test.stop
        assert np.isfinite(task.returns[task.validation]).all()
    assert folds[0].test.stop == folds[1].test.start
    assert folds[-1].test.stop == len(hourly_bars)


def test_what_a_fold_says_does_not_depend_on_bars_after_it(hourly_bars, tmp_path):
    first = tasks(hourly_bars, TINY)[0]
    frame = hourly_bars.frame.copy()
    frame.iloc[first.test.stop :, :4] *= 2
    altered = Bars(frame, hourly_bars.market, hourly_bars.timeframe)
    roster = [replace(CONSTANT, forecast=last_close)]
    one, other = (
        play(bars, TINY, roster, out=tmp_path, workers=1).runs["constant"] for bars in (hourly_bars, altered)
    )
    assert_array_equal(one[0][0].said.volatility, other[0][0].said.volatility)
    assert (one[1][0].said.volatility != other[1][0].said.volatility).all()


def test_too_few_bars_are_refused(hourly_bars, tmp_path):
    with pytest.raises(BarsError, match="too few"):
        play(hourly_bars[:60], TINY, ROSTER, out=tmp_path, workers=1)


# --- scores


@pytest.fixture(scope="module")
def task(hourly_bars):
    return tasks(hourly_bars, TINY)[0]


def test_losses_are_those_of_the_textbooks():
    rng = np.random.default_rng(0)
    returns, log_variance = rng.standard_normal(50), rng.standard_normal(50)
    said = Forecasts(rng.standard_normal(50), rng.uniform(0.1, 0.9, 50), rng.uniform(0.5, 2, 50))
    found = {key: values.mean() for key, values in losses(said, returns, log_variance).items()}
    variance, ratio = said.volatility**2, np.exp(log_variance) / said.volatility**2
    assert found["mse"] == pytest.approx(metrics.mean_squared_error(returns, said.expected_return))
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(returns, said.expected_return))
    assert found["log_loss"] == pytest.approx(metrics.log_loss(returns > 0, said.prob_up))
    assert found["qlike"] == pytest.approx(np.mean(ratio - np.log(ratio) - 1))
    assert found["log_variance"] == pytest.approx(np.mean((log_variance - np.log(variance)) ** 2))
    assert -found["density"] == pytest.approx(norm.logpdf(returns, said.expected_return, said.volatility).mean())


def test_settings_are_chosen_by_what_a_rival_has_an_opinion_on(task):
    rows, train = np.asarray(task.validation), task.returns[np.asarray(task.train)]
    returns = task.returns[rows]
    whole = constant(task, {}, 0)
    assert validation_score(whole, task) == pytest.approx(norm.logpdf(returns, 0, train.std()).mean())
    no_volatility = replace(whole, volatility=nothing(task))
    assert validation_score(no_volatility, task) == pytest.approx(validation_score(whole, task))
    ratio = np.exp(task.log_variance[rows]) / whole.volatility[0] ** 2
    alone = only_volatility(task, {}, 0)
    assert validation_score(alone, task) == pytest.approx(-np.mean(ratio - np.log(ratio) - 1))
    assert validation_score(replace(no_volatility, expected_return=nothing(task)), task) == pytest.approx(
        np.log(0.5)
    )


def board(returns, **opinions):
    blank = np.full((1, len(returns)), np.nan)
    whole = {name: Opinion(blank, rise, blank) for name, rise in opinions.items()}
    return Board(np.arange(len(returns)), returns, np.zeros(len(returns)), whole)


def test_directions_are_scored_as_by_scikit_learn_and_seeds_are_averaged():
    rng = np.random.default_rng(1)
    returns, rise = rng.standard_normal(300), rng.uniform(size=(2, 300))
    found = scored(board(returns, one=rise), TINY, 12)["one"]["scores"]
    for key, score in (
        ("accuracy", metrics.accuracy_score),
        ("balanced_accuracy", metrics.balanced_accuracy_score),
        ("f1", metrics.f1_score),
        ("mcc", metrics.matthews_corrcoef),
    ):
        seeds = [score(returns > 0, each > 0.5) for each in rise]
        assert_allclose(found[key]["seeds"], seeds)
        assert found[key]["mean"] == pytest.approx(np.mean(seeds))
        low, high = found[key]["interval"]
        assert low < found[key]["mean"] < high


def test_probabilities_that_come_true_as_often_as_they_say_have_no_calibration_error():
    rise = np.repeat([0.25, 0.75], 8)
    rose = np.tile([True, False, False, False], 4)
    rose[8:] = ~rose[8:]
    assert calibration_error(rise, rose) == 0
    assert calibration_error(np.ones(4), np.zeros(4, bool)) == 1
    assert calibration_error(np.full(4, 0.5), np.array([True, True, True, False])) == pytest.approx(0.25)


def test_positions_are_held_between_decisions_and_flat_at_one_half():
    rise = np.array([[0.6, 0.1, 0.1, 0.5, 0.9, 0.9, 0.2]])
    assert positions(rise, 3).tolist() == [[1, 1, 1, 0, 0, 0, -1]]


# --- the fits


def test_the_setting_with_the_better_validation_score_is_fitted_with_every_seed(measured):
    _, results, _ = measured
    own = results["rivals"][HISS]
    assert own["chosen"] == [QUIET] * TINY.folds
    assert own["tried"] == 2
    assert len(own["scores"]["qlike"]["seeds"]) == len(TINY.seeds)
    assert len(results["rivals"]["constant"]["scores"]["qlike"]["seeds"]) == 1
    assert own["fits"]["parameters"] == 7


def test_no_opinion_is_not_scored(measured):
    rivals = measured[1]["rivals"]
    assert set(rivals["quiet"]["scores"]) == {"qlike", "log_variance"}
    assert set(rivals[BUY_AND_HOLD]["scores"]) == {"log_loss", "accuracy", "balanced_accuracy", "mcc", "f1"}
    assert "quiet" not in measured[1]["trading"]["rivals"]


def test_rivals_that_say_the_same_are_both_in_the_set_or_both_not(measured):
    rivals = measured[1]["rivals"]
    same = [rivals[name]["tests"]["qlike"] for name in ("constant", "quiet")]
    assert same[0] == same[1]


def test_differences_are_hiss_less_the_rival(measured):
    rivals = measured[1]["rivals"]
    gap = rivals["constant"]["against"]["qlike"]
    means = [rivals[name]["scores"]["qlike"]["mean"] for name in (HISS, "constant")]
    assert gap["difference"] == pytest.approx(means[0] - means[1])
    assert np.sign(rivals["constant"]["tests"]["qlike"]["statistic"]) == np.sign(gap["difference"])


def test_buy_and_hold_is_long_whatever_it_says(measured, hourly_bars):
    traded = measured[1]["trading"]
    rows = range(tasks(hourly_bars, TINY)[0].test.start, len(hourly_bars) - TINY.horizon_intraday)
    close = hourly_bars.frame["close"].to_numpy()
    asset = close[rows.start + 1 : rows.stop + 1] / close[rows.start : rows.stop] - 1
    wealth = np.cumprod(1 + strategy_returns(np.ones(len(asset)), asset, traded["cost"]))
    assert_allclose(traded["curves"]["net"][BUY_AND_HOLD][1:], wealth[5::6][: traded["decisions"] - 1])


def test_a_change_of_the_training_is_set_against_the_plain_one(measured):
    found = measured[1]["choices"]["less noise"]
    assert found["pairs"] == TINY.folds * len(TINY.seeds)
    assert found["won"] == found["pairs"]
    assert found["validation"] > 0
    assert found["test"]["density"]["interval"][0] > 0
    assert "Shown better than the plain one: less noise" in measured[1]["verdicts"]["Training choices"]


def test_every_fit_is_a_trial(measured):
    out, _, told = measured
    tuned, judged = TINY.folds * (2 + 3), TINY.folds * (2 + 3 + 2)  # settings; seeds of all, and of the change
    assert told[-1][1:] == (tuned + judged, tuned + judged)
    kept = TINY.folds * 4  # what the settings were chosen by is not fitted twice
    assert len(Trials(out).tried("SP500", "1h")) == tuned + judged - kept
    assert len(list((out / FOLDER).iterdir())) == tuned + judged - kept


def test_a_contest_that_was_stopped_goes_on_where_it_was(hourly_bars, tmp_path):
    fitted = []

    def counted(task, setting, seed):
        fitted.append((task.test.start, str(setting), seed))
        return noisy(task, setting, seed)

    def stop(what, done, total):
        if done == 5:
            raise KeyboardInterrupt

    roster = [replace(NOISY, forecast=counted), CONSTANT]
    with pytest.raises(KeyboardInterrupt):
        play(hourly_bars, TINY, roster, out=tmp_path, workers=1, progress=stop)
    before = list(fitted)
    assert before
    resumed = play(hourly_bars, TINY, roster, out=tmp_path, workers=1)
    assert len(set(fitted)) == len(fitted)
    whole = play(hourly_bars, TINY, [NOISY, CONSTANT], out=tmp_path / "other", workers=1)
    for fold, other in zip(resumed.runs[HISS], whole.runs[HISS], strict=True):
        for run, same in zip(fold, other, strict=True):
            assert_array_equal(run.said.volatility, same.said.volatility)
            assert run.score == same.score


def test_more_seeds_fit_only_what_is_new(hourly_bars, tmp_path):
    play(hourly_bars, TINY, ROSTER, out=tmp_path, workers=1)
    told = []
    more = replace(TINY, seeds=(0, 1, 2))
    play(hourly_bars, more, ROSTER, out=tmp_path, workers=1, progress=lambda *now: told.append(now))
    fresh = [what for what, *_ in told if "before" not in what]
    assert len(fresh) == TINY.folds * 2  # HiSS, and HiSS with less noise


def test_two_processes_find_the_same(hourly_bars, tmp_path, measured):
    results = measure(hourly_bars, TINY, ROSTER, out=tmp_path, workers=2)
    for key in ("trading", "choices", "verdicts", "data"):
        assert json.dumps(results[key]) == json.dumps(measured[1][key])


def fails(task, setting, seed):
    if setting["noise"]["size"] < 1:
        raise TrainingError("the loss was never finite")
    return noisy(task, setting, seed)


def test_a_setting_that_fails_is_not_chosen_and_a_rival_that_does_is_named(hourly_bars, tmp_path):
    roster = [
        replace(NOISY, forecast=fails),
        replace(NOISY, name="broken", forecast=fails, settings=(QUIET,)),
        replace(CONSTANT, forecast=with_gaps),
    ]
    contest = play(hourly_bars, TINY, roster, out=tmp_path, workers=1)
    assert [fold[0].setting for fold in contest.runs[HISS]] == [LOUD] * TINY.folds
    assert set(contest.runs) == {HISS}
    assert contest.failed["broken"] == "the loss was never finite"
    assert "1 of" in contest.failed["constant"]
    assert "less noise" in contest.failed


# --- sentences


def rivals_with(interval):
    scores = {"scores": {"qlike": {"mean": 0.5}}, "against": {"qlike": {"interval": interval}}}
    return {HISS: {"scores": {"qlike": {"mean": 0.4}}}, "other": scores}


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        ((-0.2, -0.1), "better than other"),
        ((0.1, 0.2), "worse than other"),
        ((-0.1, 0.1), "No difference is shown from other"),
    ],
)
def test_a_difference_is_judged_by_its_interval(interval, said):
    sentence = standing(rivals_with(interval), "qlike", "QLIKE")
    assert said in sentence
    assert "number 1 of 2 (0.4000)" in sentence


def test_many_more_right_directions_than_markets_allow_are_called_a_leak():
    found = {"scores": {"accuracy": {"mean": 0.64}}, "effective_size": 400.0}
    assert "leak is suspected" in suspicion({"seer": found})
    assert suspicion({"seer": found | {"effective_size": 20.0}}) == ""
    assert suspicion({"seer": found | {"scores": {"accuracy": {"mean": 0.55}}}}) == ""


def test_a_change_that_is_worse_on_the_validation_rows_is_no_default():
    choice = {"validation": -0.1, "test": {"density": {"interval": (0.1, 0.2)}}}
    assert "No default changes" in training({"lucky": choice})
    assert "may become the default: lucky" in training({"lucky": choice | {"validation": 0.1}})


# --- from end to end


def test_the_command_writes_a_page_of_the_named_rivals(hourly_bars, tmp_path):
    protocol = replace(QUICK, rivals=("momentum", "buy and hold", "random walk"), repeats=20)
    folder, results = compare_rivals(hourly_bars, protocol, out=tmp_path, workers=1)
    assert folder.name.endswith("-compare-rivals-SP500")
    page = (folder / "report.html").read_text()
    assert "short run" in page
    assert results["verdicts"]["Trading"].split(" (")[0] in page
    kept = json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)
    assert set(kept["rivals"]) == set(protocol.rivals)
    assert kept["choices"] == {}


def test_a_rival_that_does_not_exist_is_named(hourly_bars, tmp_path):
    with pytest.raises(ConfigError, match="no rival 'GRUU'"):
        compare_rivals(hourly_bars, replace(FULL, rivals=("GRUU",)), out=tmp_path)


def test_the_page_sets_hiss_apart(measured, tmp_path):
    from hissbt.research.contest.page import write_page

    write_page(tmp_path / "page.html", measured[1])
    page = (tmp_path / "page.html").read_text()
    assert f"<b>{HISS}</b>" in page
    assert "<b>constant</b>" not in page
    for sentence in measured[1]["verdicts"].values():
        assert sentence.split("'")[0] in page
