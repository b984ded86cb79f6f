"""Risk by level: what an account gains or loses when one level of a hierarchical VAE moves a little.

Scenarios are drawn twice, with the latents of one level moved up and down by the same part of a deviation and
everything else the same, draw for draw (common random numbers). What differs between two such runs is the level's.
That is not what KL tells, which is how much the bars say of a level: both stand side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import backtrader as bt
import numpy as np

from hissbt.backtest import Setup
from hissbt.bars import Bars, Time, parse_time
from hissbt.feeds.funding import Funding
from hissbt.reports.page.document import Section, section
from hissbt.reports.page.markup import note, row, table
from hissbt.reports.page.text import escape, fixed, percent, spread
from hissbt.research.generators import Generator
from hissbt.research.progress import Progress
from hissbt.research.stress.engine import Stage, run_scenarios
from hissbt.research.stress.outcomes import Outcome
from hissbt.trading.costs import Costs

DELTA = 0.5
"""Deviations of its prior that each unit of a level is moved by."""
FIGURES = ("total_return", "max_drawdown")


def risk_by_level(
    bars: Bars,
    strategy: type[bt.Strategy],
    shifted: Callable[[Mapping[str, float]], Generator],
    information: Mapping[str, float],
    *,
    since: Time,
    length: int = 720,
    n: int = 100,
    seed: int = 0,
    params: Mapping | None = None,
    costs: Costs | Mapping | None = None,
    funding: Funding | None = None,
    workers: int = 2,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Return by level how total return and drawdown of ``strategy`` change per deviation, with standard errors.

    ``shifted`` makes the generator whose levels are moved by that many deviations, such as {"z3": 0.5}, and
    ``information`` has the KL of each level, in nats a latent vector: its keys are the levels that are moved. The
    rest is as in ``hissbt.research.stress.stress``. ``n`` scenarios are run twice for each level.
    """
    history = bars[: int(bars.open_times.searchsorted(parse_time(since)))]
    setup = Setup.of(bars, strategy, params=params, costs=costs, funding=funding)
    stage = Stage.of(setup, history, length)
    moves = {f"{level} {sign:+}": {level: sign * DELTA} for level in information for sign in (1, -1)}
    rows = {name: shifted(move).generate(n, length, seed, history) for name, move in moves.items()}
    played = run_scenarios(stage, rows, seed=seed, workers=workers, progress=progress)
    return {
        "n": n,
        "delta": DELTA,
        "rows": [
            {"level": level, "information": nats}
            | {figure: _slope(played[f"{level} +1"], played[f"{level} -1"], figure) for figure in FIGURES}
            for level, nats in information.items()
        ],
    }


def _slope(up: Sequence[Outcome], down: Sequence[Outcome], figure: str) -> dict[str, float]:
    """Return the mean change of a figure per deviation, and the standard error of the paired differences."""
    gaps = np.array([getattr(a, figure) - getattr(b, figure) for a, b in zip(up, down, strict=True)]) / (2 * DELTA)
    error = gaps.std(ddof=1) / np.sqrt(len(gaps)) if len(gaps) > 1 else np.nan
    return {"value": float(gaps.mean()), "error": float(error), "typical": float(np.abs(gaps).mean())}


def risk(found: Mapping) -> Section:
    """Return the section of a page on what ``risk_by_level`` returned."""
    heads = [
        "",
        "Return per deviation",
        "in one scenario",
        "Drawdown per deviation",
        "in one scenario",
        "KL, nats",
    ]
    rows = [
        row(
            [
                escape(each["level"]),
                *(cell for figure in FIGURES for cell in _cells(each[figure])),
                fixed(each["information"], 3),
            ]
        )
        for each in found["rows"]
    ]
    remark = note(
        [
            f"Half the difference of {found['n']:,} scenarios with all latents of a level moved up and down by "
            f"{found['delta']:g} of their prior's deviation, all draws the same, per deviation; in brackets two "
            "standard errors of the mean each way. In one scenario: the mean size of the change. A drawdown is "
            "0 or less, so that a change below 0 is a deeper one.",
            "Drawdown and return are risk; KL is information: how much the bars say of a level. Neither implies "
            "the other.",
        ]
    )
    return section(
        "Risk by level", table(heads, rows) + remark + f'<p class="verdict">{escape(verdict(found))}</p>'
    )


def _cells(change: Mapping[str, float]) -> list[str]:
    value, error = 100 * change["value"], 200 * change["error"]
    return [f"{spread(value, (value - error, value + error), 2, '+')} %", percent(change["typical"])]


def verdict(found: Mapping) -> str:
    """Say which level the account depends on most, and which of the mean changes are shown."""
    ranked = sorted(found["rows"], key=lambda each: each["total_return"]["typical"], reverse=True)
    shown = [
        each["level"]
        for each in found["rows"]
        if abs(each["total_return"]["value"]) > 2 * each["total_return"]["error"]
    ]
    knows = max(found["rows"], key=lambda each: each["information"])["level"]
    return (
        f"The account's return depends most on {ranked[0]['level']} and least on {ranked[-1]['level']}; that it "
        f"changes on average is shown for {', '.join(shown) or 'no level'}. The bars say most of {knows}."
    )
