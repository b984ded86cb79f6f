"""Every indicator gives the lines of a direct loop over the bars in every run mode, and never sees the future."""

import contextlib
import functools

import backtrader as bt
import numpy as np
import pytest
from bundles import random_bundle, random_relay
from indicator_contract import (
    OTHER_FUTURES,
    Case,
    assert_causal,
    cerebro_for,
    lines_of,
    minutes_frame,
    run_lines,
)

from hissbt.bars import Bars
from hissbt.candles import CANDLE
from hissbt.econometrics import Garch, Har, MarkovSwitching, covariates
from hissbt.feeds import BarsFeed
from hissbt.indicators import Forecast, GarchVolatility, HarVolatility, HiSS, Latent, MarkovRegime, Regime
from hissbt.indicators.latent import readings
from hissbt.stream import Stream


def forecast_case(bars: Bars, indicator: type[Forecast], folder, resets=(), **network) -> Case:
    bundle = random_bundle(bars, **network)
    bundle.save(folder / "bundle")

    def direct(bars: Bars) -> np.ndarray:
        lines = Stream(bundle, **dict(resets)).scan(bars.arrays())
        lines[: bundle.warmup - 1] = np.nan
        return lines

    return Case(indicator, {"model": str(folder / "bundle"), **dict(resets)}, direct)


def relay_case(bars: Bars, folder) -> Case:
    """Three models, of which the second is in charge of one bar, beside the streams of each."""
    borders, warmup = (50, 51), 20
    relay = random_relay(bars, borders, warmup=warmup)
    relay.save(folder / "relay")
    starts = [part.since for part in relay.parts[1:]]

    def direct(bars: Bars) -> np.ndarray:
        turns = [0, *bars.frame.index.searchsorted(starts), len(bars)]
        lines = np.empty((0, 3))
        for part, first, stop in zip(relay.parts, turns, turns[1:], strict=False):
            warm = bars.arrays()[max(0, first - warmup + 1) : stop]
            own = Stream(part.bundle).scan(warm) if stop > first else lines[:0]
            lines = np.vstack([lines, own[len(own) - (stop - first) :]])
        lines[: warmup - 1] = np.nan
        return lines

    return Case(Forecast, {"model": str(folder / "relay")}, direct)


def regime_case(bars: Bars, folder, resets=(), returns=None, **network) -> Case:
    """Beside the stream itself, whose regimes 0 and 1 are bear and bull unless ``returns`` say otherwise."""
    bundle = random_bundle(bars, **network)
    bundle.metrics |= {"regime_returns": returns} if returns else {}
    bundle.save(folder / "bundle")
    order = [4, 3, 0, 2] if returns is None else [3 + np.argmax(returns), 3 + np.argmin(returns), 0, 2]

    def direct(bars: Bars) -> np.ndarray:
        lines = Stream(bundle, regimes=True, **dict(resets)).scan(bars.arrays())[:, order]
        lines[: bundle.warmup - 1] = np.nan
        return lines

    return Case(Regime, {"model": str(folder / "bundle"), **dict(resets)}, direct)


def latent_case(bars: Bars, folder, resets=()) -> Case:
    bundle = random_bundle(bars, kind="hvae", features=CANDLE)
    bundle.save(folder / "bundle")
    buffers = [bundle.weights[name].astype(float) for name in ("calibration", "centers")]

    def direct(bars: Bars) -> np.ndarray:
        outputs = Stream(bundle, **dict(resets)).scan(bars.arrays())
        lines = np.vstack([readings(row[None], *buffers) for row in outputs])[:, : len(Latent.lines._getlines())]
        lines[: bundle.warmup - 1] = np.nan
        return lines

    return Case(Latent, {"model": str(folder / "bundle"), **dict(resets)}, direct)


def econometric_case(indicator: type[bt.Indicator], model, lines_of_step, **params) -> Case:
    """An econometric indicator beside a plain loop: fit on what closed, then filter the bars to the next fit."""
    first, every, window = 26, 18, 40
    starts = params.get("starts")
    options = [{"errors": False}] * 2 if starts is None else [{"errors": False, "starts": n} for n in (starts, 1)]

    def direct(bars: Bars) -> np.ndarray:
        rows = covariates(model.inputs, bars.arrays())
        lines, fit = np.full((len(bars), len(indicator.lines._getlines())), np.nan), None
        for closed in range(first, len(bars), every):
            sample = rows[max(1, closed - window) : closed]
            fit = model.fit_rows(sample, **(options[0] if fit is None else {"near": fit, **options[1]}))
            state = fit.initial_state()
            fit.advance(sample, state)
            for t in range(closed, min(closed + every, len(bars))):
                lines[t] = lines_of_step(fit.step(rows[t], state))
        return lines

    schedule = {"min_bars": first, "refit_every": every, "window": window}
    return Case(indicator, {"model": model, **schedule, **params}, direct)


