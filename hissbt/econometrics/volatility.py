"""Rivals for volatility: GARCH(1,1), GJR-GARCH with Student errors, and HAR, estimated by arch.

With e(t) = r(t) - mu and v(t) the variance of r(t) as forecast from the bars before it:

    GARCH(1,1)  v(t+1) = omega + alpha e(t)² + beta v(t)                      Bollerslev 1986
    GJR         … + gamma e(t)² where e(t) < 0, here with Student errors       Glosten, Jagannathan, Runkle 1993
    HAR         s(t+1) = const + Σ_n beta_n mean of the last n of s, n = 1, 5, 22      Corsi 2009

HAR's s is the root of a variance measured within each bar, so it forecasts the volatility of open to close.
Everything is per bar and in the units of the returns. A forecast at t knows bars up to t.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from hissbt.errors import ConfigError


@dataclass(frozen=True)
class Garch:
    """GARCH(1,1) with a constant mean: ``Garch(asymmetric=True, student=True)`` is GJR-t."""

    asymmetric: bool = False
    """Whether falls raise the variance more than rises (GJR)."""
    student: bool = False
    """Whether errors are Student's t, its degrees of freedom estimated, rather than normal."""

    inputs = ("log_return",)

    def names(self) -> tuple[str, ...]:
        """Return a name for each parameter."""
        return ("mu", "omega", "alpha", *["gamma"] * self.asymmetric, "beta", *["nu"] * self.student)

    def fit(self, returns: np.ndarray, *, errors: bool = True) -> "GarchFit":
        """Estimate from returns [T] by maximum likelihood; ``errors``: whether to work out standard errors."""
        from arch import arch_model

        y = _sample(returns, len(self.names()) + 1)
        scale = float(np.std(y))
        distribution = "t" if self.student else "normal"
        model = arch_model(y / scale, p=1, o=int(self.asymmetric), q=1, dist=distribution, rescale=False)
        result = model.fit(disp="off", show_warning=False, cov_type="classic")
        units = np.array([{"mu": scale, "omega": scale**2}.get(name, 1.0) for name in self.names()])
        params = result.params.to_numpy()
        return GarchFit(
            self,
            tuple((params * units).tolist()),
            float(result.conditional_volatility[0] * scale) ** 2,
            float(result.loglikelihood - len(y) * np.log(scale)),
            len(y),
            result.convergence_flag == 0,
            *_errors(lambda robust: model.compute_param_cov(params, robust=robust), units, errors),
        )

    def fit_rows(self, rows: np.ndarray, *, near: "GarchFit | None" = None, **options) -> "GarchFit":
        """Estimate from rows [T,1] of ``inputs``; an earlier fit is of no use to it."""
        return self.fit(rows[:, 0], **options)


