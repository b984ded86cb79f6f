"""A forecast whose lines are given in advance, for tests of what is done with forecasts."""

import backtrader as bt


class ScriptedForecast(bt.Indicator):
    """Shows ``rows[i]`` = (expected_return, prob_up, volatility) at bar i; with ``warmup`` it starts that late."""

    lines = ("expected_return", "prob_up", "volatility")
    params = (("rows", None), ("warmup", 1))

    def __init__(self):
        self.addminperiod(self.p.warmup)

    def next(self):
        for line, value in zip(self.lines, self.p.rows[len(self) - 1], strict=True):
            line[0] = value
