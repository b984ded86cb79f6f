"""The ccxt client of an exchange: made, pointed at an endpoint, strict about replies, asked with patience.

ccxt 4.5 takes a body that is no JSON (a proxy's page, a reply cut in the middle) for an empty reply: fetch_ohlcv
then returns no bars, load_markets no markets. The clients made here raise instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import ipaddress
import logging
import os
import random
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from hissbt.errors import ConfigError, FetchError
from hissbt.feeds.venues import BYBIT, CATEGORIES, category, venue
from hissbt.market import Market

if TYPE_CHECKING:
    from ccxt.async_support import Exchange

Answer = TypeVar("Answer")

_LOG = logging.getLogger(__name__)
_SILENT_S = 5.0  # so long a failing request is nobody's business

_LONGEST_PAUSE_S = 30.0
# Of the replies 4xx these say "not now": forbidden is Bybit's word for too many requests, 418 Binance's.
_NOT_NOW = (403, 408, 418, 425, 429)


class BadPage(FetchError):
    """A reply whose rows cannot all be true; to be asked for again."""


class _Strict:
    """Goes before a ccxt class: what is no reply of the exchange raises, and errors know how long to wait.

    ``server_time_ms`` is the exchange's clock when it sent the newest reply that told (0: none did).
    """

    server_time_ms = 0

    def handle_errors(self, code, reason, url, method, headers, body, response, *request) -> None:
        """Raise ccxt's error for a reply that is none; called by ccxt for every reply."""
        import ccxt

        try:
            super().handle_errors(code, reason, url, method, headers, body, response, *request)
            if 400 <= code < 500 and code not in _NOT_NOW:
                raise ccxt.BadRequest(f"{method} {url} was answered with {code} {reason}")
            self.handle_http_status_code(code, reason, url, method, body)
            if code >= 400:
                raise ccxt.ExchangeNotAvailable(f"{method} {url} was answered with {code} {reason}")
            self.check_reply(response, f"{method} {url} was answered with {body[:60]!r}")
        except ccxt.BaseError as error:
            error.retry_after_s = _retry_after_s(headers)
            raise

    def check_reply(self, reply: object, what: str) -> None:
        """Raise ccxt's NetworkError for a reply that is no JSON object or list."""
        import ccxt

        if not isinstance(reply, dict | list):
            raise ccxt.NetworkError(f"{what}, which is no JSON")


class _StrictBybit(_Strict):
    """Knows the envelope around every reply of Bybit: retCode, result, time."""

    def check_reply(self, reply: object, what: str) -> None:
        """Raise ccxt's NetworkError for a reply without result or time; note the time."""
        import ccxt

        super().check_reply(reply, what)
        try:
            complete = isinstance(reply["result"], dict)
            self.server_time_ms = int(reply["time"])
        except (KeyError, TypeError, ValueError):
            complete = False
        if not complete:
            raise ccxt.NetworkError(f"{what}, which lacks result or time")


def open_client(
    exchange: str,
    *,
    endpoint: str | None = None,
    testnet: bool = False,
    timeout_s: float = 10.0,
    pro: bool = False,
    types: tuple[str, ...] = CATEGORIES,
) -> Exchange:
    """Return a ccxt client without keys: of ccxt.async_support, or with ``pro`` of ccxt.pro. Close it.

    ``endpoint`` (or the environment's HISSBT_<EXCHANGE>_ENDPOINT) replaces scheme, host and port of every address,
    public or private, http or websocket, so that nothing goes to any other host. ``types`` are the categories
    whose markets are loaded. The rate limit is ccxt's for this exchange; an endpoint on this machine has none.
    Raises ConfigError for an exchange, endpoint or combination that is not possible.
    """
    import ccxt

    base = _base(exchange, pro)
    address = endpoint_of(exchange, endpoint)
    known = venue(exchange)
    strict = type(base.__name__, (_StrictBybit if exchange == BYBIT.exchange else _Strict, base), {})
    client = strict(
        {
            "timeout": round(timeout_s * 1000),
            "enableRateLimit": address is None or not _is_this_machine(address),
            "enableLastHttpResponse": False,
            "enableLastJsonResponse": False,
            "options": known.options(types),
            "exceptions": {"exact": {code: getattr(ccxt, name) for code, name in known.passing.items()}},
        }
    )
    if address is not None:
        if testnet:
            raise ConfigError(f"the endpoint {address} and the testnet exclude each other: leave one of them out")
        _point_at(client, address)
    elif testnet:
        if not client.urls.get("test"):
            raise ConfigError(f"{exchange} has no testnet that ccxt knows: leave --testnet out")
        client.set_sandbox_mode(True)
    return client


