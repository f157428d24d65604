"""The routes of the live page. See also `test_live_page_browser.py`."""

import asyncio
import contextlib
import json
import re
import sys
from collections import Counter
from datetime import date, timedelta

import httpx
import pytest
from support.waiting import until, until_idle

from iovox_async import AsyncInsights, ConfigurationError
from iovox_async.cli.commands.sandbox import _add_live_page
from iovox_async.sandbox import Faults, Sandbox
from iovox_async.sandbox.live import page as page_module
from iovox_async.sandbox.live.page import STATE, add_live_page, page_url

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


async def counts(client):
    """The lines of the response with the counts."""
    return [json.loads(line) for line in (await client.get("live/counts")).text.splitlines()]


async def events(response):
    """The calls of a response of server-sent events."""
    async for line in response.aiter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))


async def test_given_the_page_when_loaded_then_it_refers_to_no_other_resource():
    """Given the page, when it is loaded, then it refers to nothing else, and a content security policy enforces that."""
    async with page(Sandbox(calls=0)) as client:
        response = await client.get("")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert not re.search(r"""(src|href)=["'](?!data:|#)|@import|url\((?!data:)""", response.text)


async def test_given_a_live_page_when_the_endpoint_is_used_then_it_answers_as_before():
    """Given a sandbox with a page, when a client reads calls, then it gets the same calls at the same address."""
    sandbox = Sandbox(calls=50, start=START, end=END)
    async with page(sandbox) as client:
        base = f"{client.base_url}rest/v1"
        async with AsyncInsights("demo", "demo-key", base_url=base) as insights:
            assert [call.id async for call in insights.stream(START, END)] == sandbox.ids(START, END)
        assert (await client.get("no/such/thing")).status_code == 404


async def test_given_calls_when_counted_then_counts_are_those_of_the_rows_newest_first():
    """Given 3,000 calls, when they are counted, then the counts by hour and result are right, newest hour first."""
    sandbox = Sandbox(calls=3_000, start=START, end=END)
    async with page(sandbox) as client:
        head, *lines, done = await counts(client)
    assert head == {
        "start": f"{START} 00:00:00",
        "end": f"{END} 23:59:59",
        "until": f"{END} 23:59:59",
        "arriving": True,
    }
    counts_of_lines = Counter()
    for line in lines:
        for hour, results in line["hours"].items():
            counts_of_lines.update({(hour, name): count for name, count in results.items()})
    expected = Counter((row["call_start"][:13], row["call_result"]) for row in sandbox.rows())
    assert counts_of_lines == expected
    hours = [hour for line in lines for hour in sorted(line["hours"], reverse=True)]
    assert hours == sorted(hours, reverse=True)
    assert done["done"] is True
    assert done["calls"] == 3_000


async def test_given_a_failing_endpoint_when_counted_then_the_last_line_is_the_error():
    """Given an endpoint that fails, when calls are counted, then the last line has the error, and none has `done`."""
    sandbox = Sandbox(calls=100, start=START, end=END, faults=Faults(fail_after=0, kinds="302"))
    async with page(sandbox) as client:
        *_, last = await counts(client)
    assert last["error"] == "Unavailable"
    assert "done" not in last


async def test_given_a_range_when_its_rows_are_requested_then_they_come_newest_first():
    """Given a range, when its rows are requested, then they are returned newest first; an invalid date is 422."""
    sandbox = Sandbox(calls=500, start=START, end=END)
    period = {"start": "2024-03-04 08:00:00", "end": "2024-03-04 15:59:59"}
    async with page(sandbox) as client:
        response = await client.get("live/calls", params=period)
        invalid = await client.get("live/calls", params={"start": "someday", "end": END})
    rows = [json.loads(line) for line in response.text.splitlines()]
    assert [row["id"] for row in rows] == sandbox.ids(*period.values())[::-1]
    expected = {row["id"]: row for row in sandbox.rows(*period.values())}
    assert all(row.items() <= expected[row["id"]].items() for row in rows)
    assert {"call_result", "call_origin", "talk_time_sec", "node_name"} <= rows[0].keys()
    assert invalid.status_code == 422


