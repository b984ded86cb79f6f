"""The ledger of an account with PerpBroker: every charge is in its row, its trade and its fill."""

import backtrader as bt
import pandas as pd
import pytest
from accounts import COSTS, START, Scripted, bars_of, hourly_funding, play
from paths import WildTrader, broker_of, case, run

from hissbt.feeds import BarsFeed
from hissbt.loop import accelerate
from hissbt.reports.costs import cost_report
from hissbt.reports.ledger import Ledger
from hissbt.reports.tearsheet import tearsheet
from hissbt.trading.broker import PerpBroker
from hissbt.trading.guards import DrawdownGuard, ExposureGuard, StaleDataGuard

FREE = {"taker": 0.0, "maker": 0.0}
RISING = [(100, 100, 100, 100), (100, 110, 100, 110), (110, 120, 110, 120), (120, 120, 120, 120)]
FALLING = [(100, 100, 100, 100), (100, 100, 100, 100), (99, 99, 90, 92), (92, 92, 92, 92), (92, 92, 92, 92)]


def buy(size, **kind):
    return lambda strategy: strategy.buy(size=size, **kind)


def sell(size, **kind):
    return lambda strategy: strategy.sell(size=size, **kind)


def close(strategy):
    strategy.close()


def test_every_charge_is_in_its_bar_its_trade_and_its_fill():
    account = play(
        RISING,
        {1: buy(10), 3: close},
        taker=0.001,
        half_spread=0.01,
        funding=hourly_funding({1: 0.5, 2: 0.01, 3: -0.002}),
    )
    frame, (trade,), (entry, leave) = (
        account.ledger.frame,
        account.ledger.trades.to_dict("records"),
        account.ledger.fills.to_dict("records"),
    )
    assert frame["fees"].tolist() == pytest.approx([0, 10 * 101 * 0.001, 0, 10 * 118.8 * 0.001])
    assert frame["funding"].tolist() == pytest.approx([0, 10 * 110 * 0.01, -10 * 120 * 0.002, 0])
    assert frame["impact"].tolist() == pytest.approx([0, 10 * 1, 0, 10 * 1.2])
    assert (trade["entry_price"], trade["exit_price"]) == pytest.approx((101, 118.8))
    assert trade["pnl_gross"] == pytest.approx(10 * 20)
    assert [trade[cost] for cost in COSTS] == pytest.approx([2.198, 11 - 2.4, 22, 0])
    assert trade["pnl_net"] == pytest.approx(200 - 2.198 - 8.6 - 22)
    assert account.end == pytest.approx(100_000 + trade["pnl_net"], rel=1e-12)
    assert (entry["raw_price"], entry["price"], entry["notional"]) == pytest.approx((100, 101, 1010))
    assert (entry["side"], entry["at"], entry["maker"], entry["symbol"]) == ("buy", "open", False, "X")
    assert entry["fill_time"] == START + pd.Timedelta("2h")
    assert (leave["fee"], leave["impact"], leave["reason"]) == (pytest.approx(1.188), pytest.approx(12), "market")


def test_an_open_trade_is_marked_at_the_close_and_its_impact_is_no_loss_of_gross():
    account = play(RISING, {1: buy(10), 2: sell(4)}, taker=0.0, half_spread=0.01)
    (trade,) = account.ledger.trades.to_dict("records")
    assert trade["pnl_gross"] == pytest.approx(4 * (110 - 100) + 6 * (120 - 100))
    assert trade["impact"] == pytest.approx(10 * 1 + 4 * 1.1)
    assert (trade["entry_price"], trade["exit_price"]) == pytest.approx((101, (4 * 108.9 + 6 * 120) / 10))
    assert (trade["exit_reason"], trade["exit_time"]) == ("open", pd.NaT)


def test_funding_of_the_bar_of_an_exit_belongs_to_the_trade_that_was_left():
    stop = sell(10, exectype=bt.Order.Stop, price=95)
    account = play(FALLING, {1: buy(10), 2: stop}, funding=hourly_funding({3: 0.01}), **FREE)
    (trade,) = account.ledger.trades.to_dict("records")
    assert trade["exit_price"] == 95
    assert trade["funding"] == pytest.approx(10 * 92 * 0.01)
    assert account.ledger.frame["funding"].tolist() == pytest.approx([0, 0, 9.2, 0, 0])


@pytest.mark.parametrize(
    ("rate", "funding"), [(0.01, [9.2, 0]), (-0.01, [0, 9.2])], ids=["longs pay", "shorts pay"]
)
def test_funding_of_the_bar_of_a_flip_belongs_to_the_side_that_pays(rate, funding):
    flip = sell(20, exectype=bt.Order.Stop, price=95)
    account = play(FALLING, {1: buy(10), 2: flip}, funding=hourly_funding({3: rate}), **FREE)
    trades = account.ledger.trades
    assert trades["side"].tolist() == ["long", "short"]
    assert trades["funding"].tolist() == pytest.approx(funding)


