"""Features: equal to what pandas computes over the whole table, causal, finite, and the same bits bar by bar."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from arch.data import sp500
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from hissbt.bars import BAR_FIELDS
from hissbt.errors import FeatureError
from hissbt.features import (
    CLOSE,
    CLOSE_TIME,
    FEATURES,
    HIGH,
    LOW,
    OPEN,
    VOLUME,
    FeatureSet,
    Normalizer,
    default_features,
)
from hissbt.timeframe import parse_timeframe

EVERY = FeatureSet(
    [name + {"": "", "bars": ":7", "times": ":3", "column": ":rate"}[f.argument] for name, f in FEATURES.items()]
)


def sp500_rows(n: int = 1500) -> np.ndarray:
    """Daily bars of the index [n, 7], with an extra column."""
    frame = sp500.load().iloc[:n]
    seconds = frame.index.as_unit("s").asi8 + 86400.0
    prices = frame[["Open", "High", "Low", "Close", "Volume"]].to_numpy(dtype=float)
    extra = np.random.default_rng(0).normal(size=(len(frame), 1))
    return np.column_stack([seconds, prices, extra])


ROWS = sp500_rows()
CLOSES = pd.Series(ROWS[:, CLOSE])
LOG_RETURNS = np.log(CLOSES).diff()
LOG_RANGE = pd.Series(np.log(ROWS[:, HIGH] / ROWS[:, LOW]))


@st.composite
def random_rows(draw) -> np.ndarray:
    """Bars as rough as they may be: flat ones, no volume, jumps over many orders of magnitude."""
    count = draw(st.integers(1, 60))
    price = st.floats(1e-8, 1e12) | st.just(100.0)
    prices = draw(arrays(float, (count, 4), elements=price))
    flat = draw(arrays(bool, count))
    prices[flat] = prices[flat, :1]
    volume = draw(arrays(float, count, elements=st.floats(0, 1e15) | st.just(0.0)))
    extra = draw(arrays(float, (count, 1), elements=st.floats(-1e6, 1e6)))
    first = draw(st.integers(0, 2_000_000_000))
    return np.column_stack(
        [
            first + 60.0 * np.arange(count),
            prices[:, 0],
            prices.max(axis=1),
            prices.min(axis=1),
            prices[:, 3],
            volume,
            extra,
        ]
    )


def layout(rows: np.ndarray, features: FeatureSet) -> np.ndarray:
    """Rows without the extra column where the features do not read it."""
    return rows[:, : 6 + len(features.columns)]


def column(name: str, rows: np.ndarray = ROWS) -> np.ndarray:
    features = FeatureSet([name])
    return features.scan(layout(rows, features))[:, 0]


def wilder_rsi(closes: np.ndarray, n: int) -> np.ndarray:
    """Wilder's index from its definition: weighted averages of gains and of losses, weights (1 - 1/n)^k."""
    changes = np.diff(closes, prepend=closes[0])
    values = []
    for t in range(len(changes)):
        weights = (1 - 1 / n) ** np.arange(t, -1, -1)
        up = np.average(np.maximum(changes[: t + 1], 0), weights=weights)
        down = np.average(np.maximum(-changes[: t + 1], 0), weights=weights)
        values.append(100 - 100 / (1 + up / down) if down else 100.0 if up else 50.0)
    return np.array(values)


def test_bar_layout_is_that_of_bars():
    layout = dict(zip(BAR_FIELDS, range(len(BAR_FIELDS)), strict=True))
    assert layout == {
        "close_time_s": CLOSE_TIME,
        "open": OPEN,
        "high": HIGH,
        "low": LOW,
        "close": CLOSE,
        "volume": VOLUME,
    }


# --- values, against pandas over the whole table


def test_log_return():
    assert_allclose(column("log_return"), LOG_RETURNS.fillna(0), atol=1e-13)
    assert_array_equal(column("abs_return"), np.abs(column("log_return")))


@pytest.mark.parametrize("n", [1, 2, 21, 2000])
def test_return_over_n_bars_reaches_as_far_back_as_there_are_bars(n):
    oldest = CLOSES.shift(n).fillna(CLOSES[0])
    assert_allclose(column(f"return:{n}"), np.log(CLOSES / oldest), atol=1e-13)


