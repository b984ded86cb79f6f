"""Forecasts of a trained model as Backtrader lines."""

from hissbt.indicators.streamed import StreamedIndicator


class Forecast(StreamedIndicator):
    """A trained forecaster, stepped once per closed bar with carried state.

    Lines, known when the bar at [0] has closed, about the log return over the bundle's next ``horizon`` bars:

    - ``expected_return``: its mean
    - ``prob_up``: the probability that it is positive
    - ``volatility``: its standard deviation

    Params and errors are those of ``hissbt.indicators.streamed.StreamedIndicator``.
    """

    lines = ("expected_return", "prob_up", "volatility")
    plotinfo = {"subplot": True, "plothlines": [0.5]}
    plotlines = {"expected_return": {"_plotskip": True}, "volatility": {"_plotskip": True}}


class HiSS(Forecast):
    """A Forecast that accepts hierarchical state-space bundles only."""

    kind = "hiss"
