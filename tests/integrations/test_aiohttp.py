"""aiohttp: a real application on a real socket, its client leaving included."""

import asyncio
import contextlib
import importlib
import json
import socket
import sys
import time
import typing

import aiohttp
import pytest
from aiohttp import web
from support.sessions import open_tasks, requests_in_flight
from support.web import END, START, at_rest, lines, sent, until

import iovox_async.integrations.aiohttp as door
from iovox_async import AsyncInsights, MissingExtraError, RetryPolicy, SessionError
from iovox_async.integrations import _streaming
from iovox_async.integrations.aiohttp import (
    INSIGHTS_KEY,
    error_middleware,
    get_insights,
    insights_ctx,
    ndjson_response,
    sse_response,
)
from iovox_async.sandbox import Faults, Sandbox


async def calls(request):
    ask = request.query
    stream = get_insights(request).stream(
        ask.get("start", START),
        ask.get("end", END),
        page_size=int(ask.get("size", 100)),
        resume=ask.get("resume"),
    )
    return await ndjson_response(request, stream)


async def events(request):
    stream = get_insights(request).stream(
        START, END, page_size=100, resume=request.headers.get("Last-Event-ID")
    )
    return await sse_response(request, stream, headers={"x-mine": "yes"})


async def ids(request):
    page = await get_insights(request).page(
        START, END, page_size=10, order=request.query.get("order", "id_ASC")
    )
    return web.json_response([call.id for call in page.calls])


async def follow(request):
    return await sse_response(request, get_insights(request).follow(START, interval=0.02))


def make_app(base_url, **options):
    """An application with one session, whose handlers stream, answer, and resume."""
    options = {"retry": RetryPolicy(max_attempts=1), **options}
    app = web.Application(middlewares=[error_middleware])
    app.cleanup_ctx.append(
        insights_ctx(lambda: AsyncInsights("demo", "demo-key", base_url=base_url, **options))
    )
    app.router.add_get("/calls", calls)
    app.router.add_get("/events", events)
    app.router.add_get("/ids", ids)
    app.router.add_get("/follow", follow)
    return app


@contextlib.asynccontextmanager
async def site(app, send_buffer=None):
    """Serves an application, and gives a client of it."""
    listener = socket.socket()
    if send_buffer:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    listener.bind(("127.0.0.1", 0))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        port = listener.getsockname()[1]
        connector = aiohttp.TCPConnector(limit=300)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", connector=connector) as client:
            client.port = port
            yield client
    finally:
        await runner.cleanup()


async def broken(client, path):
    """All that came before the connection broke, and whether it did."""
    got = b""
    async with client.get(path) as response:
        assert response.status == 200
        try:
            async for chunk in response.content.iter_any():
                got += chunk
        except aiohttp.ClientPayloadError:
            return got.decode(), True
    return got.decode(), False


async def test_a_range_comes_as_a_line_a_call():
    """Every call of the range, once, in order, as plain JSON."""
    sandbox = Sandbox(calls=700)
    with sandbox.serve() as url:
        async with site(make_app(url)) as client, client.get("/calls") as response:
            text = await response.text()
    assert response.status == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.headers["cache-control"] == "no-store"
    assert [call["id"] for call in lines(text)] == sandbox.ids()


async def test_an_empty_range_is_an_empty_answer():
    """No calls are no error."""
    with Sandbox(calls=3).serve() as url:
        async with site(make_app(url)) as client:
            async with client.get("/calls?start=2020-01-01&end=2020-01-02") as response:
                assert (response.status, await response.text()) == (200, "")


async def test_head_sends_headers_and_asks_for_no_call():
    """A HEAD is answered by a GET's handler, and only a GET costs a request."""
    sandbox = Sandbox(calls=10)
    with sandbox.serve() as url:
        async with site(make_app(url)) as client, client.head("/calls") as response:
            assert response.headers["content-type"] == "application/x-ndjson"
    assert sandbox.stats.requests == 0


async def test_the_session_lives_as_long_as_the_application_and_in_its_parts():
    """A sub-application uses the parent's session; at the end it is closed."""
    sandbox = Sandbox(calls=10)
    with sandbox.serve() as url:
        app, part = make_app(url), web.Application()
        part.router.add_get("/ids", ids)
        app.add_subapp("/part", part)
        async with site(app) as client, client.get("/part/ids") as response:
            assert len(await response.json()) == 10
            insights = app[INSIGHTS_KEY]
    with pytest.raises(SessionError, match="closed"):
        await insights.page(START, END)
    assert sandbox.stats.connections == 0


async def test_an_application_without_a_session_says_what_is_missing(caplog):
    """The client learns only that it is the service's fault, the log what to do."""
    app = web.Application(middlewares=[error_middleware])
    app.router.add_get("/ids", ids)
    async with site(app) as client, client.get("/ids") as response:
        assert (response.status, (await response.json())["error"]) == (500, "InternalError")
    assert "cleanup_ctx.append(insights_ctx())" in caplog.text


