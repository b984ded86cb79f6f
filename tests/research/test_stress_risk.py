"""Risk by level: the change of an account when a level moves, where that is known beforehand."""

import json
from dataclasses import replace

import numpy as np
import pytest
from bundles import random_bundle

from hissbt.candles import CANDLE, LOG_RETURN
from hissbt.errors import ConfigError
from hissbt.research.scenarios import scenarios
from hissbt.research.stress.risk import DELTA, risk, risk_by_level
from hissbt.strategies.buy_and_hold import BuyAndHold

START, LENGTH, SCENARIOS = 900, 20, 6
FREE = {"taker": 0, "maker": 0, "half_spread": 0, "impact": 0}
DRIFT = 0.001


class Moved:
    """Scenarios to which each deviation of z2 adds a drift, and those of z1 add nothing."""

    name = "moved"

    def __init__(self, shift):
        self.shift = shift

    def generate(self, n, bars, seed, history):
        rows = np.zeros((n, bars, len(CANDLE)))
        noise = np.random.default_rng(seed).normal(0, 0.002, (n, bars))
        rows[..., LOG_RETURN] = noise + DRIFT * self.shift.get("z2", 0.0)
        return rows


@pytest.fixture(scope="module")
def found(hourly_bars):
    return risk_by_level(
        hourly_bars,
        BuyAndHold,
        Moved,
        {"z1": 2.0, "z2": 0.5},
        since=hourly_bars.open_times[START],
        length=LENGTH,
        n=SCENARIOS,
        params={"fraction": 1.0},
        costs=FREE,
        workers=1,
    )


def test_what_a_level_adds_to_every_scenario_is_its_risk(found):
    change = found["rows"][1]["total_return"]
    assert change["value"] == pytest.approx(np.sinh(LENGTH * DRIFT * DELTA) / DELTA, rel=0.05)
    assert change["error"] < 0.2 * change["value"]
    assert found["rows"][1]["max_drawdown"]["value"] > 0  # a drift upwards makes falls shallower


def test_a_level_that_changes_nothing_has_no_risk_however_much_the_bars_say_of_it(found):
    row = found["rows"][0]
    assert row["information"] == 2.0
    assert row["total_return"] == row["max_drawdown"] == {"value": 0.0, "error": 0.0, "typical": 0.0}


def test_the_section_tells_risk_from_information(found):
    content = risk(found).content
    assert "depends most on z2 and least on z1" in content
    assert "The bars say most of z1" in content


@pytest.fixture(scope="module")
def bundle(hourly_bars):
    levels = [{"level": number, "kl_a_latent": 1.0} for number in (1, 2, 3)]
    return replace(random_bundle(hourly_bars[:100], kind="hvae", features=CANDLE), metrics={"levels": levels})


def test_scenarios_have_a_section_on_the_levels_of_their_model(hourly_bars, bundle, tmp_path):
    asked = {"n": 2, "length": LENGTH, "workers": 1, "generators": ["hvae"], "out": tmp_path, "risk": 2}
    folder, results = scenarios(hourly_bars, BuyAndHold, model=bundle, **asked)
    assert [row["level"] for row in results["risk"]["rows"]] == ["z1", "z2", "z3"]
    assert any(row["total_return"]["typical"] > 0 for row in results["risk"]["rows"])
    kept = json.loads((folder / "results.json").read_text())
    assert kept["risk"] == results["risk"]
    assert 'id="risk-by-level"' in (folder / "report.html").read_text()


def test_risk_by_level_needs_the_model_that_has_levels(hourly_bars, bundle, tmp_path):
    with pytest.raises(ConfigError, match="hvae"):
        scenarios(hourly_bars, BuyAndHold, since=hourly_bars.open_times[START], risk=2, out=tmp_path)
    with pytest.raises(ConfigError, match="hvae"):
        scenarios(hourly_bars, BuyAndHold, model=bundle, generators=["bootstrap"], risk=2, out=tmp_path)
