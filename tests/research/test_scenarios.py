"""Scenarios as their users ask for them: by the names of generators and anchors, from the command line."""

import json
import shlex

import pandas as pd
import pytest
from bundles import random_bundle

from hissbt.candles import CANDLE
from hissbt.cli import main
from hissbt.errors import BarsError, ConfigError
from hissbt.research.generators.hvae import HVAEGenerator
from hissbt.research.scenarios import scenarios
from hissbt.strategies.buy_and_hold import BuyAndHold
from hissbt.targets import market_regime

WINDOW = 8
START = 900
LENGTH = 20


@pytest.fixture(scope="module")
def bars(hourly_bars):
    return hourly_bars


@pytest.fixture(scope="module")
def bundle(bars):
    """A hierarchical VAE of windows of eight bars, with random weights, trained on the first 100 bars."""
    return random_bundle(bars[:100], kind="hvae", features=CANDLE)


@pytest.fixture
def run(bars, bundle, tmp_path):
    """Run buy-and-hold through a few scenarios; return the results."""

    def run(**asked):
        usual = {"model": bundle, "n": 2, "length": LENGTH, "workers": 1, "out": tmp_path, "generators": ["hvae"]}
        return scenarios(bars, BuyAndHold, **(usual | asked))[1]

    return run


@pytest.fixture
def anchored(monkeypatch):
    """Note what the model's generator is anchored on and fixed at."""
    seen = {}

    class Noted(HVAEGenerator):
        def __init__(self, bundle, fix=(), anchor=None, shift=None):
            seen.update(fix=tuple(fix), anchor=anchor)
            super().__init__(bundle, fix, anchor, shift)

    monkeypatch.setattr("hissbt.research.generators.hvae.HVAEGenerator", Noted)
    return seen


def test_a_date_is_where_scenarios_begin_and_what_they_imitate(run, anchored, bars):
    moment = bars.open_times[START]
    results = run(anchor=f"{moment:%Y-%m-%d %H:%M}", fix=("z3", "z2"))
    assert results["since"] == moment.isoformat()
    assert anchored["fix"] == ("z3", "z2")
    stretch = anchored["anchor"]
    # Three windows of eight bars for twenty, and before them what the features look back at.
    assert stretch.frame.index[-1] == bars.frame.index[START + 3 * WINDOW - 1]
    assert len(stretch) // WINDOW == 3


def test_a_beginning_of_its_own_leaves_the_anchor_where_it_is(run, anchored, bars):
    results = run(anchor="2024-01-10", since=bars.open_times[START])
    assert results["since"] == bars.open_times[START].isoformat()
    assert anchored["anchor"].frame.index[-1] == pd.Timestamp("2024-01-11", tz="UTC")


@pytest.mark.parametrize(("name", "label"), [("bull", 1.0), ("bear", -1.0), ("sideways", 0.0)])
def test_a_regime_is_the_last_window_of_it_before_the_beginning(run, anchored, bars, name, label):
    run(anchor=name, since=bars.open_times[START])
    last = bars.frame.index.get_loc(anchored["anchor"].frame.index[-1])
    labels = market_regime(bars.frame["close"].to_numpy()[:START], WINDOW)
    assert labels[last] == label
    assert not (labels[last + 1 :] == label).any()


def test_without_an_anchor_scenarios_begin_where_the_training_ends(run, anchored, bars):
    results = run()
    assert results["since"] == bars.frame.index[99].isoformat()
    assert anchored["anchor"] is None
    assert results["in_sample"] == []


def test_a_cluster_is_one_of_the_models(run, anchored):
    run(anchor="cluster:1")
    assert anchored["anchor"] == 1
    with pytest.raises(ConfigError, match="no cluster 9"):
        run(anchor="cluster:9")


def test_the_top_level_is_fixed_unless_others_are_named(run, anchored, bars):
    two = random_bundle(bars[:100], kind="hvae", features=CANDLE, strides=(2, 4), d_latent=(1, 1))
    run(model=two, anchor=str(bars.open_times[START]))
    assert anchored["fix"] == ("z2",)
    run(model=two, fix=("z1",), anchor=str(bars.open_times[START]))
    assert anchored["fix"] == ("z1",)


def test_who_was_trained_on_later_bars_is_said(run, bars):
    assert run(since=bars.open_times[60])["in_sample"] == ["the generator hvae"]


