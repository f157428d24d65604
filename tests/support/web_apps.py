"""One application with the same routes for FastAPI and aiohttp, each served on a socket in the test's event loop.

Routes: `/calls` (NDJSON; start, end, size, resume), `/events` (server-sent events; Last-Event-ID), `/follow`, `/ids` (one page;
order), `/filtered` (an async generator of the application; `fail` raises in it; `fail=cancel` as if what it waits for was cancelled).
"""

import asyncio
import contextlib
import socket
from typing import Annotated

import attrs
import httpx
import uvicorn
from aiohttp import web
from fastapi import FastAPI, Header, Query

from iovox_async import AsyncInsights, RetryPolicy
from iovox_async.integrations import aiohttp as aiohttp_integration
from iovox_async.integrations import fastapi as fastapi_integration

from .waiting import until
from .web import END, START


@attrs.define
class Site:
    """A served application.

    Attributes:
        clients: the `AsyncInsights` of the application, once it has started.
        closed_sources: number of closed generators of `/filtered`.
    """

    clients: list = attrs.field(factory=list)
    closed_sources: int = 0
    port: int = 0

    @property
    def insights(self):
        return self.clients[0]

    @property
    def is_idle(self):
        connection = self.insights._connection
        return connection.throttle.in_flight == connection.supervisor.task_count == 0

    def make_insights(self, base_url, options):
        options = {"secure_key": "demo-key", "retry": RetryPolicy(max_attempts=1), **options}
        self.clients.append(AsyncInsights("demo", base_url=base_url, **options))
        return self.insights

    async def filter_calls(self, insights, fail):
        try:
            async for call in insights.stream(START, END, page_size=50):
                if call.talk_time:
                    yield call
                    if fail:
                        raise asyncio.CancelledError if fail == "cancel" else ZeroDivisionError
        finally:
            self.closed_sources += 1

    def connect(self, **options):
        """A client for the application."""
        limits = httpx.Limits(max_connections=300)
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            trust_env=False,
            verify=False,  # a context for TLS costs more than most tests
            limits=limits,
            **{"timeout": 60, **options},
        )


def listen(send_buffer=None):
    listener = socket.socket()
    if send_buffer:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer)
    listener.bind(("127.0.0.1", 0))
    return listener


class _UvicornServer(uvicorn.Server):
    """A uvicorn server that stops at once, instead of at its next tick."""

    async def main_loop(self):
        await self.on_tick(0)
        while not self.should_exit:
            await asyncio.sleep(0.005)


def make_fastapi_app(site, base_url, **options):
    app = FastAPI()
    if base_url is not None:
        lifespan = fastapi_integration.insights_lifespan(lambda: site.make_insights(base_url, options))
        app = FastAPI(lifespan=lifespan)
    fastapi_integration.install_error_handlers(app)

    @app.api_route("/calls", methods=["GET", "HEAD"])
    async def calls(
        insights: fastapi_integration.InsightsDep,
        start: str = START,
        end: str = END,
        size: int = 100,
        resume: str | None = None,
    ) -> fastapi_integration.NDJSONResponse:
        return fastapi_integration.NDJSONResponse(insights.stream(start, end, page_size=size, resume=resume))

    @app.get("/events")
    async def events(
        insights: fastapi_integration.InsightsDep, last_event_id: Annotated[str | None, Header()] = None
    ) -> fastapi_integration.SSEResponse:
        stream = insights.stream(START, END, page_size=100, resume=last_event_id)
        return fastapi_integration.SSEResponse(stream, headers={"x-added": "yes"})

    @app.get("/follow")
    async def follow(insights: fastapi_integration.InsightsDep) -> fastapi_integration.SSEResponse:
        return fastapi_integration.SSEResponse(insights.follow(START, interval=0.02))

    @app.get("/ids")
    async def ids(
        insights: fastapi_integration.InsightsDep, order: Annotated[str, Query()] = "call_start_ASC"
    ) -> list[int]:
        return [call.id for call in (await insights.page(START, END, page_size=10, order=order)).calls]

    @app.get("/filtered")
    async def filtered(
        insights: fastapi_integration.InsightsDep, fail: str = ""
    ) -> fastapi_integration.NDJSONResponse:
        return fastapi_integration.NDJSONResponse(site.filter_calls(insights, fail))

    return app


@contextlib.asynccontextmanager
async def serve_fastapi(app, site, send_buffer=None):
    listener = listen(send_buffer)
    site.port = listener.getsockname()[1]
    server = _UvicornServer(uvicorn.Config(app, log_config=None, lifespan="on", access_log=False))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    await until(lambda: server.started or serving.done())
    try:
        yield site
    finally:
        server.should_exit = True
        await serving


def make_aiohttp_app(site, base_url, **options):
    async def calls(request):
        query = request.query
        stream = aiohttp_integration.get_insights(request).stream(
            query.get("start", START),
            query.get("end", END),
            page_size=int(query.get("size", 100)),
            resume=query.get("resume"),
        )
        return await aiohttp_integration.ndjson_response(request, stream)

    async def events(request):
        stream = aiohttp_integration.get_insights(request).stream(
            START, END, page_size=100, resume=request.headers.get("Last-Event-ID")
        )
        return await aiohttp_integration.sse_response(request, stream, headers={"x-added": "yes"})

    async def follow(request):
        insights = aiohttp_integration.get_insights(request)
        return await aiohttp_integration.sse_response(request, insights.follow(START, interval=0.02))

    async def ids(request):
        order = request.query.get("order", "call_start_ASC")
        insights = aiohttp_integration.get_insights(request)
        page = await insights.page(START, END, page_size=10, order=order)
        return web.json_response([call.id for call in page.calls])

    async def filtered(request):
        insights = aiohttp_integration.get_insights(request)
        calls = site.filter_calls(insights, request.query.get("fail"))
        return await aiohttp_integration.ndjson_response(request, calls)

    app = web.Application(middlewares=[aiohttp_integration.error_middleware])
    if base_url is not None:
        app.cleanup_ctx.append(
            aiohttp_integration.insights_ctx(lambda: site.make_insights(base_url, options))
        )
    for handler in (calls, events, follow, ids, filtered):
        app.router.add_get(f"/{handler.__name__}", handler)
    return app


@contextlib.asynccontextmanager
async def serve_aiohttp(app, site, send_buffer=None, shutdown_timeout=5):
    listener = listen(send_buffer)
    site.port = listener.getsockname()[1]
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=shutdown_timeout)
    await runner.setup()
    try:
        await web.SockSite(runner, listener).start()
        yield site
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def serve(framework, base_url, *, send_buffer=None, **options):
    """Serves the application of a framework; with `base_url=None`, one without an `AsyncInsights`."""
    site = Site()
    if framework == "fastapi":
        serving = serve_fastapi(make_fastapi_app(site, base_url, **options), site, send_buffer)
    else:
        serving = serve_aiohttp(make_aiohttp_app(site, base_url, **options), site, send_buffer)
    async with serving:
        yield site
