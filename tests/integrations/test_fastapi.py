"""FastAPI: a real application on a real socket, its browser leaving included."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import socket
import sys
import threading
import time
import typing
from typing import Annotated

import httpx
import pytest
import uvicorn
from fastapi import FastAPI, Header, Request
from starlette.background import BackgroundTask
from support.sessions import open_tasks, requests_in_flight
from support.web import END, START, at_rest, lines, sent, until

import iovox_async.integrations.fastapi as door
from iovox_async import (
    AsyncInsights,
    BadRequestError,
    MissingExtraError,
    RateLimitError,
    RetryPolicy,
    SessionError,
)
from iovox_async.integrations import _streaming
from iovox_async.integrations._error_response import error_response
from iovox_async.integrations.fastapi import (
    InsightsDep,
    NDJSONResponse,
    SSEResponse,
    get_insights,
    insights_lifespan,
    install_error_handlers,
)
from iovox_async.sandbox import Faults, Sandbox

ONCE = RetryPolicy(max_attempts=1)


class Server(uvicorn.Server):
    """uvicorn, that ends as soon as it is told to."""

    async def main_loop(self):
        await self.on_tick(0)
        while not self.should_exit:
            await asyncio.sleep(0.005)


class Site:
    """An application served by a thread with a loop of its own."""

    def __init__(self, app, send_buffer=None):
        listener = socket.socket()
        if send_buffer:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
        listener.bind(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.server = Server(uvicorn.Config(app, log_config=None, lifespan="on", access_log=False))
        self.thread = threading.Thread(target=self.server.run, kwargs={"sockets": [listener]}, daemon=True)

    def __enter__(self):
        self.thread.start()
        while not self.server.started and self.thread.is_alive():
            time.sleep(0.002)
        return self

    def __exit__(self, *_):
        self.server.should_exit = True
        self.thread.join(10)
        assert not self.thread.is_alive(), "the server does not end"

    def client(self, **options):
        return httpx.AsyncClient(base_url=self.url, trust_env=False, **{"timeout": 30, **options})


def make_app(base_url, *, inner=None, **options):
    """An application with one session, whose endpoints stream, answer, and resume."""
    options = {"retry": ONCE, **options}
    app = FastAPI(
        lifespan=insights_lifespan(
            lambda: AsyncInsights("demo", "demo-key", base_url=base_url, **options), inner=inner
        )
    )
    install_error_handlers(app)

    @app.api_route("/calls", methods=["GET", "HEAD"])
    async def calls(
        insights: InsightsDep, start: str = START, end: str = END, size: int = 100, resume: str | None = None
    ) -> NDJSONResponse:
        app.state.insights = insights
        return NDJSONResponse(insights.stream(start, end, page_size=size, resume=resume))

    @app.get("/events")
    async def events(
        insights: InsightsDep, last_event_id: Annotated[str | None, Header()] = None
    ) -> SSEResponse:
        return SSEResponse(insights.stream(START, END, page_size=100, resume=last_event_id))

    @app.get("/ids")
    async def ids(insights: InsightsDep, order: str = "call_start_ASC") -> list[int]:
        return [call.id for call in (await insights.page(START, END, page_size=10, order=order)).calls]

    return app


# The session.


async def test_a_range_comes_as_a_line_a_call():
    """Every call of the range, once, in order, as plain JSON."""
    sandbox = Sandbox(calls=700)
    with sandbox.serve() as url, Site(make_app(url)) as site:
        async with site.client() as client:
            response = await client.get("/calls")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.headers["cache-control"] == "no-store"
    assert [call["id"] for call in lines(response.text)] == sandbox.ids()
    assert lines(response.text)[0].items() <= sandbox.rows()[0].items()


async def test_an_empty_range_is_an_empty_answer():
    """No calls are no error."""
    with Sandbox(calls=3).serve() as url, Site(make_app(url)) as site:
        async with site.client() as client:
            response = await client.get("/calls", params={"start": "2020-01-01", "end": "2020-01-02"})
    assert (response.status_code, response.text) == (200, "")


async def test_head_sends_headers_and_asks_for_no_call():
    """Only a GET costs a request."""
    sandbox = Sandbox(calls=10)
    with sandbox.serve() as url, Site(make_app(url)) as site:
        async with site.client() as client:
            response = await client.head("/calls")
    assert response.status_code == 200
    assert sandbox.stats.requests == 0


@pytest.mark.parametrize("way", ["inner", "outer"])
async def test_the_lifespan_goes_together_with_one_s_own(way):
    """Both states reach the endpoints, whichever lifespan is outside; both are closed at the end."""
    log = []
    seen = {}

    @contextlib.asynccontextmanager
    async def own(app):
        log.append("own begins")
        yield {"database": "here"}
        log.append("own ends")

    sandbox = Sandbox(calls=10)
    with sandbox.serve() as url:

        def make():
            return AsyncInsights("demo", "demo-key", base_url=url)

        @contextlib.asynccontextmanager
        async def outer(app):
            async with own(app) as state, insights_lifespan(make)(app) as ours:
                yield {**state, **ours}

        app = FastAPI(lifespan=insights_lifespan(make, inner=own) if way == "inner" else outer)

        @app.get("/")
        async def both(request: Request, insights: InsightsDep) -> list[str]:
            seen["insights"] = insights
            return [request.state.database, str(len((await insights.page(START, END)).calls))]

        with Site(app) as site:
            async with site.client() as client:
                assert (await client.get("/")).json() == ["here", "10"]
    assert log == ["own begins", "own ends"]
    with pytest.raises(SessionError, match="closed"):
        await seen["insights"].page(START, END)
    assert sandbox.stats.connections == 0


async def test_an_application_without_a_session_says_what_is_missing(caplog):
    """The client learns only that it is the service's fault, the log what to do."""
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/")
    async def page(insights: InsightsDep) -> str:
        return repr(insights)

    with Site(app) as site:
        async with site.client() as client:
            response = await client.get("/")
    assert response.status_code == 500
    assert response.json()["error"] == "InternalError"
    assert "lifespan=insights_lifespan()" in caplog.text
    assert "lifespan" not in response.text


