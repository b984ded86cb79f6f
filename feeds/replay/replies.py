"""Replies as they leave the server: whole ones, and those that are none."""

import asyncio
import json
import random
from typing import Any

from aiohttp import web

from hissbt.feeds.replay.exchange import envelope

_CODES = {
    "code_10002": (10002, "invalid request, please check your server timestamp or recv_window param"),
    "code_10006": (10006, "Too many visits. Exceeded the API Rate Limit."),
    "code_10018": (10018, "Exceeded the IP Rate Limit."),
}
_SERVER_ERRORS = (500, 502, 503, 504)
_RETRY_AFTER = {"Retry-After": "0"}  # seconds, in whole numbers: what a test should wait


def json_reply(answer: dict[str, Any]) -> web.Response:
    """Return a whole reply."""
    return web.Response(text=json.dumps(answer, separators=(",", ":")), content_type="application/json")


async def bad_reply(
    fault: str, request: web.Request, now_ms: int, chance: random.Random, stopped: asyncio.Event
) -> web.StreamResponse:
    """Do what a fault of replies does; a hang lasts until the client goes away or the server stops."""
    if fault in _CODES:
        code, message = _CODES[fault]
        return json_reply(envelope({}, now_ms, code, message))
    if fault == "http_429":
        return web.Response(status=429, text="Too Many Requests", headers=_RETRY_AFTER)
    if fault == "http_5xx":
        return web.Response(status=chance.choice(_SERVER_ERRORS), text="<html>upstream</html>")
    if fault == "malformed":
        return web.Response(text='{"retCode":0,"retMsg":"OK","result":{"list":[[', content_type="application/json")
    if fault == "hang":
        await stopped.wait()
    if fault == "cut":
        await _begin(request)
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _begin(request: web.Request) -> None:
    """Send the head and the first part of a reply that promises more."""
    response = web.StreamResponse(headers={"Content-Type": "application/json", "Content-Length": "4096"})
    await response.prepare(request)
    await response.write(b'{"retCode":0,"retMsg":"OK","result":{"category":"linear","list":[["16')
