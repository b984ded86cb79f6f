"""What is said of a trained hierarchical VAE: regimes, forecasts and anomalies that are there, and only those."""

import json

import numpy as np
import pandas as pd
import pytest
from bundles import random_bundle

from hissbt.bars import Bars
from hissbt.cli import main
from hissbt.console import show_analysis
from hissbt.errors import BarsError, BundleError
from hissbt.market import Market
from hissbt.research.hvae_report.analysis import analyze_hvae
from hissbt.research.hvae_report.analysis_verdicts import analysis_verdicts
from hissbt.research.hvae_report.anomalies import MOST, anomalies
from hissbt.research.hvae_report.clusters import clusters
from hissbt.research.hvae_report.forecasts import forecasts
from hissbt.research.hvae_report.readings import Readings, Spans
from hissbt.targets import market_regime
from hissbt.training import train

WINDOW = 12
NETWORK = {"strides": (2, 4, WINDOW), "d_latent": (1, 1, 2), "d_hidden": 8}


def bars_of(returns: np.ndarray, wicks: np.ndarray) -> Bars:
    """Hours with these log returns, and with highs and lows that far beyond."""
    close = 100 * np.exp(np.cumsum(returns))
    opened = np.append(100.0, close[:-1])
    frame = pd.DataFrame(
        {
            "open": opened,
            "high": np.maximum(opened, close) * np.exp(wicks),
            "low": np.minimum(opened, close) * np.exp(-wicks),
            "close": close,
            "volume": 1.0,
        },
        index=pd.date_range("2020-01-01", periods=len(close), freq="h", tz="UTC"),
    )
    return Bars.from_frame(frame, market=Market("MADE/UP"))


def readings_of(count: int, latents: tuple[np.ndarray, ...] | None = None, **given) -> Readings:
    """Readings [T] of three levels that say nothing, but for what is given."""
    rng = np.random.default_rng(0)
    fields = {
        "p_values": rng.random((count, 3)),
        "kl": rng.random((count, 3)),
        "cluster": rng.integers(3, size=count).astype(float),
        "latents": latents or tuple(rng.standard_normal((count, size)) for size in (1, 1, 2)),
        "warm": 0,
    }
    return Readings(**fields | given)


# --- forecasts


@pytest.fixture(scope="module")
def volatile():
    """Bars whose volatility is drawn anew every five days, and its log [T]."""
    rng = np.random.default_rng(1)
    log_volatility = np.repeat(rng.normal(-5, 0.7, 60), 120)
    returns = np.exp(log_volatility) * rng.standard_normal(len(log_volatility))
    return bars_of(returns, np.exp(log_volatility) * rng.random(len(log_volatility))), log_volatility


SPANS = Spans(range(100, 4_500), range(4_500, 6_500), day=24, week=48, month=96)


@pytest.fixture(scope="module")
def silent(volatile) -> dict:
    """Forecasts from levels that say nothing."""
    return forecasts(volatile[0], readings_of(len(volatile[0])), SPANS)


def test_a_level_that_knows_volatility_is_seen_to(volatile):
    bars, log_volatility = volatile
    ahead = np.append(log_volatility[24:], log_volatility[-24:])[:, None]  # no level of a model could know this
    noise = np.random.default_rng(2).standard_normal((len(ahead), 1))
    found = forecasts(bars, readings_of(len(bars), (ahead, noise, noise)), SPANS)["volatility"]
    for other in ("climatology", "EWMA", "GARCH", "HAR"):
        assert found["differences"]["z1 | z2"][other]["interval"][0] > 0
    assert found["rows"]["z1 | z2"]["calibration"]["inside_90"] == pytest.approx(0.9, abs=0.08)


def test_levels_that_know_nothing_are_not_said_to_be_better(silent):
    for task in silent.values():
        *_, name = (name for name in task["differences"] if " and " not in name)
        assert task["differences"][name]["climatology"]["interval"][0] <= 0
        assert abs(task["differences"][name]["climatology"]["difference"]) < 0.1


def test_each_level_is_asked_beside_the_one_above(silent):
    assert {task: list(each["differences"]) for task, each in silent.items()} == {
        "regime": ["z3"],
        "return": ["z3", "z2 | z3"],
        "volatility": ["z2", "z1 | z2", "HAR and z1 | z2"],
    }


def test_bars_after_the_last_outcome_change_nothing(volatile, silent):
    bars, _ = volatile
    frame = bars.frame.copy()
    after = SPANS.unseen.stop + SPANS.month
    frame.iloc[after:, :4] *= np.linspace(1.0, 3.0, len(frame) - after)[:, None]
    changed = forecasts(Bars(frame, bars.market, bars.timeframe), readings_of(len(bars)), SPANS)
    assert json.dumps(changed) == json.dumps(silent)


def test_a_span_that_is_too_short_is_not_judged(volatile):
    bars, _ = volatile
    found = forecasts(bars, readings_of(len(bars)), Spans(range(100, 4_500), range(7_000, 7_200), 24, 48, 96))
    assert all("skipped" in each for each in found.values())


# --- clusters


def test_clusters_that_are_the_regimes_agree_with_them(volatile):
    bars, _ = volatile
    regime = market_regime(bars.frame["close"].to_numpy(), WINDOW)
    cluster = np.nan_to_num(regime) + 1  # bear 0, sideways 1, bull 2
    found = clusters(bars, readings_of(len(bars), cluster=cluster), range(100, 7_200), WINDOW, 3)
    assert found["agreement"] == pytest.approx(1)
    assert found["p_value"] < 0.01
    assert found["rows"][2]["regimes"]["bull"] == 1
    assert sum(row["share"] for row in found["rows"]) == pytest.approx(1)


