"""Generators: sound bars, the same for the same seed, blind to what follows, and each what it claims to be."""

import numpy as np
import pytest
from arch.data import sp500
from threadpoolctl import threadpool_limits

from hissbt.bars import Bars
from hissbt.candles import (
    CANDLE,
    GAP,
    LOG_RETURN,
    LOWER_WICK,
    UPPER_WICK,
    VOLUME_SURPRISE,
    candle_rows,
    next_closes,
    to_bars,
)
from hissbt.errors import BarsError, ConfigError
from hissbt.feeds import load_bars
from hissbt.market import Market
from hissbt.research.generators import RIVALS
from hissbt.research.generators.dress import dressed, mirrored
from hissbt.research.generators.source import source_rows
from hissbt.research.generators.volume import as_candles, with_steady_volume

N, BARS = 12, 100
EVERY = pytest.mark.parametrize("name", RIVALS)


def daily() -> Bars:
    """The S&P 500, 5,031 days."""
    frame = sp500.load().drop(columns="Adj Close")
    return Bars.from_frame(frame, market=Market("SP500", calendar="XNYS"), timeframe="1d")


DAILY = daily()
STORM = DAILY["2003-01-01":"2008-12-01"]  # ends in the wildest weeks
CALM = DAILY["2001-01-01":"2006-12-01"]  # ends in quiet ones


@pytest.fixture(scope="module")
def scenarios(hourly_bars) -> dict[str, np.ndarray]:
    """Scenarios of every generator: candle rows [N, BARS, 5]."""
    return {name: rival.generate(N, BARS, 7, hourly_bars) for name, rival in RIVALS.items()}


def autocorrelation(values: np.ndarray, lag: int) -> float:
    """Mean over paths [n,N] of the autocorrelation around the common mean."""
    centered = values - values.mean()
    return float((centered[:, lag:] * centered[:, :-lag]).mean() / (centered**2).mean())


def of_touched(rows: np.ndarray, offset: float, side: int) -> np.ndarray:
    """Return what a unit bought at an order's price earns until the close, for each bar that touches it.

    The order waits ``offset`` below the close before (side −1, a limit) or above it (side 1, a stop), and is
    filled at its price, or at the open beyond it.
    """
    rows = rows.reshape(-1, len(CANDLE))
    first, close = rows[:, GAP], rows[:, LOG_RETURN]
    high = np.maximum(first, close) + rows[:, UPPER_WICK] ** 2
    low = np.minimum(first, close) - rows[:, LOWER_WICK] ** 2
    touched = high >= offset if side > 0 else low <= -offset
    price = np.maximum(first, offset) if side > 0 else np.minimum(first, -offset)
    return np.expm1(close - price)[touched]


def errors_from_zero(values: np.ndarray) -> float:
    """Return the mean in standard errors."""
    return abs(values.mean()) / (values.std() / np.sqrt(values.size))


# --- what all of them promise


@EVERY
def test_every_scenario_becomes_bars_that_go_on_from_history(name, scenarios, hourly_bars):
    assert RIVALS[name].name == name
    rows = scenarios[name]
    assert rows.shape == (N, BARS, len(CANDLE))
    closes = next_closes(hourly_bars, BARS)
    last = hourly_bars.frame["close"].iloc[-1]
    for path in rows:
        bars = to_bars(path, CANDLE, hourly_bars, closes)
        assert bars.frame["open"].iloc[0] == pytest.approx(last * np.exp(path[0, GAP]))
        assert bars.missing == 0


@EVERY
def test_scenarios_differ_from_each_other(name, scenarios):
    finals = scenarios[name][:, :, LOG_RETURN].sum(axis=1)
    assert len(np.unique(finals)) == N


@EVERY
def test_the_same_seed_gives_the_same_bytes_whatever_the_number(name, scenarios, hourly_bars):
    assert RIVALS[name].generate(3, BARS, 7, hourly_bars).tobytes() == scenarios[name][:3].tobytes()
    assert RIVALS[name].generate(3, BARS, 8, hourly_bars).tobytes() != scenarios[name][:3].tobytes()


@EVERY
def test_the_number_of_threads_does_not_matter(name, scenarios, hourly_bars):
    with threadpool_limits(limits=2):
        assert RIVALS[name].generate(1, BARS, 7, hourly_bars).tobytes() == scenarios[name][:1].tobytes()


@EVERY
def test_what_follows_history_does_not_matter(name, hourly_bars):
    frame = hourly_bars.frame.copy()
    frame.iloc[400:] *= 1.03
    altered = Bars(frame, hourly_bars.market, hourly_bars.timeframe)
    known, other = (RIVALS[name].generate(2, 30, 1, bars[:400]) for bars in (hourly_bars, altered))
    assert known.tobytes() == other.tobytes()
    assert known.tobytes() != RIVALS[name].generate(2, 30, 1, altered[:410]).tobytes()


