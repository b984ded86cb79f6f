import asyncio
import json
from collections import Counter
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import ccxt.async_support
import pytest

from hissbt.bars import Bars
from hissbt.errors import ConfigError, FetchError
from hissbt.feeds.exchange import (
    ask,
    endpoint_of,
    load_markets,
    market_rules,
    network_of,
    open_client,
    server_time_ms,
)
from hissbt.market import Market

NOW_MS = 1_704_067_200_123
FAST = {"pause_s": 0.001, "patience_s": 5.0}


def envelope(code: int | str = 0, **changes) -> str:
    return json.dumps({"retCode": code, "retMsg": "", "result": {"timeNano": "1"}, "time": NOW_MS} | changes)


def http(body: str, status: str = "200 OK", length: int | None = None, header: str = "") -> bytes:
    length = len(body) if length is None else length
    return f"HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{header}\r\n{body}".encode()


@asynccontextmanager
async def exchange_that_says(*replies: bytes | None):
    """Yield a client of a server that says this, then that, and the last thing ever after; None is silence."""
    left = list(replies)

    async def converse(reader, writer):
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                reply = left.pop(0) if len(left) > 1 else left[0]
                if reply is None:
                    await reader.read()
                    return
                writer.write(reply)
                length = int(reply.partition(b"Content-Length: ")[2].split(b"\r\n")[0]) if reply else 1
                if len(reply.partition(b"\r\n\r\n")[2]) < length:
                    return  # a body cut in the middle
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        async with open_client("bybit", endpoint=f"http://127.0.0.1:{port}", timeout_s=0.3) as client:
            yield client
    finally:
        server.close()


def ask_for_the_time(*replies: bytes | None, **patience) -> int:
    async def work():
        async with exchange_that_says(*replies) as client:
            return await server_time_ms(client, **(FAST | patience))

    return asyncio.run(work())


PASSING = {
    "cut JSON": (http('{"retCode":0,'), "NetworkError"),
    "a proxy's page": (http("<html>hello</html>"), "NetworkError"),
    "nothing": (http(""), "NetworkError"),
    "null": (http("null"), "NetworkError"),
    "no result": (http(envelope(result=None)), "NetworkError"),
    "no time": (http(envelope(time=None)), "NetworkError"),
    "a body cut in the middle": (http(envelope()[:30], length=999), "ClientPayloadError"),
    "a dropped connection": (b"", "ExchangeNotAvailable"),
    "silence": (None, "RequestTimeout"),
    "429": (http("slow down", "429 Too Many Requests"), "RateLimitExceeded"),
    "500": (http("oops", "500 Internal Server Error"), "ExchangeNotAvailable"),
    "502": (http("<html>", "502 Bad Gateway"), "ExchangeNotAvailable"),
    "504": (http("", "504 Gateway Timeout"), "RequestTimeout"),
    "an unusual 5xx": (http(envelope(), "599 Odd"), "ExchangeNotAvailable"),
    "too many visits": (http(envelope(10006)), "RateLimitExceeded"),
    "too many visits, as text": (http(envelope("10006")), "RateLimitExceeded"),
    "too many visits of the address": (http(envelope(10018)), "RateLimitExceeded"),
    "the clock": (http(envelope(10002)), "InvalidNonce"),
    "a time-out inside": (http(envelope(10000)), "ExchangeNotAvailable"),
    "an error inside": (http(envelope(10016)), "ExchangeNotAvailable"),
    "too much frequency": (http(envelope(10429)), "RateLimitExceeded"),
}


@pytest.mark.parametrize(("reply", "reason"), PASSING.values(), ids=PASSING)
def test_what_passes_is_asked_for_again_and_counted(reply, reason):
    tally = Counter()
    assert ask_for_the_time(reply, reply, http(envelope()), tally=tally) == NOW_MS
    again = 1 if not reply and reply is not None else 2  # aiohttp repeats what a dropped connection left open
    assert tally == {"requests": 1 + again, reason: again}


@pytest.mark.parametrize(
    "reply",
    [
        http(envelope(10001)),
        http(envelope("10001")),
        http(envelope(10003)),
        http(envelope(110001)),
        http("no", "400 Bad Request"),
        http("no", "404 Not Found"),
    ],
    ids=["bad request", "bad request, as text", "bad key", "any other error", "400", "404"],
)
def test_what_does_not_pass_is_asked_for_once(reply):
    tally = Counter()
    with pytest.raises(FetchError, match="refused a request"):
        ask_for_the_time(reply, http(envelope()), tally=tally)
    assert tally == {"requests": 1}


def test_patience_ends_with_the_last_reason_and_advice():
    with pytest.raises(FetchError, match=r"within 0.05 s, the last time RateLimitExceeded.*fetch again"):
        ask_for_the_time(http(envelope(10006)), patience_s=0.05)


def test_a_pause_that_the_exchange_demands_is_honored():
    async def work():
        reply = http("", "429 Too Many Requests", header="Retry-After: 7\r\n")
        async with exchange_that_says(reply) as client:
            with pytest.raises(ccxt.RateLimitExceeded) as caught:
                await client.fetch_time()
            assert caught.value.retry_after_s == 7.0
            # Seven seconds are more than this patience has: it gives up instead of asking too early.
            tally = Counter()
            with pytest.raises(FetchError):
                await ask(client.fetch_time, pause_s=0.001, patience_s=1.0, tally=tally)
            assert tally["requests"] == 1

    asyncio.run(work())


