"""The run page: one self-contained file that shows what a run did, what it cost, and what was assumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from hissbt.atomic import atomic_file
from hissbt.bars import Bars
from hissbt.reports.metrics import buy_and_hold
from hissbt.reports.page import sections
from hissbt.reports.page.assumptions import ASSUMPTIONS
from hissbt.reports.page.document import document, section
from hissbt.reports.page.headline import headline, title

__all__ = ["ASSUMPTIONS", "run_page"]


def run_page(
    path: str | Path,
    *,
    run: Mapping,
    metrics: Mapping,
    ledger: pd.DataFrame,
    trades: pd.DataFrame,
    fills: pd.DataFrame,
    bars: Bars,
    guards: Sequence[Mapping] = (),
    assumptions: Sequence[str] = ASSUMPTIONS,
) -> Path:
    """Write the page of a run, whole or not at all, and return its path. The same input gives the same bytes.

    ``run`` is what run.json holds and ``metrics`` what metrics.json does, NaN for what is not defined. ``ledger``,
    ``trades`` and ``fills`` are the tables of ``Ledger``; ``fills`` may be empty. ``bars`` are those that were
    fed: their market's trades are drawn on its price, those of other markets are in the table only. ``guards`` is
    the record of ``hissbt.trading.guards.Guards``. ``assumptions`` are shown as they are.

    What a run did not have is left out: ``metrics["forecast"]``, ``metrics["significance"]`` (see
    ``hissbt.reports.metrics``, with the ``ledger_faults`` of ``Trials.verify``), ``metrics["costs"]`` (see
    ``hissbt.reports.costs``), ``metrics["counts"]`` (how often an assumption decided), ``metrics["walk_forward"]``
    (the models of a relay that traded), ``run["trained_until"]``, ``run["funding"]``, of which symbol, expected
    and present are read. ``run["costs"]`` may name the ``taker`` (or ``commission``) that buy-and-hold pays, and
    the ``contract``.
    """
    path = Path(path)
    costs = run.get("costs", {})
    inverse = costs.get("contract") == "inverse"
    held, *_ = buy_and_hold(ledger, costs.get("taker", costs.get("commission", 0.0)), inverse)
    page = document(
        title(run, bars),
        headline(run, metrics, ledger, trades, bars),
        [
            section("Price and trades", sections.price(ledger, trades, bars, run)),
            section("Account", sections.account(ledger, held, inverse=inverse)),
            section("Costs", sections.costs(ledger, metrics.get("costs") or {}, fills)),
            section("Months", sections.months(ledger)),
            section("Metrics", sections.metrics(metrics)),
            *([section("Models", sections.models(turns))] if (turns := metrics.get("walk_forward")) else []),
            section("Guards", sections.guards(ledger, guards)),
            section("Trades", sections.trades(trades)),
            section("Provenance", sections.provenance(run)),
            section("Assumptions", sections.assumptions(assumptions, metrics.get("counts") or {})),
        ],
    )
    with atomic_file(path) as temporary:
        temporary.write_text(page, encoding="utf-8", newline="\n")
    return path
