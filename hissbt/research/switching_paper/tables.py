"""What the article prints: Tables 1 to 6 and the appendix of arXiv 2407.15236, to the digits given there.

Its regime 1 is the calm one and its p[2-1] the probability of going from 2 to 1; names here are those of
``MarkovSwitching.names``. Where it prints a standard error as 0.000, or with fewer digits than the coefficient,
the error is the coefficient over its z.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedMarkov:
    """One estimated Markov switching model: coefficients and standard errors by name."""

    table: str
    regimes: int
    covariates: tuple[str, ...]
    coefficients: dict[str, tuple[float, float]]
    regressors: tuple[str, ...] = ()
    """Covariates that are in the mean as well."""


@dataclass(frozen=True)
class PublishedClass:
    """Scores of one class."""

    precision: float
    recall: float
    f1: float
    support: int


MARKOV = (
    PublishedMarkov(
        "Table 1",
        2,
        (),
        {
            "const[1]": (0.0014, 0.0014 / 2.677),
            "sigma2[1]": (0.0002, 5.15e-05),
            "const[2]": (0.0015, 0.0015 / 1.107),
            "sigma2[2]": (0.0024, 0.0024 / 11.890),
            "p[1->1]": (0.8643, 0.051),
            "p[2->1]": (0.1479, 0.049),
        },
    ),
    PublishedMarkov(
        "Table 2",
        2,
        ("hml",),
        {
            "const[1]": (0.0013, 0.0013 / 2.552),
            "sigma2[1]": (0.0002, 5.13e-05),
            "const[2]": (0.0016, 0.0016 / 1.190),
            "sigma2[2]": (0.0025, 0.0025 / 10.552),
            "p[1->1].const": (1.2185, 0.439),
            "p[2->1].const": (-1.3992, 0.258),
            "p[1->1].hml": (-1.2059, 0.236),
            "p[2->1].hml": (0.2336, 0.111),
        },
    ),
    PublishedMarkov(
        "Table 3",
        2,
        ("hml", "iv"),
        {
            "const[1]": (0.0012, 0.0012 / 2.777),
            "sigma2[1]": (0.0002, 2.67e-05),
            "const[2]": (0.0017, 0.0017 / 1.353),
            "sigma2[2]": (0.0025, 0.0025 / 13.731),
            "p[1->1].const": (-0.1682, 0.456),
            "p[2->1].const": (-0.3797, 0.259),
            "p[1->1].hml": (-0.8880, 0.312),
            "p[2->1].hml": (0.4328, 0.146),
            "p[1->1].iv": (-1.5306, 0.502),
            "p[2->1].iv": (-0.8256, 0.192),
        },
    ),
    PublishedMarkov(
        "Appendix 7.1",
        3,
        (),
        {
            "const[1]": (0.0007, 0.0007 / 1.544),
            "sigma2[1]": (7.957e-05, 2.22e-05),
            "const[2]": (0.0028, 0.0028 / 2.433),
            "sigma2[2]": (0.0010, 0.0010 / 4.466),
            "const[3]": (0.0003, 0.0003 / 0.137),
            "sigma2[3]": (0.0030, 0.0030 / 9.709),
            "p[1->1]": (0.6461, 0.101),
            "p[2->1]": (0.2840, 0.116),
            "p[3->1]": (4.88e-06, 0.112),
            "p[1->2]": (0.3306, 0.074),
            "p[2->2]": (0.6970, 0.104),
            "p[3->2]": (0.0524, 0.080),
        },
    ),
    PublishedMarkov(
        "Appendix 7.2, HML in the mean too",
        3,
        ("hml",),
        {
            "const[1]": (0.0003, 0.002),
            "hml[1]": (-0.0010, 0.003),
            "sigma2[1]": (7.925e-05, 4.09e-05),
            "const[2]": (0.0032, 0.0032 / 2.671),
            "hml[2]": (-0.0002, 0.004),
            "sigma2[2]": (0.0010, 0.0010 / 1.725),
            "const[3]": (-0.0001, 0.003),
            "hml[3]": (-0.0001, 0.003),
            "sigma2[3]": (0.0032, 0.0032 / 9.058),
            "p[1->1].const": (2.1642, 10.353),
            "p[2->1].const": (2.5755, 5.538),
            "p[3->1].const": (-7.2483, 3.618),
            "p[1->1].hml": (-2.9672, 4.644),
            "p[2->1].hml": (-0.0084, 5.774),
            "p[3->1].hml": (0.3645, 1.193),
            "p[1->2].const": (2.6221, 10.477),
            "p[2->2].const": (3.3448, 5.472),
            "p[3->2].const": (-2.6787, 0.581),
            "p[1->2].hml": (-0.6451, 4.562),
            "p[2->2].hml": (-0.0233, 5.892),
            "p[3->2].hml": (0.1108, 1.370),
        },
        regressors=("hml",),
    ),
    PublishedMarkov(
        "Appendix 7.2",
        3,
        ("hml",),
        {
            "const[1]": (0.0008, 0.0008 / 1.764),
            "sigma2[1]": (8.456e-05, 2.23e-05),
            "const[2]": (0.0030, 0.0030 / 2.454),
            "sigma2[2]": (0.0010, 0.0010 / 5.058),
            "const[3]": (-0.0002, 0.0002 / 0.072),
            "sigma2[3]": (0.0031, 0.0031 / 10.768),
            "p[1->1].const": (2.3747, 1.593),
            "p[2->1].const": (3.3433, 1.706),
            "p[3->1].const": (-7.5457, 4.747),
            "p[1->1].hml": (-2.1235, 2.758),
            "p[2->1].hml": (1.0712, 3.675),
            "p[3->1].hml": (0.6017, 0.257),
            "p[1->2].const": (2.6377, 1.496),
            "p[2->2].const": (4.0863, 1.534),
            "p[3->2].const": (-2.8440, 0.417),
            "p[1->2].hml": (-0.0310, 2.791),
            "p[2->2].hml": (1.1641, 3.641),
            "p[3->2].hml": (-0.3378, 0.369),
        },
    ),
)
"""Tables 1 to 3 and the appendix, whose 7.2 has two models."""

CLASSIFICATION: dict[str, tuple[float, PublishedClass, PublishedClass]] = {
    "lstm": (0.53, PublishedClass(0.89, 0.34, 0.49, 408), PublishedClass(0.41, 0.91, 0.57, 204)),
    "m-lstm": (0.67, PublishedClass(0.79, 0.68, 0.73, 408), PublishedClass(0.50, 0.64, 0.56, 204)),
    "gru": (0.47, PublishedClass(0.81, 0.28, 0.41, 408), PublishedClass(0.38, 0.87, 0.52, 204)),
    "m-gru": (0.56, PublishedClass(0.77, 0.48, 0.59, 408), PublishedClass(0.41, 0.72, 0.52, 204)),
    "tkan": (0.67, PublishedClass(0.67, 1.00, 0.80, 408), PublishedClass(0.00, 0.00, 0.00, 204)),
    "m-tkan": (0.72, PublishedClass(0.79, 0.78, 0.79, 408), PublishedClass(0.58, 0.59, 0.58, 204)),
}
"""Table 4: accuracy, class 0, class 1. The article does not say which class is bull."""

_FIGURES = (
    "mean_return",
    "deviation",
    "sharpe",
    "max_drawdown_of_sum",
    "sortino",
    "daily_turnover",
    "annual_turnover",
    "mean_return_on_volume",
    "beta",
    "alpha",
)


def _table(**columns: tuple[float, ...]) -> dict[str, dict[str, float]]:
    return {name.replace("_", "-"): dict(zip(_FIGURES, column, strict=True)) for name, column in columns.items()}


BACKTEST_IN_SAMPLE = _table(
    m_gru=(0.754659, 0.734199, 1.027867, -1.071958, 1.783035, 0.173849, 63.454880, 0.011893, -0.142187, 0.880322),
    m_lstm=(0.794480, 0.734084, 1.082273, -1.254106, 1.863751, 0.109761, 40.062615, 0.019831, -0.045676, 0.834848),
    m_tkan=(1.131593, 0.732871, 1.544053, -0.740906, 2.690941, 0.360958, 131.749540, 0.008589, 0.154983, 0.994620),
)
"""Table 5."""

BACKTEST_OUT_OF_SAMPLE = _table(
    m_gru=(
        -0.398766, 0.490487, -0.813001, -0.687949, -1.219218, 0.173486, 63.322422, -0.006297, -0.043611, -0.361273,
    ),
    m_lstm=(0.198593, 0.490821, 0.404614, -0.342666, 0.659887, 0.163666, 59.738134, 0.003324, 0.156359, 0.064168),
    m_tkan=(0.444902, 0.490378, 0.907263, -0.467687, 1.497058, 0.468085, 170.851064, 0.002604, 0.374576, 0.122870),
)  # fmt: skip
"""Table 6."""


def implied_asset_mean(column: dict[str, float]) -> float:
    """Return the asset's annual mean return that a column of Table 5 or 6 implies: (mean − alpha) / beta."""
    return (column["mean_return"] - column["alpha"]) / column["beta"]
