"""Latent says how unusual the bars are by level, against scores that training held out, and in which cluster."""

import backtrader as bt
import numpy as np
import pytest
from bundles import random_bundle
from hypothesis import given
from hypothesis import strategies as st
from indicator_contract import named_lines

import hissbt
from hissbt.candles import CANDLE
from hissbt.errors import BundleError
from hissbt.feeds import BarsFeed
from hissbt.indicators import Forecast, Latent, Regime
from hissbt.indicators.latent import nearest, p_value
from hissbt.stream import Stream

WARMUP = 20


@pytest.fixture(scope="module")
def bars(hourly_bars):
    return hourly_bars[:90]


@pytest.fixture(scope="module")
def bundle(bars):
    return random_bundle(bars, kind="hvae", features=CANDLE, warmup=WARMUP)


def test_its_lines_have_the_names_that_they_are_known_by(bars, bundle):
    assert hissbt.Latent is Latent
    levels = ("anomaly1", "anomaly2", "anomaly3", "kl1", "kl2", "kl3")
    assert tuple(named_lines(bars, Latent, model=bundle)) == (*levels, "recon", "regime")


def test_divergences_and_surprise_are_those_of_the_stream(bars, bundle):
    found, stream = named_lines(bars, Latent, model=bundle), Stream(bundle)
    outputs = dict(zip(stream.outputs, stream.scan(bars.arrays()).T, strict=True))
    for name in ("kl1", "kl2", "kl3", "recon"):
        np.testing.assert_array_equal(found[name][WARMUP - 1 :], outputs[name][WARMUP - 1 :])
        assert np.isnan(found[name][: WARMUP - 1]).all()


def test_a_p_value_is_the_share_of_held_out_scores_that_are_as_high(bars, bundle):
    found = named_lines(bars, Latent, model=bundle)
    scores = found["kl1"] + found["recon"], found["kl2"], found["kl3"]
    for level, score in enumerate(scores, 1):
        usual = bundle.weights["calibration"][level - 1]
        expected = [(1 + np.sum(usual >= s)) / (1 + len(usual)) for s in score[WARMUP - 1 :]]
        np.testing.assert_array_equal(found[f"anomaly{level}"][WARMUP - 1 :], expected)
        assert len(set(expected)) > 20


def test_the_regime_is_the_nearest_cluster_of_the_top_latent(bars, bundle):
    found = named_lines(bars, Latent.of(bundle))
    top = np.column_stack([found[f"z3_{i}"] for i in (1, 2, 3)])[WARMUP - 1 :]  # [T,3]
    distances = np.square(top[:, None] - bundle.weights["centers"]).sum(axis=-1)
    np.testing.assert_array_equal(found["regime"][WARMUP - 1 :], distances.argmin(axis=1))
    assert set(found["regime"][WARMUP - 1 :]) == {0, 1, 2}


@given(
    scores=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30),
    score=st.floats(-1e3, 1e3),
)
def test_p_values_lie_above_zero_and_up_to_one_and_fall_with_the_score(scores, score):
    calibration = np.sort(scores)
    p = p_value(score, calibration)
    assert p == (1 + np.sum(calibration >= score)) / (1 + len(scores))
    assert 0 < p_value(score + 1, calibration) <= p <= 1


def test_of_clusters_that_are_as_near_the_first_is_taken():
    assert nearest(np.array([0.0, 1.0]), np.array([[3.0, 1.0], [1.0, 1.0], [-1.0, 1.0]])) == 1


def test_the_latents_of_a_bundle_of_any_levels_are_lines(bars):
    bundle = random_bundle(bars, kind="hvae", strides=(3, 6), d_latent=(1, 2))
    found, stream = named_lines(bars, Latent.of(bundle)), Stream(bundle)
    assert tuple(found) == ("anomaly1", "anomaly2", "kl1", "kl2", "recon", "regime", "z1_1", "z2_1", "z2_2")
    np.testing.assert_array_equal(
        np.column_stack([found[name] for name in ("z1_1", "z2_1", "z2_2")])[WARMUP - 1 :],
        stream.scan(bars.arrays())[WARMUP - 1 :, 3:],
    )


def test_a_class_of_a_bundle_takes_its_folder_and_agrees_with_latent(bars, bundle, tmp_path):
    bundle.save(tmp_path / "bundle")
    short, whole = named_lines(bars, Latent, model=bundle), named_lines(bars, Latent.of(tmp_path / "bundle"))
    for name, values in short.items():
        np.testing.assert_array_equal(whole[name], values)


def test_the_anomaly_of_the_top_is_known_whatever_the_levels(bars, bundle):
    class Host(bt.Strategy):
        def __init__(self):
            two = random_bundle(bars, kind="hvae", strides=(3, 6), d_latent=(1, 2))
            self.three, self.two = Latent(self.data, model=bundle), Latent.of(two)(self.data)

    cerebro = bt.Cerebro(stdstats=False)
    cerebro.adddata(BarsFeed(bars))
    cerebro.addstrategy(Host)
    host = cerebro.run()[0]
    assert host.three.top_anomaly[0] == host.three.anomaly3[0]
    assert host.two.top_anomaly[0] == host.two.anomaly2[0]


def test_a_bundle_of_another_kind_is_refused(bars):
    with pytest.raises(BundleError, match="this is a gru bundle, not hvae"):
        named_lines(bars, Latent, model=random_bundle(bars, kind="gru"))


def test_a_bundle_of_other_levels_is_refused(bars, bundle):
    other = random_bundle(bars, kind="hvae", strides=(3, 6), d_latent=(1, 2))
    with pytest.raises(
        BundleError, match=r"of 1, 2 latents, are not those of the lines: use hissbt.Latent.of\(model\)"
    ):
        named_lines(bars, Latent, model=other)
    with pytest.raises(BundleError, match="of 2, 1, 3 latents"):
        named_lines(bars, Latent.of(other), model=bundle)


@pytest.mark.parametrize(
    ("indicator", "advice"),
    [(Forecast, "no expected_return.*use hissbt.Latent"), (Regime, "which has no regimes")],
)
def test_other_indicators_refuse_a_bundle_that_forecasts_nothing(bars, bundle, indicator, advice):
    with pytest.raises(BundleError, match=f"this is a hvae bundle.*{advice}"):
        named_lines(bars, indicator, model=bundle)


def test_only_the_p_values_are_plotted(bundle):
    for indicator in (Latent, Latent.of(bundle)):
        shown = [
            name
            for name in indicator.lines._getlines()
            if not getattr(getattr(indicator.plotlines, name, None), "_plotskip", False)
        ]
        assert shown == ["anomaly1", "anomaly2", "anomaly3"]
