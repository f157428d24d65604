"""Clients that leave at every stage of a response, and applications with middleware, on sockets."""

import asyncio
import contextlib
import logging
import socket
import struct

import httpx
import pytest
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from support.sandbox import shared_sandbox
from support.waiting import until, until_idle
from support.web import parse_events, parse_lines
from support.web_apps import Site, make_fastapi_app, serve, serve_fastapi

from iovox_async.sandbox import Faults

served, sandbox = shared_sandbox(calls=1_000)


class Timeout:
    """A middleware that ends a request after some seconds, as a reverse proxy does."""

    def __init__(self, app, seconds):
        self.app, self.seconds = app, seconds

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.seconds):
                await self.app(scope, receive, send)


MIDDLEWARE = {
    "none": [],
    "GZip": [(GZipMiddleware, {"minimum_size": 1})],
    "BaseHTTP": [(BaseHTTPMiddleware, {"dispatch": lambda request, call_next: call_next(request)})] * 2,
    "CORS": [(CORSMiddleware, {"allow_origins": ["https://example.org"]})],
    "all": [
        (GZipMiddleware, {"minimum_size": 1}),
        (BaseHTTPMiddleware, {"dispatch": lambda request, call_next: call_next(request)}),
        (CORSMiddleware, {"allow_origins": ["*"]}),
    ],
}


@contextlib.asynccontextmanager
async def site_with(middleware, url, **options):
    site = Site()
    app = make_fastapi_app(site, url, **options)
    for cls, arguments in middleware:
        app.add_middleware(cls, **arguments)
    async with serve_fastapi(app, site):
        yield site


@pytest.mark.parametrize(
    "name", [name if name == "all" else pytest.param(name, marks=pytest.mark.slow) for name in MIDDLEWARE]
)
async def test_given_middleware_when_calls_are_streamed_then_every_one_arrives(name, served, sandbox):
    """Given middleware that compresses, adds headers or wraps the response, when streamed, then nothing is missing."""
    async with site_with(MIDDLEWARE[name], served[1]) as site, site.connect() as client:
        headers = {"accept-encoding": "gzip", "origin": "https://example.org"}
        lines = await client.get("/calls", params={"size": 500}, headers=headers)
        events = await client.get("/events", headers=headers)
        wrong = await client.get("/ids", params={"order": "x"}, headers=headers)
    assert [call["id"] for call in parse_lines(lines.text)] == sandbox.ids()
    assert len(parse_events(events.text)) == 1_001
    assert wrong.status_code == 422
    if name in {"GZip", "all"}:
        assert lines.headers["content-encoding"] == "gzip"
    if name in {"CORS", "all"}:
        assert {"access-control-allow-origin"} <= lines.headers.keys() & wrong.headers.keys()


async def test_given_a_stream_that_fails_when_compressed_then_the_response_is_incomplete(served, sandbox):
    """Given GZip and a fault after some calls, when the response is read, then it does not end as if it were complete."""
    sandbox.faults = Faults(fail_after=4)
    async with site_with(MIDDLEWARE["GZip"], served[1]) as site, site.connect() as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.get("/calls", headers={"accept-encoding": "gzip"})


async def test_given_a_middleware_with_a_timeout_when_it_passes_then_the_requests_end(served, sandbox):
    """Given an endpoint that hangs, when a middleware gives the request up, then nothing of it is left."""
    sandbox.faults = Faults(fail_after=0, kinds="hang")
    async with site_with([(Timeout, {"seconds": 0.2})], served[1]) as site, site.connect() as client:
        for path in ("/calls", "/follow"):
            with contextlib.suppress(httpx.TransportError):
                await client.get(path)
        await until(lambda: site.is_idle)
    await until(lambda: not sandbox.stats.active_requests)


#: How far a client comes before it leaves.
STAGES = ["connected", "half a request", "requested", "first byte", "some bytes", "all bytes"]


@pytest.mark.parametrize(
    ("path", "reset"),
    [
        ("/calls?size=20", True),
        pytest.param("/calls?size=20", False, marks=pytest.mark.slow),
        pytest.param("/events", True, marks=pytest.mark.slow),
        pytest.param("/events", False, marks=pytest.mark.slow),
    ],
)
async def test_given_a_client_when_it_leaves_at_any_stage_then_nothing_is_left_and_nothing_is_logged(
    path, reset, served, sandbox, caplog, framework
):
    """Given a plain socket, when it is closed or reset at each stage, then the application is idle and serves the next."""
    sandbox.faults = Faults(latency=0.002)
    async with serve(framework, served[1], concurrency=2) as site:
        for stage in STAGES:
            await leave(site.port, path, stage, reset=reset)
            await until(lambda: site.is_idle)
        assert await until_idle(sandbox) is not None
        async with site.connect() as client:
            assert (await client.get("/ids")).status_code == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.fixture(params=["fastapi", "aiohttp"])
def framework(request):
    return request.param


async def leave(port, path, stage, *, reset):
    """Requests a path on a plain socket, and leaves at a stage."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode()
    size = {"first byte": 1, "some bytes": 5_000, "all bytes": None}
    if stage != "connected":
        writer.write(request[:20] if stage == "half a request" else request)
        await writer.drain()
    if stage == "all bytes":
        await reader.read(-1)
    elif stage in size:
        await reader.readexactly(size[stage])
    if reset:
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        writer.transport.abort()
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


def test_given_an_application_of_litestar_when_it_serves_our_responses_then_calls_and_errors_are_right(
    served, sandbox
):
    """Given Litestar, which serves any ASGI application as a response, when requested, then our response is sent."""
    pytest.importorskip("litestar")
    from litestar import Litestar, get
    from litestar.testing import TestClient
    from litestar.types import ASGIApp

    from iovox_async import AsyncInsights
    from iovox_async.integrations.starlette import NDJSONResponse

    insights = AsyncInsights("demo", "demo-key", base_url=served[1])

    @contextlib.asynccontextmanager
    async def lifespan(app):
        async with insights:
            yield

    @get("/calls")
    async def calls() -> ASGIApp:
        return NDJSONResponse(insights.stream("2024-01-01", "2024-03-31"))

    with TestClient(Litestar([calls], lifespan=[lifespan])) as client:
        response = client.get("/calls")
    assert [call["id"] for call in parse_lines(response.text)] == sandbox.ids()
    assert response.headers["content-type"] == "application/x-ndjson"
