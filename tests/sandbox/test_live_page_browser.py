"""The live page in a headless browser."""

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import sys

import aiohttp
import httpx
import pytest
from support.waiting import until

from iovox_async.sandbox import Faults, Sandbox
from iovox_async.sandbox.live.page import add_live_page, page_url

START, END = "2024-03-01", "2024-03-10"


@contextlib.asynccontextmanager
async def page(sandbox, **options):
    """Serves a sandbox with a page, and returns a client for the page."""
    add_live_page(sandbox, **{"arrival_interval": 0.02, "poll_interval": 0.02, **options})
    async with sandbox.serve() as base_url:
        async with httpx.AsyncClient(
            verify=False, base_url=page_url(base_url), trust_env=False, timeout=30
        ) as client:
            yield client


BROWSER = next(
    filter(
        None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))
    ),
    None,
)
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--disable-extensions", "--mute-audio", "--remote-debugging-port=0"),
)


class Tab:
    """One tab of a headless browser, over the DevTools protocol."""

    def __init__(self, socket):
        self._socket = socket
        self._numbers = itertools.count(1)
        self._waiting = {}
        self._loaded = asyncio.Event()
        self._address = "about:blank"
        self.console_errors = []

    async def listen(self):
        async for frame in self._socket:
            message = json.loads(frame.data)
            if "id" in message:
                self._waiting.pop(message["id"]).set_result(message)
                continue
            parameters = message["params"]
            if message["method"] == "Page.frameNavigated":
                self._address = parameters["frame"]["url"]
            elif message["method"] == "Page.loadEventFired" and self._address != "about:blank":
                self._loaded.set()
            elif message["method"] == "Runtime.exceptionThrown":
                self.console_errors.append(parameters["exceptionDetails"])
            elif message["method"] == "Runtime.consoleAPICalled" and parameters["type"] in {
                "error",
                "warning",
            }:
                self.console_errors.append(parameters["args"])
            elif message["method"] == "Log.entryAdded" and parameters["entry"]["level"] in {
                "error",
                "warning",
            }:
                self.console_errors.append(parameters["entry"])

    async def call(self, method, **parameters):
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        message = await self._waiting[number]
        assert "error" not in message, (method, message)
        return message["result"]

    async def run(self, script):
        """The value of an expression in the page."""
        message = await self.call(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in message, (script, message["exceptionDetails"])
        return message["result"].get("value")

    async def wait(self, script):
        """Waits until an expression is true, and returns its value."""
        try:
            async with asyncio.timeout(40):
                while not (value := await self.run(script)):
                    await asyncio.sleep(0.03)
        except TimeoutError:
            pytest.fail(f"did not become true in the page: {script}; console_errors: {self.console_errors}")
        return value

    async def open(self, url):
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        await self.call("Page.navigate", url=url)
        await self._loaded.wait()

    async def press(self, *keys):
        codes = {"Enter": 13, "Escape": 27, "End": 35, "Home": 36, "ArrowUp": 38, "ArrowDown": 40, "Tab": 9}
        codes |= {"ArrowLeft": 37, "ArrowRight": 39, "PageDown": 34}
        for key in keys:
            parameters = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
            text = {"text": "\r"} if key == "Enter" else {}
            await self.call("Input.dispatchKeyEvent", type="keyDown", **parameters, **text)
            await self.call("Input.dispatchKeyEvent", type="keyUp", **parameters)

    async def click(self, selector):
        # What is above it may still change its height; so it must be in the same place in two frames.
        place = await self.run(
            f"(async () => {{ const find = () => {{ const box = document.querySelector({selector!r}).getBoundingClientRect();"
            " return {x: box.x + box.width / 2, y: box.y + box.height / 2}; };"
            " let last, now = find(); do { last = now; await new Promise(requestAnimationFrame); now = find(); }"
            " while (now.x !== last.x || now.y !== last.y); return now; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)


@contextlib.asynccontextmanager
async def browse(folder, size="1280,860"):
    """Starts a browser with its profile in `folder`, and returns its tab."""
    process = await asyncio.create_subprocess_exec(
        BROWSER,
        *FLAGS,
        f"--user-data-dir={folder}",
        f"--window-size={size}",
        "about:blank",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        start_new_session=True,
    )
    ready = folder / "DevToolsActivePort"
    try:
        port = (await until(lambda: ready.exists() and ready.read_text().split()))[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as response:
                tabs = [tab for tab in await response.json(content_type=None) if tab["type"] == "page"]
            async with session.ws_connect(tabs[0]["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                tab = Tab(socket)
                listening = asyncio.create_task(tab.listen())
                try:
                    yield tab
                finally:
                    listening.cancel()
                    await asyncio.wait([listening])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


pytestmark = [
    pytest.mark.browser,
    pytest.mark.subprocess,
    pytest.mark.skipif(
        BROWSER is None or sys.platform == "win32",
        reason="Chromium is not installed (apt-get install chromium)",
    ),
]


async def test_given_a_browser_when_the_page_is_used_then_counts_events_and_a_transcription_are_shown(
    tmp_path,
):
    """Given a browser, when the page is loaded, clicked and used by keyboard, then it shows calls without console errors."""
    sandbox = Sandbox(calls=4_000, start=START, end=END)
    # Two calls with a known transcription, at the top of the list.
    talk = [{"phrases": [{"phrase": "<b>Is it still for sale?</b>", "speaker": "caller", "start": 900}]}]
    newest = {"call_start": f"{END} 23:59:59", "transcriptions": talk, "call_result": "ANSWERED"}
    newest["tags"] = [{"text": "x" * 300, "colour": "RED"}]
    sandbox.add([newest, {**newest, "call_start": f"{END} 23:59:58"}])
    async with (
        page(sandbox, arrival_interval=0.2, poll_interval=0.1) as client,
        browse(tmp_path / "profile") as tab,
    ):
        await tab.open(str(client.base_url))
        await tab.wait("document.documentElement.dataset.counted === 'yes'")
        # All calls are counted and drawn, and only visible rows are in the document.
        assert await tab.run("Number(document.querySelector('#total').textContent.replace(',', ''))") >= 4_002
        assert await tab.run("document.querySelectorAll('#bars path').length") == len(
            {row["call_result"] for row in sandbox.rows(fields=["call_result"])}
        )
        assert 0 < await tab.run("document.querySelectorAll('[role=option]').length") < 60
        # Inserted calls are shown at the top.
        await tab.wait("fresh.rows.length >= 2 && document.querySelector('.row.fresh') !== null")
        await tab.run("document.querySelector('#pause').click()")
        arrived = await tab.run("fresh.rows.length")
        assert await tab.run("total") == 4_002 + arrived
        # A click opens the transcription, as text.
        await tab.run("scroll.scrollTop = fresh.rows.length * ROW")
        opened = await tab.wait(f"(callAt({arrived}) || 0).id")
        await tab.wait(f"document.querySelector('#row-{arrived}') !== null")
        await tab.click(f"#row-{arrived}")
        assert await tab.wait("(document.querySelector('.talk .caller p') || 0).textContent") == (
            "<b>Is it still for sale?</b>"
        )
        assert str(opened) in await tab.run("document.querySelector('#call-title').textContent")
        # Long words are wrapped.
        assert await tab.run("$('call').scrollWidth <= $('call').clientWidth")
        # Down and Enter open the next call; Escape closes it, and the focus stays in the list.
        await tab.press("ArrowDown", "Enter")
        second = await tab.run(f"callAt({arrived + 1}).id")
        await tab.wait(f"document.querySelector('#call-title').textContent.includes('{second}')")
        assert await tab.run("scroll.getAttribute('aria-activedescendant')") == f"row-{arrived + 1}"
        await tab.wait("!document.querySelector('#call').ariaBusy")
        # The transcription can be focused and scrolled by keyboard.
        await tab.press("Tab", "Tab")
        assert await tab.run("document.activeElement.id") == "call"
        await tab.press("PageDown")
        await tab.wait("$('call').scrollTop > 0")
        await tab.press("Escape")
        assert await tab.run("document.querySelector('#detail').dataset.open") == "no"
        assert await tab.run("document.activeElement.id") == "scroll"
        # The end of the list is the oldest call.
        await tab.press("End")
        oldest = await tab.wait("length && callAt(length - 1) && callAt(length - 1).id")
        assert oldest == sandbox.ids()[0]
        # A day of the chart is selected by keyboard.
        await tab.run("document.querySelector('#plot').focus()")
        await tab.press("Home", "Enter")
        assert await tab.run("length") == len(sandbox.ids(START, START))
        assert "1 Mar" in await tab.run("document.querySelector('#plot').getAttribute('aria-valuetext')")
        assert tab.console_errors == []


async def test_given_a_browser_when_the_endpoint_fails_then_the_page_shows_it_and_can_retry(tmp_path):
    """Given a failing endpoint, when the page is loaded, then it shows the error, and its button retries."""
    sandbox = Sandbox(calls=100, start=START, end=END, faults=Faults(fail_after=0, kinds="302"))
    async with page(sandbox, arrival_interval=0) as client, browse(tmp_path / "profile", "420,800") as tab:
        await tab.open(str(client.base_url))
        await tab.wait("!document.querySelector('#trouble').hidden")
        assert "cannot be read" in await tab.run("document.querySelector('#trouble').innerText")
        sandbox.faults = Faults()
        await tab.run("document.querySelector('#trouble button').click()")
        await tab.wait("document.documentElement.dataset.counted === 'yes' && total === 100")
        assert await tab.run("document.querySelector('#trouble').hidden")
        # On a phone, a call fills the screen and has the focus, and the page behind it does not scroll.
        await tab.wait("(callAt(0) || 0).id && document.querySelector('#row-0') !== null")
        await tab.click("#row-0")
        await tab.wait("!$('call').ariaBusy && $('call').querySelector('.badge') !== null")
        assert await tab.run("document.activeElement.id") == "call"
        assert await tab.run("getComputedStyle(document.documentElement).overflowY") == "hidden"
        await tab.press("Escape")
        assert await tab.run("document.activeElement.id") == "scroll"
        assert await tab.run("getComputedStyle(document.documentElement).overflowY") == "visible"
        # Nothing is wider than a phone screen.
        assert await tab.run("document.documentElement.scrollWidth <= innerWidth")
        assert tab.console_errors == []
