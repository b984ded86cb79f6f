"""From gross to net: what a run paid, how much it could have paid, and how large it could have been."""

import math

import numpy as np
import pandas as pd

from hissbt.reports.returns import daily_returns

_CHARGED = {"fees": "fees", "impact": "impact", "funding": "funding", "liquidation_fees": "liquidation_fee"}
_DUST = 1e-9


def cost_report(
    ledger: pd.DataFrame, fills: pd.DataFrame, periods_per_year: int, half_spread: float = 0.0
) -> dict:
    """Account for the costs of a run (tables of ``Ledger``; ``half_spread`` is the broker's, a fraction of price).

    - ``gross``, ``fees``, ``impact``, ``funding``, ``liquidation_fees`` and ``net``: money of the account, from
      before the first row of the ledger to its end, what is still held being valued at the last close;
      ``net = gross - fees - impact - funding - liquidation_fees``, costs being positive where they were paid.
      ``gross`` is what the same trades earn at prices before spread and impact: the trades' pnl_gross. ``spread``
      and ``square_root_impact`` are the parts of impact.
    - each of these with ``_return``: as a fraction of the start value; with ``_bp``: in basis points of
      ``notional``, all that was bought and sold.
    - ``break_even_cost_bp``: the cost of each unit of notional traded, in basis points, all costs together, at
      which nothing would be left: ``gross / notional * 1e4``.
    - ``turnover``: see the function.
    - ``capacity``: the start value, in money, with which this strategy would have earned nothing, all its sizes
      growing with it, and ``capacity_multiple``, the same as a multiple of this run's. Square-root impact costs
      ``Y * sigma * sqrt(Q / ADV)`` of notional, so k times the size pays ``k**1.5`` times as much of it, while all
      else grows with k: with ``edge = gross - fees - spread - funding - liquidation_fees`` and I this run's
      square-root impact, ``k * edge - k**1.5 * I = 0`` at ``k = (edge / I)**2``. Without an edge it is 0; without
      square-root impact nothing bounds it, and it is NaN. ``capacity_reason`` says which, and else is empty.

    What is not defined, as all that is per notional where nothing was traded, is NaN.
    """
    start, end = ledger.attrs["start_value"], ledger["value"].iloc[-1]
    charged = {name: float(ledger[column].sum()) for name, column in _CHARGED.items()}
    net = float(end - start)
    spread = spread_paid(fills, half_spread)
    money = {"gross": net + sum(charged.values()), **charged, "net": net}
    money |= {"spread": spread, "square_root_impact": _less(charged["impact"], spread)}
    notional = float(fills["notional"].sum())
    per_notional = {name: _ratio(amount * 1e4, notional) for name, amount in money.items()}
    return {
        **money,
        **{f"{name}_return": amount / start for name, amount in money.items()},
        **{f"{name}_bp": amount for name, amount in per_notional.items()},
        "notional": notional,
        "break_even_cost_bp": per_notional["gross"],
        "turnover": turnover(ledger, fills, periods_per_year),
        **_capacity(net + money["square_root_impact"], money["square_root_impact"], start),
    }


def turnover(ledger: pd.DataFrame, fills: pd.DataFrame, periods_per_year: int) -> float:
    """Return the notional traded in a year over average equity; a year has ``periods_per_year`` days.

    Entries and exits both count, at the prices paid; the days are those that the ledger spans.
    """
    years = len(daily_returns(ledger)) / periods_per_year
    return _ratio(fills["notional"].sum(), ledger["value"].mean()) / years


def spread_paid(fills: pd.DataFrame, half_spread: float) -> float:
    """Return the part of the fills' impact that is spread, in money: what ``half_spread`` (of price) alone takes.

    A fill that a limit kept from moving so far has paid nothing but spread.
    """
    moved = (fills["price"] / fills["raw_price"] - 1).abs().to_numpy()  # [N], half spread and impact of each
    share = np.divide(half_spread, moved, out=np.zeros(len(moved)), where=moved > 0)
    return float((fills["impact"] * np.minimum(share, 1.0)).sum())


def _capacity(edge: float, impact: float, start_value: float) -> dict:
    multiple, reason = math.nan, ""
    if edge <= 0:
        multiple, reason = 0.0, "no edge before square-root impact"
    elif impact <= 0:
        reason = "no square-root impact was charged"
    else:
        multiple = (edge / impact) * (edge / impact)  # inf, where ** would raise
    return {"capacity": multiple * start_value, "capacity_multiple": multiple, "capacity_reason": reason}


def _less(whole: float, part: float) -> float:
    """Return what is left of a whole; float dust, by which a capacity would be beyond all bounds, is nothing."""
    rest = whole - part
    return rest if rest > _DUST * abs(whole) else 0.0


def _ratio(numerator: float, denominator: float) -> float:
    return float(numerator / denominator) if denominator else math.nan
