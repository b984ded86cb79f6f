import pytest

from hissbt.feeds.venues import BYBIT, category, venue
from hissbt.market import Market


@pytest.mark.parametrize(
    ("symbol", "expected"),
    [
        ("BTC/USDT", "spot"),
        ("BTC/USDT:USDT", "linear"),
        ("BTC/USDC:USDC", "linear"),
        ("BTC/USD:BTC", "inverse"),
        ("BTC/USDT:USDT-251226", "linear"),
        ("BTC/USD:BTC-251226", "inverse"),
    ],
)
def test_a_symbol_tells_its_category(symbol, expected):
    assert category(symbol) == expected


def test_bybit_loads_only_the_markets_of_the_categories_asked_for():
    assert BYBIT.options(("linear",)) == {"fetchMarkets": {"types": ["linear"]}}
    assert venue("binance").options(("linear",)) == {}


def test_the_fees_of_a_perpetual_on_bybit_are_those_that_a_market_has_by_default():
    assert BYBIT.fees["linear"] == (Market("X").taker, Market("X").maker)