@EVERY
def test_bars_without_volume_are_followed_by_bars_without_volume(name, hourly_bars):
    frame = hourly_bars.frame.assign(volume=0.0)
    history = Bars(frame, hourly_bars.market, hourly_bars.timeframe)
    rows = RIVALS[name].generate(1, 20, 0, history)[0]
    assert (rows[:, VOLUME_SURPRISE] == 0).all()
    assert (to_bars(rows, CANDLE, history).frame["volume"] == 0).all()


@EVERY
def test_volume_stays_around_what_is_usual(name, hourly_bars):
    rows = RIVALS[name].generate(10, 1000, 3, hourly_bars)
    closes = next_closes(hourly_bars, 1000)
    usual = hourly_bars.frame["volume"].iloc[-720:].mean()
    for path in rows:
        late = to_bars(path, CANDLE, hourly_bars, closes).frame["volume"].iloc[-100:]
        assert 0.4 < late.mean() / usual < 2.5


@EVERY
def test_too_little_history_is_refused(name):
    with pytest.raises(BarsError, match="give at least 322 whose price moves"):
        RIVALS[name].generate(1, 10, 0, DAILY[:321])


def test_the_least_history_is_enough():
    assert len(source_rows(DAILY[:322])) == 250


@EVERY
def test_prices_that_never_move_are_refused(name, hourly_bars):
    frame = hourly_bars.frame.assign(open=5.0, high=5.0, low=5.0, close=5.0)
    with pytest.raises(BarsError, match="whose price moves"):
        RIVALS[name].generate(1, 10, 0, Bars(frame, hourly_bars.market, hourly_bars.timeframe))


@EVERY
@pytest.mark.parametrize(("n", "bars"), [(0, 10), (-1, 10), (1, 0)])
def test_no_scenarios_are_refused(name, n, bars, hourly_bars):
    with pytest.raises(ConfigError, match="give at least one of each"):
        RIVALS[name].generate(n, bars, 0, hourly_bars)


@EVERY
def test_scenarios_of_bitcoin_are_sound_bars(name, market_data):
    history = load_bars(market_data / "bybit_linear_BTCUSDT_1h.csv.gz")["2021-06-01":"2022-05-07"]
    closes = next_closes(history, 200)
    for path in RIVALS[name].generate(5, 200, 0, history):
        to_bars(path, CANDLE, history[-300:], closes)


# --- the bootstrap


def test_the_bootstrap_keeps_variance_and_size_of_the_real_returns():
    returns = RIVALS["bootstrap"].generate(200, 250, 0, DAILY)[..., LOG_RETURN]
    real = source_rows(DAILY)[:, LOG_RETURN]
    for statistic in (np.square, np.abs):
        by_path = statistic(returns).mean(axis=1)
        error = by_path.std() / np.sqrt(len(by_path))
        assert abs(by_path.mean() - statistic(real).mean()) < 4 * error


def test_the_bootstrap_is_made_of_whole_real_bars_in_long_runs():
    real = source_rows(DAILY)
    place = {row[:VOLUME_SURPRISE].tobytes(): t for t, row in enumerate(real)}
    rows = RIVALS["bootstrap"].generate(20, 500, 0, DAILY)
    places = np.array([[place[row[:VOLUME_SURPRISE].tobytes()] for row in path] for path in rows])
    onward = np.diff(places, axis=1) % len(real) == 1
    assert 0.9 < onward.mean() < 1.0
    assert autocorrelation(np.abs(rows[..., LOG_RETURN]), 1) > 0.1


# --- GARCH and Markov switching


@pytest.mark.parametrize("name", ["garch", "markov"])
def test_volatility_comes_in_waves_and_tails_are_heavy(name):
    returns = RIVALS[name].generate(100, 500, 0, STORM)[..., LOG_RETURN]
    error = 1 / np.sqrt(returns.size)
    assert autocorrelation(np.abs(returns), 1) > 10 * error
    assert autocorrelation(np.abs(returns), 10) > 5 * error
    assert (returns**4).mean() / (returns**2).mean() ** 2 > 4


@pytest.mark.parametrize("name", ["garch", "markov"])
def test_scenarios_begin_as_wild_as_history_ends(name):
    first = {
        "storm": RIVALS[name].generate(200, 5, 0, STORM)[..., LOG_RETURN].std(),
        "calm": RIVALS[name].generate(200, 5, 0, CALM)[..., LOG_RETURN].std(),
    }
    usual = source_rows(STORM)[:, LOG_RETURN].std()
    assert first["storm"] > 1.3 * usual
    assert first["calm"] < 0.8 * usual


# --- what bars of returns alone wear


