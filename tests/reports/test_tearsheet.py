"""Every finished run gets a page that opens and tells the truth."""

import re
from html.parser import HTMLParser

import backtrader as bt
import matplotlib as mpl
import numpy as np
import pytest
from scripted_forecast import ScriptedForecast

from hissbt.bars import Bars
from hissbt.errors import StrategyError
from hissbt.feeds import BarsFeed, load_bars
from hissbt.reports.ledger import Ledger
from hissbt.reports.metrics import trading_metrics
from hissbt.reports.tearsheet import tearsheet
from hissbt.strategies.buy_and_hold import BuyAndHold
from hissbt.strategies.hiss import HiSSStrategy


class Scripted(HiSSStrategy):
    params = (("rows", None),)

    def make_forecast(self):
        return ScriptedForecast(self.data, rows=self.p.rows)


@pytest.fixture(scope="module")
def bars():
    return load_bars("sp500")[4000:4120]


def run(bars, strategy, ledger=True, **params):
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars))
    cerebro.addstrategy(strategy, **params)
    if ledger:
        cerebro.addanalyzer(Ledger)
    cerebro.broker.setcash(100_000)
    return cerebro.run()[0]


class Checker(HTMLParser):
    """Collects the text, and fails on a tag that is closed but not open."""

    def __init__(self):
        super().__init__()
        self.open, self.text = [], ""

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "link", "hr", "br", "img", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        self.text += data + "\n"


def page_text(path):
    checker = Checker()
    checker.feed(path.read_text(encoding="utf-8"))
    assert checker.open == []
    return re.sub(r"\s+", " ", checker.text)


def test_a_run_with_trades_gets_the_quantstats_page(bars, tmp_path, capsys, caplog, recwarn):
    settings = dict(mpl.rcParams)
    strategy = run(bars[:90], BuyAndHold)
    path = tearsheet(strategy, tmp_path / "new" / "page.html", benchmark=bars, notes={"In sample": "<yes>"})
    text = page_text(path)
    assert "BuyAndHold on SP500" in text
    assert "In sample: <yes>" in text
    assert "Periods/Year: 252" in text
    ledger = strategy.analyzers.ledger
    metrics = trading_metrics(ledger.frame, ledger.trades, ledger.fills, 252)
    asset, ours = re.search(r"Sharpe (-?[\d.]+) (-?[\d.]+)", text).groups()
    assert float(ours) == pytest.approx(metrics["sharpe"], abs=0.005)
    assert float(asset) == pytest.approx(float(ours), abs=0.3)  # the same asset, held from a bar later on
    assert dict(mpl.rcParams) == settings
    assert capsys.readouterr() == ("", "")
    assert not [record for record in caplog.records if "font" in record.name]
    assert len(recwarn) == 0
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]


def test_without_a_signal_the_page_says_what_was_missing(bars, tmp_path):
    rows = np.column_stack([np.full(120, 0.01), np.linspace(0.47, 0.53, 120), np.full(120, 0.01)]).tolist()
    path = tearsheet(run(bars, Scripted, rows=rows), tmp_path / "page.html", benchmark=bars)
    text = page_text(path)
    assert "prob_up ranged 0.47 … 0.53" in text
    assert "a long needs prob_up > 0.6" in text
    assert "Buy and hold" in text
    assert path.read_text().count("<svg") == 1


class Overreaching(bt.Strategy):
    """Orders more than it can pay."""

    params = (("size", 1e6),)

    def next(self):
        if self.p.size and len(self) == 1:
            self.buy(size=self.p.size)


@pytest.mark.parametrize(("size", "reason"), [(1e6, "none was filled"), (0, "no order")])
def test_a_run_without_trades_and_signals_says_why(bars, tmp_path, size, reason):
    text = page_text(tearsheet(run(bars, Overreaching, size=size), tmp_path / "page.html", benchmark=bars))
    assert "No trade" in text
    assert reason in text
    assert "<svg" not in text


def test_gaps_are_noted_on_the_page(bars, tmp_path):
    whole, holed = bars[:4], Bars(bars.frame[:6].drop(bars.frame.index[[1, 2, 4]]), bars.market, bars.timeframe)
    assert "Gaps" not in page_text(tearsheet(run(whole, BuyAndHold), tmp_path / "whole.html"))
    page = tearsheet(run(holed, BuyAndHold), tmp_path / "holed.html", notes={"Trades": "1"})
    assert "Trades: 1 • Gaps: 2 (3 bars missing)" in page_text(page)


def test_a_few_days_are_not_charted(bars, tmp_path):
    text = page_text(tearsheet(run(bars[:4], BuyAndHold), tmp_path / "page.html"))
    assert "The run spans 4 day(s)" in text
    assert re.search(r"trades 1 1", text)


def test_returns_that_quantstats_would_take_for_prices_are_not_charted(bars, tmp_path):
    closes = np.array([1.0, 1.0, 1.0, 3.0, 3.1, 3.2, 3.3, 3.4])
    rising = Bars(
        bars[:8].frame.assign(open=closes, high=closes, low=closes, close=closes), bars.market, bars.timeframe
    )
    text = page_text(tearsheet(run(rising, BuyAndHold), tmp_path / "page.html"))
    assert "would take such returns for prices" in text
    assert re.search(r"max drawdown 0.00% 0.00%", text)


def test_returns_that_quantstats_cannot_chart_get_a_page_too(bars, tmp_path):
    still = bars[:8].frame.assign(open=100.0, high=100.0, low=100.0, close=100.0)
    still = Bars(still, bars.market, bars.timeframe)
    text = page_text(tearsheet(run(still, BuyAndHold), tmp_path / "page.html", benchmark=still))
    assert "QuantStats could not chart these returns" in text
    assert re.search(r"trades 1 1", text)


def test_a_run_without_a_ledger_is_refused(bars, tmp_path):
    with pytest.raises(StrategyError, match=r"addanalyzer\(hissbt\.Ledger\)"):
        tearsheet(run(bars, BuyAndHold, ledger=False), tmp_path / "page.html")
