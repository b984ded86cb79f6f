"""How Bybit describes a market: its rules (instruments-info) and its ticker."""

from typing import Any

from hissbt.feeds.replay.chart import Chart
from hissbt.feeds.replay.numbers import number_text
from hissbt.feeds.replay.series import Series

_DAY_MS = 86_400_000
_HOUR_MS = 3_600_000


def spot_instrument(series: Series, now_ms: int) -> dict[str, Any]:
    """Return the rules of a spot market, which do not change with time."""
    step = number_text(series.quantity_step)
    return {
        "symbol": series.symbol,
        "baseCoin": series.base,
        "quoteCoin": series.quote,
        "innovation": "0",
        "status": "Trading",
        "marginTrading": "none",
        "lotSizeFilter": {
            "basePrecision": step,
            "quotePrecision": "0.00000001",
            "minOrderQty": number_text(series.min_quantity),
            "maxOrderQty": "1000000",
            "minOrderAmt": number_text(series.min_notional),
            "maxOrderAmt": "100000000",
        },
        "priceFilter": {"tickSize": number_text(series.tick)},
    }


def contract(series: Series, now_ms: int) -> dict[str, Any]:
    """Return the rules of a perpetual future, with the time between its last funding events."""
    linear = series.category == "linear"
    least, tick = number_text(series.min_quantity), number_text(series.tick)
    lots = {
        "maxOrderQty": "1000000",
        "minOrderQty": least,
        "qtyStep": number_text(series.quantity_step),
        "postOnlyMaxOrderQty": "1000000",
        "maxMktOrderQty": "1000000",
    }
    return {
        "symbol": series.symbol,
        "contractType": "LinearPerpetual" if linear else "InversePerpetual",
        "status": "Trading",
        "baseCoin": series.base,
        "quoteCoin": series.quote,
        "launchTime": str(series.charts["trade"].first_open_ms),
        "deliveryTime": "0",
        "deliveryFeeRate": "",
        "priceScale": str(series.charts["trade"].decimals),
        "leverageFilter": {
            "minLeverage": "1",
            "maxLeverage": number_text(series.max_leverage),
            "leverageStep": "0.01",
        },
        "priceFilter": {"minPrice": tick, "maxPrice": "99999999", "tickSize": tick},
        "lotSizeFilter": lots | ({"minNotionalValue": number_text(series.min_notional)} if linear else {}),
        "unifiedMarginTrade": True,
        "fundingInterval": series.funding_minutes(now_ms),
        "settleCoin": series.quote if linear else series.base,
    }


def ticker(series: Series, now_ms: int) -> dict[str, Any]:
    """Return a ticker: the last price is the forming candle's, and the last day ends now."""
    chart = series.charts["trade"]
    last, hour_ago, day_ago = (_price_at(chart, now_ms - ago) for ago in (0, _HOUR_MS, _DAY_MS))
    high, low, volume, turnover = _last_day(chart, now_ms)
    price, size = number_text(last), number_text(series.quantity_step)
    prices = {
        "symbol": series.symbol,
        "lastPrice": price,
        "prevPrice24h": number_text(day_ago),
        "price24hPcnt": number_text(round(last / day_ago - 1, 6)),
        "highPrice24h": number_text(high),
        "lowPrice24h": number_text(low),
        "turnover24h": number_text(turnover),
        "volume24h": number_text(volume),
        "bid1Price": price,
        "bid1Size": size,
        "ask1Price": number_text(round(last + series.tick, 10)),
        "ask1Size": size,
    }
    if series.category == "spot":
        return prices | {"usdIndexPrice": ""}
    times_ms, rates = series.funding_events
    coming = int(times_ms.searchsorted(now_ms, side="right"))
    return prices | {
        "indexPrice": number_text(_price_at(series.charts["index"], now_ms)),
        "markPrice": number_text(_price_at(series.charts["mark"], now_ms)),
        "prevPrice1h": number_text(hour_ago),
        "openInterest": "0",
        "openInterestValue": "0",
        # The coming rate is not known yet: the one before it stands in for Bybit's estimate.
        "fundingRate": number_text(float(rates[coming - 1])) if coming else "",
        "nextFundingTime": str(times_ms[coming]) if coming < len(times_ms) else "0",
        "predictedDeliveryPrice": "",
        "basisRate": "",
        "deliveryFeeRate": "",
        "deliveryTime": "0",
    }


def _price_at(chart: Chart, moment_ms: int) -> float:
    """Return the last price that was traded until a moment, or the first open if there was none."""
    candles = chart.own
    row = int(candles.opens_ms.searchsorted(moment_ms, side="right")) - 1
    if row < 0:
        return float(candles.values[0, 0])
    if candles.closes_ms[row] > moment_ms:
        return float(chart.forming_own(row, moment_ms)[3])
    return float(candles.values[row, 3])


def _last_day(chart: Chart, now_ms: int) -> tuple[float, float, float, float]:
    """Return high, low, volume and turnover of the candles that ended within the last day or are forming."""
    candles = chart.own
    first = int(candles.closes_ms.searchsorted(now_ms - _DAY_MS, side="right"))
    last = int(candles.opens_ms.searchsorted(now_ms, side="right"))
    values = candles.values[first:last].copy()
    if len(values) == 0:
        price = _price_at(chart, now_ms)
        return price, price, 0.0, 0.0
    if candles.closes_ms[last - 1] > now_ms:
        values[-1] = chart.forming_own(last - 1, now_ms)
    high, low, volume, turnover = values[:, 1].max(), values[:, 2].min(), values[:, 4].sum(), values[:, 5].sum()
    return float(high), float(low), round(float(volume), 8), round(float(turnover), 8)
