"""What the figures of the demonstrations show, in plain sentences."""

import math
from collections.abc import Iterable, Mapping

from hissbt.evidence.sharpe import CONFIDENCE

LEAK, TWIN = "the whole set", "what was known"
"""What inputs may be denoised and scaled by."""
MARKET = "the market"
"""The series that is no noise."""


def leak_verdicts(results: Mapping) -> dict[str, str]:
    """Return what the figures of the leak show, by the name of the section."""
    scores, held = results["scores"], results["held"]
    leak, twin = scores[LEAK], scores[TWIN]
    worth = {name: scores[name]["trading"] for name in (LEAK, TWIN)}
    passed = {name: found["passed"] for name, found in results["audits"].items()}
    flagged = [name for name, clean in passed.items() if not clean]
    return {
        "Accuracy": (
            f"Denoised and scaled over the whole set, the model calls {leak['accuracy']:.1%} of {leak['calls']:,} "
            f"days right that it was not trained on; by what was known at each close, {twin['accuracy']:.1%} "
            f"({_interval(twin)}). One expression differs. {leak['hits']} {_tested(twin)}"
        ),
        "Where it comes from": (
            f"Denoising over the whole set alone gives {scores['denoising only']['accuracy']:.1%}, scaling over "
            f"it alone {scores['scaling only']['accuracy']:.1%}. With both, {leak['by_place'][0]:.1%} are right "
            f"from the first bar of a block of {len(leak['by_place'])}, whose mean holds the closes to come, and "
            f"{leak['by_place'][-1]:.1%} from the last, when the block is over."
        ),
        "What it would have looked like": (
            f"A Sharpe ratio of {_plain(worth[LEAK]['sharpe'])} after costs, where the twin has "
            f"{_plain(worth[TWIN]['sharpe'])} and holding the index {_plain(held['sharpe'])}. "
            f"{leak['sharpe']} No statistic of returns can see a leak."
        ),
        "Audit": (
            f"It flags {_list(flagged)}, and passes {_list([name for name, clean in passed.items() if clean])}. "
            f"{results['audits'][f'inputs, {LEAK}']['sentence']}"
        ),
    }


def significance(pvalue: float) -> str:
    """Return a p-value as it is told, to three decimals."""
    return "p < 0.001" if pvalue < 0.001 else f"p = {pvalue:.3f}"


def _interval(score: Mapping) -> str:
    low, high = score["interval"]
    return f"95 % interval {low:.1%} to {high:.1%}"


def _tested(score: Mapping) -> str:
    pvalue = score["pesaran_timmermann"]["pvalue"]
    if math.isnan(pvalue):
        return "The twin always calls the same direction, which cannot be tested."
    said = "no better than chance" if pvalue >= 0.05 else "better than chance"
    return f"The twin's calls are {said} by the test of Pesaran and Timmermann ({significance(pvalue)})."


def _plain(value: float, decimals: int = 2) -> str:
    return f"{value:,.{decimals}f}".replace("-", "−")


def _list(names: list[str]) -> str:
    return " and ".join(f"“{name}”" for name in names) or "nothing"


def million_verdicts(results: Mapping) -> dict[str, str]:
    """Return what the figures of many models show, by the name of the section."""
    worlds, count = results["worlds"], results["models"]
    market = worlds[MARKET]
    noises = [world for name, world in worlds.items() if name != MARKET]
    found = market["best"]["chosen"]
    fell = [world["best"]["chosen"] for world in noises]
    return {
        "The best of many": (
            f"The best of {count:,} models had a Sharpe ratio of {_plain(found['chosen'])} on the days it was "
            f"chosen by and {_plain(found['unseen'])} on the unseen ones. On noise, in which nothing can be "
            f"foretold, the best had {_range(each['chosen'] for each in fell)}, and "
            f"{_range(each['unseen'] for each in fell)} after it."
        ),
        "Deflation": (
            f"Alone, {market['significant_alone']:,} of the {count:,} would pass a test at 5 % on the market, and "
            f"{_range((world['significant_alone'] for world in noises), 0)} on noise. Set against all that was "
            f"tried, the market's best has a probability of {market['dsr']:.0%} to be more than the luck of "
            f"{count:,}, those of noise {_range((world['dsr'] for world in noises), percent=True)}. "
            f"{market['sentence']}"
        ),
        "Overfitting": (
            f"What was best in one half of the days was below the median in the other with a probability of "
            f"{market['overfitting']['pbo']:.0%} on the market, and "
            f"{_range((world['overfitting']['pbo'] for world in noises), percent=True)} on noise, in the mean "
            f"{sum(world['overfitting']['pbo'] for world in noises) / len(noises):.0%}; 50 % is what a choice by "
            "lot has. Hansen's test that none beats doing nothing, all counted, has "
            f"{significance(market['superior_ability'])} on the market, and "
            f"{_range((world['superior_ability'] for world in noises), 3)} on noise."
        ),
        "Fitting": (
            f"The model that fitted its own days best had a Sharpe ratio of "
            f"{_plain(market['best']['fitted']['fitted'])} on them, {_plain(market['best']['fitted']['chosen'])} "
            f"on the next days and {_plain(market['best']['fitted']['unseen'])} on the unseen ones."
        ),
        "What is true": _truth(market),
    }


def _truth(market: Mapping) -> str:
    chance = f"the probability of a true Sharpe ratio above 0 is {market['unseen_psr']:.0%} there"
    lasted = (
        f"The best of these models kept its edge on the unseen days: {chance}"
        if market["unseen_psr"] >= CONFIDENCE
        else f"Whatever the best had on the days it was chosen by, the unseen days do not confirm it: {chance}"
    )
    return (
        f"{lasted}, before costs. This says nothing of other models, features or markets. It does say that the "
        "best of many looks good where it was chosen, whether there is something to find or not."
    )


def _range(values: Iterable[float], decimals: int = 2, percent: bool = False) -> str:
    known = sorted(values)
    low, high = (f"{each:.0%}" if percent else _plain(each, decimals) for each in (known[0], known[-1]))
    return low if low == high else f"{low} to {high}"