def test_a_fill_through_flat_shares_its_costs_by_size():
    account = play(RISING, {1: buy(10), 2: sell(40)}, taker=0.001, half_spread=0.01)
    long, short = account.ledger.trades.to_dict("records")
    assert long["fees"] == pytest.approx(10 * 101 * 0.001 + 10 * 108.9 * 0.001)
    assert long["impact"] == pytest.approx(10 + 10 * 1.1)
    assert short["fees"] == pytest.approx(30 * 108.9 * 0.001)
    assert short["impact"] == pytest.approx(30 * 1.1)
    assert len(account.ledger.fills) == 2


def test_an_inverse_contract_is_accounted_for_in_coin():
    rows = [(20_000, 20_000, 20_000, 20_000)] * 2 + [(25_000, 25_000, 25_000, 25_000)] + [(40_000,) * 4] * 2
    script = {1: buy(10_000), 2: buy(10_000), 3: close}
    account = play(rows, script, cash=2.0, contract="inverse", taker=0.001)
    (trade,) = account.ledger.trades.to_dict("records")
    assert trade["pnl_gross"] == pytest.approx(0.5 + 0.4 - 0.5, rel=1e-12)
    assert trade["fees"] == pytest.approx(0.0005 + 0.0004 + 0.0005)
    assert trade["entry_price"] == pytest.approx(20_000 / 0.9)
    assert trade["exit_price"] == pytest.approx(40_000)
    assert account.ledger.fills["notional"].tolist() == pytest.approx([0.5, 0.4, 0.5])
    assert account.end == pytest.approx(2 + 0.4 - 0.0014, rel=1e-12)


def test_a_liquidation_pays_its_own_fee():
    rows = [(100, 100, 100, 100), (100, 100, 100, 100), (99, 99, 80, 85)]
    account = play(rows, {1: buy(10)}, taker=0.0005, liquidation_fee=0.001, leverage=10.0, maintenance=0.005)
    (trade,) = account.ledger.trades.to_dict("records")
    price = 900 / 9.95  # 100 of margin + 10 * (price - 100) = 0.005 * 10 * price
    assert trade["exit_price"] == pytest.approx(price)
    assert trade["exit_reason"] == "liquidation"
    assert trade["fees"] == pytest.approx(10 * 100 * 0.0005)
    assert trade["liquidation_fee"] == pytest.approx(10 * price * 0.001)
    assert account.ledger.frame["liquidation_fee"].tolist() == pytest.approx([0, 0, 10 * price * 0.001])
    assert account.ledger.fills["liquidation_fee"].tolist() == pytest.approx([0, 10 * price * 0.001])


def test_the_guard_of_the_broker_is_named_and_so_is_what_it_closed():
    account = play(FALLING, {1: buy(1000), 3: buy(1)}, guards=[DrawdownGuard(0.05)], **FREE)
    assert account.ledger.frame["guard"].tolist() == ["", "", "drawdown", "drawdown", "drawdown"]
    assert account.ledger.trades["exit_reason"].tolist() == ["drawdown"]
    assert account.ledger.fills["reason"].tolist() == ["market", "drawdown"]
    refused = account.ledger.orders.query("status == 'rejected'")
    assert refused["reason"].tolist() == ["refused_by_guard"]


def test_the_journal_is_the_accounts_whichever_strategy_ordered():
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars_of(RISING)))
    cerebro.broker = PerpBroker(cash=100_000, taker=0.001)
    cerebro.addstrategy(Scripted, script={1: buy(10)})
    cerebro.addstrategy(Scripted, script={2: sell(4)})
    cerebro.addanalyzer(Ledger, _name="ledger")
    first, second = (strategy.analyzers.ledger for strategy in cerebro.run())
    assert first.fills["side"].tolist() == ["buy", "sell"]
    for one, other in ((first.fills, second.fills), (first.trades, second.trades), (first.frame, second.frame)):
        pd.testing.assert_frame_equal(one, other)
    assert (len(first.orders), len(second.orders)) == (1, 1)


def guards_of(seed):
    return [(), (ExposureGuard(0.5), StaleDataGuard(0, 3))][seed % 2]


