"""How much of a result is skill and how much the luck of the best of many trials.

====================  ===========================================================================================
``sharpe``            probabilistic and deflated Sharpe ratio, minimum track record
``overfitting``       the probability that what was best in sample is below the median out of sample
``cross_validation``  combinatorial purged cross-validation and the paths it makes
``forecasts``         which forecasts are better: Diebold–Mariano, Pesaran–Timmermann, SPA, model confidence set
``intervals``         what blocks of the same returns, drawn anew, would have shown
``verdict``           all of it in a plain sentence, which is a refusal where the sample is too short
====================  ===========================================================================================

Returns are simple, one a bar or a day. Sharpe ratios are per observation, without a risk-free rate, unless they
are called annual.
"""

from hissbt.research.significance.cross_validation import CombinatorialPurgedCV
from hissbt.research.significance.forecasts import (
    Comparison,
    SuperiorAbility,
    diebold_mariano,
    model_confidence_set,
    pesaran_timmermann,
    superior_ability,
)
from hissbt.research.significance.intervals import bootstrap_intervals
from hissbt.research.significance.overfitting import Overfitting, pbo
from hissbt.research.significance.sharpe import (
    Deflated,
    Moments,
    dsr,
    expected_max_sharpe,
    min_track_record,
    psr,
)
from hissbt.research.significance.verdict import Evidence, hit_sentence, hits_needed, sentence, weigh

__all__ = [
    "CombinatorialPurgedCV",
    "Comparison",
    "Deflated",
    "Evidence",
    "Moments",
    "Overfitting",
    "SuperiorAbility",
    "bootstrap_intervals",
    "diebold_mariano",
    "dsr",
    "expected_max_sharpe",
    "hit_sentence",
    "hits_needed",
    "min_track_record",
    "model_confidence_set",
    "pbo",
    "pesaran_timmermann",
    "psr",
    "sentence",
    "superior_ability",
    "weigh",
]
