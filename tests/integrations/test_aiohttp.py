"""What only the aiohttp integration has: sub-applications and shutdown. See also `test_web_frameworks.py`."""

import asyncio
import contextlib

import httpx
import pytest
from aiohttp import web
from support.web import END, START
from support.web_apps import Site, make_aiohttp_app, serve_aiohttp

from iovox_async import SessionError
from iovox_async.integrations import _streaming
from iovox_async.integrations.aiohttp import INSIGHTS_KEY, get_insights
from iovox_async.sandbox import Sandbox


async def test_given_a_sub_application_when_it_is_used_then_it_has_the_client_of_its_parent():
    """Given a sub-application, when it reads calls, then it uses the parent's client, which is closed at the end."""
    sandbox = Sandbox(calls=10)
    with sandbox.serve() as url:
        site = Site()
        app, part = make_aiohttp_app(site, url), web.Application()

        async def count(request):
            return web.json_response(len((await get_insights(request).page(START, END)).calls))

        part.router.add_get("/count", count)
        app.add_subapp("/part", part)
        async with serve_aiohttp(app, site), site.connect() as client:
            assert (await client.get("/part/count")).json() == 10
            assert app[INSIGHTS_KEY] is site.insights
    with pytest.raises(SessionError, match="closed"):
        await site.insights.page(START, END)
    assert sandbox.stats.connections == 0


async def test_given_an_open_stream_when_the_application_shuts_down_then_the_stream_ends(monkeypatch):
    """Given a client that follows calls, when the application shuts down, then nothing of the stream remains."""
    monkeypatch.setattr(_streaming.SSEFormat, "headers_timeout", 0.01)
    with Sandbox(calls=10).serve() as url:
        site = Site()
        async with contextlib.AsyncExitStack() as stack:
            async with serve_aiohttp(make_aiohttp_app(site, url), site, shutdown_timeout=0.05):
                client = await stack.enter_async_context(site.connect())
                response = await client.send(client.build_request("GET", "/follow"), stream=True)
                await anext(response.aiter_raw())
            assert site.is_idle
            with contextlib.suppress(httpx.TransportError):
                await asyncio.wait_for(response.aclose(), 30)
