"""Whether the article's claims hold on our bars: one plain sentence each, derived from the figures by rule.

A claim about a difference holds where the difference's 95 % interval lies above 0, is contradicted where it lies
below, and else is not shown. A coefficient differs from 0 where it is more than 1.96 standard errors away, by the
larger of its two.
"""

from collections.abc import Mapping, Sequence

from hissbt.research.switching_paper.estimates import CERTAIN
from hissbt.research.switching_paper.protocol import TWINS


def verdicts(results: Mapping) -> dict[str, str]:
    """Return the sentences, by the table that each stands under."""
    fits = {(fit["table"], fit["lag"]): fit for fit in results["markov"]}
    found = {
        "Table 1": two_regimes(fits["Table 1", None]),
        "Table 2": covariates_matter(fits, "Table 2"),
        "Table 3": covariates_matter(fits, "Table 3"),
        "Appendix": two_or_three(fits),
        "Table 4": switching_helps(results["classification"]),
    }
    for table, sample, words in (
        ("Table 5", "in_sample", "In sample"),
        ("Table 6", "out_of_sample", "Out of sample"),
    ):
        found[table] = the_best_earns(results["backtest"][sample], words)
    return found


def judged(interval: Sequence[float]) -> str:
    """Say what the interval of a difference shows about the claim that it is positive."""
    low, high = interval
    return "holds" if low > 0 else "is contradicted" if high < 0 else "is not shown"


def two_regimes(fit: Mapping) -> str:
    """Table 1: two regimes told apart by variance, both more likely to stay than to go."""
    by = {row["name"]: row for row in fit["rows"]}
    calm, wild = by["sigma2[1]"], by["sigma2[2]"]
    apart = wild["ours"] - 2 * wild["error_robust"] > calm["ours"] + 2 * calm["error_robust"]
    stay = by["p[1->1]"]["ours"], 1 - by["p[2->1]"]["ours"]
    holds = apart and min(stay) > 0.5
    days = " and ".join(f"{1 / (1 - p):.1f}" for p in stay)
    close = sum(row["within_2_errors"] for row in fit["rows"])
    return (
        f"Two regimes that differ in variance and tend to stay: this {'holds' if holds else 'does not hold'} "
        f"here. The variances are {'more' if apart else 'less'} than two robust errors each apart, regimes last "
        f"{days} bars on average, and {close} of {len(fit['rows'])} coefficients lie within two errors of the "
        "article's."
    )


def covariates_matter(fits: Mapping, table: str) -> str:
    """Tables 2 and 3: every coefficient of the covariates differs from zero."""
    parts = []
    for lag, words in ((1, "known a bar before"), (0, "of the same bar, which is look-ahead,")):
        fit = fits[table, lag]
        slopes = [row for row in fit["rows"] if row["name"].split(".")[-1] in fit["covariates"]]
        clear = sum(row["differs_from_0"] for row in slopes)
        agree = sum(row["same_sign"] for row in slopes)
        better = fit["bic"] < fits["Table 1", None]["bic"]
        verdict = "holds" if clear == len(slopes) else "does not hold"
        parts.append(
            f"with covariates {words} it {verdict}: {clear} of {len(slopes)} differ, {agree} have the article's "
            f"sign, and BIC is {'lower' if better else 'not lower'} than with constant probabilities"
        )
    return f"That all coefficients of the covariates differ from zero: {'; '.join(parts)}."


def two_or_three(fits: Mapping) -> str:
    """Appendix: two states are more realistic than three."""
    two, three = fits["Table 1", None], fits["Appendix 7.1", None]
    holds = two["bic"] < three["bic"]
    slopes = [row for row in fits["Appendix 7.2", 1]["rows"] if row["name"].endswith(".hml")]
    in_mean = fits["Appendix 7.2, HML in the mean too", 1]
    means = [row for row in in_mean["rows"] if row["name"].startswith("hml")]
    lower = "lower" if in_mean["bic"] < fits["Appendix 7.2", 1]["bic"] else "not lower"
    return (
        f"That two regimes describe the returns better than three {'holds' if holds else 'does not hold'} here "
        f"by BIC: {two['bic']:,.1f} with two and {three['bic']:,.1f} with three, constant probabilities (lower "
        f"is better). With three regimes and HML a bar before, {_vague(slopes)} of {len(slopes)} coefficients of "
        f"HML in the transitions do not differ from zero; the article's own do not in {_vague_published(slopes)} "
        f"of {len(slopes)}. In the mean as well, {_vague(means)} of {len(means)} do not, the article's in "
        f"{_vague_published(means)}, and BIC is {lower} than without."
    )


def _vague(rows: Sequence[Mapping]) -> int:
    return sum(not row["differs_from_0"] for row in rows)


def _vague_published(rows: Sequence[Mapping]) -> int:
    return sum(abs(row["published"]) <= CERTAIN * row["published_error"] for row in rows)


def switching_helps(classification: Mapping) -> str:
    """Table 4: every switching network is better than its twin, and m-TKAN the best and better than guessing."""
    against = classification["against_twins"]
    pairs = "; ".join(
        f"{name} over {TWINS[name]} {judged(gaps['balanced_accuracy']['interval'])} "
        f"({_points(gaps['balanced_accuracy'])})"
        for name, gaps in against.items()
    )
    rows = classification["rows"]
    networks = [name for name in rows if name in (*TWINS, *TWINS.values())]
    best = max(networks, key=lambda name: rows[name]["mean"]["balanced_accuracy"])
    rules = classification["against_baselines"]["m-tkan"]
    hardest = max(rules, key=lambda rule: rows[rule]["mean"]["accuracy"])
    return (
        f"That switching improves balanced accuracy, mean over the seeds: {pairs}. The best network is "
        f"{best}{'' if best == 'm-tkan' else ', not m-tkan as in the article'}. That m-tkan is more often right "
        f"than the best rule without training ({hardest}) {judged(rules[hardest]['accuracy']['interval'])} "
        f"({_points(rules[hardest]['accuracy'])})."
    )


def the_best_earns(backtest: Mapping, words: str) -> str:
    """Tables 5 and 6: m-TKAN has the highest Sharpe ratio of the switching networks, and it earns."""
    sharpe = {name: backtest[name]["gross"]["mean"]["sharpe"] for name in TWINS}
    best = max(sharpe, key=lambda name: sharpe[name])
    first = "holds" if best == "m-tkan" else f"does not hold: {best} has it"
    ours, held = backtest["m-tkan"], backtest["buy and hold"]["gross"]["mean"]["sharpe"]
    low, high = ours["net"]["interval"]["sharpe"]
    earns = judged((low, high))
    beats = "above" if ours["net"]["mean"]["sharpe"] > held else "not above"
    return (
        f"{words}, that m-tkan has the highest Sharpe ratio of the three switching networks {first}. That it "
        f"earns after costs {earns}: its Sharpe ratio is {ours['net']['mean']['sharpe']:.2f} net, 95 % interval "
        f"{low:.2f} to {high:.2f}, {beats} the {held:.2f} of buy-and-hold."
    )


def _points(gap: Mapping) -> str:
    low, high = (100 * end for end in gap["interval"])
    return f"{100 * gap['difference']:+.1f} points, {low:+.1f} to {high:+.1f}"