def _base(exchange: str, pro: bool) -> type:
    """Return ccxt's class of an exchange."""
    import ccxt.async_support
    import ccxt.pro

    module = ccxt.pro if pro else ccxt.async_support
    if exchange not in module.exchanges:
        near = difflib.get_close_matches(exchange, module.exchanges, 3) or ["bybit"]
        raise ConfigError(f"ccxt knows no exchange {exchange!r}: did you mean {', '.join(near)}?")
    return getattr(module, exchange)


def endpoint_of(exchange: str, endpoint: str | None = None) -> str | None:
    """Return scheme, host and port that replace the exchange's own: as stated, or as in the environment.

    The variable is HISSBT_BYBIT_ENDPOINT for bybit. A ws:// address means the http:// one. Raises ConfigError.
    """
    address = endpoint or os.environ.get(f"HISSBT_{exchange.upper()}_ENDPOINT")
    if not address:
        return None
    try:
        parts = urlsplit(address)
        scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
        plain = scheme in ("http", "https") and parts.hostname and parts.port != 0 and parts.path in ("", "/")
    except ValueError:
        plain = False
    if not plain or "@" in parts.netloc or parts.query or parts.fragment:
        # The address itself stays out of the message: it may hold a password.
        raise ConfigError(f"the endpoint of {exchange} is no plain address: write it like http://127.0.0.1:8080")
    return f"{scheme}://{parts.netloc}"


def network_of(exchange: str, endpoint: str | None = None, testnet: bool = False) -> str:
    """Return the name that a network's datasets go by: mainnet, testnet, or an endpoint's host and port."""
    address = endpoint_of(exchange, endpoint)
    if address is not None:
        return re.sub(r"[^a-z0-9]", "_", urlsplit(address).netloc.lower())
    return "testnet" if testnet else "mainnet"


def _is_this_machine(address: str) -> bool:
    host = urlsplit(address).hostname
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _point_at(client: Exchange, address: str) -> None:
    """Replace scheme, host and port of all the client's addresses; http stays http and websocket websocket."""
    for name in ("api", "test", "demotrading"):
        if name in client.urls:
            client.urls[name] = _moved(client.urls[name], address)
    if address.startswith("http:"):
        client.timeout_on_exit = 0  # ms, in which an encrypted connection says goodbye


def _moved(addresses: Any, address: str) -> Any:
    if isinstance(addresses, dict):
        return {name: _moved(value, address) for name, value in addresses.items()}
    if not isinstance(addresses, str):
        return addresses
    scheme, _, rest = addresses.partition("://")
    start = "ws" + address.removeprefix("http") if scheme.startswith("ws") else address
    _, slash, path = rest.partition("/")
    return start + slash + path


# --- asking