def test_without_a_model_its_rivals_make_scenarios(run):
    results = run(model=None, generators=None, since="2024-02-10", n=1)
    assert list(results["generators"]) == ["bootstrap", "garch", "markov", "null"]


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"generators": ["hvea"]}, ConfigError, "unknown generator 'hvea': choose from hvae, bootstrap"),
        ({"model": None}, ConfigError, "generator hvae has no model"),
        ({"model": None, "generators": ["null"]}, ConfigError, "nothing says when"),
        ({"anchor": "crash"}, ConfigError, "unknown anchor 'crash'"),
        ({"anchor": "ftx"}, BarsError, "have no window of 8 bars of the anchor 2022-11-06"),
        ({"anchor": "2034-01"}, BarsError, "have no window of 8 bars of the anchor 2034-01-01"),
        ({"fix": ("z4",)}, ConfigError, "no level 'z4'"),
        ({"n": 0}, ConfigError, "n is 0"),
    ],
    ids=["generator", "model", "beginning", "anchor", "early", "late", "level", "n"],
)
def test_what_cannot_be_is_refused(run, asked, error, message):
    with pytest.raises(error, match=message):
        run(**asked)


def test_a_file_in_the_way_is_noticed_first(run, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        run(out=tmp_path / "file")


# --- the command


@pytest.fixture
def hissbt(bars, bundle, tmp_path, monkeypatch, capsys):
    """Run a command line in a folder with bars and a model; return exit code, output and complaints."""
    monkeypatch.chdir(tmp_path)
    bars.frame.set_axis(bars.open_times.rename("timestamp"), axis=0).to_csv("SPX.csv")
    bundle.save("hvae")

    def run(line):
        with pytest.raises(SystemExit) as end:
            main(shlex.split(line))
        return end.value.code or 0, *capsys.readouterr()

    return run


FEW = "--bars SPX.csv -n 3 --length 20 --workers 1"


def test_the_command_makes_a_page_and_says_what_came_out(hissbt, tmp_path):
    code, out, err = hissbt(f"scenarios buy_and_hold {FEW} --model hvae --fix z3 --anchor 2024-02 --out there")
    assert (code, err) == (0, "")
    (folder,) = (tmp_path / "there").iterdir()
    assert folder.name.endswith("-scenarios-buy-and-hold-SPX")
    assert out.splitlines()[-1] == f"report: there/{folder.name}/report.html"
    for text in ("hvae", "markov", "The real path returned", "no drift and no memory"):
        assert text in out
    assert "z3" in (folder / "report.html").read_text()


def test_the_command_answers_in_json_and_every_option_arrives(hissbt, tmp_path):
    line = (
        f"scenarios buy_and_hold {FEW} --from 2024-02-03 --generators bootstrap,null --seed 5 --set fraction=0.5"
    )
    code, out, err = hissbt(f"{line} --cost taker=0.002 --json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert found["since"] == "2024-02-03T00:00:00+00:00"
    assert (found["n"], found["bars"], found["provenance"]["seed"]) == (3, 20, 5)
    assert list(found["generators"]) == ["bootstrap", "null"]
    assert found["provenance"]["params"] == {"fraction": 0.5}
    assert found["provenance"]["costs"]["taker"] == 0.002
    kept = pd.read_parquet(tmp_path / found["folder"] / "scenarios.parquet")
    assert kept["generator"].tolist() == ["bootstrap"] * 3 + ["null"] * 3


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--anchor crash", "unknown anchor 'crash': write a date or a month"),
        ("--from 2024-02-03 --generators garhc", "unknown generator 'garhc'"),
        ("--from 2024-02-03 --generators null -n 0", "n is 0: write a number of 1 or more"),
        ("--from 2034-01-01", "scenarios cannot begin at 2034-01-01"),
        ("--model nowhere", "there is no model bundle at nowhere"),
        ("--from 2024-02-03 --set model=5", "the model cannot be 5"),
    ],
    ids=["anchor", "generator", "n", "from", "bundle", "model"],
)
def test_bad_input_gets_one_sentence(hissbt, tmp_path, options, complaint):
    code, out, err = hissbt(f"scenarios buy_and_hold {FEW} {options}")
    assert (code, out) == (2, "")
    assert complaint in err
    assert err.count("\n") == 1
    assert not (tmp_path / "runs").exists()