def tables(tried, fast=False, **mode):
    cerebro = bt.Cerebro(stdstats=False, **mode)
    for bars in tried.datas:
        cerebro.adddata(BarsFeed(bars))
    cerebro.broker = broker_of(tried.settings | {"guards": guards_of(tried.seed)})
    cerebro.addstrategy(WildTrader, seed=tried.seed, leverage=tried.settings["leverage"])
    cerebro.addanalyzer(Ledger, _name="ledger")
    if fast:
        accelerate(cerebro)
    ledger = cerebro.run()[0].analyzers.ledger
    return [table.to_csv() for table in (ledger.frame, ledger.trades, ledger.fills, ledger.orders)]


@pytest.mark.parametrize("seed", range(12))
def test_the_tables_are_the_same_however_they_are_recorded(seed):
    tried = case(seed)
    noted = tables(tried)
    assert tables(tried, runonce=False, preload=False) == noted
    assert tables(tried, fast=True) == noted
    if len(tried.datas) == 1:
        assert tables(tried, exactbars=1) == noted


@pytest.mark.parametrize("seed", range(0, 60, 5))
def test_trades_rows_and_fills_add_up_to_the_same_costs(seed):
    ledger = run(case(seed), guards=guards_of(seed))[0].analyzers.ledger
    frame, trades, fills = ledger.frame, ledger.trades, ledger.fills
    scale = {"rel": 1e-9, "abs": 1e-9 * frame.attrs["start_value"]}
    for cost in COSTS:
        assert trades[cost].sum() == pytest.approx(frame[cost].sum(), **scale)
    for column, cost in (("fee", "fees"), ("impact", "impact"), ("liquidation_fee", "liquidation_fee")):
        assert fills[column].sum() == pytest.approx(frame[cost].sum(), **scale)
    report = cost_report(frame, fills, 365)
    assert report["gross"] == pytest.approx(trades["pnl_gross"].sum(), **scale)
    assert report["net"] == pytest.approx(trades["pnl_net"].sum(), **scale)


def test_of_what_came_before_since_nothing_is_in_rows_and_fills():
    late = type("Late", (Ledger,), {"params": (("since", START + pd.Timedelta("2h")),)})
    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars_of(RISING)))
    cerebro.broker = PerpBroker(cash=100_000, taker=0.001, half_spread=0.01)
    cerebro.addstrategy(Scripted, script={1: buy(10), 3: close})
    cerebro.addanalyzer(late, _name="ledger")
    ledger = cerebro.run()[0].analyzers.ledger
    assert ledger.frame.attrs["start_value"] == pytest.approx(100_000 + 10 * 9 - 1.01)
    assert ledger.frame["impact"].tolist() == pytest.approx([0, 12])
    assert ledger.fills["side"].tolist() == ["sell"]
    report = cost_report(ledger.frame, ledger.fills, 365)
    assert report["gross"] == pytest.approx(10 * 10)
    assert report["net"] == pytest.approx(10 * (118.8 - 110) - 1.188)
    assert len(ledger.trades) == 1  # of a trade both ends are told


def test_impact_is_told_apart_from_spread_in_a_run():
    rows = [(100, 102, 99, 101), (101, 103, 100, 100), (100, 104, 99, 103), (103, 105, 101, 102)] * 3
    script, spread = {3: buy(5), 6: sell(9), 10: close}, {"half_spread": 0.001}
    both, alone = play(rows, script, impact=0.7, **spread), play(rows, script, **spread)
    report, only = (cost_report(a.ledger.frame, a.ledger.fills, 365, half_spread=0.001) for a in (both, alone))
    assert report["spread"] == pytest.approx(only["impact"])
    assert report["square_root_impact"] == pytest.approx(both.ledger.frame["impact"].sum() - only["impact"])
    assert report["square_root_impact"] > 1
    assert only["square_root_impact"] == 0


def test_the_tearsheet_names_what_was_paid(tmp_path):
    charged = {"taker": 0.001, "half_spread": 0.01, "funding": hourly_funding({2: 0.01})}
    account = play(RISING, {1: buy(10), 3: close}, cash=10_000.0, **charged)
    page = tearsheet(account.strategy, tmp_path / "page.html").read_text()
    assert "Costs: fees 0.02%, spread and impact 0.22%, funding 0.11% of the start value" in page
    free = play(RISING, {1: buy(10), 3: close}, cash=10_000.0, **FREE)
    assert "Costs" not in tearsheet(free.strategy, tmp_path / "page.html").read_text()


def test_the_tearsheet_counts_liquidations(tmp_path):
    rows = [(100, 100, 100, 100), (100, 100, 100, 100), (99, 99, 80, 85)]
    account = play(rows, {1: buy(10)}, cash=1000.0, leverage=10.0, liquidation_fee=0.001, **FREE)
    page = tearsheet(account.strategy, tmp_path / "page.html").read_text()
    assert "Costs: 1 liquidation(s) 0.09% of the start value" in page
