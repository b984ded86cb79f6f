"""The audit finds every leak of the zoo, passes every clean twin and everything that we ship."""

import json

import backtrader as bt
import numpy as np
import pytest
from bundles import random_bundle
from zoo_indicators import INDICATORS, STRATEGIES
from zoo_pipelines import LOADERS, NETWORKS, PIPELINES, UNTIL

from hissbt.bars import Bars
from hissbt.candles import CANDLE
from hissbt.cli import main
from hissbt.econometrics import Garch
from hissbt.errors import AuditError, BarsError, StrategyError
from hissbt.features import FeatureSet, Normalizer
from hissbt.indicators import Forecast, GarchVolatility, HarVolatility, HiSS, Latent, MarkovRegime, Regime
from hissbt.plugins import load_target
from hissbt.research.audit import Report, Verdict, audit, audit_loader, audit_network, audit_training
from hissbt.research.audit.futures import ALTERED
from hissbt.strategies.buy_and_hold import BuyAndHold
from hissbt.strategies.hiss import HiSSStrategy
from hissbt.strategies.hvae import HVAEStrategy
from hissbt.strategies.switching import SwitchingStrategy
from hissbt.training import train

CUTS = 52
FEATURES = ("log_return", "range", "rsi:14")
EAGER = {"prob_long": 0.5, "prob_short": 0.5}

PLANTED = """
import backtrader as bt

class Planted(bt.Indicator):
    lines = ("body", "trend")
    params = (("at", 50),)

    def next(self):
        self.lines.body[0] = self.data.close[0] - self.data.open[0]
        self.lines.trend[0] = self.data.close[0]
        if len(self) == self.p.at:
            self.lines.trend[0] = self.data.close[1]

class Clean(Planted):
    params = (("at", None),)
"""


@pytest.fixture(scope="module")
def bars(hourly_bars) -> Bars:
    """Hourly bars with a column beside them."""
    frame = hourly_bars.frame[:160]
    return Bars(frame.assign(rival=frame["close"].to_numpy()[::-1].copy()), hourly_bars.market, "1h")


def verdict(report, name):
    (found,) = [each for each in report.verdicts if each.property == name]
    return found


# ------------------------------------------------------------------------------------------------ the zoo


@pytest.mark.parametrize("name", INDICATORS)
def test_every_leaky_indicator_is_flagged_with_its_reach(bars, name):
    leaky, _, reach = INDICATORS[name]
    report = audit(leaky, bars, cuts=CUTS)
    assert not report.passed
    altered = verdict(report, "altered future")
    assert (altered.status, altered.line) == ("leak", "value")
    assert reach is None or altered.reach == reach


@pytest.mark.parametrize("name", INDICATORS)
def test_every_clean_indicator_passes(bars, name):
    report = audit(INDICATORS[name][1], bars, cuts=24)
    assert report.passed, report.sentence
    assert verdict(report, "truncation").status == verdict(report, "altered future").status == "pass"


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_that_knows_tomorrow_is_flagged_by_its_orders(bars, name):
    leaky, clean, reach = STRATEGIES[name]
    found = verdict(audit(leaky, bars, cuts=16), "altered future")
    assert (found.status, found.line, found.reach) == ("leak", "order 1 size", reach)
    assert audit(clean, bars, cuts=16).passed


@pytest.mark.parametrize("name", PIPELINES)
def test_every_leaky_pipeline_is_flagged_and_its_twin_passes(bars, name):
    leaky, clean, reach = PIPELINES[name]
    report = audit_training(leaky, bars, UNTIL)
    found = verdict(report, "fitted on the past")
    assert found.status == "leak"
    assert reach is None or found.reach == reach
    assert audit_training(clean, bars, UNTIL).passed


def test_a_pipeline_that_sees_the_canary_is_told_so(bars):
    leaky, clean, _ = PIPELINES["columns chosen on everything"]
    assert verdict(audit_training(leaky, bars, UNTIL), "canary").status == "leak"
    assert verdict(audit_training(clean, bars, UNTIL), "canary").status == "pass"


@pytest.mark.parametrize("name", LOADERS)
def test_bars_stamped_at_their_open_are_flagged_and_their_twin_passes(name):
    leaky, clean = LOADERS[name]
    found = verdict(audit_loader(leaky), "stamps")
    assert (found.status, found.reach) == ("leak", 1)
    assert audit_loader(clean).passed