def test_range_and_garman_klass():
    assert_allclose(column("range"), LOG_RANGE, atol=1e-13)
    move = np.log(ROWS[:, CLOSE] / ROWS[:, OPEN])
    assert_allclose(column("garman_klass"), 0.5 * LOG_RANGE**2 - (2 * np.log(2) - 1) * move**2, atol=1e-14)


@pytest.mark.parametrize("span", [1, 12, 100])
def test_ewm_volatility(span):
    mean = (LOG_RETURNS**2).ewm(span=span, adjust=True).mean()
    assert_allclose(column(f"ewm_volatility:{span}"), np.sqrt(mean.fillna(0)), rtol=1e-9, atol=1e-13)


def test_log_range_volatility():
    mean = (LOG_RANGE**2 / (4 * np.log(2))).ewm(span=24, adjust=True).mean()
    assert_allclose(column("log_range_volatility:24"), np.log(np.sqrt(mean)), rtol=1e-10)


def test_log_volatility_is_that_of_the_weighted_mean_and_has_a_floor():
    volatility = column("ewm_volatility:24")
    assert_allclose(column("log_volatility:24"), np.log(np.maximum(volatility, 1e-6)), rtol=1e-12)


def test_log_garman_klass():
    mean = pd.Series(column("garman_klass")).ewm(span=24, adjust=True).mean()
    assert_allclose(column("log_garman_klass:24"), 0.5 * np.log(mean), rtol=1e-10)


def test_volume_ratio():
    volume = pd.Series(ROWS[:, VOLUME])
    ratio = volume / volume.ewm(span=24, adjust=True).mean()
    assert_allclose(column("volume_ratio:24"), np.log((1 + ratio) / 2), atol=1e-12)


def test_volume_surprise_compares_with_the_bars_before():
    volume = pd.Series(ROWS[:, VOLUME])
    ratio = volume / volume.ewm(span=24, adjust=True).mean().shift(1)
    assert_allclose(column("volume_surprise:24"), np.log((1 + ratio) / 2).fillna(0), atol=1e-12)


def test_gap_and_wicks():
    tops = ROWS[:, [OPEN, CLOSE]].max(axis=1)
    bottoms = ROWS[:, [OPEN, CLOSE]].min(axis=1)
    assert_allclose(column("gap"), np.log(ROWS[:, OPEN] / CLOSES.shift(1)).fillna(0), atol=1e-13)
    assert_allclose(column("upper_wick") ** 2, np.log(ROWS[:, HIGH] / tops), atol=1e-13)
    assert_allclose(column("lower_wick") ** 2, np.log(bottoms / ROWS[:, LOW]), atol=1e-13)


def test_rsi():
    assert_allclose(column("rsi:14", ROWS[:300]), wilder_rsi(ROWS[:300, CLOSE], 14), rtol=1e-9)


def test_clock_features_are_angles_of_the_close():
    rows = np.repeat(ROWS[:1], 400, axis=0)
    rows[:, CLOSE_TIME] += 3600.0 * np.arange(400)
    times = pd.to_datetime(rows[:, CLOSE_TIME], unit="s")
    day = 2 * np.pi * times.hour / 24
    week = 2 * np.pi * (times.day_of_week * 24 + times.hour) / 168
    for name, expected in {
        "hour_sin": np.sin(day),
        "hour_cos": np.cos(day),
        "weekday_sin": np.sin(week),
        "weekday_cos": np.cos(week),
        "week_sin:3": np.sin(3 * week),
        "week_cos:7": np.cos(day),
    }.items():
        assert_allclose(column(name, rows), expected, atol=1e-12)


def test_extra_column_is_passed_on():
    assert_array_equal(column("column:rate"), ROWS[:, 6])


def test_nothing_moves_on_flat_bars_without_volume():
    rows = np.tile([0.0, 5.0, 5.0, 5.0, 5.0, 0.0, 1.0], (50, 1))
    values = dict(zip(EVERY.names, EVERY.scan(rows)[-1], strict=True))
    assert values["rsi:7"] == 50
    for name in ("log_volatility:7", "log_range_volatility:7", "log_garman_klass:7"):
        assert values[name] == pytest.approx(np.log(1e-6))
    zero = ("log_return", "abs_return", "range", "garman_klass", "return:7", "ewm_volatility:7", "volume_ratio:7")
    zero += ("gap", "upper_wick", "lower_wick", "volume_surprise:7")
    assert [values[name] for name in zero] == [0.0] * len(zero)