async def ask(
    call: Callable[..., Awaitable[Answer]],
    *arguments: Any,
    patience_s: float = 120.0,
    pause_s: float = 0.5,
    jitter: random.Random | None = None,
    tally: Counter[str] | None = None,
) -> Answer:
    """Await ``call(*arguments)``, again and again while it fails with what passes, for at most ``patience_s``.

    What passes: ccxt's OperationFailed (network, time-out, rate limit, 5xx, clock), bodies cut in the middle, and
    BadPage, which ``call`` may raise. The pauses begin at ``pause_s`` and double, with some ``jitter``; a
    Retry-After is honored. ``tally`` counts ``requests``, and the failures by their class. Raises FetchError for
    what does not pass, or not in time.
    """
    import ccxt

    tally = Counter() if tally is None else tally
    jitter = jitter or random.Random(0)
    began = time.monotonic()
    end, is_told = began + patience_s, False
    while True:
        tally["requests"] += 1
        try:
            return await call(*arguments)
        except (ccxt.BaseError, BadPage) as error:
            if not passes(error):
                raise FetchError(
                    f"the exchange refused a request: {_short(error)}; look at symbol, timeframe and span"
                ) from error
            tally[_reason(error)] += 1
            pause = max(pause_s * jitter.uniform(0.5, 1.5), getattr(error, "retry_after_s", 0.0))
            if time.monotonic() + pause > end:
                raise FetchError(
                    f"the exchange gave no good answer within {patience_s:g} s, the last time {_short(error)}: "
                    "look at the network, then fetch again, which continues where this stopped"
                ) from error
        if not is_told and time.monotonic() > began + _SILENT_S:
            _LOG.warning("no good answer from the exchange so far, asking for up to %g s", patience_s)
            is_told = True
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        await asyncio.sleep(pause)


def passes(error: Exception) -> bool:
    """Tell whether an error of ccxt goes away by itself."""
    import aiohttp
    import ccxt

    cut = isinstance(error.__cause__, aiohttp.ClientError) and not isinstance(error.__cause__, aiohttp.InvalidURL)
    return cut or isinstance(error, ccxt.OperationFailed | BadPage)


async def server_time_ms(client: Exchange, **patience: Any) -> int:
    """Return the exchange's clock, milliseconds since 1970; ``patience`` goes to ask().

    An exchange that does not tell its time has this machine's.
    """
    return await ask(told_time_ms, client, **patience)


async def told_time_ms(client: Exchange) -> int:
    """Ask for the exchange's clock once; see server_time_ms."""
    return await client.fetch_time() if client.has["fetchTime"] else client.milliseconds()


def _reason(error: Exception) -> str:
    """Return the class that says most: of a body cut in the middle aiohttp's, for ccxt has its general one."""
    import ccxt

    return type(error.__cause__ if type(error) is ccxt.ExchangeError else error).__name__


def _retry_after_s(headers: dict[str, str] | None) -> float:
    """Return the seconds of a Retry-After header; a date in it counts as none."""
    text = next((value for name, value in (headers or {}).items() if name.lower() == "retry-after"), "0")
    with contextlib.suppress(ValueError):
        return max(0.0, float(text))
    return 0.0


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


# --- markets


async def load_markets(client: Exchange, symbols: list[str], **patience: Any) -> None:
    """Load the client's markets; raises ConfigError if one of the symbols is none. ``patience`` goes to ask()."""
    await ask(client.load_markets, **patience)
    for symbol in symbols:
        if symbol not in client.markets:
            near = ", ".join(difflib.get_close_matches(symbol, client.markets, 3))
            advice = f"did you mean {near}?" if near else "write it as ccxt does, such as BTC/USDT:USDT"
            raise ConfigError(f"{client.id} has no market {symbol!r}: {advice}")


def market_rules(client: Exchange, symbol: str) -> Market:
    """Return the steps and limits of a market that is loaded, as the exchange states them.

    The fees are the ones that we know for this exchange, else Market's; ccxt's are out of date.
    """
    import ccxt

    market = client.markets[symbol]
    limits = market["limits"]
    kind = category(symbol)

    def step(value: float | None) -> float:
        if client.precisionMode == ccxt.TICK_SIZE:
            return value or 0.0
        return 10.0**-value if client.precisionMode == ccxt.DECIMAL_PLACES and value is not None else 0.0

    def limit(name: str, end: str) -> float:
        return (limits.get(name) or {}).get(end) or 0.0

    fees = venue(client.id).fees.get(kind)
    return Market(
        symbol,
        tick=step(market["precision"]["price"]),
        quantity_step=step(market["precision"]["amount"]),
        min_quantity=limit("amount", "min"),
        min_notional=limit("cost", "min"),
        max_leverage=limit("leverage", "max"),
        contract=kind,
        **({"taker": fees[0], "maker": fees[1]} if fees else {}),
    )