def test_clusters_at_random_do_not_agree(volatile):
    bars, _ = volatile
    found = clusters(bars, readings_of(len(bars)), range(100, 7_200), WINDOW, 3)
    assert abs(found["agreement"]) < 0.02
    assert found["p_value"] > 0.05


def test_clusters_without_windows_are_not_judged(volatile):
    bars, _ = volatile
    assert clusters(bars, readings_of(len(bars)), range(7_150, 7_200), WINDOW, 3)["rows"] == []


# --- anomalies


def test_p_values_that_are_uniform_alarm_as_often_as_they_say(volatile):
    bars, _ = volatile
    found = anomalies(bars.frame.index, readings_of(len(bars)), SPANS, WINDOW)
    for level, alarms in found["alarms"].items():
        for alarm in alarms:
            low, high = alarm["interval"]
            assert low <= float(level) <= high
    both = found["both_ends"]["0.05"]
    assert both["both"] == pytest.approx(both["both_if_unrelated"], abs=0.003)


def test_the_shares_of_both_ends_add_up_to_the_alarms(volatile):
    bars, _ = volatile
    p = np.random.default_rng(0).random((len(bars), 3))
    p[:, 2] = p[:, 0]  # what is unusual to the finest level is so to the top
    found = anomalies(bars.frame.index, readings_of(len(bars), p_values=p), SPANS, WINDOW)
    both = found["both_ends"]["0.05"]
    assert both["both"] == pytest.approx(found["alarms"]["0.05"][0]["share"])
    assert both["top_only"] == both["bottom_only"] == 0


def test_the_most_unusual_bars_are_a_window_apart_and_unseen(volatile):
    bars, _ = volatile
    read = readings_of(len(bars))
    for number, most in enumerate(anomalies(bars.frame.index, read, SPANS, WINDOW)["most"]):
        rows = bars.frame.index.get_indexer([pd.Timestamp(day["close_time"]) for day in most])
        assert len(rows) == MOST
        assert rows.min() >= SPANS.unseen.start
        assert np.diff(np.sort(rows)).min() >= WINDOW
        assert most[0]["p"] == read.p_values[SPANS.unseen.start : SPANS.unseen.stop, number].min()


# --- from end to end


@pytest.fixture(scope="module")
def bundle(hourly_bars, tmp_path_factory):
    settings = {"network": NETWORK, "batch_size": 8, "epoch_steps": 4, "max_epochs": 4}
    out = tmp_path_factory.mktemp("model") / "bundle"
    train(hourly_bars[:700], out, kind="hvae", settings=settings, progress=False)
    return out


@pytest.fixture(scope="module")
def analyzed(hourly_bars, bundle, tmp_path_factory):
    return analyze_hvae(hourly_bars, bundle, out=tmp_path_factory.mktemp("runs"))


def test_the_folder_holds_the_page_and_every_figure(analyzed):
    folder, results = analyzed
    assert folder.name.endswith("-analyze-hvae-SP500")
    kept = json.loads((folder / "results.json").read_text(), parse_constant=pytest.fail)
    assert kept["data"]["spans"]["out_of_sample"]["bars"] == 500
    page = (folder / "report.html").read_text()
    for heading, sentence in results["verdicts"].items():
        assert f"<h2>{heading}</h2>" in page
        assert sentence in page
    assert [level["stride"] for level in kept["levels"]["out_of_sample"]] == [2, 4, WINDOW]


def test_what_the_model_was_trained_on_is_told_from_what_it_was_not(analyzed, hourly_bars):
    spans = analyzed[1]["data"]["spans"]
    assert spans["in_sample"]["last"] == hourly_bars.frame.index[699].isoformat()
    assert spans["out_of_sample"]["first"] == hourly_bars.frame.index[700].isoformat()


def test_a_collapsed_level_is_named(analyzed):
    results = json.loads((analyzed[0] / "results.json").read_text())
    results["levels"]["out_of_sample"][2]["active_units"] = 0
    assert "level 3" in analysis_verdicts(results)["Levels"]


def test_the_command_prints_levels_and_sentences(analyzed, capsys):
    show_analysis(*analyzed)
    said = capsys.readouterr().out
    assert "level 3" in said
    assert analyzed[1]["verdicts"]["Anomalies"] in said


def test_the_command_answers_in_json(hourly_bars, bundle, analyzed, tmp_path, capsys):
    hourly_bars.frame.to_csv(tmp_path / "SP500.csv")
    line = ["analyze", str(bundle), "--bars", str(tmp_path / "SP500.csv"), "--out", str(tmp_path), "--json"]
    with pytest.raises(SystemExit) as end:
        main(line)
    answer = json.loads(capsys.readouterr().out)
    assert not end.value.code
    assert answer["verdicts"] == analyzed[1]["verdicts"]


def test_another_kind_of_bundle_is_refused(hourly_bars):
    with pytest.raises(BundleError, match="kind hvae"):
        analyze_hvae(hourly_bars, random_bundle(hourly_bars))


def test_bars_of_another_length_or_too_few_unseen_are_refused(hourly_bars, bundle):
    with pytest.raises(BarsError, match="another"):
        analyze_hvae(hourly_bars.resample("2h"), bundle)
    with pytest.raises(BarsError, match="too few"):
        analyze_hvae(hourly_bars[:710], bundle)