@pytest.mark.parametrize("name", NETWORKS)
def test_every_leaky_network_is_flagged_and_its_twin_passes(name):
    leaky, clean, flagged = NETWORKS[name]
    x = np.random.default_rng(0).standard_normal((3, 12, 4))
    assert verdict(audit_network(leaky, x), flagged).is_flagged
    report = audit_network(clean, x)
    assert report.passed, report.sentence


# ------------------------------------------------------------------------------------------- what we ship


@pytest.fixture(scope="module")
def models(bars):
    made = {kind: random_bundle(bars, features=FEATURES, kind=kind) for kind in ("hiss", "m-gru")}
    return made | {"hvae": random_bundle(bars, features=CANDLE, kind="hvae")}


SCHEDULE = {"min_bars": 30, "refit_every": 1000}
SHIPPED = {
    "HiSS": (HiSS, "hiss", {}),
    "Forecast": (Forecast, "hiss", {"reset_after": "session"}),
    "Regime": (Regime, "m-gru", {}),
    "Latent": (Latent, "hvae", {}),
    "HarVolatility": (HarVolatility, None, SCHEDULE),
    "GarchVolatility": (GarchVolatility, None, {"model": Garch(), **SCHEDULE}),
    "MarkovRegime": (MarkovRegime, None, {**SCHEDULE, "starts": 1}),
    "buy and hold": (BuyAndHold, None, {}),
    "hiss": (HiSSStrategy, "hiss", EAGER),
    "switching": (SwitchingStrategy, "m-gru", EAGER),
    "hvae": (HVAEStrategy, "hiss", {"latent": "hvae", "least_normal": 0.0, **EAGER}),
}


@pytest.mark.parametrize("name", SHIPPED)
def test_everything_that_we_ship_passes(bars, models, name):
    target, model, params = SHIPPED[name]
    params = {key: models.get(value, value) if key == "latent" else value for key, value in params.items()}
    report = audit(target, bars[:120], model=models.get(model), params=params, cuts=16 if model else 4)
    assert report.passed, report.sentence
    assert {verdict(report, each).status for each in ("truncation", "altered future")} == {"pass"}
    assert verdict(report, "state resume").status == ("pass" if model else "not applicable")


def test_what_training_fits_before_its_network_passes(bars):
    def fit(bars):
        features = FeatureSet(FEATURES)
        return Normalizer.fit(features.scan(bars.between(until=UNTIL).arrays()))

    assert audit_training(fit, bars, UNTIL).passed


def test_training_itself_passes(bars, tmp_path):
    tiny = {"window": 32, "burn_in": 8, "epoch_steps": 2, "max_epochs": 1, "network": {"d_model": 4}}

    def fit(bars):
        given = {"kind": "gru", "until": UNTIL, "settings": tiny, "progress": False, "runs": tmp_path}
        return train(bars, tmp_path / "gru", **given)

    assert audit_training(fit, bars, UNTIL).passed


# ------------------------------------------------------------------------------- what a report says, and when


def test_what_could_not_be_tried_has_not_passed():
    untold = Verdict("altered future", "could not run", "it raises on every other future")
    report = Report("Mine", "100 bars", 9, (Verdict("truncation", "pass", ""), untold))
    assert not report.passed
    assert report.sentence == "Of Mine it cannot be told whether it looks ahead: it raises on every other future."


class Dead(bt.Indicator):
    lines = ("value",)

    def next(self):
        self.lines.value[0] = 1.0


class Moody(bt.Indicator):
    lines = ("value",)
    calls = 0

    def next(self):
        Moody.calls += 1
        self.lines.value[0] = self.data.close[0] + Moody.calls


class Unguarded(bt.Indicator):
    lines = ("value",)

    def next(self):
        self.lines.value[0] = self.data.close[1]


class TwoWays(bt.Indicator):
    lines = ("value",)

    def next(self):
        self.lines.value[0] = self.data.close[0]

    def once(self, start, end):
        for i in range(start, end):
            self.lines.value.array[i] = self.data.open.array[i]


class Broken(bt.Indicator):
    lines = ("value",)

    def next(self):
        raise ValueError("on purpose")


def test_a_target_that_follows_nothing_is_called_dead(bars):
    report = audit(Dead, bars, cuts=8)
    assert verdict(report, "positive control").status == "fault"
    assert not report.passed
    assert not report.leaks
    assert "dead" in report.sentence


def test_a_target_that_never_says_the_same_is_not_called_a_leak(bars):
    report = audit(Moody, bars, cuts=8)
    assert [each.status for each in report.verdicts] == ["could not run", "could not run", "fault"]
    assert not report.leaks


