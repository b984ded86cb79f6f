"""The comparison of a hierarchical VAE with its rivals: what nothing may look at, and a run from end to end."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import t as student

from hissbt.bars import Bars
from hissbt.candles import LOG_RETURN
from hissbt.console import show_comparison
from hissbt.errors import BarsError
from hissbt.research.hvae_report.comparison import compare_hvae
from hissbt.research.hvae_report.densities import AFTER, ALONE, rival_densities
from hissbt.research.hvae_report.material import material
from hissbt.research.hvae_report.measures import bounds
from hissbt.research.hvae_report.protocol import KINDS, QUICK, SETS
from hissbt.research.hvae_report.verdicts import verdicts
from hissbt.training.vae_trials import vae_trial
from hissbt.trials import Trials

TINY = replace(
    QUICK,
    strides_intraday=(2, 4, 12),
    network={"d_latent": (1, 1, 1), "d_hidden": 4},
    training={"epoch_steps": 2, "max_epochs": 2, "batch_size": 4},
    seeds=(0, 1),
    samples=40,
    rival_paths=2,
    rival_windows=20,
    repeats=20,
)


def altered_from(bars: Bars, row: int) -> Bars:
    frame = bars.frame.copy()
    frame.iloc[row:, :4] *= np.linspace(1.1, 1.5, len(frame) - row)[:, None]
    return Bars(frame, bars.market, bars.timeframe)


@pytest.fixture(scope="module")
def data(hourly_bars):
    return material(hourly_bars, TINY)


# --- the bars


def test_no_window_that_is_judged_shares_a_bar_with_another_or_with_training(data):
    assert data.train.stop + data.window <= data.validation.start
    assert data.validation.stop + data.window <= data.test[0]
    assert (np.diff(data.test) == data.window).all()
    assert data.test[-1] + data.window <= len(data.closes)
    assert len(data.history) == data.validation.stop


def test_values_are_standardized_by_the_training_span_alone(data, hourly_bars):
    seen = data.candles[data.train.start : data.train.stop]
    assert_allclose(seen.mean(axis=0), 0, atol=1e-12)
    changed = material(altered_from(hourly_bars, data.train.stop), TINY)
    assert_array_equal(changed.candles[: data.train.stop], data.candles[: data.train.stop])


def test_windows_are_the_log_returns_of_the_bars(data, hourly_bars):
    closes = np.log(hourly_bars.frame["close"].to_numpy())
    first = data.test[2]
    expected = np.diff(closes[first - 1 : first + data.window])
    assert_allclose(data.windows(data.test)[2], expected, atol=1e-12)


def test_too_few_bars_are_refused_with_how_many_are_needed(hourly_bars):
    with pytest.raises(BarsError, match="at least"):
        material(hourly_bars[:250], TINY)


# --- the rivals


def test_the_density_of_independent_draws_is_that_of_their_law():
    draws = student.rvs(4, size=2_500, random_state=0)
    first = np.arange(1_500, 2_500, 100)
    found = rival_densities(draws[:1_500], draws, first, 100)
    truth = student.logpdf(draws, 4)[first[:, None] + np.arange(100)].mean(axis=1)
    for ways in found.values():
        for values in ways.values():
            assert truth.mean() - 0.1 < values.mean() < truth.mean() + 0.01
    assert_allclose(found["Student's t"][ALONE], truth, atol=0.03)
    assert_array_equal(found["Student's t"][ALONE], found["Student's t"][AFTER])


def test_a_rival_alone_knows_its_own_window_only(data):
    scaled = data.candles[:, LOG_RETURN]
    found = rival_densities(scaled[:400], scaled, data.test, data.window)
    changed = scaled.copy()
    changed[data.test[0] - 5 : data.test[0]] *= 5
    again = rival_densities(scaled[:400], changed, data.test, data.window)
    for name in ("GARCH-t", "Markov switching"):
        assert_array_equal(again[name][ALONE], found[name][ALONE])
        assert (again[name][AFTER] != found[name][AFTER]).any()


# --- the networks


@pytest.mark.parametrize("kind", KINDS)
def test_a_trial_ends_alike_with_the_same_seed_and_makes_up_windows(kind, data):
    def trial(seed: int):
        return vae_trial(
            kind,
            TINY.network | {"n_features": 1, "strides": data.strides},
            data.values("returns"),
            data.train,
            data.validation,
            data.test,
            TINY.training | {"seed": seed},
            8,
        )

    first, again, other = trial(0), trial(0), trial(1)
    assert first.samples.shape == (8, data.window, 1)
    assert first.test.shape == data.test.shape
    assert_array_equal(first.test, again.test)
    assert_array_equal(first.samples, again.samples)
    assert (first.test != other.test).all()


def test_bounds_are_compared_window_by_window_and_seed_by_seed():
    base = np.random.default_rng(0).standard_normal(40)
    runs = [
        {"set": name, "kind": kind, "seed": seed, "test": base + (0.1 + seed / 100) * (kind == "hvae")}
        for name in SETS
        for kind in KINDS
        for seed in (0, 1)
    ]
    found = bounds(runs, {"a": {ALONE: base + 1, AFTER: base + 1}, "b": {ALONE: base, AFTER: base + 2}}, TINY)
    gap = found["candles"]["differences"]["hvae less flat"]
    assert_allclose([gap["difference"], *gap["interval"], *gap["seeds"]], [0.105] * 3 + [0.1, 0.11])
    assert gap["won"] == 2
    assert list(found["returns"]["rows"]) == ["hvae", "flat", "a", "b, alone", "b, with the past"]
    assert found["returns"]["differences"]["hvae less a"]["difference"] == pytest.approx(-0.895)


# --- from end to end


@pytest.fixture(scope="module")
def compared(hourly_bars, tmp_path_factory):
    told = []
    out = tmp_path_factory.mktemp("runs")
    folder, results = compare_hvae(hourly_bars, TINY, out=out, workers=1, progress=lambda *now: told.append(now))
    return folder, results, told


def test_every_fit_is_a_trial_of_these_bars_those_of_the_rates_too(compared):
    folder, *_ = compared
    ledger = Trials(folder.parent)
    assert len(ledger.tried("SP500", "1h")) == len(SETS) * len(KINDS) * (len(TINY.rates) + len(TINY.seeds))
    assert ledger.verify() == []


def test_the_folder_holds_the_page_and_every_figure(compared):
    folder, results, _ = compared
    assert folder.name.endswith("-compare-hvae-SP500")
    assert sorted(file.name for file in folder.iterdir()) == ["report.html", "results.json"]
    kept = json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)
    assert kept["bounds"].keys() == set(SETS)
    assert {"hvae, returns", "flat, candles", "bootstrap", "garch", "markov"} <= kept["generated"][
        "generators"
    ].keys()
    assert len(kept["generated"]["generators"]["hvae, candles"]) == len(TINY.seeds)
    assert kept["data"]["sha256"] == results["data"]["sha256"]


def test_hierarchy_and_flat_rival_are_of_one_size(compared):
    sizes = {(run["set"], run["kind"]): run["parameters"] for run in compared[1]["training"]}
    for name in SETS:
        assert sizes[name, "flat"] == pytest.approx(
            sizes[name, "hvae"], rel=0.05
        )  # within 2 % where not this tiny


def test_the_page_says_what_each_table_shows_and_that_the_run_was_short(compared):
    folder, results, _ = compared
    page = (folder / "report.html").read_text()
    assert list(results["verdicts"]) == ["Density of returns", "Density of candles", "Levels", "Made-up returns"]
    for sentence in results["verdicts"].values():
        assert sentence.split("'")[0] in page
    assert "short run" in page


def test_progress_counts_every_fit(compared):
    told = compared[2]
    total = len(SETS) * len(KINDS) * (len(TINY.rates) + len(TINY.seeds))
    assert told[-1][1:] == (total, total)
    assert [done for _, done, _ in told] == list(range(1, total + 1))


def test_the_command_prints_densities_and_sentences(compared, capsys):
    folder, results, _ = compared
    show_comparison(folder, results)
    said = capsys.readouterr().out
    assert "hvae on candles" in said
    assert results["verdicts"]["Levels"] in said


@pytest.mark.parametrize(
    ("interval", "said"),
    [((0.1, 0.2), "does better than"), ((-0.2, -0.1), "does worse than"), ((-0.1, 0.1), "is not shown to differ")],
)
def test_a_difference_is_judged_by_its_interval(compared, interval, said):
    results = json.loads((compared[0] / "results.json").read_text())
    results["bounds"]["returns"]["differences"]["hvae less flat"]["interval"] = interval
    assert said in verdicts(results)["Density of returns"]


def test_a_level_that_collapsed_is_named(compared):
    results = json.loads((compared[0] / "results.json").read_text())
    results["levels"]["candles"]["hvae"][1]["collapsed"] = 2
    assert "level 2 in 2 of 2 seeds" in verdicts(results)["Levels"]