@functools.cache
def remembered_fit(model, sample: bytes, options: tuple):
    rows = np.frombuffer(sample).reshape(-1, len(model.inputs))
    return MarkovSwitching.fit_rows(model, rows, **dict(options))


class RememberedMarkov(MarkovSwitching):
    """Fits each sample once: the contract runs over the same bars many times, and a fit is the dear part."""

    def fit_rows(self, rows, **options):
        return remembered_fit(self, rows.tobytes(), tuple(sorted(options.items())))


def markov_lines(path) -> tuple:
    return path.filtered[0], path.filtered[-1], path.expected_return, path.volatility


CASES = {
    "markov": lambda bars, folder: econometric_case(MarkovRegime, RememberedMarkov(), markov_lines, starts=1),
    "markov with transitions that follow a range": lambda bars, folder: econometric_case(
        MarkovRegime, RememberedMarkov(covariates=("hml",)), markov_lines, starts=1
    ),
    "garch": lambda bars, folder: econometric_case(GarchVolatility, Garch(), lambda out: out),
    "har": lambda bars, folder: econometric_case(HarVolatility, Har((1, 3, 9)), lambda out: out),
    "hiss": lambda bars, folder: forecast_case(bars, HiSS, folder),
    "hiss with summed levels and conv downsampling": lambda bars, folder: forecast_case(
        bars, HiSS, folder, strides=(2, 8), downsample="conv", fuse="sum", blocks=("mamba", "s4d", "s4d")
    ),
    "hiss that warms up again every day": lambda bars, folder: forecast_case(
        bars, HiSS, folder, {"reset_after": "session", "rewarm": True}
    ),
    "flat s4d": lambda bars, folder: forecast_case(bars, Forecast, folder, strides=(), blocks=("s4d",)),
    "flat mamba": lambda bars, folder: forecast_case(bars, Forecast, folder, strides=(), blocks=("mamba",)),
    "lstm": lambda bars, folder: forecast_case(bars, Forecast, folder, kind="lstm", n_layers=2),
    "gru": lambda bars, folder: forecast_case(bars, Forecast, folder, kind="gru"),
    "transformer": lambda bars, folder: forecast_case(bars, Forecast, folder, kind="transformer"),
    "m-gru": lambda bars, folder: forecast_case(bars, Forecast, folder, kind="m-gru"),
    "regime of m-lstm": lambda bars, folder: regime_case(bars, folder, kind="m-lstm"),
    "regime of m-tkan": lambda bars, folder: regime_case(
        bars, folder, kind="m-tkan", n_regimes=3, returns=[0.1, 0.3, -0.2]
    ),
    "regime of m-gru that warms up again every day": lambda bars, folder: regime_case(
        bars, folder, {"reset_after": "session", "rewarm": True}, kind="m-gru"
    ),
    "relay": relay_case,
    "latent": latent_case,
    "latent that warms up again every day": lambda bars, folder: latent_case(
        bars, folder, {"reset_after": "session", "rewarm": True}
    ),
}


@pytest.fixture(scope="module")
def bars(hourly_bars) -> Bars:
    return hourly_bars[:122]


@pytest.fixture(params=CASES, scope="module")
def case(request, bars, tmp_path_factory) -> Case:
    return CASES[request.param](bars, tmp_path_factory.mktemp("case"))


MODES = [
    {"runonce": True},
    {"runonce": False},
    {"preload": False},
    {"exactbars": 1},
    {"exactbars": -1},
    {"exactbars": -2},
]


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_lines_are_bit_identical_to_a_direct_loop_in_every_run_mode(case, bars, mode):
    np.testing.assert_array_equal(run_lines(case, bars, **mode), case.direct(bars))


def test_lines_are_the_same_on_a_stock_pandas_feed(case, bars):
    feed = bt.feeds.PandasData(
        dataname=minutes_frame(bars), openinterest=None, timeframe=bt.TimeFrame.Minutes, compression=60
    )
    np.testing.assert_array_equal(lines_of(cerebro_for(case, [feed]).run()[0]), case.direct(bars))


@pytest.mark.parametrize("mode", MODES[:4], ids=str)
@pytest.mark.parametrize("on", [0, 1], ids=["on the faster feed", "on the slower feed"])
def test_a_second_slower_feed_changes_nothing(case, bars, mode, on):
    slower = bars.resample("4h")
    result = cerebro_for(case, [BarsFeed(bars), BarsFeed(slower)], on=on, **mode).run()[0]
    if on == 1:
        assert result.analyzers.recorder.get_analysis()["repeats"] > 0, "next was never called without a new bar"
    np.testing.assert_array_equal(lines_of(result), case.direct(slower if on else bars))


