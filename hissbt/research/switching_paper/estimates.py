"""Tables 1 to 3 and the appendix again: Markov switching models of the same forms, on our bars."""

from dataclasses import dataclass

import numpy as np

from hissbt.econometrics import MarkovFit, MarkovSwitching
from hissbt.research.switching_paper.material import Material
from hissbt.research.switching_paper.protocol import INPUTS, RETURN_COLUMN, Protocol
from hissbt.research.switching_paper.tables import MARKOV, PublishedMarkov

CERTAIN = 1.96  # standard errors, for 5 %: the larger of both, as a sandwich vanishes where a likelihood is flat


@dataclass(frozen=True)
class Estimate:
    """One model to fit. With ``lag`` 0 transitions follow the covariates of the bar they lead into: look-ahead."""

    published: PublishedMarkov
    lag: int

    @property
    def name(self) -> str:
        """Name of the fit among the results."""
        lagged = f" lag {self.lag}" if self.published.covariates else ""
        return f"{self.published.table}{lagged}"

    def fit(self, data: Material, protocol: Protocol) -> MarkovFit:
        """Fit to all returns of the protocol's span; covariates are standardized, so that coefficients compare."""
        names = self.published.covariates
        model = MarkovSwitching(self.published.regimes, names, lag=self.lag, regressors=self.published.regressors)
        measures = data.raw[:, [INPUTS.index(name) for name in names]]
        standard = (measures - measures.mean(axis=0)) / measures.std(axis=0) if names else None
        harder = bool(names) + (self.published.regimes > 2)
        starts = max(protocol.starts // 2**harder, 1)
        return model.fit(data.raw[:, RETURN_COLUMN], standard, starts=starts, seed=protocol.seeds[0])


ESTIMATES = tuple(
    Estimate(published, lag) for published in MARKOV for lag in ((1, 0) if published.covariates else (1,))
)
"""What is fitted; with covariates both ways, as the article does not say which it took."""


def compared(estimate: Estimate, fit: MarkovFit) -> dict:
    """Return a fit beside what was published, as plain data."""
    rows = []
    names = fit.model.names()
    for name, (coefficient, error) in estimate.published.coefficients.items():
        at = names.index(name)
        ours, approx, robust = fit.params[at], fit.errors_approx[at], fit.errors_robust[at]
        # Variances and plain probabilities are positive in any model.
        free = "." in name or not name.startswith(("sigma2", "p["))
        rows.append(
            {
                "name": name,
                "published": coefficient,
                "published_error": error,
                "ours": ours,
                "error_approx": approx,
                "error_robust": robust,
                "same_sign": bool(np.sign(ours) == np.sign(coefficient)) if free else None,
                "differs_from_0": bool(abs(ours) > CERTAIN * np.maximum(approx, robust)),
                "within_2_errors": bool(abs(ours - coefficient) <= 2 * np.hypot(robust, error)),
            }
        )
    return {
        "table": estimate.published.table,
        "regimes": estimate.published.regimes,
        "covariates": list(estimate.published.covariates),
        "regressors": list(estimate.published.regressors),
        "lag": estimate.lag if estimate.published.covariates else None,
        "rows": rows,
        "log_likelihood": fit.log_likelihood,
        "parameters": len(fit.params),
        "n_obs": fit.n_obs,
        "aic": fit.aic,
        "bic": fit.bic,
        "converged": fit.converged,
        "starts": fit.starts,
        "agreeing": fit.agreeing,
    }
