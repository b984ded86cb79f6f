"""HiSS beside flat networks on three time scales: a floor that is exact, what nothing may look at, and a run."""

import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from hissbt.errors import ConfigError
from hissbt.research.rivals.sizes import parameters_of
from hissbt.research.three_scales.comparison import compare_three_scales, differences, learned, measure, trial
from hissbt.research.three_scales.protocol import FULL, HISS, QUICK
from hissbt.research.three_scales.system import (
    LABEL_NOISE,
    SCALES,
    TERMS,
    Simulated,
    explained,
    floors,
    simulate,
    term_name,
)
from hissbt.research.three_scales.verdicts import verdicts
from hissbt.trials import Trials

TINY = replace(QUICK, networks={name: FULL.networks[name] for name in (HISS, "LSTM")})


# --- the system


def test_a_longer_draw_begins_with_a_shorter_one():
    short, long = simulate(300, 4), simulate(500, 4)
    for name in ("x", "y", "known"):
        assert_array_equal(getattr(long, name)[:300], getattr(short, name))


def test_another_seed_draws_another_system():
    assert (simulate(50, 0).x != simulate(50, 1).x).all()


def test_what_remains_of_the_best_forecast_is_the_noise_floor():
    found = [simulate(200_000, seed) for seed in range(4)]
    left = np.mean([(one.y - one.bayes).var() for one in found])
    assert left == pytest.approx(floors(256)["best of all, all bars"], rel=0.03)
    assert np.mean([one.y.var() for one in found]) == pytest.approx(floors(256)["nothing"], rel=0.05)


def test_each_term_is_known_as_far_as_the_closed_form_says():
    known = np.mean([simulate(200_000, seed).known.var(axis=0) for seed in range(4)], axis=0)
    assert_allclose(known, [explained(None, [degrees]) for degrees in TERMS], rtol=0.1)


def test_the_best_forecast_cannot_be_improved_by_what_it_is_made_of():
    data = simulate(200_000, 5)
    slopes = np.linalg.lstsq(data.known, data.y, rcond=None)[0]
    assert_allclose(slopes, 1, atol=0.12)  # where what is known counted in full they would be 0.8 or 0.64


def test_a_window_of_256_bars_loses_more_than_a_quarter_of_what_can_be_known():
    assert explained(256) / explained() == pytest.approx(0.7227, abs=1e-4)
    lag = np.exp(-2 * 256 / SCALES["slow"])
    assert explained(256, [(0, 0, 2)]) == pytest.approx(explained(None, [(0, 0, 2)]) * (1 - lag) ** 2)


def test_floors_fall_as_more_may_be_used():
    found = floors(256)
    assert list(found.values()) == sorted(found.values(), reverse=True)
    assert found["best of all, all bars"] > LABEL_NOISE
    assert floors(10**6)["best of all, 1000000 bars"] == pytest.approx(found["best of all, all bars"])


def test_a_window_tells_of_the_linear_terms_what_the_closed_form_says():
    data, window = simulate(50_000, 2), 16
    lags = np.lib.stride_tricks.sliding_window_view(data.x, window, axis=0).reshape(-1, 3 * window)
    linear = data.known[window - 1 :, :3].sum(axis=1)
    fitted = lags @ np.linalg.lstsq(lags, linear, rcond=None)[0]
    assert fitted.var() == pytest.approx(explained(window, list(TERMS)[:3]), rel=0.05)


@pytest.mark.parametrize(
    ("degrees", "name"), [((1, 0, 0), "fast"), ((0, 1, 1), "middle × slow"), ((0, 0, 2), "slow²")]
)
def test_a_term_is_named_after_its_states(degrees, name):
    assert term_name(degrees) == name


# --- the protocol


@pytest.mark.parametrize("name", [name for name in FULL.networks if name != HISS])
def test_every_rival_has_the_size_of_the_hierarchy(name):
    def size(name: str) -> int:
        return parameters_of(*FULL.networks[name], n_features=len(SCALES))

    assert size(name) == pytest.approx(size(HISS), rel=0.03)


def test_parts_follow_each_other_apart():
    train, validation, test = FULL.spans().values()
    assert train.start == validation.start - train.stop == test.start - validation.stop == FULL.apart
    assert (len(train), len(validation), len(test)) == (FULL.train, FULL.validation, FULL.test)


# --- a fit


def altered_from(data: Simulated, row: int) -> Simulated:
    x, y = data.x.copy(), data.y.copy()
    x[row:] *= -3
    y[row:] += 5
    return replace(data, x=x, y=y)


