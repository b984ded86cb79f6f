"""Recompute a run's account from its trade list, raw bars and raw funding, with nothing of hissbt.

``python -m tests.soak.recompute RUN --bars FILE --funding FILE [--json]``, where FILE are tables stamped with
bar opens and event times, as ``hissbt backtest`` read them. Of the run folder it takes which fills there were,
when and how large, and the terms of the account. Prices at the open, spread, impact, fees, funding and equity at
every close it works out itself, and says how far the ledger is from them. Exit 1 if that is over 1e-6 of equity.
"""

import argparse
import json
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd

TOLERANCE = 1e-6
COSTS = ("fees", "impact", "funding")


def read_bars(path: Path, first_open: str, last_close: str) -> pd.DataFrame:
    """Return the bars that were fed, by their close."""
    table = pd.read_parquet(path).rename(columns={"date": "timestamp"}) if path.suffix == ".parquet" else None
    table = pd.read_csv(path) if table is None else table
    opens = pd.DatetimeIndex(pd.to_datetime(table.pop("timestamp"), utc=True), name="open_time")
    length = pd.Series(opens).diff().min()
    table.index = (opens + length).rename("close_time")
    table["open_time"] = opens
    return table[(opens >= first_open) & (table.index <= last_close)]


def impact_terms(bars: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return daily volatility and average daily volume as they were known before each bar: [T], [T]."""
    a_day = pd.Timedelta("1D") / (bars.index[1] - bars.index[0])
    squares = np.log(bars["close"]).diff().to_numpy()[1:] ** 2
    volumes = bars["volume"].to_numpy()
    variance = np.concatenate([[0.0], running_mean(squares, a_day)])
    return np.sqrt(variance * a_day), running_mean(volumes, a_day) * a_day


def running_mean(values: np.ndarray, a_day: float) -> np.ndarray:
    """Return the mean of the values before each, the oldest fading out after 30 days; 0 where there is none."""
    means, mean = [0.0], 0.0
    for count, value in enumerate(values, start=1):
        mean += max(1 / count, 1 / (30 * a_day)) * (value - mean)
        means.append(mean)
    return np.array(means[: len(values)])


class Account:
    """Cash, what is held, and what was paid since the last look."""

    def __init__(self, run: dict):
        self.terms, self.cash, self.held = run["costs"], float(run["cash"]), 0.0
        self.paid = dict.fromkeys(COSTS, 0.0)

    def fill(self, size: float, raw: float, share: float, sigma: float, maker: bool) -> None:
        """Trade at the raw price made worse by spread and impact."""
        cost = self.terms["half_spread"] + self.terms["impact"] * sigma * math.sqrt(share)
        cost = 0.0 if maker else min(0.99, cost)
        self.paid["impact"] += abs(size) * raw * cost
        price = raw * (1 + math.copysign(cost, size))
        self.paid["fees"] += abs(size) * price * self.terms["maker" if maker else "taker"]
        self.cash -= size * raw
        self.held = 0.0 if abs(self.held + size) < 1e-12 * abs(size) else self.held + size

    def look(self) -> dict:
        """Take what was paid out of the cash, and return it."""
        paid, self.paid = self.paid, dict.fromkeys(COSTS, 0.0)
        self.cash -= sum(paid.values())
        return paid


def replay(run: dict, fills: pd.DataFrame, bars: pd.DataFrame, events: pd.DataFrame) -> pd.DataFrame:
    """Return equity and what was paid since the row before, at each close."""
    account, rows, previous = Account(run), [], None
    sigma, daily_volume = impact_terms(bars)
    by_bar = dict(iter(fills.groupby("fill_time", sort=False)))
    for row, (close_time, bar) in enumerate(zip(bars.index, bars.itertuples(index=False), strict=True)):
        if previous is not None:  # bars may be missing in between
            rates = events_in(events, previous[0], bar.open_time)["rate"]
            account.paid["funding"] += account.held * previous[1] * float(rates.sum())
        sizes = [account.held]
        for fill in by_bar.get(close_time, fills[:0]).itertuples(index=False):
            assert fill.reason != "liquidation", "a liquidation's margin is not recomputed here"
            raw = bar.open if fill.at == "open" else fill.raw_price
            assert bar.low * (1 - 1e-12) <= raw <= bar.high * (1 + 1e-12), f"{raw} is no price of {close_time}"
            share = fill.size / daily_volume[row] if daily_volume[row] > 0 else 1.0
            account.fill(fill.size if fill.side == "buy" else -fill.size, raw, share, sigma[row], fill.maker)
            sizes = [account.held] if fill.at == "open" else [*sizes, account.held]
        due = events_in(events, bar.open_time, close_time)["rate"].items()
        charges = [rate * (bar.close if when == close_time else bar.open) for when, rate in due]
        account.paid["funding"] += dearest(sizes, charges)
        paid = account.look()
        rows.append({"close_time": close_time, "value": account.cash + account.held * bar.close, **paid})
        previous = close_time, bar.close
    return pd.DataFrame(rows).set_index("close_time")


def events_in(events: pd.DataFrame, after: pd.Timestamp, until: pd.Timestamp) -> pd.DataFrame:
    """Return the events in (after, until]."""
    first, end = events.index.searchsorted([after, until], side="right")
    return events[first:end]


def dearest(sizes: list[float], charges: list[float]) -> float:
    """Return the most that the events can have cost, whenever within the bar the sizes followed each other."""
    if not charges:
        return 0.0
    if len(sizes) == 1:
        return sizes[0] * sum(charges)
    return max(
        sizes[0] * sum(charges[:met]) + dearest(sizes[1:], charges[met:]) for met in range(len(charges) + 1)
    )


def differences(folder: Path, bars: Path, funding: Path) -> dict:
    """Return how far the run's ledger and metrics are from the recomputed account, as fractions of equity."""
    run = json.loads((folder / "run.json").read_text())
    fills = pd.read_csv(folder / "fills.csv", parse_dates=["fill_time"])
    events = pd.read_csv(funding, parse_dates=["timestamp"]).set_index("timestamp")
    table = read_bars(bars, run["span"]["fed_from"], run["span"]["last_close"])
    account = replay(run, fills, table, events)
    ledger = pd.read_parquet(folder / "ledger.parquet").set_index("close_time")
    ours = account.loc[ledger.index]
    apart = {"value": float(((ours["value"] - ledger["value"]).abs() / ours["value"]).max())}
    for name in COSTS:
        apart[name] = float((ours[name].cumsum() - ledger[name].cumsum()).abs().max() / run["cash"])
    money = json.loads((folder / "metrics.json").read_text())["costs"]
    for name in COSTS:
        apart[f"metrics {name}"] = abs(float(ours[name].sum()) - money[name]) / run["cash"]
    return {"bars": len(ledger), "fills": len(fills), "end_value": float(ours["value"].iloc[-1]), "apart": apart}


def main() -> None:
    """Print the differences; exit 1 if one is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--bars", type=Path, required=True)
    parser.add_argument("--funding", type=Path, required=True)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = differences(arguments.run, arguments.bars, arguments.funding)
    assert not any(name.partition(".")[0] == "hissbt" for name in sys.modules), "this is to be independent"
    if arguments.json:
        print(json.dumps(found))
    else:
        print(f"{found['bars']:,} bars, {found['fills']:,} fills, end value {found['end_value']:,.2f}; apart by")
        for name, value in found["apart"].items():
            print(f"  {name:16} {value:.1e} of equity")
    sys.exit(max(found["apart"].values()) > TOLERANCE)


if __name__ == "__main__":
    main()