def test_stock_ccxt_takes_a_page_that_is_no_json_for_an_empty_one():
    """The reason why our clients are strict; when this fails, ccxt has become so itself."""

    async def work():
        async with exchange_that_says(http("<html>")) as ours:
            stock = ccxt.async_support.bybit({"urls": ours.urls})
            stock.set_markets([_market(stock)])
            async with stock:
                return await stock.fetch_ohlcv("BTC/USDT:USDT", "1h")

    assert asyncio.run(work()) == []


def _market(client) -> dict:
    kind = {"type": "swap", "swap": True, "spot": False, "linear": True, "contract": True, "info": {}}
    names = {"id": "BTCUSDT", "symbol": "BTC/USDT:USDT", "base": "BTC", "quote": "USDT", "settle": "USDT"}
    return client.safe_market_structure(names | kind)


def test_every_reply_tells_the_exchanges_time():
    async def work():
        async with exchange_that_says(http(envelope())) as client:
            await client.public_get_v5_market_kline()
            return client.server_time_ms

    assert asyncio.run(work()) == NOW_MS


# --- where requests go


def addresses(urls: object) -> list[str]:
    if isinstance(urls, dict):
        return [address for value in urls.values() for address in addresses(value)]
    return [urls] if isinstance(urls, str) else []


@pytest.mark.parametrize("pro", [False, True], ids=["http", "websocket"])
@pytest.mark.parametrize("exchange", ["bybit", "binance", "okx"])
def test_with_an_endpoint_no_address_leads_anywhere_else(exchange, pro):
    client = open_client(exchange, endpoint="http://127.0.0.1:1234", pro=pro)
    found = [urlsplit(address) for name in ("api", "test") for address in addresses(client.urls.get(name))]
    assert {address.netloc for address in found} == {"127.0.0.1:1234"}
    assert {address.scheme for address in found} == ({"http", "ws"} if pro else {"http"})


def test_the_websocket_keeps_its_path():
    client = open_client("bybit", endpoint="http://127.0.0.1:1234", pro=True)
    assert client.urls["api"]["ws"]["public"]["linear"] == "ws://127.0.0.1:1234/v5/public/linear"


def test_without_endpoint_the_addresses_are_the_exchanges_own(monkeypatch):
    monkeypatch.delenv("HISSBT_BYBIT_ENDPOINT", raising=False)
    assert open_client("bybit").urls["api"] == ccxt.async_support.bybit().urls["api"]
    assert "testnet" in open_client("bybit", testnet=True).urls["api"]["public"]


def test_the_environment_names_an_endpoint_too(monkeypatch):
    monkeypatch.setenv("HISSBT_BYBIT_ENDPOINT", "ws://localhost:9/")
    assert endpoint_of("bybit") == "http://localhost:9"
    assert endpoint_of("bybit", "http://other") == "http://other"
    assert endpoint_of("binance") is None


def test_each_network_has_its_own_name(monkeypatch):
    monkeypatch.delenv("HISSBT_BYBIT_ENDPOINT", raising=False)
    assert network_of("bybit") == "mainnet"
    assert network_of("bybit", testnet=True) == "testnet"
    assert network_of("bybit", "http://127.0.0.1:8080") == "127_0_0_1_8080"


@pytest.mark.parametrize(
    "address", ["ftp://host", "host:80", "http://", "http://host/path", "http://a:secret@host", "http://host:x"]
)
def test_an_endpoint_that_is_no_plain_address_is_refused_without_being_shown(address):
    with pytest.raises(ConfigError, match="write it like http") as caught:
        endpoint_of("bybit", address)
    assert "secret" not in str(caught.value)


def test_requests_to_this_machine_need_no_rate_limit():
    assert not open_client("bybit", endpoint="http://localhost:1").enableRateLimit
    assert not open_client("bybit", endpoint="http://[::1]:1").enableRateLimit
    assert open_client("bybit", endpoint="http://example.com").enableRateLimit


def test_impossible_clients_are_refused():
    with pytest.raises(ConfigError, match="did you mean bybit"):
        open_client("bybitt")
    with pytest.raises(ConfigError, match="exclude each other"):
        open_client("bybit", endpoint="http://localhost:1", testnet=True)
    with pytest.raises(ConfigError, match="has no testnet"):
        open_client("bitstamp", testnet=True)


# --- markets


def test_a_market_has_the_rules_of_the_exchange_and_our_fees(replay, hourly_bars):
    stated = Market(
        "SP500",
        tick=0.5,
        quantity_step=0.01,
        min_quantity=0.02,
        min_notional=7.0,
        max_leverage=50.0,
    )
    server = replay(Bars(hourly_bars.frame, stated, "1h"))
    rules = asyncio.run(loaded(server.url, "BTC/USDT:USDT"))
    assert rules == Market(
        "BTC/USDT:USDT",
        tick=0.5,
        quantity_step=0.01,
        min_quantity=0.02,
        min_notional=7.0,
        max_leverage=50.0,
        taker=0.00055,
        maker=0.0002,
        contract="linear",
    )


def test_spot_costs_what_spot_costs(replay, hourly_bars):
    rules = asyncio.run(loaded(replay(hourly_bars, category="spot").url, "BTC/USDT"))
    assert (rules.contract, rules.taker, rules.maker) == ("spot", 0.001, 0.001)


def test_a_market_that_does_not_exist_is_refused_with_the_nearest_ones(replay, hourly_bars):
    server = replay(hourly_bars)
    with pytest.raises(ConfigError, match=r"no market 'BTC/USD:USDT': did you mean BTC/USDT:USDT"):
        asyncio.run(loaded(server.url, "BTC/USD:USDT"))


async def loaded(url: str, symbol: str) -> Market:
    async with open_client("bybit", endpoint=url) as client:
        await load_markets(client, [symbol], **FAST)
        return market_rules(client, symbol)
