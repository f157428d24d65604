"""What applications are built of: filters as parameters, several accounts, timeouts, and the framework's own events."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterable
from datetime import date
from typing import Annotated

import pytest
from aiohttp import web
from fastapi import Depends, FastAPI, Query
from fastapi.testclient import TestClient
from pydantic import ConfigDict
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient as StarletteClient
from support.sandbox import shared_sandbox
from support.waiting import until, until_idle
from support.web import END, START, parse_events
from support.web_apps import Site, serve_aiohttp, serve_fastapi

from iovox_async import AsyncInsights, Call, ConfigurationError, Filters
from iovox_async.integrations import aiohttp as for_aiohttp
from iovox_async.integrations import starlette as for_starlette
from iovox_async.integrations._filters import LIST_FILTERS
from iovox_async.integrations.fastapi import (
    CallFilters,
    InsightsDep,
    LastEventID,
    insights_for,
    insights_lifespan,
    install_error_handlers,
    server_sent_events,
)
from iovox_async.sandbox import Faults, Sandbox

served, sandbox = shared_sandbox(calls=400)


@pytest.fixture
def make(served, sandbox):
    return lambda: AsyncInsights("demo", "demo-key", base_url=served[1], page_size=50)


class Range(CallFilters):
    model_config = ConfigDict(extra="forbid")
    start: date
    end: date


@pytest.fixture
def fastapi_client(make):
    app = FastAPI(lifespan=insights_lifespan(make))
    install_error_handlers(app)

    @app.get("/calls")
    async def calls(insights: InsightsDep, query: Annotated[Range, Query()]) -> list[Call]:
        return await insights.stream(query.start, query.end, **query.arguments()).collect()

    @app.get("/between/{start}")
    async def between(insights: InsightsDep, start: str, to: str, fields: str = "id") -> list[Call]:
        return (await insights.page(start, to, fields=fields)).calls

    @app.get("/slow")
    async def slow() -> None:
        async with asyncio.timeout(0):
            await asyncio.sleep(60)

    with TestClient(app) as client:
        yield client


# Filters.


def test_given_the_filters_when_compared_with_the_model_then_each_is_a_described_parameter(fastapi_client):
    """Given the filters of the endpoint, when the OpenAPI document is read, then each is a parameter with a description."""
    parameters = fastapi_client.get("/openapi.json").json()["paths"]["/calls"]["get"]["parameters"]
    described = {parameter["name"]: parameter["schema"].get("description") for parameter in parameters}
    assert described.keys() - {"start", "end"} == Filters.__annotations__.keys()
    assert all(described[name] for name in Filters.__annotations__)
    lists = {name for name, field in CallFilters.model_fields.items() if "list" in str(field.annotation)}
    assert lists == LIST_FILTERS


def test_given_filters_when_requested_then_the_endpoint_gets_them(fastapi_client, sandbox):
    """Given lists in both forms and a value, when requested, then the endpoint's requests have them, and others are refused."""
    query = "start=2024-01-01&end=2024-03-31&call_result=ANSWERED&tag_colour=RED,BLUE&ids=1&ids=2"
    assert fastapi_client.get(f"/calls?{query}").status_code == 200
    sent = sandbox.requests[-1].query
    assert "call_result=ANSWERED" in sent
    assert "tag_colour=RED,BLUE" in sent
    assert "id=1,2" in sent
    answered = fastapi_client.get("/calls?start=2024-01-01&end=2024-03-31&call_result=ANSWERED").json()
    assert 0 < len(answered) < 400
    assert {call["call_result"] for call in answered} == {"ANSWERED"}
    refused = fastapi_client.get("/calls?start=2024-01-01&end=2024-03-31&call_results=ANSWERED")
    assert (refused.status_code, refused.json()["detail"][0]["loc"]) == (422, ["query", "call_results"])