def test_annotations_resolve_at_runtime():
    """What FastAPI and others read while they run exists while they run."""
    for name in door.__all__:
        thing = getattr(door, name)
        if callable(thing) and name != "InsightsDep":
            assert typing.get_type_hints(thing.__init__ if isinstance(thing, type) else thing)
    assert typing.get_args(InsightsDep)[0] is AsyncInsights
    assert typing.get_args(InsightsDep)[1].dependency is get_insights


def test_without_the_framework_the_message_holds_the_cure(monkeypatch):
    """One sentence, with the line that installs it."""
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, door.__name__)
    with pytest.raises(MissingExtraError, match=r'pip install "iovox-async\[fastapi\]"'):
        importlib.import_module(door.__name__)


async def test_a_background_task_runs_after_the_last_byte():
    """As with any other response."""
    ran = []
    with Sandbox(calls=3).serve() as url:
        app = make_app(url)

        @app.get("/then")
        async def then(insights: InsightsDep) -> NDJSONResponse:
            return NDJSONResponse(insights.stream(START, END), background=BackgroundTask(ran.append, 1))

        with Site(app) as site:
            async with site.client() as client:
                assert len(lines((await client.get("/then")).text)) == 3
            await until(lambda: ran)


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
    with sandbox.serve() as url, Site(make_app(url, timeout=0.1)) as site:
        async with site.client() as client:
            for kind, (status, name) in {**FAULTS, last: LASTING[last]}.items():
                sandbox.faults = Faults(fail_after=0, kinds=kind, retry_after=7)
                response = await client.get(path)
                assert (response.status_code, response.json()["error"]) == (status, name)
                assert set(response.json()) == {"error", "detail"}
                assert response.headers.get("retry-after") == ("7" if kind == "429" else None)
                for secret in ("demo", "key", "Unauthorized", url):
                    assert secret not in response.text


async def test_a_wrong_question_is_422_with_its_parameter():
    """What the client asked wrongly, it is told."""
    with Sandbox(calls=1).serve() as url, Site(make_app(url)) as site:
        async with site.client() as client:
            response = await client.get("/ids", params={"order": "shoe_size_ASC"})
    assert response.status_code == 422
    assert response.json()["parameter"] == "order"
    assert "shoe_size" in response.json()["detail"]


def test_what_the_service_blames_on_a_parameter_is_422_too():
    """A 400 that names its parameter is the question's fault, any other ours."""
    blamed = error_response(BadRequestError(400, ("Order Field Invalid - shoe_size",)))
    assert (blamed.status, blamed.body["parameter"]) == (422, "order")
    assert error_response(BadRequestError(400, ("Whatever",))).status == 502