def test_annotations_resolve_at_runtime():
    """What others read while they run exists while they run."""
    for name in door.__all__:
        if name != "INSIGHTS_KEY":
            assert typing.get_type_hints(getattr(door, name))


def test_without_the_framework_the_message_holds_the_cure(monkeypatch):
    """One sentence, with the line that installs it."""
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    monkeypatch.delitem(sys.modules, door.__name__)
    with pytest.raises(MissingExtraError, match=r'pip install "iovox-async\[aiohttp\]"'):
        importlib.import_module(door.__name__)


# Errors.

FAULTS = {
    "500": (502, "ServerError"),
    "404": (502, "BadRequestError"),
    "302": (502, "Unavailable"),
    "garbage": (502, "DecodeError"),
    "reset": (502, "TransportError"),
    "hang": (504, "RequestTimeout"),
}
#: After these the session sends nothing for a while.
LASTING = {"401": (502, "Unavailable"), "403": (502, "Unavailable"), "429": (503, "RateLimitError")}


@pytest.mark.parametrize(("path", "last"), [("/ids", "401"), ("/calls", "429"), ("/events", "403")])
async def test_errors_before_the_first_call_are_answers_with_a_status(path, last, monkeypatch):
    """Each failure of the service has its answer, and none tells more than its name."""
    monkeypatch.setattr(_streaming.SSEFormat, "headers_timeout", 30.0)
    sandbox = Sandbox(calls=10)
    with sandbox.serve() as url:
        async with site(make_app(url, timeout=0.1)) as client:
            for kind, (status, name) in {**FAULTS, last: LASTING[last]}.items():
                sandbox.faults = Faults(fail_after=0, kinds=kind, retry_after=7)
                async with client.get(path) as response:
                    body = await response.json()
                    assert (response.status, body["error"]) == (status, name)
                    assert set(body) == {"error", "detail"}
                    assert response.headers.get("retry-after") == ("7" if kind == "429" else None)
                    for secret in ("demo", "key", "Unauthorized", url):
                        assert secret not in str(body)


async def test_a_wrong_question_is_422_with_its_parameter():
    """What the client asked wrongly, it is told."""
    with Sandbox(calls=1).serve() as url:
        async with site(make_app(url)) as client, client.get("/ids?order=shoe_size_ASC") as response:
            assert response.status == 422
            assert (await response.json())["parameter"] == "order"


async def test_an_error_amid_the_lines_is_the_last_line_and_no_clean_end():
    """A started answer that fails says so, breaks off, and tells where to go on: exactly there."""
    sandbox = Sandbox(calls=900, faults=Faults(fail_after=4))
    with sandbox.serve() as url:
        async with site(make_app(url)) as client:
            text, broke = await broken(client, "/calls")
            *some, last = lines(text)
            assert last["error"] == "ServerError"
            assert broke
            sandbox.faults = Faults()
            async with client.get("/calls", params={"resume": last["position"]}) as response:
                rest = lines(await response.text())
    assert some
    assert [call["id"] for call in some + rest] == sandbox.ids()


# Going away.


@pytest.mark.parametrize("path", ["/calls", "/events"])
async def test_a_client_that_leaves_ends_the_requests_made_for_it(path, caplog):
    """After a disconnect nothing more is asked for, the session serves others, and no error is logged."""
    sandbox = Sandbox(calls=4_000, faults=Faults(latency=0.01))
    with sandbox.serve() as url:
        app = make_app(url, concurrency=2)
        async with site(app) as client:
            async with client.get(path) as response:
                await response.content.readany()
                response.close()
            assert await at_rest(sandbox) < 30, "the whole range takes more than 40"
            await until(lambda: open_tasks(app[INSIGHTS_KEY]) == 0)
            async with client.get("/ids") as response:
                assert response.status == 200
    assert [record for record in caplog.records if record.name.startswith("aiohttp")] == []


async def test_a_client_that_leaves_while_the_service_hangs_is_noticed():
    """Nothing has to be written to learn that nobody reads."""
    sandbox = Sandbox(calls=900, faults=Faults(fail_after=3, kinds="hang"))
    with sandbox.serve() as url:
        app = make_app(url)
        async with site(app) as client:
            async with client.get("/calls") as response:
                await response.content.readany()
                await until(lambda: sandbox.stats.requests > 3)
                response.close()
            await until(lambda: not sandbox.stats.active_requests)
            assert sandbox.stats.abandoned >= 1
            await until(lambda: requests_in_flight(app[INSIGHTS_KEY]) == open_tasks(app[INSIGHTS_KEY]) == 0)


async def test_a_client_that_does_not_read_stops_the_requests():
    """Back-pressure reaches the service, through the application; a late disconnect still ends all."""
    sandbox = Sandbox(calls=6_000)
    with sandbox.serve() as url:
        app = make_app(url, concurrency=2)
        async with site(app, send_buffer=8192) as client:
            mute = socket.socket()
            mute.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            mute.connect(("127.0.0.1", client.port))
            mute.sendall(b"GET /calls HTTP/1.1\r\nHost: here\r\n\r\n")
            await until(lambda: sandbox.stats.requests)
            assert await at_rest(sandbox) < 20, "the whole range takes more than 60"
            mute.close()
            await until(lambda: open_tasks(app[INSIGHTS_KEY]) == 0)


