"""What only the FastAPI integration has: lifespans, background tasks, middleware. See also `test_web_frameworks.py`."""

import contextlib

import pytest
from fastapi import FastAPI, Request
from starlette.background import BackgroundTask
from support.waiting import until
from support.web import END, START, parse_lines
from support.web_apps import Site, make_fastapi_app, serve_fastapi

from iovox_async import AsyncInsights, ConfigurationError, SessionError
from iovox_async.integrations.fastapi import InsightsDep, NDJSONResponse, insights_lifespan
from iovox_async.sandbox import Faults, Sandbox


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (
            AsyncInsights("demo", "demo-key"),
            "make must be a function that returns an AsyncInsights, got AsyncIns",
        ),
        ({"london": "demo"}, "make must be a function that returns an AsyncInsights, got str"),
        (lambda: None, "make must return an AsyncInsights, got NoneType"),
    ],
    ids=["a client", "a name", "nothing"],
)
async def test_given_no_function_that_makes_a_client_when_the_application_starts_then_an_error_says_so(
    make, problem
):
    """Given something else than a function that makes a client, when the application starts, then an error names what is needed."""
    with pytest.raises(ConfigurationError, match=problem):
        async with insights_lifespan(make)(FastAPI()):
            pass


async def test_given_a_list_of_calls_when_it_is_to_be_streamed_then_an_error_says_what_to_pass():
    """Given a list in the place of a stream, when the response is sent, then an error of the package names what is needed."""
    with pytest.raises(
        ConfigurationError, match=r"^calls must be a stream .*, got list\. Pass the stream itself"
    ):
        await NDJSONResponse([])({"type": "http", "method": "GET"}, None, None)


@pytest.mark.parametrize("position", ["inner", "outer"])
async def test_given_another_lifespan_when_combined_then_both_states_reach_the_endpoints(position):
    """Given an application's own lifespan, when it runs inside or outside, then both states exist and both are closed."""
    log, clients = [], []

    @contextlib.asynccontextmanager
    async def own_lifespan(app):
        log.append("start")
        yield {"database": "connected"}
        log.append("end")

    sandbox = Sandbox(calls=10)
    with sandbox.serve() as url:

        def make():
            return AsyncInsights("demo", "demo-key", base_url=url)

        @contextlib.asynccontextmanager
        async def outer_lifespan(app):
            async with own_lifespan(app) as state, insights_lifespan(make)(app) as insights_state:
                yield {**state, **insights_state}

        inner_lifespan = insights_lifespan(make, inner=own_lifespan)
        app = FastAPI(lifespan=inner_lifespan if position == "inner" else outer_lifespan)

        @app.get("/")
        async def states(request: Request, insights: InsightsDep) -> list[str]:
            clients.append(insights)
            return [request.state.database, str(len((await insights.page(START, END)).calls))]

        async with serve_fastapi(app, Site()) as site, site.connect() as client:
            assert (await client.get("/")).json() == ["connected", "10"]
    assert log == ["start", "end"]
    with pytest.raises(SessionError, match="closed"):
        await clients[0].page(START, END)
    assert sandbox.stats.connections == 0


async def test_given_a_background_task_when_the_response_is_complete_then_it_runs():
    """Given a response with a background task, when its last byte is sent, then the task runs."""
    results = []
    with Sandbox(calls=3).serve() as url:
        site = Site()
        app = make_fastapi_app(site, url)

        @app.get("/background")
        async def background(insights: InsightsDep) -> NDJSONResponse:
            return NDJSONResponse(insights.stream(START, END), background=BackgroundTask(results.append, 1))

        async with serve_fastapi(app, site), site.connect() as client:
            assert len(parse_lines((await client.get("/background")).text)) == 3
            await until(lambda: results)


async def test_given_a_base_http_middleware_when_a_stream_fails_then_the_last_line_has_the_error():
    """Given Starlette's middleware, which completes every response, when a stream fails, then the last line says so."""
    sandbox = Sandbox(calls=900, faults=Faults(fail_after=4))
    with sandbox.serve() as url:
        site = Site()
        app = make_fastapi_app(site, url)

        @app.middleware("http")
        async def pass_through(request, call_next):
            return await call_next(request)

        async with serve_fastapi(app, site), site.connect() as client:
            *calls, last = parse_lines((await client.get("/calls")).text)
    assert calls
    assert (last["error"], bool(last["position"])) == ("ServerError", True)