async def test_given_a_call_when_requested_then_all_its_fields_are_returned():
    """Given a call with a transcription, when it is requested, then all fields are returned; an unknown id is 404."""
    sandbox = Sandbox(calls=200, start=START, end=END)
    row = next(row for row in sandbox.rows() if row["transcriptions"])
    async with page(sandbox) as client:
        response = await client.get(f"live/calls/{row['id']}")
        missing = await client.get("live/calls/12")
    assert response.headers["cache-control"] == "no-store"
    assert response.json() == row
    assert response.json()["transcriptions"][0]["phrases"]
    assert missing.status_code == 404
    assert "no such call" in missing.json()["detail"]


async def test_given_an_open_page_when_calls_are_inserted_then_each_is_one_event():
    """Given an open page, when calls are inserted, then each is sent once, and counts and events are all calls."""
    sandbox = Sandbox(calls=300, start=START, end=END)
    async with page(sandbox) as client:
        head, *_, done = await counts(client)
        since = head["until"].replace("03-10 23:59:59", "03-11 00:00:00")
        async with client.stream("GET", "live/events", params={"since": since}) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            seen = [call async for call in _first(5, events(response))]
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


async def test_given_an_open_page_when_it_closes_then_requests_and_inserts_end():
    """Given an open page, when it closes, then no more requests are sent and no more calls inserted."""
    sandbox = Sandbox(calls=300, start=START, end=END)
    async with page(sandbox) as client:
        assert not sandbox.inserted_ids
        async with client.stream("GET", "live/events", params={"since": "2024-03-11"}) as response:
            await anext(events(response))
        await until_idle(sandbox)


async def test_given_a_counting_page_when_it_closes_then_counting_ends(monkeypatch):
    """Given a page that counts, when it closes, then its requests are cancelled."""
    monkeypatch.setattr(page_module, "COUNT_PAGE_SIZE", 200)
    sandbox = Sandbox(calls=3_000, start=START, end=END, faults=Faults(fail_after=3, kinds="hang"))
    async with page(sandbox, arrival_interval=0) as client:
        async with client.stream("GET", "live/counts") as response:
            lines = response.aiter_lines()
            assert "until" in await anext(lines)
            assert "hours" in await anext(lines)
            await until(lambda: sandbox.stats.requests > 3)
        await until_idle(sandbox)
        assert sandbox.stats.abandoned


@pytest.mark.parametrize("version", ["2.3", "2.4"])
async def test_given_a_server_of_any_asgi_version_when_a_browser_disconnects_then_counting_ends(version):
    """Given a server of any version of ASGI, when the browser disconnects while nothing is sent, then counting ends."""
    ended, sent = asyncio.Event(), asyncio.Event()

    async def lines():
        try:
            yield b"{}"
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def receive():
        await sent.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message.get("body"):
            sent.set()

    scope = {"type": "http", "method": "GET", "asgi": {"version": "3.0", "spec_version": version}}
    await page_module._CountsResponse(lines())(scope, receive, send)
    assert ended.is_set()


async def test_given_an_open_page_when_the_sandbox_stops_then_it_stops_at_once():
    """Given an open page, when the sandbox stops, then it does not wait for the page."""
    sandbox = Sandbox(calls=100, start=START, end=END)
    add_live_page(sandbox, arrival_interval=0.02, poll_interval=0.02)
    async with asyncio.timeout(20):
        async with httpx.AsyncClient(verify=False, trust_env=False, timeout=30) as client:
            async with sandbox.serve() as base_url:
                request = client.build_request(
                    "GET", page_url(base_url) + "live/events", params={"since": "2024-03-11"}
                )
                response = await client.send(request, stream=True)
                await anext(events(response))
            with contextlib.suppress(httpx.TransportError):
                await response.aclose()
    sandbox.close()


