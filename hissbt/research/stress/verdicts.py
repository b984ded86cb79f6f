"""What a stress test came to, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping

from hissbt.reports.page.text import known, percent, words
from hissbt.research.generators import Driftless
from hissbt.research.stress.outcomes import LEAK_ERRORS


def verdicts(results: Mapping) -> list[str]:
    """Return one sentence each on the scenarios of the first generator, on the real path, and on the null."""
    name, found = next(iter(results["generators"].items()))
    returns, deep = found["quantiles"]["total_return"], found["quantiles"]["max_drawdown"]
    low, _, middle, _, high = (percent(value, sign=True) for value in returns["values"])
    said = [
        f"In the {words(name)} scenarios the median return is {middle}, and nine of ten are between {low} and "
        f"{high}; in one of twenty the account falls by {percent(-deep['values'][0])} or more from its peak."
    ]
    if returns["real"] is not None:
        said.append(
            f"The real path returned {percent(returns['real'], sign=True)}, more than "
            f"{returns['percentile']:.1%} of them."
        )
    if results["leak"] is not None:
        said.append(_null(results))
    return said


def _null(results: Mapping) -> str:
    gross = results["generators"][Driftless.name]["means"]["gross_return"]
    figure = f"{percent(gross['value'], sign=True)} ± {percent(gross['error'])} before costs"
    where = "Where prices have no drift and no memory"
    if results["leak"]:
        return (
            f"LEAK: {where.lower()} it makes {figure} on average, more than chance allows; either it sees the "
            "future or its orders are filled too well, so believe none of its results."
        )
    if not known(gross["error"]):
        return f"{where} it makes {percent(gross['value'], sign=True)} before costs, of one scenario."
    if gross["value"] < -LEAK_ERRORS * gross["error"]:
        return (
            f"{where} it makes {figure} on average, less than chance allows: within bars the engine fills orders "
            "against the account, a stop before a target."
        )
    return f"{where} it earns nothing beyond chance: {figure} on average."
