"""What the FastAPI and aiohttp integrations have in common, each served on a socket."""

import asyncio
import contextlib
import importlib
import json
import logging
import socket
import sys
import time
import typing

import httpx
import pytest
from support.sandbox import shared_sandbox
from support.waiting import until, until_idle
from support.web import START, parse_events, parse_lines
from support.web_apps import serve

from iovox_async import BadRequestError, MissingExtraError, RateLimitError
from iovox_async.integrations import _streaming, aiohttp, fastapi
from iovox_async.integrations._error_response import DETAILS, error_response
from iovox_async.sandbox import Faults, Sandbox

INTEGRATIONS = {"fastapi": fastapi, "aiohttp": aiohttp}


@pytest.fixture(params=INTEGRATIONS)
def framework(request):
    return request.param


served, sandbox = shared_sandbox(calls=4_000)


@pytest.fixture
def base_url(served):
    return served[1]


async def read_broken(client, path):
    """The text received before the connection was closed, and whether the response was incomplete."""
    received = b""
    async with client.stream("GET", path) as response:
        assert response.status_code == 200
        try:
            async for chunk in response.aiter_raw():
                received += chunk
        except httpx.RemoteProtocolError:
            return received.decode(), True
    return received.decode(), False


# Responses.


async def test_given_a_range_when_streamed_as_ndjson_then_each_call_is_one_line_in_order(
    framework, sandbox, base_url
):
    """Given calls in a range, when `/calls` is read, then every call is there once, in the form of the endpoint."""
    async with serve(framework, base_url) as site, site.connect() as client:
        response = await client.get("/calls", params={"size": 1000})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.headers["cache-control"] == "no-store"
    calls = parse_lines(response.text)
    assert [call["id"] for call in calls] == sandbox.ids()
    assert calls[0].items() <= sandbox.rows()[0].items()


async def test_given_no_calls_when_streamed_then_the_response_is_empty(framework, sandbox, base_url):
    """Given a range without calls, when `/calls` is read, then the status is 200 and the body is empty."""
    async with serve(framework, base_url) as site, site.connect() as client:
        response = await client.get("/calls", params={"start": "2020-01-01", "end": "2020-01-02"})
    assert (response.status_code, response.text) == (200, "")


async def test_given_a_head_request_when_answered_then_no_call_is_requested(framework, sandbox, base_url):
    """Given HEAD `/calls`, when it is answered, then the headers are sent and the endpoint gets no request."""
    async with serve(framework, base_url) as site, site.connect() as client:
        response = await client.head("/calls")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/x-ndjson")
    assert sandbox.stats.requests == 0


async def test_given_an_async_generator_when_streamed_then_it_is_always_closed(framework, sandbox, base_url):
    """Given a generator of the application, when it ends, raises, or its client disconnects, then it is closed.

    An error that is not ours, or the cancellation of what it waits for, leaves the response incomplete too.
    """
    sandbox.faults = Faults(latency=0.01)
    async with serve(framework, base_url) as site, site.connect() as client:
        assert parse_lines((await client.get("/filtered")).text)
        for fail in ("1", "cancel"):
            text, incomplete = await read_broken(client, f"/filtered?fail={fail}")
            assert incomplete
            assert parse_lines(text)[-1]["error"] == "InternalError"
        async with client.stream("GET", "/filtered") as response:
            await anext(response.aiter_raw())
        await until(lambda: site.closed_sources == 4)


# The integration modules.


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_given_an_integration_when_annotations_are_resolved_then_all_names_exist(name):
    """Given public functions, when a framework resolves their annotations at run time, then it succeeds."""
    module = INTEGRATIONS[name]
    for public in module.__all__:
        value = getattr(module, public)
        if public not in {"InsightsDep", "LastEventID", "CallFilters", "INSIGHTS_KEY"}:
            assert typing.get_type_hints(value.__init__ if isinstance(value, type) else value)
    assert typing.get_args(fastapi.InsightsDep)[1].dependency is fastapi.get_insights