def test_nothing_that_is_fitted_or_chosen_knows_of_the_rows_after_validation():
    data, last = simulate(TINY.spans()["test"].stop, 0), TINY.spans()["validation"].stop
    first, again = (trial("LSTM", 3e-3, 0, one, TINY) for one in (data, altered_from(data, last)))
    assert first["validation"] == again["validation"]
    assert first["mse"] != again["mse"]
    seen = trial("LSTM", 3e-3, 0, altered_from(data, last - 1), TINY)
    assert seen["validation"] != first["validation"]


def test_what_a_forecast_holds_of_each_term_is_found():
    data = simulate(2_000, 0)
    found = learned(data.known @ np.array([1, 0.5, 0, 0, 0.2, 0]) + 7, data.known)
    assert_allclose(list(found.values()), [1, 0.5, 0, 0, 0.2, 0], atol=1e-9)
    assert list(found) == [term_name(degrees) for degrees in TERMS]


def test_differences_are_taken_seed_by_seed():
    excess = {HISS: (0.2, 0.4), "LSTM": (0.3, 0.6)}
    runs = [
        {"network": name, "seed": seed, "excess": value}
        for name, values in excess.items()
        for seed, value in zip(TINY.seeds, values, strict=True)
    ]
    gap = differences(runs[::-1], TINY)["LSTM"]
    assert_allclose(gap["seeds"], [0.1, 0.2])
    assert_allclose(
        [gap["difference"], *gap["interval"]], [0.15, 0.15 - 12.706 * 0.05, 0.15 + 12.706 * 0.05], atol=1e-4
    )
    assert_allclose(gap["relative"], 0.15 / (floors(256)["best of all, all bars"] + 0.45))
    assert gap["won"] == 2


# --- from end to end


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    told = []
    out = tmp_path_factory.mktemp("runs")
    folder, results = compare_three_scales(TINY, out=out, workers=1, progress=lambda *now: told.append(now))
    return folder, results, told


def test_the_folder_holds_the_page_and_every_figure(compared):
    folder, results, _ = compared
    assert folder.name.endswith("-compare-three-scales-synthetic")
    assert sorted(file.name for file in folder.iterdir()) == ["report.html", "results.json"]
    kept = json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)
    assert kept["differences"] == results["differences"]
    assert kept["scores"].keys() == {HISS, "LSTM"}


def test_every_fit_is_a_trial_those_of_the_rates_too(compared):
    folder, results, _ = compared
    ledger = Trials(folder.parent)
    assert len(ledger.tried("three-scales", "bar")) == len(results["rates"]) + len(results["training"])
    assert ledger.verify() == []


def test_series_differ_by_seed_and_networks_share_them(compared):
    found = {(run["network"], run["seed"]): run["data_sha256"] for run in compared[1]["training"]}
    assert found[HISS, 0] == found["LSTM", 0] != found[HISS, 1]


def test_progress_counts_every_fit(compared):
    total = 2 * (len(TINY.rates) + len(TINY.seeds))
    assert [now[1:] for now in compared[2]] == [(done, total) for done in range(1, total + 1)]


def test_the_page_says_what_each_table_shows_and_that_the_run_was_short(compared):
    folder, results, _ = compared
    page = (folder / "report.html").read_text()
    for sentence in results["verdicts"].values():
        assert sentence in page
    assert "short run" in page


@pytest.mark.parametrize(
    ("interval", "said"),
    [((0.1, 0.2), "wins against"), ((-0.2, -0.1), "loses to"), ((-0.1, 0.1), "is not shown to differ from")],
)
def test_a_difference_is_judged_by_its_interval(compared, interval, said):
    results = json.loads((compared[0] / "results.json").read_text())
    results["differences"]["LSTM"] |= {"interval": interval}
    assert f"{HISS} {said} the LSTM" in verdicts(results)["Hierarchy against flat"]


def test_networks_that_use_more_than_the_window_are_named(compared):
    results = json.loads((compared[0] / "results.json").read_text())
    results["scores"]["LSTM"]["excess"] = explained() - explained(256) - 0.001
    assert "could be: LSTM." in verdicts(results)["Errors"]
    results["scores"]["LSTM"]["excess"] += 0.002
    assert "None is better" in verdicts(results)["Errors"]


def test_one_seed_is_refused_since_it_leaves_no_interval():
    with pytest.raises(ConfigError, match="two at least"):
        measure(replace(TINY, seeds=(0,)))
