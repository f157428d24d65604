"""The live page: what it is served, and what a browser makes of it."""

import asyncio
import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import sys
from collections import Counter
from datetime import date, timedelta

import aiohttp
import httpx
import pytest
from support.web import wait_until, wait_until_idle

from iovox_async import AsyncInsights, ConfigurationError
from iovox_async.cli.commands.sandbox import _add_live_page
from iovox_async.sandbox import Faults, Sandbox
from iovox_async.sandbox.live.page import STATE, add_live_page, page_url

START, END = "2024-03-01", "2024-03-10"


@contextlib.asynccontextmanager
async def page(sandbox, **options):
    """A client of the page of a sandbox that is being served."""
    add_live_page(sandbox, **{"arrival_interval": 0.02, "poll_interval": 0.02, **options})
    async with sandbox.serve() as base_url:
        async with httpx.AsyncClient(base_url=page_url(base_url), trust_env=False, timeout=30) as client:
            yield client


async def counts(client):
    """The lines of the counts."""
    return [json.loads(line) for line in (await client.get("live/counts")).text.splitlines()]


async def events(response):
    """The calls of an answer of server-sent events."""
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


# What the page is served.


async def test_the_page_is_one_file_that_loads_nothing_else():
    """No script, style, font or picture comes from anywhere, and a policy says so to the browser."""
    async with page(Sandbox(calls=0)) as client:
        answer = await client.get("")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"""(src|href)=["'](?!data:|#)|@import|url\((?!data:)""", answer.text)


async def test_the_endpoint_is_served_beside_the_page_as_before():
    """A sandbox with a page answers the same calls at the same address."""
    sandbox = Sandbox(calls=50, start=START, end=END)
    async with page(sandbox) as client:
        base = f"{client.base_url}rest/v1"
        async with AsyncInsights("demo", "demo-key", base_url=base) as insights:
            assert [call.id async for call in insights.stream(START, END)] == sandbox.ids(START, END)
        assert (await client.get("no/such/thing")).status_code == 404


async def test_calls_are_counted_by_hour_and_result():
    """The counts are those of the sandbox's own rows, newest hour first."""
    sandbox = Sandbox(calls=3_000, start=START, end=END)
    async with page(sandbox) as client:
        head, *lines, done = await counts(client)
    assert head == {
        "start": f"{START} 00:00:00",
        "end": f"{END} 23:59:59",
        "until": f"{END} 23:59:59",
        "arriving": True,
    }
    told = Counter()
    for line in lines:
        for hour, results in line["hours"].items():
            told.update({(hour, name): count for name, count in results.items()})
    truth = Counter((row["call_start"][:13], row["call_result"]) for row in sandbox.rows())
    assert told == truth
    hours = [hour for line in lines for hour in sorted(line["hours"], reverse=True)]
    assert hours == sorted(hours, reverse=True)
    assert done["done"] is True
    assert done["calls"] == 3_000


async def test_counts_that_break_off_say_so():
    """An outage in the middle ends the counts with what went wrong, and not as though they were whole."""
    sandbox = Sandbox(calls=100, start=START, end=END, faults=Faults(fail_after=0, kinds="302"))
    async with page(sandbox) as client:
        *_, last = await counts(client)
    assert last["error"] == "Unavailable"
    assert "done" not in last


async def test_the_rows_of_a_stretch_come_newest_first():
    """A stretch holds its own calls, with what a row of the list shows."""
    sandbox = Sandbox(calls=500, start=START, end=END)
    stretch = {"start": "2024-03-04 08:00:00", "end": "2024-03-04 15:59:59"}
    async with page(sandbox) as client:
        answer = await client.get("live/calls", params=stretch)
        wrong = await client.get("live/calls", params={"start": "someday", "end": END})
    rows = [json.loads(line) for line in answer.text.splitlines()]
    assert [row["id"] for row in rows] == sandbox.ids(*stretch.values())[::-1]
    truth = {row["id"]: row for row in sandbox.rows(*stretch.values())}
    assert all(row.items() <= truth[row["id"]].items() for row in rows)
    assert {"call_result", "call_origin", "talk_time_sec", "node_name"} <= rows[0].keys()
    assert wrong.status_code == 422


