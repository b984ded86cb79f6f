"""A stream is the network of its bundle, one bar at a time, and can be stopped and taken up again anywhere."""

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from bundles import random_bundle, torch_outputs
from hypothesis import given, settings
from hypothesis import strategies as st

from hissbt.errors import BundleError, ConfigError, StreamError
from hissbt.stream import OUTPUTS, Stream


@pytest.fixture(scope="module")
def rows(hourly_bars):
    return hourly_bars[:150].arrays()


FORECASTERS = ("hiss", "lstm", "gru", "transformer", "tkan", "m-gru", "m-lstm", "m-tkan")


@pytest.fixture(scope="module", params=[*FORECASTERS, "hvae"])
def bundle(request, hourly_bars):
    return random_bundle(hourly_bars[:150], kind=request.param)


@pytest.fixture(scope="module", params=FORECASTERS)
def forecaster(request, hourly_bars):
    return random_bundle(hourly_bars[:150], kind=request.param)


def test_outputs_are_those_of_the_network_over_the_whole_sequence(bundle, rows):
    np.testing.assert_allclose(Stream(bundle).scan(rows), torch_outputs(bundle, rows), rtol=1e-4, atol=1e-6)


def test_outputs_have_names(forecaster, hourly_bars):
    assert Stream(forecaster).outputs == OUTPUTS
    if "n_regimes" in forecaster.config:
        assert Stream(forecaster, regimes=True).outputs == (*OUTPUTS, "regime0", "regime1")
    latent = Stream(random_bundle(hourly_bars[:150], kind="hvae", strides=(2, 4), d_latent=(1, 2)))
    assert latent.outputs == ("kl1", "kl2", "recon", "z1_1", "z2_1", "z2_2")


def test_an_hvae_with_resets_is_torchs_on_each_part_of_a_long_series(hourly_bars):
    bundle = random_bundle(hourly_bars, kind="hvae", strides=(4, 24, 168), d_latent=(2, 4, 8), d_hidden=64)
    rows = hourly_bars.arrays()
    parts = rows[:400], rows[403:430], rows[433:700], rows[703:]  # the second ends before its window is full
    expected = np.concatenate([torch_outputs(bundle, part) for part in parts])
    outputs = Stream(bundle, "3h").scan(np.concatenate(parts))
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.compiles
def test_code_just_compiled_and_code_from_disk_give_the_same_bits(hourly_bars, rows, tmp_path):
    for kind in ("hiss", "m-tkan", "hvae"):
        random_bundle(hourly_bars[:150], kind=kind).save(tmp_path / kind)
    np.save(tmp_path / "rows.npy", rows)
    script = (
        "import sys, numpy as np\n"
        "from hissbt.bundle import ModelBundle\n"
        "from hissbt.stream import Stream, kernels\n"
        "rows = np.load(sys.argv[1])\n"
        "scans = [Stream(ModelBundle.load(path)).scan(rows).tobytes().hex() for path in sys.argv[2:]]\n"
        "print('stored' if kernels.run.stats.cache_hits else 'compiled', *scans)"
    )
    command = [sys.executable, "-c", script, *(tmp_path / name for name in ("rows.npy", "hiss", "m-tkan", "hvae"))]

    def scanned(**environment) -> list[bytes]:
        done = subprocess.run(command, env=os.environ | environment, capture_output=True, check=True)
        return done.stdout.split()

    (origin, *first), place = scanned(), {}
    if origin == b"stored":  # in a clean checkout it is not, and all tests that follow find what this one compiled
        place = {"NUMBA_CACHE_DIR": str(tmp_path / "compiled")}
        origin, *first = scanned(**place)
    assert origin == b"compiled"
    assert len(first[0]) > 1000
    assert scanned(**place) == [b"stored", *first]


def test_outputs_are_a_probability_and_a_positive_volatility(forecaster, rows):
    expected_return, prob_up, volatility = Stream(forecaster).scan(rows).T
    assert np.isfinite(expected_return).all()
    assert ((prob_up > 0) & (prob_up < 1)).all()
    assert (volatility > 0).all()


def test_every_bar_moves_every_output(bundle, rows):
    assert (np.abs(np.diff(Stream(bundle).scan(rows), axis=0)) > 0).all()