@pytest.mark.parametrize("name", INTEGRATIONS)
def test_given_no_framework_when_imported_then_the_error_names_the_extra(name, monkeypatch):
    """Given a missing package, when its integration is imported, then the error has the command that installs it."""
    monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, INTEGRATIONS[name].__name__)
    with pytest.raises(MissingExtraError, match=rf'pip install "iovox-async\[{name}\]"'):
        importlib.import_module(INTEGRATIONS[name].__name__)


async def test_given_no_client_when_requested_then_the_log_says_what_is_missing(framework, caplog):
    """Given an application without `AsyncInsights`, when it is used, then the response is 500 and the log has the hint."""
    async with serve(framework, None) as site, site.connect() as client:
        response = await client.get("/ids")
    assert response.status_code == 500
    assert "internal error of this service" in response.json()["detail"]
    hint = {"fastapi": "lifespan=insights_lifespan()", "aiohttp": "cleanup_ctx.append(insights_ctx())"}
    assert hint[framework] in caplog.text
    assert hint[framework] not in response.text


# Errors.

FAULTS = {
    "500": (502, "ServerError"),
    "404": (502, "BadRequestError"),
    "302": (502, "Unavailable"),
    "garbage": (502, "DecodeError"),
    "reset": (502, "TransportError"),
}
#: After these the client sends no request for a while.
LAST_FAULTS = {
    "401": (502, "Unavailable"),
    "403": (502, "Unavailable"),
    "429": (503, "RateLimitError"),
    "hang": (504, "RequestTimeout"),
}


@pytest.mark.parametrize(
    ("path", "last"), [("/ids", "401"), ("/calls", "429"), ("/events", "403"), ("/calls", "hang")]
)
async def test_given_a_fault_when_no_call_was_sent_then_the_response_has_its_own_status(
    framework, path, last, sandbox, base_url, monkeypatch
):
    """Given an endpoint that fails, when a response has not started, then its status says why, and no secret is in it."""
    monkeypatch.setattr(_streaming.SSEFormat, "headers_timeout", 60.0)
    faults = {last: LAST_FAULTS[last]} if last == "hang" else {**FAULTS, last: LAST_FAULTS[last]}
    timeout = 0.1 if last == "hang" else 60
    async with serve(framework, base_url, timeout=timeout) as site, site.connect() as client:
        for kind, (status, name) in faults.items():
            sandbox.faults = Faults(fail_after=0, kinds=kind, retry_after=7)
            response = await client.get(path)
            body = response.json()
            assert response.status_code == status
            assert body == {"detail": DETAILS[status], **({} if framework == "fastapi" else {"error": name})}
            assert response.headers.get("retry-after") == ("7" if kind == "429" else None)
            for secret in ("demo", "key", "Unauthorized", base_url):
                assert secret not in response.text


async def test_given_an_invalid_parameter_when_requested_then_the_response_is_422_with_its_name(
    framework, sandbox, base_url
):
    """Given a wrong order and a wrong range, when requested, then the response is 422 with the route's name of the parameter."""
    async with serve(framework, base_url) as site, site.connect() as client:
        wrong_order = await client.get("/ids", params={"order": "shoe_size_ASC"})
        wrong_range = await client.get("/calls", params={"start": "2024-02-01", "end": "2024-01-01"})
    assert wrong_order.status_code == wrong_range.status_code == 422
    order, end = (parameter_and_message(framework, response) for response in (wrong_order, wrong_range))
    assert order[0] == "order"
    assert "shoe_size" in order[1]
    assert end == ("end", "end (2024-01-01 23:59:59) is before start (2024-02-01 00:00:00)")


def parameter_and_message(framework, response):
    """The name of the invalid parameter and the message, in the framework's own form."""
    body = response.json()
    if framework == "aiohttp":
        return body["parameter"], body["detail"]
    (problem,) = body.pop("detail")
    assert body == {}
    assert (problem["type"], problem["loc"][0]) == ("value_error", "query")
    return problem["loc"][1], problem["msg"]