@pytest.mark.parametrize("mode", MODES[:4], ids=str)
@pytest.mark.parametrize("on", [0, 1], ids=["on the longer feed", "on the shorter feed"])
def test_a_second_feed_that_starts_later_has_holes_and_ends_earlier_changes_nothing(case, bars, mode, on):
    shorter = Bars(bars.frame.drop(bars.frame.index[60:67])[30:-20], bars.market, bars.timeframe)
    result = cerebro_for(case, [BarsFeed(bars), BarsFeed(shorter)], on=on, **mode).run()[0]
    np.testing.assert_array_equal(lines_of(result), case.direct(shorter if on else bars))


@pytest.mark.parametrize("runonce", [True, False])
def test_lines_on_a_resampled_feed_are_those_of_the_coarse_bars(case, bars, runonce):
    lines = lines_of(cerebro_for(case, [BarsFeed(bars)], resample=240, runonce=runonce).run()[0])
    direct = case.direct(bars.resample("4h"))
    np.testing.assert_allclose(lines[: len(direct)], direct, rtol=1e-12)


def test_the_last_lines_of_each_replayed_bar_are_those_of_the_closed_bar(case, bars):
    result = cerebro_for(case, [BarsFeed(bars)], replay=240).run()[0]
    assert result.analyzers.recorder.get_analysis()["repeats"] > 0, "no forming bar was shown"
    direct = case.direct(bars.resample("4h"))
    np.testing.assert_allclose(lines_of(result)[: len(direct)], direct, rtol=1e-12)


def test_two_processes_of_optstrategy_give_the_same_lines(case, bars):
    results = cerebro_for(case, [BarsFeed(bars)], opt=True, maxcpus=2).run()
    assert len(results) == 2
    for (result,) in results:
        np.testing.assert_array_equal(lines_of(result), case.direct(bars))


@pytest.mark.parametrize("runonce", [True, False])
@pytest.mark.parametrize("other_future", OTHER_FUTURES)
def test_no_line_depends_on_the_future(case, bars, other_future, runonce):
    assert_causal(case, bars[:60], other_future, runonce=runonce)


@pytest.fixture(scope="module")
def gapped(bars) -> Bars:
    """Bars with a gap of 4 and, before a model of 20 bars of warm-up is warm again, one of 3, and one of 2."""
    missing = bars.frame.index[[30, 31, 32, 33, 40, 41, 42, 110, 111]]
    return Bars(bars.frame.drop(missing), bars.market, bars.timeframe)


@pytest.fixture(params=[False, True], ids=["valid at once", "warm again"], scope="module")
def resetting(request, bars, tmp_path_factory) -> Case:
    resets = {"reset_after": "3h", "rewarm": request.param}
    return forecast_case(bars, HiSS, tmp_path_factory.mktemp("case"), resets)


@pytest.mark.parametrize("mode", MODES, ids=str)
def test_gaps_reset_the_model_alike_in_every_run_mode(resetting, gapped, mode):
    lines = run_lines(resetting, gapped, **mode)
    np.testing.assert_array_equal(lines, resetting.direct(gapped))
    cold = np.isnan(lines).all(axis=1).nonzero()[0].tolist()
    assert cold == [*range(19), *(range(30, 55) if resetting.params["rewarm"] else ())]


@pytest.mark.parametrize("runonce", [True, False])
@pytest.mark.parametrize("other_future", OTHER_FUTURES)
def test_no_line_after_a_gap_depends_on_the_future(resetting, gapped, other_future, runonce):
    assert_causal(resetting, gapped[:62], other_future, residues=36, runonce=runonce)


class OneBarLeak(Forecast):
    """Reads the close of the bar after the one it is at, where Backtrader has it preloaded."""

    def next(self):
        super().next()
        with contextlib.suppress(IndexError):
            self.lines.prob_up[0] += self.data.close[1]


class OneBarLeakAtOnce(Forecast):
    """Puts every forecast one bar early, where Backtrader computes the indicator at once."""

    def once(self, start, end):
        super().once(start, end)
        for line in self.lines:
            line.array[start - 1 : end - 1] = line.array[start:end]

    def next(self):
        super().next()
        self.lines.prob_up[0] += self.data.close[1] if len(self.data.close.array) > len(self.data) else 0.0


@pytest.mark.parametrize("runonce", [True, False])
@pytest.mark.parametrize("other_future", OTHER_FUTURES)
@pytest.mark.parametrize("leak", [OneBarLeak, OneBarLeakAtOnce])
def test_the_contract_catches_a_leak_of_one_bar(bars, tmp_path, leak, other_future, runonce):
    leaky = forecast_case(bars, leak, tmp_path)
    with pytest.raises(AssertionError, match=other_future.__name__):
        assert_causal(leaky, bars[:60], other_future, runonce=runonce)