def test_a_bar_behind_the_last_one_is_a_leak(bars):
    report = audit(Unguarded, bars, cuts=8)
    assert (report.leaks[0].property, report.leaks[0].reach) == ("truncation", 1)
    assert report.leaks[0].bar == bars.frame.index[-1].isoformat()


def test_once_that_is_not_next_is_a_fault(bars):
    report = audit(TwoWays, bars, cuts=8)
    found = verdict(report, "once = next")
    assert (found.status, found.line, found.bar) == ("fault", "value", bars.frame.index[0].isoformat())


def test_a_leak_behind_the_cuts_shows_where_the_future_is_not_in_memory(bars, tmp_path):
    (tmp_path / "planted.py").write_text(PLANTED)
    report = audit(load_target(f"{tmp_path / 'planted.py'}:Planted"), bars, params={"at": 150}, cuts=8)
    assert verdict(report, "altered future").status == "pass"
    assert verdict(report, "once = next").bar == bars.frame.index[149].isoformat()


@pytest.mark.parametrize("at", [2, 37, 50])
def test_a_leak_of_one_bar_is_found_at_its_bar_and_line(bars, tmp_path, at):
    (tmp_path / "planted.py").write_text(PLANTED)
    report = audit(load_target(f"{tmp_path / 'planted.py'}:Planted"), bars, params={"at": at}, cuts=CUTS)
    found = verdict(report, "altered future")
    assert (found.bar, found.line, found.reach) == (bars.frame.index[at - 1].isoformat(), "trend", 1)


@pytest.mark.parametrize(
    ("target", "params", "error", "message"),
    [
        (Broken, {}, AuditError, "Broken cannot run over these bars: .* ValueError: on purpose"),
        (Dead, {"period": 3}, AuditError, "Dead has no parameter 'period': it has none"),
        (Bars, {}, AuditError, "no Backtrader indicator or strategy"),
        (bt.ind.SMA, {"period": 140}, BarsError, "too few bars to audit SMA: there are 160"),
        (BuyAndHold, {"fraction": 2.0}, StrategyError, "fraction"),
    ],
)
def test_what_cannot_be_audited_is_refused(bars, target, params, error, message):
    with pytest.raises(error, match=message):
        audit(target, bars, params=params, cuts=8)


@pytest.mark.parametrize("future", ALTERED, ids=lambda future: future.__name__)
def test_other_futures_leave_the_past_alone_and_nothing_else(bars, future):
    for cut in (0, 1, 100, 159):
        other = future(bars, cut)
        assert other.frame[:cut].equals(bars.frame[:cut])
        changed = (other.frame[cut:] != bars.frame[cut:]).any(axis=1)
        assert changed.mean() > 0.5 or len(changed) == 1


# ------------------------------------------------------------------------------------------------ the command


@pytest.fixture
def hissbt(bars, tmp_path, monkeypatch, capsys):
    """Run a command line in a folder with bars and a user's indicators."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(PLANTED)
    bars.frame.set_axis(bars.open_times.rename("timestamp"), axis=0).to_csv("bars.csv")

    def run(line):
        with pytest.raises(SystemExit) as end:
            main(line.split())
        return end.value.code or 0, capsys.readouterr().out

    return run


def test_the_command_fails_on_a_leak_and_says_where(hissbt):
    code, out = hissbt("audit mine.py:Planted --bars bars.csv --cuts 60")
    assert code == 1
    assert "LEAK" in out
    assert "Planted LOOKS AHEAD by one bar" in out.splitlines()[-1]


def test_the_command_gives_json_and_succeeds_without_a_leak(hissbt, bars):
    code, out = hissbt("audit mine.py:Clean --bars bars.csv --cuts 8 --json")
    found = json.loads(out)
    assert (code, found["passed"], found["target"]) == (0, True, "Clean")
    code, out = hissbt("audit mine.py:Planted --bars bars.csv --set at=20 --cuts 60 --json")
    leak = next(each for each in json.loads(out)["verdicts"] if each["property"] == "altered future")
    assert (code, leak["bar"], leak["line"]) == (1, bars.frame.index[19].isoformat(), "trend")


@pytest.mark.parametrize(("name", "target"), [("hiss", HiSSStrategy), ("HiSS", HiSS), ("regime", Regime)])
def test_what_we_ship_has_short_names(name, target):
    assert load_target(name) is target


def test_an_unknown_name_is_answered_with_those_there_are():
    with pytest.raises(
        StrategyError, match=r"unknown strategy or indicator 'oracle': choose buy_and_hold.*Latent"
    ):
        load_target("oracle")