@settings(max_examples=15, deadline=None)
@given(split=st.integers(0, 60))
def test_a_restored_stream_goes_on_with_the_same_bits(bundle, rows, split):
    whole = Stream(bundle).scan(rows[:64])
    first = Stream(bundle)
    first.scan(rows[:split])
    second = Stream(bundle)
    second.restore(first.snapshot())
    np.testing.assert_array_equal(second.scan(rows[split:64]), whole[split:])


def test_a_revised_bar_counts_once_with_its_last_values(bundle, rows):
    whole = Stream(bundle).scan(rows[:40])
    stream = Stream(bundle)
    for row, expected in zip(rows[:40], whole, strict=True):
        forming = row.copy()
        forming[4] = forming[1]  # the bar before it closed: its close is still its open
        stream.step(forming)
        np.testing.assert_array_equal(stream.revise(row), expected)


def test_a_bar_can_be_revised_after_a_restart(bundle, rows):
    first = Stream(bundle)
    first.scan(rows[:20])
    second = Stream(bundle)
    second.restore(first.snapshot())
    np.testing.assert_array_equal(second.revise(rows[19] * 1.01), first.revise(rows[19] * 1.01))


def test_a_reset_stream_starts_from_the_first_bar(bundle, rows):
    stream = Stream(bundle)
    first = stream.scan(rows[:30])
    stream.reset()
    np.testing.assert_array_equal(stream.scan(rows[:30]), first)


def test_two_streams_of_one_bundle_do_not_touch_each_other(bundle, rows):
    alone = Stream(bundle).scan(rows[:30])
    one, other = Stream(bundle), Stream(bundle)
    pairs = [(one.step(row), other.step(row * 2)) for row in rows[:30]]
    np.testing.assert_array_equal([a for a, _ in pairs], alone)


def test_bars_out_of_order_are_refused(bundle, rows):
    stream = Stream(bundle)
    stream.scan(rows[:5])
    with pytest.raises(StreamError, match="does not come after the last one"):
        stream.step(rows[4])


def test_a_bar_that_is_not_finite_is_refused_and_leaves_the_state_as_it_was(bundle, rows):
    stream, untouched = Stream(bundle), Stream(bundle)
    stream.scan(rows[:5])
    untouched.scan(rows[:5])
    broken = rows[5].copy()
    broken[5] = np.nan
    with pytest.raises(StreamError, match="no finite volume"):
        stream.step(broken)
    np.testing.assert_array_equal(stream.step(rows[5]), untouched.step(rows[5]))


def test_there_is_nothing_to_revise_before_the_first_bar(bundle, rows):
    with pytest.raises(StreamError, match="no bar to revise"):
        Stream(bundle).revise(rows[0])


def test_a_snapshot_of_another_bundle_is_refused(bundle, hourly_bars):
    other = Stream(random_bundle(hourly_bars[:150], seed=2))
    with pytest.raises(StreamError, match="another bundle"):
        other.restore(Stream(bundle).snapshot())


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_damaged_snapshot_is_refused_and_leaves_the_state_as_it_was(bundle, rows, data):
    stream = Stream(bundle)
    stream.scan(rows[:10])
    snapshot = stream.snapshot()
    cut = data.draw(st.integers(0, len(snapshot) - 1))
    with pytest.raises(StreamError):
        stream.restore(snapshot[:cut])
    assert stream.snapshot() == snapshot


def test_a_gap_of_the_configured_length_starts_the_model_afresh(bundle, rows):
    gapped = np.delete(rows[:60], [30, 31, 32], axis=0)  # three bars of an hour are missing
    for reset_after, afresh in (("3h", True), ("4h", False), (None, False)):
        outputs = Stream(bundle, reset_after).scan(gapped)
        np.testing.assert_array_equal(outputs[:30], Stream(bundle).scan(rows[:30]))
        assert (outputs[30:] == Stream(bundle).scan(gapped[30:])).all() == afresh


def test_every_session_starts_the_model_afresh_if_so_configured(bundle, rows):
    outputs = Stream(bundle, "session").scan(rows[:60])  # the first bar opens at midnight
    for day in (0, 1):
        part = slice(24 * day, 24 * day + 24)
        np.testing.assert_array_equal(outputs[part], Stream(bundle).scan(rows[part]))