async def test_a_call_is_given_whole_with_its_dialogue():
    """Everything the sandbox knows of a call; one that is not there is a 404."""
    sandbox = Sandbox(calls=200, start=START, end=END)
    row = next(row for row in sandbox.rows() if row["transcriptions"])
    async with page(sandbox) as client:
        answer = await client.get(f"live/calls/{row['id']}")
        gone = await client.get("live/calls/12")
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json() == row
    assert answer.json()["transcriptions"][0]["phrases"]
    assert gone.status_code == 404
    assert "no such call" in gone.json()["detail"]


async def test_calls_arrive_as_events_while_a_page_is_open():
    """Each comes once, later than all before it; counts and events together are every call."""
    sandbox = Sandbox(calls=300, start=START, end=END)
    async with page(sandbox) as client:
        head, *_, done = await counts(client)
        since = head["until"].replace("03-10 23:59:59", "03-11 00:00:00")
        async with client.stream("GET", "live/events", params={"since": since}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            seen = [call async for call in _first(5, events(answer))]
        again, *_, more = await counts(client)
        assert more["calls"] == len(sandbox.ids(None, again["until"]))
    starts = [call["call_start"] for call in seen]
    assert starts == sorted(set(starts))
    assert done["calls"] == 300
    assert [call["id"] for call in seen] == sandbox.ids("2024-03-11")[:5]


async def _first(count, source):
    async with contextlib.aclosing(source):
        for _ in range(count):
            yield await anext(source)


async def test_a_page_that_closes_takes_its_requests_and_the_arrivals_with_it():
    """When nobody looks any more, nothing is asked, nothing arrives and nobody is counted as watching."""
    sandbox = Sandbox(calls=300, start=START, end=END)
    async with page(sandbox) as client:
        assert not sandbox.inserted_ids
        async with client.stream("GET", "live/events", params={"since": "2024-03-11"}) as answer:
            await anext(events(answer))
        await wait_until_idle(sandbox)


async def test_a_page_that_leaves_while_it_counts_ends_the_counting():
    """The pages that nobody will see are not asked for."""
    sandbox = Sandbox(calls=30_000, start=START, end=END, faults=Faults(latency=0.1))
    async with page(sandbox, arrival_interval=0) as client:
        async with client.stream("GET", "live/counts") as answer:
            lines = answer.aiter_lines()
            assert "until" in await anext(lines)
            assert "hours" in await anext(lines)
        await wait_until_idle(sandbox)
        assert sandbox.stats.rows < 30_000


async def test_an_open_page_does_not_hold_up_the_end():
    """The sandbox ends at once, whoever is still looking."""
    sandbox = Sandbox(calls=100, start=START, end=END)
    add_live_page(sandbox, arrival_interval=0.02, poll_interval=0.02)
    async with asyncio.timeout(20):
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            async with sandbox.serve() as base_url:
                request = client.build_request(
                    "GET", page_url(base_url) + "live/events", params={"since": "2024-03-11"}
                )
                answer = await client.send(request, stream=True)
                await anext(events(answer))
            with contextlib.suppress(httpx.TransportError):
                await answer.aclose()
    sandbox.close()


@pytest.mark.parametrize(
    ("end", "arrival_interval", "arriving"),
    [
        pytest.param("2024-03-10", 0.01, True, id="a-range-of-the-past"),
        pytest.param("2024-03-10", 0, False, id="arrivals-switched-off"),
        pytest.param(f"{date.today() + timedelta(days=9)}", 0.01, False, id="a-range-of-the-future"),
    ],
)
async def test_the_page_is_told_whether_calls_arrive(end, arrival_interval, arriving):
    """Where none can, the page does not wait for any."""
    async with page(Sandbox(calls=10, start=START, end=end), arrival_interval=arrival_interval) as client:
        head, *_ = await counts(client)
    assert head["arriving"] is arriving


async def test_one_sandbox_can_be_served_twice_and_each_page_reads_its_own_server():
    """Each server has a session of its own, in its own loop."""
    sandbox = Sandbox(calls=40, start=START, end=END)
    add_live_page(sandbox)
    async with sandbox.serve() as one, sandbox.serve() as two, httpx.AsyncClient(trust_env=False) as client:
        for base_url in (one, two):
            answer = await client.get(page_url(base_url) + "live/counts")
            assert json.loads(answer.text.splitlines()[-1])["calls"] == 40
    sandbox.close()


def test_a_second_page_and_impossible_times_are_refused():
    """One page a sandbox; times are times."""
    sandbox = Sandbox(calls=0)
    for wrong in ({"arrival_interval": -1}, {"poll_interval": 0}):
        with pytest.raises(ConfigurationError, match="must be"):
            add_live_page(sandbox, **wrong)
    add_live_page(sandbox)
    with pytest.raises(ConfigurationError, match="already"):
        add_live_page(sandbox)
    assert [route.name for route in sandbox.app.router.routes].count(STATE) == 1


# The command.


async def test_the_command_says_where_its_page_is():
    """`iovox sandbox` prints the address to stderr, and the page is there."""
    command = (sys.executable, "-m", "iovox_async.cli", "sandbox", "--calls", "30", "--arrival-interval", "0")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            while "in a browser" not in (line := (await process.stderr.readline()).decode()):
                assert line, "it ended without telling"
        url = line.split()[-1]
        async with httpx.AsyncClient(trust_env=False, base_url=url) as client:
            assert "<title>Live calls" in (await client.get("")).text
            head, *_, done = await counts(client)
    finally:
        process.kill()
        await process.communicate()
    assert head["arriving"] is False
    assert done["calls"] == 30


async def test_without_fastapi_the_command_serves_all_the_same_and_says_what_adds_the_page(monkeypatch):
    """The page is an extra of the sandbox, and no condition for it."""
    for name in [
        name
        for name in sys.modules
        if name.startswith(("iovox_async.integrations", "iovox_async.sandbox.live"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(sys.modules["iovox_async"], "integrations", raising=False)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    sandbox = Sandbox(calls=5, start=START, end=END)
    told = _add_live_page(sandbox, 1.0)("http://127.0.0.1:1/rest/v1")
    assert told == 'To see the calls in a browser, install: pip install "iovox-async[fastapi]"'
    async with sandbox.serve() as base_url, httpx.AsyncClient(trust_env=False) as client:
        assert (await client.get(page_url(base_url))).status_code == 404


# What a browser makes of it.

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
        self.complaints = []

    async def listen(self):
        async for message in self._socket:
            told = json.loads(message.data)
            if "id" in told:
                self._waiting.pop(told["id"]).set_result(told)
                continue
            given = told["params"]
            if told["method"] == "Page.frameNavigated":
                self._address = given["frame"]["url"]
            elif told["method"] == "Page.loadEventFired" and self._address != "about:blank":
                self._loaded.set()
            elif told["method"] == "Runtime.exceptionThrown":
                self.complaints.append(given["exceptionDetails"])
            elif told["method"] == "Runtime.consoleAPICalled" and given["type"] in {"error", "warning"}:
                self.complaints.append(given["args"])
            elif told["method"] == "Log.entryAdded" and given["entry"]["level"] in {"error", "warning"}:
                self.complaints.append(given["entry"])

    async def call(self, method, **given):
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": given})
        told = await self._waiting[number]
        assert "error" not in told, (method, told)
        return told["result"]

    async def run(self, script):
        """The value of an expression in the page."""
        told = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, (script, told["exceptionDetails"])
        return told["result"].get("value")

    async def wait(self, script):
        """The value of an expression as soon as it is true."""
        try:
            async with asyncio.timeout(40):
                while not (value := await self.run(script)):
                    await asyncio.sleep(0.03)
        except TimeoutError:
            pytest.fail(f"never came true in the page: {script}; complaints: {self.complaints}")
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
            given = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key]}
            text = {"text": "\r"} if key == "Enter" else {}
            await self.call("Input.dispatchKeyEvent", type="keyDown", **given, **text)
            await self.call("Input.dispatchKeyEvent", type="keyUp", **given)

    async def click(self, selector):
        place = await self.run(
            f"(() => {{ const box = document.querySelector({selector!r}).getBoundingClientRect();"
            " return {x: box.x + box.width / 2, y: box.y + box.height / 2}; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            await self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)


@contextlib.asynccontextmanager
async def browse(folder, size="1280,860"):
    """A tab of a browser that keeps all it writes in `folder`."""
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
        port = (await wait_until(lambda: ready.exists() and ready.read_text().split(), 60))[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                tabs = [tab for tab in await answer.json(content_type=None) if tab["type"] == "page"]
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


needs_browser = pytest.mark.skipif(
    BROWSER is None or sys.platform == "win32",
    reason="no Chromium is installed here (apt-get install chromium)",
)


@needs_browser
async def test_a_browser_shows_calls_arriving_and_a_dialogue_on_a_click(tmp_path):
    """Load, count, arrive, click, move by keyboard, filter by day: and the console stays empty."""
    sandbox = Sandbox(calls=4_000, start=START, end=END)
    # Two calls whose dialogue is known, at the top of the list.
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
        # Counted, drawn, and only what is on the screen is in the page.
        assert await tab.run("Number(document.querySelector('#total').textContent.replace(',', ''))") >= 4_002
        assert await tab.run("document.querySelectorAll('#bars path').length") == len(
            {row["call_result"] for row in sandbox.rows(fields=["call_result"])}
        )
        assert 0 < await tab.run("document.querySelectorAll('[role=option]').length") < 60
        # Calls arrive, at the top.
        await tab.wait("fresh.rows.length >= 2 && document.querySelector('.row.fresh') !== null")
        await tab.run("document.querySelector('#pause').click()")
        arrived = await tab.run("fresh.rows.length")
        assert await tab.run("total") == 4_002 + arrived
        # A click opens the dialogue, as text.
        await tab.run("scroll.scrollTop = fresh.rows.length * ROW")
        opened = await tab.wait(f"(callAt({arrived}) || 0).id")
        await tab.wait(f"document.querySelector('#row-{arrived}') !== null")
        await tab.click(f"#row-{arrived}")
        assert await tab.wait("(document.querySelector('.talk .caller p') || 0).textContent") == (
            "<b>Is it still for sale?</b>"
        )
        assert str(opened) in await tab.run("document.querySelector('#call-title').textContent")
        # However long a word is, it is wrapped.
        assert await tab.run("$('call').scrollWidth <= $('call').clientWidth")
        # The keys open one too: down, Enter; Escape closes and leaves the focus in the list.
        await tab.press("ArrowDown", "Enter")
        second = await tab.run(f"callAt({arrived + 1}).id")
        await tab.wait(f"document.querySelector('#call-title').textContent.includes('{second}')")
        assert await tab.run("scroll.getAttribute('aria-activedescendant')") == f"row-{arrived + 1}"
        await tab.wait("!document.querySelector('#call').ariaBusy")
        # The dialogue can be reached and scrolled by keyboard too.
        await tab.press("Tab", "Tab")
        assert await tab.run("document.activeElement.id") == "call"
        await tab.press("PageDown")
        await tab.wait("$('call').scrollTop > 0")
        await tab.press("Escape")
        assert await tab.run("document.querySelector('#detail').dataset.open") == "no"
        assert await tab.run("document.activeElement.id") == "scroll"
        # The very end of the list is the oldest call of all.
        await tab.press("End")
        oldest = await tab.wait("length && callAt(length - 1) && callAt(length - 1).id")
        assert oldest == sandbox.ids()[0]
        # A day of the chart, by keyboard.
        await tab.run("document.querySelector('#plot').focus()")
        await tab.press("Home", "Enter")
        assert await tab.run("length") == len(sandbox.ids(START, START))
        assert "1 Mar" in await tab.run("document.querySelector('#plot').getAttribute('aria-valuetext')")
        assert tab.complaints == []


@needs_browser
async def test_a_browser_told_of_an_outage_says_so_and_can_try_again(tmp_path):
    """What went wrong is shown in words; one button later all is there."""
    sandbox = Sandbox(calls=100, start=START, end=END, faults=Faults(fail_after=0, kinds="302"))
    async with page(sandbox, arrival_interval=0) as client, browse(tmp_path / "profile", "420,800") as tab:
        await tab.open(str(client.base_url))
        await tab.wait("!document.querySelector('#trouble').hidden")
        assert "cannot be read" in await tab.run("document.querySelector('#trouble').innerText")
        sandbox.faults = Faults()
        await tab.run("document.querySelector('#trouble button').click()")
        await tab.wait("document.documentElement.dataset.counted === 'yes' && total === 100")
        assert await tab.run("document.querySelector('#trouble').hidden")
        # A call takes the whole of a telephone, keys included, and the page behind it stays where it is.
        await tab.wait("(callAt(0) || 0).id && document.querySelector('#row-0') !== null")
        await tab.click("#row-0")
        await tab.wait("!$('call').ariaBusy && $('call').querySelector('.badge') !== null")
        assert await tab.run("document.activeElement.id") == "call"
        assert await tab.run("getComputedStyle(document.documentElement).overflowY") == "hidden"
        await tab.press("Escape")
        assert await tab.run("document.activeElement.id") == "scroll"
        assert await tab.run("getComputedStyle(document.documentElement).overflowY") == "visible"
        # Nothing is wider than a telephone.
        assert await tab.run("document.documentElement.scrollWidth <= innerWidth")
        assert tab.complaints == []