def test_interpreted_python_gives_the_same_numbers(tmp_path):
    np.save(tmp_path / "rows.npy", ROWS[:200])
    code = (
        "import sys, numpy as np; from hissbt.features import FeatureSet, step_all; "
        "assert not hasattr(step_all, 'py_func'); "
        f"features = FeatureSet({EVERY.names!r}); "
        f"np.save(sys.argv[1] + '/out.npy', features.scan(np.load(sys.argv[1] + '/rows.npy')))"
    )
    environment = os.environ | {"NUMBA_DISABLE_JIT": "1"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
    assert_allclose(np.load(tmp_path / "out.npy"), EVERY.scan(ROWS[:200]), rtol=1e-12, atol=1e-14)


# --- causality and state


@given(random_rows(), st.data())
@settings(max_examples=60, deadline=None)
def test_scan_equals_step_bit_for_bit_from_any_split(rows, data):
    split = data.draw(st.integers(0, len(rows)))
    scanned = EVERY.scan(rows)
    state = EVERY.initial_state()
    assert_array_equal(EVERY.scan(rows[:split], state), scanned[:split])
    saved = np.frombuffer(state.tobytes()).copy()
    for t in range(split, len(rows)):
        assert_array_equal(EVERY.step(rows[t], state), scanned[t])
    assert_array_equal(EVERY.scan(rows[split:], saved), scanned[split:])
    assert_array_equal(saved, state)


def past_depends_on_the_future(scan, rows: np.ndarray) -> bool:
    """Tell whether any row before some cut changes when the bars after it are cut off or altered."""
    full = scan(rows)
    rng = np.random.default_rng(1)
    for cut in range(1, len(rows)):
        altered = rows.copy()
        altered[cut:, 1:] *= rng.uniform(0.5, 2.0, size=altered[cut:, 1:].shape)
        for other in (scan(rows[:cut]), scan(altered)):
            if not np.array_equal(other[:cut], full[:cut]):
                return True
    return False


def test_the_past_never_depends_on_the_future():
    assert not past_depends_on_the_future(EVERY.scan, ROWS[:80])


def test_the_causality_check_finds_a_planted_leak():
    def leaky(rows):
        return EVERY.scan(rows) + rows[-1, CLOSE]

    def peeking(rows):
        return np.roll(EVERY.scan(rows), -1, axis=0)

    assert past_depends_on_the_future(leaky, ROWS[:20])
    assert past_depends_on_the_future(peeking, ROWS[:20])


@given(random_rows())
@settings(max_examples=150, deadline=None)
def test_every_feature_is_finite_from_the_first_bar(rows):
    assert np.isfinite(EVERY.scan(rows)).all()


def test_one_set_serves_many_streams():
    mine, other = EVERY.initial_state(), EVERY.initial_state()
    interleaved = []
    for bar, noise in zip(ROWS[:50], ROWS[200:250], strict=True):
        interleaved.append(EVERY.step(bar, mine))
        EVERY.step(noise, other)
    assert_array_equal(np.array(interleaved), EVERY.scan(ROWS[:50]))


def test_each_feature_is_the_same_alone_and_among_others():
    together = EVERY.scan(ROWS[:100])
    alone = np.column_stack([column(name, ROWS[:100]) for name in EVERY.names])
    assert_array_equal(alone, together)


@pytest.mark.parametrize("name", EVERY.names)
def test_after_the_warm_up_older_bars_hardly_matter(name):
    features = FeatureSet([name])
    rows = layout(ROWS, features)
    late = features.scan(rows[500:])  # history before row 500 is unknown here
    known = features.scan(rows)[500:]
    spread = known.std()
    assert np.abs(late - known)[features.warmup :].max() <= 0.05 * spread


def test_warmup_is_that_of_the_longest_feature():
    assert FeatureSet(["range", "hour_sin"]).warmup == 0
    assert FeatureSet(["range", "return:21", "log_return"]).warmup == 21
    assert FeatureSet(["return:21", "ewm_volatility:10"]).warmup == 30


def test_any_memory_layout_and_number_type_gives_the_same_values():
    whole = ROWS[:30].astype(np.float32)
    assert_array_equal(EVERY.scan(np.asfortranarray(whole)), EVERY.scan(whole.astype(np.float64)))
    assert_array_equal(EVERY.scan(ROWS[:60:2]), EVERY.scan(ROWS[:60:2].copy()))


# --- names


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("macd", "unknown feature 'macd': use one of log_return"),
        ("", "unknown feature ''"),
        ("ewm_volatility", "must be written ewm_volatility:BARS"),
        ("return:0", "must be written return:BARS"),
        ("return:-3", "must be written return:BARS"),
        ("return:1h", "must be written return:BARS"),
        ("return:99999999999999999999", "must be written return:BARS with 1 to 999999 bars"),
        ("week_sin:0", "must be written week_sin:TIMES"),
        ("range:5", "must be written range alone"),
        ("range:", "must be written range alone"),
        ("column", "must be written column:NAME"),
        ("column:", "must be written column:NAME"),
    ],
)
def test_a_wrong_name_is_refused_with_the_known_ones(name, complaint):
    with pytest.raises(FeatureError) as error:
        FeatureSet(["range", name])
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_the_extra_columns_are_those_that_features_name_in_their_order():
    features = FeatureSet(["column:b", "range", "column:a"])
    assert features.columns == ("b", "a")
    bar = np.array([0.0, 1, 2, 0.5, 1, 0, 7, 8])
    assert features.step(bar, features.initial_state()).tolist() == [7.0, np.log(2) - np.log(0.5), 8.0]


