"""The run page says what happened, in plain words and figures, for every kind of run."""

import json
import math
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from page_inputs import Alternating, page_inputs

from hissbt.bars import Bars
from hissbt.feeds import load_bars
from hissbt.market import Market
from hissbt.reports.page import ASSUMPTIONS, run_page
from hissbt.reports.page.account import drawdown, exposure
from hissbt.reports.page.costs import waterfall_chart
from hissbt.reports.page.headline import verdict
from hissbt.reports.page.sections import MOST_TRADES
from hissbt.reports.page.spans import guard_spans, joined
from hissbt.reports.page.tables import monthly_table
from hissbt.reports.page.text import chance, money, number, percent
from hissbt.trading.guards import DailyLossGuard, DrawdownGuard

ROWS = np.column_stack([np.full(120, 1e-3), np.linspace(0.4, 0.6, 120), np.full(120, 0.01)]).tolist()


@pytest.fixture(scope="module")
def bars():
    return load_bars("sp500")[4000:4120]


@pytest.fixture(scope="module")
def inputs(bars):
    return page_inputs(bars, rows=ROWS)


class Reader(HTMLParser):
    """Collects the text of a page, without its scripts and styles, and the names of its tags."""

    def __init__(self):
        super().__init__()
        self.words, self.tags, self.hidden = [], set(), False

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.hidden = tag in ("script", "style")

    def handle_endtag(self, tag):
        self.hidden = False

    def handle_data(self, data):
        if not self.hidden:
            self.words.append(data)


