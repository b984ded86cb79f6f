"""A headless Chromium that opens a page and tells what went wrong in it (DevTools protocol, no driver needed)."""

import asyncio
import base64
import itertools
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_OWN = ("file:", "data:", "blob:", "about:")
_SECONDS = 90


@dataclass
class Visit:
    """What a browser saw of a page."""

    value: object = None
    """What the asked-for expression came to."""
    errors: list[str] = field(default_factory=list)
    """Uncaught exceptions, console.error and what the browser itself complains of, such as a forbidden request."""
    requests: list[str] = field(default_factory=list)
    """Addresses outside of the page's own file that were asked for."""


def find_browser() -> str:
    """Return a Chromium's path; skip the test where there is none, or fail if HISSBT_BROWSER_REQUIRED is set."""
    found = next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        stop = pytest.fail if os.environ.get("HISSBT_BROWSER_REQUIRED") else pytest.skip
        stop(f"no browser: install one of {', '.join(_NAMES)}")
    return found


class Browser:
    """A browser that runs; each of its visits has a context of its own, without the state of any other."""

    def __init__(self, runner: asyncio.Runner, address: str):
        self._runner, self._address = runner, address

    def visit(
        self,
        page: Path,
        value: str = "null",
        *,
        width: int = 1280,
        dark: bool = False,
        screenshot: Path | None = None,
    ) -> Visit:
        """Open ``page`` and return what was seen once the JavaScript ``value`` has settled.

        ``width`` is in pixels, below 600 those of a phone. ``screenshot`` is where a picture of the whole page is
        written, however long.
        """
        seen = _visit(self._address, page, value, width, dark, screenshot)
        return self._runner.run(asyncio.wait_for(seen, _SECONDS))


@contextmanager
def browsing() -> Iterator[Browser]:
    """Start a headless Chromium, and end it afterwards."""
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process, address, silent = runner.run(asyncio.wait_for(_start(profile), _SECONDS))
        try:
            yield Browser(runner, address)
        finally:
            process.kill()
            runner.run(process.wait())
            silent.cancel()


async def _start(profile: str) -> tuple[asyncio.subprocess.Process, str, asyncio.Task]:
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
    options += ["--remote-debugging-port=0", f"--user-data-dir={profile}", "about:blank"]
    browser = await asyncio.create_subprocess_exec(
        find_browser(), *options, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    address = await _address(browser.stderr)
    silent = asyncio.create_task(browser.stderr.read())  # a full pipe would stop the browser
    return browser, address, silent


async def _visit(address, page, value, width, dark, screenshot) -> Visit:
    seen = Visit()
    async with _tab(address, seen) as ask:
        small = width < 600
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": small}
        await ask("Emulation.setDeviceMetricsOverride", **screen)
        await ask("Emulation.setTouchEmulationEnabled", enabled=small)
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await ask("Emulation.setEmulatedMedia", features=[theme])
        await ask("Page.navigate", url=page.resolve().as_uri())
        await ask.loaded.wait()
        found = await ask("Runtime.evaluate", expression=value, awaitPromise=True, returnByValue=True)
        seen.value = found["result"].get("value")
        # Errors of the last moment come before the next frame but one.
        frames = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
        await ask("Runtime.evaluate", expression=frames, awaitPromise=True)
        if screenshot:
            picture = await ask("Page.captureScreenshot", captureBeyondViewport=True, clip=await _whole(ask))
            screenshot.write_bytes(base64.b64decode(picture["data"]))
    return seen


async def _whole(ask) -> dict:
    size = (await ask("Page.getLayoutMetrics"))["cssContentSize"]
    return {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}


class _Tab:
    """Sends commands to one tab and notes what it reports."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, seen: Visit):
        self.loaded = asyncio.Event()
        self._socket, self._seen = socket, seen
        self._numbers, self._answers = itertools.count(1), {}
        self._session = {}

    async def open(self) -> None:
        context = await self("Target.createBrowserContext", disposeOnDetach=True)
        target = (await self("Target.createTarget", url="about:blank", **context))["targetId"]
        session = await self("Target.attachToTarget", targetId=target, flatten=True)
        self._session = {"sessionId": session["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self(f"{domain}.enable")

    async def __call__(self, method: str, **params) -> dict:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params, **self._session})
        reply = await answer
        assert "error" not in reply, f"{method}: {reply['error']}"
        return reply["result"]

    async def listen(self) -> None:
        async for message in self._socket:
            report = json.loads(message.data)
            if "id" in report:
                self._answers.pop(report["id"]).set_result(report)
            else:
                self._note(report["method"], report.get("params", {}))

    def _note(self, method: str, params: dict) -> None:
        if method == "Page.loadEventFired":
            self.loaded.set()
        elif method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self._seen.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
            words = (str(part.get("value", part.get("description", ""))) for part in params["args"])
            self._seen.errors.append(" ".join(words))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self._seen.errors.append(params["entry"]["text"])
        elif method == "Network.requestWillBeSent" and not params["request"]["url"].startswith(_OWN):
            self._seen.requests.append(params["request"]["url"])


@asynccontextmanager
async def _tab(address: str, seen: Visit):
    """Yield an open tab, which is gone together with all its state when the connection ends."""
    async with aiohttp.ClientSession() as http, http.ws_connect(address, max_msg_size=0) as socket:
        tab = _Tab(socket, seen)
        listening = asyncio.create_task(tab.listen())
        await tab.open()
        yield tab
        listening.cancel()


async def _address(stderr: asyncio.StreamReader) -> str:
    told = ""
    async for line in stderr:
        told += line.decode(errors="replace")
        if match := re.search(r"DevTools listening on (ws://\S+)", told):
            return match[1]
    raise AssertionError(f"the browser did not start: {told}")
