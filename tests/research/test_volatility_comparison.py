"""Forecasts of volatility compared: nothing looks ahead, all are treated alike, and a run from end to end."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hissbt.bars import Bars
from hissbt.errors import BarsError
from hissbt.market import Market
from hissbt.reports.page.text import escape
from hissbt.research.volatility import QUICK, compare_volatility
from hissbt.research.volatility.material import material
from hissbt.research.volatility.protocol import FLAT, FULL, HAR, HAR_SEASON, HISS, MINUTES, RIDGE, RIDGE_SAME
from hissbt.research.volatility.rivals import calibrated, forecasters
from hissbt.research.volatility.scores import qlike
from hissbt.research.volatility.verdicts import CLASSIC, FAIR, SCORES, verdicts


def other(bars: Bars, symbol: str, keep: slice = slice(None)) -> Bars:
    """Return another symbol, twice as restless, whose bars may begin later or end earlier."""
    frame = bars.frame.iloc[keep].copy()
    first = frame["close"].iloc[0]
    frame[["open", "high", "low", "close"]] = first * (frame[["open", "high", "low", "close"]] / first) ** 2
    return Bars(frame, Market(symbol), bars.timeframe)


def altered_from(bars: Bars, row: int) -> Bars:
    frame = bars.frame.copy()
    frame.iloc[row:, :4] *= np.linspace(1.1, 1.5, len(frame) - row)[:, None]
    return Bars(frame, bars.market, bars.timeframe)


@pytest.fixture(scope="module")
def three(hourly_bars):
    """The bars, a symbol that begins later, and one that ends before the test does."""
    return hourly_bars, other(hourly_bars, "LATE", slice(300, None)), other(hourly_bars, "SHORT", slice(1000))


@pytest.fixture(scope="module")
def data(three):
    return material(three[0], three[1:], QUICK)


# --- the bars


def test_no_label_of_training_reaches_into_a_test(data):
    for tasks in data.folds:
        begins = tasks[0].bars.frame.index[tasks[0].test.start]
        for task in tasks:
            closes = task.bars.frame.index
            assert closes[task.train.stop - 1 + task.horizon] < begins
            assert not len(task.test) or closes[task.test.start] == begins
            assert np.isfinite(task.log_variance[task.train.start : task.train.stop]).all()


def test_tests_follow_each_other_and_every_judged_row_has_a_label(data, three):
    tests = [tasks[0].test for tasks in data.folds]
    assert [row for test in tests for row in test] == list(range(900, 1200))
    assert len(data.closes) == 300 - QUICK.horizon
    assert all(np.isfinite(labels).all() for labels in data.log_variance)
    last = three[0].frame["close"].iloc[-QUICK.horizon - 1 :]
    assert data.log_variance[0][-1] == pytest.approx(np.log((np.log(last).diff() ** 2).sum()))


def test_a_symbol_that_ends_before_the_test_does_is_learned_from_and_not_judged(data):
    assert data.judged == (0, 1)
    assert [len(tasks[2].train) for tasks in data.folds] == [900 - 6 - 72, 1000 - 6 - 72]


def test_dates_decide_what_is_judged(hourly_bars):
    dated = replace(QUICK, since="2024-01-03", first_test="2024-01-25", until="2024-02-10")
    found = material(hourly_bars, (), dated)
    assert found.closes[0].isoformat() == "2024-01-25T00:00:00+00:00"
    assert found.bars[0].frame.index[-1].isoformat() == "2024-02-10T00:00:00+00:00"
    assert found.bars[0].open_times[0].isoformat() == "2024-01-03T00:00:00+00:00"


def test_finer_bars_are_resampled(hourly_bars):
    assert len(material(hourly_bars, (), replace(QUICK, timeframe="2h")).bars[0]) == 600


def test_too_few_bars_or_a_symbol_twice_are_refused(hourly_bars):
    with pytest.raises(BarsError, match="are too few: give more than"):
        material(hourly_bars[:100], (), QUICK)
    with pytest.raises(BarsError, match="name each once"):
        material(hourly_bars, (hourly_bars,), QUICK)


# --- the forecasters

EVERYBODY = {one.name: one for one in forecasters(QUICK)}


@pytest.mark.parametrize("name", EVERYBODY)
def test_what_was_forecast_does_not_change_with_what_comes_later(name, three, data):
    """From the middle of a test on: neither the fit, nor the calibration, nor a forecast before it changes."""
    ask = EVERYBODY[name].forecast
    tasks = data.folds[0]
    row = 1000
    restless = altered_from(three[0], row), altered_from(three[1], row - 300), three[2]
    changed = material(restless[0], restless[1:], QUICK).folds[0]
    for one, task, again, told in zip(ask(tasks, 0)[0], tasks, ask(changed, 0)[0], changed, strict=True):
        assert one.shape == again.shape == (task.test.stop - task.train.start,)
        before, after = calibrated(one, task), calibrated(again, told)
        known = len(task.test) - 100
        for key in ("log_mean", "log_variance"):
            assert np.isfinite(getattr(before, key)).all()
            assert_allclose(getattr(before, key)[:known], getattr(after, key)[:known], rtol=1e-5, atol=1e-6)
            later = getattr(before, key)[known + 1 :] != getattr(after, key)[known + 1 :]
            assert later.any() or task is tasks[2]  # whose bars are the same


def test_calibrated_forecasts_are_right_on_average_over_the_training_rows(data):
    task = data.folds[0][0]
    rng = np.random.default_rng(0)
    truth = task.log_variance[task.train.start : task.test.stop]
    said = truth + 3 + rng.normal(size=len(truth))
    found = calibrated(said, task)
    learned, known = len(task.train), truth[: len(task.train)]
    moved = found.log_mean[0] - said[-len(task.test)]
    assert np.mean(known - said[:learned] - moved) == pytest.approx(0, abs=1e-12)
    moved = found.log_variance[0] - said[-len(task.test)]
    assert np.mean(np.exp(known - said[:learned] - moved)) == pytest.approx(1)


# --- scores


def test_qlike_is_zero_for_the_truth_and_worse_for_too_little_than_for_too_much():
    assert qlike(np.array(1.3), np.array(1.3)) == 0.0
    assert qlike(np.array(0.0), np.array(-1.0)) > qlike(np.array(0.0), np.array(1.0)) > 0
    assert qlike(np.log(3.0), np.log(2.0)) == pytest.approx(1.5 - np.log(1.5) - 1)


def row(name: str, mean: float, relative: float | None, interval=(-0.3, -0.2), inside: bool = False) -> dict:
    found = {"name": name, "qlike": {"mean": mean}, "in_set": inside}
    if relative is not None:
        found["against"] = {
            "qlike": {"relative": relative, "interval": interval, "statistic": -3.0, "pvalue": 0.0}
        }
    return found


def test_sentences_say_what_was_reached_and_what_was_not():
    rows = [row(RIDGE, 0.25, 0.04, (0.01, 0.06), True), row(HISS, 0.26, None, inside=True)]
    rows += [row(name, 0.26, 0.0, (-0.01, 0.01)) for name in (RIDGE_SAME, *FLAT)]
    rows += [row(HAR, 0.3, -0.2, (-0.3, -0.1)), row(HAR_SEASON, 0.3, -0.04, (-0.06, -0.02))]
    found = verdicts(rows, FULL.aims)
    assert found[SCORES].startswith(
        "The smallest QLIKE is that of ridge (0.2500); HiSS has 0.2600. ridge and HiSS are"
    )
    assert "HiSS does better than HAR: its QLIKE is 20.00% lower [−30.00%, −10.00%]" in found[CLASSIC]
    assert "The aim of 15.00% under it is reached, though the interval reaches above it." in found[CLASSIC]
    assert found[CLASSIC].endswith("The aim of 5.00% under it is missed.")
    assert "aim" not in verdicts(rows, MINUTES.aims)[CLASSIC]
    assert "HiSS does worse than ridge: its QLIKE is 4.00% higher" in found[FAIR]
    assert "HiSS is not shown to differ from LSTM" in found[FAIR]


def test_protocols_measure_a_day():
    assert FULL.horizon * 60 == MINUTES.horizon * 5 == 24 * 60
    assert {name: FULL.har[at] / MINUTES.har[at] for at, name in enumerate("hdw")} == dict.fromkeys("hdw", 1 / 12)


# --- from end to end


def test_a_comparison_ends_with_a_page_and_goes_on_where_it_was_killed(three, tmp_path):
    def stop_after_five(_, done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare_volatility(three[0], QUICK, also=three[1:2], out=tmp_path, workers=1, progress=stop_after_five)
    kept = len(list((tmp_path / ".volatility").glob("*.npz")))
    assert kept >= 5
    heard = []
    folder, results = compare_volatility(
        three[0], QUICK, also=three[1:2], out=tmp_path, workers=1, progress=lambda *told: heard.append(told)
    )
    assert heard[0] == ("fits that were finished before", kept, heard[-1][2])
    assert heard[-1][1] == heard[-1][2] == len(list((tmp_path / ".volatility").glob("*.npz")))
    assert json.loads((folder / "results.json").read_text()) == json.loads(json.dumps(results))
    assert {found["name"] for found in results["rows"]} == set(EVERYBODY)
    sizes = [found["parameters"] for found in results["rows"] if found["family"] == "network"]
    assert max(sizes) < 1.06 * min(sizes)
    means = [found["qlike"]["mean"] for found in results["rows"]]
    assert means == sorted(means)
    for found in results["rows"]:
        assert found["qlike"]["interval"][0] < found["qlike"]["mean"] < found["qlike"]["interval"][1]
        assert np.mean(found["qlike"]["symbols"]) == pytest.approx(found["qlike"]["mean"])
        if found["name"] != HISS:
            hiss = next(one for one in results["rows"] if one["name"] == HISS)
            expected = hiss["qlike"]["mean"] / found["qlike"]["mean"] - 1
            assert found["against"]["qlike"]["relative"] == pytest.approx(expected)
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert all(escape(sentence) in page for sentence in results["verdicts"].values())
    assert "short run" in page
    again = compare_volatility(three[0], QUICK, also=three[1:2], out=tmp_path, workers=1)[1]
    assert_array_equal([found["qlike"]["mean"] for found in again["rows"]], means)