def test_given_a_400_of_the_endpoint_when_it_names_a_parameter_then_the_response_is_422():
    """Given a 400, when it names a parameter, then the status is 422; otherwise it is 502."""
    response = error_response(BadRequestError(400, ("Order Field Invalid - shoe_size",)))
    assert (response.status, response.body["parameter"]) == (422, "order")
    assert error_response(BadRequestError(400, ("Unknown",))).status == 502


@pytest.mark.parametrize(
    ("retry_after", "header"), [(None, "30"), (0.2, "1"), (7200.0, "3600"), (float("inf"), "3600")], ids=str
)
def test_given_a_429_when_it_has_any_retry_after_then_the_header_is_a_bounded_integer(retry_after, header):
    """Given a Retry-After that is missing, fractional or huge, when it is passed on, then it is 1 to 3600 seconds."""
    assert error_response(RateLimitError(429, retry_after=retry_after)).headers["retry-after"] == header


async def test_given_an_error_midway_when_streamed_as_ndjson_then_the_last_line_has_the_error_and_position(
    framework, sandbox, base_url
):
    """Given a fault after some calls, when the response ends, then it is incomplete, and `position` continues exactly."""
    sandbox.faults = Faults(fail_after=4)
    async with serve(framework, base_url) as site:
        async with site.connect() as client:
            text, incomplete = await read_broken(client, "/calls")
        *calls, last = parse_lines(text)
        assert last["error"] == "ServerError"
        assert incomplete
        sandbox.faults = Faults()
        async with site.connect() as client:
            response = await client.get("/calls", params={"resume": last["position"], "size": 1000})
    assert calls
    assert [call["id"] for call in [*calls, *parse_lines(response.text)]] == sandbox.ids()


async def test_given_an_error_midway_when_streamed_as_events_then_the_last_event_is_failure(
    framework, sandbox, base_url
):
    """Given a fault after some calls, when the response ends, then an event `failure` has the error and the position."""
    sandbox.faults = Faults(fail_after=4)
    async with serve(framework, base_url) as site, site.connect() as client:
        text, incomplete = await read_broken(client, "/events")
    *calls, last = parse_events(text)
    assert incomplete
    assert last["event"] == "failure"
    assert json.loads(last["data"])["error"] == "ServerError"
    assert json.loads(last["data"])["position"] == calls[-1]["id"]


# Disconnecting clients.


@pytest.mark.parametrize("path", ["/calls", "/events"])
async def test_given_a_stream_when_the_client_disconnects_then_its_requests_end(
    framework, path, sandbox, base_url, caplog
):
    """Given a client that disconnects, when the endpoint is idle, then few pages were requested and no error is logged."""
    # Small buffers, so that the response cannot be complete before the client disconnects.
    transport = httpx.AsyncHTTPTransport(socket_options=[(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)])
    async with (
        serve(framework, base_url, send_buffer=8192, concurrency=2) as site,
        site.connect(transport=transport) as client,
    ):
        async with client.stream("GET", path) as response:
            await anext(response.aiter_raw())
        await until(lambda: site.is_idle)
        assert await until_idle(sandbox) < 30, "the complete range takes more than 40 requests"
        assert (await client.get("/ids")).status_code == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_given_a_hanging_endpoint_when_the_client_disconnects_then_its_requests_end(
    framework, sandbox, base_url
):
    """Given no data to write, when the client disconnects, then this is noticed and the requests are cancelled."""
    sandbox.faults = Faults(fail_after=3, kinds="hang")
    async with serve(framework, base_url) as site, site.connect() as client:
        async with client.stream("GET", "/calls") as response:
            await anext(response.aiter_raw())
            await until(lambda: sandbox.stats.requests > 3)
        await until(lambda: not sandbox.stats.active_requests)
        assert sandbox.stats.abandoned >= 1
        await until(lambda: site.is_idle)


