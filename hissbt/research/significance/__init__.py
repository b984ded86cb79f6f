"""How much of a result is skill and how much the luck of the best of many trials.

====================  ===========================================================================================
``overfitting``       the probability that what was best in sample is below the median out of sample
``cross_validation``  combinatorial purged cross-validation and the paths it makes
``forecasts``         which forecasts are better: Diebold–Mariano, Pesaran–Timmermann, SPA, model confidence set
``intervals``         what blocks of the same returns, drawn anew, would have shown
====================  ===========================================================================================

Beside them stands what ``hissbt.evidence`` has, which every backtest uses: probabilistic and deflated Sharpe
ratio, minimum track record, and the verdict in a plain sentence.
Returns are simple, one a bar or a day. Sharpe ratios are per observation, without a risk-free rate, unless they
are called annual.
"""

from hissbt.evidence.sharpe import (
    Deflated,
    Moments,
    dsr,
    expected_max_sharpe,
    min_track_record,
    psr,
)
from hissbt.evidence.verdict import Evidence, hit_sentence, hits_needed, sentence, weigh
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