@pytest.mark.parametrize(
    ("wait", "header"), [(None, "30"), (0.2, "1"), (7200.0, "3600"), (float("inf"), "3600")], ids=str
)
def test_retry_after_is_whole_seconds_within_reason(wait, header):
    """Also where the service said nothing, or nonsense."""
    assert error_response(RateLimitError(429, retry_after=wait)).headers["retry-after"] == header


async def broken(client, path):
    """All that came before the connection broke, and whether it did."""
    got = b""
    async with client.stream("GET", path) as response:
        assert response.status_code == 200
        try:
            async for chunk in response.aiter_raw():
                got += chunk
        except httpx.RemoteProtocolError:
            return got.decode(), True
    return got.decode(), False


@pytest.mark.parametrize("wrapped", [False, True], ids=["plain", "behind a middleware"])
async def test_an_error_amid_the_lines_is_the_last_line_and_no_clean_end(wrapped):
    """A started answer that fails says so, breaks off, and tells where to go on: exactly there."""
    sandbox = Sandbox(calls=900, faults=Faults(fail_after=4))
    with sandbox.serve() as url:
        app = make_app(url)
        if wrapped:

            @app.middleware("http")
            async def passing(request, call_next):
                return await call_next(request)

        with Site(app) as site:
            async with site.client() as client:
                text, broke = await broken(client, "/calls")
                *calls, last = lines(text)
                assert last["error"] == "ServerError"
                # Starlette's own middleware ends every answer cleanly; there the last line alone tells.
                assert broke is not wrapped
            sandbox.faults = Faults()
            # A new connection: the old one is closed by the server, however it ended.
            async with site.client() as client:
                rest = await client.get("/calls", params={"resume": last["position"]})
    assert calls
    assert [call["id"] for call in [*calls, *lines(rest.text)]] == sandbox.ids()


# Going away.


@pytest.mark.parametrize("path", ["/calls", "/events"])
async def test_a_browser_that_leaves_ends_the_requests_made_for_it(path):
    """After a disconnect nothing more is asked for, and the session serves others."""
    sandbox = Sandbox(calls=4_000, faults=Faults(latency=0.01))
    with sandbox.serve() as url:
        app = make_app(url, concurrency=2)
        with Site(app) as site:
            async with site.client() as client:
                async with client.stream("GET", path) as response:
                    await anext(response.aiter_raw())
                assert await at_rest(sandbox) < 30, "the whole range takes more than 40"
                assert (await client.get("/ids")).status_code == 200


async def test_a_browser_that_leaves_while_the_service_hangs_is_noticed_at_once():
    """Nothing has to be written to learn that nobody reads."""
    sandbox = Sandbox(calls=900, faults=Faults(fail_after=3, kinds="hang"))
    with sandbox.serve() as url:
        app = make_app(url)
        with Site(app) as site:
            async with site.client() as client:
                async with client.stream("GET", "/calls") as response:
                    chunks = response.aiter_raw()
                    await anext(chunks)
                    await until(lambda: sandbox.stats.requests > 3)
                await until(lambda: not sandbox.stats.active_requests)
            assert sandbox.stats.abandoned >= 1
            await until(lambda: requests_in_flight(app.state.insights) == 0)
            await until(lambda: open_tasks(app.state.insights) == 0)


async def test_a_browser_that_does_not_read_stops_the_requests():
    """Back-pressure reaches the service, through the application; a late disconnect still ends all."""
    sandbox = Sandbox(calls=6_000)
    with sandbox.serve() as url:
        app = make_app(url, concurrency=2)
        with Site(app, send_buffer=8192) as site:
            client = socket.socket()
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", site.port))
            client.sendall(b"GET /calls HTTP/1.1\r\nHost: here\r\n\r\n")
            await until(lambda: sandbox.stats.requests)
            assert await at_rest(sandbox) < 20, "the whole range takes more than 60"
            client.close()
            await until(lambda: open_tasks(app.state.insights) == 0)


async def test_a_source_of_one_s_own_is_closed_too():
    """Any iterable of calls will do; what is no error of ours breaks off the answer as well."""
    closed = []

    with Sandbox(calls=300).serve() as url:
        app = make_app(url)

        @app.get("/mine")
        async def mine(insights: InsightsDep, fail: bool = False) -> NDJSONResponse:
            async def long_ones():
                try:
                    async for call in insights.stream(START, END, page_size=50):
                        if call.talk_time:
                            yield call
                    if fail:
                        raise ZeroDivisionError
                finally:
                    closed.append(True)

            return NDJSONResponse(long_ones())

        with Site(app) as site:
            async with site.client() as client:
                assert lines((await client.get("/mine")).text)
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.get("/mine", params={"fail": True})
                async with client.stream("GET", "/mine") as response:
                    await anext(response.aiter_raw())
                await until(lambda: len(closed) == 3)