def test_a_bar_upside_down_twice_is_itself():
    rows = source_rows(DAILY)
    turned = mirrored(rows)
    np.testing.assert_array_equal(turned[:, LOG_RETURN], -rows[:, LOG_RETURN])
    np.testing.assert_array_equal(turned[:, UPPER_WICK], rows[:, LOWER_WICK])
    np.testing.assert_array_equal(mirrored(turned), rows)


def test_returns_are_kept_and_the_rest_is_of_real_bars_of_the_same_rank():
    rows = source_rows(DAILY)
    size = np.abs(rows[:, LOG_RETURN])
    rows[:, UPPER_WICK] = rows[:, LOWER_WICK] = np.argsort(np.argsort(size, kind="stable")) / len(rows)
    returns = np.random.default_rng(0).standard_t(4, (1, 400)) * size.mean()
    made = dressed(returns, rows, DAILY, [np.random.default_rng(1)])[0]
    np.testing.assert_array_equal(made[:, LOG_RETURN], returns[0])
    scale = np.abs(returns).mean() / size.mean()
    rank = np.argsort(np.argsort(np.abs(returns[0]))) / returns.size
    np.testing.assert_allclose(made[:, UPPER_WICK] / np.sqrt(scale), rank, atol=1.01 / returns.size)


def test_real_returns_keep_their_gaps_and_scenarios_twice_as_wild_have_them_twice_as_wide():
    rows = source_rows(DAILY)
    rows[:, LOG_RETURN] += 1e-9 * np.arange(len(rows))  # no two of the same size

    def worn(returns: np.ndarray) -> np.ndarray:
        return dressed(returns[None], rows, DAILY, [np.random.default_rng(0)])[0]

    own, wild, turned = (worn(factor * rows[:, LOG_RETURN]) for factor in (1.0, 2.0, -1.0))
    np.testing.assert_allclose(own[:, :VOLUME_SURPRISE], rows[:, :VOLUME_SURPRISE], rtol=1e-12)
    np.testing.assert_allclose(wild[:, GAP], 2 * rows[:, GAP], rtol=1e-12)
    np.testing.assert_allclose(wild[:, LOWER_WICK] ** 2, 2 * rows[:, LOWER_WICK] ** 2, rtol=1e-12)
    np.testing.assert_allclose(turned[:, GAP], -rows[:, GAP], rtol=1e-12)
    np.testing.assert_allclose(turned[:, LOWER_WICK], rows[:, UPPER_WICK], rtol=1e-12)


def test_volume_of_a_bar_taken_singly_is_its_share_of_the_usual():
    history, volume = DAILY[:2000], DAILY.frame["volume"][:2000]
    usual = volume.ewm(span=720, adjust=True).mean()
    chosen = np.array([1900, 300, 1500])
    steady = with_steady_volume(candle_rows(history), history)
    made = as_candles(steady[None, chosen], history)[0]
    expected = usual.iloc[-1] * (volume / usual.shift(1)).iloc[chosen]
    np.testing.assert_allclose(to_bars(made, CANDLE, history).frame["volume"], expected, rtol=1e-9)


# --- the driftless null


@pytest.fixture(scope="module")
def null() -> np.ndarray:
    """Many driftless bars."""
    return RIVALS["null"].generate(400, 500, 0, DAILY)


def test_the_null_earns_nothing_from_close_to_close_nor_overnight_nor_within_the_bar(null):
    for move in (null[..., LOG_RETURN], null[..., GAP], null[..., LOG_RETURN] - null[..., GAP]):
        assert errors_from_zero(np.expm1(move)) < 4
    final = np.exp(null[..., LOG_RETURN].sum(axis=1)) - 1
    assert errors_from_zero(final) < 4


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("offset", [0.001, 0.003, 0.01, 0.03])
def test_the_null_earns_nothing_with_limits_and_stops(null, offset, side):
    assert errors_from_zero(of_touched(null, offset, side)) < 4


def test_real_bars_turned_at_random_would_pay_for_stops(null):
    rows = source_rows(DAILY)
    turned = np.where(np.random.default_rng(0).random((len(rows), 1)) < 0.5, mirrored(rows), rows)
    assert errors_from_zero(of_touched(turned, 0.003, 1)) > 4


def test_nothing_of_the_null_tells_the_next_bar(null):
    returns = null[..., LOG_RETURN]
    error = 1 / np.sqrt(returns.size)
    for values in (returns, np.abs(returns)):
        assert abs(autocorrelation(values, 1)) < 4 * error


def test_the_null_is_about_as_wild_as_the_real_market(null):
    real = source_rows(DAILY)[:, LOG_RETURN]
    assert 0.7 < null[..., LOG_RETURN].std() / real.std() < 1.4
    assert (null[..., LOG_RETURN] ** 4).mean() / (null[..., LOG_RETURN] ** 2).mean() ** 2 > 4