@pytest.mark.parametrize(
    ("end", "arrival_interval", "arriving"),
    [
        pytest.param("2024-03-10", 0.01, True, id="a-range-of-the-past"),
        pytest.param("2024-03-10", 0, False, id="arrivals-switched-off"),
        pytest.param(f"{date.today() + timedelta(days=9)}", 0.01, False, id="a-range-of-the-future"),
    ],
)
async def test_given_a_range_and_interval_when_counted_then_arriving_says_whether_calls_are_inserted(
    end, arrival_interval, arriving
):
    """Given a past or future range, when calls are counted, then `arriving` says whether calls will be inserted."""
    async with page(Sandbox(calls=10, start=START, end=end), arrival_interval=arrival_interval) as client:
        head, *_ = await counts(client)
    assert head["arriving"] is arriving


async def test_given_two_servers_of_one_sandbox_when_counted_then_each_page_uses_its_own():
    """Given two servers, when each page counts, then each uses a client of its own server."""
    sandbox = Sandbox(calls=40, start=START, end=END)
    add_live_page(sandbox)
    async with (
        sandbox.serve() as one,
        sandbox.serve() as two,
        httpx.AsyncClient(verify=False, trust_env=False) as client,
    ):
        for base_url in (one, two):
            response = await client.get(page_url(base_url) + "live/counts")
            assert json.loads(response.text.splitlines()[-1])["calls"] == 40
    sandbox.close()


def test_given_invalid_intervals_or_a_second_page_when_added_then_it_is_an_error():
    """Given an interval out of range, or a second page, when it is added, then ConfigurationError is raised."""
    sandbox = Sandbox(calls=0)
    for invalid in ({"arrival_interval": -1}, {"poll_interval": 0}):
        with pytest.raises(ConfigurationError, match="must be"):
            add_live_page(sandbox, **invalid)
    add_live_page(sandbox)
    with pytest.raises(ConfigurationError, match="already"):
        add_live_page(sandbox)
    assert [route.name for route in sandbox.app.router.routes].count(STATE) == 1


# The command.


@pytest.mark.subprocess
async def test_given_the_sandbox_command_when_started_then_it_prints_the_address_of_the_page():
    """Given `iovox sandbox`, when it has started, then stderr has the address of the page, which works."""
    command = (sys.executable, "-m", "iovox_async.cli", "sandbox", "--calls", "30", "--arrival-interval", "0")
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(60):
            while "in a browser" not in (line := (await process.stderr.readline()).decode()):
                assert line, "the command ended without the address"
        url = next(word for word in line.split() if word.startswith("http"))
        async with httpx.AsyncClient(verify=False, trust_env=False, base_url=url) as client:
            assert "<title>Live calls" in (await client.get("")).text
            head, *_, done = await counts(client)
    finally:
        process.kill()
        await process.communicate()
    assert head["arriving"] is False
    assert done["calls"] == 30


async def test_given_no_fastapi_when_the_command_serves_then_it_says_how_to_install_the_page(monkeypatch):
    """Given FastAPI is missing, when the command adds the page, then it prints the command that installs it."""
    for name in [
        name
        for name in sys.modules
        if name.startswith(("iovox_async.integrations", "iovox_async.sandbox.live"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(sys.modules["iovox_async"], "integrations", raising=False)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    sandbox = Sandbox(calls=5, start=START, end=END)
    message = _add_live_page(sandbox, 1.0)("http://127.0.0.1:1/rest/v1")
    assert message == 'To see the calls in a browser, install: pip install "iovox-async[fastapi]"'
    async with sandbox.serve() as base_url, httpx.AsyncClient(verify=False, trust_env=False) as client:
        assert (await client.get(page_url(base_url))).status_code == 404