def read(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    return reader


def page_text(path):
    return re.sub(r"\s+", " ", " ".join(read(path).words))


def figures(path):
    """Return the figures of a page by name, as plotly.js gets them."""
    blocks = re.findall(
        r'<script type="application/json" id="([\w-]+)-data">(.*?)</script>', path.read_text(encoding="utf-8")
    )
    return {name: json.loads(text) for name, text in blocks}


def traces(figure, name):
    return [trace for trace in figure["data"] if trace.get("name") == name]


# --- what it says


def test_the_page_names_the_run_and_says_that_it_did_not_beat_buy_and_hold(inputs, tmp_path):
    text = page_text(run_page(tmp_path / "new" / "report.html", **inputs))
    ours, theirs = (inputs["metrics"][name]["total_return"] for name in ("trading", "buy_and_hold"))
    assert ours < 0 < theirs
    assert "Alternating on SP500" in text
    assert "2014-11-25 00:00 to 2015-05-20 00:00 UTC, 120 bars of 1d" in text
    assert f"The strategy lost {-ours:.2%} net of costs; buy-and-hold gained {theirs:.2%}. It did not beat" in text
    assert "IN SAMPLE" not in text
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["report.html"]


def test_a_run_that_beats_buy_and_hold_is_said_to(inputs, tmp_path):
    better = inputs["metrics"]["trading"] | {"total_return": 9.0}
    page = run_page(tmp_path / "page.html", **inputs | {"metrics": inputs["metrics"] | {"trading": better}})
    assert "The strategy gained 900.00% net of costs" in page_text(page)
    assert "It beat buy-and-hold." in page_text(page)


def test_to_lose_less_is_called_just_that():
    found = {"trading": {"total_return": -0.1, "trades": 3}, "buy_and_hold": {"total_return": -0.2}}
    assert verdict(found).endswith("buy-and-hold lost 20.00%. It lost less than buy-and-hold.")


WEIGHED = {
    "sentence": "Not significant: luck & 100 trials.",
    "sharpe": 1.234,
    "psr": 0.97777,
    "dsr": 0.41,
    "luck": 1.31,
    "trials": 1100,
    "trials_with_sharpe": 1090,
    "days": 1200,
    "effective_days": 987.6,
    "needed_days": math.inf,
    "ledger_faults": [],
}


def weighed_page(inputs, path, **changes):
    metrics = inputs["metrics"] | {"significance": WEIGHED | changes}
    return page_text(run_page(path, **inputs | {"metrics": metrics}))


def test_the_sharpe_ratio_stands_beside_luck(inputs, tmp_path):
    text = weighed_page(inputs, tmp_path / "page.html")
    assert "buy-and-hold. Not significant: luck & 100 trials." in text
    assert re.search(r"Sharpe ratio −?\d+\.\d\d Probabilistic SR 97\.7% Deflated SR 41\.0%", text)
    assert "Trials on this symbol and timeframe 1,100 of which without a Sharpe ratio of 30 days 10" in text
    assert "Sharpe ratio that luck gives the best of them 1.31" in text
    assert "Days 1,200 Independent days that they are worth 988" in text
    assert "Days that a DSR of 95% would need no number would do" in text
    assert "TRIALS" not in text


def test_what_too_short_a_sample_does_not_say_is_a_dash(inputs, tmp_path):
    text = weighed_page(inputs, tmp_path / "page.html", psr=math.nan, dsr=math.nan, needed_days=math.nan)
    assert "Probabilistic SR – Deflated SR –" in text
    assert "Days that a DSR of 95% would need –" in text
    assert "need 1,235" in weighed_page(inputs, tmp_path / "page.html", needed_days=1234.5)


def test_a_fault_of_the_trial_ledger_is_named_at_the_top(inputs, tmp_path):
    faults = ["Row 3 was deleted.", "Row 5 was altered.", "Row 7 was altered."]
    text = weighed_page(inputs, tmp_path / "page.html", ledger_faults=faults)
    assert "TRIALS MAY BE MISSING from the count" in text
    assert "Row 3 was deleted. (2 more faults)" in text
    assert "Row 3 was deleted. (1 more fault)" in weighed_page(
        inputs, tmp_path / "p.html", ledger_faults=faults[:2]
    )


def test_a_run_whose_luck_was_not_weighed_shows_no_such_figures(inputs, tmp_path):
    text = page_text(run_page(tmp_path / "page.html", **inputs))
    assert "Deflated" not in text
    assert "luck" not in text


def test_in_sample_is_marked_as_grave(bars, tmp_path):
    page = run_page(tmp_path / "page.html", **page_inputs(bars, rows=ROWS, in_sample=True))
    assert "<li class=bad><b>IN SAMPLE</b>: the model was trained on bars up to 2020-01-01 00:00 UTC" in (
        page.read_text(encoding="utf-8")
    )


def test_a_halt_is_named_at_the_top_in_the_charts_and_in_the_table(bars, tmp_path):
    inputs = page_inputs(bars, broker={"guards": (DrawdownGuard(0.01),)})
    page = run_page(tmp_path / "page.html", **inputs)
    tripped = inputs["ledger"].loc[inputs["ledger"]["guard"] == "drawdown", "close_time"].iloc[0]
    text = page_text(page)
    assert (
        f"The drawdown guard tripped at {tripped:%Y-%m-%d %H:%M} UTC and held the account flat to the end." in text
    )
    for name in ("price-chart", "account-chart"):
        layout = figures(page)[name]["layout"]
        assert "Halted by drawdown guard" in [note["text"] for note in layout["annotations"]]
        (line,) = [shape for shape in layout["shapes"] if shape["yref"] == "paper"]
        assert line["x0"] == tripped.value / 1e6
    assert f"{inputs['guards'][0]['overshoot']:.4g}" in text


def test_a_guard_that_lets_go_is_no_halt(bars, tmp_path):
    inputs = page_inputs(bars, broker={"guards": (DailyLossGuard(0.002),)}, size=45.0)
    page = run_page(tmp_path / "page.html", **inputs)
    assert not inputs["ledger"]["guard"].iloc[-1]
    assert "flat to the end" not in page_text(page)
    notes = [note["text"] for note in figures(page)["account-chart"]["layout"]["annotations"]]
    assert "First daily loss guard" in notes


def test_unknown_funding_gaps_liquidations_and_open_positions_are_told(inputs, tmp_path):
    ledger, trades = inputs["ledger"].copy(), inputs["trades"].copy()
    ledger.loc[7, "gap"] = 3
    trades.loc[0, "exit_reason"] = "liquidation"
    trades.loc[1, "exit_time"] = pd.NaT
    funding = {"symbol": "BTC", "expected": 1000, "present": 989, "missing": [{"first": "a", "events": 11}]}
    run = inputs["run"] | {"funding": funding}
    changed = inputs | {"ledger": ledger, "trades": trades, "run": run}
    text = page_text(run_page(tmp_path / "page.html", **changed))
    assert "3 bars missing, in 1 gap." in text
    assert "1 trade ended in a liquidation." in text
    assert "Funding of BTC is incomplete: of 1,000 events 11 are unknown, and charged nothing." in text
    assert "missing first a events 11" in text
    still_open = int(trades["exit_time"].isna().sum())
    assert f"{still_open} position" in text


def test_forecasts_that_know_nothing_are_told(inputs, tmp_path):
    forecast = inputs["metrics"]["forecast"] | {"accuracy": 0.48}
    forecast["majority_class"] = {"accuracy": 0.52, "f1": 0.6}
    forecast["zero_forecast"] = {"mse": forecast["mse"], "mae": forecast["mae"]}
    page = run_page(tmp_path / "page.html", **inputs | {"metrics": inputs["metrics"] | {"forecast": forecast}})
    text = page_text(page)
    assert "right direction at 48.00% of closes; always naming the more frequent one does so at 52.00%" in text
    assert "no better than always expecting 0" in text


def test_funding_that_is_known_well_enough_is_not_warned_of(inputs, tmp_path):
    run = inputs["run"] | {"funding": {"symbol": "BTC", "expected": 1000, "present": 990}}
    assert "incomplete" not in page_text(run_page(tmp_path / "page.html", **inputs | {"run": run}))


def test_every_assumption_and_count_is_on_the_page(inputs, tmp_path):
    metrics = inputs["metrics"] | {"counts": {"stop_before_target": 1234}}
    text = page_text(run_page(tmp_path / "page.html", **inputs | {"metrics": metrics}))
    assert all(assumption in text for assumption in ASSUMPTIONS)
    assert "Stop before target 1,234" in text
    assert "Only this." in page_text(run_page(tmp_path / "page.html", **inputs, assumptions=["Only this."]))


def test_the_provenance_shows_every_entry_of_the_run(inputs, tmp_path):
    text = page_text(run_page(tmp_path / "page.html", **inputs))
    assert inputs["run"]["source"]["sha256"] in text
    for name in ("prob_long 0.55", "half_spread 0.0001", "git_revision none", "seed 0"):
        assert name in text


# --- what it draws


def test_lines_of_the_model_and_levels_are_drawn_below_the_price(inputs, tmp_path):
    figure = figures(run_page(tmp_path / "page.html", **inputs))["price-chart"]
    titles = [note["text"] for note in figure["layout"]["annotations"]]
    assert titles == ["Price of SP500", "expected return", "prob up", "volatility"]
    assert sorted(shape["y0"] for shape in figure["layout"]["shapes"]) == [0.45, 0.55]
    assert figure["layout"]["xaxis"]["range"] == figure["layout"]["xaxis4"]["range"]


def test_entries_are_marked_by_side_and_exits_by_outcome(inputs, tmp_path):
    figure = figures(run_page(tmp_path / "page.html", **inputs))["price-chart"]
    trades = inputs["trades"]
    closed = trades[trades["exit_time"].notna()]
    counts = {
        "Long entry": (trades["side"] == "long").sum(),
        "Short entry": (trades["side"] == "short").sum(),
        "Exit with a profit": (closed["pnl_net"] > 0).sum(),
        "Exit with a loss": (closed["pnl_net"] <= 0).sum(),
    }
    for name, count in counts.items():
        assert len(traces(figure, name)[0]["text"]) == count > 0
    story = traces(figure, "Exit with a loss")[0]["text"][0]
    assert "signal" in story
    assert f"net {money(closed.loc[closed['pnl_net'] <= 0, 'pnl_net'].iloc[0])}" in story


def test_the_waterfall_ends_at_net(inputs, tmp_path):
    costs = inputs["metrics"]["costs"]
    (bars,) = figures(run_page(tmp_path / "page.html", **inputs))["waterfall-chart"]["data"]
    assert bars["measure"] == ["absolute", *["relative"] * 4, "total"]
    assert bars["y"][0] == costs["gross"]
    assert sum(bars["y"][:-1]) == pytest.approx(costs["net"])
    assert bars["text"][1] == money(-costs["fees"])


def test_an_amount_that_is_not_known_is_no_bar_of_the_waterfall():
    (bars,) = waterfall_chart({"Gross": 3.0, "Fees": math.nan, "Net": 2.0}).data
    assert list(bars.y) == [3.0, 0.0, 2.0]
    assert bars.text[1] == "–"


def test_drawdown_counts_from_the_start_value():
    assert drawdown(pd.Series([90.0, 120.0, 60.0]), 100.0).tolist() == pytest.approx([-0.1, 0.0, -0.5])


def test_a_value_that_is_not_finite_is_a_hole_in_the_drawdown_and_no_peak():
    lost = drawdown(pd.Series([100.0, math.inf, math.nan, 50.0]), 100.0).tolist()
    assert lost == pytest.approx([0.0, math.nan, math.nan, -0.5], nan_ok=True)


def test_exposure_is_signed_and_of_an_inverse_contract_in_coins():
    ledger = pd.DataFrame(
        {"position": [2.0, -2.0, 1.0], "price": [50.0, 50.0, 50.0], "value": [100.0, 200.0, 0.0]}
    )
    assert exposure(ledger).tolist() == pytest.approx([1.0, -0.5, math.nan], nan_ok=True)
    coins = pd.DataFrame({"position": [-30_000.0], "price": [60_000.0], "value": [0.25]})
    assert exposure(coins, inverse=True).tolist() == [-2.0]


def test_months_compound_to_years():
    days = pd.to_datetime(["2023-12-30", "2023-12-31", "2024-01-01", "2024-03-01"])
    text = re.sub(r"<.*?>", " ", monthly_table(pd.Series([0.1, 0.1, -0.5, 1.0], index=days)))
    assert re.search(r"2023\s+21\.00%\s+21\.00%", text)
    assert re.search(r"2024\s+−50\.00%\s+100\.00%\s+0\.00%", text)


@pytest.mark.parametrize("of_which", [["", "cap", "cap", "", "cap"], [False, True, True, False, True]])
@pytest.mark.parametrize("held", [0.0, 0.5])
def test_a_guard_is_in_force_from_its_close_to_the_first_free_one(of_which, held):
    closes = pd.date_range("2024-01-01", periods=5, tz="UTC")
    spans = guard_spans(
        pd.DataFrame({"close_time": closes, "guard": of_which, "position": [1.0, 1.0, 0.0, 0.0, held]})
    )
    assert spans["since"].tolist() == [closes[1], closes[4]]
    assert spans["until"].tolist() == [closes[3], closes[4]]
    assert spans["bars"].tolist() == [2, 1]
    assert spans["to_the_end"].tolist() == [False, True]
    assert spans["halted"].tolist() == [False, not held]


def test_spans_that_look_like_one_are_joined():
    since, until = joined(np.array([0.0, 10.0, 12.0, 30.0]), np.array([5.0, 11.0, 20.0, 31.0]), room=2.0)
    assert since.tolist() == [0.0, 10.0, 30.0]
    assert until.tolist() == [5.0, 20.0, 31.0]


# --- every kind of run


def test_a_run_without_trades_is_said_to_be_one(bars, tmp_path):
    text = page_text(run_page(tmp_path / "page.html", **page_inputs(bars, size=1e6)))
    assert "No trade was made. Buy-and-hold gained" in text


def test_a_run_of_the_stock_broker_needs_no_costs_and_no_fills(inputs, tmp_path):
    metrics = {name: found for name, found in inputs["metrics"].items() if name not in ("costs", "counts")}
    ledger = inputs["ledger"].drop(columns=["liquidation_fee"]).assign(guard=False)
    trades = inputs["trades"].drop(columns=["liquidation_fee"])
    few = inputs | {"metrics": metrics, "ledger": ledger, "trades": trades, "fills": pd.DataFrame()}
    few["run"] = inputs["run"] | {"costs": {"commission": 0.001}}
    assert set(figures(run_page(tmp_path / "page.html", **few))) == {"price-chart", "account-chart", "costs-chart"}


def test_metrics_that_are_null_in_json_are_dashes(inputs, tmp_path):
    nothing = dict.fromkeys(inputs["metrics"]["trading"]) | {"trades": 3}
    metrics = {"in_sample": False, "trading": nothing, "buy_and_hold": nothing, "forecast": None}
    text = page_text(run_page(tmp_path / "page.html", **inputs | {"metrics": metrics}))
    assert "The strategy has no defined return net of costs; buy-and-hold has no defined return." in text
    assert not re.search(r"\bnan\b|None", text)


def test_the_models_of_a_walk_forward_are_told_apart(inputs, tmp_path):
    assert "Models" not in page_text(run_page(tmp_path / "page.html", **inputs))
    turns = [
        {
            "since": f"2024-01-0{day}T00:00:00+00:00",
            "trained_from": "2023-01-01T00:00:00+00:00",
            "trained_until": "2024-01-02T00:00:00+00:00",
            "bars": 1234,
            "total_return": total_return,
            "sha256": f"{day}" * 64,
        }
        for day, total_return in ((2, 0.05), (3, -0.01))
    ]

    def text_of(turns):
        metrics = inputs["metrics"] | {"walk_forward": turns}
        return page_text(run_page(tmp_path / "page.html", **inputs | {"metrics": metrics}))

    text = text_of(turns)
    assert "2 models traded one after the other; 1 of them gained net of costs." in text
    assert "Each was trained only on bars that had closed before the first bar that it traded." in text
    assert "1,234" in text
    seen = text_of([turns[0] | {"since": "2024-01-01T00:00:00+00:00"}, turns[1]])
    assert "The first was trained on bars that it traded." in seen


def test_trades_in_other_markets_are_listed_but_not_drawn(bars, tmp_path):
    other = Bars(bars.frame * 3, Market("OTHER", calendar="XNYS"), bars.timeframe)

    class Both(Alternating):
        def next(self):
            super().next()
            if len(self) == 20:
                self.buy(data=self.data1, size=1.0)

    inputs = page_inputs(bars, other, strategy=Both)
    page = run_page(tmp_path / "page.html", **inputs)
    assert "1 trades in other markets" in page_text(page)
    assert "OTHER" in page_text(page)
    marked = sum(
        len(trace["text"]) for trace in figures(page)["price-chart"]["data"] if "entry" in trace.get("name", "")
    )
    assert marked == len(inputs["trades"]) - 1


def test_of_very_many_trades_the_largest_are_shown_and_the_page_says_so(inputs, tmp_path):
    many = pd.concat([inputs["trades"]] * (2 * MOST_TRADES // len(inputs["trades"])), ignore_index=True)
    many["pnl_net"] = np.where(np.arange(len(many)) == 1, 777_777.77, many["pnl_net"])
    page = run_page(tmp_path / "page.html", **inputs | {"trades": many})
    text = page_text(page)
    assert f"Of {len(many):,} trades the 1,000 with the largest profit or loss are listed" in text
    assert "777,777.77" in text
    assert page.read_text(encoding="utf-8").count("<tr><td data-key=") == MOST_TRADES


def test_half_a_million_bars_make_a_small_file_that_says_it_is_thinned(tmp_path):
    random = np.random.default_rng(0)
    price = 100 * np.exp(np.cumsum(random.normal(0, 1e-3, 500_000)))
    close_time = pd.date_range("2022-01-01", periods=len(price), freq="min", tz="UTC")
    high, low = price * 1.001, price * 0.999
    frame = pd.DataFrame(
        {"open": price, "high": high, "low": low, "close": price, "volume": 1.0}, index=close_time
    )
    many = Bars(frame, Market("MANY"), "1m")
    ledger = pd.DataFrame({"close_time": close_time, "value": 1000 * price, "cash": 0.0, "position": 1000.0})
    ledger = ledger.assign(price=price, fees=0.0, funding=1e-3, impact=0.0, liquidation_fee=0.0, guard="", gap=0)
    ledger.loc[::2, "guard"] = "exposure"  # a cap that trims at every other bar
    ledger = ledger.assign(**dict(zip("abcdefgh", random.normal(size=(8, len(price))), strict=True)))
    ledger.attrs = {"start_value": 100_000.0, "start_price": 100.0}
    nothing = page_inputs(load_bars("sp500")[4000:4003], size=1e6)
    page = run_page(tmp_path / "page.html", **nothing | {"ledger": ledger, "bars": many})
    assert page.stat().st_size < 10e6
    text = page_text(page)
    assert "Lines of 500,000 bars are drawn with at most 6,000 points" in text
    assert "Not drawn, but in ledger.parquet: g, h." in text


# --- what it must not do


EVIL = '<img src=x onerror="hacked()">&lt;</script><script>hacked()</script>'


def test_what_comes_from_outside_is_never_markup(bars, inputs, tmp_path):
    market = Market(EVIL, calendar="XNYS")
    evil = page_inputs(Bars(bars.frame, market, bars.timeframe), reason=EVIL)
    evil["run"] |= {"strategy": f"x.py:{EVIL}", EVIL: EVIL, "params": {EVIL: [EVIL]}}
    evil["run"]["funding"] = {"symbol": EVIL, "expected": 9, "present": 1}
    evil["ledger"] = evil["ledger"].rename_axis(None).assign(**{EVIL: 1.0})
    evil["ledger"]["guard"] = EVIL
    evil["ledger"].attrs = inputs["ledger"].attrs
    page = run_page(tmp_path / "page.html", **evil, assumptions=[EVIL])
    assert "img" not in read(page).tags
    assert page.read_text(encoding="utf-8").count("<script>") == run_page(
        tmp_path / "plain.html", **inputs
    ).read_text(encoding="utf-8").count("<script>")
    notes = json.dumps(figures(page)["price-chart"])
    assert "<img" not in notes
    assert "<script" not in notes


def test_the_same_run_gives_the_same_bytes(inputs, tmp_path):
    first = run_page(tmp_path / "a.html", **inputs).read_bytes()
    assert run_page(tmp_path / "b.html", **inputs).read_bytes() == first


def test_plotly_is_imported_for_a_page_only():
    code = "import sys, hissbt.reports.page, hissbt.backtest; print('plotly' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "False\n"
    )


def test_numbers_are_written_for_readers():
    assert [percent(0.1234567), percent(-0.5), percent(0.5, sign=True), percent(-1e-9)] == [
        "12.35%",
        "−50.00%",
        "+50.00%",
        "0.00%",
    ]
    assert [money(1234567.891), money(-0.0), money(0.000123456), money(None)] == [
        "1,234,567.89",
        "0.00",
        "0.0001235",
        "–",
    ]
    assert [chance(0.9999), chance(0.95), chance(0.0), chance(None)] == ["99.9%", "95.0%", "0.0%", "–"]
    assert [number(np.float64(1234.5678)), number(math.inf), number(np.int64(3))] == ["1,234.57", "–", "3"]