@pytest.mark.parametrize(
    ("query", "place", "text"),
    [
        ("start=2024-01-01&end=2024-03-31&tag_colour=PINK", ["query", "tag_colour"], "PINK"),
        ("start=2024-01-01&end=2024-03-31&ids=a", ["query", "ids"], "integer"),
        ("start=2024-03-01&end=2024-01-01", ["query", "end"], "end (2024-01-01 23:59:59) is before start"),
        ("start=2024-03-01", ["query", "end"], "required"),
    ],
)
def test_given_a_wrong_value_when_requested_then_the_body_is_fastapis_own_422(
    fastapi_client, sandbox, query, place, text
):
    """Given a wrong filter or range, when requested, then one form of error for all, and the endpoint gets no request."""
    response = fastapi_client.get(f"/calls?{query}")
    (problem,) = response.json()["detail"]
    assert (response.status_code, problem["loc"]) == (422, place)
    assert text in problem["msg"]
    assert {"type", "loc", "msg", "input"} >= problem.keys() - {"ctx"}
    assert sandbox.stats.requests == 0


def test_given_other_names_when_a_value_is_wrong_then_the_error_has_the_names_of_the_route(fastapi_client):
    """Given a route with a path parameter, `to` and `fields`, when one is wrong, then the error names that one."""
    before = fastapi_client.get("/between/2024-03-01?to=2024-01-01").json()["detail"][0]
    assert (before["loc"], before["input"]) == (["query", "to"], "2024-01-01")
    assert before["msg"] == "to (2024-01-01 23:59:59) is before start (2024-03-01 00:00:00)"
    start = fastapi_client.get("/between/tomorrowish?to=2024-01-01").json()["detail"][0]
    assert (start["loc"], start["input"]) == (["path", "start"], "tomorrowish")
    fields = fastapi_client.get("/between/2024-01-01?to=2024-01-02&fields=nonsense").json()["detail"][0]
    assert fields["loc"] == ["query", "fields"]


def test_given_a_timeout_of_the_application_when_it_passes_then_the_response_is_504(fastapi_client):
    """Given `asyncio.timeout` in an endpoint, when it passes, then the response is 504 in FastAPI's form."""
    response = fastapi_client.get("/slow")
    detail = "The upstream service did not respond in time."
    assert (response.status_code, response.json()) == (504, {"detail": detail})


async def test_given_aiohttp_when_filters_are_sent_then_they_reach_the_endpoint_and_wrong_ones_are_422(
    make, sandbox
):
    """Given the same for aiohttp: filters of the query, names of the route, 504 after a timeout."""

    async def calls(request):
        insights = for_aiohttp.get_insights(request)
        stream = insights.stream(request.query["from"], END, **for_aiohttp.get_filters(request))
        return await for_aiohttp.ndjson_response(request, stream)

    async def slow(request):
        async with asyncio.timeout(0):
            await asyncio.sleep(60)

    site, app = Site(), web.Application(middlewares=[for_aiohttp.error_middleware])
    app.cleanup_ctx.append(for_aiohttp.insights_ctx(make))
    app.router.add_get("/calls", calls)
    app.router.add_get("/slow", slow)
    async with serve_aiohttp(app, site), site.connect() as client:
        assert (await client.get(f"/calls?from={START}&tag_colour=RED&tag_colour=BLUE")).status_code == 200
        assert "tag_colour=RED,BLUE" in sandbox.requests[-1].query
        wrong = await client.get("/calls?from=2024-05-01")
        assert (wrong.status_code, wrong.json()["parameter"]) == (422, "end")
        assert "is before from (2024-05-01" in wrong.json()["detail"]
        twice = await client.get(f"/calls?from={START}&node_id=1&node_id=2")
        assert (twice.status_code, twice.json()["parameter"]) == (422, "node_id")
        assert (await client.get("/slow")).status_code == 504


def test_given_starlette_when_its_module_is_used_then_it_needs_no_fastapi(make, sandbox):
    """Given an application of Starlette alone, when requested, then calls and errors are as with FastAPI."""

    async def calls(request):
        insights = await for_starlette.get_insights(request)
        return for_starlette.NDJSONResponse(insights.stream(START, END, **for_starlette.get_filters(request)))

    app = Starlette(routes=[Route("/calls", calls)], lifespan=for_starlette.insights_lifespan(make))
    for_starlette.install_error_handlers(app)
    with StarletteClient(app) as client:
        assert len(client.get("/calls").text.splitlines()) == 400
        response = client.get("/calls?tag_colour=PINK")
    assert (response.status_code, response.json()["detail"][0]["loc"]) == (422, ["query", "tag_colour"])


# Several accounts.


