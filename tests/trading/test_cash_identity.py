"""Not a cent is lost or made up: value = start + gross - fees - funding - impact - liquidation fees, always."""

from collections import Counter

import numpy as np
import pytest
from accounts import COSTS
from paths import case, run

from hissbt.reports.ledger import Ledger
from hissbt.trading.guards import DailyLossGuard, DrawdownGuard, ExposureGuard, StaleDataGuard
from hissbt.trading.journal import Fill, FundingCharge

SEEDS, PARTS = 1000, 4
TOLERANCE = 1e-9


def guards_of(seed):
    rng = np.random.default_rng([seed, 2])
    if rng.random() < 0.5:
        return ()
    return (
        DrawdownGuard(rng.choice([0.1, 0.5])),
        DailyLossGuard(rng.choice([0.05, 0.2])),
        ExposureGuard(rng.choice([0.5, 2.0, 20.0])),
        StaleDataGuard(max_missing_bars=0, resume_after=3),
    )


def gross_by_bar(broker, frame, inverse):
    """Return [T] the gross P&L at each close, from the journal's fills at the prices before spread and impact."""

    def book(price):
        return -1 / price if inverse else price

    feeds = {row.data for row in broker.journal if isinstance(row, Fill)}
    gross = np.zeros(len(frame))
    stamps = frame["close_time"]
    dates = stamps.astype("int64").to_numpy() / 86_400e9 + 719_163
    for feed in feeds:
        closes = feed.bars.frame["close"].reindex(stamps, method="ffill").to_numpy()
        fills = [row for row in broker.journal if isinstance(row, Fill) and row.data is feed]
        for fill in fills:
            # What Backtrader fills at the close of a session is known, and in the account, one bar later.
            held = dates >= fill.dt + (1e-9 if fill.at == "close" else -1e-9)
            gross += np.where(held, fill.size * (book(closes) - book(fill.raw_price)), 0.0)
    return gross


@pytest.mark.parametrize("part", range(PARTS))
def test_the_end_value_is_the_start_plus_the_gross_less_every_cost(part):
    reach = Counter()
    for seed in range(part, SEEDS, PARTS):
        tried = case(seed)
        strategy, broker = run(tried, guards=guards_of(seed))
        ledger = strategy.analyzers.ledger
        check_trades(seed, broker, ledger)
        check_rows(seed, broker, ledger, tried.settings["contract"] == "inverse")
        count(reach, broker, ledger)
    # The test proves nothing about what its paths do not hold.
    least = {
        "liquidation": 20,
        "partial_fill": 20,
        "guard": 20,
        "funding": 100,
        "open": 50,
        "impact": 50,
        "maker": 50,
    }
    least |= {
        "inverse": 20,
        "two markets": 20,
        "flip": 20,
        "refused_by_guard": 20,
        "entry_bar_stop": 20,
        "below_minimum": 5,
    }
    assert {name: reach[name] for name, number in least.items() if reach[name] < number} == {}


def check_trades(seed, broker, ledger):
    frame, trades = ledger.frame, ledger.trades
    start = frame.attrs["start_value"]
    paid = {cost: trades[cost].sum() for cost in COSTS}
    expected = start + trades["pnl_gross"].sum() - sum(paid.values())
    close_to(seed, broker.getvalue(), expected, start)
    close_to(seed, broker.getvalue(), start + trades["pnl_net"].sum(), start)
    assert frame["value"].iloc[-1] == broker.getvalue()


def check_rows(seed, broker, ledger, inverse):
    frame = ledger.frame
    start = frame.attrs["start_value"]
    paid = sum(frame[cost] for cost in COSTS).cumsum().to_numpy()
    expected = start + gross_by_bar(broker, frame, inverse) - paid
    close_to(seed, frame["value"].to_numpy(), expected, start)
    # Margins are isolated: more than all is only lost by funding that falls due in the bar of a liquidation.
    assert frame["value"].min() >= -max(0.0, frame["funding"].max()) - TOLERANCE * start, f"seed {seed}"
    fills = [row for row in broker.journal if isinstance(row, Fill)]
    charges = [row for row in broker.journal if isinstance(row, FundingCharge)]
    journal = {
        "fees": sum(row.fee for row in fills),
        "funding": sum(row.amount for row in charges),
        "impact": sum(row.impact for row in fills),
        "liquidation_fee": sum(row.liquidation_fee for row in fills),
    }
    for cost in COSTS:
        close_to(seed, frame[cost].sum(), journal[cost], start)


def close_to(seed, number, expected, start):
    """To 1e-9 of the start value: an account may have lost nearly all of it, and nothing is relative to 0."""
    assert np.abs(np.asarray(number) - expected).max() <= TOLERANCE * start, f"seed {seed}"


def count(reach, broker, ledger):
    trades, frame = ledger.trades, ledger.frame
    fills = [row for row in broker.journal if isinstance(row, Fill)]
    reach["liquidation"] += broker.counts["liquidation"] > 0
    reach["partial_fill"] += broker.counts["partial_fill"] > 0
    reach["entry_bar_stop"] += broker.counts["entry_bar_stop"] > 0
    reach["below_minimum"] += broker.counts["below_minimum"] > 0
    reach["refused_by_guard"] += broker.counts["refused_by_guard"] > 0
    reach["guard"] += (frame["guard"] != "").any()
    reach["funding"] += (frame["funding"] != 0).any()
    reach["impact"] += (frame["impact"] != 0).any()
    reach["open"] += trades["exit_time"].isna().any()
    reach["maker"] += any(fill.maker for fill in fills)
    reach["inverse"] += broker.p.contract == "inverse" and len(fills) > 0
    reach["two markets"] += trades["symbol"].nunique() > 1
    reach["flip"] += (trades["entry_time"].isin(trades["exit_time"])).any()


def test_the_same_seed_gives_the_same_ledger():
    first, second = (run(case(11), guards=guards_of(11))[0].analyzers.ledger for _ in range(2))
    assert first.frame.equals(second.frame)
    assert first.trades.equals(second.trades)


def test_a_recorder_of_bars_from_a_later_time_on_adds_up_too():
    """The value before the first row is the start, and only what was paid since is in the rows."""
    tried = case(11)
    since = tried.datas[0].frame.index[20]
    strategy, broker = run(tried, analyzers={"late": type("Late", (Ledger,), {"params": (("since", since),)})})
    late, whole = strategy.analyzers.late.frame, strategy.analyzers.ledger.frame
    assert len(late) == len(whole) - 21
    assert late.attrs["start_value"] == whole["value"].iloc[20]
    for cost in COSTS:
        assert late[cost].sum() == pytest.approx(whole[cost].iloc[21:].sum(), rel=1e-12, abs=1e-9)
    assert broker.getvalue() == late["value"].iloc[-1]
