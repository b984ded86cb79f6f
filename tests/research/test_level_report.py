"""What is said of the levels of a HiSS bundle: what they contribute, how they move, what they know and keep."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from bundles import random_bundle
from scipy.signal import lfilter

from hissbt.bars import Bars
from hissbt.errors import BarsError, BundleError
from hissbt.market import Market
from hissbt.models import HiSSConfig, HiSSNet
from hissbt.research.hvae_report.readings import Spans
from hissbt.research.level_report.ablation import LOSSES, ablation, leveled, lost
from hissbt.research.level_report.analysis import analyze_hiss
from hissbt.research.level_report.horizons import TARGETS, best, fit_probes, horizons
from hissbt.research.level_report.intervals import interval_of_means
from hissbt.research.level_report.memory import lasts
from hissbt.research.level_report.spectrum import spectra, spectrum
from hissbt.research.level_report.verdicts import verdicts
from hissbt.training.level_probe import LevelProbe

SPANS = Spans(range(100, 4_500), range(4_500, 7_200), day=24, week=48, month=96)


def bars_of(returns: np.ndarray) -> Bars:
    """Hours with these log returns."""
    close = 100 * np.exp(np.cumsum(returns))
    opened = np.append(100.0, close[:-1])
    frame = pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close),
            "low": np.minimum(opened, close),
            "close": close,
            "volume": 1.0,
        },
        index=pd.date_range("2020-01-01", periods=len(close), freq="h", tz="UTC"),
    )
    return Bars.from_frame(frame, market=Market("MADE/UP"))


@pytest.fixture(scope="module")
def volatile():
    """Bars whose volatility is drawn anew every five days, and that volatility [T]."""
    rng = np.random.default_rng(1)
    volatility = np.exp(np.repeat(rng.normal(-5, 0.7, 60), 120))
    return bars_of(volatility * rng.standard_normal(len(volatility))), volatility


# --- contribution


class Oracle:
    """Outputs [3,T] of a network whose level 0 says nothing and whose level 1 knows the volatility to come."""

    strides = (1, 4)

    def __init__(self, volatility: np.ndarray):
        self._volatility = volatility

    def outputs(self, without=()):
        flat = np.zeros_like(self._volatility)
        return np.stack([flat, flat, flat + 0.05 if 1 in without else self._volatility])


@pytest.fixture(scope="module")
def contribution(volatile):
    bars, volatility = volatile
    bundle = replace(
        random_bundle(bars[:500]),
        target_scale={"return_mean": 0.0, "return_std": 1.0, "volatility_scale": 1.0},
    )
    ahead = np.append(volatility[1:], volatility[-1])
    return ablation(bars, bundle, Oracle(ahead), SPANS)


def test_a_level_that_alone_knows_the_volatility_is_missed_for_it_and_for_nothing_else(contribution):
    assert lost(contribution["rows"]["level 1"]) == ["log_score", "volatility"]
    assert contribution["rows"]["all levels"] == contribution["rows"]["level 1"]
    assert contribution["whole"]["direction"] == pytest.approx(np.log(2))
    assert contribution["whole"]["squared_error"] == pytest.approx(1)


def test_a_level_that_says_nothing_is_not_missed_at_all(contribution):
    for name in ("level 0", "linear skip"):
        assert all(each == {"rise": 0.0, "interval": [0.0, 0.0]} for each in contribution["rows"][name].values())


def test_a_level_that_does_harm_is_better_gone():
    rises = {"log_score": {"interval": [-0.3, -0.1]}, "volatility": {"interval": [-0.1, 0.1]}}
    assert lost(rises) == []
    assert lost(rises, -1) == ["log_score"]


def test_forecasts_are_leveled_to_the_training_span_and_not_to_what_comes_after():
    rng = np.random.default_rng(0)
    outputs, to = rng.random((3, 90)), rng.random((3, 90)) + 1
    found = leveled(outputs, to, slice(50))
    np.testing.assert_allclose(found[:2, :50].mean(axis=1), to[:2, :50].mean(axis=1))
    assert np.mean(found[2, :50] ** 2) == pytest.approx(np.mean(to[2, :50] ** 2))
    to[:, 50:] += 9
    assert np.array_equal(leveled(outputs, to, slice(50)), found)


def test_the_interval_of_a_mean_is_as_wide_whether_rows_or_means_of_a_few_are_drawn():
    values = np.repeat(np.random.default_rng(0).standard_normal((500, 1)), 24, axis=0)  # a day is one number
    (a_row,), (a_day,) = (interval_of_means(values, 96, chunk) for chunk in (1, 24))
    assert np.ptp(a_day) == pytest.approx(np.ptp(a_row), rel=0.15)
    assert a_row[0] < values.mean() < a_row[1]


# --- spectrum


def test_the_power_of_noise_lies_where_its_frequencies_do():
    found = spectrum(np.random.default_rng(0).standard_normal((20_000, 3)), [2, 8, 32])
    assert found["shares"] == pytest.approx([0.75, 0.1875, 0.0625], abs=0.01)  # of frequencies up to a half
    assert found["median_period"] == pytest.approx(4, rel=0.05)
    assert found["deviation"] == pytest.approx(np.sqrt(3), rel=0.02)


def test_equal_areas_over_the_logarithm_of_the_period_are_equal_shares():
    kept = lfilter([1], [1, -0.8], np.random.default_rng(0).standard_normal((9_000, 1)), axis=0)
    found = spectrum(kept, [2, 16])
    octaves, power = np.log2(found["periods"]), np.array(found["power"])
    assert np.trapezoid(power, octaves) == pytest.approx(1, abs=0.05)
    slow = octaves >= 4
    assert np.trapezoid(power[slow], octaves[slow]) == pytest.approx(found["shares"][1], abs=0.05)


def test_a_slow_wave_is_found_by_the_coarse_level_more_than_by_the_fine_one():
    rng, count = np.random.default_rng(0), 8_192
    wave = np.sin(2 * np.pi * np.arange(count) / 256)
    x = np.column_stack([wave + 2 * rng.standard_normal(count), rng.standard_normal(count)])
    net = HiSSNet(HiSSConfig(n_features=2, d_model=4, d_state=4, strides=(4, 4)))
    probe = LevelProbe(net, x, range(1_000))
    fine, _, coarse = spectra(probe.held, probe.strides, range(count)).values()
    assert coarse["periods"][int(np.argmax(coarse["power"]))] == pytest.approx(256, rel=0.1)
    assert coarse["nyquist_period"] == 32
    assert coarse["shares"][2] > 0.7 > 0.5 > fine["shares"][2]


def test_what_never_moves_has_no_spectrum():
    found = spectrum(np.ones((500, 2)), [2])
    assert found["shares"] == [0.0]
    assert found["median_period"] is None


# --- horizons


@pytest.fixture(scope="module")
def known(volatile):
    """What two levels are made to hold: the volatility of the next day, and nothing."""
    bars, _ = volatile
    close = bars.frame["close"].to_numpy()
    rng = np.random.default_rng(2)
    ahead = np.nan_to_num(TARGETS["variance"](close, 24), nan=-8.0)[:, None]
    return close, {"level 0": rng.standard_normal((len(close), 3)), "level 1": ahead}


def test_the_horizon_that_a_level_knows_is_found_and_one_that_knows_nothing_is_not_credited(known):
    close, sources = known
    found = horizons(close, sources, SPANS, [1, 4, 24, 96, 500])
    assert found["left_out"] == [500]
    most = best(found["found"], "variance", "level 1")
    assert most["horizon"] == 24
    assert most["rows"]["level 1"]["skill"] == pytest.approx(1, abs=1e-3)
    assert best(found["found"], "variance", "level 0") is None
    assert best(found["found"], "return", "level 0") is None


@pytest.mark.parametrize("target", TARGETS)
def test_what_comes_after_the_training_span_does_not_change_the_probes(known, target):
    close, sources = known
    altered = close.copy()
    altered[SPANS.seen.stop :] *= np.linspace(2, 9, len(close) - SPANS.seen.stop)
    (probes, usual), (others, another) = (
        fit_probes(TARGETS[target](prices, 24), sources, SPANS.seen, 24, 1) for prices in (close, altered)
    )
    assert usual == another
    for name, probe in probes.items():
        assert np.array_equal(probe.model[-1].coef_, others[name].model[-1].coef_)
    early, _ = fit_probes(TARGETS[target](close, 24), sources, range(100, 4_000), 24, 1)
    assert not np.array_equal(early["level 1"].model[-1].coef_, probes["level 1"].model[-1].coef_)


# --- memory


@pytest.mark.parametrize("time_constant", [3.0, 10.0])
def test_a_decay_lasts_as_many_time_constants_as_the_logarithm_says(time_constant):
    curve = np.exp(-np.arange(60) / time_constant)
    assert lasts(curve, 0.1) == np.ceil(time_constant * np.log(10))
    assert lasts(7 * curve, 0.01) == np.ceil(time_constant * np.log(100))


def test_what_comes_back_was_not_forgotten_and_what_does_not_end_has_no_length():
    assert lasts(np.array([1.0, 0.0, 0.5, 0.0]), 0.1) == 3
    assert lasts(np.array([1.0, 0.0, 0.5]), 0.1) is None
    assert lasts(np.zeros(3), 0.1) == 0


# --- from end to end


@pytest.fixture(scope="module")
def analyzed(hourly_bars, tmp_path_factory):
    steps = []
    told = analyze_hiss(
        hourly_bars,
        random_bundle(hourly_bars[:700]),
        out=tmp_path_factory.mktemp("runs"),
        progress=lambda *step: steps.append(step),
    )
    assert [done for _, done, _ in steps] == [1, 2, 3, 4, 5]
    return told


def test_the_folder_holds_the_page_and_every_figure(analyzed):
    folder, results = analyzed
    assert folder.name.endswith("-analyze-hiss-SP500")
    kept = json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)
    assert kept["data"]["spans"]["out_of_sample"]["bars"] == 500
    assert [level["stride"] for level in kept["levels"]] == [1, 4, 16]
    assert set(kept["ablation"]["rows"]["level 2"]) == set(LOSSES)
    page = (folder / "report.html").read_text()
    for heading, sentence in results["verdicts"].items():
        assert f"<h2>{heading}</h2>" in page
        assert sentence in page


def test_what_is_missed_is_said_by_the_intervals(analyzed):
    results = json.loads((analyzed[0] / "results.json").read_text())
    for rises in results["ablation"]["rows"].values():
        for rise in rises.values():
            rise["interval"] = [-1.0, 1.0]
    assert verdicts(results)["Levels"].startswith("Out of sample nothing gets measurably worse")
    assert "Level 1 contributes nothing measurable to squared error" in verdicts(results)["Contribution"]
    results["ablation"]["rows"]["level 1"]["volatility"]["interval"] = [0.1, 0.2]
    assert "level 1 for volatility" in verdicts(results)["Levels"]
    assert "Without level 1: volatility worse" in verdicts(results)["Contribution"]


def test_a_flat_network_has_one_level(hourly_bars, tmp_path):
    _, results = analyze_hiss(hourly_bars, random_bundle(hourly_bars[:700], strides=()), out=tmp_path)
    assert list(results["ablation"]["rows"]) == ["level 0", "linear skip"]
    assert list(results["spectrum"]) == list(results["memory"]) == ["level 0"]
    assert set(results["horizons"]["found"][0]["rows"]) == {"level 0", "inputs"}


@pytest.mark.parametrize("kind", ["lstm", "hvae"])
def test_another_kind_of_bundle_is_refused(hourly_bars, kind):
    with pytest.raises(BundleError, match="kind hiss"):
        analyze_hiss(hourly_bars, random_bundle(hourly_bars, kind=kind))


def test_bars_of_another_length_or_too_few_unseen_are_refused(hourly_bars):
    bundle = random_bundle(hourly_bars[:700])
    with pytest.raises(BarsError, match="another"):
        analyze_hiss(hourly_bars.resample("2h"), bundle)
    with pytest.raises(BarsError, match="too few"):
        analyze_hiss(hourly_bars[:710], bundle)