# Server-sent events.


async def test_a_browser_that_reconnects_goes_on_exactly_where_it_was():
    """Last-Event-ID is the stream's position: nothing twice, nothing lost, whatever was cut."""
    sandbox = Sandbox(calls=400)
    with sandbox.serve() as url:
        async with site(make_app(url)) as client:
            async with client.get("/events") as response:
                first = sent(await response.text())
                assert response.headers["content-type"].startswith("text/event-stream")
                assert response.headers["x-mine"] == "yes"
            async with client.get("/events", headers={"Last-Event-ID": first[122]["id"]}) as response:
                again = sent(await response.text())
    assert first[-1] == {"event": "end", "data": "{}"}
    assert [json.loads(event["data"])["id"] for event in first[:-1]] == sandbox.ids()
    assert [json.loads(event["data"])["id"] for event in again[:-1]] == sandbox.ids()[123:]


async def test_an_error_amid_the_events_is_an_event():
    """A page can tell the end from a failure."""
    sandbox = Sandbox(calls=900, faults=Faults(fail_after=4))
    with sandbox.serve() as url:
        async with site(make_app(url)) as client:
            text, broke = await broken(client, "/events")
    *some, last = sent(text)
    assert broke
    assert last["event"] == "failure"
    assert json.loads(last["data"])["position"] == some[-1]["id"]


async def test_a_quiet_source_keeps_its_connection_alive(monkeypatch):
    """A page that follows is connected at once, and no proxy takes it for dead; new calls come at once."""
    monkeypatch.setattr(_streaming.SSEFormat, "headers_timeout", 0.01)
    monkeypatch.setattr(_streaming.SSEFormat, "heartbeat", 0.02)
    sandbox = Sandbox(calls=0)
    with sandbox.serve() as url:
        app = make_app(url)
        async with site(app) as client:
            async with client.get("/follow") as response:
                chunks = response.content.iter_any()
                assert await anext(chunks) == b": keep-alive\n\n"
                (new,) = sandbox.add([{"call_start": "2024-02-01 10:00:00"}])
                while not (found := sent((await anext(chunks)).decode())):
                    pass
                assert json.loads(found[0]["data"])["id"] == new
                response.close()
            await until(lambda: open_tasks(app[INSIGHTS_KEY]) == 0)
            assert await at_rest(sandbox)


async def test_an_application_that_ends_ends_its_streams(monkeypatch):
    """A client that follows does not outlive the application, nor does anything of the session."""
    monkeypatch.setattr(_streaming.SSEFormat, "headers_timeout", 0.01)
    with Sandbox(calls=10).serve() as url:
        app = make_app(url)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
        await runner.setup()
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        await web.SockSite(runner, listener).start()
        async with aiohttp.ClientSession() as client:
            async with client.get(f"http://127.0.0.1:{listener.getsockname()[1]}/follow") as response:
                await response.content.readany()
                insights = app[INSIGHTS_KEY]
                await runner.cleanup()
        assert open_tasks(insights) == requests_in_flight(insights) == 0


# Load.


async def test_two_hundred_requests_share_one_session_fairly():
    """All are served within the one limit, a long stream neither starves them nor starves, and the loop turns."""
    lag = []

    async def watch():
        while True:
            # The thread's own time, since this machine has other things to do.
            before = time.thread_time()
            await asyncio.sleep(0.01)
            lag.append(time.thread_time() - before)

    sandbox = Sandbox(calls=2_000, faults=Faults(latency=0.005))
    with sandbox.serve() as url:
        async with site(make_app(url)) as client:

            async def get(start, end, size):
                async with client.get(
                    "/calls", params={"start": start, "end": end, "size": size}
                ) as response:
                    assert response.status == 200
                    return [call["id"] for call in lines(await response.text())]

            watching = asyncio.create_task(watch())
            long = asyncio.create_task(get(START, "2024-02-29", 20))
            await until(lambda: sandbox.stats.requests > 10)
            days = [f"2024-03-{1 + n % 31:02d}" for n in range(200)]
            answers = await asyncio.gather(*(get(day, day, 500) for day in days))
            whole = await long
            watching.cancel()
    assert answers == [sandbox.ids(day, day) for day in days]
    assert whole == sandbox.ids(START, "2024-02-29")
    assert sandbox.stats.peak_active_requests <= 8
    assert sandbox.stats.failed == sandbox.stats.abandoned == 0
    short = ["start_date=2024-03" in request.query for request in sandbox.requests]
    first, last = short.index(True), len(short) - short[::-1].index(True)
    share = short[first:last].count(False) / (last - first)
    # A stream waits for one place at a time, and places are given in the order of asking: while anybody else waits, it
    # gets at most every second one.
    assert 0 < share < 0.5, "the long stream's share of the places while the others waited"
    # As a share, since how long anything takes is the machine's affair.
    assert max(lag) < 0.4 * sum(lag), "one turn's share of all that the loop did"