async def test_given_a_client_that_does_not_read_when_buffers_are_full_then_requests_pause(
    framework, sandbox, base_url
):
    """Given a client that reads nothing, when all buffers are full, then no more pages are requested until it leaves."""
    async with serve(framework, base_url, send_buffer=8192, concurrency=2) as site:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", site.port))
            client.sendall(b"GET /calls HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await until(lambda: sandbox.stats.requests)
            assert await until_idle(sandbox) < 20, "the complete range takes more than 40 requests"
        await until(lambda: site.is_idle)


# Server-sent events.


async def test_given_a_last_event_id_when_a_browser_reconnects_then_the_stream_continues_after_it(
    framework, sandbox, base_url
):
    """Given the id of an event, when it is sent as Last-Event-ID, then exactly the later calls follow."""
    async with serve(framework, base_url) as site, site.connect() as client:
        complete = await client.get("/events")
        events = parse_events(complete.text)
        resumed = await client.get("/events", headers={"Last-Event-ID": events[122]["id"]})
    assert complete.headers["content-type"].startswith("text/event-stream")
    assert complete.headers["x-added"] == "yes"
    assert events[-1] == {"event": "end", "data": "{}"}
    assert [json.loads(event["data"])["id"] for event in events[:-1]] == sandbox.ids()
    assert [json.loads(event["data"])["id"] for event in parse_events(resumed.text)[:-1]] == sandbox.ids()[
        123:
    ]


async def test_given_no_new_calls_when_followed_then_the_connection_is_kept_alive(framework, monkeypatch):
    """Given an account without calls, when it is followed, then comments are sent, and a new call comes as an event."""
    monkeypatch.setattr(_streaming.SSEFormat, "headers_timeout", 0.01)
    monkeypatch.setattr(_streaming.SSEFormat, "heartbeat", 0.02)
    sandbox = Sandbox(calls=0)
    with sandbox.serve() as base_url:
        async with serve(framework, base_url) as site, site.connect() as client:
            async with client.stream("GET", "/follow") as response:
                chunks = response.aiter_text()
                assert (await anext(chunks)).startswith(": keep-alive\n\n")
                (inserted,) = sandbox.add([{"call_start": "2024-02-01 10:00:00"}])
                while not (events := parse_events(await anext(chunks))):
                    pass
                assert json.loads(events[0]["data"])["id"] == inserted
            await until(lambda: site.is_idle)
            assert await until_idle(sandbox)


# Load.


@pytest.mark.sweep(2)
async def test_given_many_requests_when_they_share_one_client_then_all_are_served_fairly(
    framework, sandbox, base_url
):
    """Given one long and 100 short streams, when they run at once, then the limit holds and none of them starves."""
    busy_times = []

    async def measure_iterations():
        while True:
            # CPU time of the thread, so that other processes do not count.
            before = time.thread_time()
            await asyncio.sleep(0.01)
            busy_times.append(time.thread_time() - before)

    sandbox.faults = Faults(latency=0.005)
    days = [f"2024-03-{1 + n % 31:02d}" for n in range(100)]
    async with serve(framework, base_url) as site, site.connect() as client:

        async def get_ids(start, end, size):
            response = await client.get("/calls", params={"start": start, "end": end, "size": size})
            assert response.status_code == 200
            return [call["id"] for call in parse_lines(response.text)]

        measuring = asyncio.create_task(measure_iterations())
        long = asyncio.create_task(get_ids(START, "2024-02-29", 20))
        await until(lambda: sandbox.stats.requests > 10)
        short_results = await asyncio.gather(*(get_ids(day, day, 500) for day in days))
        long_result = await long
        measuring.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await measuring
    assert short_results == [sandbox.ids(day, day) for day in days]
    assert long_result == sandbox.ids(START, "2024-02-29")
    assert sandbox.stats.peak_active_requests <= 8
    assert sandbox.stats.failed == sandbox.stats.abandoned == 0
    is_short = ["start_date=2024-03" in request.query for request in sandbox.requests]
    first, last = is_short.index(True), len(is_short) - is_short[::-1].index(True)
    share = is_short[first:last].count(False) / (last - first)
    # A stream waits for one slot at a time, and slots are given in order: while others wait, it gets at most every second.
    assert 0 < share < 0.5, "the long stream's share of the requests while others waited"
    # A share, since the absolute time depends on the machine.
    assert max(busy_times) < 0.4 * sum(busy_times), "the share of one iteration of the event loop"