# Server-sent events.


async def test_a_browser_that_reconnects_goes_on_exactly_where_it_was():
    """Last-Event-ID is the stream's position: nothing twice, nothing lost, whatever was cut."""
    sandbox = Sandbox(calls=400)
    with sandbox.serve() as url, Site(make_app(url)) as site:
        async with site.client() as client:
            whole = await client.get("/events")
            first = sent(whole.text)
            assert whole.headers["content-type"].startswith("text/event-stream")
            again = await client.get("/events", headers={"Last-Event-ID": first[122]["id"]})
    assert first[-1] == {"event": "end", "data": "{}"}
    assert [json.loads(event["data"])["id"] for event in first[:-1]] == sandbox.ids()
    assert [json.loads(event["data"])["id"] for event in sent(again.text)[:-1]] == sandbox.ids()[123:]


async def test_an_error_amid_the_events_is_an_event():
    """A page can tell the end from a failure."""
    sandbox = Sandbox(calls=900, faults=Faults(fail_after=4))
    with sandbox.serve() as url, Site(make_app(url)) as site:
        async with site.client() as client:
            text, broke = await broken(client, "/events")
    *calls, last = sent(text)
    assert broke
    assert last["event"] == "failure"
    assert json.loads(last["data"])["error"] == "ServerError"
    assert json.loads(last["data"])["position"] == calls[-1]["id"]


async def test_a_quiet_source_keeps_its_connection_alive(monkeypatch):
    """A page that follows is connected at once, and no proxy takes it for dead; new calls come at once."""
    monkeypatch.setattr(_streaming.SSEFormat, "headers_timeout", 0.01)
    monkeypatch.setattr(_streaming.SSEFormat, "heartbeat", 0.02)
    sandbox = Sandbox(calls=0, start="2024-01-01", end=END)
    with sandbox.serve() as url:
        app = make_app(url)

        @app.get("/follow")
        async def follow(insights: InsightsDep) -> SSEResponse:
            app.state.insights = insights
            return SSEResponse(insights.follow(START, interval=0.02))

        with Site(app) as site:
            async with site.client() as client, client.stream("GET", "/follow") as response:
                chunks = response.aiter_text()
                assert await anext(chunks) == ": keep-alive\n\n"
                (new,) = sandbox.add([{"call_start": "2024-02-01 10:00:00"}])
                while not (found := sent(await anext(chunks))):
                    pass
                assert json.loads(found[0]["data"])["id"] == new
            await until(lambda: open_tasks(app.state.insights) == 0)
            assert await at_rest(sandbox)


# Load.


async def test_two_hundred_requests_share_one_session_fairly():
    """All are served within the one limit, a long stream neither starves them nor starves, and the loop turns."""
    lag = []

    @contextlib.asynccontextmanager
    async def watched(app):
        async def watch():
            while True:
                # The thread's own time, since this machine has other things to do.
                before = time.thread_time()
                await asyncio.sleep(0.01)
                lag.append(time.thread_time() - before)

        task = asyncio.create_task(watch())
        yield
        task.cancel()

    sandbox = Sandbox(calls=2_000, faults=Faults(latency=0.005))
    with sandbox.serve() as url, Site(make_app(url, inner=watched)) as site:
        limits = httpx.Limits(max_connections=201)
        async with site.client(limits=limits) as client:
            long = asyncio.create_task(client.get("/calls?start=2024-01-01&end=2024-02-29&size=20"))
            await until(lambda: sandbox.stats.requests > 10)
            days = [f"2024-03-{1 + n % 31:02d}" for n in range(200)]
            answers = await asyncio.gather(
                *(client.get("/calls", params={"start": day, "end": day, "size": 500}) for day in days)
            )
            whole = await long
    for day, response in zip(days, answers, strict=True):
        assert response.status_code == 200
        assert [call["id"] for call in lines(response.text)] == sandbox.ids(day, day)
    assert [call["id"] for call in lines(whole.text)] == sandbox.ids("2024-01-01", "2024-02-29")
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
