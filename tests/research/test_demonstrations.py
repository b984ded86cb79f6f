"""The demonstrations show what they are said to show, and their causal halves are causal."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hissbt.cli import main
from hissbt.errors import BarsError, ConfigError
from hissbt.feeds import load_bars
from hissbt.research.demonstrations.haar import WARMUP, denoised, inputs, so_far, whole_set
from hissbt.research.demonstrations.leaky import Pipeline, demonstrate_leak
from hissbt.research.demonstrations.million import demonstrate_million
from hissbt.research.demonstrations.models import BANK, KINDS, bank, draw, positions
from hissbt.research.demonstrations.verdicts import LEAK, MARKET, TWIN

MODELS = 12


@pytest.fixture(scope="module")
def sp500():
    return load_bars("sp500")


@pytest.fixture(scope="module")
def leak(sp500, tmp_path_factory):
    return demonstrate_leak(sp500, out=tmp_path_factory.mktemp("leak"))


@pytest.fixture(scope="module")
def million(sp500, tmp_path_factory):
    return demonstrate_million(sp500, models=MODELS, noises=1, out=tmp_path_factory.mktemp("million"))


# ------------------------------------------------------------------------------------------------ the leak


def test_the_leak_is_right_far_above_sixty_percent_and_its_twin_near_fifty(leak):
    scores = leak[1]["scores"]
    assert scores[LEAK]["interval"][0] > 0.68
    assert 0.45 < scores[TWIN]["accuracy"] < 0.55
    assert scores[LEAK]["by_place"][0] > 0.8 > 0.55 > scores[LEAK]["by_place"][-1]


def test_the_audit_flags_the_leak_and_passes_its_twin(leak):
    passed = {name: found["passed"] for name, found in leak[1]["audits"].items()}
    assert passed == {
        f"inputs, {LEAK}": False,
        f"training, {LEAK}": False,
        f"inputs, {TWIN}": True,
        f"training, {TWIN}": True,
    }


def test_the_page_of_the_leak_shows_both_accuracies_and_the_audit(leak):
    folder, results = leak
    page = (folder / "report.html").read_text(encoding="utf-8")
    for name in (LEAK, TWIN):
        assert f"{results['scores'][name]['accuracy']:.2%}" in page
    assert "LOOKS AHEAD" in page
    assert json.loads((folder / "results.json").read_text())["scores"] == json.loads(json.dumps(results["scores"]))


def test_a_block_is_its_mean_once_it_is_over():
    values = np.array([1.0, 3.0, 5.0, 7.0, 9.0])
    assert denoised(values, 2, whole_set(5)).tolist() == [2, 2, 6, 6, 9]
    assert denoised(values, 2, so_far(5)).tolist() == [1, 2, 5, 6, 9]


@given(cut=st.integers(2, 80), seed=st.integers(0, 99))
def test_what_was_known_does_not_change_with_what_comes(cut, seed):
    closes = np.exp(np.random.default_rng(seed).normal(0, 0.01, 80).cumsum())
    assert np.array_equal(inputs(closes, so_far, so_far)[:cut], inputs(closes[:cut], so_far, so_far))


def test_at_the_last_bar_nothing_is_left_to_leak():
    values = np.random.default_rng(0).normal(size=83)
    assert denoised(values, 4, whole_set(83))[-1] == denoised(values, 4, so_far(83))[-1]


def test_a_pipeline_learns_no_direction_that_ends_in_the_test_span(sp500):
    pipeline = Pipeline(so_far, so_far, "2013-01-01")
    rows = pipeline.rows(sp500)
    fitted, cut = pipeline.fit(sp500), pipeline.fit(sp500[:rows])
    assert np.array_equal(fitted["weights"], cut["weights"])


def test_too_few_bars_are_refused(sp500, tmp_path):
    with pytest.raises(BarsError, match="too few"):
        demonstrate_leak(sp500[: WARMUP + 300], train_until="1999-06-01", out=tmp_path)
    with pytest.raises(BarsError, match="too few"):
        demonstrate_million(sp500[:800], out=tmp_path)
    assert list(tmp_path.iterdir()) == []


# -------------------------------------------------------------------------------------------- many models


def test_models_are_drawn_alike_for_every_count():
    assert draw(5, seed=3) == draw(50, seed=3)[:5]
    assert draw(5, seed=3) != draw(5, seed=4)
    assert {model.kind for model in draw(50, seed=0)} == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_learns_from_the_fitted_rows_only(sp500, kind):
    bars, fitted = sp500[:700], slice(126, 500)
    model = next(model for model in draw(50, seed=0) if model.kind == kind)
    rows = bank(bars, fitted)
    ahead = np.random.default_rng(0).normal(0, 0.01, len(rows))
    other = np.where(np.arange(len(rows)) < 500, ahead, -ahead)
    held = positions(model, rows, ahead, fitted)
    assert np.array_equal(held, positions(model, rows, other, fitted))
    assert np.array_equal(held[:600], positions(model, bank(bars[:600], fitted), ahead[:600], fitted))
    assert rows.shape == (700, len(BANK))


def test_the_best_is_the_highest_where_it_was_chosen(million):
    for world in million[1]["worlds"].values():
        sharpes, best = world["sharpes"], world["best"]["chosen"]
        assert best["chosen"] == max(sharpes["chosen"])
        assert best["unseen"] == sharpes["unseen"][sharpes["chosen"].index(best["chosen"])]
        assert world["dsr"] < world["psr"]


def test_the_page_of_many_models_shows_the_market_and_noise(million):
    folder, results = million
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert list(results["worlds"]) == [MARKET, "noise 1"]
    assert "noise 1" in page
    assert results["verdicts"]["Deflation"].partition(",")[0] in page
    assert len(results["closes"]) == len(results["worlds"][MARKET]["curve"])


def test_the_same_seed_gives_the_same_models_and_noise(million, sp500, tmp_path):
    _, again = demonstrate_million(sp500, models=MODELS, noises=1, out=tmp_path)
    changing = ("seconds", "provenance")
    first, second = (
        {name: results[name] for name in results if name not in changing} for results in (million[1], again)
    )
    assert first == second


def test_one_model_is_no_choice(sp500, tmp_path):
    with pytest.raises(ConfigError, match="at least 2"):
        demonstrate_million(sp500, models=1, out=tmp_path)


# ------------------------------------------------------------------------------------------- the command


@pytest.fixture
def shown(monkeypatch, leak, million):
    """Let the command print what was worked out already."""
    monkeypatch.setattr("hissbt.research.demonstrations.leaky.demonstrate_leak", lambda *_, **__: leak)
    monkeypatch.setattr("hissbt.research.demonstrations.million.demonstrate_million", lambda *_, **__: million)


@pytest.mark.parametrize(("option", "said"), [("--leaky", "LOOKS AHEAD"), ("--million", "The best of 12 models")])
def test_the_command_prints_a_table_a_sentence_and_the_page(shown, capsys, option, said):
    with pytest.raises(SystemExit) as end:
        main(["demo", option])
    assert not end.value.code
    out = capsys.readouterr().out
    assert said in out
    assert out.rstrip().endswith("report.html")


@pytest.mark.parametrize(("option", "kind"), [("--leaky", "leaky"), ("--million", "million")])
def test_the_command_prints_json(shown, capsys, option, kind):
    with pytest.raises(SystemExit):
        main(["demo", option, "--json"])
    printed = json.loads(capsys.readouterr().out)
    assert printed["kind"] == kind
    assert printed["verdicts"]
    assert not {"curves", "closes"} & set(printed)


def test_two_demonstrations_at_once_are_refused(capsys):
    with pytest.raises(SystemExit) as end:
        main(["demo", "--leaky", "--million"])
    assert end.value.code == 2
    assert "one at a time" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--leaky", "--million"])
def test_a_file_where_the_folder_would_be_is_named_at_once(tmp_path, capsys, option):
    (tmp_path / "runs").write_text("")
    with pytest.raises(SystemExit) as end:
        main(["demo", option, "--out", str(tmp_path / "runs")])
    assert end.value.code == 2
    assert "is a file" in capsys.readouterr().err