def test_no_names_and_repeated_names_are_refused():
    with pytest.raises(FeatureError, match="no features"):
        FeatureSet([])
    with pytest.raises(FeatureError, match="named twice"):
        FeatureSet(["range", "range"])


def test_bars_and_states_of_another_shape_are_refused():
    features = FeatureSet(["range"])
    with pytest.raises(FeatureError, match="give close_time_s open high low close volume for"):
        features.scan(ROWS)
    with pytest.raises(FeatureError, match="do not fit"):
        features.step(ROWS[:, :6], features.initial_state())
    with pytest.raises(FeatureError, match="state of shape"):
        features.step(ROWS[0, :6], EVERY.initial_state())


@pytest.mark.parametrize("timeframe", ["1m", "5m", "15m", "1h", "4h", "12h", "1d", "1w"])
def test_default_features_fit_every_timeframe(timeframe):
    features = FeatureSet(default_features(parse_timeframe(timeframe)))
    assert {"log_return", "range", "garman_klass"} < set(features.names)
    assert sum(name.startswith("return:") for name in features.names) >= 2
    assert sum(name.startswith("ewm_volatility:") for name in features.names) == 2
    assert ("hour_sin" in features.names) == (timeframe not in ("1d", "1w"))


# --- scale


@given(arrays(float, st.tuples(st.integers(1, 30), st.integers(1, 5)), elements=st.floats(-1e6, 1e6)))
@settings(deadline=None)
def test_normalizer_gives_one_row_the_same_bits_as_the_matrix(matrix):
    normalizer = Normalizer.fit(matrix)
    whole = normalizer(matrix)
    assert whole.dtype == np.float64
    assert np.abs(whole).max() <= normalizer.clip
    assert_array_equal(np.array([normalizer(row) for row in matrix]), whole)


def test_normalizer_standardizes_the_training_matrix_and_clips():
    matrix = EVERY.scan(ROWS)
    z = Normalizer.fit(matrix, clip=100.0)(matrix)
    varying = matrix.std(axis=0) > 0
    assert_allclose(z.mean(axis=0), 0, atol=1e-9)
    assert_allclose(z.std(axis=0)[varying], 1, rtol=1e-9)
    assert Normalizer((0.0,), (1.0,), 8.0)(np.array([1e9])) == [8.0]


@pytest.mark.parametrize("value", [0.1, 1e9 / 3, -7.0])
def test_normalizer_leaves_a_constant_feature_at_zero(value):
    normalizer = Normalizer.fit(np.full((1000, 1), value))
    assert normalizer.std == (1.0,)
    assert normalizer(np.array([value])) == [0.0]


def test_normalizer_survives_its_dictionary():
    normalizer = Normalizer.fit(EVERY.scan(ROWS))
    assert Normalizer.from_dict(normalizer.to_dict()) == normalizer


@pytest.mark.parametrize("matrix", [np.empty((0, 3)), np.ones(3), np.array([[1.0, np.nan]])])
def test_normalizer_refuses_what_it_cannot_measure(matrix):
    with pytest.raises(FeatureError, match="finite rows"):
        Normalizer.fit(matrix)