def test_given_several_accounts_when_requested_then_each_endpoint_has_its_own_client():
    """Given two accounts, when their endpoints are requested, then each reads its own; all are closed at the end."""
    with Sandbox(calls=3).serve() as london, Sandbox(calls=5).serve() as paris:
        urls = {"london": london, "paris": paris}
        makers = {
            name: lambda url=url: AsyncInsights("demo", "demo-key", base_url=url)
            for name, url in urls.items()
        }
        app = FastAPI(lifespan=insights_lifespan(makers))

        @app.get("/{city}")
        async def count(
            city: str,
            london: Annotated[AsyncInsights, Depends(insights_for("london"))],
            paris: Annotated[AsyncInsights, Depends(insights_for("paris"))],
        ) -> int:
            insights = {"london": london, "paris": paris}[city]
            return len((await insights.page(START, END)).calls)

        @app.get("/only/one")
        async def only(insights: InsightsDep) -> None: ...

        @app.get("/un/known")
        async def unknown(insights: Annotated[AsyncInsights, Depends(insights_for("rome"))]) -> None: ...

        with TestClient(app) as client:
            assert (client.get("/london").json(), client.get("/paris").json()) == (3, 5)
            with pytest.raises(ConfigurationError, match=r"several accounts \(london, paris\).*insights_for"):
                client.get("/only/one")
            with pytest.raises(ConfigurationError, match=r"no account 'rome'; it has london, paris"):
                client.get("/un/known")
    assert insights_for("london") is insights_for("london")


async def test_given_several_accounts_when_aiohttp_is_used_then_each_has_its_own_client(make, sandbox):
    """Given two accounts with aiohttp, when one is asked for by name, then it is found; an unknown one is an error."""

    async def count(request):
        insights = for_aiohttp.get_insights(request, request.match_info["account"])
        return web.json_response(len((await insights.page(START, END, page_size=10)).calls))

    site, app = Site(), web.Application(middlewares=[for_aiohttp.error_middleware])
    app.cleanup_ctx.append(for_aiohttp.insights_ctx({"london": make}))
    app.router.add_get("/{account}", count)
    async with serve_aiohttp(app, site), site.connect() as client:
        assert (await client.get("/london")).json() == 10
        assert (await client.get("/rome")).status_code == 500


# The framework's own events.


@contextlib.asynccontextmanager
async def own_events(make, options):
    sse = pytest.importorskip("fastapi.sse", reason="FastAPI has its own response from 0.135 on")
    app = FastAPI(lifespan=insights_lifespan(make))

    @app.get("/events", response_class=sse.EventSourceResponse)
    async def events(
        insights: InsightsDep, last_event_id: LastEventID = None
    ) -> AsyncIterable[sse.ServerSentEvent]:
        stream = insights.stream(START, END, resume=last_event_id, **options)
        async for event in server_sent_events(stream):
            yield event

    site = Site()
    async with serve_fastapi(app, site), site.connect() as client:
        yield client


async def test_given_fastapis_own_response_when_calls_are_yielded_then_events_have_ids_and_an_end(
    make, sandbox
):
    """Given `EventSourceResponse`, when a stream is yielded, then its events resume by Last-Event-ID, and the last is `end`."""
    async with own_events(make, {}) as client:
        events = parse_events((await client.get("/events")).text)
        resumed = await client.get("/events", headers={"Last-Event-ID": events[399 - 10]["id"]})
        assert [json.loads(event["data"])["id"] for event in events[:-1]] == sandbox.ids()
        assert events[-1] == {"event": "end", "data": "{}"}
        assert len(parse_events(resumed.text)) == 11
        sandbox.faults = Faults(fail_after=0, kinds="404")
        (failure,) = parse_events((await client.get("/events")).text)
    assert (failure["event"], json.loads(failure["data"])["error"]) == ("failure", "BadRequestError")


async def test_given_fastapis_own_response_when_the_client_leaves_then_the_requests_end(make, sandbox):
    """Given a client that reads one event, when it leaves, then the endpoint gets no more requests."""
    async with own_events(make, {"page_size": 5}) as client:
        async with client.stream("GET", "/events") as response:
            await anext(response.aiter_raw())
        await until(lambda: not sandbox.stats.active_requests)
        assert await until_idle(sandbox)