@dataclass(frozen=True)
class GarchFit:
    """A fitted GARCH model: plain numbers, to JSON values and back."""

    model: Garch
    params: tuple[float, ...]
    """In the order of ``model.names()``, in the units of the returns."""
    initial_variance: float
    """Of the first row of the sample, from arch's backcast."""
    log_likelihood: float = float("nan")
    n_obs: int = 0
    converged: bool = False
    errors_approx: tuple[float, ...] | None = None
    """Standard errors from the inverse Hessian."""
    errors_robust: tuple[float, ...] | None = None
    """Standard errors of Bollerslev and Wooldridge, right when the errors have another distribution."""

    def __getitem__(self, name: str) -> float:
        """Return a parameter by its name, 0 where the model lacks it."""
        return dict(zip(self.model.names(), self.params, strict=True)).get(name, 0.0)

    @property
    def persistence(self) -> float:
        """What a bar later is left of a variance above the usual; half of what is symmetric falls."""
        return self["alpha"] + 0.5 * self["gamma"] + self["beta"]

    def initial_state(self) -> np.ndarray:
        """Return the state before the first row: the variance forecast for it, [1]."""
        return np.array([self.initial_variance])

    def step(self, row: np.ndarray, state: np.ndarray) -> float:
        """Return the volatility forecast for the next bar after one more row [1], and advance ``state``."""
        error = float(row[0]) - self["mu"]
        news = self["alpha"] + (self["gamma"] if error < 0.0 else 0.0)
        state[0] = self["omega"] + news * error**2 + self["beta"] * state[0]
        return float(np.sqrt(state[0]))

    def filter(self, returns: np.ndarray, state: np.ndarray | None = None) -> np.ndarray:
        """Return the forecast for the next bar [T] after each return [T]; advances a given ``state``."""
        state = self.initial_state() if state is None else state
        return np.array([self.step(row, state) for row in _series(returns)[:, None]])

    def advance(self, rows: np.ndarray, state: np.ndarray) -> None:
        """Advance ``state`` in place by rows [T,1] of ``model.inputs``."""
        self.filter(rows[:, 0], state)

    def forecast(self, state: np.ndarray, horizon: int) -> np.ndarray:
        """Return the volatility of each of the next ``horizon`` bars [h], from a state."""
        variances = [float(state[0])]
        for _ in range(horizon - 1):
            variances.append(self["omega"] + self.persistence * variances[-1])
        return np.sqrt(variances)

    def over(self, volatility: np.ndarray | float, horizon: int) -> np.ndarray | float:
        """Return the volatility over the next ``horizon`` bars together, given that of the next one.

        v(t+k) = omega Σ_j<k-1 p^j + p^(k-1) v(t+1) with the persistence p, summed over k = 1 … horizon: as returns
        are uncorrelated, their variances add up.
        """
        powers = self.persistence ** np.arange(horizon)
        constants = self["omega"] * np.append(0.0, np.cumsum(powers)[:-1])
        return np.sqrt(constants.sum() + powers.sum() * np.square(volatility))

    def to_dict(self) -> dict[str, Any]:
        """Return the fit as values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "GarchFit":
        """Return the fit that ``to_dict`` described, before or after JSON."""
        return _from_dict(cls, Garch, values)


@dataclass(frozen=True)
class Har:
    """The heterogeneous autoregression of volatility: its means over a day, a week and a month of bars."""

    windows: tuple[int, ...] = (1, 5, 22)
    """Bars in each mean, ascending."""

    inputs = ("garman_klass",)

    def __post_init__(self):
        object.__setattr__(self, "windows", tuple(self.windows))
        if not self.windows or min(self.windows) < 1 or list(self.windows) != sorted(set(self.windows)):
            raise ConfigError(
                f"windows {self.windows} are not ascending numbers of bars: give for instance 1, 5, 22"
            )

    @property
    def first_row(self) -> int:
        """The first row that the regression explains."""
        return self.windows[-1]

    def names(self) -> tuple[str, ...]:
        """Return a name for each parameter."""
        return ("const", *(f"beta{window}" for window in self.windows))

    def fit(self, variances: np.ndarray, *, errors: bool = True) -> "HarFit":
        """Estimate by least squares from the variances [T] measured within each bar."""
        from arch.univariate import HARX

        volatility = np.sqrt(_sample(variances, self.first_row + len(self.names()) + 1))
        scale = float(np.mean(volatility))
        model = HARX(volatility / scale, lags=list(self.windows), rescale=False)
        result = model.fit(disp="off", cov_type="classic")
        params = result.params.to_numpy()
        units = np.array([scale] + [1.0] * len(self.windows))
        return HarFit(
            self,
            tuple((params[:-1] * units).tolist()),
            float(volatility.min()),
            float(np.sqrt(params[-1]) * scale),
            len(volatility) - self.first_row,
            *_errors(lambda robust: model.compute_param_cov(params, robust=robust)[:-1, :-1], units, errors),
        )

    def fit_rows(self, rows: np.ndarray, *, near: "HarFit | None" = None, **options) -> "HarFit":
        """Estimate from rows [T,1] of ``inputs``; an earlier fit is of no use to it."""
        return self.fit(rows[:, 0], **options)


@dataclass(frozen=True)
class HarFit:
    """A fitted HAR model: plain numbers, to JSON values and back."""

    model: Har
    params: tuple[float, ...]
    """In the order of ``model.names()``."""
    floor: float
    """The lowest volatility of the sample: no forecast is below, though a regression line may be."""
    residual: float = float("nan")
    """Standard deviation of what the regression leaves."""
    n_obs: int = 0
    errors_approx: tuple[float, ...] | None = None
    """Standard errors of least squares."""
    errors_robust: tuple[float, ...] | None = None
    """The same where residuals differ in size (White)."""

    def initial_state(self) -> np.ndarray:
        """Return the state before the first row: rows seen, then a ring of volatilities."""
        return np.zeros(1 + self.model.windows[-1])

    def step(self, row: np.ndarray, state: np.ndarray) -> float:
        """Return the volatility forecast for the next bar after one more row [1], and advance ``state``.

        NaN until the longest window is full.
        """
        longest = self.model.windows[-1]
        state[1 + int(state[0]) % longest] = np.sqrt(row[0])
        state[0] += 1
        if state[0] < longest:
            return np.nan
        newest_first = np.roll(state[1:][::-1], int(state[0]) % longest)
        means = [newest_first[:window].mean() for window in self.model.windows]
        return max(self.params[0] + float(np.dot(self.params[1:], means)), self.floor)

    def filter(self, variances: np.ndarray, state: np.ndarray | None = None) -> np.ndarray:
        """Return the forecast for the next bar [T] after each variance [T]; advances a given ``state``."""
        state = self.initial_state() if state is None else state
        return np.array([self.step(row, state) for row in _series(variances)[:, None]])

    def advance(self, rows: np.ndarray, state: np.ndarray) -> None:
        """Advance ``state`` in place by rows [T,1] of ``model.inputs``."""
        self.filter(rows[:, 0], state)

    def to_dict(self) -> dict[str, Any]:
        """Return the fit as values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "HarFit":
        """Return the fit that ``to_dict`` described, before or after JSON."""
        return _from_dict(cls, Har, values)


def _series(values: np.ndarray) -> np.ndarray:
    y = np.ascontiguousarray(values, dtype=np.float64)
    if y.ndim != 1 or not np.isfinite(y).all():
        raise ConfigError(f"values {y.shape} are not one finite series [T]: leave out the first bar's return")
    return y


def _sample(values: np.ndarray, least: int) -> np.ndarray:
    y = _series(values)
    if len(y) < least or np.ptp(y) == 0.0:
        raise ConfigError(f"{len(y)} values cannot determine the model: give at least {least}, that vary")
    return y


def _errors(covariance, units: np.ndarray, wanted: bool) -> list[tuple[float, ...] | None]:
    """Return standard errors both ways, by the Hessian and robust, in the units of the parameters."""
    if not wanted:
        return [None, None]
    return [tuple((np.sqrt(np.diag(covariance(robust))) * units).tolist()) for robust in (False, True)]


def _from_dict(cls, model, values: Mapping[str, Any]):
    known = {field.name: values[field.name] for field in fields(cls)}
    known["model"] = model(**values["model"])
    for name in ("params", "errors_approx", "errors_robust"):
        known[name] = None if known[name] is None else tuple(known[name])
    return cls(**known)
