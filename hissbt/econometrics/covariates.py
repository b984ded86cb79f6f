"""What may drive transition probabilities: measures of the range of a bar, from its open, high, low and close.

The source (Inzirillo and Genet, "Deep state space recurrent neural networks for time series forecasting", arXiv
2407.15236, 2024, section 2.2) uses "High Minus Low (HML) and an intraday variance indicator", IV, after Inzirillo
and Mat, arXiv 2112.15036 (2021). Certain is that both come from the open, high, low and close of the same day and
that they may be standardized before use. Its formulas (11) and (12) for IV are missing from the text that we have,
so these are the nearest well-defined measures, both free of the price level; coefficients can be compared with the
source's in sign, and not in size:

- ``hml`` ln(high / low), the house's feature ``range``
- ``iv``  Garman and Klass's variance within the bar, the house's feature ``garman_klass``

Both are known when the bar has closed, and not before: they can drive the transition into the next bar.
"""

from collections.abc import Sequence

import numpy as np

from hissbt.features import FeatureSet

FEATURES_OF = {"hml": "range", "iv": "garman_klass"}


def feature_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of features for names of inputs: ``hml``, ``iv``, and every feature by its own name."""
    return tuple(FEATURES_OF.get(name, name) for name in names)


def covariates(names: Sequence[str], rows: np.ndarray) -> np.ndarray:
    """Return the named measures [T,C] of bars [T,6+], as ``Bars.arrays()`` returns them; row t is of bar t."""
    return FeatureSet(feature_names(names)).scan(rows)