def test_a_bar_after_a_reset_can_be_revised(bundle, rows):
    gapped = np.delete(rows[:40], [20], axis=0)
    stream = Stream(bundle, "1h")
    stream.scan(gapped[:20])
    stream.step(gapped[20] * np.array([1, 1, 2, 0.5, 1, 1]))
    np.testing.assert_array_equal(stream.revise(gapped[20]), Stream(bundle).step(gapped[20]))


def warm(ages, warmup):
    return np.array(ages) >= warmup


def test_after_a_reset_nothing_is_said_until_the_warm_up_has_passed_again(bundle, rows):
    gapped = np.delete(rows[:90], [30, 31, 32, 40, 41, 42], axis=0)  # the second gap comes before it is warm again
    said = Stream(bundle, "3h").scan(gapped)
    is_warm = warm([*range(1, 31), *range(1, 8), *range(1, 48)], bundle.warmup)
    outputs = Stream(bundle, "3h", rewarm=True).scan(gapped)
    np.testing.assert_array_equal(outputs, np.where(is_warm[:, None], said, np.nan))
    assert 0 < is_warm[30:].sum() < 54


@pytest.mark.parametrize("cut", [25, 30, 31, 35, 49, 50])
def test_a_stream_taken_up_again_while_it_warms_up_again_knows_for_how_long(bundle, rows, cut):
    gapped = np.delete(rows[:60], [30, 31, 32], axis=0)
    rule = {"reset_after": "3h", "rewarm": True}
    whole = Stream(bundle, **rule).scan(gapped)
    first, second, bar_by_bar = (Stream(bundle, **rule) for _ in range(3))
    first.scan(gapped[:cut])
    second.restore(first.snapshot())
    np.testing.assert_array_equal(second.scan(gapped[cut:]), whole[cut:])
    np.testing.assert_array_equal([bar_by_bar.step(row) for row in gapped], whole)
    np.testing.assert_array_equal(second.revise(gapped[-1]), whole[-1])
    assert np.isnan(whole[30:49]).all()
    assert np.isfinite(whole[49:]).all()


def test_sessions_that_go_on_after_midnight_are_not_cut(bundle, rows):
    hours = rows[:60]  # the first bar opens at midnight; sessions open at 23:00 and pause from 22:00 on
    open_s = hours[:, 0] - 3600
    hours = hours[open_s % 86400 != 22 * 3600]
    opens = hours[0, 0] - 3600 + 3600 * np.array([-1, 23, 47])
    outputs = Stream(bundle, "session", session_opens=opens).scan(hours)
    for part in (slice(0, 22), slice(22, 45), slice(45, None)):
        np.testing.assert_array_equal(outputs[part], Stream(bundle).scan(hours[part]))


def test_another_reset_rule_is_refused(bundle):
    with pytest.raises(ConfigError, match="'weekly' is neither a length such as 4h nor 'session'"):
        Stream(bundle, "weekly")


def test_a_scan_with_a_bad_row_takes_none_of_them(bundle, rows):
    stream = Stream(bundle)
    stream.scan(rows[:10])
    before = stream.snapshot()
    broken = rows[10:20].copy()
    broken[5, 4] = np.inf
    with pytest.raises(StreamError, match="no finite close"):
        stream.scan(broken)
    assert stream.snapshot() == before


def test_a_snapshot_goes_on_in_a_new_process(bundle, rows, tmp_path):
    bundle.save(tmp_path / "bundle")
    stream = Stream(bundle)
    stream.scan(rows[:37])
    (tmp_path / "snapshot").write_bytes(stream.snapshot())
    np.save(tmp_path / "rows.npy", rows[37:90])
    code = (
        "import sys, numpy as np; from hissbt.bundle import ModelBundle; from hissbt.stream import Stream; "
        "stream = Stream(ModelBundle.load('bundle')); stream.restore(open('snapshot', 'rb').read()); "
        "np.save('out.npy', stream.scan(np.load('rows.npy'))); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), stream.scan(rows[37:90]))


def test_a_kind_without_kernels_is_refused(bundle):
    with pytest.raises(BundleError, match="cannot run a 'crystal ball' bundle"):
        Stream(replace(bundle, kind="crystal ball"))
